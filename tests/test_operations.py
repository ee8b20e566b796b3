"""Operations over axes, products and views; see `operation_cases`."""

import pytest
import torch
from operation_cases import (
    INF,
    numbers,
    off,
    value_and_gradients,
    values_and_gradients,
)
from torch.nn import functional as F

pytestmark = pytest.mark.slow  # some two hundred kernels to compile: make test-all


# -- over axes
# ----------------------------------------------------------------------------------------

X = numbers(100, 40, seed=1.0)
SHAPES = {
    "(4, 3)": (numbers(4, 3), lambda w: w, [0, -1]),
    "(100, 40)": (numbers(40), lambda w: X * w, [0, 1]),
    "(2, 100, 3)": (numbers(3), lambda w: w * X[:, :6].reshape(2, 100, 3), [1, (0, 2)]),
}
"""Params, what a case sees of them, and over what to reduce: short axes, which become variables; samples, along which
registers run, beside another long axis of params, which lie in memory; and samples in the middle."""

REDUCTIONS = {
    "sums": {
        "sum": torch.sum,
        "mean": torch.mean,
        "nansum": lambda t, axis, keepdim: torch.nansum(t, dim=axis, keepdim=keepdim),
        "count": lambda t, axis, keepdim: t.sum() * (t > 0.1).sum(axis, keepdim=keepdim),
        "logsumexp": torch.logsumexp,
    },
    "variances": {
        "var": torch.var,
        "std": torch.std,
        "biased var": lambda t, axis, keepdim: torch.var(t, axis, correction=0, keepdim=keepdim),
    },
    "extremes": {
        "amax": torch.amax,
        "amin": torch.amin,
        "largest entry": lambda t, axis, keepdim: torch.linalg.vector_norm(t, INF, dim=axis, keepdim=keepdim),
    },
    "norms": {
        "of order 1": lambda t, axis, keepdim: torch.linalg.vector_norm(t, 1, dim=axis, keepdim=keepdim),
        "of order 2": lambda t, axis, keepdim: torch.linalg.vector_norm(t, dim=axis, keepdim=keepdim),
        "of order 3": lambda t, axis, keepdim: torch.linalg.vector_norm(t, 3, dim=axis, keepdim=keepdim),
    },
}


def reductions(kind, shape):
    params, seen, axes = SHAPES[shape]
    cases = {
        f"{name} over {axis}, keepdim={keep}": lambda w, f=f, axis=axis, keep=keep: f(seen(w), axis, keepdim=keep)
        for name, f in REDUCTIONS[kind].items()
        for axis, keep in zip(axes, (False, True), strict=True)
    }
    return values_and_gradients(cases), params


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind, shape):
    assert off(*reductions(kind, shape)) == {}


OF_ALL = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.max,
    "min": torch.min,
    "var": torch.var,
    "norm": torch.norm,
    "frobenius": torch.linalg.norm,
    "var_mean": lambda t: sum(torch.var_mean(t)),
    "nanmean": torch.nanmean,
    "sum with a dtype": lambda t: t.sum(dtype=torch.float64),
    "prod": lambda t: (0.1 * t + 1).prod(),
    "dist": lambda t: torch.dist(t, t * t),
}

ALONG_ONE = {
    "prod": lambda t, axis: torch.prod(0.1 * t + 1, axis),
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "max": lambda t, axis: torch.max(t, axis).values,
    "min": lambda t, axis: torch.min(t, axis).values,
    "normalize": lambda t, axis: F.normalize(t, dim=axis),
    "cumsum": torch.cumsum,
    "centred": lambda t, axis: (t - t.mean(axis, keepdim=True)) / (t.std(axis, keepdim=True) + 0.1),
    "any": lambda t, axis: t.sum() * (t > 1.99).any(axis),
    "all": lambda t, axis: t.sum() * (t > -1.9).all(axis),
}

OVER_LAST = {
    "layer_norm": lambda t: F.layer_norm(t, t.shape[-1:]),
    "rms_norm": lambda t: F.rms_norm(t, t.shape[-1:]),
    "group_norm": lambda t: F.group_norm(t.reshape(1, 4, -1), 2) if t.numel() % 4 == 0 else t,
    "instance_norm": lambda t: F.instance_norm(t.reshape(1, 4, -1)) if t.numel() % 4 == 0 else t,
}


def of_everything(shape):
    params, seen, _ = SHAPES[shape]
    cases = {kind: lambda w, f=f: f(seen(w)) for kind, f in (OF_ALL | OVER_LAST).items()}
    return values_and_gradients(cases), params


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_reductions_of_everything(shape):
    assert off(*of_everything(shape)) == {}


def along_an_axis(kind, shape):
    params, seen, axes = SHAPES[shape]
    cases = {
        f"along {axis}": lambda w, axis=axis: ALONG_ONE[kind](seen(w), axis) for axis in axes if isinstance(axis, int)
    }
    return values_and_gradients(cases), params


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ALONG_ONE)
def test_along_an_axis(kind, shape):
    assert off(*along_an_axis(kind, shape)) == {}


# -- products, views: every case with params of its own
# ----------------------------------------------------------------------------------------


def with_params(cases):
    """A step and its carry for {name: (case, shape, ...)}: a case takes tensors of these shapes."""
    carry = {
        name: [0.5 * numbers(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
        for seed, (name, (_, *shapes)) in enumerate(cases.items())
    }

    def step(carry):
        found = {name: value_and_gradients(lambda own, f=f: f(*own), carry[name]) for name, (f, *_) in cases.items()}
        return carry, found

    return step, carry


Y = X[:, 20]
X5 = X[:, :5]
S = numbers(6, 5, seed=2.0)
B = numbers(3, 100, 5, seed=3.0)

PRODUCTS = {
    "mm": {
        "samples @ short": (lambda w: X5 @ w, (5, 3)),
        "short @ short": (lambda w: S @ w, (5, 3)),
        "params @ params": (lambda a, b: a @ b, (4, 5), (5, 3)),
        "params @ samples": (lambda w: w @ X5.T, (3, 5)),
        "samples @ long": (lambda w: X @ w, (40, 3)),
        "over the samples": (lambda w: (X * w).T @ X5, (40,)),
        "by a transpose": (lambda w: X5 @ w.T, (3, 5)),
        "of data alone": (lambda w: (X.T @ X) @ w, (40,)),
    },
    "networks": {
        "1 - 20 - 2": (lambda a, b: torch.tanh(Y[:, None] @ a) @ b, (1, 20), (20, 2)),
        "5 - 20 - 20 - 1": (lambda a, b, c: torch.tanh(torch.tanh(X5 @ a) @ b) @ c, (5, 20), (20, 20), (20, 1)),
        "attention": (lambda q, k: torch.softmax(S @ q @ (S @ k).T / 2, -1) @ S, (5, 3), (5, 3)),
    },
    "vectors": {
        "mv": (lambda w: X @ w, (40,)),
        "mv of params": (lambda a, b: a @ b, (40, 5), (5,)),
        "mv of a transpose": (lambda a, b: a.T @ b, (40, 5), (40,)),
        "vector @ matrix": (lambda w: w @ X5, (100,)),
        "dot with samples": (lambda w: w @ Y, (100,)),
        "dot": (torch.dot, (5,), (5,)),
        "inner": (torch.inner, (3, 5), (4, 5)),
        "outer": (torch.outer, (5,), (4,)),
        "outer with samples": (lambda a: torch.outer(Y, a), (40,)),
        "vector @ batch": (lambda w: w @ B[:, :5, :4], (5,)),
    },
    "batches": {
        "bmm": (lambda w: torch.bmm(B, w), (3, 5, 4)),
        "bmm of params": (torch.bmm, (3, 4, 5), (3, 5, 2)),
        "batch @ matrix": (lambda w: B @ w, (5, 2)),
        "batch @ vector": (lambda w: B @ w, (5,)),
        "batches broadcast": (lambda w: B[:, None] @ w, (2, 5, 4)),
        "baddbmm": (lambda b, w: torch.baddbmm(b, B, w, beta=0.3, alpha=0.7), (3, 100, 4), (3, 5, 4)),
    },
    "and a sum": {
        "addmm": (lambda b, w: torch.addmm(b, X5, w, beta=0.5, alpha=2), (3,), (5, 3)),
        "addmv": (lambda b, w: torch.addmv(b, X5, w, beta=0.5, alpha=2), (100,), (5,)),
        "addr": (lambda a, b: torch.addr(torch.ones(4, 5, dtype=a.dtype), a, b), (4,), (5,)),
        "linear": (lambda w, b: F.linear(X5, w, b), (3, 5), (3,)),
        "linear of a batch": (lambda w, b: F.linear(B, w, b), (2, 5), (2,)),
    },
    "einsum and others": {
        "ij,jk->ik": (lambda w: torch.einsum("ij,jk->ik", X5, w), (5, 3)),
        "ni,ij,nj->n": (lambda w: torch.einsum("ni,ij,nj->n", X5, w, X5), (5, 5)),
        "bnj,bjk->bnk": (lambda w: torch.einsum("bnj,bjk->bnk", B, w), (3, 5, 4)),
        "nk,k->": (lambda w: torch.einsum("nk,k->", X5, w), (5,)),
        "n,k->nk": (lambda w: torch.einsum("n,k->nk", Y, w), (4,)),
        "tensordot": (lambda w: torch.tensordot(B, w, dims=([0, 2], [0, 1])), (3, 5, 2)),
        "kron": (torch.kron, (2, 3), (3, 2)),
        "multi_dot": (lambda a, b: torch.linalg.multi_dot([X5, a, b]), (5, 4), (4, 2)),
        "matrix_power": (lambda a: torch.matrix_power(a, 3), (4, 4)),
        "cross": (lambda a: torch.linalg.cross(X5[:, :3], a.expand(100, 3)), (3,)),
        "distances": (lambda c: ((X5[:, None] - c) ** 2).sum(-1), (4, 5)),
        "pairwise_distance": (lambda c: F.pairwise_distance(X5, c), (5,)),
    },
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products(kind):
    assert off(*with_params(PRODUCTS[kind])) == {}


VIEWED = {
    "short": ((4, 6), lambda w: w),
    "samples": ((6,), lambda w: X[:, :6] * w),
    "long": ((40,), lambda w: X[:50] * w),
    "batch": ((6,), lambda w: w * X[:, :18].reshape(100, 3, 6).permute(1, 0, 2)),
}

VIEWS = {
    "shapes": {
        "reshape(-1)": lambda t: t.reshape(-1),
        "flatten": lambda t: t.exp().flatten(),
        "rows merged": lambda t: t.reshape(t.shape[0] * 2, -1),
        "rows split": lambda t: t.reshape(2, -1, t.shape[-1]) if t.ndim == 2 else t,
        "unflatten": lambda t: t.unflatten(-1, (2, -1)),
        "permute": lambda t: t.permute(*reversed(range(t.ndim))),
        "mT": lambda t: t.mT.exp() @ t,
        "transposed, reshaped": lambda t: t.mT.reshape(-1),
        "transposed, viewed": lambda t: t.transpose(0, -1).contiguous().view(2, -1),
        "movedim": lambda t: t.movedim(0, -1),
        "flipped, reshaped": lambda t: t.reshape(-1).flip(0).reshape(-1, 2).T,
        "reshaped, flipped": lambda t: t.mT.reshape(-1).flip(0),
    },
    "parts": {
        "t[0]": lambda t: t[0],
        "t[-1]": lambda t: t[-1],
        "t[..., 2]": lambda t: t[..., 2],
        "t[..., -2]": lambda t: t[..., -2],
        "t[1:3]": lambda t: t[1:3],
        "t[::2]": lambda t: t[::2],
        "t[-3:-1]": lambda t: t[-3:-1],
        "t[1:1000]": lambda t: t[1:1000],
        "t[..., ::3]": lambda t: t[..., ::3],
        "t[1::3]": lambda t: t[1::3].exp(),
        "t[1:] - t[:-1]": lambda t: t[1:] - t[:-1],
        "t[..., 1:] * t[..., :-1]": lambda t: t[..., 1:] * t[..., :-1],
        "an empty slice": lambda t: t[2:2].sum() + t,
        "narrow": lambda t: t.narrow(-1, 1, 3),
        "unbind": lambda t: sum(k * part for k, part in enumerate(t.unbind(-1))),
        "chunk": lambda t: sum(k * part.sum() for k, part in enumerate(t.chunk(3, -1))),
        "split": lambda t: t.split(2, -1)[1] * t.split(2, -1)[0],
        "split unevenly": lambda t: torch.split(t, [1, t.shape[-1] - 1], -1)[1],
        "diff": lambda t: t.diff(dim=0),
        "second diff": lambda t: t.diff(n=2, dim=-1),
    },
    "sizes of 1": {
        "squeeze": lambda t: t[:1].squeeze(0),
        "squeeze all": lambda t: t[:1].unsqueeze(0).squeeze(),
        "unsqueeze": lambda t: t.unsqueeze(1),
        "unsqueeze last": lambda t: t.unsqueeze(-1) * numbers(3),
        "None": lambda t: t[:, None],
        "expand": lambda t: t[:1].expand(4, *t.shape[1:]),
        "expand to more": lambda t: t.expand(2, *t.shape),
        "expand_as": lambda t: t[:1].expand_as(t) * t,
        "repeat": lambda t: t.repeat(*([2] * t.ndim)),
        "repeat_interleave": lambda t: t.repeat_interleave(2, -1),
        "tile": lambda t: t.tile(2),
    },
    "put together": {
        "stack": lambda t: torch.stack([t, t * 2]),
        "stack last": lambda t: torch.stack([t, t.exp()], -1),
        "cat": lambda t: torch.cat([t, t.sin()]),
        "cat last": lambda t: torch.cat([t, t.sin()], -1),
        "cat of slices": lambda t: torch.cat([t[2:], t[:2].exp()]),
        "cat of ones": lambda t: torch.cat([torch.ones_like(t), t], -1),
        "cat @": lambda t: torch.cat([t, t * t], -1) @ numbers(2 * t.shape[-1]),
        "cat of cats": lambda t: torch.cat([torch.cat([t, t * t], -1), torch.cat([t.exp(), t], -1)]),
        "cat, softmax": lambda t: torch.cat([t, t.exp()]).softmax(0),
        "stack of unbound": lambda t: torch.stack(t[:3].unbind(0)[::-1]),
        "stack, amax": lambda t: torch.stack([t, t * t]).amax(0),
        "glu": lambda t: F.glu(torch.cat([t, 2 * t], -1), -1),
        "hstack": lambda t: torch.hstack([t, t * t]),
        "pad": lambda t: F.pad(t, (1, 2)),
        "pad with 1": lambda t: F.pad(t, (0, 0, 2, 1), value=1.0),
    },
    "turned": {
        "flip": lambda t: t.flip(0),
        "flip all": lambda t: t.flip(tuple(range(t.ndim))),
        "flip last": lambda t: t.flip(-1) * t,
        "roll": lambda t: t.roll(1, 0) * t,
        "roll back": lambda t: t.roll(-2, -1).exp(),
        "roll flat": lambda t: t.roll(3),
        "roll by nothing": lambda t: t.roll(0, 0) * t,
        "roll both": lambda t: t.roll((1, -2), (0, -1)) * t,
        "rot90": lambda t: t.rot90(),
        "unfold": lambda t: t.unfold(-1, 3, 2) * torch.arange(3),
        "tril": lambda t: t.tril(),
        "triu": lambda t: t.triu(1) * t,
        "diagonal, no gradient": lambda t: t.detach().diagonal(0, -2, -1).sum() * t,
        "diag_embed": lambda t: torch.diag_embed(t[0]),
    },
    "picked": {
        "by a list": lambda t: t[[0, 2, 1, 0]],
        "by a tensor": lambda t: t[torch.tensor([2, 1, 1, -1])],
        "in columns": lambda t: t[..., torch.tensor([0, 2, -1])],
        "by a table": lambda t: t[torch.tensor([[0, 1], [2, 0]])],
        "by a mask": lambda t: t[..., torch.arange(t.shape[-1]) % 2 == 0],
        "by two": lambda t: t[torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2])],
        "index_select": lambda t: torch.index_select(t, -1, torch.tensor([2, 0])),
        "as upsampling does": lambda t: torch.ops.aten._unsafe_index(t, [torch.tensor([0, 2])]),
        "gather": lambda t: t.gather(-1, torch.arange(t[..., :1].numel()).reshape(t[..., :1].shape) % 3),
        "take_along_dim": lambda t: torch.take_along_dim(t, torch.ones([1] * t.ndim, dtype=torch.long), -1),
        "where": lambda t: torch.where(torch.arange(t.shape[-1]) % 2 == 0, t, t * t),
        "masked_fill": lambda t: t.masked_fill((torch.arange(t.shape[-1]) % 2).bool(), 0.0),
    },
    "added": {
        "scatter_add": lambda t: t.scatter_add(-1, torch.arange(t.numel()).reshape(t.shape) % 3, t.sin()),
        "scatter": lambda t: t.scatter(-1, torch.ones_like(t[..., :1], dtype=torch.long), 2 * t[..., :1]),
        "index_add": lambda t: t.index_add(0, torch.tensor([1, 0]), t[:2]),
    },
}


def views(kind, seen):
    shape, view = VIEWED[seen]
    return with_params({name: (lambda w, f=f: f(view(w)), shape) for name, f in VIEWS[kind].items()})


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        *(("shapes", seen) for seen in ("samples", "long", "batch")),
        *(("parts", seen) for seen in ("short", "long")),
        ("sizes of 1", "samples"),
        *(("put together", seen) for seen in ("short", "long")),
        *(("turned", seen) for seen in ("short", "long")),
        *(("picked", seen) for seen in ("short", "long", "batch", "samples")),
        *(("added", seen) for seen in ("short", "samples")),
    ],
)
def test_views(kind, seen):
    assert off(*views(kind, seen)) == {}
