"""Complex numbers as pairs of real ones, and Fourier transforms: values and gradients of torch's."""

import pytest
import torch
from operation_cases import numbers, off, values, values_and_gradients

from fastpoly import UnsupportedOperationError, descend

SLOW = pytest.mark.slow


def complex_of(a):
    return torch.complex(a, 0.5 * a.flip(0) + 0.2)


def both(z):
    return torch.view_as_real(z.resolve_conj())


OTHER = torch.complex(numbers(5, 4, seed=2.0), numbers(5, 4, seed=3.0))

ELEMENTS = {
    "add": lambda z: z + OTHER,
    "sub": lambda z: 2 - z,
    "add alpha": lambda z: torch.add(z, z.conj(), alpha=0.5j),
    "mul": lambda z: z * OTHER,
    "mul by a number": lambda z: z * 2j,
    "mul by a real tensor": lambda z: z * z.real,
    "div": lambda z: OTHER / z,
    "div by a real tensor": lambda z: z / (2 + z.imag**2),
    "reciprocal": lambda z: 1 / z,
    "square": lambda z: z * z,
    "pow": lambda z: z**3,
    "pow of halves": lambda z: z**2.5,
    "conj": lambda z: z.conj() * OTHER,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "sgn": torch.sgn,
    "where": lambda z: torch.where(z.real > 0, z, OTHER),
    "polar": lambda z: torch.polar(z.abs(), z.angle() * 2),
    "to": lambda z: z.real.to(torch.complex128) * z,
}

REAL = {
    "abs": torch.abs,
    "angle": torch.angle,
    "real": torch.real,
    "imag": torch.imag,
    "is equal": lambda z: (z == z.conj()).double() * z.real,
}

MOVING = {
    "sum": lambda z: z.sum(0),
    "mean": lambda z: z.mean(),
    "cumsum": lambda z: z.cumsum(0),
    "cat": lambda z: torch.cat([z, OTHER]),
    "stack": lambda z: torch.stack([z, OTHER], 1),
    "transpose": lambda z: z.mT.reshape(2, -1) * 1j,
    "flip": lambda z: z.flip(0)[1:],
    "roll": lambda z: z.roll(2, 0),
    "mm": lambda z: z.mT @ OTHER,
    "mH": lambda z: z.mH @ z,
    "mv": lambda z: z @ OTHER[0],
    "vdot": lambda z: torch.vdot(z.reshape(-1), OTHER.reshape(-1)),
    "bmm": lambda z: z[None] @ OTHER.mT[None],
    "index": lambda z: z[torch.tensor([2, 0, 0])],
    "pad": lambda z: torch.nn.functional.pad(z, (1, 2)),
}


@pytest.mark.parametrize("kind", [ELEMENTS, pytest.param(MOVING, marks=SLOW)], ids=["elements", "moving"])
def test_complex_numbers(kind):
    cases = {name: lambda a, case=case: both(case(complex_of(a))) for name, case in kind.items()}
    assert off(values_and_gradients(cases), numbers(5, 4)) == {}


def test_real_numbers_of_complex_ones():
    cases = {name: lambda a, case=case: case(complex_of(a)) for name, case in REAL.items()}
    assert off(values_and_gradients(cases), numbers(5, 4)) == {}


@pytest.mark.parametrize("size", [1, 5, 8, *(pytest.param(size, marks=SLOW) for size in (2, 17, 24, 60))])
def test_fourier_transforms(size):
    """Small sizes, primes, and those of several factors."""
    cases = {
        "fft": lambda a: both(torch.fft.fft(a)),
        "ifft": lambda a: both(torch.fft.ifft(complex_of(a), norm="ortho")),
        "fft2": lambda a: both(torch.fft.fft2(complex_of(a))),
    }
    assert off(values_and_gradients(cases), numbers(3, size)) == {}
    halves = {
        "rfft": lambda a: both(torch.fft.rfft(a)),
        "irfft": lambda a: torch.fft.irfft(complex_of(a), n=size),
        "hfft": lambda a: torch.fft.hfft(complex_of(a), n=size),
        "rfft2": lambda a: both(torch.fft.rfft2(a, dim=(1, 0))),
    }
    assert off(values(halves), numbers(3, size)) == {}


def test_a_transform_in_a_loss():
    target = numbers(32, seed=1.0)

    def loss(p):
        return (torch.fft.fft(p[0]) * torch.fft.fft(target).conj()).abs().square().mean()

    eager, fused = (
        descend(loss, [numbers(32)], learn_rate=1e-5, steps=5, backend=backend).loss for backend in ("eager", "fused")
    )
    assert torch.allclose(eager, fused, rtol=1e-12)


def test_other_precisions_are_refused():
    with pytest.raises(UnsupportedOperationError, match=r"it gives torch.complex64 in a step that computes in"):
        descend(lambda p: p[0].cfloat().abs().sum(), [numbers(3)], learn_rate=0.1, steps=2, backend="fused")
