"""A kernel of one problem as one of several: every lane is one, and nothing of its neighbours."""

import interpreted_cpu
import numpy as np
import pytest
import torch
import zoo

from fastpoly._fuse import many, traced
from fastpoly._fuse.ir import BOOL, FLOAT, INDEX, Assign, Const, If, Kernel, Load, Loop, Op, Store, Var
from fastpoly._fuse.schedule import Schedule
from fastpoly._fuse.verify import verify
from fastpoly._fuse.widen import NotWidenedError, widened
from fastpoly._fuse.write import write
from fastpoly._monitor import Monitor


def written_for_one(graph, dtype, stop_at):
    schedule = Schedule(graph, 1)
    return schedule, *write(schedule, dtype, stop_at)


def step_of(model):
    """A step of gradient descent on a model of the zoo, which ends where the loss is not finite."""
    leaves, structure = torch.utils._pytree.tree_flatten(model.params)

    def step(tensors):
        with torch.enable_grad():
            own = [tensor.detach().requires_grad_() for tensor in tensors]
            value = model.loss(torch.utils._pytree.tree_unflatten(own, structure), *model.data)
            grads = torch.autograd.grad(value, own)
        value = value.detach()
        goes = value.isfinite()
        after = [torch.where(goes, t - model.learn_rate * g, t) for t, g in zip(tensors, grads, strict=True)]
        return [*after, value, value]

    return step, [leaf.detach() for leaf in leaves]


SOME = ["exponential-decay", "softmax", pytest.param("tanh-network", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_each_lane_of_the_page_is_one_problem(name, lanes):
    model = zoo.model(name, torch.float64, 20)
    step, leaves = step_of(model)
    written, constants = traced.traced(step, leaves, {}, 0, written_for_one)
    wide = widened(written.code, lanes)
    verify(wide)
    layout, draws = written.layout, np.random.default_rng(0)
    carry = np.zeros((layout.carry, lanes))
    one = traced.traced(step, leaves, {}, 0, written_for_one)[0]
    data = np.zeros(layout.data)
    for position, memory in written.data:
        many.put(data, memory.start, memory, constants[position].numpy())
    starts = [leaf.numpy() * (1 + 0.1 * draws.standard_normal((lanes, *leaf.shape))) for leaf in leaves]
    for at, start in enumerate(starts):
        memory, place = layout.carried[at]
        for lane in range(lanes):
            many.get(carry[None, :, lane], place, memory, start.shape[1:])[...] = start[lane]
    results = np.full((4, layout.row, lanes), np.nan)
    page = interpreted_cpu._kernel(traced.to_python(wide))
    arrays = [carry.reshape(-1), data, np.full(layout.scratch * lanes, np.nan), results.reshape(-1)]
    assert page(*(array.view(interpreted_cpu.Checked) for array in arrays), 4, 1, 0) == 4
    single = interpreted_cpu._kernel(traced.to_python(one.code))
    for lane in range(lanes):
        own = np.zeros(layout.carry)
        for at, start in enumerate(starts):
            memory, place = layout.carried[at]
            many.get(own[None], place, memory, start.shape[1:])[...] = start[lane]
        kept = np.full((4, layout.row), np.nan)
        single(own, data, np.full(layout.scratch, np.nan), kept.reshape(-1), 4, 1, 0)
        np.testing.assert_array_equal(carry[: layout.carry - 1, lane], own[: layout.carry - 1])
        np.testing.assert_array_equal(results[..., lane], kept)


def test_the_kernel_ends_when_no_lane_would_go_on():
    """By each lane's own number of steps until its loss is not finite."""

    def step(tensors):
        (left,) = tensors
        return [left - 1, left, torch.where(left > 0, left, torch.nan)]

    program = many.many_program(step, [torch.zeros((), dtype=torch.float64)], {}, 1)
    counts = torch.tensor([2.0, 5.0, 1.0], dtype=torch.float64)
    (left,), (seen, _) = program.run([counts], [True], 3, 100, 1, Monitor())
    assert program.lanes > 1
    assert (~seen.isnan()).sum(1).tolist() == [5, 5, 5]  # they went on with the last one
    assert left.tolist() == [-3.0, 0.0, -4.0]


@pytest.mark.parametrize("every", [1, 3, 7, None])
@pytest.mark.parametrize("portion", [1, 2, 1000])
def test_results_do_not_depend_on_portions(every, portion, monkeypatch):
    monkeypatch.setattr(many, "PORTION_SECONDS", portion * 1e-9)

    def step(tensors):
        return [tensors[0] * 1.5, tensors[0] + 1]

    program = many.many_program(step, [torch.zeros((), dtype=torch.float64)], {}, None)
    monkeypatch.setattr(type(program.written), "cycles", 0.0, raising=False)
    start = torch.arange(1.0, 20.0, dtype=torch.float64)
    (ends,), (kept,) = program.run([start], [True], 19, 20, every, Monitor())
    torch.testing.assert_close(ends, start * 1.5**20)
    steps = torch.arange(0, 20, every or 20)[: 0 if every is None else None]
    torch.testing.assert_close(kept, start[:, None] * 1.5 ** steps.double() + 1)


def kernel(body):
    """One with this body, of one lane."""
    numbers = {name: Var(name, INDEX) for name in ("steps", "every", "wait")}
    return Kernel("float64", 1, ("carry", "data", "scratch", "out", *numbers), numbers, body, numbers["steps"])


def test_what_is_the_same_for_all_problems_stays_one_number():
    shared, own, i = Var("shared", FLOAT), Var("own", FLOAT), Var("i", INDEX)
    body = [
        Assign(shared, Load("data", Const(3, INDEX), FLOAT)),
        Loop(
            i,
            Const(0, INDEX),
            Const(4, INDEX),
            1,
            [Assign(own, Op("mul", (shared, Load("carry", i, FLOAT)), FLOAT)), Store("out", i, own)],
        ),
        Store("carry", Const(0, INDEX), shared),
    ]
    wide = widened(kernel(body), 4)
    verify(wide)
    text = str(wide)
    assert "shared: float = data[3]" in text
    assert "own: floatx4 = mul(shared, carry[mul(i, 4) +: 4])" in text
    assert "carry[0] = splat(shared)" in text


def test_what_lanes_would_do_differently_is_not_widened():
    place = Op("integer", (Load("carry", Const(0, INDEX), FLOAT),), INDEX)
    with pytest.raises(NotWidenedError):
        widened(kernel([Assign(Var("a", FLOAT), Load("data", place, FLOAT))]), 4)
    test = Op("lt", (Load("carry", Const(0, INDEX), FLOAT), Const(1.0, FLOAT)), BOOL)
    with pytest.raises(NotWidenedError):
        widened(kernel([If(test, [Store("out", Const(0, INDEX), Const(1.0, FLOAT))])]), 4)
