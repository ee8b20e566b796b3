"""One gradient at a call: against torch's own forward and backward, on the post's problem and inside SciPy's L-BFGS."""

import time

import numpy as np
import pytest
import torch
import zoo

from fastpoly import value_and_grad

FEATURES = "docs/bars.md: features"

pytestmark = pytest.mark.benchmark(group="bars")


def torchs(loss):
    """torch's own forward and backward pass, on numpy's arrays as SciPy has them."""

    def call(w, *data):
        own = torch.from_numpy(w).requires_grad_()
        value = loss(own, *data)
        (grad,) = torch.autograd.grad(value, own)
        return float(value.detach()), grad.numpy()

    return call


def post_loss(w, x, y):
    return ((y - (w[0] + x * (w[1] + x * (w[2] + x * w[3])))) ** 2).sum()


def test_a_call_on_the_posts_problem(versus, post):
    x, y = (torch.from_numpy(samples) for samples in post)
    w = np.array([0.1, 0.8, -0.02, -0.1])
    ours, theirs = value_and_grad(lambda w: post_loss(w, x, y), backend="fused"), torchs(post_loss)
    np.testing.assert_allclose(ours(w)[1], theirs(w, x, y)[1], rtol=1e-10)
    versus(
        ("torch: forward and backward", lambda: theirs(w, x, y)),
        ("value_and_grad", lambda: ours(w)),
        rounds=31,
        inner=(20, 400),
        at_least=20,
        source=FEATURES,
    )


class Timed:
    """A function, and the seconds spent in it."""

    def __init__(self, function):
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments):
        started = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return result


def logistic(n):
    model = zoo.model("logistic", torch.float64, n)
    leaves, structure = torch.utils._pytree.tree_flatten(model.params)
    sizes = [leaf.numel() for leaf in leaves]

    def loss(w):
        parts = [part.reshape(leaf.shape) for part, leaf in zip(w.split(sizes), leaves, strict=True)]
        return model.loss(torch.utils._pytree.tree_unflatten(parts, structure), *model.data) + 1e-3 * (w * w).sum()

    return loss, np.zeros(sum(sizes))


@pytest.mark.parametrize(("n", "bar"), [(100, 20), (10_000, 3)])
def test_inside_of_scipys_l_bfgs(versus, n, bar):
    optimize = pytest.importorskip("scipy.optimize")
    loss, start = logistic(n)

    def run(call):
        timed = Timed(call)
        found = optimize.minimize(timed, start, jac=True, method="L-BFGS-B")
        return found, timed

    fused, eager = value_and_grad(loss, backend="fused"), torchs(loss)
    (ours, of_ours), (theirs, of_theirs) = run(fused), run(eager)
    np.testing.assert_allclose(ours.fun, theirs.fun, rtol=1e-8)
    evaluations = max(of_ours.calls, of_theirs.calls)
    versus(
        (f"torch's gradient, {evaluations} times, n = {n:,}", lambda: [eager(start) for _ in range(evaluations)]),
        ("value_and_grad's", lambda: [fused(start) for _ in range(evaluations)]),
        rounds=15,
        at_least=bar,
        source=FEATURES,
    )


def test_the_whole_of_scipys_l_bfgs(benchmark, limits):
    """How much of what a free gradient would gain is gained."""
    optimize = pytest.importorskip("scipy.optimize")
    loss, start = logistic(10_000)
    fused, eager = value_and_grad(loss, backend="fused"), torchs(loss)
    whole, inside = {"fused": [], "eager": []}, {"fused": [], "eager": []}
    for _ in range(9 if benchmark.enabled else 1):
        for name, call in (("fused", fused), ("eager", eager)):
            timed, started = Timed(call), time.perf_counter()
            optimize.minimize(timed, start, jac=True, method="L-BFGS-B")
            whole[name].append(time.perf_counter() - started)
            inside[name].append(timed.seconds)
    total = {name: np.median(seconds) for name, seconds in whole.items()}
    spent = {name: np.median(seconds) for name, seconds in inside.items()}
    missing = 1 - (total["eager"] - total["fused"]) / spent["eager"]
    benchmark.pedantic(lambda: optimize.minimize(fused, start, jac=True, method="L-BFGS-B"), rounds=1)
    limits("L-BFGS with value_and_grad: left of what a gradient for nothing would gain", missing, 0.2, "", FEATURES)
