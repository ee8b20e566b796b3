"""Special functions over all of their range, against scipy's; their gradients are in `test_elementwise`.

And `zeta` on every target against mpmath: it has two arguments, and edges of its own.
"""

import functools

import interpreted_cpu
import mpmath
import numpy as np
import pytest
import torch
from operation_cases import INF, NAN, values
from scipy import special

from fastpoly import descend, scan

RANGES = {
    "i0": (torch.i0, special.i0, np.linspace(-50, 50, 1001)),
    "i0e": (torch.special.i0e, special.i0e, np.linspace(-500, 500, 1001)),
    "i1": (torch.special.i1, special.i1, np.linspace(-50, 50, 1001)),
    "i1e": (torch.special.i1e, special.i1e, np.linspace(-500, 500, 1001)),
    "digamma": (torch.digamma, special.digamma, np.linspace(0.01, 60, 1001)),
    "digamma of negative numbers": (torch.digamma, special.digamma, np.linspace(-20, -0.01, 1000) + 0.003),
    "erfinv": (torch.erfinv, special.erfinv, np.linspace(-0.99, 0.99, 1001)),
    "ndtri": (torch.special.ndtri, special.ndtri, np.linspace(0.001, 0.999, 999)),
    "ndtri of small numbers": (torch.special.ndtri, special.ndtri, np.logspace(-300, -1, 1000)),
    "polygamma": (lambda x: torch.polygamma(3, x), lambda x: special.polygamma(3, x), np.linspace(0.01, 60, 1001)),
    "zeta": (lambda q: torch.special.zeta(2.5, q), lambda q: special.zeta(2.5, q), np.linspace(0.01, 60, 1001)),
    "zeta by its order": (lambda x: torch.special.zeta(x, 0.7), lambda x: special.zeta(x, 0.7), np.logspace(0.001, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RANGES)
def test_values(name):
    function, wanted, x = RANGES[name]
    (got,) = scan(values({name: function}), torch.from_numpy(x), (), 1, backend="fused")[1][name]
    want = wanted(x)
    # near a zero of the function what rounds is the argument
    assert (np.abs(got[0].numpy() - want) / np.maximum(np.abs(want), 1)).max() < 2e-14


# -- Hurwitz's zeta function
# ---------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])


ZETA_ULP = 4
"""Gaps between floats of the size of what is summed."""


def zeta_by(backend, x, q):
    def step(pair):
        return pair, torch.special.zeta(*pair)

    return scan(step, (x, q), (), 1, backend=backend)[1][0]


def zeta_by_triton(x, q):
    """In the process of the fixture `interpreted`."""
    import interpreted_gpu  # noqa: F401  (lets backend="triton" take tensors of the CPU)

    return zeta_by("triton", x, q)


@pytest.fixture(params=["fused", "page", "triton"])
def zeta(request, monkeypatch):
    """zeta(x, q) on a target."""
    if request.param == "triton":
        return functools.partial(request.getfixturevalue("interpreted"), zeta_by_triton)
    if request.param == "page":
        interpreted_cpu.install(monkeypatch)
    return functools.partial(zeta_by, "fused")


def zeta_points():
    """x and q: all over, near the pole at x = 1, where many terms count, and at few of them."""
    generator = np.random.default_rng(0)
    near = 10 ** generator.uniform(-6, 0, 60), 10 ** generator.uniform(-8, 3, 60)
    even = 10 ** generator.uniform(0.05, 4, 60), 10 ** generator.uniform(-1.5, 1, 60)
    x = [*generator.uniform(1, 20, 60), *(1 + near[0]), *even[0]]
    q = [*generator.uniform(0, 20, 60), *near[1], *(even[0] * even[1])]
    return x, q


def exact_zeta(x, q):
    """The sum, and that of the sizes of its terms."""
    x, q = mpmath.mpf(x), mpmath.mpf(q)
    terms = [(q + k) ** -x for k in range(60 + max(0, int(mpmath.ceil(-q))))]
    w = q + len(terms)  # from here on by Euler and Maclaurin; mpmath's own zeta has an error of the size of 1
    terms += [w ** (1 - x) / (x - 1), w**-x / 2]
    for k in range(2, 60, 2):
        terms.append(mpmath.bernoulli(k) / mpmath.factorial(k) * mpmath.rf(x, k - 1) * w ** (1 - x - k))
    return mpmath.fsum(terms), mpmath.fsum(map(abs, terms))


def gaps_off(got, x, q):
    """By how many gaps between floats of the size of the terms."""
    off = []
    with mpmath.workprec(120), np.errstate(over="ignore", invalid="ignore"):
        for value, *at in zip(got.numpy(), x.tolist(), q.tolist(), strict=True):
            exact, size = exact_zeta(*at)
            gap = np.spacing(np.array(float(size)).astype(value.dtype))
            if np.isfinite(gap):
                off.append(float(abs(mpmath.mpf(float(value)) - exact) / float(gap)))
            else:  # the result is out of range
                off.append(0.0 if value == INF * int(mpmath.sign(exact)) else INF)
    return max(off)


@BOTH
def test_zeta_is_right_on_every_target(zeta, dtype):
    x, q = (torch.tensor(numbers, dtype=dtype) for numbers in zeta_points())
    assert gaps_off(zeta(x, q), x, q) < ZETA_ULP


@BOTH
def test_zeta_below_zero_is_right_on_every_target(zeta, dtype):
    q = torch.tensor([*np.linspace(-30, -0.1, 60) + 0.013, -0.5, -7.5, -1000.5, -1e-5, -3 + 1e-5], dtype=dtype)
    for order in (2, 3, 8, 21):
        x = torch.full_like(q, order)
        assert gaps_off(zeta(x, q), x, q) < ZETA_ULP


@BOTH
def test_zeta_is_torchs_at_the_edges(zeta, dtype):
    orders = [NAN, -INF, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, INF]
    numbers = [NAN, -INF, -1000.5, -2.0, -1.5, -0.5, -0.0, 0.0, 1e-310, 0.5, 1.0, 1.5, 50.0, 1e30, INF]
    pairs = torch.cartesian_prod(torch.tensor(orders, dtype=dtype), torch.tensor(numbers, dtype=dtype)).unbind(1)
    x, q = (part.contiguous() for part in pairs)
    got, want = zeta(x, q), torch.special.zeta(x, q)
    wrong = ~torch.isclose(got, want, rtol=1e-5, atol=1e-7, equal_nan=True)
    places = zip(x[wrong].tolist(), q[wrong].tolist(), strict=True)
    assert dict(zip(places, zip(got[wrong].tolist(), want[wrong].tolist(), strict=True), strict=True)) == {}


@BOTH
def test_the_gradient_of_zeta_is_torchs_own(dtype):
    w = torch.tensor([-0.4, 0.2, 1.0, 30.0], dtype=dtype)
    run = descend(lambda w: torch.special.zeta(3.0, w).sum(), w, learn_rate=0.25, steps=1, backend="fused")
    slope = -3 * torch.special.zeta(4.0, w)
    torch.testing.assert_close(run.params, w - 0.25 * slope, rtol=8 * torch.finfo(dtype).eps, atol=0)
