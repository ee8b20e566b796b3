"""The loop that goes through torch.compile: it does what the eager one does, however the run is cut."""

import pytest
import torch
import zoo
from torch.utils import _pytree as tree

from fastpoly import BackendUnavailableError
from fastpoly._errors import UnsupportedOperationError
from fastpoly._loops import compiled, eager
from fastpoly._loops.compiled import BLOCK
from fastpoly._loops.cudagraph import capturable
from fastpoly._loops.replayed import WARM_UPS, ReplayedLoop
from fastpoly._loops.unrolling import Unrolling

pytestmark = pytest.mark.slow  # torch.compile takes seconds for every loop

SINGLE, DOUBLE = (torch.float32, 1e-4), (torch.float64, 1e-10)
"""A dtype, and how far it may be from the eager loop."""


def descent(model):
    """A step of gradient descent on a zoo model, as `descend` makes it, and the tensors that it starts from."""
    start, structure = tree.tree_flatten(model.params)

    def step(tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            loss = model.loss(tree.tree_unflatten(leaves, structure), *model.data)
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        after = [leaf.detach() - model.learn_rate * grad for leaf, grad in zip(leaves, grads, strict=True)]
        return [*after, loss.detach()]

    return step, start


def doubling(tensors):
    """x to 2 x; gives x and its square. From 1, the square leaves float64 at step 512."""
    (x,) = tensors
    return [2 * x, x, x * x]


def begin(function, inputs, stop_at=None):
    return compiled.begin(function, inputs, {}, stop_at)


def portions(loop, sizes, every):
    """The results of a run in portions of these sizes, as `repeat` makes them."""
    parts, taken = [], 0
    for size in sizes:
        done, results = loop.advance(size, every, -taken % every)
        assert done == size
        taken += done
        parts.append(results)
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def same_bits(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("polynomial", *DOUBLE),
        ("tanh-network", *SINGLE),
        *(
            pytest.param(*rest, marks=pytest.mark.slow)
            for rest in [
                ("polynomial", *SINGLE),
                ("tanh-network", *DOUBLE),
                ("exponential-decay", *DOUBLE),
                ("exponential-decay", *SINGLE),
            ]
        ),
    ],
)
def test_it_descends_as_the_eager_loop_does(name, dtype, tolerance):
    step, start = descent(zoo.model(name, dtype))
    ours, theirs = begin(step, start, stop_at=0), eager.begin(step, start, {}, stop_at=0)
    steps = 25 * BLOCK + 3
    (taken, (losses,)), (_, (expected,)) = ours.advance(steps, 1, 0), theirs.advance(steps, 1, 0)
    assert taken == steps
    assert losses.dtype == dtype
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.carried(), theirs.carried(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("every", [1, 3, BLOCK, 2 * BLOCK + 1])
def test_the_same_bits_however_the_run_is_cut(every):
    step, start = descent(zoo.model("polynomial", torch.float64))
    whole, cut = begin(step, start, stop_at=0), begin(step, start, stop_at=0)
    sizes = [1, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3, 5 * BLOCK + 2, 0, 1]
    expected = portions(whole, [sum(sizes)], every)
    assert len(expected[0]) == -(-sum(sizes) // every)
    assert same_bits(portions(cut, sizes, every), expected)
    assert same_bits(cut.carried(), whole.carried())


def test_what_is_carried_does_not_depend_on_where_it_is_asked_for():
    step, start = descent(zoo.model("polynomial", torch.float64))
    often = begin(step, start, stop_at=0)
    states = [often.carried()]
    for _ in range(2 * BLOCK + 2):
        often.advance(1, 1, 0)
        states.append(often.carried())
    assert same_bits(states[0], start)
    for steps in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 2):
        once = begin(step, start, stop_at=0)
        once.advance(steps, 1, 0)
        assert same_bits(once.carried(), states[steps]), f"after {steps} steps"


def test_results_are_kept_after_wait_steps_and_then_every_so_many():
    loop, before, steps = begin(doubling, [torch.ones((), dtype=torch.float64)]), 0, 3 * BLOCK + 1
    for every in (1, 3, BLOCK + 1):
        for wait in (0, 1, BLOCK, 2 * BLOCK + 3, steps):
            taken, (x, square) = loop.advance(steps, every, wait)
            due = range(before + wait, before + steps, every)
            assert taken == steps
            assert x.tolist() == [2.0**k for k in due], (every, wait)
            assert square.tolist() == [4.0**k for k in due], (every, wait)
            before += steps


@pytest.mark.parametrize("end", [0, 3, BLOCK, BLOCK + 3])
def test_it_stops_before_the_step_whose_result_is_not_finite(end):
    start = torch.tensor([2.0 ** (512 - end), 1.0], dtype=torch.float64)
    loop = begin(doubling, [start], stop_at=1)
    taken, (x, square) = loop.advance(5 * BLOCK, 1, 0)
    assert taken == end
    assert x.shape == square.shape == (end, 2)
    assert bool(square.isfinite().all())
    assert torch.equal(loop.carried()[0], start * 2.0**end)
    assert loop.advance(1, 1, 0)[0] == 0, "it stays there"


def test_without_stop_at_it_goes_on():
    start = torch.tensor(2.0**510, dtype=torch.float64)
    taken, (_, square) = begin(doubling, [start]).advance(2 * BLOCK, 1, 0)
    assert taken == 2 * BLOCK
    assert square.isfinite().tolist() == [True] * 2 + [False] * (2 * BLOCK - 2)


def test_a_step_may_write_to_its_tensors():
    def in_place(tensors):
        (x,) = tensors
        before = x.clone()
        x *= 2
        return [x, before]

    start = torch.ones(3)
    loop = begin(in_place, [start])
    for k in range(BLOCK + 2):
        assert loop.carried()[0].tolist() == [2.0**k] * 3
        assert loop.advance(1, 1, 0)[1][0].tolist() == [[2.0**k] * 3]
    assert start.tolist() == [1.0] * 3


def test_one_compilation_a_loop_and_any_number_of_loops(capfd):
    """Dynamo compiles one code object 8 times at most, and takes other strides for another function."""
    with torch._dynamo.config.patch(error_on_recompile=True):
        for k in range(12):
            loop = begin(doubling, [torch.tensor(float(k), dtype=torch.float64)])
            for portion in (1, BLOCK, 3 * BLOCK):
                loop.advance(portion, 1, 0)
            assert loop.carried()[0].item() == k * 2.0 ** (1 + 4 * BLOCK)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_twenty_losses_in_a_process():
    for k in range(2, 22):
        loop = begin(lambda tensors, k=k: [tensors[0] / k, tensors[0] + k], [torch.ones(k)])
        assert torch.equal(loop.advance(1, 1, 0)[1][0][0], torch.full((k,), 1.0 + k))


def test_it_names_the_line_that_decides_by_a_value():
    def branching(tensors):
        return [2 * tensors[0] if tensors[0].sum() > 0 else tensors[0]]

    with pytest.raises(UnsupportedOperationError, match=r"test_compiled_loop.py:\d+ \(return \[2 \* tensors.*eager"):
        begin(branching, [torch.ones(2)])


def test_it_refuses_to_write_to_what_is_not_its_own():
    calls = torch.zeros(2)

    def counting(tensors):
        calls[0] += 1
        return [2 * tensors[0]]

    with pytest.raises(UnsupportedOperationError, match=r"writes to a tensor from outside"):
        begin(counting, [torch.ones(2)])


def test_what_the_step_raises_comes_through():
    def refusing(tensors):
        raise ValueError("the loss does not depend on the params")

    with pytest.raises(ValueError, match="does not depend"):
        begin(refusing, [torch.ones(2)])


def test_without_a_compiler_it_says_what_to_do(monkeypatch):
    assert compiled.unavailable() is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendUnavailableError, match=r"no no-such-compiler; install .*CXX"):
        begin(doubling, [torch.ones(2)])


# -- in graphs, as on a GPU
# ----------------------------------------------------------------------------------------


def in_graphs(function, inputs, stop_at=None):
    """The compiled blocks under the loop of CUDA graphs, whose capture only runs them again here."""

    def rerun(body):
        for _ in range(WARM_UPS):
            body()
        return body

    step = capturable(function, inputs)
    blocks = compiled.replayed_blocks(compiled._compiled(step, len(inputs), None, True), len(inputs))
    return ReplayedLoop(step, inputs, stop_at, rerun, blocks, BLOCK)


def test_in_graphs_the_same_bits_however_the_run_is_cut(monkeypatch):
    """And however many blocks a graph holds."""
    step, start = descent(zoo.model("polynomial", torch.float64))
    sizes = [1, BLOCK - 1, 3, 5 * BLOCK + 2, 0, 40 * BLOCK]
    loop = in_graphs(step, start, stop_at=0)
    whole = portions(loop, [sum(sizes)], 1)
    carried = loop.carried()
    loop.restart(start)
    assert loop.unrolling.size == BLOCK
    first = portions(loop, sizes[:3], 1)
    monkeypatch.setattr(Unrolling, "larger", lambda self: 4 * self.size if self.size == BLOCK else None)
    rest = portions(loop, sizes[3:], 1)
    assert loop.unrolling.size == 4 * BLOCK
    assert same_bits([torch.cat([first[0], rest[0]])], whole)
    assert same_bits(loop.carried(), carried)
    _, (expected,) = eager.begin(step, start, {}, stop_at=0).advance(sum(sizes), 1, 0)
    torch.testing.assert_close(whole[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("end", [0, 3, BLOCK, BLOCK + 3])
def test_in_graphs_it_stops_before_the_step_whose_result_is_not_finite(end):
    start = torch.tensor([2.0 ** (512 - end), 1.0], dtype=torch.float64)
    loop = in_graphs(doubling, [start], stop_at=1)
    taken, (x, _) = loop.advance(5 * BLOCK, 1, 0)
    assert (taken, len(x)) == (end, end)
    assert torch.equal(loop.carried()[0], start * 2.0**end)
