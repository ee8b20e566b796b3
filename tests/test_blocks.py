"""Models of many features, whose samples the fused loop takes in tiles and in blocks: the same numbers as eager torch.

Sizes on both sides of each change of plan: fewer registers of samples than a tile has, a last tile that is not full,
samples that do not fill a register, data that outgrow the first cache, rows of a power of two.
"""

import pytest
import torch
from torch.nn import functional

from fastpoly import descend
from fastpoly._fuse import program, traced
from fastpoly._fuse.expressions import Axis, Expr, Index, call
from fastpoly._fuse.turns import moved

FEATURES = 64


def mean_square(params, x, y):
    w, b = params
    return functional.mse_loss(x @ w + b, y)


def logistic(params, x, y):
    """No sample waits for another: all three loops share a block."""
    w, b = params
    return functional.binary_cross_entropy_with_logits(x @ w + b, (y > 0).to(y.dtype))


def standardized(params, x, y):
    """Every sample waits for the mean of all: no block could have x twice."""
    w, b = params
    z = x @ w
    return functional.mse_loss((z - z.mean()) * 0.5 + b, y)


def farthest(params, x, y):
    """A largest instead of a sum."""
    w, b = params
    return (x @ w + b - y).abs().amax()


LOSSES = (mean_square, logistic, standardized, farthest)


def eager(loss, params, data, rate, steps):
    params, losses = [p.clone() for p in params], []
    for _ in range(steps):
        gradient, value = torch.func.grad_and_value(loss)(params, *data)
        losses.append(value)
        params = [p - rate * g for p, g in zip(params, gradient, strict=True)]
    return params, torch.stack(losses)


def samples(n, dtype):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, FEATURES, dtype=torch.float64, generator=generator)
    y = x @ torch.randn(FEATURES, dtype=torch.float64, generator=generator) / 8
    return x.to(dtype), y.to(dtype)


def check(loss, n, dtype, tolerance):
    data = samples(n, dtype)
    params = [torch.full((FEATURES,), 0.01, dtype=dtype), torch.zeros(1, dtype=dtype)]
    run = descend(loss, params, data, learn_rate=0.01, steps=20, backend="fused")
    expected, losses = eager(loss, params, data, 0.01, 20)
    assert run.loss.numpy() == pytest.approx(losses.numpy(), rel=tolerance)
    for ours, theirs in zip(run.params, expected, strict=True):
        assert ours.numpy() == pytest.approx(theirs.numpy(), rel=tolerance, abs=tolerance)
    return run.source


QUICK = [(mean_square, 100), (mean_square, 1024), (logistic, 333), (standardized, 333), (farthest, 100)]


@pytest.mark.parametrize(
    ("loss", "n"),
    [
        pytest.param(loss, n, id=f"{loss.__name__}-{n}", marks=() if (loss, n) in QUICK else pytest.mark.slow)
        for loss in LOSSES
        for n in (50, 100, 333, 1024)
    ],
)
def test_many_features(loss, n):
    check(loss, n, torch.float64, 1e-12)


@pytest.mark.parametrize("loss", [mean_square, logistic], ids=lambda loss: loss.__name__)
def test_many_features_in_single(loss):
    check(loss, 333, torch.float32, 2e-5)


def test_blocks_are_shared_among_threads(monkeypatch):
    monkeypatch.setattr(program, "processors", lambda: 2)
    monkeypatch.setattr(traced, "_known", type(traced._known)())
    source = check(mean_square, 10_001, torch.float64, 1e-12)
    assert "for begin in range(first, last, " in source


def test_data_beyond_the_first_cache_are_taken_in_blocks():
    assert "for begin in range(" not in check(mean_square, 50, torch.float64, 1e-12)
    assert "for begin in range(" in check(mean_square, 1024, torch.float64, 1e-12)
    assert "for begin in range(" not in check(standardized, 1024, torch.float64, 1e-12)  # x is read once on either side


def test_data_little_beyond_the_first_cache_come_back_from_their_end():
    backwards = "for j0 in range(56, -8, -8):"
    assert backwards not in check(mean_square, 50, torch.float64, 1e-12)
    assert backwards in check(mean_square, 100, torch.float64, 1e-12)
    assert backwards in check(standardized, 1024, torch.float64, 1e-12)


def test_what_is_read_many_times_is_moved_once():
    """Of a hundred values, each of which reads the one before twice."""
    axis = Axis("j0", 4)

    def chained(place):
        value = Expr("position", place)
        for _ in range(100):
            value = call("sin", value) * value
        return value

    assert moved(chained(Index.of(axis)), axis, 3) is chained(Index.of(axis) + 3)
    assert moved(chained(Index((), 2)), axis, 3) is chained(Index((), 2))
