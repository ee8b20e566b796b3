"""From one sample to ten million, from one parameter to hundreds: what threads share, and what has loops of its own."""

import math
import re

import pytest
import torch
import zoo

from fastpoly import DivergenceWarning, descend
from fastpoly._fuse import program, traced

ROUNDINGS = 1e-11
"""Sums of up to 10**7 numbers in another order; a register left out or taken twice would be 1e-7."""


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """As if the machine had so many processors: no kernel for another number may be found in memory."""
    monkeypatch.setattr(program, "processors", lambda: request.param)
    monkeypatch.setattr(traced, "_known", type(traced._known)())
    return request.param


def deviation(run, params, losses):
    got, want = torch.utils._pytree.tree_leaves(run.params), torch.utils._pytree.tree_leaves(params)
    off = [float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, want, strict=True)]
    return max(*off, float((run.loss / losses - 1).abs().max()))


def fused(model, steps):
    return descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=steps, backend="fused")


# no multiple of any register; and 20,000 for a loop over hidden units or features, where a step is long
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("polynomial", 300_001),
        ("damped-sine", 100_003),
        ("softmax", 100_001),
        ("linear-64", 20_001),
        ("tanh-network", 20_003),
        pytest.param("gelu-network", 20_001, marks=pytest.mark.slow),
    ],
)
def test_threads_share_the_samples(name, n, threads):
    model = zoo.model(name, torch.float64, n)
    run = fused(model, 3)
    assert (", thread):" in run.source) == (threads > 1)
    assert deviation(run, *zoo.eager(model, 3)) < ROUNDINGS
    again = fused(model, 3)
    assert torch.equal(again.loss, run.loss)


def test_the_last_samples_fit_into_one_register_or_not():
    """Of two at a time: of 97 and 101 samples, one and five are left over whatever their width."""
    sources = []
    for n in (97, 101):
        model = zoo.model("tanh-network", torch.float64, n)
        run = fused(model, 3)
        assert deviation(run, *zoo.eager(model, 3)) < ROUNDINGS
        sources.append(run.source)
    lanes = {int(count) for count in re.findall(r"load\(data, .*?, (\d+)\)", sources[0])}
    assert len(lanes) == 2


@pytest.mark.parametrize("n", [5, 33, 47, 999, 200_003])
def test_parts_of_a_tensor_end_before_it(n, threads):
    """What does not fill a register is not written over the part that comes next."""
    draw = zoo.draws(n, torch.float64)

    def loss(w, x, y):
        both = torch.cat([w[0] * x, (w[1] * y).sin()]).cumsum(0) / n
        return (torch.cat([x[:1], both[:-1] * w[2]]) - both.flip(0)).square().mean()

    model = zoo.Model("parts", loss, draw(3), (draw(n), draw(n)), 1e-2)
    run = fused(model, 3)
    if n > 33:
        assert f", {n}):" in run.source, "no part ends element by element"
    assert deviation(run, *zoo.eager(model, 3)) < ROUNDINGS


def test_threads_stop_together(threads):
    model = zoo.model("polynomial", torch.float64, 300_001)
    with pytest.warns(DivergenceWarning):
        run = descend(model.loss, model.params, model.data, learn_rate=1e3, steps=500, backend="fused")
    assert 2 < run.diverged_at == len(run.loss) < 500
    assert run.loss.isfinite().all()


@pytest.mark.slow
def test_networks_of_many_layers():
    """More operations one after the other, from the input to its gradient, than Python's limit of recursion allows."""
    draw = zoo.draws(12, torch.float64)
    params = [draw(6, 6) / 2 for _ in range(16)]

    def loss(params, x):
        for weight in params:
            x = x + 0.1 * torch.tanh(x @ weight)
        return x.square().mean()

    model = zoo.Model("deep", loss, params, (draw(50, 6),), 1e-2)
    assert deviation(fused(model, 3), *zoo.eager(model, 3)) < ROUNDINGS


@pytest.mark.slow
def test_ten_million_samples():
    model = zoo.model("horner", torch.float64, 10_000_000)
    assert deviation(fused(model, 2), *zoo.eager(model, 2)) < ROUNDINGS


def test_ten_million_samples_in_single():
    """One running sum in each lane would stop at 2**24 times what it adds; sums of blocks keep four digits of equal
    terms, whose roundings all go the same way, and more of any others."""
    y = torch.full((10_000_000,), 0.1)
    run = descend(lambda w, y: ((w - y) ** 2).mean(), torch.zeros(()), y, learn_rate=0.1, steps=1, backend="fused")
    assert float(run.loss) == pytest.approx(0.01, rel=1e-4)
    assert float(run.params) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_hundreds_of_scalar_parameters(count):
    """500 take most of a minute to compile, once."""
    x = torch.linspace(0, 1, 100, dtype=torch.float64)
    y = torch.exp(torch.sin(7 * x))

    def loss(params, x, y):
        model = sum(p * torch.cos(math.pi * k * x) for k, p in enumerate(params))
        return ((y - model) ** 2).mean()

    params = [torch.tensor(0.01 * (k % 3), dtype=torch.float64) for k in range(count)]
    options = dict(learn_rate=1e-3, steps=5)
    fused, eager = (descend(loss, params, (x, y), backend=backend, **options) for backend in ("fused", "eager"))
    assert fused.loss.tolist() == pytest.approx(eager.loss.tolist(), rel=ROUNDINGS)
    assert torch.stack(fused.params).tolist() == pytest.approx(torch.stack(eager.params).tolist(), abs=ROUNDINGS)


@pytest.mark.parametrize("hidden", [17, 64, 100])
def test_hidden_layers_of_any_width(hidden):
    """More than is written out; as many as there are samples, too."""
    draw = zoo.draws(11, torch.float64)
    params = {"a": draw(2, hidden), "b": draw(hidden, hidden) / 8, "c": draw(hidden, 1) / 8}
    data = draw(100, 2), draw(100, 1)

    def loss(params, x, y):
        h = torch.tanh(torch.tanh(x @ params["a"]) @ params["b"])
        return ((y - h @ params["c"]) ** 2).mean()

    model = zoo.Model("network", loss, params, data, 1e-2)
    assert deviation(fused(model, 20), *zoo.eager(model, 20)) < ROUNDINGS
