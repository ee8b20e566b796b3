"""No two warps of a fused GPU kernel come into each other's way: see `races`. Texts alone, nothing is compiled."""

import pytest
import torch
import zoo
from hypothesis import given, settings
from races import races
from recurrent_losses import recurrent
from test_operations_complete import every_step
from test_random_graphs import AS_DRAWN, losses
from torch.utils import _pytree as tree

from fastpoly._fuse import own_operations
from fastpoly._fuse.gpu_program import write_for_gpu
from fastpoly._fuse.traced import traced

# -- the finder
# ----------------------------------------------------------------------------------------


def found(*lines):
    """The races in a loop of these lines, as pairs of them."""
    before = ["i = tl.arange(0, 128)", "there = i < 100"]
    text = ["def kernel(carry, data, scratch, steps):", *(f"    {line}" for line in before)]
    text += ["    for step in range(steps):", *(f"        {line}" for line in lines)]
    return {(earlier.line, later.line) for earlier, later in races("\n".join(text), [("scratch", 600, 1000)])}


STORE = "tl.store(scratch + i, a, mask=there)"
LOAD = "b = tl.load(scratch + 99 - i, mask=there)"
BARRIER = "tl.debug_barrier()  # why"


def test_what_is_stored_is_loaded_after_a_barrier():
    """And stored again in the next step, after another."""
    assert found(STORE, LOAD) == {(STORE, LOAD), (LOAD, STORE)}
    assert found(STORE, BARRIER, LOAD) == {(LOAD, STORE)}
    assert found(STORE, LOAD, BARRIER) == {(STORE, LOAD)}
    assert found(STORE, BARRIER, LOAD, BARRIER) == set()


@pytest.mark.parametrize(
    ("place", "shared"),
    [
        ("scratch + 99", True),
        ("scratch + 100", False),  # the mask ends before
        ("carry + 99", False),
        ("scratch + 2 * i + 100", False),
        ("scratch + ((i) // 2) + 60", True),
        ("scratch + ((i) % 3) + 98", True),
        ("scratch + ((i) % 3) + 100", False),
        ("scratch + 300 + -1 * i", False),
        ("scratch + 500 + 3 * (which).to(tl.int32)", True),  # wherever that is
        ("scratch + 600 + i + 3 * (which).to(tl.int32)", False),  # in the memory that begins there
    ],
)
def test_the_elements_that_two_accesses_share(place, shared):
    load = f"b = tl.load({place}, mask=there)"
    races = {(STORE, load), (load, STORE)} if shared else set()
    assert found(STORE, load) == races


def test_loops_and_blocks():
    """An element that only the last turn of a loop, in the last block, comes to."""
    store, load = "tl.store(scratch + at + 1000 * k, a, mask=at < 1000)", "b = tl.load(scratch + {})"
    text = ["for k in range(0, 5, 2):", "    for block in range(0, 1000, 512):"]
    text += ["        at = block + tl.arange(0, 512)", f"        {store}"]
    for place, shared in ((4999, True), (5000, False), (1500, False), (0, True)):
        assert found(*text, BARRIER, (line := load.format(place))) == ({(line, store)} if shared else set())


def test_a_loop_follows_on_itself():
    """What one turn stores another one loads."""
    load, store = "a = tl.load(scratch + k + 1)", "tl.store(scratch + k, a)"
    assert found("for k in range(5):", f"    {load}", f"    {store}", BARRIER) == {(load, store), (store, load)}


def test_a_barrier_that_is_not_for_all_is_none():
    assert found(STORE, "if wait == 0:", f"    {BARRIER}", LOAD, BARRIER) == {(STORE, LOAD)}


def test_an_element_is_stored_twice():
    """By the same thread in the next step; by another one from another line."""
    assert found(STORE) == set()
    other = "tl.store(scratch + 5, c)"
    assert found(STORE, other, BARRIER) == {(STORE, other)}


def test_a_line_loads_before_it_stores():
    line = "tl.store(scratch + 7, tl.load(scratch + 7) + 1.0)"
    assert found(line, BARRIER) == {(line, line)}
    (race,) = races(f"def kernel():\n    for step in range(steps):\n        {line}\n        tl.debug_barrier()")
    assert [access.kind for access in race] == ["load", "store"]


# -- the kernels
# ----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def traced_as_on_a_gpu(monkeypatch):
    """Which has no operations that take turns of their own."""
    monkeypatch.setattr(own_operations, "DEVICES", frozenset())


def races_of(step, carry):
    """The races in the kernel of a step of `scan`."""
    text, memories = written(step, carry)
    return races(text, memories)


def written(step, carry):
    """The kernel of a step of `scan`, and where things lie."""
    leaves, structure = tree.tree_flatten(carry)
    schedules = []

    def write(*graph):
        schedule, *rest = write_for_gpu(*graph)
        schedules.append(schedule)
        return schedule, *rest

    def flat(own):
        return tree.tree_leaves(step(tree.tree_unflatten(own, structure)))

    text = traced(flat, leaves, {}, None, write)[0].text
    return text, [(memory.region, memory.start, memory.start + memory.size) for memory in schedules[0].memories]


def descent(loss, data, rate=0.1):
    """A step of gradient descent, as `scan` takes one."""

    def step(params):
        leaves, structure = tree.tree_flatten(params)
        own = [leaf.detach().requires_grad_() for leaf in leaves]
        with torch.enable_grad():
            value = loss(tree.tree_unflatten(own, structure), *data)
            gradients = torch.autograd.grad(value, own, materialize_grads=True)
        return [leaf - rate * gradient for leaf, gradient in zip(leaves, gradients, strict=True)], value.detach()

    return step


SAMPLES = torch.linspace(-1, 1, 1000, dtype=torch.float64)


def shift_register(carry):
    """Of 70 elements, and a number that follows its last one; eight warps, of which one is soon ahead of another."""
    register, number = carry
    new = torch.tanh(number * SAMPLES).mean()
    return (torch.cat([new.reshape(1), register[:-1]]), 0.5 * register[-1] + new), new


def test_no_warp_overwrites_what_another_has_yet_to_read():
    """A number of the carry is computed from another part of it, which is overwritten at the end of the step."""
    text, _ = written(shift_register, (torch.zeros(70, dtype=torch.float64), torch.zeros((), dtype=torch.float64)))
    assert "8 warps" in text
    assert races(text) == []
    lines = text.splitlines()
    needed = []
    for number, line in enumerate(lines):
        if line.strip().startswith("tl.debug_barrier()"):
            missing = races("\n".join(lines[:number] + lines[number + 1 :]))
            needed.append({(earlier.array, earlier.kind, later.kind) for earlier, later in missing})
    assert needed == [
        set(),  # one element is stored after the others, and needs not wait for them
        {("scratch", "store", "load")},  # the register's successor is copied
        set(),  # the next one is enough
        {("carry", "load", "store")},  # it overwrites what the number is computed from
        {("carry", "store", "load")},  # the next step reads it
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_zoo(name, dtype):
    model = zoo.model(name, dtype)
    assert races_of(descent(model.loss, model.data), model.params) == []


@pytest.mark.parametrize(
    "seed", [1, 6, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (20, 22, 26, 27, 29, 33, 36))]
)
def test_loops_over_time(seed):
    """Of rows that other rows are computed from."""
    of = recurrent(seed)
    text, memories = written(descent(of.loss, (of.data,)), of.params)
    assert "for t0 in range(" in text
    assert races(text, memories) == []


def test_some_operations():
    assert [race for step, carry in [*every_step()][::6] for race in races_of(step, carry)] == []


@pytest.mark.slow
def test_every_operation():
    assert [race for step, carry in every_step() for race in races_of(step, carry)] == []


@settings(max_examples=15, phases=AS_DRAWN)
@given(losses())
def test_random_graphs(drawn):
    params, data = drawn.tensors()
    if drawn.loss()([param.requires_grad_() for param in params], *data).requires_grad:
        assert races_of(descent(drawn.loss(), data), [param.detach() for param in params]) == []
