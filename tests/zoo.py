"""The model zoo: small losses in the torch that their users would write, and the plain autograd loop over them.

Each is here for what it asks of a tracer: powers, loops over weights, unpacked and nested parameters, transcendental
functions, reductions over the long axis and over short ones, integer labels, branches, matrices. Data carries a ripple
that the model cannot follow, so that losses end well above rounding and can be compared relatively; learn rates keep
50,000 steps of descent finite, and 1,000 in float32 within 1e-4 of the same in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils import _pytree as tree


@dataclass(frozen=True)
class Model:
    """One loss with its data and where descent starts.

    Attributes:
        name: of the model, fit for a test's id.
        loss: loss(params, *data), a 0-d tensor.
        params: the start: a tensor, or a dict, list or tuple of tensors; none requires a gradient.
        data: the tensors that the loss takes besides, the n samples along their first axis.
        learn_rate: of plain gradient descent. Adam descends with it, too, and for 100 steps alike in every arithmetic;
            later some models are so near their minimum that it divides rounding errors by rounding errors.
        module: the model as an nn.Module whose parameters, as a dict, are `params`; None for the others.
        module_loss: module_loss(module, *data) is loss(params, *data); None without a module.
    """

    name: str
    loss: Callable[..., torch.Tensor]
    params: Any
    data: tuple[torch.Tensor, ...]
    learn_rate: float
    module: nn.Module | None = None
    module_loss: Callable[..., torch.Tensor] | None = None


def draws(seed, dtype):
    """normal(*shape): standard normal numbers, drawn in float64: the same in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def line(start, end, n, dtype):
    return torch.linspace(start, end, n, dtype=torch.float64).to(dtype)


# -- curves
# ----------------------------------------------------------------------------------------


def polynomial_loss(w, x, y):
    """As the post writes it."""
    y_model = (x ** torch.arange(0.0, w.shape[0], dtype=x.dtype)).mm(w)
    return ((y - y_model) ** 2).mean()


def polynomial(dtype, n):
    x = line(0, 5, n, dtype).reshape(-1, 1)
    return Model("polynomial", polynomial_loss, torch.zeros(5, 1, dtype=dtype), (x, torch.sin(x)), 1e-5)


def horner_loss(w, x, y):
    p = w[-1]
    for k in range(len(w) - 2, -1, -1):
        p = p * x + w[k]
    return ((y - p) ** 2).mean()


def horner(dtype, n):
    x = line(0, 5, n, dtype)
    return Model("horner", horner_loss, torch.zeros(5, dtype=dtype), (x, torch.sin(x)), 1e-5)


def fourier_loss(params, x, y):
    phase = params["frequency"] * x[:, None] * torch.arange(1, 4)
    series = params["offset"] + torch.sin(phase) @ params["sines"] + torch.cos(phase) @ params["cosines"]
    return functional.mse_loss(series, y)


def fourier(dtype, n):
    x = line(0, 5, n, dtype)
    params = {
        "frequency": torch.tensor(1.1, dtype=dtype),
        "sines": torch.tensor([1.0, 0.0, 0.0], dtype=dtype),
        "cosines": torch.zeros(3, dtype=dtype),
        "offset": torch.tensor(0.0, dtype=dtype),
    }
    return Model("fourier", fourier_loss, params, (x, torch.exp(torch.sin(1.3 * x))), 1e-2)


def exponential_decay_loss(w, x, y):
    return ((y - (w[0] * torch.exp(-w[1] * x) + w[2])) ** 2).mean()


def exponential_decay(dtype, n):
    x = line(0, 5, n, dtype)
    y = 2 * torch.exp(-0.7 * x) + 0.3 + 0.05 * torch.sin(9 * x)
    w = torch.tensor([1.0, 0.1, 0.0], dtype=dtype)
    return Model("exponential-decay", exponential_decay_loss, w, (x, y), 1e-2)


def damped_sine_loss(w, x, y):
    a, b, c, d = w
    return ((y - a * torch.exp(-b * x) * torch.sin(c * x + d)) ** 2).mean()


def damped_sine(dtype, n):
    x = line(0, 5, n, dtype)
    y = torch.exp(-0.3 * x) * torch.sin(2 * x + 0.4) + 0.05 * torch.cos(9 * x)
    w = torch.tensor([1.0, 0.1, 1.8, 0.0], dtype=dtype)
    return Model("damped-sine", damped_sine_loss, w, (x, y), 1e-2)


def gaussian_peak_loss(params, x, y):
    z = (x - params["center"]) / params["width"]
    return (y - params["height"] * torch.exp(-0.5 * z.square()) - params["offset"]).square().mean()


def gaussian_peak(dtype, n):
    x = line(-3, 3, n, dtype)
    y = 1.5 * torch.exp(-0.5 * ((x - 0.4) / 0.7) ** 2) + 0.2 + 0.05 * torch.sin(9 * x)
    start = {"height": 1.0, "center": 0.0, "width": 1.0, "offset": 0.0}
    params = {name: torch.tensor(value, dtype=dtype) for name, value in start.items()}
    return Model("gaussian-peak", gaussian_peak_loss, params, (x, y), 1e-2)


def rational_loss(params, x, y):
    p, q = params
    return ((y - (p[0] + p[1] * x + p[2] * x**2) / (1 + (q * x) ** 2)) ** 2).mean()


def rational(dtype, n):
    x = line(-2, 2, n, dtype)
    y = (1 + 0.5 * x) / (1 + 2 * x**2) + 0.05 * torch.cos(9 * x)
    params = (torch.tensor([0.5, 0.1, 0.0], dtype=dtype), torch.tensor(0.5, dtype=dtype))
    return Model("rational", rational_loss, params, (x, y), 1e-2)


# -- regressions
# ----------------------------------------------------------------------------------------


def logistic_loss(params, x, y):
    w, b = params
    return functional.binary_cross_entropy_with_logits(x @ w + b, y)


def logistic(dtype, n):
    normal = draws(1, dtype)
    x = normal(n, 4)
    y = (x @ torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=dtype) + 0.3 + normal(n) > 0).to(dtype)
    params = [torch.zeros(4, dtype=dtype), torch.tensor(0.0, dtype=dtype)]
    return Model("logistic", logistic_loss, params, (x, y), 0.1)


def softmax_loss(params, x, labels):
    return functional.cross_entropy(functional.linear(x, params["weight"], params["bias"]), labels)


def softmax(dtype, n):
    normal = draws(2, dtype)
    labels = torch.arange(n) % 3
    corners = torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]], dtype=dtype)
    params = {"weight": torch.zeros(3, 2, dtype=dtype), "bias": torch.zeros(3, dtype=dtype)}
    return Model("softmax", softmax_loss, params, (corners[labels] + normal(n, 2), labels), 0.1)


def huber_loss(w, x, y):
    return functional.huber_loss(x[:, None] ** torch.arange(len(w)) @ w, y)


def huber(dtype, n):
    x = line(-1, 1, n, dtype)
    y = 1 - 2 * x + 3 * x**3 + 0.2 * torch.sin(40 * x)
    y[::10] += 5  # the outliers for which one takes this loss
    return Model("huber", huber_loss, torch.zeros(4, dtype=dtype), (x, y), 0.05)


def ridge_loss(w, x, y):
    return ((y - torch.linalg.vander(x, N=len(w)) @ w) ** 2).mean() + 1e-2 * (w**2).sum()


def ridge(dtype, n):
    x = line(-1, 1, n, dtype)
    return Model("ridge", ridge_loss, torch.zeros(7, dtype=dtype), (x, torch.sin(4 * x) + 0.3), 0.05)


def multi_output_loss(w, x, y):
    return functional.mse_loss(x ** torch.arange(w.shape[0]) @ w, y)


def multi_output(dtype, n):
    x = line(-1, 1.2, n, dtype).reshape(
        -1, 1
    )  # not symmetric: no gradient is zero but for rounding, which Adam blows up
    y = torch.cat([torch.sin(3 * x), torch.cos(3 * x), x.abs()], dim=1)
    return Model("multi-output", multi_output_loss, torch.zeros(4, 3, dtype=dtype), (x, y), 0.05)


def linear_loss(params, x, y):
    w, b = params
    return functional.mse_loss(x @ w + b, y)


def linear(dtype, n):
    """64 weights: more than one writes out one by one."""
    normal = draws(3, dtype)
    x = normal(n, 64)
    y = x @ normal(64) / 8 + 0.5 + normal(n)
    return Model("linear-64", linear_loss, (torch.zeros(64, dtype=dtype), torch.zeros(1, dtype=dtype)), (x, y), 0.02)


def poisson_loss(params, x, counts):
    w, b = params
    return functional.poisson_nll_loss(x @ w + b, counts)


def poisson(dtype, n):
    x = draws(4, dtype)(n, 3) / 2
    rate = torch.exp(x.double() @ torch.tensor([0.5, -0.3, 0.8], dtype=torch.float64) - 0.5)
    counts = torch.poisson(rate, generator=torch.Generator().manual_seed(4)).to(dtype)
    return Model("poisson", poisson_loss, [torch.zeros(3, dtype=dtype), torch.zeros(1, dtype=dtype)], (x, counts), 0.02)


# -- networks
# ----------------------------------------------------------------------------------------


def tanh_network_loss(params, x, y):
    h = torch.tanh(x @ params["a"] + params["b"])
    return ((y - (h @ params["c"] + params["d"])) ** 2).mean()


def tanh_network(dtype, n):
    """1-16-1."""
    normal = draws(5, dtype)
    x = line(0, 5, n, dtype).reshape(-1, 1)
    y = torch.sin(x) + 0.1 * torch.cos(20 * x)
    params = {"a": normal(1, 16), "b": normal(16), "c": 0.3 * normal(16, 1), "d": torch.zeros(1, dtype=dtype)}
    return Model("tanh-network", tanh_network_loss, params, (x, y), 1e-2)


def gelu_network_loss(module, x, y):
    return functional.mse_loss(module(x), y)


def gelu_network(dtype, n):
    """2-32-32-1, as a module."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        layers = nn.Linear(2, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1)
    module = nn.Sequential(*layers).to(dtype)
    normal = draws(6, dtype)
    x = normal(n, 2)
    y = torch.sin(2 * x[:, :1]) * torch.cos(x[:, 1:]) + 0.3 * normal(n, 1)

    def loss(params, x, y):
        return gelu_network_loss(lambda x: functional_call(module, params, (x,)), x, y)

    params = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    return Model("gelu-network", loss, params, (x, y), 1e-2, module, gelu_network_loss)


def layer_norm_loss(params, x, y):
    h = x @ params["a"]
    h = (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, keepdim=True, unbiased=False) + 1e-5)
    return functional.mse_loss(functional.softplus(h * params["gain"] + params["shift"]) @ params["c"], y)


def layer_norm(dtype, n):
    """3-8-1: a layer norm by hand over its 8, then softplus."""
    normal = draws(7, dtype)
    x = normal(n, 3)
    y = torch.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.2 * normal(n)
    params = {
        "a": normal(3, 8),
        "gain": torch.ones(8, dtype=dtype),
        "shift": torch.zeros(8, dtype=dtype),
        "c": 0.3 * normal(8),
    }
    return Model("layer-norm", layer_norm_loss, params, (x, y), 1e-2)


# ----------------------------------------------------------------------------------------

CURVES = (polynomial, horner, fourier, exponential_decay, damped_sine, gaussian_peak, rational)
REGRESSIONS = (logistic, softmax, huber, ridge, multi_output, linear, poisson)
NETWORKS = (tanh_network, gelu_network, layer_norm)


def models(dtype, n=100):
    """Every model with n samples in dtype, of fresh tensors; the same numbers at every call."""
    return tuple(build(dtype, n) for build in (*CURVES, *REGRESSIONS, *NETWORKS))


MODELS = models(torch.float64)
NAMES = tuple(model.name for model in MODELS)


def model(name, dtype, n=100):
    """One of `models(dtype, n)`, by its name."""
    return models(dtype, n)[NAMES.index(name)]


def eager(model, steps, optimizer="sgd"):
    """Descend by the plain torch autograd loop.

    Args:
        model: of the zoo; its tensors are left as they are.
        steps: how many.
        optimizer: "sgd", or "adam" as torch.optim has it.

    Returns:
        params: as the model's, after the last step.
        losses: (steps,), each before its step.
    """
    start, structure = tree.tree_flatten(model.params)
    leaves = [leaf.clone().requires_grad_() for leaf in start]
    params = tree.tree_unflatten(leaves, structure)
    adam = torch.optim.Adam(leaves, lr=model.learn_rate) if optimizer == "adam" else None
    losses = []
    for _ in range(steps):
        loss = model.loss(params, *model.data)
        gradients = torch.autograd.grad(loss, leaves)
        if adam is None:
            with torch.no_grad():
                for leaf, gradient in zip(leaves, gradients, strict=True):
                    leaf -= model.learn_rate * gradient
        else:
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            adam.step()
        losses.append(loss.detach())
    return tree.tree_unflatten([leaf.detach() for leaf in leaves], structure), torch.stack(losses)
