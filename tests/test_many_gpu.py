"""Many problems on a GPU, a problem in each thread: interpreted, and the machine code of absent GPUs."""

import warnings

import numpy as np
import pytest

pytest.importorskip("triton")

import torch
from machine_code_gpu import ARCHITECTURES, machine_code, opcodes

from fastpoly import curve_fit, descend_many, least_squares

X = np.linspace(0, 4, 20)
TYPES = {"float32": "*fp32", "float64": "*fp64"}


def decay(x, a, b, c):
    return a * torch.exp(-b * x) + c


def curves(count):
    """(count, n) noisy decays."""
    draws = np.random.default_rng(0)
    truth = np.array([2.5, 1.3, 0.5]) * (0.8 + 0.4 * draws.random((count, 3)))
    y = truth[:, :1] * np.exp(-truth[:, 1:2] * X) + truth[:, 2:]
    return y + 0.05 * draws.standard_normal((count, len(X)))


def loss(w, x, y):
    return ((y - decay(x, *w)) ** 2).mean()


def descended(backend, count, options):
    """Params, losses and steps of a descent of many problems, the third of them without an end."""
    if backend == "triton":
        import interpreted_gpu  # noqa: F401  (lets backend="triton" take tensors of the CPU)
    y = torch.from_numpy(curves(count))
    y[2, 3] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = descend_many(
            loss, torch.ones(3).double(), (torch.from_numpy(X), y), in_dims=(None, None, 0), backend=backend, **options
        )
    assert found.backend == backend
    return found.params, found.loss, found.steps, found.diverged_at, found.is_ended


def few(params, value):
    return value < 0.2


OPTIONS = [
    dict(learn_rate=0.05, steps=12, trace_every=5),
    dict(learn_rate=0.1, steps=9, optimizer="adam", trace_every=1, until=few),
    dict(learn_rate=torch.linspace(0.01, 0.1, 40), steps=3),
]


@pytest.mark.parametrize("options", OPTIONS, ids=["sgd", "adam, until", "rates"])
def test_problems_in_threads_are_those_in_lanes(interpreted, options):
    got, want = interpreted(descended, "triton", 40, options), descended("fused", 40, options)
    for one, other in zip(got, want, strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13, equal_nan=True)


def fitted(backend, options):
    if backend == "triton":
        import interpreted_gpu  # noqa: F401
    y = curves(34)
    y[5], y[7, 2:] = np.nan, np.nan
    options = {"maxfev": 24, "ftol": 1e-12, "xtol": 1e-12, **options}  # an interpreter takes long for each
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        popt, pcov, _, _, ier = curve_fit(decay, X, y, backend=backend, full_output=True, nan_policy="omit", **options)
    return popt, pcov, ier


ROBUST = dict(bounds=(0, 2.5), loss="huber", f_scale=0.1)


@pytest.mark.parametrize("options", [{}, pytest.param(ROBUST, marks=pytest.mark.slow)], ids=["free", "bounds"])
def test_curves_in_threads_are_those_in_lanes(interpreted, options):
    got, want = interpreted(fitted, "triton", options), fitted("fused", options)
    ended = (got[2] > 0) & (got[2] < 5)
    np.testing.assert_array_equal(ended, (want[2] > 0) & (want[2] < 5))
    assert ended.sum() > 20
    np.testing.assert_allclose(got[0][ended], want[0][ended], rtol=1e-6)
    np.testing.assert_allclose(got[1][ended], want[1][ended], rtol=1e-4, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(got[0]), np.isnan(want[0]))


def solved(backend):
    if backend == "triton":
        import interpreted_gpu  # noqa: F401
    start = torch.tensor([[-2.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    found = least_squares(
        lambda w: torch.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]]), start, in_dims=(0,), data=(), backend=backend
    )
    return found.x, found.nfev


def test_least_squares_in_threads(interpreted):
    (got, counts), (want, others) = interpreted(solved, "triton"), solved("fused")
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    assert torch.equal(counts, others)


# -- machine code


def written(kind, dtype):
    """The kernel of a step, of a descent or of a fit."""
    from fastpoly._fuse.gpu_many import _write
    from fastpoly._fuse.gpu_program import kernel_of
    from fastpoly._fuse.traced import traced
    from fastpoly._nonlinear.levenberg import RUNS, State, Tolerances, begin, step
    from fastpoly._nonlinear.objective import Objective

    of = getattr(torch, dtype)
    x, y, start = torch.from_numpy(X).to(of), torch.from_numpy(curves(1)[0]).to(of), torch.ones(3, dtype=of)

    def descent(leaves):
        (params, y), own = leaves, leaves[0].detach().requires_grad_()
        with torch.enable_grad():
            value = loss(own, x, y)
            (grad,) = torch.autograd.grad(value, own)
        return [params - 0.1 * grad, y, value.detach()]

    def fit(leaves):
        state, y = State(*leaves[:-1]), leaves[-1]
        objective = Objective(lambda params, tensors: decay(x, *params), lambda tensors: tensors[0])
        after = step(state, lambda params: objective.sums(params, [y]), Tolerances(1e-8, 1e-8, 0.0), None, None)
        goes = state.end == RUNS
        return [*after, y, torch.where(goes, torch.zeros_like(state.end), torch.full_like(state.end, torch.nan))]

    function, like = (descent, [start, y]) if kind == "descent" else (fit, [*begin(start, 1e-3), y])
    return kernel_of(traced(function, like, {}, 0, _write)[0].text)


@pytest.mark.parametrize("arch", [pytest.param(80, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["descent", "fit"])
def test_no_thread_spills_or_waits(kind, dtype, arch):
    from fastpoly._fuse.gpu_program import OPTIONS as compiler
    from fastpoly_kernels.triton_passes import few_passes

    assert arch in ARCHITECTURES
    signature = dict.fromkeys(("carry", "data", "scratch", "out"), TYPES[dtype])
    signature |= dict.fromkeys(("steps", "every", "wait", "rows", "first"), "i32")
    with few_passes(True):
        code = machine_code(written(kind, dtype), signature, arch=arch, warps=1, **compiler)
    assert code.stack == code.local == code.shared == 0
    counts = opcodes(code.instructions)
    assert counts["BAR"] == 0
    assert counts["SHFL"] <= 5  # whether any thread goes on
    assert code.registers <= 255
