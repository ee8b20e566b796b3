"""A run beyond the stability limit is told of before it overflows: with a trace, without one, and in a batch."""

import warnings

import numpy as np
import pytest
from raw_runs import fit, fit_many

from fastpoly import DivergenceWarning, stability_limit

X = np.arange(16.0)
Y = 3 * X**2 - 4 * X + 3.5
LIMIT = stability_limit(X, 2)


@pytest.mark.parametrize("backend", ["numpy", "numba", "gram", "spectral"])
@pytest.mark.parametrize("trace_every", [1, 7, 1000, None])
def test_fit_says_so_whatever_it_keeps(backend, trace_every):
    with pytest.warns(DivergenceWarning, match=r"diverging: the mse grew from .* at step \d+.*above the stability"):
        result = fit(X, Y, 2, 400, 1.05 * LIMIT, backend=backend, trace_every=trace_every)
    assert result.diverged_at is None


def test_a_fall_before_the_growth_does_not_hide_it():
    x = np.linspace(-1, 1, 50)
    y = x + 1e-9 * x**3  # of the growing component there is almost nothing at first
    rate = 1.02 * stability_limit(x, 1)
    with pytest.warns(DivergenceWarning, match=r"the mse grew from .* at step [1-9]\d* to "):
        fit(x, y, 1, 470, rate, initial_weights=[1e-9, 0.0])


@pytest.mark.parametrize("backend", ["numpy", "numba", "gram", "spectral"])
@pytest.mark.parametrize("trace_every", [1, None])
def test_a_run_within_the_limit_never_grows(backend, trace_every):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        end = fit(X, Y, 2, 300, 0.99 * LIMIT, backend=backend, trace_every=trace_every)
        fit(X, Y, 2, 50, 0.99 * LIMIT, backend=backend, trace_every=trace_every, initial_weights=end.weights)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("trace_every", [None, 1, 9])
@pytest.mark.parametrize("backend", ["spectral", "gram", "numba"])
def test_fit_many_says_which_problems_and_from_where(backend, trace_every, shared):
    rates = np.full(30, 0.5 * LIMIT)
    growing = [3, 17, *range(18, 29)]
    rates[growing] = 1.05 * LIMIT
    x = X if shared else np.tile(X, (30, 1))
    with pytest.warns(DivergenceWarning) as caught:
        fit_many(x, np.tile(Y, (30, 1)), 2, 400, rates, backend=backend, trace_every=trace_every)
    said = str(caught[0].message)
    assert said.startswith("13 of 30 problems are diverging, first problem 3: the mse grew from ")
    assert f"its stability limit {LIMIT:.4g}; they are 3, 17, 18, 19, 20, 21, 22, 23, 24, 25 and 3 more" in said
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_some_diverged_and_some_are_on_their_way():
    with pytest.warns(DivergenceWarning, match=r"1 of 3 problems diverged, first problem 2 .*1 of 3 .* are diverging"):
        fit_many(X, np.tile(Y, (3, 1)), 2, 2000, np.array([0.5, 1.01, 5]) * LIMIT)
