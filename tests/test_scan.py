"""Loops over time that a loss writes openly: the plain loop of torch, as one loop of a kernel."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from random_scans import random_scan
from scan_losses import LOSSES, garch, plain

import fastpoly._called_loops as called_loops
from fastpoly import UnsupportedOperationError, _scan, descend, descend_module, scan, value_and_grad

D = torch.float64
P = torch.tensor([0.5, 0.3, 0.2], dtype=D)
X = torch.linspace(-1, 1, 12, dtype=D)


def by_torch(loss, params, *data):
    own = params.clone().requires_grad_()
    value = loss(plain, own, *data)
    return value.detach(), torch.autograd.grad(value, own, materialize_grads=True)[0]


def fused(loss, params, *data, **options):
    return value_and_grad(partial(loss, partial(scan, **options)), backend="fused")(params, *data)


SELDOM = ("LSTM", "carries ignored", "data", "Python around others", "loops within loops", "what is around, few")
"""What others have, too."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SELDOM else ()) for n in LOSSES])
def test_value_and_gradient_are_those_of_the_plain_loop(name):
    loss, params, data = LOSSES[name]
    torch.testing.assert_close(fused(loss, params, *data), by_torch(loss, params, *data), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["GARCH", "RNN"])
def test_in_float32(name):
    loss, params, data = LOSSES[name]
    params, data = params.float(), [one.float() for one in data]
    # some roundings of 6e-8 in each of some tens of steps
    torch.testing.assert_close(fused(loss, params, *data), by_torch(loss, params, *data), rtol=2e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_random_loops(part):
    for seed in range(25 * part, 25 * part + 25):
        loss, params, data = random_scan(seed)
        want = by_torch(loss, params, *data)
        torch.testing.assert_close(fused(loss, params, *data), want, rtol=1e-9, atol=1e-9, msg=f"seed {seed}")


LONGER = {
    "GARCH": 201,
    "RNN": 100,
    "RNN from the end": 115,
    "loops within loops": 65,
    "branches": 70,
    "hidden Markov model": 73,
    "carries ignored": 65,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if i > 4 else ()) for i, n in enumerate(LONGER)]
)
def test_checkpoints(name):
    """The carry is kept before some steps alone."""
    loss, params, data = LOSSES[name]
    data = [torch.cat([one] * 20)[: LONGER[name]] for one in data]
    got = fused(loss, params, *data, checkpoint_bytes=0)
    torch.testing.assert_close(got, by_torch(loss, params, *data), rtol=1e-9, atol=1e-12)


def test_checkpoints_take_less_memory(monkeypatch):
    def last(scan, p, x):
        h, _ = scan(lambda h, x: (torch.tanh(p @ h + x), None), x.new_zeros(len(p)), xs=x)
        return (h**2).sum()

    def scratch(**options):
        f = value_and_grad(partial(last, partial(scan, **options)), backend="fused")
        f(torch.eye(16, dtype=D) * 0.5, torch.ones(900, 1, dtype=D))
        (kind,) = f._kinds.values()
        return kind.evaluation._program.written.layout.scratch

    all_kept, least = scratch(), scratch(checkpoint_bytes=0)
    assert least < all_kept / 3
    monkeypatch.setattr(_scan, "available_bytes", lambda: 900 * 16 * 8)  # of which a sixteenth is too little
    assert scratch() == least
    assert scratch(checkpoint_bytes=900 * 16 * 8) == all_kept


# -- many steps


def test_a_step_is_traced_as_often_for_any_length():
    def calls(length):
        count = 0

        def loss(p):
            def step(h):
                nonlocal count
                count += 1
                return torch.sin(h) * p[0] + p[1], None

            return scan(step, p[2], length=length)[0] ** 2

        descend(loss, P, learn_rate=0.1, steps=1, backend="fused")
        return count

    few, many = calls(20), calls(called_loops.LONG + 1)
    assert few - 20 < 10  # and as often as it has steps where it is compared with torch's own
    assert many < 30


@pytest.mark.parametrize("length", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_steps(length):
    _, params, _ = LOSSES["GARCH"]
    r = torch.randn(length + 1, dtype=D, generator=torch.Generator().manual_seed(1))
    want = by_torch(garch, params, r)
    torch.testing.assert_close(fused(garch, params, r), want, rtol=1e-9, atol=1e-12)
    own = params.clone().requires_grad_()
    value = garch(scan, own, r)
    value.backward()
    torch.testing.assert_close((value.detach(), own.grad), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 2, 7, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_few_steps(length, reverse):
    def loss(scan, p, x):
        h, ys = scan(lambda h, x: (torch.sin(h * p[0] + x), h * x), p[1], xs=x, reverse=reverse)
        return h**2 + ys.sum() * p[2]

    def nothing(p, x):
        return p[1] ** 2 + x.sum() * p[2]

    x = X[:length]
    want = by_torch(loss, P, x) if length else by_torch(lambda _, *given: nothing(*given), P, x)
    torch.testing.assert_close(fused(loss, P, x), want, rtol=1e-9, atol=1e-12)


def test_few_steps_with_branches():
    """Would be more sides of the loss than it may have, one by one."""
    loss, params, (x,) = LOSSES["branches"]
    torch.testing.assert_close(fused(loss, params, x[:6]), by_torch(loss, params, x[:6]), rtol=1e-9, atol=1e-12)


# -- where it is called


@pytest.mark.parametrize("name", ["RNN", pytest.param("three loops", marks=pytest.mark.slow)])
def test_in_a_descent(name):
    loss, params, data = LOSSES[name]
    runs = [
        descend(partial(loss, own), params, data, learn_rate=0.01, steps=4, optimizer="adam", backend=backend)
        for own, backend in ((scan, "fused"), (plain, "eager"), (scan, "eager"))
    ]
    for run in runs[::2]:
        torch.testing.assert_close((run.params, run.loss), (runs[1].params, runs[1].loss), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [pytest.param("RNNCell", marks=pytest.mark.slow), "GRU"])
def test_a_modules_parameters_are_trained(kind):
    """They are reached by the step alone; those of a layer by a list that it keeps."""

    def trained(scan, backend):
        torch.manual_seed(0)
        module = getattr(torch.nn, kind)(2, 3).double()

        def loss(module, x):
            def step(h, x):
                h = module(x, h) if kind == "RNNCell" else module(x[None], h[None])[1][0]
                return h, h

            h, hs = scan(step, x.new_zeros(3), xs=x)
            return ((hs - 1) ** 2).mean() + (h**2).sum()

        descend_module(module, loss, (X.view(6, 2).repeat(2, 1),), learn_rate=0.1, steps=5, backend=backend)
        return {name: value.detach() for name, value in module.named_parameters()}

    torch.testing.assert_close(trained(scan, "fused"), trained(plain, "eager"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [12, pytest.param(called_loops.LONG + 1, marks=pytest.mark.slow)])
def test_params_that_a_step_has_from_elsewhere(length):
    params = P.clone().requires_grad_()
    xs = torch.sin(torch.arange(length, dtype=D))

    def loss(scan, own, x):
        return (scan(lambda h, x: ((h := torch.sin(h * params[0] + x * params[1])), h), own[2], xs=x)[1] ** 2).mean()

    runs = [
        descend(partial(loss, own), params, xs, learn_rate=0.1, steps=2, backend=backend).params
        for own, backend in ((scan, "fused"), (plain, "eager"), (scan, "eager"))
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(runs[2], runs[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_of_its_own(backend, reverse):
    def step(carry, weight, x):
        h = torch.tanh(carry["h"] * weight + x[0])
        _, inner = scan(lambda z: (z * 0.5 + h, z), h, length=9)
        return {"h": h, "k": (carry["k"] + 1) % 5}, (h * x[1], inner.sum() * carry["k"])

    given = {"h": P[0], "k": torch.tensor(2)}, P[1]
    options = {"xs": [X, X**2], "reverse": reverse}
    want = plain(step, *given, **options)
    torch.testing.assert_close(scan(step, *given, **options, backend=backend), want, rtol=1e-9, atol=1e-12)


OFTEN = ("GARCH", "loops within loops", "what is around")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in LOSSES])
def test_by_kernels_for_torchs_autograd(monkeypatch, name):
    monkeypatch.setattr(called_loops, "LONG", 7)
    calls = []
    monkeypatch.setattr(called_loops._Kernels, "gradients", lambda *given: calls.append(1) or gradients(*given))
    loss, params, data = LOSSES[name]
    own = params.clone().requires_grad_()
    value = loss(scan, own, *data)
    grad = torch.autograd.grad(value, own, materialize_grads=True)[0]
    torch.testing.assert_close((value.detach(), grad), by_torch(loss, params, *data), rtol=1e-9, atol=1e-12)
    assert calls or "few" in name


gradients = called_loops._Kernels.gradients


@pytest.mark.parametrize("reverse", [False, True])
def test_the_last_of_many_steps_are_compared_too(monkeypatch, reverse):
    """Where the outputs have the carry, torch goes on from there."""
    taken, values = [], called_loops._Kernels.values

    def wrong_at_the_end(kernels, inputs):
        carry, rows = values(kernels, inputs)
        taken.append(len(rows))
        rows[2 if reverse else -3] += 1e-3
        return [carry, rows]

    monkeypatch.setattr(called_loops._Kernels, "values", wrong_at_the_end)
    own, x = P.clone().requires_grad_(), torch.sin(torch.arange(called_loops.LONG + 1, dtype=D))

    def seen(scan):
        return scan(lambda h, x: ((h := torch.sin(h * own[0] + x)), h), own[1], xs=x, reverse=reverse)[1]

    torch.testing.assert_close(seen(scan), seen(plain), rtol=1e-12, atol=1e-12)
    assert taken == [len(x)]


def with_its_slope(loss, scan, p, *data):
    """A loss with a penalty on the gradient of another, which is differentiated again."""
    value = loss(scan, p, *data)
    (slope,) = torch.autograd.grad(value, p, create_graph=True, materialize_grads=True)
    return value + slope.square().sum()


TWICE = ("GARCH", "carries of many kinds", "what is around", "an infinite slope at the end")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in TWICE else pytest.mark.slow) for n in LOSSES])
@pytest.mark.parametrize("by", ["a kernel", "kernels for torch's autograd"])
def test_a_gradient_that_is_differentiated_again(monkeypatch, name, by):
    """It is that of a loop in Python, one step after the other."""
    loss, params, data = LOSSES[name]
    loss = partial(with_its_slope, loss)
    want = by_torch(loss, params, *data)
    if by == "a kernel":
        if name == "branches":  # each of many steps asks which side it takes
            with pytest.raises(UnsupportedOperationError, match="the value of a tensor decides"):
                fused(loss, params, *data)
            return
        got = fused(loss, params, *data)
    else:
        monkeypatch.setattr(called_loops, "LONG", 7)
        got = by_torch(lambda _, *given: loss(scan, *given), params, *data)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [12, called_loops.LONG + 1])
def test_gradients_for_torchs_autograd(length):
    """Of carry, data, xs and what a step reaches, leaves and not."""

    def gradients(scan):
        start, weight, x, bias = (part.clone().requires_grad_() for part in (P[0], P[1], X, P[2]))
        twice = bias * 2
        xs = torch.cat([x] * (length // len(X) + 1))[:length]
        (h, k), ys = scan(
            lambda c, w, x: ((torch.sin(c[0] * w + x * twice), c[1] + 1), (c[0], c[1])),
            (start, torch.tensor(0)),
            weight,
            xs=xs,
        )
        value = h * k + (ys[0] * ys[1]).mean()
        assert not ys[1].requires_grad
        return value.detach(), torch.autograd.grad(value, [start, weight, x, bias])

    torch.testing.assert_close(gradients(scan), gradients(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("has_output", [True, False])
def test_a_long_step_that_python_changes_is_taken_by_torch(has_output):
    calls = 0

    def step(h):
        nonlocal calls
        calls += 1
        return h * 0.5 + 1 / calls, h if has_output else None

    own, length = P[0].clone().requires_grad_(), called_loops.LONG + 1
    last, _ = scan(step, own, length=length)
    h = P[0]
    for k in range(calls - length + 1, calls + 1):
        h = h * 0.5 + 1 / k
    torch.testing.assert_close(last.detach(), h, rtol=1e-12, atol=0)


# -- what it refuses


def of(step, carry=P[0], **options):
    return lambda p: scan(partial(step, p), carry, **({"length": 9} | options))[0].sum()


outside = torch.zeros(3, dtype=D)
kept: list[torch.Tensor] = []


def keeps(p):
    kept.clear()
    scan(lambda h: (kept.append(h) or torch.sin(h) * p[0], h), p[1], length=9)
    return kept[0] * p[2]


def writes(p):
    hs = torch.zeros(9, dtype=D)
    scan(lambda c: ((c[0] * p[0], hs[0].copy_(c[0])), None), (p[1], p[2]), length=9)
    return hs.sum()


def counts(p):
    count = torch.zeros((), dtype=D)
    h, _ = scan(lambda h: (h * p[0] + count.add_(1), None), p[1], length=9)
    return h


def of_whole_numbers(p):
    (h, k), _ = scan(lambda c: ((c[0] * p[0], (2 * c[1] + (c[0] > 0)) % 7), None), (p[1], torch.tensor(0)), length=9)
    return h * k


REFUSED = {
    "another shape": (of(lambda p, h: (torch.stack([h, h]) * p[0], h)), ValueError, "leaf 0 of the carry"),
    "another dtype": (of(lambda p, h: ((h * p[0]).float(), h)), ValueError, "leaf 0 of the carry"),
    "another structure": (of(lambda p, h: ((h * p[0], h), h)), ValueError, "another structure"),
    "no pair": (of(lambda p, h: h * p[0]), TypeError, r"wants to return \(carry, output\)"),
    "a number": (of(lambda p, h: (h * p[0], 1.0)), TypeError, "an output: wants tensors"),
    "no tensors": (of(lambda p, h: (h, h), carry=()), ValueError, "has no tensors"),
    "xs of two lengths": (of(lambda p, h, x: (h, h), xs=(X, X[1:])), ValueError, r"xs: wants .* got \(12,\), \(11,\)"),
    "xs without an axis": (of(lambda p, h, x: (h, h), xs=P[0]), ValueError, "xs: wants tensors with one leading axis"),
    "xs without tensors": (of(lambda p, h, x: (h, h), xs=[]), ValueError, "xs: .*got no tensors"),
    "xs of another length": (of(lambda p, h, x: (h, h), xs=X), ValueError, "xs: wants a slice for each of 9 steps"),
    "no length": (of(lambda p, h: (h, h), length=None), ValueError, "length: wants"),
    "complex": (of(lambda p, h: (h, h), carry=torch.tensor(1j)), TypeError, "carry: wants real numbers"),
    "kept outside": (keeps, UnsupportedOperationError, "keeps a tensor"),
    "written outside": (writes, UnsupportedOperationError, "from outside scan's step"),
    "counted outside": (counts, UnsupportedOperationError, "from outside scan's step"),
    "random numbers": (of(lambda p, h: (h * torch.rand(()), h)), UnsupportedOperationError, "random"),
    "whole numbers that change": (
        of_whole_numbers,
        UnsupportedOperationError,
        "whole numbers in a circle",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_says_what_is_wrong(name):
    loss, error, said = REFUSED[name]
    with pytest.raises(error, match=said) as found:
        value_and_grad(loss, backend="fused")(P)
    assert "; " in str(found.value) or "Way out" in str(found.value)


def test_the_gpus_loop(interpreted):
    for name in ("GARCH", "branches"):
        got, want = interpreted(on_the_gpu, name)
        assert got == pytest.approx(want, rel=1e-12)


def on_the_gpu(name):
    """In the process of the fixture `interpreted`: the losses of the GPU's loop, and torch's."""
    import interpreted_gpu  # noqa: F401

    loss, params, data = LOSSES[name]
    return [
        descend(partial(loss, own), params, data, learn_rate=1e-3, steps=2, backend=backend).loss.tolist()
        for own, backend in ((scan, "triton"), (plain, "eager"))
    ]
