"""What is written down once for arguments of the same kinds is right for others of these kinds."""

import pytest
import torch
from torch.nn import functional as F

from fastpoly import descend
from fastpoly._fuse.trace import trace
from fastpoly._fuse.tracer import Tracer

X = torch.linspace(-1, 1, 6, dtype=torch.float64)


def numbers(w, x):
    """Numbers of either sign, and zeros; whole ones and fractions."""
    parts = [w * c + w / (c + 3) - c for c in (0.5, 2, 2.0, -1.5, -1, 0, 0.0, -0.0, 7.25)]
    parts += [(w * w + 1) ** p for p in (2, 3, 0.5, -1, 2.5, -2)]
    return sum(part.sum() for part in parts)


def pairs(w, x):
    """The same tensor twice, two that are equal, and two that are not."""
    same = w + 0
    return (w * w + w * same + w * w.exp() + torch.addcmul(x[:3], x[:3], x[:3]) * w + torch.addcmul(w, w, same)).sum()


def places(w, x):
    """Elements from either end, of what changes and of what does not."""
    return sum(w[i] * w[-1 - i] * x[i] + (w * 2)[i : i + 1].sum() for i in range(3))


def taken_apart(w, x):
    """With constants of their own, and with constants among the arguments."""
    rows = [torch.outer(w, x[k:]) for k in range(3)] + [torch.outer(w, x.flip(0)[k:]) for k in range(3)]
    return sum(torch.logsumexp(row, 1).sum() + F.softplus(row).var() + row.max(1).values.sum() for row in rows)


def shared_memory(w, x):
    """Views and writes between calls of the same operation."""
    total = 0.0
    for k in range(4):
        h = w * (k + 1)
        h += x[k]
        first, rest = h.split([1, 2])
        total = total + (first * rest).sum()
        h = h.clone()
        h *= 2
        fresh = torch.zeros_like(w)
        fresh += h
        total = total + (fresh * fresh).sum()
    return total


@pytest.mark.parametrize("loss", [numbers, pairs, places, taken_apart, shared_memory], ids=lambda loss: loss.__name__)
def test_a_loss_that_asks_for_the_same_again(loss):
    start = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    fused, eager = (descend(loss, start, X, learn_rate=1e-3, steps=3, backend=name) for name in ("fused", "eager"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fused.params, eager.params, rtol=1e-12, atol=1e-12)


def test_equal_operations_are_one_node():
    """Those of equal numbers of one type, wherever they are asked for."""

    def step(tensors):
        (w,) = tensors
        parts = [w * 2, w * 2, w * 2.0, 2.0 * w, w * 3.0, w.exp(), w.clone().exp(), F.silu(w), F.silu(w)]
        return [w, *parts]

    graph = trace(step, [X], {})
    _, *parts = graph.outputs
    assert len({*parts[:2]}) == len({*parts[2:4]}) == len({*parts[5:7]}) == len({*parts[7:]}) == 1
    assert len({*parts}) == 5


@pytest.mark.parametrize("k", [3, -4])
def test_a_place_that_is_not_there_is_told_though_others_are(k):
    with pytest.raises(IndexError, match="out of"):
        descend(lambda w, x: w[0] + w[2] + w[k], X[:3], X, learn_rate=0.1, steps=1, backend="fused")


def test_an_iteration_more_is_written_down_as_those_before(monkeypatch):
    """No operation of it is planned anew, forward or backward."""
    planned = []
    plan = Tracer._plan
    monkeypatch.setattr(
        Tracer, "_plan", lambda self, operation, *rest: planned.append(operation) or plan(self, operation, *rest)
    )

    def count(iterations):
        def loss(w):
            rows = w
            for _ in range(iterations):
                first, second = torch.cat([rows * w, X[:3] + rows]).tanh().chunk(2)
                rows = first * second.sigmoid() + rows[0]
            return rows.sum()

        def step(inputs):
            with torch.enable_grad():
                w = inputs[0].detach().requires_grad_()
                return [*torch.autograd.grad(loss(w), w)]

        planned.clear()
        trace(step, [X[:3].clone()], {})
        return len(planned)

    assert count(4) == count(3)
