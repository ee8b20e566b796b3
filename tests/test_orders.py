"""Sorting, order statistics and running extremes: values, places and gradients of torch's."""

import math

import pytest
import torch
from operation_cases import numbers, off, values, values_and_gradients

from fastpoly import UnsupportedOperationError, descend
from fastpoly._fuse.program import write_for_cpu
from fastpoly._fuse.traced import traced

SLOW = pytest.mark.slow

ALONG = {
    "sort": lambda a, d: a.sort(d)[0],
    "sort, the largest first": lambda a, d: a.sort(d, descending=True)[0],
    "topk": lambda a, d: a.topk(2, d)[0],
    "topk of the least": lambda a, d: a.topk(2, d, largest=False)[0],
    "kthvalue": lambda a, d: a.kthvalue(2, d)[0],
    "median": lambda a, d: a.median(d)[0],
    "nanmedian": lambda a, d: a.nanmedian(d, keepdim=True)[0],
    "mode": lambda a, d: a.mode(d)[0],
    "cummax": lambda a, d: a.cummax(d)[0],
    "cummin": lambda a, d: a.cummin(d)[0],
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "logcumsumexp": torch.logcumsumexp,
}

PLACES = {
    "sort": lambda a, d: a.sort(dim=d, stable=True)[1].double(),
    "argsort, the largest first": lambda a, d: a.argsort(dim=d, descending=True, stable=True).double(),
    "median": lambda a, d: a.median(d)[1].double(),
    "nanmedian": lambda a, d: a.nanmedian(d)[1].double(),
    "cummax": lambda a, d: a.cummax(d)[1].double(),
    "cummin": lambda a, d: a.cummin(d)[1].double(),
}


def along(cases, dim, change=lambda a: a):
    return {name: lambda a, case=case: case(change(a), dim) for name, case in cases.items()}


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((5, 4), 0),
        ((4, 5), -1),
        ((40,), 0),
        *(pytest.param(*case, marks=SLOW) for case in [((40, 3), 0), ((3, 40), 1)]),
    ],
    ids=str,
)
def test_along_an_axis(shape, dim):
    assert off(values_and_gradients(along(ALONG, dim)), numbers(*shape)) == {}
    of_all = {"median": torch.median, "nanmedian": torch.nanmedian, "msort": torch.msort}
    assert off(values_and_gradients(of_all), numbers(*shape)) == {}


@pytest.mark.parametrize("shape", [(7, 3), (30, 3)], ids=str)
def test_equal_elements_and_what_is_no_number(shape):
    """Equals keep their order, where torch promises one; NaN is larger than all numbers."""
    few = torch.round(numbers(*shape))
    whole = along({**PLACES, "sorted": ALONG["sort"]}, 0)
    assert off(values(whole), few) == {}
    few[2, 0], few[4, 0], few[3, 1], few[1, 2] = math.nan, math.nan, math.inf, -math.inf
    own = {name: PLACES[name] for name in ("sort", "argsort, the largest first", "nanmedian", "cummax", "cummin")}
    assert off(values(along({**own, "sorted": ALONG["sort"], "median": ALONG["median"]}, 0)), few) == {}


def test_of_what_is_computed():
    """What is sorted is compared with itself, and is the same number in all loops."""
    steps = along({name: ALONG[name] for name in ("sort", "median", "cummax", "mode")}, 0, lambda a: a * a.exp() + a)
    assert off(values_and_gradients(steps), numbers(50)) == {}


def test_quantiles_of_whole_numbers_made_of_floats():
    """A float whose bounds are known may become a whole number, and name a place."""
    at = torch.tensor([0.2, 2.9, 1.5], dtype=torch.float64)
    step = values_and_gradients({"gather": lambda a: a.gather(0, torch.where(a[:3] > 9, 0.0, at).long())})
    assert off(step, numbers(5)) == {}


def test_what_is_left_open_is_refused():
    for loss, why in (
        (lambda p: p[0].topk(2, sorted=False)[0].sum(), "left open"),
        (lambda p: p[1].sort()[0][0], "3,000 elements"),
    ):
        with pytest.raises(UnsupportedOperationError, match=why):
            descend(loss, [numbers(5), numbers(3000)], learn_rate=0.1, steps=2, backend="fused")


LOG_SUMS = {
    "logcumsumexp": torch.logcumsumexp,
    "flipped": lambda a, d: torch.logcumsumexp(a.flip(d), d),
    "flipped and back": lambda a, d: torch.logcumsumexp(a.flip(d), d).flip(d),
    "flipped along another": lambda a, d: torch.logcumsumexp(a.flip(1 - d), d),
    "of what is computed": lambda a, d: torch.logcumsumexp((a * a).flip(d) - a, d),
}


@pytest.mark.parametrize("size", [5, 41])
def test_logarithms_of_sums_of_exponentials(size):
    """However far apart they are, infinite, or no numbers."""
    for a, dim in ((numbers(size, 3), 0), (numbers(3, size), -1)):
        assert off(values_and_gradients(along(LOG_SUMS, dim % 2)), a) == {}
    far = numbers(6, size) * 300
    far[0, :3], far[1, 2:4], far[2, 1], far[3], far[4, ::2] = -math.inf, math.inf, math.nan, -math.inf, 1e300
    far[4, 1::2], far[5, 0], far[5, 3] = -1e300, math.inf, -math.inf
    own = {name: LOG_SUMS[name] for name in ("logcumsumexp", "flipped", "flipped and back")}
    assert off(values(along(own, 1)), far) == {}
    assert off(values(along(own, 0)), far.T.contiguous()) == {}


@pytest.mark.parametrize("case", [torch.cumsum, torch.cumprod, torch.logcumsumexp])
def test_running_sums_take_linear_time(case):
    """As long as a loop goes, and not as long as there are pairs."""

    def cycles(size):
        return traced(lambda p: [case(p[0], 0)], [numbers(size)], {}, None, write_for_cpu)[0].cycles

    assert cycles(1000) < 15 * cycles(100)
