"""A step of the loop against the function itself: roundings are no change, what Python changes is one."""

import warnings

import pytest
import torch
from torch.nn import functional

from fastpoly import UnsupportedOperationError, descend
from fastpoly._steadiness import is_finite_by_chance

X = torch.linspace(-1, 1, 7, dtype=torch.float64)


def run(loss, **options):
    return descend(loss, torch.tensor(0.3, dtype=torch.float64), X, learn_rate=0.1, steps=4, backend="fused", **options)


def normalised(value):
    """Equal numbers, less their mean, over their deviation: nothing but roundings, made larger."""
    return functional.batch_norm(torch.full((24, 3), value, dtype=torch.float64), None, None, training=True)


@pytest.mark.parametrize("value", [0.1, 0.3, 1.7, 123.4])
def test_roundings_of_constants_are_no_change(value):
    """No input moves them, and another order of the sum gives others."""
    result = run(lambda p, x: ((p * x - x).square().mean(), normalised(value)), has_aux=True)
    assert result.aux.abs().max() < 1e-12 * (1 + value)
    assert result.diverged_at is None


def test_a_change_beside_such_roundings_is_found():
    calls = iter(range(1, 100))
    with pytest.raises(UnsupportedOperationError, match="called again"):
        run(lambda p, x: ((p * x - x).square().mean(), normalised(0.1) + 1e-9 * next(calls)), has_aux=True)


def test_a_param_that_follows_roundings_is_no_change():
    """Its gradient is zero but for them."""
    result = run(lambda p, x: (p - p + normalised(0.1).sum() * p) + x.mean())
    assert abs(float(result.params) - 0.3) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_factor_that_counts_calls_is_found(dtype):
    calls = iter(range(1, 100))
    with pytest.raises(UnsupportedOperationError, match="called again"):
        run(lambda p, x: ((p * x * (1 + 0.1 * next(calls))).square().mean()).to(dtype))


def test_what_is_finite_by_chance():
    """The logarithm of what is a rounding away from 0: where a run ended there, it was no mistake."""
    one = torch.tensor([36.0, 36.5, 2.0], dtype=torch.float64)
    assert bool(torch.log1p(-torch.sigmoid(one)).isfinite().all())
    assert is_finite_by_chance(lambda: torch.log1p(-torch.sigmoid(one)).sum())
    assert not is_finite_by_chance(lambda: torch.log1p(-torch.sigmoid(one / 2)).sum())
    assert not is_finite_by_chance(lambda: (one - 36.6).exp().sum())


def test_a_run_that_ends_where_a_kernel_rounds_to_infinity(monkeypatch):
    """Whose sigmoid is two roundings above torch's where that is nearly 1."""
    from fastpoly._fuse.expressions import call
    from fastpoly._fuse.operations import OPERATIONS, each

    monkeypatch.setitem(OPERATIONS, "sigmoid", each(lambda a: call("sigmoid", a) + 2.3e-16))
    start = torch.tensor([30.0, 1.0], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = descend(
            lambda p: torch.log1p(-torch.sigmoid(p)).sum(), start, (), learn_rate=0.5, steps=30, backend="fused"
        )
    assert run.ended_by == "divergence"
    assert torch.log1p(-torch.sigmoid(run.params)).isfinite().all()
