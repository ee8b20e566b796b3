"""The loop of CUDA graphs, with a capture that needs no GPU: it runs the same function on the same memory again.

So all that is not CUDA is held against the eager loop here, bit for bit: what is captured, the buffers, the counter on
the device, portions and what is left of them, the stop, and how blocks grow. See test_gpu.py for graphs proper.
"""

import itertools

import numpy as np
import pytest
import torch
import zoo
from raw_runs import fit
from torch.utils import _pytree as tree

from fastpoly import DivergenceWarning, reference, scan
from fastpoly._backends import autograd
from fastpoly._errors import BackendUnavailableError, UnsupportedOperationError
from fastpoly._loops import PREFERENCES, cudagraph, eager, replayed
from fastpoly._loops.cudagraph import capturable
from fastpoly._loops.recorded import recorded
from fastpoly._loops.replayed import FIRST, MOST, WARM_UPS, ReplayedLoop, capacity, sizes, unrolled
from fastpoly._loops.unrolling import GROWTH, Unrolling

CPU = torch.device("cpu")
aten = torch.ops.aten


def rerun(function):
    """A capture without CUDA. As with CUDA, everything that the function makes anew is lost between two runs."""
    for _ in range(WARM_UPS):
        function()
    return function


def begin(function, inputs, stop_at=None):
    inputs = [tensor.detach().contiguous() for tensor in inputs]
    step = capturable(function, inputs)
    return ReplayedLoop(step, inputs, stop_at, rerun, unrolled(step, len(inputs)))


@pytest.fixture
def growing(monkeypatch):
    """Blocks grow whenever they may."""
    monkeypatch.setattr(
        Unrolling, "larger", lambda self: self.size * GROWTH if self.size * GROWTH <= self.most else None
    )


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


def portions(loop, parts, every):
    """The results of a run in portions of these sizes, as `repeat` makes them."""
    columns, taken = [], 0
    for size in parts:
        done, results = loop.advance(size, every, -taken % every)
        assert done == size
        taken += done
        columns.append(results)
    return [torch.cat(column) for column in zip(*columns, strict=True)]


QUICK = ("polynomial", "damped-sine", "linear-64")


def same_bits(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# -- against the eager loop
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(
            pytest.param(name, torch.float64, id=name, marks=() if name in QUICK else pytest.mark.slow)
            for name in zoo.NAMES
        ),
        pytest.param("polynomial", torch.float32, id="polynomial-single"),
    ],
)
def test_it_descends_as_the_eager_loop_does(name, dtype):
    step, start = descent(zoo.model(name, dtype, n=17))
    ours, theirs = begin(step, start, stop_at=0), eager.begin(step, start, {}, stop_at=0)
    for part in (3, FIRST + 2):
        (taken, losses), (_, expected) = ours.advance(part, 1, 0), theirs.advance(part, 1, 0)
        assert taken == part
        assert same_bits(losses, expected)
        assert same_bits(ours.carried(), theirs.carried())
    assert all(tensor.dtype == dtype for tensor in ours.carried())


@pytest.mark.parametrize("every", [1, 2 * FIRST + 1])
def test_the_same_bits_however_the_run_is_cut(every):
    step, start = descent(zoo.model("polynomial", torch.float64))
    whole, cut = begin(step, start, stop_at=0), begin(step, start, stop_at=0)
    parts = [1, 1, FIRST - 1, FIRST, FIRST + 1, 3, 5 * FIRST + 2, 0, 1]
    expected = portions(whole, [sum(parts)], every)
    assert len(expected[0]) == -(-sum(parts) // every)
    assert same_bits(portions(cut, parts, every), expected)
    assert same_bits(cut.carried(), whole.carried())


def test_the_same_bits_whatever_the_size_of_the_blocks(monkeypatch):
    step, start = descent(zoo.model("horner", torch.float32))
    runs = []
    for first in (1, 21):
        monkeypatch.setattr(replayed, "FIRST", first)
        loop = begin(step, start, stop_at=0)
        assert loop.unrolling.size == first
        runs.append([*portions(loop, [50, 13], 2), *loop.carried()])
    assert all(same_bits(runs[0], run) for run in runs[1:])


@pytest.mark.parametrize("capacity", [WARM_UPS * MOST, 300, 4096])
def test_every_row_is_where_it_belongs(capacity, monkeypatch, growing):
    """However long the portion is, beside the room for the trace and the blocks."""
    monkeypatch.setattr(replayed, "TRACE_ROWS", capacity)
    loop, before = begin(doubling, [torch.tensor(1.0, dtype=torch.float64)]), 0
    for steps, every in itertools.product((1, FIRST, 61), (1, 2, FIRST + 1)):
        for wait in (0, 1, 2 * FIRST + 3, steps):
            taken, (x, square) = loop.advance(steps, every, wait)
            assert taken == steps
            due = range(before + wait, before + steps, every)
            assert x.tolist() == [2.0**k if k < 1024 else torch.inf for k in due]
            assert len(square) == len(due)
            before += steps
            assert loop.carried()[0].item() == (2.0**before if before < 1024 else torch.inf)


# -- the stop
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[600], [5, 600], [1] * 20 + [600]], ids=["at-once", "two-portions", "single-steps"])
@pytest.mark.parametrize("end", [0, *(pytest.param(end, marks=pytest.mark.slow) for end in (3, FIRST, 200)), FIRST + 1])
def test_it_stops_before_the_step_whose_result_is_not_finite(end, parts, growing):
    start = torch.tensor([2.0 ** (512 - end), 1.0], dtype=torch.float64)
    loop, taken, rows = begin(doubling, [start], stop_at=1), 0, []
    for part in parts:
        done, (x, square) = loop.advance(part, 1, 0)
        assert bool(square.isfinite().all())
        rows.extend(x[:, 1].tolist())
        taken += done
        assert torch.equal(loop.carried()[0], start * 2.0**taken), "no step too many"
        if done < part:
            break
    assert taken == end
    assert rows == [2.0**k for k in range(end)]
    taken, (x, _) = loop.advance(3, 1, 0)
    assert (taken, len(x)) == (0, 0), "it stays there"
    assert torch.equal(loop.carried()[0], start * 2.0**end)


def test_without_stop_at_it_goes_on():
    start = torch.tensor(2.0**510, dtype=torch.float64)
    taken, (_, square) = begin(doubling, [start]).advance(2 * FIRST, 1, 0)
    assert taken == 2 * FIRST
    assert square.isfinite().tolist() == [True] * 2 + [False] * (2 * FIRST - 2)


# -- what is captured
# ----------------------------------------------------------------------------------------


def test_a_step_may_write_to_its_tensors():
    def in_place(tensors):
        (x,) = tensors
        before = x.clone()
        x *= 2
        return [x, before]

    start = torch.ones(3)
    loop = begin(in_place, [start])
    for k in range(FIRST + 2):
        assert loop.carried()[0].tolist() == [2.0**k] * 3
        assert loop.advance(1, 1, 0)[1][0].tolist() == [[2.0**k] * 3]
    assert start.tolist() == [1.0] * 3


def test_a_step_may_hand_its_tensors_on():
    """One state is read while another is written: Fibonacci's numbers, and what is handed on is a view."""

    def step(tensors):
        a, b = tensors
        return [b, a + b, a.view(1, 1), b]

    loop = begin(step, [torch.tensor(0.0), torch.tensor(1.0)])
    _, (a, b) = loop.advance(12, 1, 0)
    assert a.ravel().tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    assert b.tolist() == [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]
    assert [tensor.item() for tensor in loop.carried()] == [144, 233]


def test_results_of_any_shape_and_kind():
    def step(tensors):
        (x,) = tensors
        return [x + 1, x > 2, x.new_empty((0, 2)), x.expand(2, 3).t(), x.long()]

    _, (flags, nothing, wide, whole) = begin(step, [torch.zeros(())]).advance(5, 2, 0)
    assert flags.tolist() == [False, False, True]
    assert nothing.shape == (3, 0, 2)
    assert wide.shape == (3, 3, 2)
    assert wide[2].eq(4).all()
    assert whole.tolist() == [0, 2, 4]


def test_a_carry_that_is_not_contiguous():
    start = torch.arange(6.0).reshape(2, 3).t()
    loop = begin(lambda tensors: [tensors[0].t().contiguous().t() + 1, tensors[0].sum()], [start])
    assert loop.advance(2, 1, 0)[1][0].tolist() == [15, 21]
    assert torch.equal(loop.carried()[0], start + 2)


def operations(step):
    return [node.target for node in step.graph.nodes if node.op == "call_function"]


def test_what_does_not_change_is_computed_once():
    """The post's step makes the powers of x anew every time, and autograd the ones that it begins with."""
    step, start = descent(zoo.model("polynomial", torch.float64))
    again = recorded(step, start)
    made = {aten.arange.start, aten.pow.Tensor_Tensor, aten.ones_like.default, aten.clone.default}
    assert not made & set(operations(again))
    assert same_bits(again(start), step(start))


def test_what_is_written_to_is_made_in_every_step():
    """Were the zeros or the base of a view made once, every step would add to what the step before it left there."""

    def step(tensors):
        (x,) = tensors
        total = torch.zeros(2)
        total += x
        base = torch.ones(4)
        front, _ = base.split(2)
        front.mul_(3)
        out = torch.zeros(2)
        torch.add(x, 1, out=out)
        return [x + 1, total.clone(), base.sum() + base.view(2, 2).sum(), out]

    _, (total, base, out) = begin(step, [torch.zeros(2)]).advance(3, 1, 0)
    assert total.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert base.tolist() == [16, 16, 16]
    assert out.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_random_numbers_are_drawn_in_every_step():
    graph = recorded(lambda tensors: [tensors[0] + torch.rand(3)], [torch.zeros(3)])
    assert not torch.equal(graph([torch.zeros(3)])[0], graph([torch.zeros(3)])[0])


def test_the_buffers_stay_where_they_are():
    """A graph knows addresses; tensors that come out are never the ones that it writes to."""
    loop = begin(doubling, [torch.ones(2)], stop_at=0)

    def addresses():
        return [tensor.data_ptr() for tensor in (*loop.state, *loop.rows, *loop.trace, loop.counter)]

    before = addresses()
    _, (kept, _) = loop.advance(FIRST, 1, 0)
    (carried,) = loop.carried()
    copies = kept.clone(), carried.clone()
    loop.advance(3 * FIRST, 1, 0)
    assert addresses() == before
    assert same_bits((kept, carried), copies)


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (lambda tensors: [tensors[0] + tensors[0][tensors[0] > 0].sum()], "aten.index.Tensor takes a mask as index"),
        (lambda tensors: [tensors[0] + tensors[0].nonzero().sum()], "aten.nonzero.default gives something whose size"),
        (lambda tensors: [tensors[0] + 1, tensors[0].to("meta")], "aten._to_copy.default gives a tensor on meta"),
        (lambda tensors: [torch.linalg.inv(tensors[0].diag()).sum(0)], "aten._linalg_check_errors.default looks at"),
        (lambda tensors: [tensors[0] if tensors[0].sum() > 0 else -tensors[0]], "the value of a tensor decides"),
    ],
    ids=["mask", "nonzero", "device", "inverse", "branch"],
)
def test_it_refuses_what_waits_for_the_gpu(step, what):
    with pytest.raises(UnsupportedOperationError, match=rf"{what}.*backend='eager'"):
        begin(step, [torch.ones(2)])


def test_indices_that_are_numbers_are_no_masks():
    at = torch.tensor([1, 0])
    loop = begin(lambda tensors: [tensors[0][at] + 1, tensors[0][..., None][at, 0]], [torch.tensor([0.0, 10.0])])
    assert loop.advance(2, 1, 0)[1][0].tolist() == [[10, 0], [1, 11]]


# -- as a backend of fit
# ----------------------------------------------------------------------------------------


@pytest.fixture
def graphed(monkeypatch):
    """fit by this loop, on the CPU; its `begun` counts how often it was begun."""
    monkeypatch.setattr(autograd, "_idle", {})
    begun = []

    def begin_loop(function, inputs, names, stop_at):
        begun.append(inputs)
        return begin(function, inputs, stop_at)

    def run(problem, monitor):
        return autograd.graphed("cudagraph", begin_loop, problem, monitor, CPU)

    monkeypatch.setattr("fastpoly._plan.choose", lambda name, problem, **_: ("cudagraph", run))
    return begun


def eagerly(x, y, degree, steps, rate, precision):
    """The post's loop in the same precision."""
    dtype = {"double": torch.float64, "single": torch.float32}[precision]
    x, y = (torch.tensor(values, dtype=dtype).reshape(-1, 1) for values in (x, y))
    w = torch.zeros(degree + 1, 1, dtype=dtype, requires_grad=True)
    mse = [reference.autograd_step(x, y, w, rate).item() for _ in range(steps)]
    return w.detach().numpy().ravel(), np.array(mse)


SAMPLES = np.linspace(-1, 1, 25), np.cos(3 * np.linspace(-1, 1, 25))


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("trace_every", [pytest.param(1, marks=pytest.mark.slow), 7, None])
def test_fit_gives_the_posts_loop(graphed, precision, trace_every):
    weights, mse = eagerly(*SAMPLES, 3, 43, 0.1, precision)
    result = fit(*SAMPLES, 3, 43, 0.1, precision=precision, trace_every=trace_every)
    tolerance = {"double": 1e-14, "single": 1e-6}[precision]  # the post multiplies by powers that it makes anew
    assert result.weights == pytest.approx(weights, abs=tolerance)
    assert result.mse == pytest.approx(mse[::trace_every] if trace_every else [], abs=tolerance)


def test_problems_of_a_size_share_what_was_captured(graphed):
    x, y = SAMPLES
    alone = [fit(x * scale, y, 3, 100, 0.1) for scale in (1, 0.7)]
    assert len(graphed) == 1
    autograd._idle.clear()
    assert same_bits([torch.tensor(fit(x * 0.7, y, 3, 100, 0.1).mse)], [torch.tensor(alone[1].mse)])
    assert len(graphed) == 2
    fit(x, y, 2, 100, 0.1)
    assert len(graphed) == 3, "another degree, another graph"
    again = fit(x, y, 3, 100, 0.1, initial_weights=alone[0].weights)
    assert again.mse[0] < alone[0].mse[-1]


def test_what_was_captured_for_tensors_does_not_write_to_them(graphed):
    x, y = (torch.tensor(values) for values in SAMPLES)
    expected = fit(x, y, 3, 100, 0.1).weights
    fit(x, 2 * y, 3, 100, 0.1)
    assert torch.equal(y, torch.tensor(SAMPLES[1]))
    assert torch.equal(fit(x, y, 3, 100, 0.1).weights, expected)


def test_after_divergence_the_next_one_begins_anew(graphed):
    expected = fit(*SAMPLES, 3, 200, 0.1).weights
    with pytest.warns(DivergenceWarning, match="diverged at step"):
        diverged = fit(*SAMPLES, 3, 5000, 10.0)
    assert diverged.diverged_at == len(diverged.mse) > 0
    assert np.isfinite(diverged.mse).all()
    assert np.array_equal(fit(*SAMPLES, 3, 200, 0.1).weights, expected)


@pytest.mark.slow
def test_only_so_many_are_kept(graphed, monkeypatch):
    monkeypatch.setattr(autograd, "KEPT", 2)
    for degree in range(4):
        fit(*SAMPLES, degree, 1, 0.01)
        assert 0 < len(autograd._idle) <= 2


# -- how long blocks are
# ----------------------------------------------------------------------------------------


def test_a_block_is_replaced_when_running_has_cost_what_the_next_one_will():
    unrolling = Unrolling(8, 128)
    unrolling.captured(8, 0.5)
    unrolling.ran(100, 1.9)
    assert unrolling.larger() is None
    unrolling.ran(100, 0.1)
    assert unrolling.larger() == 32
    unrolling.captured(32, 2.0)
    assert unrolling.size == 32
    unrolling.ran(10_000, 7.9)
    assert unrolling.larger() is None
    unrolling.ran(1_000, 0.1)
    assert unrolling.larger() == 128
    unrolling.captured(128, 8.0)
    unrolling.ran(10**9, 1e6)
    assert unrolling.larger() is None, "it is the longest"


def test_blocks_that_are_no_faster_are_the_last():
    unrolling = Unrolling(8, 128)
    unrolling.captured(8, 0.5)
    unrolling.ran(1000, 2.0)
    unrolling.captured(32, 2.0)
    unrolling.ran(10_000, 0.98 * 20)
    assert unrolling.larger() is None


def test_blocks_grow_in_a_run():
    loop = begin(doubling, [torch.ones(2)])
    loop.unrolling.captured(FIRST, 1e-9)  # it cost nothing, so that the first run pays for the next capture
    loop.advance(FIRST, 1, 0)
    loop.advance(FIRST, 1, 0)
    assert loop.unrolling.size == GROWTH * FIRST


@pytest.mark.parametrize(
    ("smallest", "step_bytes", "expected"),
    [
        (1, 44, (FIRST, MOST)),
        (1, 2**20, (FIRST, 64)),
        (1, 2**24, (4, 4)),
        (1, 2**30, (1, 1)),
        (8, 2**30, (8, 8)),
        (1, 0, (FIRST, MOST)),
    ],
)
def test_blocks_are_as_long_as_memory_allows(smallest, step_bytes, expected):
    assert sizes(smallest, step_bytes) == expected


@pytest.mark.parametrize(("most", "result_bytes", "rows"), [(MOST, 8, 4096), (MOST, 2**18, 256), (1, 2**30, 2)])
def test_the_trace_has_room_for_the_warm_ups(most, result_bytes, rows):
    assert capacity(most, result_bytes) == rows >= WARM_UPS * most


# -- without a GPU
# ----------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so():
    with pytest.raises(BackendUnavailableError, match=r"backend 'cudagraph' cannot run here: .*CUDA"):
        cudagraph.begin(doubling, [torch.ones(2)], {}, None)


def test_tensors_on_the_cpu_are_told_the_way_out(monkeypatch):
    monkeypatch.setattr("fastpoly._backends.missing_cuda", lambda: None)
    with pytest.raises(
        ValueError, match=r"cudagraph runs on tensors on one CUDA device, got cpu; .*to\('cuda'\).*auto"
    ):
        cudagraph.begin(doubling, [torch.ones(2)], {}, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_auto_takes_the_first_that_can_and_says_why_it_is_not_the_fastest(monkeypatch):
    """What CUDA tensors would try, tried here."""
    assert PREFERENCES["cuda"] == ("triton", "cudagraph", "compile", "eager")
    monkeypatch.setitem(PREFERENCES, "cpu", ("triton", "cudagraph", "eager"))
    with pytest.warns(RuntimeWarning, match=r"backend='eager', many times slower: backend 'triton' .*CUDA") as warned:
        carry, _ = scan(lambda x: (x + 1, x), torch.zeros(()), (), 3)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert carry == 3
