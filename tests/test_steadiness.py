"""A step of the loop against the function itself: roundings are no change, what Python changes is one."""

import pytest
import torch
from torch.nn import functional

from fastpoly import UnsupportedOperationError, descend

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
