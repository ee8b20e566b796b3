"""Loops in Python, unrolled by tracing, become loops again: the same values, in far fewer operations."""

from __future__ import annotations

import warnings

import pytest
import torch
from graph_interpreter import interpreted
from recurrent_losses import Recurrent, recurrent

import fastpoly
from fastpoly._fuse.graph import Graph
from fastpoly._fuse.reroll import rerolled
from fastpoly._fuse.runs import Run, components, repeated
from fastpoly._fuse.scan import Scan, every
from fastpoly._fuse.trace import trace

D = torch.float64


def traced(loss, params, *data) -> Graph:
    """What a loss and its gradient do."""

    def step(inputs):
        (own,) = (leaf.detach().requires_grad_() for leaf in inputs)
        with torch.enable_grad():
            value = loss(own, *data)
            (grad,) = torch.autograd.grad(value, [own], materialize_grads=True)
        return [grad, value.detach()]

    return trace(step, [params], {})


def both_ways(loss, params, *data) -> tuple[Graph, Graph]:
    """The graph as traced and as rerolled, which give the same values: but for sums in another order, the same bits."""
    graph = traced(loss, params, *data)
    rolled = rerolled(graph)
    for one, other in zip(interpreted(graph, [params]), interpreted(rolled, [params]), strict=True):
        # a sum of some hundred terms in another order
        torch.testing.assert_close(
            other, one, rtol=1e-12, atol=1e-12 * float(one.nan_to_num().abs().max()), equal_nan=True
        )
    return graph, rolled


def scans(graph: Graph) -> list[Scan]:
    return [node.scan for node in every(graph.nodes) if node.scan is not None]


# -- repetitions in a sequence


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("xabcabcabcabcy", [Run(1, 3, 4)]),
        ("aaaaaaaaaa", [Run(0, 1, 10)]),
        ("abababab" + "cdecdecdecde", [Run(8, 3, 4), Run(0, 2, 4)]),
        ("aabaabaabaab", [Run(0, 3, 4)]),  # the outer period, not the inner one
        ("abcabd", []),
        ("", []),
    ],
)
def test_runs_are_found(text, runs):
    assert repeated(text, least=4, worth=1) == runs


def test_a_run_within_another_is_not_taken():
    inner = "x" * 6 + "y"
    assert repeated(inner * 5, least=4, worth=1) == [Run(0, 7, 5)]


def test_components_come_after_what_they_need():
    needs = [[1], [2], [1], [0, 2], []]
    found = components(needs)
    assert sorted(map(sorted, found)) == [[0], [1, 2], [3], [4]]
    assert found.index([1, 2]) < found.index([0]) < found.index([3])


# -- losses


def test_what_is_serial_alone_stays_a_loop():
    """Of a GARCH's 15 operations forward and 16 backward, two and three wait for the iteration before."""

    def garch(p, r):
        h, total = r.var(), 0.0
        for t in range(1, len(r)):
            h = p[0] + p[1] * r[t - 1] ** 2 + p[2] * h
            total = total + torch.log(h) + r[t] ** 2 / h
        return total / len(r)

    params, data = torch.tensor([0.05, 0.1, 0.8], dtype=D), torch.randn(101, dtype=D)
    graph, rolled = both_ways(garch, params, data)
    assert len(graph.nodes) > 2_000
    assert [(scan.count, len(scan.body), scan.backwards) for scan in scans(rolled)] == [(99, 2, False), (98, 3, True)]
    assert len(list(every(rolled.nodes))) < 100


def test_eight_times_the_steps_are_as_many_operations():
    def loss(p, x):
        h = torch.zeros((), dtype=D)
        for t in range(len(x)):
            h = torch.tanh(p[0] * h + p[1] * x[t])
        return (h - p[2]) ** 2

    params = torch.tensor([0.5, 0.3, 0.1], dtype=D)
    sizes = [len(list(every(both_ways(loss, params, torch.randn(n, dtype=D))[1].nodes))) for n in (40, 320)]
    assert sizes[0] == sizes[1]


def test_lags_are_handed_on():
    def loss(p, x):
        past = [p[0], p[1], p[0] * p[1]]
        for t in range(len(x)):
            past.append(0.5 * torch.sin(past[-1]) + 0.3 * past[-3] * x[t])
        return past[-1] ** 2 + past[-2]

    _, rolled = both_ways(loss, torch.tensor([0.5, 0.3], dtype=D), torch.randn(30, dtype=D))
    assert max(len(carry.inputs) for scan in scans(rolled) for carry in scan.carries) == 3


def test_rows_of_params_and_their_gradients():
    """Layers with parameters of their own."""

    def loss(p, x):
        for k in range(len(p)):
            x = x + torch.tanh(x @ p[k])
        return (x**2).mean()

    both_ways(loss, torch.randn(12, 4, 4, dtype=D) * 0.3, torch.randn(20, 4, dtype=D))


def test_loops_within_loops():
    def loss(p, x):
        h = torch.zeros((), dtype=D)
        for t in range(20):
            for _ in range(10):
                h = torch.sin(h) * p[0] + torch.cos(h * p[1]) * 0.1 + p[2] * h * h
            h = h + x[t]
        return h**2

    _, rolled = both_ways(loss, torch.tensor([0.3, 0.2, 0.1], dtype=D), torch.randn(20, dtype=D))
    assert any(node.scan is not None for scan in scans(rolled) for node in scan.body)


def test_a_branch_at_a_step_ends_a_loop():
    def loss(p, x):
        h = torch.zeros((), dtype=D)
        for t in range(60):
            h = torch.tanh(p[0] * h + x[t]) if t != 30 else h * p[1]
        return h**2

    _, rolled = both_ways(loss, torch.tensor([0.3, 0.2], dtype=D), torch.randn(60, dtype=D))
    assert max(scan.count for scan in scans(rolled)) < 31


def test_a_short_loop_stays_written_out():
    def loss(p, x):
        h = x[0]
        for t in range(4):
            h = torch.tanh(p[0] * h + x[t])
        return h**2

    graph, rolled = both_ways(loss, torch.tensor([0.3], dtype=D), torch.randn(4, dtype=D))
    assert rolled is graph


LONG = {5, 10, 11, 29, 30, 33, 37, 101, 102, 103, 109, 112}
"""Seeds whose loops take seconds."""


def seeds(*some):
    return [pytest.param(seed, marks=pytest.mark.slow if seed in LONG else ()) for seed in range(*some)]


@pytest.mark.parametrize("seed", seeds(40))
def test_random_loops_have_the_same_values(seed):
    case = recurrent(seed)
    both_ways(case.loss, case.params, case.data)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(30))
def test_many_random_loops_have_the_same_values(part):
    for seed in range(100 * part + 40, 100 * part + 140):
        case = recurrent(seed)
        both_ways(case.loss, case.params, case.data)


# -- compiled


def compared(case: Recurrent, tolerance: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastpoly.DivergenceWarning)
        runs = [
            fastpoly.descend(case.loss, case.params, (case.data,), learn_rate=1e-3, steps=3, backend=backend)
            for backend in ("fused", "eager")
        ]
    for fused, eager in ((runs[0].params, runs[1].params), (runs[0].loss, runs[1].loss)):
        torch.testing.assert_close(
            fused, eager, rtol=tolerance, atol=tolerance * float(eager.nan_to_num().abs().max()), equal_nan=True
        )


@pytest.mark.parametrize("seed", seeds(100, 116))
def test_kernels_of_random_loops(seed):
    compared(recurrent(seed), 1e-11)


@pytest.mark.parametrize("seed", range(200, 206))
def test_kernels_of_random_loops_in_float32(seed):
    compared(recurrent(seed, torch.float32), 2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(30))
def test_kernels_of_many_random_loops(part):
    for seed in range(100 * part, 100 * part + 100):
        compared(recurrent(seed), 1e-11)


def test_two_losses_that_differ_within_a_loop_have_two_kernels():
    def loss_with(inner):
        def loss(p, x):
            h = torch.zeros((), dtype=D)
            for t in range(40):
                h = inner(p[0] * h + x[t])
            return h**2

        return loss

    x = torch.randn(40, dtype=D)
    for inner in (torch.tanh, torch.sin, lambda a: 0.5 * a, lambda a: 0.25 * a):
        compared(Recurrent(loss_with(inner), torch.tensor([0.3], dtype=D), x, ""), 1e-11)


def test_states_that_are_put_together_by_cat():
    def loss(p, x):
        h, kept = torch.zeros(3, dtype=D), []
        for t in range(30):
            h = torch.tanh(p[:3] * h + x[t])
            kept.append(h[None])
        return (torch.cat(kept) * p[3]).sum() + (torch.cat(kept, 1)[0, 5:40] ** 2).sum()

    case = Recurrent(loss, torch.randn(4, dtype=D), torch.randn(30, dtype=D), "")
    _, rolled = both_ways(case.loss, case.params, case.data)
    assert len(list(every(rolled.nodes))) < 80
    compared(case, 1e-11)


def test_what_is_looked_up_at_every_step():
    """A table of parameters, the place in it told by the data, a long one and a short one."""
    for size in (5, 40):
        places = torch.randint(0, size, (30,))

        def loss(p, x, places=places):
            h = torch.zeros((), dtype=D)
            for t in range(30):
                h = torch.tanh(0.5 * h + p[places[t]] + p.gather(0, places[t : t + 1])[0] * x[t])
            return h**2

        case = Recurrent(loss, torch.randn(size, dtype=D) * 0.3, torch.randn(30, dtype=D), "")
        both_ways(case.loss, case.params, case.data)
        compared(case, 1e-11)


def test_data_that_broadcast_differently_at_each_step_stay_written_out():
    def loss(p, x):
        h = torch.zeros(3, dtype=D)
        for t in range(12):
            h = torch.tanh(p * h + (x[t] if t % 2 else x[t : t + 3]))
        return (h**2).sum()

    compared(Recurrent(loss, torch.randn(3, dtype=D), torch.randn(20, dtype=D), ""), 1e-11)


def test_masks_of_each_step():
    mask = torch.rand(30, 4) > 0.5

    def loss(p, x):
        h = torch.zeros(4, dtype=D)
        for t in range(30):
            h = torch.where(mask[t], torch.tanh(p * h + x[t]), h)
        return (h**2).sum()

    case = Recurrent(loss, torch.randn(4, dtype=D), torch.randn(30, dtype=D), "")
    both_ways(case.loss, case.params, case.data)
    compared(case, 1e-11)


def test_gradients_of_slices_are_added_up_without_the_zeros_beside_them():
    """No row of a loop is put together with zeros, to be added to others."""

    def loss(w):
        y = torch.zeros_like(w)
        for _ in range(20):
            y = (y + torch.cat([w[:2], w[2:] * y[:-2]])).sin()
        return y.sum()

    _, rolled = both_ways(loss, torch.linspace(0.1, 1, 9, dtype=D))
    assert scans(rolled)
    assert not [node for node in rolled.nodes if node.op == "cat" and len(node.shape) > 1 and node.args[1] != 0]
