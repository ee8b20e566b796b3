"""Losses of many samples in several programs of the GPU, which meet for their sums."""

import warnings
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
import zoo
from machine_code_gpu import ARCHITECTURES, compiled_launches, opcodes
from races import races
from test_fused_gpu import FEW, off
from test_races import descent, written
from torch.utils import _pytree as tree

from fastpoly import descend

DOUBLE = torch.float64


@contextmanager
def card(multiprocessors, meeting=1e-12, block=1024):
    """While it lasts, kernels are written for a GPU of so many multiprocessors, on which a meeting takes so long."""
    from fastpoly._fuse import gpu_builder, gpu_grid, gpu_program, traced

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_program, "multiprocessors", lambda: multiprocessors)
        patch.setattr(gpu_grid, "MEETING", meeting)
        patch.setattr(gpu_builder, "LARGEST_BLOCK", block)
        patch.setattr(traced, "_known", OrderedDict())
        yield


# -- interpreted
# ----------------------------------------------------------------------------------------


def descended(name, dtype, n, programs, steps=3, block=1024, **options):
    """In the process of the fixture `interpreted`: (params, losses, diverged_at, the page)."""
    import interpreted_gpu  # noqa: F401

    model = zoo.model(name, dtype, n) if name in zoo.NAMES else by_largest(dtype, n)
    options = {"learn_rate": model.learn_rate, **options}
    with warnings.catch_warnings(), card(programs, block=block):
        warnings.simplefilter("ignore")  # numpy's, of elements that are masked
        run = descend(model.loss, model.params, model.data, steps=steps, backend="triton", **options)
    return run.params, run.loss, run.diverged_at, run.source


def by_largest(dtype, n):
    """Three weights, by the largest error: no sum."""
    x = torch.sin(torch.arange(3 * n, dtype=dtype)).reshape(n, 3)
    data = x, x @ torch.linspace(-1, 1, 3, dtype=dtype) + 0.1 * x[:, 0] ** 2
    return zoo.Model("largest", largest, torch.zeros(3, dtype=dtype), data, 0.01)


def largest(w, x, y):
    error = (x @ w - y).abs()
    return error.max() + 0.1 * error.mean() + (w**2).sum()


@pytest.mark.parametrize(
    ("name", "dtype", "n", "programs"),
    [
        ("polynomial", "float64", 2049, 2),  # the last block has one sample
        ("polynomial", "float32", 5000, 3),  # 5 blocks for 3 programs
        ("softmax", "float64", 4096, 4),  # no block is masked
        ("largest", "float64", 3000, 3),
        pytest.param("linear-64", "float64", 2000, 2, marks=pytest.mark.slow),  # sums in memory
    ],
)
def test_several_programs_take_torchs_steps(interpreted, name, dtype, n, programs):
    dtype = getattr(torch, dtype)
    params, losses, diverged_at, page = interpreted(descended, name, dtype, n, programs)
    model = zoo.model(name, dtype, n) if name in zoo.NAMES else by_largest(dtype, n)
    want, expected = zoo.eager(model, 3)
    bound = FEW[str(dtype).removeprefix("torch.")]
    assert f"in {programs} programs" in page
    assert off(params, want) <= bound
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=bound)
    assert diverged_at is None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_zoo_in_small_blocks(interpreted, name, dtype):
    """A hundred samples in four blocks, for three programs."""
    params, losses, _, page = interpreted(partial(descended, block=32), name, dtype, 100, 3)
    want, expected = zoo.eager(zoo.model(name, dtype), 3)
    bound = FEW[str(dtype).removeprefix("torch.")]
    assert "in 3 programs" in page
    assert off(params, want) <= bound
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=bound)


@pytest.mark.slow
def test_bits_repeat(interpreted):
    """Whoever comes to a meeting first."""
    runs = [interpreted(descended, "softmax", DOUBLE, 3000, 3) for _ in range(2)]
    assert torch.equal(runs[0][1], runs[1][1])
    assert all(torch.equal(runs[0][0][key], runs[1][0][key]) for key in runs[0][0])


@pytest.mark.slow
def test_kept_losses(interpreted):
    whole = interpreted(descended, "polynomial", DOUBLE, 2100, 2, 5)
    some = interpreted(partial(descended, trace_every=3), "polynomial", DOUBLE, 2100, 2, 5)
    assert some[1].tolist() == whole[1][::3].tolist()
    assert torch.equal(whole[0], some[0])


@pytest.mark.slow
def test_divergence(interpreted):
    """All programs see the same loss, and take the same number of steps."""
    fast = partial(descended, learn_rate=0.1)
    one, several = (interpreted(fast, "polynomial", torch.float32, 2500, count, 12) for count in (1, 3))
    assert several[2] == one[2] < 12
    assert len(several[1]) == several[2]
    assert off(several[0], one[0]) < 1e-3


# -- how many
# ----------------------------------------------------------------------------------------


def programs(model, multiprocessors=132, **options):
    """How many programs a step of gradient descent has."""
    with card(multiprocessors, **options):
        page = written(descent(model.loss, model.data), model.params)[0]
    return int(page.partition(" programs of")[0].split()[-1]) if " programs of" in page else 1


def test_as_many_as_have_work_between_meetings():
    counts = [programs(zoo.model("tanh-network", torch.float32, n), meeting=2e-6) for n in (1000, 3000, 30_000, 10**6)]
    assert counts[0] == 1  # one block
    assert sorted(counts) == counts
    assert counts[-1] == 132
    cheap = zoo.model("polynomial", torch.float32, 3000)
    assert programs(cheap, meeting=2e-6) == 1
    assert programs(cheap) == 3  # of three blocks each has one
    assert programs(cheap, 1) == 1


def test_samples_that_look_at_each_other_are_not_shared():
    model = by_largest(DOUBLE, 5000)
    neighbours = replace(model, loss=lambda w, x, y: ((torch.tanh(x @ w).roll(1) - y) ** 2).mean())
    assert programs(model) == 5
    assert programs(neighbours) == 1


# -- compiled, and as texts
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.NAMES)
def test_warps_do_not_come_into_each_others_way(name):
    model = zoo.model(name, torch.float32, 3000)
    with card(3):
        page, memories = written(descent(model.loss, model.data), model.params)
    assert "in 3 programs" in page
    assert races(page, memories) == []


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", ["polynomial", "linear-64"])
def test_programs_meet_in_the_second_cache(name, arch):
    """As real launches for an absent GPU: counted when all is stored, and read when all are counted."""
    from fastpoly._fuse import gpu_program

    model = zoo.model(name, torch.float32, 5000)
    leaves, structure = tree.tree_flatten(model.params)

    def step(carried):
        return tree.tree_leaves(descent(model.loss, model.data)(tree.tree_unflatten(carried, structure)))

    with card(4):
        of = gpu_program.program(step, leaves, {}, 0 if name == "polynomial" else None)
    launched = []
    run = of.start(leaves)
    with compiled_launches(arch, launched) as codes:
        run._launch(1, 1, 0)
    assert [(launch["grid"], launch["launch_cooperative_grid"]) for launch in launched] == [((4,), True)]
    (code,) = codes
    polls = [loop for loop in code.loops if any("STRONG.GPU" in line for line in loop) and len(loop) < 30]
    meetings = of.written.text.count("meet(counter")
    assert len(polls) == meetings == {"polynomial": 1, "linear-64": 2}[name]
    for loop in polls:
        used = opcodes(loop)
        assert used["CCTL"] == 1  # the first cache forgets what others have stored since
        assert used["BAR"] == 2  # all warps leave together
    assert opcodes(code.instructions)["MEMBAR"] == meetings
    assert code.stack == code.local == 0


# -- with a GPU
# ----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", ["polynomial", "tanh-network", "linear-64"])
def test_a_hundred_thousand_samples_on_the_gpu(name, dtype):
    """As on the CPU in double, and twice the same bits."""
    model = zoo.model(name, dtype, 100_000)
    params, data = tree.tree_map_only(torch.Tensor, lambda tensor: tensor.cuda(), (model.params, model.data))
    options = dict(learn_rate=model.learn_rate, steps=50, backend="triton")
    runs = [descend(model.loss, params, data, **options) for _ in range(2)]
    want, expected = zoo.eager(zoo.model(name, DOUBLE, 100_000), 50)
    bound = {DOUBLE: 1e-10, torch.float32: 1e-3}[dtype]
    assert off(tree.tree_map(lambda leaf: leaf.cpu().double(), runs[0].params), want) <= bound
    assert runs[0].loss.cpu().tolist() == pytest.approx(expected.tolist(), rel=bound)
    assert torch.equal(runs[0].loss, runs[1].loss)
    if torch.cuda.get_device_properties(0).multi_processor_count > 1:
        assert "programs of" in runs[0].source
