"""A parameter is trained however the loss gets at it; what requires a gradient and is not trained is told of."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from fastpoly import descend, descend_module, scan

BACKENDS = ["eager", "fused"]
D = torch.float64


def by_torch(module, loss, steps, learn_rate):
    optimizer = torch.optim.SGD(module.parameters(), lr=learn_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in module.parameters()]


def same(module, loss, wanted, backend, steps, learn_rate):
    descend_module(module, loss, learn_rate=learn_rate, steps=steps, backend=backend)
    for got, want in zip(module.parameters(), wanted, strict=True):
        torch.testing.assert_close(got.detach(), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_parameter_under_two_names(backend):
    def module():
        torch.manual_seed(0)
        layers = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}).double()
        layers["b"].weight = layers["a"].weight
        return layers

    def loss(layers):
        return (layers["b"](layers["a"](torch.ones(3, 2, dtype=D))) - 5).pow(2).mean()

    same(module(), loss, by_torch(module(), loss, 10, 0.05), backend, 10, 0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_penalty_on_a_list_of_the_losses_own(backend):
    def both():
        torch.manual_seed(0)
        module = nn.Linear(2, 1).double()
        parameters = list(module.parameters())

        def loss(module):
            return module(torch.ones(3, 2, dtype=D)).sub(1).pow(2).mean() + sum(p.pow(2).sum() for p in parameters)

        return module, loss

    (one, of_one), (other, of_other) = both(), both()
    same(other, of_other, by_torch(one, of_one, 20, 0.05), backend, 20, 0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parameter_that_the_loss_holds_beside_its_argument(backend):
    w = torch.tensor([1.0, 2.0], dtype=D, requires_grad=True)
    run = descend(lambda p: (p * w).sum(), w, learn_rate=0.1, steps=1, backend=backend)
    assert run.params.tolist() == pytest.approx([0.8, 1.6])  # of the square, not of a product with constants


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_start_without_a_gradient_is_a_number_like_any_other(backend):
    """As a penalty on the way from the start has it."""
    start = torch.ones(2, dtype=D)
    run = descend(lambda p: ((p - start) ** 2 + p).sum(), start, learn_rate=0.1, steps=2, backend=backend)
    assert run.params.tolist() == pytest.approx([0.82, 0.82])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_trained_is_told_of(backend):
    forgotten = torch.tensor(2.0, dtype=D, requires_grad=True)
    with pytest.warns(UserWarning, match=r"none of the params: it stays as it is\. Way out"):
        descend(lambda p: (p * forgotten) ** 2, torch.tensor(1.0, dtype=D), learn_rate=0.1, steps=1, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_places_where_a_derivative_is_taken_are_no_parameters(backend):
    x = torch.linspace(0, 1, 10, dtype=D, requires_grad=True)

    def residual(p, x):
        u = torch.tanh(p[0] * x) * p[1]
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return ((slope - 1) ** 2).mean()

    descend(residual, torch.ones(2, dtype=D), x, learn_rate=0.1, steps=2, backend=backend)  # and no warning


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_a_param_is_indexed_as_it_stands(backend):
    """By a tuple, which would mean another thing as a list; and it is put into a tuple with names."""
    params = torch.eye(3, dtype=D).requires_grad_()
    named = namedtuple("named", "one other")

    def loss(own, x):
        return ((params[:, 1:] * x).sum() - 1) ** 2 + torch.stack(named(params, own)).square().sum()

    run = descend(loss, params, torch.ones((), dtype=D), learn_rate=0.1, steps=1, backend=backend)
    own = params.detach().clone().requires_grad_()
    (((own[:, 1:]).sum() - 1) ** 2 + 2 * own.square().sum()).backward()
    torch.testing.assert_close(run.params.detach(), params.detach() - 0.1 * own.grad)


def test_scan_loses_no_gradient():
    a, one = torch.tensor(0.9, dtype=D, requires_grad=True), torch.ones((), dtype=D)
    for last, _ in (
        scan(lambda c, a: (c * a, c), one, a, 3),
        scan(lambda c: (c * a, c), one, length=3),
        scan(lambda c: (c * 0.9, c), a * a * a / 0.729, length=3),
    ):
        (grad,) = torch.autograd.grad(last, a)
        assert (last.item(), grad.item()) == pytest.approx((0.729, 3 * 0.81))
    with torch.no_grad():
        last, _ = scan(lambda c, a: (c * a, c), one, a, 3)
    assert float(last) == pytest.approx(0.9**3)
