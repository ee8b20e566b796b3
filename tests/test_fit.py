"""fit: what goes in, what comes out, and what stays equal."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EXACT, exact_descent
from raw_runs import fit

from fastpoly import DivergenceWarning, FitProblem, backends, stability_limit

PRECISIONS = ["double", "mixed", "single"]
HERE = [backend for backend in backends() if backend.available]
PAIRS = [(b.name, p) for b in HERE for p in b.precisions]
SLOW = {("compile", p): [pytest.mark.slow] for p in ("double", "single")}  # seconds a fit; test_compiled_loop is quick
CASES = [pytest.param(*pair, id="-".join(pair), marks=SLOW.get(pair, [])) for pair in PAIRS]
CLOSED_FORMS = [("gram", "double"), ("spectral", "double")]
"""What computes a step without the one before it. Everything else is a loop, and has a loop's bits."""
LOOPS = [case for case, pair in zip(CASES, PAIRS, strict=True) if pair not in CLOSED_FORMS]


@pytest.mark.parametrize("name", list(EXACT))
def test_double_is_exact_arithmetic(name):
    problem = EXACT[name]
    x, y = (np.array(problem[key], float) for key in "xy")
    result = fit(x, y, problem["degree"], problem["steps"], problem["learn_rate"])
    assert result.weights == pytest.approx(np.array(problem["weights"], float), abs=1e-9)  # 200,000 roundings
    for step, mse in problem["mse"].items():
        assert result.mse[int(step)] == pytest.approx(float(mse), abs=1e-11 * max(1.0, float(mse)), rel=0), step


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_every_backend_takes_the_same_steps(small, backend, precision):
    x, y = small
    weights, mse = exact_descent(x, y, 3, 12, 0.3)
    result = fit(x, y, 3, 12, 0.3, backend=backend, precision=precision)
    roundings = 2e-15 if precision == "double" else 2e-6  # 12 steps of a few roundings each, of numbers up to 2
    assert result.weights == pytest.approx(weights, abs=roundings)
    assert result.mse == pytest.approx(mse, abs=4 * roundings)
    assert (result.backend, result.precision, result.steps) == (backend, precision, 12)
    assert result.weights.dtype == result.mse.dtype == (np.float64 if precision == "double" else np.float32)
    assert result.diverged_at is None


def test_the_trace_is_taken_before_each_step(small):
    x, y = small
    result = fit(x, y, 3, 1, 0.1)
    assert result.mse == pytest.approx([np.mean(y**2)])  # that of the zeros it started from, not of its weights


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_twice_gives_the_same_bits(small, backend, precision):
    first, second = (fit(*small, 3, 300, 0.1, backend=backend, precision=precision) for _ in range(2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert first.mse.tobytes() == second.mse.tobytes()


@pytest.mark.parametrize(("backend", "precision"), CLOSED_FORMS)
@pytest.mark.parametrize("split", [1, 7, 200, 499])
def test_two_runs_in_a_row_are_one_long_run_to_rounding(small, backend, precision, split):
    def run(steps, initial_weights=None):
        return fit(*small, 3, steps, 0.1, backend=backend, precision=precision, initial_weights=initial_weights)

    whole, first = run(500), run(split)
    second = run(500 - split, first.weights)
    assert second.weights == pytest.approx(whole.weights, abs=1e-13)
    assert np.concatenate([first.mse, second.mse]) == pytest.approx(whole.mse, abs=1e-14)


@pytest.mark.parametrize(("backend", "precision"), LOOPS)
def test_two_runs_in_a_row_are_one_long_run(small, backend, precision):
    def run(steps, initial_weights=None):
        return fit(*small, 3, steps, 0.1, backend=backend, precision=precision, initial_weights=initial_weights)

    whole, first = run(500), run(200)
    second = run(300, first.weights)
    assert second.weights.tobytes() == whole.weights.tobytes()
    assert np.concatenate([first.mse, second.mse]).tobytes() == whole.mse.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_posts_run_continues_bit_for_bit(post, precision):
    whole = fit(*post, backend="numba", precision=precision)
    first = fit(*post, steps=80_000, backend="numba", precision=precision)
    second = fit(*post, steps=120_000, backend="numba", precision=precision, initial_weights=first.weights)
    assert second.weights.tobytes() == whole.weights.tobytes()
    assert np.concatenate([first.mse, second.mse]).tobytes() == whole.mse.tobytes()


@pytest.mark.parametrize(("backend", "precision"), [*[("numba", p) for p in PRECISIONS], ("gram", "mixed")])
def test_portions_do_not_show(post, backend, precision, monkeypatch):
    options = dict(steps=5_000, backend=backend, precision=precision, trace_every=7)
    whole = fit(*post, **options)
    monkeypatch.setattr("fastpoly._portions.PORTION_SECONDS", 0.0)  # portions of one step
    monkeypatch.setattr("fastpoly._portions.FIRST_SECONDS", 0.0)
    reported = []
    cut = fit(*post, **options, progress=lambda *at: reported.append(at))
    assert len(reported) == 5_000
    assert cut.weights.tobytes() == whole.weights.tobytes()
    assert cut.mse.tobytes() == whole.mse.tobytes()


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_trace_every_keeps_every_kth_mse(small, backend, precision):
    whole = fit(*small, 3, 100, 0.1, backend=backend, precision=precision)
    bound = 1e-14 if (backend, precision) in CLOSED_FORMS else 0
    for every in [7] if backend == "compile" else [1, 2, 3, 7, 100, 101]:  # compile compiles every time, for seconds
        thinned = fit(*small, 3, 100, 0.1, backend=backend, precision=precision, trace_every=every)
        assert thinned.mse == pytest.approx(whole.mse[::every], abs=bound, rel=0)
        assert thinned.weights == pytest.approx(whole.weights, abs=bound, rel=0)


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_trace_every_none_keeps_nothing(small, backend, precision):
    result = fit(*small, 3, 100, 0.1, backend=backend, precision=precision, trace_every=None)
    assert result.mse.shape == (0,)
    whole = fit(*small, 3, 100, 0.1, backend=backend, precision=precision)
    assert result.weights == pytest.approx(whole.weights, abs=1e-14, rel=0)


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_zero_steps_give_back_the_initial_weights(small, backend, precision):
    assert np.array_equal(fit(*small, 2, 0, backend=backend, precision=precision).weights, [0, 0, 0])
    start = np.array([1.0, 2.0, 3.0])
    result = fit(*small, 2, 0, backend=backend, precision=precision, initial_weights=start)
    assert np.array_equal(result.weights, start)
    assert not np.shares_memory(result.weights, start)
    assert result.mse.shape == (0,)
    assert result.steps == 0


def test_the_callers_initial_weights_are_left_alone(small):
    start = np.ones(4)
    fit(*small, 3, 50, 0.1, initial_weights=start)
    assert np.array_equal(start, np.ones(4))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100])  # on both sides of 8 and 16 lanes
@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_number_of_samples(n, precision):
    x = np.linspace(-1, 1, n) if n > 1 else np.array([0.5])
    y = np.cos(2 * x)
    loop = fit(x, y, 2, 200, 0.1, backend="numpy", precision=precision)
    kernel = fit(x, y, 2, 200, 0.1, backend="numba", precision=precision)
    tolerance = 1e-13 if precision == "double" else 1e-5
    assert kernel.weights == pytest.approx(loop.weights, abs=tolerance)
    assert kernel.mse == pytest.approx(loop.mse, abs=tolerance)


@pytest.mark.parametrize("n", [16_383, 16_384, 16_385, 50_000])  # around a block, and more than one
def test_many_samples(n):
    x = np.linspace(-1, 1, n)
    y = np.exp(x)
    loop = fit(x, y, 3, 20, 0.2, backend="numpy")
    kernel = fit(x, y, 3, 20, 0.2, backend="numba")
    assert kernel.weights == pytest.approx(loop.weights, abs=1e-13)
    assert kernel.mse == pytest.approx(loop.mse, rel=1e-12)


def test_a_million_float32_samples_lose_little_to_the_sum():
    x, y = np.full(1_000_000, 0.7), np.full(1_000_000, 1 / 3)  # equal terms: rounding errors do not cancel
    double = fit(x, y, 1, 5, 0.1)
    single = fit(x, y, 1, 5, 0.1, precision="single")
    assert single.mse == pytest.approx(double.mse, rel=5e-5)  # measured 1.2e-5; one running sum a lane: 6.8e-4


@pytest.mark.parametrize("degree", range(17))
def test_any_degree(degree):
    x = np.linspace(-1, 1, 41)
    y = np.sin(3 * x)
    loop = fit(x, y, degree, 500, 0.2, backend="numpy")
    kernel = fit(x, y, degree, 500, 0.2, backend="numba")
    assert kernel.weights == pytest.approx(loop.weights, abs=1e-12)
    assert kernel.mse == pytest.approx(loop.mse, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "precision", "backend"),
    [(25, "double", "spectral"), (5000, "double", "gram"), (25, "mixed", "gram"), (25, "single", "numba")],
)
def test_auto_takes_the_fastest_that_is_right(n, precision, backend):
    x = np.linspace(-1, 1, n)
    assert fit(x, x**2, 3, 10, 0.1, precision=precision).backend == backend


# -- kinds of input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        list,
        lambda a: a.reshape(-1, 1),
        pd.Series,
        lambda a: pd.DataFrame({"column": a}),
        lambda a: np.asfortranarray(np.stack([a, a], 1))[:, 0],
        lambda a: a.astype(np.longdouble),
        lambda a: np.ma.masked_array(a),
    ],
    ids=["list", "column", "series", "frame", "strided", "longdouble", "unmasked"],
)
def test_all_kinds_of_samples_are_welcome(small, kind):
    x, y = small
    result = fit(kind(x), kind(y), 3, 100, 0.1)
    assert isinstance(result.weights, np.ndarray)
    assert np.array_equal(result.weights, fit(x, y, 3, 100, 0.1).weights)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float16, np.float32, bool])
def test_all_real_dtypes_are_welcome(dtype):
    x, y = np.array([0, 1, 1, 0], dtype), np.array([0, 1, 0, 1], dtype)
    expected = fit(x.astype(float), y.astype(float), 1, 10, 0.1)
    assert np.array_equal(fit(x, y, 1, 10, 0.1).weights, expected.weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int32])
def test_tensors_in_tensors_out(dtype):
    x, y = torch.tensor([0, 1, 2, 3], dtype=dtype), torch.tensor([1, 0, 1, 0], dtype=dtype)
    result = fit(x, y, 1, 10, 0.01)
    assert result.weights.dtype == result.mse.dtype == torch.float64
    expected = fit(x.double().numpy(), y.double().numpy(), 1, 10, 0.01)
    assert np.array_equal(result.weights.numpy(), expected.weights)
    assert np.array_equal(result.mse.numpy(), expected.mse)


def test_a_tensor_that_requires_grad_is_data_all_the_same(small):
    x, y = (torch.tensor(a, requires_grad=True) for a in small)
    assert not fit(x, y, 3, 10, 0.1).weights.requires_grad


# -- the result -------------------------------------------------------------------------------------------------------


def test_predict_keeps_kind_and_shape(small):
    result = fit(*small, 3, 2000, 0.1)
    expected = np.polynomial.polynomial.polyval(np.array([[0.1, 0.2]]), result.weights)
    assert result.predict([[0.1, 0.2]]) == pytest.approx(expected)
    assert result.predict(0.1) == pytest.approx(expected[0, 0])
    tensor = result.predict(torch.tensor([[0.1, 0.2]]))
    assert tensor.dtype == torch.float32
    assert tensor.numpy() == pytest.approx(expected, rel=1e-6)


def test_predict_with_weights_from_torch(small):
    from_torch = fit(*(torch.tensor(a) for a in small), 3, 100, 0.1)
    assert from_torch.predict(0.5) == pytest.approx(fit(*small, 3, 100, 0.1).predict(0.5))


def test_polynomial_is_numpys(small):
    result = fit(*small, 3, 2000, 0.1)
    assert result.polynomial(0.3) == pytest.approx(result.predict(0.3))
    assert result.polynomial.deriv().degree() == 2


def test_repr_says_what_was_found(small):
    text = repr(fit(*small, 1, 10, 0.1))
    assert text.startswith("FitResult(")
    assert " x; 10 steps, spectral double" in text


def test_progress_runs_to_the_end(post):
    seen = []
    fit(*post, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (200_000, 200_000)
    assert seen == sorted(seen)


def test_two_threads_may_fit_at_once(post):
    alone = {degree: fit(*post, degree, 100_000, 1e-6).weights for degree in (2, 3, 4, 5)}
    together = {}

    def run(degree):
        together[degree] = fit(*post, degree, 100_000, 1e-6).weights

    threads = [threading.Thread(target=run, args=(degree,)) for degree in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[degree], together[degree]) for degree in alone)


# -- divergence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_divergence_is_reported_and_the_trace_kept(small, backend, precision):
    limit = stability_limit(small[0], 3)
    with pytest.warns(DivergenceWarning) as caught:
        result = fit(*small, 3, 5_000, 2 * limit, backend=backend, precision=precision)
    at = result.diverged_at
    assert 10 < at < 2_000
    assert result.steps == at == len(result.mse)
    assert np.isfinite(result.mse).all()
    assert result.mse[-1] > 1e30
    message = str(caught[0].message)
    assert f"diverged at step {at:,}" in message
    assert f"the stability limit {limit:.4g}" in message
    assert caught[0].filename == __file__  # it points at the caller's line
    # the weights are those whose mse is not finite: one step before, they still are the kept trace's
    with pytest.warns(DivergenceWarning, match="diverging: the mse grew"):
        again = fit(*small, 3, at, 2 * limit, backend=backend, precision=precision)
    assert again.diverged_at is None
    assert again.weights == pytest.approx(result.weights, rel=1e-12)


@pytest.mark.parametrize(("backend", "precision"), [*CLOSED_FORMS, ("gram", "mixed")])
@pytest.mark.parametrize("factor", [1.02, 1.3, 2.0, 40.0])
def test_closed_forms_report_divergence_as_the_loop_does(small, backend, precision, factor):
    rate = factor * stability_limit(small[0], 3)
    with pytest.warns(DivergenceWarning) as expected:
        loop = fit(*small, 3, 100_000, rate, backend="numba", precision=precision)
    with pytest.warns(DivergenceWarning) as caught:
        result = fit(*small, 3, 100_000, rate, backend=backend, precision=precision)
    assert result.diverged_at == loop.diverged_at
    assert str(caught[0].message) == str(expected[0].message)
    assert result.mse == pytest.approx(loop.mse, rel=1e-9 if precision == "double" else 1e-4)


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_divergence_between_recorded_steps_is_seen(small, backend, precision):
    rate = 2 * stability_limit(small[0], 3)
    with pytest.warns(DivergenceWarning):
        dense = fit(*small, 3, 5_000, rate, backend=backend, precision=precision)
    for every in (7, 10_000, None):
        with pytest.warns(DivergenceWarning):
            thin = fit(*small, 3, 5_000, rate, backend=backend, precision=precision, trace_every=every)
        assert thin.diverged_at == dense.diverged_at
        assert thin.mse == pytest.approx(dense.mse[:: every or 10_000][: len(thin.mse)], rel=1e-11)


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_growing_is_warned_of_before_it_overflows(small, backend, precision):
    limit = stability_limit(small[0], 3)
    with pytest.warns(DivergenceWarning, match=r"diverging: the mse grew from 2\.021 to .*above the stability limit"):
        result = fit(*small, 3, 20, 1.5 * limit, backend=backend, precision=precision)
    assert result.diverged_at is None
    assert result.steps == 20


def test_a_run_from_its_own_end_is_no_divergence(small):
    end = fit(*small, 3, 100_000, 0.5)
    fit(*small, 3, 50, 0.5, initial_weights=end.weights)  # the mse moves by rounding errors, up or down: no warning


@pytest.mark.parametrize("backend", ["numba", "gram", "spectral", "fused-autograd"])
def test_divergence_in_the_last_step_of_all(backend):
    with pytest.warns(DivergenceWarning, match="at step 1"):
        result = fit([1.0], [1e150], 0, 1, 1e200, backend=backend)
    assert (result.diverged_at, result.steps) == (1, 1)
    assert result.mse == pytest.approx([1e300])  # this one was still finite, the weights after it are not


@pytest.mark.parametrize("backend", ["numpy", "numba", "gram", "spectral", "fused-autograd"])
def test_data_too_large_for_the_powers_diverges_at_once(backend):
    with pytest.warns(DivergenceWarning, match="above the stability limit 0"):
        assert fit([1e200, 2e200], [1.0, 2.0], 4, 10, 1e-5, backend=backend).diverged_at <= 1


# -- the problem ------------------------------------------------------------------------------------------------------


def test_a_problem_is_checked_and_frozen(small):
    problem = FitProblem.checked(*small, 3, 10, 0.1, precision="mixed", trace_every=4)
    assert problem.x.dtype == np.float64
    assert problem.initial_weights.dtype == np.float32
    assert problem.rows(10) == 3
    with pytest.raises(AttributeError):
        problem.degree = 5


def test_read_only_samples_run_the_same_kernel(small):
    from fastpoly_kernels.descent import descend

    fit(*small, 3, 10, 0.1, backend="numba")
    kinds = descend.kinds
    x, y = (a.copy() for a in small)
    x.flags.writeable = False  # as np.asarray(pandas.Series) is
    fit(x, y, 3, 10, 0.1, backend="numba")
    assert descend.kinds == kinds


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("backend", ["torch", "torch-autograd"])
def test_torch_loops_run_in_any_grad_mode(small, backend, mode):
    expected = fit(*small, 3, 20, 0.1, backend=backend)
    with mode():
        assert np.array_equal(fit(*small, 3, 20, 0.1, backend=backend).weights, expected.weights)


@pytest.mark.parametrize("steps", [1, 100_000, 300_000])
def test_a_trace_begins_where_a_page_does(steps):
    """A huge one, if it is a large part of that: from 512 KiB on."""
    x = np.linspace(-1, 1, 10)
    trace = fit(x, np.cos(x), 1, steps=steps, backend="numba").mse
    assert len(trace) == steps
    large = trace.nbytes >= 2**19
    assert not large or trace.ctypes.data % 2**21 == 0
