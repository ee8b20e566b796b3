"""Whole numbers and truth values that change from step to step: as eager torch has them, or refused by name."""

import operator

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend

FEW = [torch.uint8, torch.int64]
ALL = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
DTYPES = pytest.mark.parametrize(
    "dtypes", [pytest.param(FEW, id="few"), pytest.param(ALL, id="all", marks=pytest.mark.slow)]
)
X = torch.linspace(-1, 1, 23, dtype=torch.float64)

OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": lambda a, b: a ** abs(b) if isinstance(b, int) else a**b,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "lt": operator.lt,
    "eq": operator.eq,
    "maximum": lambda a, b: torch.maximum(a, b) if isinstance(b, torch.Tensor) else a.clamp(min=b),
    "fmod": torch.fmod,
    "trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
}
UNARY = {
    "neg": operator.neg,
    "invert": operator.invert,
    "abs": torch.abs,
    "sign": torch.sign,
    "square": torch.square,
    "sum": torch.sum,
    "cumsum": lambda a: torch.cumsum(a, 0),
    "prod": torch.prod,
    "amax": torch.amax,
    "logical_not": torch.logical_not,
    "int8": lambda a: a.to(torch.int8),
    "double": lambda a: a.double(),
    "any": torch.any,
    "all": torch.all,
    "mean": lambda a: a.double().mean(),
}


def agree(function, dtype=torch.float64):
    """Are the losses of a `function` of two masks that change the same? False: it is refused, or eager torch raises."""
    x = X.to(dtype)

    def loss(p, x):
        return (function(x * p > 0, x * p > 0.4).to(dtype) * p * x + p * x**2).sum()

    options = dict(learn_rate=1e-3, steps=3)
    start = torch.tensor(1.0, dtype=dtype)
    try:
        eager = descend(loss, start, x, backend="eager", **options).loss
    except RuntimeError:
        with pytest.raises(RuntimeError):
            descend(loss, start, x, backend="fused", **options)
        return False
    try:
        fused = descend(loss, start, x, backend="fused", **options).loss
    except UnsupportedOperationError:
        return False
    assert fused.tolist() == pytest.approx(eager.tolist(), rel={torch.float64: 1e-12, torch.float32: 1e-5}[dtype])
    return True


@DTYPES
@pytest.mark.parametrize("name", OPERATORS)
def test_of_two(name, dtypes):
    """All dtypes, a number and a tensor on the right, in one function for each pair: compiling is what takes time."""
    apply = OPERATORS[name]
    pairs = {}
    for dtype in dtypes:
        pairs[f"{dtype} and numbers"] = lambda m, k, d=dtype: sum(
            apply(m.to(d) * 3 + k.to(d), number).double() * weight for weight, number in enumerate((1, 2, 3), 1)
        )
        pairs[f"{dtype} and tensors"] = lambda m, k, d=dtype: apply(m.to(d) * 5 + 2, k.to(d) + 1).double()
    pairs["masks"] = lambda m, k: apply(m, k).double()
    pairs["masks and numbers"] = lambda m, k: apply(m, 2).double()
    fused = [case for case, function in pairs.items() if agree(function)]
    if name in ("add", "mul", "lt", "eq", "maximum"):
        assert len(fused) >= 2 * len(dtypes) + 1, fused


@DTYPES
@pytest.mark.parametrize("name", UNARY)
def test_of_one(name, dtypes):
    for dtype in (torch.bool, *dtypes):
        agree(lambda m, k, d=dtype: UNARY[name](m.to(d) if d == torch.bool else m.to(d) * 3 + k.to(d)).double())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda m, k: m + k, id="true and true"),
        pytest.param(lambda m, k: m.byte() - 1, id="below 0"),
        pytest.param(lambda m, k: -m.byte(), id="minus"),
        pytest.param(lambda m, k: m.byte() * 200 + 100, id="beyond 255"),
        pytest.param(lambda m, k: m.int() * 2147483647 + m.int(), id="beyond 32 bits"),
        pytest.param(lambda m, k: m.long() * 2**53 + k, id="beyond float64"),
        pytest.param(lambda m, k: (3 * m.long()) & 2, id="bits"),
        pytest.param(lambda m, k: torch.where(m, torch.arange(2**24, 2**24 + 23), 0) % 2, id="large"),
        pytest.param(lambda m, k: (m.int() * 7 - 10) // 3, id="floor of a negative"),
        pytest.param(lambda m, k: (m.int() * 7 - 10) % -3, id="rest of a negative"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_where_floats_would_be_wrong(function, dtype):
    agree(function, dtype)


def test_whole_numbers_in_float32_are_exact_or_refused():
    data = torch.tensor([2**24 + 1, 2**24 + 2])
    with pytest.raises(UnsupportedOperationError, match="not exact in float32"):
        descend(
            lambda p, i: (torch.where(p > 0, i, i + 1) % 2 * p).sum(),
            torch.tensor(1.0),
            data,
            learn_rate=0.1,
            steps=5,
            backend="fused",
        )


def test_places_that_float32_cannot_tell_apart_are_refused():
    places = torch.tensor([2**24 + 1, 2**24 + 3])
    with pytest.raises(UnsupportedOperationError, match="places beyond"):
        descend(
            lambda w, i: ((w[i] - 1) ** 2).sum(),
            torch.zeros(2**24 + 8),
            places,
            learn_rate=0.25,
            steps=1,
            backend="fused",
        )


FLOATS = {
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_remainders_of_floats(name, dtype):
    """Where a quotient is a whole number, or rounded to one, and where it is large; 1.0 // 0.1 is 9."""
    a = torch.tensor([1.0, 0.3, 7.5, -7.5, 3.0, -3.0, 6.0, 49.0, 1e9, 0.0, 5.4, 1e16], dtype=dtype)
    b = torch.tensor([0.1, 0.1, -2.0, 2.0, 3.0, 3.0, 0.3, 49.0, 0.7, 2.0, 1.8, 3.0], dtype=dtype)
    numbers = [0.1, 3.0, -0.7, 49.0]

    def loss(p, a, b):
        of_numbers = sum((FLOATS[name](a * p, number) * (k + 1)).sum() for k, number in enumerate(numbers))
        return (FLOATS[name](a * p, b) ** 2).sum() + of_numbers + p**2

    runs = [
        descend(loss, torch.ones((), dtype=dtype), (a, b), learn_rate=1e-30, steps=1, backend=backend).loss.item()
        for backend in ("eager", "fused")
    ]
    assert runs[1] == pytest.approx(runs[0], rel={torch.float64: 1e-13, torch.float32: 1e-5}[dtype])
