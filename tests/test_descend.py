"""`descend` as its callers see it: the optimizers, what is refused, divergence, going on from a result."""

import itertools
import re

import numpy as np
import pytest
import torch
import zoo

from fastpoly import DivergenceWarning, UnsupportedOperationError, descend, optimizers, scan

X = torch.linspace(-2, 2, 100, dtype=torch.float64)
W = torch.tensor(0.7, dtype=torch.float64)
OPTIMIZERS = {
    "sgd": ("sgd", lambda p: torch.optim.SGD(p, lr=0.01)),
    "momentum": ("momentum", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    "nesterov": ("nesterov", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)),
    "adam": ("adam", lambda p: torch.optim.Adam(p, lr=0.01)),
    "adamw": ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01)),
    "dampening": (
        optimizers.SGD(momentum=0.5, dampening=0.2, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5, dampening=0.2, weight_decay=0.01),
    ),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimizer_is_torchs(name):
    ours, theirs = OPTIMIZERS[name]
    model = zoo.model("exponential-decay", torch.float64)
    weights = model.params.clone().requires_grad_()
    optimizer = theirs([weights])
    for _ in range(1000):
        optimizer.zero_grad()
        model.loss(weights, *model.data).backward()
        optimizer.step()
    run = descend(model.loss, model.params, model.data, learn_rate=0.01, steps=1000, optimizer=ours, backend="fused")
    assert run.params.tolist() == pytest.approx(weights.tolist(), abs=1e-12, rel=0)  # a thousand roundings


@pytest.mark.parametrize("rule", ["lion", optimizers.Lion((0.8, 0.9), weight_decay=0.1)], ids=["lion", "decay"])
def test_lion_is_a_loop_by_hand(rule):
    first, second, decay = (0.9, 0.99, 0.0) if rule == "lion" else (0.8, 0.9, 0.1)
    model = zoo.model("exponential-decay", torch.float64)
    weights, momentum = model.params.clone(), torch.zeros_like(model.params)
    for _ in range(300):
        weights = weights.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.loss(weights, *model.data), weights)
        step = torch.sign(first * momentum + (1 - first) * slope) + decay * weights
        weights, momentum = weights - 0.003 * step, second * momentum + (1 - second) * slope
    run = descend(model.loss, model.params, model.data, learn_rate=0.003, steps=300, optimizer=rule, backend="fused")
    assert run.params.tolist() == pytest.approx(weights.tolist(), abs=1e-12, rel=0)
    assert run.state[0].tolist() == pytest.approx(momentum.tolist(), abs=1e-12, rel=0)


@pytest.mark.parametrize(
    "rule",
    ["adabelief", optimizers.AdaBelief((0.8, 0.99), eps=1e-12, weight_decay=0.1)],
    ids=["adabelief", "decay"],
)
def test_adabelief_is_a_loop_by_hand(rule):
    first, second, eps, decay = (0.9, 0.999, 1e-8, 0.0) if rule == "adabelief" else (0.8, 0.99, 1e-12, 0.1)
    model = zoo.model("exponential-decay", torch.float64)
    weights, mean, spread = model.params.clone(), torch.zeros_like(model.params), torch.zeros_like(model.params)
    for t in range(1, 301):
        weights = weights.detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.loss(weights, *model.data), weights)
        mean = first * mean + (1 - first) * slope
        spread = second * spread + (1 - second) * (slope - mean) ** 2 + eps
        step = (mean / (1 - first**t)) / ((spread / (1 - second**t)).sqrt() + eps)
        weights = weights * (1 - 0.003 * decay) - 0.003 * step
    run = descend(model.loss, model.params, model.data, learn_rate=0.003, steps=300, optimizer=rule, backend="fused")
    assert run.params.tolist() == pytest.approx(weights.tolist(), abs=1e-12, rel=0)
    assert run.state[0].tolist() == pytest.approx(mean.tolist(), abs=1e-12, rel=0)
    assert run.state[1].tolist() == pytest.approx(spread.tolist(), abs=1e-12, rel=0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adabelief"])
def test_a_run_goes_on_bit_for_bit(optimizer):
    model = zoo.model("exponential-decay", torch.float64)
    options = dict(learn_rate=0.01, optimizer=optimizer, backend="fused")
    whole = descend(model.loss, model.params, model.data, steps=30, **options)
    first = descend(model.loss, model.params, model.data, steps=13, **options)
    rest = descend(model.loss, first.params, model.data, steps=17, state=first.state, **options)
    assert torch.equal(rest.params, whole.params)
    assert torch.equal(torch.cat([first.loss, rest.loss]), whole.loss)


KEPT = []
COUNT = itertools.count(1)
REFUSED = {
    "a branch": (lambda w, x: w * w if float(w) > 0 else w, "test_descend.py"),
    "item": (lambda w, x: w * w.item(), "_local_scalar_dense"),
    "random": (lambda w, x: w * torch.ones(3).multinomial(1).sum(), "multinomial"),
    "a leak": (lambda w, x: (KEPT.append(w * x), (w * x).sum())[1], "keeps a tensor"),
    "a counter": (lambda w, x: w * w * next(COUNT), "does something else when it is called again"),
    "numpy's random": (lambda w, x: w * w * np.random.default_rng().random(), "does something else"),
    "a short dtype": (lambda w, x: (w * x.half()).sum(), "torch.float16"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_fused_is_told(name):
    loss, message = REFUSED[name]
    with pytest.raises(UnsupportedOperationError, match=re.escape(message)) as refusal:
        descend(loss, W, (X.clone(),), learn_rate=0.01, steps=2, backend="fused")
    assert "ay out" in str(refusal.value)
    KEPT.clear()


def test_divergence_ends_with_the_params_of_that_loss():
    def loss(w):
        return (w**2).sum()

    with pytest.warns(DivergenceWarning, match="diverged at step"):
        run = descend(loss, torch.tensor([1.0]), learn_rate=1e6, steps=100, backend="fused")
    assert run.diverged_at == run.steps == len(run.loss)
    assert not torch.isfinite(loss(run.params))


@pytest.mark.parametrize(("every", "rows"), [(1, 10), (3, 4), (100, 1), (None, 0)])
def test_the_trace_keeps_what_was_asked_for(every, rows):
    options = {"learn_rate": 0.1, "steps": 10, "backend": "fused"}
    run = descend(lambda w, x: ((w - x) ** 2).mean(), W, (X,), trace_every=every, **options)
    assert run.loss.shape == (rows,)
    assert run.backend == "fused"


def test_no_steps():
    run = descend(lambda w, x: ((w - x) ** 2).mean(), W, (X,), learn_rate=0.1, steps=0)
    assert (run.steps, float(run.params), len(run.loss)) == (0, 0.7, 0)


def test_scan_is_the_loop():
    start = (torch.tensor(0.0), torch.tensor(1.0))
    _, numbers = scan(lambda c: ((c[1], c[0] + c[1]), c[0]), start, (), 10, backend="fused")
    assert numbers.tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_the_largest_is_found_again(seed):
    """The gradient of amax compares with it; rounded differently in another loop, nothing would be equal to it."""

    def numbers(rows, columns, start):
        count = torch.arange(rows * columns, dtype=torch.float64)
        return (1.5 * torch.sin(count * 1.7 + (start + seed) * 0.61)).reshape(rows, columns)

    def loss(params):
        mixed = params[1] @ params[0].flip(1) / 3**0.5
        return (mixed + 0.01 * numbers(1, 3, 33)).amax() + (mixed.flip(-1) * numbers(1, 3, 43)).mean()

    params = [numbers(3, 3, 1), numbers(1, 3, 2)]
    fused, eager = (descend(loss, params, learn_rate=0.1, steps=20, backend=backend) for backend in ("fused", "eager"))
    assert fused.diverged_at is None
    assert fused.loss.tolist() == pytest.approx(eager.loss.tolist(), rel=1e-12)


def test_nan_is_found_as_the_largest():
    """Its place must be one that exists: what lies there is read."""
    x = torch.tensor([[1.0, float("nan"), 2.0], [3.0, 1.0, 2.0]], dtype=torch.float64)

    def step(c, x):
        values, places = (c * x).max(1)
        return c, (values, places.to(c.dtype))

    fused, eager = (scan(step, torch.ones((), dtype=torch.float64), x, 1, backend=b)[1] for b in ("fused", "eager"))
    for got, want in zip(fused, eager, strict=True):
        assert torch.equal(got.nan_to_num(-1), want.nan_to_num(-1))
