"""Kernels of loop IR as pages of Triton: how they read, and what they do where Triton interprets them."""

import math

import numpy as np
import pytest

from fastpoly._fuse.ir import (
    BOOL,
    FLOAT,
    INDEX,
    Assign,
    Const,
    Do,
    If,
    Kernel,
    Load,
    Loop,
    Op,
    Reduce,
    Store,
    Var,
    View,
    operation,
)
from fastpoly._fuse.to_triton import to_triton
from fastpoly._fuse.verify import verify

ARGUMENTS = ("carry", "data", "scratch", "out", "stopped")
A, B, C = (Var(name, FLOAT) for name in "abc")


def n(value):
    """A number: an int is an index."""
    return Const(value, INDEX if type(value) is int else FLOAT)


def do(name, *args):
    return operation(name, *args)


def page(body, dtype="float64"):
    """The page of a kernel with these statements."""
    numbers = {name: Var(name, INDEX) for name in ("steps", "every", "wait")}
    kernel = Kernel(dtype, 8, (*ARGUMENTS, *numbers), numbers, body, warps=1)
    verify(kernel)
    assert str(kernel)
    return to_triton(kernel)


def lines(body, dtype="float64"):
    """Its statements."""
    return [line.strip() for line in page(body, dtype).partition('''    """\n''')[2].splitlines()]


def text(value, dtype="float64"):
    """A value as it is printed."""
    known = [Assign(var, Load("data", n(at), FLOAT)) for at, var in enumerate((A, B, C))]
    return lines([*known, Assign(Var("value", value.kind), value)], dtype)[-1].partition(" = ")[2]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (do("add", A, do("sub", B, C)), "a + (b - c)"),
        (do("sub", do("add", A, B), C), "a + b - c"),
        (do("mul", A, do("div", B, C)), "a * (b / c)"),
        (do("mul", A, do("neg", B)), "a * (b * -1.0)"),
        (do("and", do("lt", A, B), do("lt", B, C)), "(a < b) & (b < c)"),
        (do("not", do("lt", A, B)), "((a < b) == 0)"),
        (do("isfinite", A), '(tl.abs(a) < float("inf"))'),
        (do("floordiv", do("add", n(7), n(1)), n(2)), "(7 + 1) // 2"),
        (do("where", do("lt", A, B), B, C), "tl.where(a < b, b, c)"),
        (do("maximum", A, B), "maximum(a, b)"),
        (do("wide", n(0)), "tl.full([], 0, tl.int64)"),
    ],
)
def test_values(value, said):
    assert text(value) == said


@pytest.mark.parametrize(
    ("value", "in_double", "in_single"),
    [
        (do("add", A, n(0.3)), "a + 0.3", "a + 0.3"),
        (do("lt", A, n(0.3)), "a < tl.full([], 0.3, tl.float64)", "a < 0.3"),
        (do("lt", A, n(0.5)), "a < 0.5", "a < 0.5"),
        (do("lt", A, n(1e-40)), "a < tl.full([], 1e-40, tl.float64)", "a < tl.full([], 1e-40, tl.float32)"),
        (do("mul", n(0.1), n(0.2)), "tl.full([], 0.1, tl.float64) * tl.full([], 0.2, tl.float64)", "0.1 * 0.2"),
        (n(0.1), "tl.full([], 0.1, tl.float64)", "tl.full([], 0.1, tl.float32)"),
        (do("exp", n(0.3)), "exp(tl.full([], 0.3, tl.float64))", "exp(tl.full([], 0.3, tl.float32))"),
        (do("add", A, n(-math.inf)), 'a + float("-inf")', 'a + float("-inf")'),
    ],
)  # fmt: skip
def test_numbers_have_a_type_where_triton_would_choose_another(value, in_double, in_single):
    assert text(value) == in_double
    assert text(value, "float32") == in_single


def test_names_and_comments():
    of_a_caller = Var("steps", FLOAT)
    body = [Assign(of_a_caller, n(1.0), "add: a + b"), Do("barrier", note="why"), Store("out", n(0), of_a_caller)]
    assert [" ".join(line.split()) for line in lines(body)] == [
        "steps_1 = tl.full([], 1.0, tl.float64) # add: a + b",
        "tl.debug_barrier() # why",
        "tl.store(out + 0, steps_1)",
    ]


def run_of_blocks(source, data):
    """In the process of the fixture `interpreted`: `out` of a kernel with these data."""
    import torch

    from fastpoly._fuse.gpu_program import kernel_of

    out = torch.zeros(32, dtype=torch.float64)
    kernel_of(source)[(1,)](torch.zeros(4), torch.tensor(data), torch.zeros(4), out, torch.zeros(1), 2, 1, 0)
    return out.numpy()


def test_what_blocks_do(interpreted):
    """Masks, a place for each lane, sums of several kinds, sums of rows, parts of buffers, loops and conditions."""
    data = np.linspace(-1, 2, 32)
    i = Var("i", INDEX.of(8))
    there = do("lt", i, n(6))
    low, high = Var("low", FLOAT.of(8)), Var("high", FLOAT.of(8))
    total, largest, rows, turn = (
        Var("total", FLOAT),
        Var("largest", FLOAT),
        Var("rows", FLOAT.of(4)),
        Var("turn", INDEX),
    )
    four = Op("numbers", (), INDEX.of(4))
    squares = Var("squares", FLOAT)
    body = [
        Assign(i, Op("numbers", (), INDEX.of(8))),
        View("own", "data", n(8)),
        Assign(low, Load("data", do("mul", n(2), i), FLOAT.of(8), there)),
        Assign(high, Load("own", i, FLOAT.of(8), there, -math.inf)),
        Reduce((total, largest), ("add", "maximum"), (low, high), ("", "")),
        Store("out", n(0), total),
        Store("out", n(1), largest),
        Store("out", do("add", n(2), i), Op("masked", (do("lt", i, n(3)), low), FLOAT.of(8)), mask=there),
        Reduce((rows,), ("add",), (Load("own", i, FLOAT.of(8)),), ("",), 4),
        Store("out", do("add", n(10), four), rows),
        Assign(squares, n(0.0)),
        Loop(turn, n(0), n(6), 2, [Assign(squares, do("add", squares, do("position", turn)))]),
        If(do("lt", turn_of(squares), n(7)), [Store("out", n(14), squares)]),
        If(do("lt", turn_of(squares), n(6)), [Store("out", n(15), squares)]),
        Store("out", do("add", n(16), four), Op("splat", (do("neg", n(0.0)),), FLOAT.of(4))),
    ]
    want = np.zeros(32)
    want[0], want[1] = data[:12:2].sum(), data[8:14].max()
    want[2:5] = data[:6:2]
    want[10:14] = data[8:16].reshape(4, 2).sum(1)
    want[14] = 6
    got = interpreted(run_of_blocks, page(body), data)
    assert got == pytest.approx(want, abs=1e-15)
    assert np.signbit(got[16:20]).all()
    assert BOOL.of(8) == there.kind


def turn_of(value):
    """A float as an index."""
    return do("integer", value)
