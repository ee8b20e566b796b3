"""What one row makes of an elementary function: `erfcx`, on every target; and one that only this file has."""

import functools

import interpreted_cpu
import mpmath
import numpy as np
import pytest
import torch
from test_formulas import erfcx, errors

import fastpoly
from fastpoly._fuse.operations import OPERATIONS, function
from fastpoly_kernels.functions import FUNCTIONS, LIBRARY, Function, one_by_one

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
ULP = {"fused": 2, "page": 4, "triton": 4}
"""Gaps between floats. The page and Triton's interpreter have `math`'s functions, three of them multiplied."""

POINTS = [*np.linspace(-5, 5, 101), *np.linspace(-9, -5, 20), *2.0 ** np.arange(-30, 31)]


def applied(operation, x, backend):
    """What the fused loop makes of an operation on a vector: an optimizer whose next params are just that."""
    run = fastpoly.descend(
        lambda w: w.sum(),
        x,
        learn_rate=1.0,
        steps=1,
        optimizer=lambda params, grads, state: (operation(params), state),
        backend=backend,
    )
    return run.params


def interpreted_by_triton(x):
    """In the process of the fixture `interpreted`."""
    import interpreted_gpu  # noqa: F401  (lets backend="triton" take tensors of the CPU)

    return applied(torch.special.erfcx, x, "triton")


@pytest.fixture(params=ULP)
def target(request, monkeypatch):
    """(its name, erfcx of a tensor on it)."""
    if request.param == "triton":
        return "triton", functools.partial(request.getfixturevalue("interpreted"), interpreted_by_triton)
    if request.param == "page":
        interpreted_cpu.install(monkeypatch)
    return request.param, lambda x: applied(torch.special.erfcx, x, "fused")


@BOTH
def test_erfcx_is_right_on_every_target(target, dtype):
    name, function_of = target
    x = torch.tensor(POINTS, dtype=dtype)
    got = function_of(x).numpy()
    with mpmath.workprec(120):
        exact = [erfcx(mpmath.mpf(value)) for value in x.tolist()]
        rounded = np.array([float(value) for value in exact]).astype(got.dtype)
        gaps = np.spacing(rounded)
        left = [
            float((value - mpmath.mpf(float(near))) / mpmath.mpf(float(gap)))
            for value, near, gap in zip(exact, rounded, gaps, strict=True)
        ]
    assert errors(got, rounded, gaps, np.array(left)).max() < ULP[name]


@BOTH
def test_its_gradient_is_torchs_own(dtype):
    w = torch.tensor([-1.5, -0.2, 0.4, 3.0], dtype=dtype)
    run = fastpoly.descend(lambda w: torch.special.erfcx(w).sum(), w, learn_rate=0.25, steps=1, backend="fused")
    slope = 2 * w * torch.special.erfcx(w) - 2 / np.sqrt(np.pi)
    torch.testing.assert_close(run.params, w - 0.25 * slope, rtol=8 * torch.finfo(dtype).eps, atol=0)


def test_an_operation_is_a_row(monkeypatch):
    """Bessel's J0, which the C library has and which has no row."""
    assert "j0" not in FUNCTIONS
    x = torch.linspace(-9, 9, 41, dtype=torch.float64)
    with pytest.raises(fastpoly.UnsupportedOperationError, match="special_bessel_j0"):
        applied(torch.special.bessel_j0, x, "fused")
    monkeypatch.setitem(FUNCTIONS, "j0", Function(LIBRARY, one_by_one(mpmath.j0), "libdevice.j0"))
    monkeypatch.setitem(OPERATIONS, "special_bessel_j0", function("j0"))
    got = applied(torch.special.bessel_j0, x, "fused")
    exact = torch.tensor([float(mpmath.j0(value)) for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-15)  # torch's own is off by 2e-7
