"""Whole numbers and truths that a step carries, and places that change: as eager torch has them, or refused by name."""

import interpreted_cpu
import pytest
import torch

from fastpoly import UnsupportedOperationError, descend, scan

BACKENDS = ("fused", "compile", "eager")
X = torch.linspace(-1, 1, 11, dtype=torch.float64)


def ran(step, carry, data=(), length=40, backend="fused"):
    return scan(step, carry, data, length, backend=backend)


def assert_same(step, carry, data=(), length=40, backends=BACKENDS[:1]):
    (want, outputs) = ran(step, carry, data, length, "eager")
    for backend in backends:
        got, results = ran(step, carry, data, length, backend)
        for one, other in zip([*got, *results], [*want, *outputs], strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["fused", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_place_that_wraps_around(backend):
    def step(carry, xs):
        w, place = carry
        x = xs.gather(0, place.reshape(1))[0]
        return (w + 0.1 * (x - w), (place + 1) % len(xs)), (w, place)

    start = torch.zeros((), dtype=torch.float64), torch.tensor(3)
    assert_same(step, start, X, backends=[backend])


@pytest.mark.parametrize("shape", [(), (5,), (3, 17), (40, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_row_of_each_step(shape, dtype, monkeypatch):
    rows = torch.randn(13, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype)

    def step(carry, rows):
        w, place = carry
        row = rows.gather(0, place.expand(1, *shape))[0]
        return (w * 0.9 + (row * row).sum() * 0.01, (place + 1) % 13), row + w

    start = torch.ones((), dtype=dtype), torch.tensor(0)
    want = scan(step, start, rows, 30, backend="eager")[1]
    torch.testing.assert_close(scan(step, start, rows, 30, backend="fused")[1], want)
    interpreted_cpu.install(monkeypatch)  # every access to memory is checked
    torch.testing.assert_close(scan(step, start, rows, 30, backend="fused")[1], want)


def test_a_counter_a_truth_and_numbers_of_other_dtypes():
    def step(carry):
        w, count, is_up, small = carry
        w = torch.where(is_up, w + 1, w - 0.5) + 0.001 * count.double()
        return (w, count + (w > 2).long(), ~is_up & (w < 5), (small + 7) % 100), (w, count, is_up, small)

    start = (
        torch.zeros(3, dtype=torch.float64),
        torch.tensor([5, -5, 2**50]),
        torch.tensor([True, False, True]),
        torch.tensor(3, dtype=torch.int32),
    )
    assert_same(step, start)


def test_whole_numbers_alone():
    assert_same(lambda carry: (((carry[0] * 5 + 3) % 16,), (carry[0],)), (torch.tensor(1),))


@pytest.mark.parametrize(
    ("step", "start", "match"),
    [
        (lambda c: ((c[0], c[1] * 2), (c[0],)), 1, "beyond what is exact"),
        (lambda c: ((c[0] + c[1], c[1] + 17), (c[0],)), 1, "beyond what is exact"),
        (lambda c: ((c[0], c[1] + c[1]), (c[0],)), 1, "beyond what is exact"),
        (lambda c: ((c[0] + c[1], c[1] + 1), (c[0],)), 2**52, "wants to be between"),
        (lambda c: ((c[0], (c[1] + 1) % 7), (c[0],)), 7, "wants to be between 0 and 6"),
        (lambda c: ((c[0] + c[1].double().sqrt(), c[0].long()), (c[0],)), 1, "whole numbers of floats"),
    ],
)
def test_what_may_leave_the_exact_is_refused(step, start, match):
    carry = torch.ones((), dtype=torch.float64), torch.tensor(start)
    with pytest.raises(UnsupportedOperationError, match=match):
        scan(step, carry, (), 5, backend="fused")


def test_a_counter_in_float32_is_exact_or_refused():
    def step(c):
        return (c[0], c[1] + 1), c[0] / c[1]

    first = torch.ones(()), torch.tensor(2**23 - 3)
    assert_same(step, first, length=1000)
    with pytest.raises(UnsupportedOperationError, match="is 8,388,610 before it, and wants to be between"):
        scan(step, (torch.ones(()), torch.tensor(2**23 + 2)), (), 5, backend="fused")
    with pytest.raises(UnsupportedOperationError, match="exact in float32"):
        scan(lambda c: ((c[0] + c[1], c[1] + 2), (c[0],)), first, (), 5, backend="fused")


def test_a_counter_in_float32_is_looked_at_between_portions():
    count, options = torch.tensor(2**23 - 3), {"learn_rate": 0.1, "steps": 20, "backend": "fused"}

    def loss(w):
        return (w / count.add_(1)).square()

    with pytest.raises(UnsupportedOperationError, match="is 8,388,609 before it, and wants to be between"):
        descend(loss, torch.ones(()), callback=lambda *_: None, callback_every=4, **options)


def test_a_counter_that_nothing_reads_has_no_bounds():
    assert_same(
        lambda c: ((c[0] * 0.9, c[1] + 1000, c[2] - 3), (c[0],)), (torch.ones(()), torch.tensor(2**40), torch.arange(3))
    )


@pytest.mark.parametrize("by", [100, -100])
def test_places_that_may_not_exist_are_refused(by):
    """Eager torch raises; a kernel would read what is not the tensor's."""

    def loss(w, x):
        return (w * w).sum() + x.gather(0, (w.max(0).indices + by).reshape(1)).sum()

    start = torch.rand(5, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="may lie outside of the 11 places"):
        descend(loss, start, X, learn_rate=0.1, steps=2, backend="fused")


@pytest.mark.parametrize("by", [0, 100, -100])
def test_places_that_exist_are_fused(by):
    def loss(w, x):
        return (w * w).sum() + (w * x.gather(0, (w.max(0).indices + by).clamp(0, 10).reshape(1))).sum()

    start = torch.rand(5, dtype=torch.float64)
    options = dict(learn_rate=0.1, steps=20)
    fused, eager = (descend(loss, start, X, backend=backend, **options).loss for backend in ("fused", "eager"))
    torch.testing.assert_close(fused, eager, rtol=1e-12, atol=1e-12)


def test_complex_carries_are_refused():
    with pytest.raises(TypeError, match="carry: wants real numbers"):
        scan(lambda c: (c, c), torch.ones(2, dtype=torch.complex128), (), 3)
