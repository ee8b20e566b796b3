"""float32 and float64 in one loss: rounded where torch rounds, and promoted as torch promotes."""

import pytest
import torch

from fastpoly import UnsupportedOperationError, descend, scan, value_and_grad

X = torch.linspace(-1, 1, 37, dtype=torch.float64)
Y = X.sin() + 0.1 * X
FLOAT = torch.float32


def residuals(w, x, y):
    return w[0] + w[1] * x - y


LOSSES = {
    "float32 params, float64 data": (FLOAT, lambda w, x, y: (residuals(w, x, y) ** 2).mean()),
    "float64 params, float32 data": (
        torch.float64,
        lambda w, x, y: ((residuals(w, x.float(), y.float()) * 0.1).exp() ** 2).mean(),
    ),
    "cast inside": (torch.float64, lambda w, x, y: (residuals(w.float(), x.float(), y.float()) ** 2).mean().double()),
    "cast of what comes out": (torch.float64, lambda w, x, y: ((residuals(w, x, y).float() * 0.1) ** 2).mean()),
    "numbers of no tensor": (FLOAT, lambda w, x, y: ((w[0] * 0.1 + 0.7) ** 2 + (w[1] - 1e-3).sin() * x[3]).sum()),
    "a count": (torch.float64, lambda w, x, y: (0.001 * (x > w[0]).sum() + residuals(w, x, y) ** 2).mean()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_as_torch_has_it(name):
    dtype, loss = LOSSES[name]
    start = torch.tensor([0.3, 0.1], dtype=dtype)
    runs = [descend(loss, start, (X, Y), learn_rate=0.1, steps=60, backend=b) for b in ("eager", "fused")]
    eager, fused = runs
    assert fused.loss.dtype == eager.loss.dtype
    assert fused.params.dtype == dtype
    torch.testing.assert_close(fused.loss, eager.loss, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(fused.params, eager.params, rtol=2e-6, atol=2e-6)


def test_each_operation_is_rounded():
    """What has no sums is as torch has it, but for the last place where a product and a sum are one instruction."""

    def step(carry):
        a, b = carry
        short = (a.float() * 0.1 + 1.7) * 3.3 - a.float() * a.float()
        return (short.double() + 0.3 * b, (b * 0.9).float().double()), (short, (a.float() - 0.25).sqrt())

    start = torch.linspace(0.3, 0.9, 11, dtype=torch.float64), torch.linspace(-1, 1, 11, dtype=torch.float64)
    (_, (short, roots)), (_, (wanted, wanted_roots)) = (
        scan(step, start, (), 1, backend=backend) for backend in ("fused", "eager")
    )
    assert short.dtype == FLOAT
    torch.testing.assert_close(short, wanted, rtol=2e-7, atol=0)
    torch.testing.assert_close(roots, wanted_roots, rtol=0, atol=0, equal_nan=True)


def test_a_gradient_of_mixed_dtypes():
    w = torch.tensor([0.3, 0.1])
    value, grad = value_and_grad(lambda w, x, y: (residuals(w, x, y) ** 2).mean(), backend="fused")(w, X, Y)
    own = w.clone().requires_grad_()
    want = (residuals(own, X, Y) ** 2).mean()
    want.backward()
    assert (value.dtype, grad.dtype) == (torch.float64, FLOAT)
    torch.testing.assert_close(value, want.detach())
    torch.testing.assert_close(grad, own.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_shorter_floats_are_refused(dtype):
    with pytest.raises(UnsupportedOperationError, match=f"it gives {dtype}.* float32 or float64"):
        descend(
            lambda w, x: (w.to(dtype) * x.to(dtype)).sum().double(),
            X[:5],
            X[:5],
            learn_rate=0.1,
            steps=3,
            backend="fused",
        )
