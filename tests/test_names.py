"""Whatever the parameters are called, two of them are two, and none is mistaken for what the kernel calls its own."""

import pytest
import torch

from fastpoly import descend, descend_module

X = torch.linspace(-1, 1, 101, dtype=torch.float64)


def number(*values):
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def agree(loss, params, backends=("eager", "fused")):
    eager, fused = (descend(loss, params, X, learn_rate=0.1, steps=5, backend=b).loss.tolist() for b in backends)
    assert fused == pytest.approx(eager, rel=1e-12)


def cubic(intercept, slopes):
    return lambda p, x: (
        (p[intercept] + p[slopes][0] * x + p[slopes][1] * x**2 + p[slopes][2] * x**3 - x.sin()) ** 2
    ).mean()


def test_a_name_that_an_element_of_another_would_have():
    agree(cubic("beta_0", "beta"), {"beta_0": number(1.0), "beta": number(2.0, 3.0, 4.0)})
    agree(cubic("beta_0", "beta"), {"beta": number(2.0, 3.0, 4.0), "beta_0": number(1.0)})


def test_names_that_python_reads_as_one():
    mu, micro = "\u03bc", "\u00b5"
    agree(lambda p, x: ((p[micro] * x + p[mu] - x.sin()) ** 2).mean(), {micro: number(2.0), mu: number(3.0)})


def test_parameters_of_a_module():
    def loss(module, x):
        powers = torch.stack([x, x**2, x**3])
        return ((module.w.sum(0) @ powers - (module.w_0 * module.w[1]).sum()) ** 2).mean()

    losses = []
    for backend in ("eager", "fused"):
        module = torch.nn.Module()
        module.w = torch.nn.Parameter(torch.arange(6.0, dtype=torch.float64).reshape(2, 3))
        module.w_0 = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        losses.append(descend_module(module, loss, X, learn_rate=0.01, steps=5, backend=backend).loss.tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


KERNELS_OWN = ["i", "j0", "k1", "float", "combine", "there", "carry", "row", "math", "sin", "load", "lambda", "next_a"]


def test_names_of_the_kernels_own():
    """All at once: each is a parameter, the first of a vector."""
    params = {name: number(0.3 + 0.01 * k) for k, name in enumerate(KERNELS_OWN)}
    params |= {f"{name}_": number(0.1, 0.2 + 0.01 * k) for k, name in enumerate(KERNELS_OWN)}
    hidden = torch.sin(torch.arange(101 * 40, dtype=torch.float64).reshape(101, 40))
    params["w"] = torch.zeros(40, dtype=torch.float64)  # loops over j0

    def loss(p, x):
        total = hidden @ p["w"]
        for k, name in enumerate(KERNELS_OWN):
            total = total + p[name] * torch.cos(k * x) + p[f"{name}_"][1] * x**k
        return ((total - x.sin()) ** 2).mean() / 100

    agree(loss, params)
