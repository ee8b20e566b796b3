"""Products of matrices, which the fused loop takes tile by tile: the same numbers as eager torch.

Sizes on both sides of what changes the plan: fewer rows than a tile has, rows that do not fill a register or a tile,
columns that fill no tile, more terms than are summed up at a time, as many features as samples. The kernels run as the
Python that they are, with every access checked; one of each dtype runs as machine code.
"""

import itertools

import interpreted_cpu
import pytest
import torch
from operation_cases import numbers, off, values_and_gradients

from fastpoly import descend
from fastpoly._fuse import blocks, program, schedule, tiles, traced


@pytest.fixture
def written(monkeypatch):
    """The products that were taken in tiles, as (rows, columns, terms)."""
    found = []
    write = tiles.write_product

    def seen(builder, product, part, begun=False):
        found.append((product.row.size, product.column.size, product.over.size))
        write(builder, product, part, begun)

    monkeypatch.setattr("fastpoly._fuse.nests.write_product", seen)
    monkeypatch.setattr(traced, "_known", type(traced._known)())  # what is known already is not written
    return found


@pytest.fixture
def as_python(monkeypatch):
    """No kernel is compiled."""
    interpreted_cpu.install(monkeypatch)


def split(w, *shapes):
    """Parts of a vector, each in a shape."""
    parts, start = [], 0
    for shape in shapes:
        count = torch.Size(shape).numel()
        parts.append(w[start : start + count].reshape(shape))
        start += count
    return parts


def of(*shapes):
    """A case with matrices of these shapes made of its params."""

    def made(function):
        return lambda w: function(*split(w, *shapes))

    return made


X = numbers(57, 24, seed=3.0)
BATCH = numbers(3, 33, 20, seed=4.0)
MANY = numbers(41, 9, 20, seed=5.0)

PRODUCTS = {
    "mm": of((24, 21))(lambda w: X @ w),
    "transposed": of((21, 24))(lambda w: X @ w.T),
    "transposed twice": of((57, 21))(lambda w: (w.T @ X).T),
    "of params alone": of((20, 33), (33, 40))(lambda a, b: a @ b),
    "with itself": of((20, 33))(lambda a: a @ a.T),
    "addmm": of((24, 21), (21,))(lambda w, b: torch.addmm(b, X, w, beta=0.5, alpha=2)),
    "activated": of((24, 21), (21, 19))(lambda a, b: torch.relu(torch.tanh(X @ a) @ b)),
    "of masked weights": of((24, 21))(lambda w: X @ (w * (w > 0))),
    "of scaled rows": of((24, 21), (57, 1))(lambda w, s: (X * s) @ w),
    "of every other row": of((48, 21))(lambda w: X @ w[::2]),
    "of a part": of((24, 40))(lambda w: X @ w[:, 3:24]),
    "in a batch": of((3, 20, 18))(lambda w: BATCH @ w),
    "in a batch, transposed": of((3, 18, 20))(lambda w: BATCH @ w.mT),
    "one for a batch": of((20, 18))(lambda w: BATCH @ w),
    "einsum": of((3, 18, 20))(lambda w: torch.einsum("bij,bkj->ikb", BATCH, w)),
    "two of a kind": of((24, 21), (24, 21))(lambda a, b: torch.sigmoid(X @ a) * (X @ b)),
    "of each sample, with loops over all": of((41, 20, 18))(lambda w: MANY.repeat(1, 2, 1) @ w),
    "of each sample and each part": of((3, 20, 20))(lambda w: (MANY[:, :3, None] @ w)[:, :, 0]),
    "attention": of((20, 20), (20, 20))(lambda q, k: ((BATCH @ q) @ (BATCH @ k).mT).softmax(-1) @ BATCH),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_value_and_gradient_are_torchs(name, as_python, written):
    assert off(values_and_gradients({name: PRODUCTS[name]}), 0.3 * numbers(15000)) == {}
    assert written


def test_what_is_multiplied_is_in_memory(as_python, written):
    """Weights that are computed are so once, and not in the innermost loop."""
    assert off(values_and_gradients({"masked": PRODUCTS["of masked weights"]}), 0.3 * numbers(504)) == {}
    assert sorted(written) == [(24, 21, 57), (57, 21, 24)]


def test_of_nothing(as_python):
    x = numbers(24, 24)
    cases = {
        "no rows": lambda w: w[:0].reshape(0, 24) @ x * w.sum(),
        "no terms": lambda w: x[:, :0] @ w.reshape(24, 21)[:0],
    }
    assert off(values_and_gradients(cases), numbers(504)) == {}


def network(params, x, y):
    h = x
    for w, b in params[:-1]:
        h = torch.tanh(h @ w + b)
    w, b = params[-1]
    return ((h @ w + b - y) ** 2).mean()


def of_widths(n, widths, dtype):
    """(params, data) of a network."""
    widths = (8, *widths, 1)
    params = [
        (numbers(a, b, seed=float(a), dtype=dtype) / a**0.5, 0.1 * numbers(b, dtype=dtype))
        for a, b in itertools.pairwise(widths)
    ]
    return params, (numbers(n, 8, dtype=dtype), numbers(n, 1, seed=2.0, dtype=dtype))


def refuse_others(params, data, rounding, steps=2):
    """Assert that a descent is eager torch's."""
    runs = [descend(network, params, data, learn_rate=0.05, steps=steps, backend=b) for b in ("eager", "fused")]
    assert torch.allclose(runs[1].loss, runs[0].loss, rtol=rounding)
    for want, got in zip(*(torch.utils._pytree.tree_leaves(run.params) for run in runs), strict=True):
        assert (got - want).abs().max() <= rounding * want.abs().max()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("n", "widths"), [(130, (20, 27)), (24, (24, 24)), (9, (31, 17))])
def test_networks(n, widths, threads, as_python, written, monkeypatch):
    monkeypatch.setattr(program, "CYCLES", 1)
    monkeypatch.setattr(program, "CYCLES_A_SUM", 0)
    monkeypatch.setattr(program, "processors", lambda: threads)
    refuse_others(*of_widths(n, widths, torch.float64), 1e-12)
    assert {tuple(sorted(sizes)) for sizes in written} == {tuple(sorted((n, *widths)))}


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_of_samples(threads, as_python, written, monkeypatch):
    monkeypatch.setattr(program, "CYCLES", 1)
    monkeypatch.setattr(program, "CYCLES_A_SUM", 0)
    monkeypatch.setattr(program, "processors", lambda: threads)
    monkeypatch.setattr(blocks, "MATRICES", 2**16)
    monkeypatch.setattr(blocks, "LEAST_TERMS", 1)
    params, data = of_widths(170, (20, 27), torch.float64)
    refuse_others(params, data, 1e-12)
    run = descend(network, params, data, learn_rate=0.05, steps=1, backend="fused")
    assert "for begin in range" in run.source


def test_more_terms_than_are_summed_up_at_a_time(as_python, written, monkeypatch):
    monkeypatch.setattr(tiles, "SPAN", 2)
    refuse_others(*of_widths(130, (20, 27), torch.float64), 1e-12)


def test_within_a_loop_over_time(as_python, written):
    """As of a recurrent layer: the rows are those of one time step."""
    x = numbers(30, 40, 20)

    def loss(params):
        a, b = params
        h = torch.zeros(40, 20, dtype=a.dtype)
        for t in range(30):
            h = torch.tanh(x[t] @ a + h @ b)
        return (h**2).mean()

    params = [0.2 * numbers(20, 20), 0.2 * numbers(20, 20, seed=1.0)]
    runs = [descend(loss, params, learn_rate=0.1, steps=2, backend=b) for b in ("eager", "fused")]
    assert torch.allclose(runs[1].loss, runs[0].loss, rtol=1e-12)
    for want, got in zip(runs[0].params, runs[1].params, strict=True):
        assert torch.allclose(want, got, rtol=1e-12, atol=1e-14)
    assert written


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_as_machine_code(dtype, rounding, written):
    params, data = of_widths(277, (50, 45), dtype)
    refuse_others(params, data, rounding)
    assert written
    first, second = (descend(network, params, data, learn_rate=0.05, steps=9, backend="fused") for _ in range(2))
    assert torch.equal(first.loss, second.loss)


@pytest.mark.parametrize("batch", [(20, 3), (3, 20), (3, 5), (20, 20), (2, 3, 5)])
def test_a_batch_of_several_dimensions_is_read_as_one(batch, as_python, monkeypatch):
    """Of which some have a loop and others have none, and all of them together have one."""
    monkeypatch.setattr(schedule, "unrolled_up_to", lambda *_: 4)
    a, b, count = numbers(*batch, 2, 6), numbers(*batch, 6, 2, seed=2.0), torch.Size(batch).numel()

    def loss(params, x):
        a, b = params
        products = torch.bmm(a.reshape(count, 2, 6), b.reshape(count, 6, 2))
        return ((products * x[:, None, None]).tanh() * products.flip(0)).sum()

    runs = [descend(loss, [a, b], (numbers(count),), learn_rate=1e-2, steps=2, backend=k) for k in ("eager", "fused")]
    assert torch.allclose(runs[1].loss, runs[0].loss, rtol=1e-12)
    for want, got in zip(runs[0].params, runs[1].params, strict=True):
        assert torch.allclose(want, got, rtol=1e-12, atol=1e-14)


@pytest.fixture
def laid_out(monkeypatch):
    """The size of the axis that registers run along, of each kernel."""
    found = set()
    write = program.write

    def seen(schedule, *arguments):
        found.add(schedule.samples)
        return write(schedule, *arguments)

    monkeypatch.setattr(program, "write", seen)
    monkeypatch.setattr(traced, "_known", type(traced._known)())  # what is known already is not laid out
    return found


@pytest.mark.parametrize(("batch", "times"), [(16, 3), (24, 3), (20, 5), (5, 20)])
def test_layers_of_a_batch_and_its_times(batch, times, as_python, laid_out):
    """A layer flattens all but the features, and registers run along these, also where a batch is as large."""
    x = numbers(batch, times, 16)

    def loss(params, x):
        scale, a, b = params
        inner = torch.nn.functional.layer_norm(x * scale, (16,)) @ a
        return ((x + torch.tanh(inner) @ b) ** 2).mean()

    params = [1 + 0.1 * numbers(16), 0.3 * numbers(16, 24), 0.3 * numbers(24, 16, seed=2.0)]
    runs = [descend(loss, params, (x,), learn_rate=0.05, steps=2, backend=k) for k in ("eager", "fused")]
    assert torch.allclose(runs[1].loss, runs[0].loss, rtol=1e-12)
    for want, got in zip(runs[0].params, runs[1].params, strict=True):
        assert torch.allclose(want, got, rtol=1e-12, atol=1e-14)
    assert laid_out <= {16, 24}


@pytest.mark.parametrize("images", [2, 6, 12])
def test_images(images, as_python):
    """Also as many as a side is long."""
    x = numbers(images, 1, 12, 12)

    def loss(kernel, x):
        return (torch.nn.functional.conv2d(x, kernel, padding=1) - x).tanh().square().mean()

    kernel = 0.2 * numbers(1, 1, 3, 3)
    runs = [descend(loss, kernel, (x,), learn_rate=0.05, steps=2, backend=k) for k in ("eager", "fused")]
    assert torch.allclose(runs[1].params, runs[0].params, rtol=1e-12)
