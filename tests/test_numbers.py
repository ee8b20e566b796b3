"""A number of Python's in a loss: its second value, and every further one, costs no kernel of its own."""

import math
from weakref import WeakKeyDictionary

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend
from fastpoly._fuse import machine, traced

X = torch.linspace(-1, 1, 101, dtype=torch.float64)

SWEEPS = {
    "a factor": lambda k: lambda p, x: ((p * x - x.sin()) ** 2).mean() + (0.1 + 0.013 * k) * p**2,
    "a term on the left": lambda k: lambda p, x: ((1.1 + 0.1 * k) - (2.3 + 0.1 * k) / (p * x + 3)).square().mean(),
    "an exponent": lambda k: lambda p, x: ((p * x - x.sin()).abs() ** (1.3 + 0.01 * k)).mean(),
    "a base": lambda k: lambda p, x: ((1.1 + 0.1 * k) ** (p * x) - x).square().mean(),
    "bounds": lambda k: lambda p, x: (p * x - x.sin()).clamp(-0.2 - 0.01 * k, 0.2 + 0.01 * k).square().mean(),
    "a comparison and a choice": lambda k: (
        lambda p, x: torch.where(x * p > 0.1 + 0.01 * k, p * x, 0.3 + 0.01 * k).square().mean()
    ),
    "a slope": lambda k: lambda p, x: torch.nn.functional.leaky_relu(p * x - x.sin(), 0.1 + 0.01 * k).square().mean(),
    "a tensor that is made of it": lambda k: (
        lambda p, x: (p * x - torch.full((101,), 0.1 + 0.01 * k, dtype=torch.float64)).square().mean()
    ),
}

QUICK = ("a factor", "an exponent", "a tensor that is made of it")


@pytest.fixture
def kernels(monkeypatch):
    """The kernels that were asked for."""
    found = []
    compiled = machine.compiled
    monkeypatch.setattr("fastpoly._fuse.program.compiled", lambda *a: (found.append(a[0]), compiled(*a))[1])
    return found


def run(loss, backend="fused", start=0.7, **options):
    return descend(
        loss, torch.tensor(start, dtype=torch.float64), X, learn_rate=0.1, steps=5, backend=backend, **options
    )


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SWEEPS]
)
def test_a_sweep_takes_two_kernels(name, kernels):
    for k in range(4):
        fused, eager = run(SWEEPS[name](k)), run(SWEEPS[name](k), "eager")
        assert torch.allclose(fused.loss, eager.loss, rtol=1e-13, atol=0)  # roundings of 101 terms
        assert torch.allclose(fused.params, eager.params, rtol=1e-13, atol=0)
    assert len(set(kernels)) == 2


def test_the_first_value_is_part_of_the_kernel(kernels):
    run(lambda p, x: (p * x * 0.1234 - x).square().mean())
    assert "0.1234" in str(kernels[0])


def test_only_what_changes_is_read_from_memory(kernels):
    for k in range(3):
        run(lambda p, x, k=k: (p * x * 0.1234 - x + 0.01 * (k + 1)).square().mean())
    assert "0.1234" in str(kernels[-1])


def test_the_optimizers_numbers_too(kernels):
    from fastpoly import optimizers

    for k in range(4):
        rule = optimizers.Adam(betas=(0.9 - 0.01 * k, 0.99))
        loss = SWEEPS["a factor"](1)
        assert torch.allclose(run(loss, optimizer=rule).loss, run(loss, "eager", optimizer=rule).loss, rtol=1e-13)
    assert len(set(kernels)) <= 2


def test_whole_exponents_stay_products(kernels):
    for n in (2.0, 3.0, 2.5):
        run(lambda p, x, n=n: ((p * x).abs() ** n).mean())
    assert not any("pow(" in str(kernel) for kernel in kernels)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_what_is_no_ordinary_number(value):
    """After two ordinary ones: as eager torch has it."""
    for number in (0.3, 0.4, value):
        got, want = (
            run(lambda p, x, c=number: (torch.where(x > 0, p * x, c) - x)[51:].square().mean() + p * p, backend)
            for backend in ("fused", "eager")
        )
        assert torch.allclose(got.loss, want.loss, rtol=1e-13)


def test_float32_rounds_the_number_as_torch_does():
    def of(c, backend):
        start = torch.tensor(0.7, dtype=torch.float32)
        loss = lambda p, x: (p * x * c - x).square().mean()  # noqa: E731
        return descend(loss, start, X.float(), learn_rate=0.1, steps=3, backend=backend).loss

    for c in (0.1, 0.7, 1e-7):
        assert torch.allclose(of(c, "fused"), of(c, "eager"), rtol=1e-6)


def test_integers_keep_theirs():
    """A number beside integers makes floats of them, or is cut: that is not read from memory."""

    def of(c, backend):
        loss = lambda p, x: ((x * p > 0).long() * c * p * x).sum()  # noqa: E731
        start = torch.tensor(0.7, dtype=torch.float32)
        return descend(loss, start, X.float(), learn_rate=0.01, steps=3, backend=backend).loss

    for c in (0.5, 1.5, 2.5):
        assert torch.allclose(of(c, "fused"), of(c, "eager"), rtol=1e-6)


def test_a_number_that_changes_in_every_call_is_still_refused():
    calls = iter(range(1, 100))
    for _ in range(3):
        with pytest.raises(UnsupportedOperationError, match="does something else when it is called again"):
            run(lambda p, x: (p * x * (0.1 * next(calls)) - x).square().mean())


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(traced, "REMEMBERED", 3)
    monkeypatch.setattr(machine, "REMEMBERED", 3)
    monkeypatch.setattr(machine, "_ready", WeakKeyDictionary())  # of the programs that others keep there may be more
    losses = [lambda p, x, n=n: ((p * x) ** n - x).square().mean() for n in (2, 3, 4, 5, 6)]
    wanted = [run(loss, "eager").loss for loss in losses]
    for _ in range(2):  # those that gave way come back
        for loss, want in zip(losses, wanted, strict=True):
            assert torch.allclose(run(loss).loss, want, rtol=1e-13)
    for kept in (traced._known, traced._seen, machine._ready, machine._linked_kernels):
        assert len(kept) <= 3
