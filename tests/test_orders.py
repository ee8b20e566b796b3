"""Sorting, order statistics and running extremes: values, places and gradients of torch's."""

import math
from functools import partial

import pytest
import torch
from operation_cases import numbers, off, values, values_and_gradients

from fastpoly import UnsupportedOperationError, descend, descend_many, scan
from fastpoly._fuse import own_operations, program
from fastpoly._fuse.program import write_for_cpu
from fastpoly._fuse.traced import traced
from fastpoly._fuse.write import write

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


WAYS = ("linear", "lower", "higher", "midpoint", "nearest")


@pytest.mark.parametrize("of", [torch.quantile, torch.nanquantile], ids=["quantile", "nanquantile"])
def test_levels_that_are_tensors(of):
    """Of data and of what changes; along a dimension and of everything, with NaN among the numbers."""
    levels = torch.tensor([0.1, 0.5, 0.77], dtype=torch.float64)
    cases = {
        "of data": lambda a, way: of(a, levels, dim=1, interpolation=way),
        "one of data": lambda a, way: of(a, levels[2], interpolation=way),
        "a number": lambda a, way: of(a, 0.3, dim=0, keepdim=True, interpolation=way),
        "changing": lambda a, way: of(a, a[0, :3].sigmoid(), keepdim=True, interpolation=way),
        "of one number": lambda a, way: of(a[0, 0], levels, dim=0, keepdim=True, interpolation=way),
        "one that changes": lambda a, way: of(a, a[1, 1].sigmoid(), dim=-1, keepdim=True, interpolation=way),
    }
    each = {f"{name}, {way}": partial(case, way=way) for name, case in cases.items() for way in WAYS}
    a = numbers(6, 5)
    assert off(values_and_gradients(each), a) == {}
    a[2, 3], a[4] = math.nan, math.nan
    assert off(values(each), a) == {}


def test_a_level_that_leaves_its_range_ends_the_run():
    """Then eager torch is asked, and says so."""
    start = torch.tensor(0.95, dtype=torch.float64)
    for backend in ("eager", "fused"):
        with pytest.raises(RuntimeError, match=r"q values must be in the range \[0, 1\]"):
            descend(lambda p, x: -x.quantile(p), start, numbers(9), learn_rate=1.0, steps=4, backend=backend)


def test_what_is_left_open_is_refused():
    with pytest.raises(UnsupportedOperationError, match="left open"):
        descend(lambda p: p[0].topk(2, sorted=False)[0].sum(), [numbers(5)], learn_rate=0.1, steps=2, backend="fused")


@pytest.mark.parametrize("of", [torch.unique, torch.unique_consecutive, lambda a: torch.unique(a, dim=0)])
def test_how_many_elements_differ(of):
    """Of data it is known, and of what changes no shape may be."""
    data = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    loss = lambda p, x: (p[: len(of(x))] * of(x)).square().sum()  # noqa: E731
    runs = [descend(loss, numbers(3), data, learn_rate=0.1, steps=2, backend=b).params for b in ("eager", "fused")]
    assert torch.equal(*runs)
    with pytest.raises(UnsupportedOperationError, match=r"unique.*how many different elements.*Way out: sort"):
        descend(lambda p: p.sum() * of(p.detach()).sum(), numbers(3), learn_rate=0.1, steps=2, backend="fused")


def test_a_gpu_compares_all(monkeypatch):
    """Its kernels have no turns of their own; what is too long to be compared is refused."""
    monkeypatch.setattr(own_operations, "DEVICES", frozenset())
    assert off(values_and_gradients(along(ALONG, 0)), numbers(20)) == {}
    with pytest.raises(UnsupportedOperationError, match="3,000 elements"):
        descend(lambda p: p.sort()[0][0], numbers(3000), learn_rate=0.1, steps=2, backend="fused")


# -- axes that are sorted in turns
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((17,), 0), ((3, 70), 1), *(pytest.param(*case, marks=SLOW) for case in [((70, 3), 0), ((2, 50, 3), 1)])],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_along_a_longer_axis(shape, dim, dtype):
    assert off(values_and_gradients(along(ALONG, dim)), numbers(*shape, dtype=dtype)) == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_elements_of_a_longer_axis(dtype):
    """Several blocks of equal ones, NaN beside infinities, zeros of either sign: all in torch's order."""
    whole = along({**PLACES, "sorted": ALONG["sort"]}, 0)
    few = torch.round(numbers(133, 2, dtype=dtype))
    few[::3, 1], few[1::3, 1] = 0.0, -0.0
    assert off(values({**whole, **along({"mode": ALONG["mode"]}, 0)}), few) == {}
    few[2, 0], few[50, 0], few[60:70, 0], few[3:9, 1], few[100:, 1] = math.nan, math.inf, math.nan, -math.inf, math.nan
    few[20:30, 1] = math.inf
    own = {"values, the largest first": ALONG["sort, the largest first"], "median": ALONG["median"]}
    assert off(values({**whole, **along(own, 0)}), few) == {}
    same = torch.full((100, 2), math.nan, dtype=dtype)
    same[:, 1] = 1.5
    names = ("sort", "argsort, the largest first", "cummax", "cummin")
    assert off(values(along({name: PLACES[name] for name in names}, 0)), same) == {}


@pytest.mark.parametrize("shape", [(0,), (70, 0), (1,), ()], ids=str)
def test_nothing_and_one(shape):
    cases = {name: ALONG[name] for name in ("sort", "sort, the largest first")}
    for dim in range(-max(len(shape), 1), 0):
        own = dict(cases)
        if (shape and shape[dim]) or not shape:
            own.update({name: ALONG[name] for name in ("cummax", "cummin")})
        assert off(values(along(own, dim)), torch.ones(shape, dtype=torch.float64)) == {}


def test_whole_numbers_and_truths():
    cases = {
        "rank": lambda a: a.argsort(stable=True).argsort(stable=True),
        "rank from the largest": lambda a: a.argsort(stable=True, descending=True).argsort(stable=True),
        "truths": lambda a: (a > 0).sort(stable=True)[1],
        "places of truths": lambda a: (a > 0).sort(stable=True)[0],
        "cummax": lambda a: a.argsort().cummax(0)[0],
        "cummin, places": lambda a: a.argsort().cummin(0)[1],
        "mode": lambda a: (a.argsort() // 3).mode(0)[0],
        "taken in order": lambda a: a[a.argsort()],
        "kthvalue": lambda a: a.kthvalue(7)[1],
    }
    cases = {name: lambda a, case=case: case(a).double() for name, case in cases.items()}
    assert off(values(cases), numbers(90)) == {}


def ends_where_eager_ends(loss, params, data, steps, learn_rate=0.3):
    fused, eager = (
        descend(loss, params, data, learn_rate=learn_rate, steps=steps, backend=backend)
        for backend in ("fused", "eager")
    )
    torch.testing.assert_close(fused.params, eager.params, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, t: 100 * (p.sort().values - t).square().mean(),
        lambda p, t: 100 * (p.sort(descending=True).values - t).square().mean(),
        lambda p, t: 100 * (p.relu().sort().values - t).square().mean(),
        lambda p, t: 100 * (p - t).square().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=p.dtype)).sum(),
    ],
    ids=["sort", "from the largest", "zeros that come and go", "quantiles"],
)
def test_an_order_that_changes_from_step_to_step(loss):
    """A step begins with the order of the step before, and what it comes to does not depend on that."""
    ends_where_eager_ends(loss, numbers(300), (numbers(300, seed=0.3),), 60)


@pytest.mark.parametrize("size", [3000, pytest.param(20_001, marks=SLOW)])
def test_many_elements(size):
    loss = lambda p, t: 1000 * (p.sort().values - t).square().mean()  # noqa: E731
    ends_where_eager_ends(loss, numbers(size), (numbers(size, seed=0.3),), 3)


def in_python(p, x):
    total = p.square().sum()
    for row in x:
        total = total + (p.sort().values * row).sum() + (p * row).sort().values[:10].sum() / 10
    return total / 100


def in_a_circle(p, x):
    for row in x:
        p = torch.tanh(p.sort().values / 2 + row)
    return p.square().mean()


def in_a_scan(p, x):
    def step(h, row):
        h = torch.tanh(h.sort().values / 2 + row)
        return h, h.cummax(0).values.sum() + h.kthvalue(9)[0]

    last, sums = scan(step, p, (), xs=x)
    return last.square().mean() + sums.square().mean() / 1000


@pytest.mark.parametrize("loss", [in_python, in_a_circle, in_a_scan])
def test_sorting_in_a_loop(loss):
    ends_where_eager_ends(loss, numbers(64), (numbers(12, 64, seed=0.2),), 5, 0.05)


def test_many_problems_that_sort():
    def loss(p, t):
        return (p.sort().values - t).square().sum()

    starts, targets = numbers(7, 64), numbers(7, 64, seed=0.5)
    found = descend_many(loss, starts, (targets,), in_dims=0, learn_rate=0.1, steps=9)
    for start, target, end in zip(starts, targets, found.params, strict=True):
        alone = descend(loss, start, (target,), learn_rate=0.1, steps=9, backend="eager")
        torch.testing.assert_close(end, alone.params, rtol=1e-10, atol=0)


@pytest.mark.parametrize("sorts_samples", [False, True])
def test_threads_share_samples_that_are_not_sorted(monkeypatch, sorts_samples):
    """Each sorts for itself what is no sample; where samples are sorted, one thread has them all."""
    threads = set()

    def written(schedule, dtype, stop_at, count, left):
        threads.add(count)
        return write(schedule, dtype, stop_at, count, left)

    monkeypatch.setattr(program, "processors", lambda: 3)
    monkeypatch.setattr(program, "write", written)

    def loss(p, x, y):
        q = p.sort().values
        of_samples = (q[3] * x + torch.exp(q[10] * x) * q[20] - y).square()
        return (of_samples.sort().values if sorts_samples else of_samples).mean() + (q - p.mean()).square().mean()

    data = numbers(100_000, seed=0.2), numbers(100_000, seed=0.9)
    ends_where_eager_ends(loss, numbers(40), data, 4, 0.05)
    assert threads == {1 if sorts_samples else 3}


@pytest.mark.filterwarnings("ignore::fastpoly.DivergenceWarning")
def test_a_run_that_diverges_says_when():
    def loss(p):
        return (p.sort().values * torch.arange(40)).square().sum()

    fused, eager = (
        descend(loss, numbers(40), (), learn_rate=1e3, steps=200, backend=backend) for backend in ("fused", "eager")
    )
    assert fused.diverged_at == eager.diverged_at < 200
    assert fused.steps == eager.steps


def test_a_gather_by_places_that_change_has_a_gradient_in_linear_time():
    def picked(a):
        places = a.argsort().clamp(max=40)
        return a.gather(0, places) * a

    assert off(values_and_gradients({"gather": picked}), numbers(90)) == {}
    assert cycles_of(picked, 1000) < 15 * cycles_of(picked, 100)


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


def cycles_of(case, size):
    """About how many a step takes."""

    def step(params):
        (own,) = (param.detach().requires_grad_() for param in params)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(case(own).square().sum(), own)
        return [own.detach() - gradient]

    return traced(step, [numbers(size)], {}, None, write_for_cpu)[0].cycles


@pytest.mark.parametrize(
    "case", [torch.cumsum, torch.cumprod, torch.logcumsumexp, lambda a, d: a.cummax(d)[0], lambda a, d: a.cummin(d)[0]]
)
def test_running_sums_take_linear_time(case):
    """As long as a loop goes, and not as long as there are pairs, which are 100 times as many."""
    assert cycles_of(lambda a: case(a, 0), 1000) < 30 * cycles_of(lambda a: case(a, 0), 100)


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue", "median", "nanmedian", "mode"])
def test_sorting_takes_little_more_than_linear_time(name):
    assert cycles_of(lambda a: ALONG[name](a, 0), 1000) < 18 * cycles_of(lambda a: ALONG[name](a, 0), 100)
