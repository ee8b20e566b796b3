"""The page of Python that is shown is what runs: in plain Python it gives what machine code gives."""

import pickle
import re

import interpreted_cpu
import pytest
import torch
import zoo
from torch.utils import _pytree as tree

from fastpoly import descend
from fastpoly._fuse import traced
from fastpoly._fuse.ir import BOOL, FLOAT, INDEX, Assign, Const, If, Kernel, Load, Loop, Op, Store, Var
from fastpoly._fuse.to_python import to_python

ROUNDINGS = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Machine code contracts a product and a sum into one rounding, Python does not."""

SEVERAL = ("polynomial", "damped-sine", "rational", "softmax", "huber", "multi-output", "linear-64", "tanh-network")


def run(model, **options):
    return descend(
        model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=5, backend="fused", **options
    )


@pytest.mark.parametrize("dtype", ROUNDINGS, ids=["double", "single"])
@pytest.mark.parametrize("n", [100, 37])
@pytest.mark.parametrize("name", SEVERAL)
def test_plain_python_takes_the_same_steps(name, n, dtype, monkeypatch):
    model = zoo.model(name, dtype, n)
    machine = run(model)
    interpreted_cpu.install(monkeypatch)
    python = run(model)
    assert python.loss.numpy() == pytest.approx(machine.loss.numpy(), rel=ROUNDINGS[dtype])
    for ours, theirs in zip(tree.tree_leaves(python.params), tree.tree_leaves(machine.params), strict=True):
        assert ours.numpy() == pytest.approx(theirs.numpy(), rel=ROUNDINGS[dtype], abs=ROUNDINGS[dtype])


def test_the_page_is_printed_when_it_is_read(monkeypatch):
    printed = []
    monkeypatch.setattr(traced, "_known", type(traced._known)())
    monkeypatch.setattr(traced, "to_python", lambda kernel: (printed.append(kernel), to_python(kernel))[1])
    result = run(zoo.model("polynomial", torch.float64))
    assert not printed
    assert result.source is result.source
    assert len(printed) == 1
    again = pickle.loads(pickle.dumps(result))
    assert again.source == result.source
    assert torch.equal(again.loss, result.loss)


def test_the_page_of_the_post():
    """Each statement with its line; sums by name; nothing in brackets that needs none."""
    source = run(zoo.model("polynomial", torch.float64)).source
    lines = [line.partition("  # ")[0].strip() for line in source.splitlines()]
    assert any(re.fullmatch(r"mean = mean \+ (\w+) \* \1", line) for line in lines)
    assert "mean = total(mean)" in lines
    assert "w_1_0 = w_1_0 + mul * mm_1" in lines
    assert any(line.endswith("# mean: return ((y - y_model) ** 2).mean()") for line in source.splitlines())


# -- kernels of some lines

STEPS, I = Var("steps", INDEX), Var("i", INDEX)  # noqa: E741
A, B = Var("a", FLOAT), Var("b", FLOAT)


def n(value):
    return Const(value, INDEX if type(value) is int else FLOAT)


def op(name, *args, kind=FLOAT):
    return Op(name, args, kind)


def page(*body, dtype="float64"):
    """The statements of a kernel as Python."""
    kernel = Kernel(dtype, 4, ("carry", "data", "scratch", "out", "steps"), {"steps": STEPS}, [*body], STEPS)
    return [line[4:] for line in to_python(kernel).partition('    """\n')[2].splitlines()][:-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (op("sub", op("sub", A, B), n(2.0)), "a - b - 2.0"),
        (op("sub", A, op("sub", B, n(2.0))), "a - (b - 2.0)"),
        (op("add", A, op("mul", B, n(2.0))), "a + b * 2.0"),
        (op("mul", op("add", A, B), op("add", A, B)), "(a + b) * (a + b)"),
        (op("div", A, op("mul", A, B)), "a / (a * b)"),
        (op("neg", op("add", A, B)), "-(a + b)"),
        (op("mul", op("neg", A), B), "(-a) * b"),
        (op("sub", op("neg", A), op("neg", B)), "-a - (-b)"),
        (op("where", op("lt", A, B, kind=BOOL), A, B), "where(a < b, a, b)"),
        (
            op("where", op("and", op("lt", A, B, kind=BOOL), op("ne", A, B, kind=BOOL), kind=BOOL), A, B),
            "where((a < b) & (a != b), a, b)",
        ),
        (op("position", op("mul", n(3), op("floordiv", I, n(2), kind=INDEX), kind=INDEX)), "float64(3 * (i // 2))"),
        (
            op("total", op("positions", op("add", I, n(8), kind=INDEX), n(-3), kind=FLOAT.of(4))),
            "total(float64(positions(i + 8, -3, 4)))",
        ),
        (n(-0.5), "-0.5"),
        (n(float("-inf")), "-math.inf"),
        (Load("data", op("add", I, n(8), kind=INDEX), FLOAT), "data[i + 8]"),
        (op("total", Load("data", I, FLOAT.of(4))), "total(load(data, i, 4))"),
        (op("total", Load("data", I, FLOAT.of(2))), "total(load(data, i, 2))"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_expression(value, text):
    assert page(Assign(A, n(0.0)), Assign(B, n(0.0)), Assign(I, n(0)), Assign(A, value))[-1] == f"a = {text}"


def test_numbers_that_stand_alone_are_of_the_dtype():
    in_register = op("mul", n(2.0), Load("data", I, FLOAT.of(4)), kind=FLOAT.of(4))
    lines = page(Assign(A, op("mul", n(2.0), A)), Store("out", I, in_register), dtype="float32")
    assert lines == ["a = float32(2.0) * a", "store(out, i, 2.0 * load(data, i, 4))"]
    register = Assign(Var("b", FLOAT.of(4)), op("splat", n(0.0), kind=FLOAT.of(4)))
    assert page(register, dtype="float32") == ["b = splat(float32(0.0), 4)"]


def test_two_variables_are_never_called_the_same():
    """Nor is one called as an array, a function, a word of Python's, or an index; only its own register may be."""
    names = ["a", "a", "a_1", "i", "data", "exp", "lambda", "0.weight", "µ", "μ"]
    variables = [Var(name, FLOAT) for name in names]
    total = variables[0]
    register = Var("a", FLOAT.of(4), total)
    body = [Assign(register, op("splat", n(0.0), kind=FLOAT.of(4))), Assign(total, op("total", register))]
    body += [Assign(var, n(1.0)) for var in variables[1:]]
    lines = page(*body, Loop(I, n(0), n(3), 1, [Store("out", I, var) for var in variables]))
    assert lines[:2] == ["a = splat(0.0, 4)", "a = total(a)"]
    called = [line.split(" = ")[0] for line in lines[1 : len(names) + 1]]
    assert called == ["a", "a_1", "a_1_1", "i_1", "data_1", "exp_1", "lambda_1", "value_0_weight", "μ", "μ_1"]
    assert lines[len(names) + 1] == "for i in range(3):"


def test_statements():
    count = Var("count", INDEX)
    body = [
        Assign(count, n(0), "of turns"),
        Loop(I, n(6), n(-2), -2, [Assign(count, op("add", count, n(1), kind=INDEX))]),
        If(op("eq", count, n(4), kind=BOOL), [Assign(count, op("sub", count, n(2), kind=INDEX))]),
    ]
    commented = f"{'    count = 0':60}  # of turns"
    assert page(*body) == [
        commented[4:],
        "for i in range(6, -2, -2):",
        "    count += 1",
        "if count == 4:",
        "    count -= 2",
    ]
