"""The loop IR: what a kernel means, what does not hold together, and what LLVM makes of it."""

import ctypes
import itertools
import math
import re
import struct

import numpy as np
import pytest

from fastpoly._fuse import machine
from fastpoly._fuse.ir import (
    BOOL,
    FLOAT,
    INDEX,
    Assign,
    Break,
    Const,
    If,
    Kernel,
    KindError,
    Load,
    Loop,
    Op,
    Reduce,
    Store,
    Var,
    View,
    operation,
)
from fastpoly._fuse.llvm_pieces import number
from fastpoly._fuse.to_llvm import to_llvm
from fastpoly._fuse.verify import verify
from fastpoly_kernels import machine_code

LANES = 4
NAMES = (f"k{i}" for i in range(10**6))
KEPT = []
BUFFERS = ("carry", "data", "scratch", "out")
STEPS, WAIT, AXIS, STEP = (Var(name, INDEX) for name in ("steps", "wait", "i", "step"))


def n(value):
    """A number: an int is an index."""
    return Const(value, INDEX if type(value) is int else FLOAT)


def at(buffer, place, lanes=0):
    return Load(buffer, n(place), FLOAT.of(lanes))


def do(name, *args):
    return operation(name, *args)


def run(body, dtype="float64", steps=0, result=STEPS, **arrays):
    """(what a kernel returns, its arrays), by LLVM."""
    numbers = {"steps": STEPS, "every": Var("every", INDEX), "wait": WAIT}
    kernel = Kernel(dtype, LANES, (*BUFFERS, *numbers), numbers, body, result)
    verify(kernel)
    symbol = f"of_a_test_{next(NAMES)}"
    module, level = machine.optimised(to_llvm(kernel, symbol))
    module.verify()
    KEPT.append(machine_code.Linked(symbol, machine_code.target(level).emit_object(module)))
    function = KEPT[-1].function(ctypes.c_int64, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 3)
    room = {name: np.ascontiguousarray(arrays.get(name, np.zeros(64)), dtype) for name in BUFFERS}
    return function(*(array.ctypes.data for array in room.values()), steps, 1, 0), room


# -- what a kernel means

A, B, C = (at("data", place) for place in range(3))
FOUR = at("data", 0, LANES)
ONES, A4 = (Op("splat", (value,), FOUR.kind) for value in (n(1.0), A))
TOTALS = (lambda a, b, c: a + b + c + 2, lambda a, b, c: 4, lambda a, b, c: 4 * a, lambda a, b, c: a + b + c + 2)
TWO = Op("first_lanes", (n(2),), BOOL.of(LANES))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (do("sub", do("add", A, do("mul", B, n(2.0))), do("div", C, n(4.0))), lambda a, b, c: a + b * 2 - c / 4),
        (do("neg", A), lambda a, b, c: -a),
        (do("where", do("lt", A, B), C, n(-1.0)), lambda a, b, c: c if a < b else -1),
        (
            do("where", do("and", do("lt", A, B), do("ne", B, C)), n(1.0), n(2.0)),
            lambda a, b, c: 1 if a < b != c else 2,
        ),
        (
            do("where", do("or", do("not", do("ge", A, B)), do("eq", A, n(0.0))), n(1.0), n(2.0)),
            lambda a, b, c: 1 if a < b or a == 0 else 2,
        ),
        (do("add", do("maximum", A, B), do("minimum", B, C)), lambda a, b, c: max(a, b) + min(b, c)),
        (do("add", do("absolute", A), do("floor", B)), lambda a, b, c: abs(a) + math.floor(b)),
        (do("add", do("ceil", C), do("trunc", A)), lambda a, b, c: math.ceil(c) + math.trunc(a)),
        (do("nearest", B), lambda a, b, c: round(b)),
        (Load("data", do("integer", at("data", 3)), FLOAT), lambda a, b, c: c),
        (do("position", do("sub", do("add", STEPS, do("mul", n(2), n(3))), n(1))), lambda a, b, c: 12),
        (do("position", do("mod", do("floordiv", do("mul", STEPS, n(5)), n(4)), n(5))), lambda a, b, c: 3),
        (do("position", do("add", do("min", STEPS, n(3)), do("and", STEPS, n(5)))), lambda a, b, c: 3 + 5),
        (do("total", Op("positions", (STEPS, n(-3)), FOUR.kind)), lambda a, b, c: 7 + 4 + 1 - 2),
        (n(math.inf), lambda a, b, c: math.inf),
        (do("add", do("exp", A), do("log1p", B)), lambda a, b, c: math.exp(a) + math.log1p(b)),
        (do("pow", B, C), lambda a, b, c: b**c),
        (do("total", FOUR), lambda a, b, c: a + b + c + 2),
        (do("product", FOUR), lambda a, b, c: a * b * c * 2),
        (do("sub", do("largest", FOUR), do("smallest", FOUR)), lambda a, b, c: max(a, b, c, 2) - min(a, b, c, 2)),
        (do("total", Op("masked", (TWO, FOUR), FOUR.kind)), lambda a, b, c: a + b),
        (do("total", do("where", TWO, FOUR, do("mul", n(2.0), FOUR))), lambda a, b, c: a + b + 2 * (c + 2)),
        (
            do("total", do("add", do("mul", Op("splat", (B,), FOUR.kind), FOUR), n(1.0))),
            lambda a, b, c: b * (a + b + c + 2) + 4,
        ),
        *[
            (Op("lane", (Op("totals", (FOUR, ONES, A4, FOUR)[:count], FLOAT.of(count)), n(lane)), FLOAT), value)
            for count in (1, 2, 3, 4)
            for lane, value in enumerate(TOTALS[:count])
        ],
        (do("total", Op("widened", (at("data", 0, 2),), FOUR.kind)), lambda a, b, c: a + b),
        (do("total", do("tanh", FOUR)), lambda a, b, c: sum(map(math.tanh, (a, b, c, 2)))),
    ],
    ids=lambda value: None if callable(value) else str(value)[:40],
)
def test_an_expression(expression, value, dtype):
    a, b, c = -1.25, 0.5, 1.75
    given = np.array([a, b, c, 2.0, *[0.0] * 12])
    steps, arrays = run([Store("out", n(0), expression)], dtype, steps=7, data=given)
    assert steps == 7
    assert arrays["out"][0] == pytest.approx(value(a, b, c), rel=1e-6 if dtype == "float32" else 1e-14)


def test_loops_carry_what_they_assign():
    a, b, count, rows, j = Var("a", FLOAT), Var("b", FLOAT), Var("count", FLOAT), Var("rows", INDEX), Var("j", INDEX)
    step = [
        Loop(AXIS, n(0), n(10), 3, [Assign(count, do("add", count, n(1.0))), Store("scratch", AXIS, a)]),
        Loop(j, n(3), n(-1), -1, [Assign(b, do("add", b, do("position", j)))]),
        If(do("gt", a, n(20.0)), [Break()]),
        If(do("eq", rows, n(2)), [Store("out", n(1), a), Assign(rows, do("add", rows, n(10)))]),
        Assign(rows, do("add", rows, n(1))),
        Assign(a, do("mul", a, n(2.0))),
        Assign(b, do("add", b, a)),
    ]
    body = [Assign(a, at("carry", 0)), Assign(b, n(0.0)), Assign(count, n(0.0)), Assign(rows, n(0))]
    body += [Loop(STEP, n(0), STEPS, 1, step)]
    body += [Store("carry", n(0), a), Store("out", n(0), count), Store("out", n(2), b)]
    found, arrays = run(body, steps=100, result=rows, carry=np.array([1.0]))
    a, b, count, r, out1 = 1.0, 0.0, 0, 0, 0.0
    for _ in range(100):
        count += 4
        b += 6
        if a > 20:
            break
        if r == 2:
            out1 = a
            r += 10
        r += 1
        a *= 2
        b += a
    assert found == r
    assert arrays["carry"][0] == a
    assert arrays["out"][:3].tolist() == [count, out1, b]


def test_what_is_the_same_in_all_turns_and_short_loops():
    """They are computed before a loop, and written turn by turn: with the same result, in loops in loops, too."""
    j, total, held = Var("j", INDEX), Var("total", FLOAT), Var("held", FLOAT)
    for count in (1, 2, 3, 40):
        inner = [Assign(total, do("add", total, do("mul", do("mul", A, B), Load("carry", j, FLOAT))))]
        step = [
            Assign(held, do("mul", A, B)),
            Loop(j, n(0), n(count), 1, [*inner, Store("scratch", j, do("add", do("mul", A, B), total))]),
            Loop(AXIS, n(0), STEPS, 1, [Loop(j, n(0), n(2), 1, inner), Assign(total, do("add", total, C))]),
            Store("carry", n(1), total),
        ]
        body = [Assign(total, n(0.0)), Loop(STEP, n(0), STEPS, 1, step), Store("out", n(0), total)]
        data, carry = [0.5, 3.0, -0.25], [1.0] * 64
        _, arrays = run(body, steps=3, data=np.array(data + [0.0] * 5), carry=np.array(carry))
        a, b, c = data
        expected = 0.0
        for _ in range(3):
            for k in range(count):
                expected += a * b * carry[k]
                last = a * b + expected
            for _ in range(3):
                expected += a * b * carry[0] + a * b * carry[1] + c
            carry[1] = expected
        assert arrays["out"][0] == expected
        assert arrays["scratch"][count - 1] == last


def test_what_a_condition_guards_is_not_read():
    """Not even where it is the same in all turns."""
    far = Load("data", n(10**12), FLOAT)
    step = [
        If(do("gt", STEPS, n(5)), [Loop(AXIS, n(0), STEPS, 1, [Store("out", AXIS, far)])]),
        If(do("le", STEPS, n(5)), [Store("out", n(0), do("add", A, n(1.0)))]),
        Store("out", n(1), do("add", A, n(1.0))),
    ]
    _, arrays = run([Loop(STEP, n(0), STEPS, 1, step)], steps=3, data=np.full(8, 2.0))
    assert arrays["out"][:3].tolist() == [3.0, 3.0, 0.0]


def test_one_turn_that_is_left_early():
    turn = [If(do("gt", STEPS, n(2)), [Break()]), Store("out", n(0), n(1.0))]
    body = [Loop(STEP, n(0), STEPS, 1, [Loop(AXIS, n(0), n(1), 1, turn), Store("out", n(1), n(2.0))])]
    assert run(body, steps=3)[1]["out"][:2].tolist() == [0.0, 2.0]
    assert run(body, steps=2)[1]["out"][:2].tolist() == [1.0, 2.0]


def test_names_are_no_identities():
    """Variables of one name, and those that are called as arguments and labels are, meet in no text of LLVM's."""
    variables = [Var(name, FLOAT) for name in ("v", "v", "head1", "data", "μ")]
    body = [Assign(var, n(float(k))) for k, var in enumerate(variables, 2)]
    body += [
        Loop(STEP, n(0), STEPS, 1, [
            Assign(one, do("add", one, other)) for one, other in itertools.pairwise(variables)
        ])
    ]  # fmt: skip
    body += [Store("out", n(k), var) for k, var in enumerate(variables)]
    _, arrays = run(body, steps=3)
    values = [2.0, 3.0, 4.0, 5.0, 6.0]
    for _ in range(3):
        for k in range(4):
            values[k] += values[k + 1]
    assert arrays["out"][:5].tolist() == values


def test_a_value_that_is_not_finite_ends_a_loop():
    a, count = Var("a", FLOAT), Var("count", INDEX)
    step = [
        If(do("not", do("isfinite", a)), [Break()]),
        Assign(a, do("mul", a, a)),
        Assign(count, do("add", count, n(1))),
    ]
    body = [Assign(a, at("carry", 0)), Assign(count, n(0)), Loop(STEP, n(0), STEPS, 1, step)]
    for start, steps in ((10.0, 9), (math.nan, 0), (0.5, 50)):  # 10**(2**9) is infinite
        assert run(body, steps=50, result=count, carry=np.array([start]))[0] == steps


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-310, 1e39, math.pi, math.inf, -math.inf, math.nan])
def test_numbers_are_theirs_to_the_bit(value):
    (bits,) = struct.unpack("d", struct.pack("Q", int(number(value, "float64"), 16)))
    assert bits == value or math.isnan(value)
    (single,) = struct.unpack("d", struct.pack("Q", int(number(value, "float32"), 16)))
    with np.errstate(over="ignore"):
        assert single == np.float32(value) or math.isnan(value)


def test_operands_go_together():
    assert operation("add", Const(1, INDEX), Const(2, INDEX)).kind == INDEX
    assert operation("mul", Var("a", FLOAT.of(4)), Const(2.0, FLOAT)).kind == FLOAT.of(4)
    assert operation("lt", Var("a", FLOAT.of(4)), Const(2.0, FLOAT)).kind == BOOL.of(4)
    for name, *args in (
        ("add", Const(1, INDEX), Const(2.0, FLOAT)),
        ("add", Var("a", FLOAT.of(4)), Var("b", FLOAT.of(8))),
        ("div", Const(1, INDEX), Const(2, INDEX)),
        ("not", Const(1.0, FLOAT)),
        ("where", Const(1.0, FLOAT), Const(1.0, FLOAT), Const(1.0, FLOAT)),
        ("total", Const(1.0, FLOAT)),
        ("floordiv", Const(1.0, FLOAT), Const(1.0, FLOAT)),
    ):
        with pytest.raises(KindError, match=f"^{name} of "):
            operation(name, *args)


# -- what does not hold together

X, Y = Var("x", FLOAT), Var("y", FLOAT)
ONE, ZERO, TEN = n(1.0), n(0), n(10)
BLOCK, PLACES = Var("block", FLOAT.of(4)), Op("numbers", (), INDEX.of(4))
SPLAT = Op("splat", (ONE,), FLOAT.of(4))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ([Assign(X, Y)], "y has no value, in: x: float = y"),
        ([Assign(X, ZERO)], "x is float and becomes index"),
        ([Loop(AXIS, ZERO, TEN, 1, [Assign(X, ONE)]), Assign(Y, X)], "x has no value"),
        ([If(Const(True, BOOL), [Assign(X, ONE)]), Assign(Y, X)], "x has no value"),
        ([Loop(AXIS, ZERO, TEN, 1, [Assign(AXIS, ZERO)])], "the axis i is assigned"),
        ([Loop(AXIS, ONE, TEN, 1, [])], "a bound is no index"),
        ([Loop(AXIS, ZERO, TEN, 0, [])], "a loop does not move"),
        ([Break()], "break outside of a loop"),
        ([Store("data", ZERO, ONE)], "what never changes is stored to"),
        ([Store("nowhere", ZERO, ONE)], "no buffer nowhere"),
        ([Store("out", ONE, ONE)], "a place is no index"),
        ([If(ONE, [])], "float decides"),
        ([Assign(BLOCK, Op("totals", (SPLAT, SPLAT), BLOCK.kind))], "2 sums in floatx4"),
        ([Assign(BLOCK, Op("totals", (ONE,) * 4, BLOCK.kind))], "the lanes of float are summed"),
        ([Assign(X, Const(1, FLOAT))], "1 as float"),
        ([Assign(X, Op("add", (ONE, ZERO), FLOAT))], "numbers of two kinds"),
        ([Assign(X, Op("add", (ONE, ONE), INDEX))], "add of float, float as index"),
        ([Assign(BLOCK, Load("data", PLACES, FLOAT.of(8)))], "4 places for 8 lanes"),
        ([Assign(BLOCK, Load("data", PLACES, BLOCK.kind, Const(True, BOOL)))], "bool is a mask of 4 lanes"),
        ([Store("out", PLACES, ONE, mask=operation("lt", ZERO, ZERO))], "bool is a mask of 4 lanes"),
        ([Store("out", ZERO, ZERO)], "index is stored"),
        ([Reduce((X,), ("add",), (ONE,), ("",))], "blocks of different lengths"),
        ([Reduce((X,), ("add",), (SPLAT,), ("",), 2)], "x is float and becomes a sum"),
        ([Reduce((BLOCK,), ("add",), (SPLAT,), ("",), 3)], "floatx4 and becomes a sum"),
        ([View("own", "nowhere", ZERO)], "no buffer nowhere"),
        ([View("own", "data", PLACES)], "4 places for 0 lanes"),
        ([Store("own", ZERO, ONE), View("own", "out", ZERO)], "no buffer own"),
    ],
)
def test_what_does_not_hold_together_is_found(body, what):
    kernel = Kernel("float64", 4, ("carry", "data", "out"), {}, body, ZERO)
    with pytest.raises(AssertionError, match=re.escape(what)):
        verify(kernel)
    str(kernel)
