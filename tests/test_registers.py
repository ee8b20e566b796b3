"""How samples fill registers: one, two or four at a time, the rest before or after, columns that are no factors."""

import pytest
import torch
import zoo

from fastpoly import descend
from fastpoly._fuse import program, traced
from fastpoly._fuse.registers import registers_at_a_time

ROUNDINGS = 1e-12


@pytest.fixture
def at_a_time(monkeypatch):
    """at_a_time(count): take so many registers, whatever would be chosen."""
    monkeypatch.setattr(traced, "_known", type(traced._known)())  # they are not in the key

    def take(count):
        monkeypatch.setattr(program, "registers_at_a_time", lambda schedule: count)

    return take


def reductions(w, x):
    """Each kind that a loop over the samples has, of few operations."""
    value = w[0] + w[1] * x
    return (value**2).mean() + value.amax() - value.amin() + (1 + 0.01 * value).prod()


def elementwise(w, x):
    """Something that is kept for every sample, in a long loop of its own."""
    hidden = torch.tanh(x[:, None] * w[:2] + w[2:])
    return (hidden - hidden.mean(0)).square().sum()


def in_both_directions(w, x):
    """Sums that begin with each row of features, and one over all of them that does not."""
    of_features = x[:, None] ** torch.linspace(0.1, 2, 20, dtype=torch.float64) * w
    return (of_features - of_features.mean(1, keepdim=True)).square().sum() / x.numel()


@pytest.mark.parametrize("n", [5, 17, 40, 67, 100])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_samples_fills_any_number_of_registers(count, n, at_a_time):
    at_a_time(count)
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    for loss, params, data in (
        (reductions, [0.3, -0.7], x),
        (elementwise, [0.3, -0.7, 0.2, 0.5], x),
        (in_both_directions, [0.1] * 10 + [-0.3] * 10, x.abs() + 0.1),
    ):
        start = torch.tensor(params, dtype=torch.float64)
        options = {"learn_rate": 1e-3, "steps": 5}
        run, plain = (descend(loss, start, data, backend=backend, **options) for backend in ("fused", "eager"))
        assert run.params == pytest.approx(plain.params, rel=ROUNDINGS)
        assert run.loss == pytest.approx(plain.loss, rel=ROUNDINGS)


class Chosen(Exception):
    """So many registers."""


@pytest.mark.parametrize(
    ("name", "n", "expected"),
    [
        ("polynomial", 100, (1, 2)),  # short turns
        ("huber", 100, (1, 1)),
        ("exponential-decay", 1000, (1, 4)),
        ("exponential-decay", 100, (1, 1)),  # few: LLVM writes out the loop
        ("softmax", 1000, (2, 4)),  # long turns
        ("multi-output", 1000, (1, 1)),  # many sums
        ("linear-64", 1000, (1, 1)),  # loads
        ("softmax", 20, (2, 2)),  # of eight lanes, one of four registers would be empty
    ],
)
def test_what_decides_how_many(name, n, expected, monkeypatch):
    monkeypatch.setattr(traced, "_known", type(traced._known)())

    def tell(schedule):
        raise Chosen(registers_at_a_time(schedule))  # a kernel for other registers than the machine's means nothing

    monkeypatch.setattr(program, "registers_at_a_time", tell)
    model = zoo.model(name, torch.float64, n)
    for bits, count in zip((256, 512), expected, strict=True):
        monkeypatch.setattr(program, "register_bits", lambda bits=bits: bits)
        with pytest.raises(Chosen, match=f"^{count}$"):
            descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=1, backend="fused")


def linear(w, x, y):
    return ((x @ w - y) ** 2).mean()


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_column_of_ones_is_no_factor(column):
    """Nor does its kernel serve other data of that shape."""
    draw = zoo.draws(3, torch.float64)
    x, y, w = draw(50, 3), draw(50), draw(3)
    with_ones = x.clone()
    with_ones[:, column] = 1
    runs = []
    for data in (with_ones, x, with_ones.T.contiguous().T):
        run, plain = (
            descend(linear, w, (data, y), learn_rate=0.1, steps=20, backend=backend) for backend in ("fused", "eager")
        )
        assert run.params == pytest.approx(plain.params, rel=ROUNDINGS)
        runs.append(run)
    products = [run.source.split("for i in range(")[1].split(" = total(")[0].count("* w_") for run in runs]
    assert products == [2, 3, 2]
