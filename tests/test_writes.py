"""A loss that writes into tensors of its own: fused it gives what torch's memory gives."""

import interpreted_cpu
import pytest
import torch
from operation_cases import numbers, value_and_gradients
from torch.utils import _pytree as tree

from fastpoly import UnsupportedOperationError, descend, scan
from fastpoly._fuse.reroll import rerolled
from fastpoly._fuse.scan import every
from fastpoly._fuse.trace import trace

F64 = torch.float64


@pytest.fixture
def as_python(monkeypatch):
    """No kernel is compiled."""
    interpreted_cpu.install(monkeypatch)


def filled(rows, w):
    """A new tensor that gets a value at each of these places, one after the other."""
    out = torch.zeros(len(rows), *w.shape[1:], dtype=w.dtype)
    for place in rows:
        out[place] = w[place].sin() * (place + 1)
    return out


def recursive(w):
    out = torch.zeros(9, dtype=w.dtype)
    out[0] = w[0]
    for t in range(1, 9):
        out[t] = out[t - 1] * 0.5 + w[t] ** 2
    return out.cos()


def parts(w):
    out = torch.empty(4, 5, dtype=w.dtype)
    out[:2] = w[:2].exp()
    out[2:] = w[2:].sin()
    out[1:3, 1:4] *= w[1:3, 1:4]
    out[:, ::2] += 1
    out[0, 0] = w.sum()
    return out * out


def on_a_diagonal(w):
    out = torch.zeros(4, 4, dtype=w.dtype)
    out.diagonal().copy_(w)
    out[0, 1:] = w[1:]
    out.T[0] += w
    return out @ out


def through_a_view(w):
    a = w * 2
    flat, row = a.view(-1), a[1]
    flat[3] = w.sum()
    a.mul_(w.detach())
    return row * flat[:3] + a.sum()


def a_view_of_a_view(w):
    a = w.clone()
    a[1:][:, 2].fill_(3.0)
    a[1:].t()[0].add_(w[0, 0])
    return a**2


def shapes_in_place(w):
    a = (w * 2).unsqueeze_(0)
    a = a.squeeze_(0)
    a.t_()
    return a[0] * a[1]


def by_a_mask_that_changes(w):
    a = w.clone()
    a[a.detach() > 0] = 0.0
    return a * w


def by_constant_indices(w):
    a = w.clone()
    a[torch.tensor([True, False, True])] = w[:2] ** 2
    a[torch.tensor([1, -2])] += 5
    a.index_put_((torch.tensor([0, 0, 2]),), w.sin(), accumulate=True)
    return a * w.sin()


def overwritten(w):
    a = torch.full((3, 4), 2.0, dtype=w.dtype)
    a[0] = w
    row = a[1]
    row.copy_(w.exp())
    a[:, 0].zero_()
    return a**2


def with_strides(w):
    return torch.as_strided(w * 1.5, (3, 2), (1, 2), 1) ** 2


def into_overlapping_places(w):
    """As the gradient of overlapping windows: what meets is added."""
    return w.unfold(0, 3, 2) ** 2 * torch.arange(3)


def scattered_into_slices(w):
    a = torch.slice_scatter(torch.zeros(4, 3, dtype=w.dtype), w[:2], 0, 1, 3)
    a = torch.select_scatter(a, w[2], 0, 3)
    a = torch.diagonal_scatter(a, w[0] * w[1])
    return torch.as_strided_scatter(a, w[1] ** 2, (3,), (3,), 1) ** 2


def copies_of_whole_tensors(w):
    a, b = torch.empty_like(w), torch.zeros(3, 3, dtype=w.dtype)
    a.copy_(w.exp())
    for t in range(3):
        b[t] = a[t].clone() * w[0]
    a.copy_(b)
    b[1] = 1.0
    return a * b


LOSSES = {
    "row by row": (lambda w: filled(range(7), w), (7, 3)),
    "in any order, some twice": (lambda w: filled([2, 0, 1, 2, 3], w), (5, 3)),
    "a recursion": (recursive, (9,)),
    "slices": (parts, (4, 5)),
    "a diagonal": (on_a_diagonal, (4,)),
    "through a view": (through_a_view, (2, 3)),
    "a view of a view": (a_view_of_a_view, (3, 4)),
    "shapes in place": (shapes_in_place, (3, 2)),
    "a mask that changes": (by_a_mask_that_changes, (6,)),
    "constant indices": (by_constant_indices, (3,)),
    "overwritten": (overwritten, (4,)),
    "strides": (with_strides, (6,)),
    "windows": (into_overlapping_places, (9,)),
    "scattered": (scattered_into_slices, (3, 3)),
    "copies": (copies_of_whole_tensors, (3, 3)),
}


def off(cases, carry):
    """What differs from eager torch, by name; each case has params of its own."""

    def step(carry):
        return carry, {name: value_and_gradients(case, carry[name]) for name, case in cases.items()}

    want = step(carry)[1]
    got = scan(step, carry, (), 1, backend="fused")[1]
    pairs = {name: zip(tree.tree_leaves(got[name]), tree.tree_leaves(want[name]), strict=True) for name in want}
    return {
        name: [float((g[0] - w).abs().max()) for g, w in pair]
        for name, pair in pairs.items()
        if not all(torch.allclose(g[0], w, rtol=1e-12, atol=1e-12) for g, w in pair)
    }


@pytest.mark.usefixtures("as_python")
def test_a_loss_may_write_into_its_own_tensors():
    cases = {name: loss for name, (loss, _) in LOSSES.items()}
    carry = {name: 0.5 * numbers(*shape, seed=float(i)) for i, (name, (_, shape)) in enumerate(LOSSES.items())}
    assert off(cases, carry) == {}


def test_a_tensor_filled_in_a_loop_is_a_loop():
    """As if its rows had been put into a list, and stacked: the gradient is of rows, too."""
    data = numbers(200)

    def step(carried):
        w = carried[0].detach().requires_grad_()
        with torch.enable_grad():
            out = torch.zeros(200, dtype=F64)
            out[0] = w[0]
            for t in range(1, 200):
                out[t] = out[t - 1].clone() * w[1] + data[t]
            value = (out**2).mean()
            (gradient,) = torch.autograd.grad(value, w)
        return [w.detach() - 0.1 * gradient, value.detach()]

    graph = rerolled(trace(step, [numbers(2)], {}))
    assert any(node.scan is not None for node in every(graph.nodes))
    assert len(graph.nodes) < 60


def test_what_the_step_is_given_is_not_written_to():
    def halved(w):
        with torch.no_grad():
            w.mul_(0.5)
        return (w**2).sum()

    with pytest.raises(UnsupportedOperationError, match="it writes to a tensor that the step is given"):
        descend(halved, numbers(3), learn_rate=0.1, steps=1, backend="fused")


def test_what_lies_in_one_place_is_not_written_to():
    """Torch's own strides of windows overlap: which of several values stays, nobody knows."""

    def twice(w):
        a = w * 2
        a.unfold(0, 3, 1).mul_(w[:3])
        return a.sum()

    with pytest.raises(UnsupportedOperationError, match="several elements of its tensor lie in one place"):
        descend(twice, numbers(6), learn_rate=0.1, steps=1, backend="fused")
