"""Losses that ask what their tensors hold: both sides are traced, and each step takes the one that torch takes."""

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend, scan, value_and_grad

X = torch.linspace(-1, 1, 21, dtype=torch.float64)
START = torch.tensor([0.4, -0.3], dtype=torch.float64)


def off(w):
    return w[0] + w[1] * X - X.sin() * 3


def plain(w):
    if w[0] > 1:
        return (off(w) ** 2).mean()
    return (off(w) ** 2).mean() + (w[0] - 2) ** 2


def both(w):
    value = off(w).abs().mean()
    if value < 0.5 and w[1] > 0:
        return 2 * value
    return value + w[0] ** 2 if bool((w < 0).any()) else value


def safe(w):
    """The root has no slope at 0, and the other side knows that."""
    square = ((w - torch.tensor([0.4, -0.3], dtype=torch.float64)) ** 2).sum()
    return (torch.sqrt(square) if square > 0 else square) + off(w).mean() ** 2


def in_a_loop(w):
    total = w.sum() * 0
    for k in range(3):
        if w[1] * (k + 1) > -0.5:
            total = total + (k + 1) * (w[0] - k) ** 2
    return total + (off(w) ** 2).mean()


def of_its_gradient(w):
    own = w if w.requires_grad else w.requires_grad_()
    value = (off(own) ** 2).mean()
    (slope,) = torch.autograd.grad(value, own, create_graph=True)
    return value + 0.1 * (slope**2).sum() if slope.norm() > 1 else value


LOSSES = {one.__name__: one for one in (plain, both, safe, in_a_loop, of_its_gradient)}


@pytest.mark.parametrize("name", LOSSES)
def test_each_step_takes_the_side_that_torch_takes(name):
    loss = LOSSES[name]
    for start in (START, START + 1, START * 0 - 0.7):
        fused, eager = (descend(loss, start, learn_rate=0.05, steps=80, backend=b) for b in ("fused", "eager"))
        torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(fused.params, eager.params, rtol=1e-11, atol=1e-11)
        value, slope = value_and_grad(loss, backend="fused")(start)
        wanted, wanted_slope = value_and_grad(loss, backend="eager")(start)
        torch.testing.assert_close(value, wanted, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(slope, wanted_slope, rtol=1e-11, atol=1e-11)


def test_a_scan_with_sides():
    def step(carry):
        w, up = carry
        if w.sum() > 3:
            return (w * 0.3, ~up), w.max()
        return (w + torch.where(up, 0.5, 0.2), up), w.min()

    start = torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor(True)
    (carry, out), (wanted_carry, wanted) = (scan(step, start, (), 50, backend=b) for b in ("fused", "eager"))
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(carry[0], wanted_carry[0])
    assert torch.equal(carry[1], wanted_carry[1])


# -- errors of the loss's own
# ----------------------------------------------------------------------------------------


def checked(w):
    if not bool((w > 0).all()):
        raise ValueError("w must be positive")
    return 3 * w[0] + w[1] ** 2


@pytest.mark.slow
def test_an_error_comes_where_torch_has_it():
    """Steps before it are taken as ever; the one that raises is not."""
    start = torch.tensor([1.5, 0.7], dtype=torch.float64)
    taken = []
    for backend in ("fused", "eager"):
        steps = 0
        with pytest.raises(ValueError, match="w must be positive"):
            descend(checked, start, learn_rate=0.02, steps=500, backend=backend)
        for steps in range(20, 32):
            try:
                descend(checked, start, learn_rate=0.02, steps=steps, backend=backend)
            except ValueError:
                break
        taken.append(steps)
    assert taken[0] == taken[1] > 20
    fine = [descend(checked, start, learn_rate=0.01, steps=20, backend=b).loss for b in ("fused", "eager")]
    torch.testing.assert_close(*fine, rtol=1e-11, atol=1e-11)


def test_an_error_at_a_call():
    call = value_and_grad(checked, backend="fused")
    start = torch.tensor([1.5, 0.7], dtype=torch.float64)
    torch.testing.assert_close(call(start), value_and_grad(checked, backend="eager")(start))
    with pytest.raises(ValueError, match="w must be positive"):
        call(-start)
    torch.testing.assert_close(call(start), value_and_grad(checked, backend="eager")(start))


def test_an_error_in_a_scan_is_not_hidden():
    def step(w):
        if w > 2:
            raise ValueError("too large")
        return w * 1.1, w

    start = torch.tensor(1.0, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="decides what the loss does"):
        scan(step, start, (), 5, backend="fused")


def test_distributions_with_their_validation():
    """Mixtures and the like: `validate_args` is on, as torch has it."""
    distributions = torch.distributions
    data = torch.randn(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def mixture(params):
        weights = distributions.Categorical(logits=params["logits"])
        parts = distributions.Normal(params["means"], params["scales"].exp())
        return -distributions.MixtureSameFamily(weights, parts).log_prob(data).mean()

    start = {
        "logits": torch.zeros(2, dtype=torch.float64),
        "means": torch.tensor([-1.0, 1.0], dtype=torch.float64),
        "scales": torch.zeros(2, dtype=torch.float64),
    }
    fused, eager = (descend(mixture, start, learn_rate=0.1, steps=100, backend=b) for b in ("fused", "eager"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-10, atol=1e-10)

    def normal(params):
        return -distributions.Normal(params[0], params[1]).log_prob(data).mean()

    for backend in ("fused", "eager"):
        with pytest.raises(ValueError, match="Expected parameter scale"):
            descend(normal, START, learn_rate=0.1, steps=20, backend=backend)


def test_distributions_in_a_loop_over_time():
    """Each asks whether it is valid: more questions than a loss may have sides, and each has one answer."""
    distributions = torch.distributions

    def garch(w, returns):
        variance, total = returns.var(), 0.0
        for t in range(1, len(returns)):
            variance = w[0] + w[1] * returns[t - 1] ** 2 + 0.5 * variance
            total = total - distributions.Normal(0.0, variance.sqrt()).log_prob(returns[t])
            total = total - distributions.StudentT(2.0 + w[2].exp(), w[3], 1.0).log_prob(returns[t])
        return total / len(returns) if total > 0 else total

    returns = torch.randn(25, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    start = torch.tensor([0.5, 0.1, 0.0, 0.0], dtype=torch.float64)
    fused, eager = (descend(garch, start, returns, learn_rate=0.02, steps=20, backend=b) for b in ("fused", "eager"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fused.params, eager.params, rtol=1e-10, atol=1e-10)
    for backend in ("fused", "eager"):
        with pytest.raises(ValueError, match="Expected parameter scale"):
            descend(garch, start, returns, learn_rate=0.8, steps=50, backend=backend)


def test_a_variance_that_becomes_negative():
    """torch's own loss looks, and raises; before that it is fused."""

    def loss(w):
        return torch.nn.functional.gaussian_nll_loss(w[0] * X, X.sin(), w[1] + 0 * X)

    start = torch.tensor([0.5, 2.0], dtype=torch.float64)
    fused, eager = (descend(loss, start, learn_rate=0.05, steps=20, backend=b) for b in ("fused", "eager"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-10, atol=1e-10)
    for backend in ("fused", "eager"):
        with pytest.raises(ValueError, match="negative entry"):
            descend(loss, start, learn_rate=5.0, steps=20, backend=backend)


# -- what is refused
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: w[0] * float(w[1]),
        lambda w: sum((w[0] - k) ** 2 for k in range(6) if w[1] > k),
        lambda w: w.sum() if w[0] > 0 else w.sum().reshape(1).float().sum(),
    ],
    ids=["a number", "too many sides", "another dtype"],
)
def test_what_is_refused_is_named(loss):
    with pytest.raises(UnsupportedOperationError):
        descend(loss, START, learn_rate=0.1, steps=3, backend="fused")


def test_a_loop_until_something_is_small_is_refused():
    def loss(w):
        value = (w * w).sum()
        while value > 0.1:
            value = value * 0.7
        return value

    with pytest.raises(UnsupportedOperationError, match=r"while value > 0.1.* decides what the loss does"):
        descend(loss, START, learn_rate=0.1, steps=3, backend="fused")
