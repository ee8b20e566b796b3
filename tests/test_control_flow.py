"""torch.cond, scan and while_loop in a loss: what they are in Python, fused."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.scan import scan as torch_scan
from torch._higher_order_ops.while_loop import while_loop

from fastpoly import UnsupportedOperationError, scan, value_and_grad
from fastpoly._inside import inside

D = torch.float64
P = torch.tensor([0.5, 0.3, 0.2], dtype=D)
X = torch.linspace(-1, 1, 15, dtype=D)


def of_cond(p):
    return (torch.cond(p[0] > p[1], lambda a: a.sin() * p[1], lambda a: a.cos(), (p * 2,)) ** 2).sum()


def of_cond_in_a_scan(p):
    def step(h, x):
        h = torch.cond(h * x > 0, lambda h: torch.sin(h) * p[1] + x, lambda h: h * p[0] - x, (h,))
        return h, h

    return (scan(step, p[2], xs=X)[1] ** 2).mean()


def of_scan(p):
    def step(carry, x):
        h = torch.tanh(carry["h"] * p[0] + x * p[1])
        return {"h": h}, {"y": h * 2, "z": (carry["h"] * p[2],)}

    carry, out = torch_scan(step, {"h": p[2].clone()}, X)
    return (out["y"] ** 2).mean() + out["z"][0].sum() + carry["h"]


def of_scan_along_another_axis(p):
    x = torch.stack([X, X**2, X**3])
    h, ys = torch_scan(lambda h, x: ((h := torch.tanh(h * p[0] + x * p[1])), h * 2), p.clone(), x, dim=1, reverse=True)
    return (ys**2 * X).mean() + h.sum()


def of_while_loop(p):
    start = torch.tensor(0), p[2].clone()
    _, h = while_loop(lambda i, h: i < 20, lambda i, h: (i + 1, torch.sin(h) * p[0] + p[1]), start)
    return h**2


def of_associative_scan(p):
    return (associative_scan(torch.add, X * p[0], 0, combine_mode="generic") ** 2).mean()


LOSSES = [of_cond, of_cond_in_a_scan, of_scan, of_scan_along_another_axis, of_while_loop, of_associative_scan]


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_fused(loss):
    own = P.clone().requires_grad_()
    with inside():  # where torch does not compile it, for seconds
        value = loss(own)
    want = value.detach(), torch.autograd.grad(value, own)[0]
    torch.testing.assert_close(value_and_grad(loss, backend="fused")(P), want, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_it_is_what_torch_makes_of_it():
    with inside():
        value = of_cond(P)
    torch.testing.assert_close(of_cond(P), value, rtol=1e-12, atol=0)


def test_a_while_loop_that_ends_at_another_time_in_each_step_is_refused():
    def loss(p):
        return while_loop(lambda h: h > 0.01, lambda h: (torch.sin(h) * p[0],), (p[2].clone(),))[0] ** 2

    with pytest.raises(UnsupportedOperationError, match=r"while_loop.*how often.*Way out: fastpoly\.scan"):
        value_and_grad(loss, backend="fused")(P)
