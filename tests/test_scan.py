"""Loops over time that a loss writes openly: the plain loop of torch, as one loop of a kernel."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from scan_losses import LOSSES, plain

from fastpoly import scan, value_and_grad

D = torch.float64


def by_torch(loss, params, *data):
    own = params.clone().requires_grad_()
    value = loss(plain, own, *data)
    return value.detach(), torch.autograd.grad(value, own, materialize_grads=True)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_the_plain_loop(name):
    loss, params, data = LOSSES[name]
    want = by_torch(loss, params, *data)
    got = value_and_grad(partial(loss, scan), backend="fused")(params, *data)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["GARCH", "RNN", "Kalman filter", "three loops"])
def test_in_float32(name):
    loss, params, data = LOSSES[name]
    params, data = params.float(), [one.float() for one in data]
    want = by_torch(loss, params, *data)
    got = value_and_grad(partial(loss, scan), backend="fused")(params, *data)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=1e-6)
