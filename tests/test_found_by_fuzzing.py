"""Losses at which the fused loop once gave another number than torch, or none: most of them a fuzzer has found."""

import math

import pytest
import torch
from torch.nn import functional as F

from fastpoly import UnsupportedOperationError, descend, descend_many
from fastpoly._fuse import program

W = torch.tensor([0.5, 0.2, -0.3], dtype=torch.float64)
X = torch.linspace(-1, 1, 5, dtype=torch.float64)
NOTHING = torch.zeros(0, dtype=torch.float64)
INF, NAN = math.inf, math.nan


def of(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _columns_alike(a):
    both = torch.cat([a.exp().reshape(-1), torch.tanh(a.exp() * 0.3).reshape(-1)])
    return (both - both.mean()).square().mean()


def _doubled(v):
    v[1] = v[0] * 2
    return v


LOSSES = {  # name: (loss, params, data)
    "no samples": (lambda w, x: (w[0] * x).sum() + w.square().sum(), W, NOTHING),
    "no samples, several features": (lambda w, x: (x @ w).sum() + w.square().sum(), W, torch.zeros(0, 3).double()),
    "the mean of no elements": (lambda w, x: (w[0] * x).mean() + w.square().sum(), W, NOTHING),
    "the mean along no elements": (lambda w: w.reshape(3, 1)[:, :0].mean(1).nan_to_num(2.0).sum() + w.sum(), W),
    "a param of no elements": (lambda p: p[0].sum() + p[1].square().sum(), [W, torch.zeros(0, 4).double()]),
    "an index of no dimension": (lambda w: w.reshape(3, 1).index_select(0, torch.tensor(2)).square().sum(), W),
    "the same, along another axis": (lambda w: w.reshape(1, 3).index_select(1, torch.tensor(2)).square().sum(), W),
    "index_add with a factor": (lambda w: w.index_add(0, torch.tensor([0, 2, 0]), w * w, alpha=0.3).sin().sum(), W),
    "windows of data, and a part of it": (lambda w, x: (w * x[:3]).sum() + (w * x.unfold(0, 3, 1))[1:].sum(), W, X),
    "a part of data, and windows of it": (lambda w, x: (w * x.unfold(0, 3, 1))[1:].sum() + (w * x[:3]).sum(), W, X),
    "hypot of large numbers": (lambda w: torch.hypot(w * 1e200, w * 1e200).log().sum(), W),
    "hypot of small numbers": (lambda w: torch.hypot(w * 1e-200, w * 1e-200).mul(1e200).sum(), W),
    "hypot of nothing": (lambda w: torch.hypot(w - w, w.detach() * 0).sum() + w.sum(), W),
    "lerp to the end": (lambda w: torch.lerp(w * 1e18, w, 1.0).sum(), W),
    "lerp to ends": (lambda w: torch.lerp(w * 1e18, w, torch.ones_like(w)).sum(), W),
    "the gradient of a step is nothing between": (lambda w: (w[::2] * of(NAN, 1)).nansum() + w.sum(), W),
    "infinite at some of every other": (lambda w: (w[::2] * of(INF, 1)).sum().clamp(max=2) + w.sum(), W),
    "the diagonal by an index, and its gradient": (
        lambda w: (w.reshape(1, 3) * w[:, None])[(torch.arange(3),) * 2].sum(),
        W,
    ),
    "data of half the bytes": (lambda w, x: (w * x[:3]).sum() + (w * x[2:]).square().sum(), W, X.bfloat16()),
    "a product less itself, and another": (lambda w: (w * 1e20 * w.roll(1) - w.roll(1) * (w * 1e20) + w).sum(), W),
    "the mean of squares of nothing": (lambda w: F.mse_loss(w[:0], w[:0]).nan_to_num(2.0) + w.sum(), W),
    "the gradient of elu at NaN": (lambda w: F.elu(w * of(1, NAN, 2)).nansum() + w.sum(), W),
    "the gradient of hardsigmoid": (lambda w: 1e3 * F.hardsigmoid(w).sum(), W),
    "the gradient of hardtanh at NaN": (lambda w: F.hardtanh(w * of(1, NAN, 2)).nansum() + w.sum(), W),
    "the gradient of hardswish at NaN": (lambda w: F.hardswish(w * of(1, NAN, 20)).nansum() + w.sum(), W),
    "the gradient of smooth_l1 at NaN": (
        lambda w: F.smooth_l1_loss(w * of(1, NAN, 20), w, reduction="none").nansum(),
        W,
    ),
    "the gradient of soft_margin_loss at a wide margin": (
        lambda w: 1e15 * F.soft_margin_loss(w * of(80, 180, -120), torch.ones_like(w), reduction="sum"),
        W,
    ),
    "the extremes of one number along its axis": (
        lambda w: (w.max(0)[0] - w.min(0, keepdim=True)[0] * w).square(),
        W[0],
    ),
    "numbers in a sum of products": (lambda w: (sum(0.2 * w**k for k in range(5)) - 0.3).square().mean(), X),
    "rounded, with the gradient of what is not": (
        lambda w: torch.stack([(v := w + (w.round() - w).detach()).max() * w[0], v.max()]).square().sum(),
        3 * torch.linspace(-1, 1, 65, dtype=torch.float64).sin(),
    ),
    "the same in a sum of products": (
        lambda w, z: (
            ((w + (w.round() - w).detach() + w * z + w.roll(1) * z) == w.round()).double().sum() * w.square().sum()
        ),
        3 * torch.linspace(-1, 1, 65, dtype=torch.float64).sin(),
        torch.zeros(65, dtype=torch.float64),
    ),
    "a number that is no float32, compared": (
        lambda w: torch.where(w < 0.3, w * w, 1 - w).sum(),
        of(0.3, 0.3 + 1e-9, 0.3 - 1e-9),
    ),
    "what is made of a kept value that all lanes share": (lambda w: _columns_alike(w[:, None].expand(5, 20)), X),
    "a quotient by infinity, rounded down": (
        lambda w: (torch.div(w.detach(), INF, rounding_mode="floor") * w).sum(),
        W,
    ),
    "a write to another place than was read": (lambda w: _doubled(w * 0.3).square().sum(), W),
    "zeros of either sign": (lambda w: 1 / (torch.cat([torch.zeros(2), -torch.zeros(1)]).double() * w.abs()) @ w, W),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore::fastpoly.DivergenceWarning")
def test_the_numbers_are_those_of_torch(name):
    loss, params, *data = LOSSES[name]
    want, got = (
        descend(loss, params, tuple(data), learn_rate=0.1, steps=3, backend=backend) for backend in ("eager", "fused")
    )
    assert got.diverged_at == want.diverged_at
    torch.testing.assert_close(got.loss, want.loss, rtol=1e-11, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(got.params, want.params, rtol=1e-11, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_what_comes_beside_may_be_a_number_repeated(backend):
    """One element in memory, and many in the tensor; and one number that is kept for a loop."""
    repeated = of(0.7)[0].expand(3, 2)

    def loss(w):
        return (w * torch.randn((), dtype=w.dtype) + repeated.sum()).square().mean(), (repeated, w.sum())

    run = descend(loss, W, learn_rate=0.1, steps=3, backend=backend, has_aux=True, seed=1)
    assert torch.equal(run.aux[0], repeated.expand(3, 3, 2))
    assert run.aux[1][0].item() == pytest.approx(W.sum().item())


def test_statistics_that_the_loss_makes_are_written_once():
    def loss(w):
        mean = torch.zeros(3, dtype=w.dtype)
        out = F.batch_norm(torch.stack([w, w * w, w.sin()]), mean, torch.ones(3, dtype=w.dtype), training=True)
        return (out * X[:3]).square().sum() + mean.square().sum()

    want, got = (descend(loss, W, learn_rate=0.1, steps=3, backend=one).loss for one in ("eager", "fused"))
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_a_bound_that_a_dtype_has_not_is_refused():
    """torch takes -2 for 254."""
    with pytest.raises(UnsupportedOperationError, match=r"a bound is another number in torch\.uint8.*Way out"):
        descend(lambda w: (w * (w > 0).to(torch.uint8).clamp(-2, 3)).sum(), W, learn_rate=0.1, steps=3, backend="fused")


def test_infinity_is_between_no_bounds():
    """Of what becomes whole numbers after it was multiplied by nothing."""
    loss = lambda w: (w * (torch.where(w > 9, INF, w).detach() * 0 + 3).long()).sum()  # noqa: E731
    with pytest.raises(UnsupportedOperationError, match="whole numbers of floats"):
        descend(loss, W, learn_rate=0.1, steps=3, backend="fused")


def test_nothing_is_fused():
    run = descend(lambda w, x: (w[0] * x).sum() + w.sum(), W, NOTHING, learn_rate=0.1, steps=3, backend="fused")
    assert run.loss.tolist() == pytest.approx([float(W.sum()) - 0.1 * k * W.numel() for k in range(3)])


def test_no_number_where_torch_has_one_is_told(monkeypatch):
    """And the other way round: a step of every loop is compared with the loss."""
    from fastpoly._fuse.operations import OPERATIONS, each

    monkeypatch.setitem(OPERATIONS, "sqrt", each(lambda a: a * NAN))

    def loss(w):
        return w.sum() + F.relu(torch.sqrt(w.detach() + 3)).nan_to_num(7.0).sum() * w.sum()

    with pytest.raises(UnsupportedOperationError, match="a mistake of fastpoly's"):
        descend(loss, W, (), learn_rate=0.1, steps=3, backend="fused")


ONE_SAMPLE = {
    "alone": lambda w, x: (x.exp()[torch.tensor([99, 0])] - 0.3).square().mean() + w.square().sum(),
    "beside a sum": lambda w, x: (x.exp()[torch.tensor([99, 0])].sum() - w.sum() * x.exp().mean()).square(),
    "for a param": lambda w, x: (w[0] * x.exp()[torch.tensor([98])].sum() - w[1]).square(),
    "of the params": lambda w, x: ((w[0] * x).exp()[torch.tensor([98, 2])] - w[1]).square().sum(),
}


@pytest.mark.parametrize("name", ONE_SAMPLE)
def test_a_sample_that_another_thread_has(name, monkeypatch):
    """Threads share the samples of a step where none looks at another's, at its end either."""
    monkeypatch.setattr(program, "CYCLES", 50)
    slices = torch.sin(torch.arange(500.0, dtype=torch.float64)).reshape(5, 100, 1)
    start = torch.full((9,), 0.3, dtype=torch.float64)
    options = {"learn_rate": 1e-3, "steps": 60, "xs": slices, "cycle": True}
    eager, fused = (descend(ONE_SAMPLE[name], start, (), backend=backend, **options) for backend in ("eager", "fused"))
    assert torch.allclose(eager.loss, fused.loss, rtol=1e-12, atol=0)
    assert torch.allclose(eager.params, fused.params, rtol=1e-12, atol=0)


def test_numbers_whose_signs_are_still_to_be_turned():
    """The imaginary part of a conjugate is a view that torch turns when it is read."""
    x = torch.complex(X, 2 * X + 1).conj().imag
    start = torch.complex(W, W - 0.3).conj().imag
    loss = lambda w, x: ((w[0] + w[1] * x + w[2] * x**2) - x.exp()).square().mean()  # noqa: E731
    eager, fused = (descend(loss, start, x, learn_rate=0.01, steps=5, backend=of) for of in ("eager", "fused"))
    assert torch.allclose(eager.params, fused.params, rtol=1e-12, atol=0)
    many = descend_many(loss, start.expand(2, 3), x, in_dims=(0, None), learn_rate=0.01, steps=5)
    assert torch.allclose(many.params, eager.params, rtol=1e-12, atol=0)
    inside = lambda w, y: (w[0] * torch.complex(y, y + 1).conj().imag - 1).square().sum()  # noqa: E731
    eager, fused = (descend(inside, start, X, learn_rate=0.01, steps=5, backend=of) for of in ("eager", "fused"))
    assert torch.allclose(eager.params, fused.params, rtol=1e-12, atol=0)
