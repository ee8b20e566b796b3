"""gather and scatter by indices of any shape, and values that are joined of parts: the losses of eager torch."""

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend
from fastpoly._fuse.program import write_for_cpu
from fastpoly._fuse.traced import traced

D = torch.float64


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def places(below, *shape):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(1))


def agree(loss, start, steps=3):
    eager, fused = (
        descend(loss, start, learn_rate=1e-2, steps=steps, backend=backend).loss.tolist()
        for backend in ("eager", "fused")
    )
    assert fused == pytest.approx(eager, rel=1e-11)


# of the tensor, along which dimension, of the index; the gradient of scatter wants values of the index's shape
SHAPES = [
    ((6,), 0, (4,)),
    ((60,), 0, (40,)),
    ((5, 4), 0, (3, 2)),
    ((5, 4), -1, (3, 6)),
    ((30, 4, 3), 0, (20, 2, 3)),
    ((4, 3), 0, (0, 3)),
    ((4,), 0, ()),
    ((), 0, (1,)),
    ((), 0, ()),
]


@pytest.mark.parametrize(("shape", "dim", "of_index"), SHAPES)
def test_scatter(shape, dim, of_index):
    """In one loss: values and what they are put into both change; each place has its weight."""
    index = places((shape or (1,))[dim], *of_index)
    fixed, values, weights = numbers(*shape), numbers(*of_index, seed=2), numbers(*shape, seed=3)

    def loss(p):
        a, b = p
        scattered = [
            torch.scatter(fixed, dim, index, b),
            torch.scatter(a, dim, index, values),
            torch.scatter(a, dim, index, 2.5),
            torch.scatter_add(a, dim, index, b * values),
            fixed.clone().scatter_(dim, index, b),
        ]
        return sum(((part - weights) ** 2).sum() * (k + 1) for k, part in enumerate(scattered))

    agree(loss, [numbers(*shape, seed=4), numbers(*of_index, seed=5)])


@pytest.mark.parametrize(("shape", "dim", "of_index"), [s for s in SHAPES if s[2] != (0, 3)])
def test_gather(shape, dim, of_index):
    index, weights = places((shape or (1,))[dim], *of_index), numbers(*of_index, seed=3)
    agree(lambda p: ((torch.gather(p, dim, index) - weights) ** 2).sum(), numbers(*shape))


def test_what_scatter_combines_is_refused():
    with pytest.raises(UnsupportedOperationError, match="combines what meets at one place"):
        descend(
            lambda p: p.sum() + torch.scatter(p, 0, torch.tensor([1, 1]), p.detach()[:2], reduce="add").sum(),
            numbers(3),
            learn_rate=0.1,
            steps=1,
            backend="fused",
        )


def test_what_several_loops_store_is_read_after_the_last():
    x = torch.linspace(-0.5, 0.7, 40, dtype=D)

    def loss(p):
        joined = torch.cat([torch.sin(p[0] * x + p[1]), torch.exp(p) * 2 + p * p])
        return ((joined - 0.3) ** 2).sum() + ((joined[:40] - joined[41]) ** 2).sum()

    agree(loss, torch.linspace(-0.5, 0.7, 3, dtype=D))


def test_many_values_in_memory():
    """Each roll is kept for the next. The plan is looked at (see plans), and not compiled."""

    def step(carried):
        start = h = carried[0]
        for k in range(40):  # by places that differ, so that no two turns are the same
            h = torch.roll(torch.tanh(h), 1 + k * k % 7) * 1.01 + start
        return [h, (h**2).sum()]

    written, _ = traced(step, [numbers(50)], {}, 0, write_for_cpu)
    assert written.text.count("roll") + written.text.count("cat") >= 40
