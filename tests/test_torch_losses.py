"""Constants, autograd inside of the loss, losses and modules of torch.nn; see `operation_cases`."""

import pytest
import torch
from operation_cases import (
    INF,
    NAN,
    numbers,
    off,
    value_and_gradients,
)
from test_operations import X5, X, Y, with_params
from torch.nn import functional as F

pytestmark = pytest.mark.slow  # some two hundred kernels to compile: make test-all


# -- constants, autograd inside of the loss, losses and modules of torch.nn
# ----------------------------------------------------------------------------------------

HUNDRED = torch.arange(100)
WITHIN = numbers(100, seed=0.7)
PARAMETER = torch.nn.Parameter(numbers(100, seed=0.9))


def sum_in_a_loop(w):
    total = torch.zeros_like(w)
    for k in range(3):
        total = total + w * k
    return total


CONSTANTS = {
    "int64": (lambda w: w * HUNDRED, ()),
    "int32": (lambda w: w * HUNDRED.int(), ()),
    "uint8": (lambda w: w * HUNDRED.to(torch.uint8), ()),
    "bool": (lambda w: w * (HUNDRED % 3 == 0), ()),
    "float32 beside a vector": (lambda w: w * WITHIN[:3].float(), (3,)),
    "float16 beside a vector": (lambda w: w * WITHIN[:3].half(), (3,)),
    "samples ** integers": (lambda w: (w * WITHIN)[:, None] ** torch.arange(4), ()),
    "samples ** params": (lambda w: WITHIN.abs()[:, None] ** w, (3,)),
    "integers ** params": (lambda w: torch.arange(1, 4) ** w, (3,)),
    "in where": (lambda w: torch.where(WITHIN > 0, w * WITHIN, w * w), ()),
    "a mask and a traced one": (lambda w: ((WITHIN > 0) & (w * WITHIN > 0.1)) * w, ()),
    "integers compared": (lambda w: (w * WITHIN > HUNDRED - 50) * w, ()),
    "integer arithmetic": (lambda w: (HUNDRED + 1) * 2 % 7 * w, ()),
    "a float32 number": (lambda w: w * WITHIN * torch.tensor(2.5), ()),
    "an integer number": (lambda w: w * WITHIN * torch.tensor(2), ()),
    "infinity": (lambda w: torch.minimum(w * WITHIN, torch.tensor(INF)), ()),
    "made in the loss": (lambda w: torch.linspace(0, 1, 100, dtype=w.dtype) * w, ()),
    "as_tensor": (lambda w: torch.as_tensor([1, 2, 3]) * w, ()),
    "new_ones": (lambda w: w.new_ones(3) * w, ()),
    "zeros, added to": (sum_in_a_loop, ()),
    "numel": (lambda w: w * WITHIN / WITHIN.numel(), ()),
    "a transpose": (lambda w: w * X[:, :3].T, ()),
    "a stride": (lambda w: w * X.reshape(-1)[::40], ()),
    "expanded": (lambda w: w * WITHIN[:1].expand(100) * WITHIN, ()),
    "flipped": (lambda w: w * WITHIN.flip(0) * WITHIN, ()),
    "overlapping": (lambda w: w * WITHIN[1:] * WITHIN[:-1], ()),
    "one number": (lambda w: w * torch.tensor(3.0, dtype=torch.float64), ()),
    "a parameter that stays": (lambda w: w * PARAMETER.detach(), ()),
    "NaN that is masked": (lambda w: torch.where(HUNDRED < 50, WITHIN.masked_fill(HUNDRED > 60, NAN), w), ()),
}


def test_constants():
    assert off(*with_params(CONSTANTS)) == {}


def residual(w):
    """What a network that solves u' + u = 0 minimises."""
    x = WITHIN.clone().requires_grad_()
    u = torch.tanh(x[:, None] * w).sum(1)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return slope + u


def second_residual(w):
    x = WITHIN.clone().requires_grad_()
    u = torch.sin(x[:, None] * w).sum(1)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return curvature + u


def gradient_penalty(w):
    fit = ((w * WITHIN[:, None]).exp().sum(1) - Y).square().mean()
    (gradient,) = torch.autograd.grad(fit, w, create_graph=True)
    return fit + gradient.square().sum()


def hooked(w):
    h = w * WITHIN
    h.register_hook(lambda gradient: 2 * gradient)
    return h.square()


class Doubled(torch.autograd.Function):
    """exp whose gradient is said to be twice what it is."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.exp()

    @staticmethod
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        return 2 * gradient * a.exp()


DERIVATIVES = {
    "detach": (lambda w: (w * WITHIN) * (w * WITHIN).detach(), ()),
    "a derivative in the loss": (residual, (3,)),
    "a second derivative": (second_residual, (3,)),
    "a gradient penalty": (gradient_penalty, (3,)),
    "a hook": (hooked, ()),
    "a Function": (lambda w: Doubled.apply(w * WITHIN), ()),
    "func.grad": (lambda w: torch.func.grad(lambda a: torch.sin(a * WITHIN).sum())(w), ()),
    "func.vjp": (lambda w: torch.func.vjp(lambda a: torch.sin(a * WITHIN), w)[1](Y)[0], ()),
    "func.jacrev": (lambda w: torch.func.jacrev(lambda a: torch.tanh(WITHIN[:, None] * a).sum(0))(w), (3,)),
    "vmap": (lambda w: torch.func.vmap(lambda x: torch.tanh(x * w).sum())(WITHIN), (3,)),
    "vmap of a product": (lambda w: torch.func.vmap(lambda row: torch.tanh(row @ w).sum())(X5), (5, 3)),
    "vmap of grad": (lambda w: torch.func.vmap(torch.func.grad(lambda x: torch.tanh(x * w).sum()))(WITHIN), (3,)),
}


def test_derivatives_in_the_loss():
    assert off(*with_params(DERIVATIVES)) == {}


LABELS = HUNDRED % 3
ONE_OF_TWO = (HUNDRED % 2).double()
SIGNS = 2 * ONE_OF_TWO - 1
CLASSES = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
CHANCES = torch.softmax(X[:, 30:33], 1)


def smooth(loss, target, **options):
    return lambda w: loss(X5 @ w, target, **options), (5,)


def classes(target, **options):
    return lambda w: F.cross_entropy(X5 @ w, target, **options), (5, 3)


LOSSES = {
    "regression": {
        "mse_loss": smooth(F.mse_loss, Y),
        "mse_loss, sum": smooth(F.mse_loss, Y, reduction="sum"),
        "mse_loss, none": smooth(F.mse_loss, Y, reduction="none"),
        "l1_loss": smooth(F.l1_loss, Y),
        "smooth_l1_loss": smooth(F.smooth_l1_loss, Y),
        "smooth_l1_loss, beta": smooth(F.smooth_l1_loss, Y, beta=0.3),
        "huber_loss": smooth(F.huber_loss, Y, delta=0.5),
        "poisson_nll_loss": smooth(F.poisson_nll_loss, Y.abs()),
        "poisson_nll_loss, no log": smooth(F.poisson_nll_loss, Y.abs(), log_input=False, eps=9.0),
        "student": (lambda w: 2 * torch.log1p((X5 @ w - Y) ** 2 / 3), (5,)),
        "normal": (
            lambda w: -torch.distributions.Normal(X5 @ w, torch.exp(w[0]), validate_args=False).log_prob(Y),
            (5,),
        ),
    },
    "two classes": {
        "soft_margin_loss": smooth(F.soft_margin_loss, SIGNS),
        "hinge_embedding_loss": smooth(F.hinge_embedding_loss, SIGNS),
        "binary_cross_entropy": (lambda w: F.binary_cross_entropy(torch.sigmoid(X5 @ w), ONE_OF_TWO), (5,)),
        "with weights": (lambda w: F.binary_cross_entropy(torch.sigmoid(X5 @ w), ONE_OF_TWO, weight=Y.abs()), (5,)),
        "with_logits": smooth(F.binary_cross_entropy_with_logits, ONE_OF_TWO),
        "with_logits, pos_weight": smooth(
            F.binary_cross_entropy_with_logits, ONE_OF_TWO, pos_weight=torch.tensor(2.0, dtype=torch.float64)
        ),
        "with_logits, weights, sum": smooth(
            F.binary_cross_entropy_with_logits, ONE_OF_TWO, weight=Y.abs(), reduction="sum"
        ),
    },
    "classes": {
        "cross_entropy": classes(LABELS),
        "weight": classes(LABELS, weight=CLASSES),
        "label_smoothing": classes(LABELS, label_smoothing=0.1),
        "weight, label_smoothing": classes(LABELS, weight=CLASSES, label_smoothing=0.1),
        "ignore_index": classes(LABELS, ignore_index=1),
        "some -100": classes(torch.where(LABELS == 2, -100, LABELS)),
        "sum": classes(LABELS, reduction="sum"),
        "none": classes(LABELS, reduction="none"),
        "probabilities": classes(CHANCES),
        "few samples": (lambda w: F.cross_entropy(w, torch.tensor([0, 2, 1, 1, 0])), (5, 3)),
        "one sample": (lambda w: F.cross_entropy(w, torch.tensor(1)), (3,)),
        "many classes": (lambda w: F.cross_entropy(X5 @ w, HUNDRED % 40), (5, 40)),
        "nll_loss": (lambda w: F.nll_loss(F.log_softmax(X5 @ w, 1), LABELS, weight=CLASSES), (5, 3)),
        "by hand": (lambda w: -F.log_softmax(X5 @ w, 1)[torch.arange(100), LABELS].mean(), (5, 3)),
        "by gather": (lambda w: -F.log_softmax(X5 @ w, 1).gather(1, LABELS[:, None]).mean(), (5, 3)),
        "one_hot": (lambda w: (F.one_hot(LABELS, 3) * F.log_softmax(X5 @ w, 1)).sum(), (5, 3)),
    },
    "distances": {
        "kl_div": (lambda w: F.kl_div(F.log_softmax(X5 @ w, 1), CHANCES, reduction="batchmean"), (5, 3)),
        "cosine_similarity": (lambda w: 1 - F.cosine_similarity(X5 @ w, CHANCES), (5, 3)),
        "cosine_embedding_loss": (lambda w: F.cosine_embedding_loss(X5 @ w, CHANCES, SIGNS), (5, 3)),
        "margin_ranking_loss": (lambda w: F.margin_ranking_loss(X5 @ w[:, 0], X5 @ w[:, 1], SIGNS), (5, 2)),
        "triplet_margin_loss": (lambda w: F.triplet_margin_loss(X5 @ w, CHANCES, CHANCES.flip(0)), (5, 3)),
        "multilabel_soft_margin_loss": (
            lambda w: F.multilabel_soft_margin_loss(X5 @ w, (CHANCES > 0.3).double()),
            (5, 3),
        ),
    },
}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses(kind):
    assert off(*with_params(LOSSES[kind])) == {}


nn = torch.nn
MODULES = {
    "Linear": lambda: nn.Linear(5, 3),
    "Sequential": lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 3)),
    "RMSNorm": lambda: nn.Sequential(nn.Linear(5, 3), nn.RMSNorm(3)),
    "BatchNorm1d in evaluation": lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).eval(),
    "Dropout in evaluation": lambda: nn.Sequential(nn.Linear(5, 3), nn.Dropout()).eval(),
    "PReLU": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 3)),
    "ReLU in place": lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
    "RNNCell": lambda: nn.RNNCell(5, 3),
}


def test_modules():
    made = {}
    for name, make in MODULES.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made[name] = make().double()
    carry = {
        name: {key: parameter.detach() for key, parameter in module.named_parameters()} for name, module in made.items()
    }

    def step(carry):
        found = {}
        for name, module in made.items():
            found[name] = value_and_gradients(lambda p, m=module: torch.func.functional_call(m, p, (X5,)), carry[name])
        return carry, found

    assert off(step, carry) == {}
