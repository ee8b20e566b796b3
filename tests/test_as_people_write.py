"""Losses as people write them: torch.distributions with validation on, and modules with all that modules have."""

import copy

import pytest
import torch
import torch.distributions as T
import torch.nn.functional as F
import torch.nn.utils.parametrizations as parametrizations
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from fastpoly import UnsupportedOperationError, descend, descend_module

D = torch.float64
DRAWS = torch.Generator().manual_seed(0)
S = torch.rand(12, 3, generator=DRAWS, dtype=D) + 0.1
S = S / S.sum(1, keepdim=True)
Z, K = torch.randn(12, 2, generator=DRAWS, dtype=D), torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 1, 0])
ONE, ONES, EYE = torch.ones((), dtype=D), torch.ones(2, dtype=D), torch.eye(2, dtype=D)
U = S[:, 0]


def lower(w):
    return torch.stack([torch.stack([w[0].exp(), w.new_zeros(())]), torch.stack([w[1], w[2].exp()])])


def divergences(w):
    a, b = w[0].exp(), w[1].exp()
    pairs = [
        (T.Normal(w[0], b), T.Normal(0.0, 1.0)),
        (T.Gamma(a, b), T.Gamma(2 * ONE, ONE)),
        (T.Beta(a, b), T.Beta(2 * ONE, ONE)),
        (T.Dirichlet(w[:3].exp()), T.Dirichlet(torch.ones(3, dtype=D))),
        (T.MultivariateNormal(w[:2], scale_tril=lower(w[2:])), T.MultivariateNormal(0 * ONES, EYE)),
    ]
    return sum(T.kl_divergence(one, other) for one, other in pairs)


def elbo(w):
    q = T.Normal(w[0], w[1].exp())
    z = q.rsample((5,))
    return (q.log_prob(z) + z**2 / 2).mean()


DISTRIBUTIONS = {
    "Normal": lambda w: -T.Normal(w[0], F.softplus(w[1]), validate_args=True).log_prob(U).mean(),
    "MixtureSameFamily": lambda w: (
        -T.MixtureSameFamily(T.Categorical(logits=w[:2]), T.Normal(w[2:4], w[:2].exp())).log_prob(U).mean()
    ),
    "TransformedDistribution": lambda w: (
        -T.TransformedDistribution(T.Normal(w[0], w[1].exp()), [T.SigmoidTransform()]).log_prob(U).mean()
    ),
    "StickBreakingTransform": lambda w: (
        -T.TransformedDistribution(T.Independent(T.Normal(w[:2], ONES), 1), [T.StickBreakingTransform()])
        .log_prob(S)
        .mean()
    ),
    "MultivariateNormal": lambda w: -T.MultivariateNormal(w[:2], scale_tril=lower(w[2:])).log_prob(Z).mean(),
    "by its covariance": lambda w: (
        -T.MultivariateNormal(w[:2], covariance_matrix=lower(w[2:]) @ lower(w[2:]).T + 1e-3 * EYE).log_prob(Z).mean()
    ),
    "Independent": lambda w: -T.Independent(T.Normal(w[:2], ONES), 1).log_prob(Z).mean(),
    "Beta and Gamma": lambda w: (
        -(T.Beta(w[0].exp(), w[1].exp()).log_prob(U) + T.Gamma(w[2].exp(), w[3].exp()).log_prob(U)).mean()
    ),
    "StudentT": lambda w: -T.StudentT(w[0].exp() + 2, w[1], w[2].exp()).log_prob(U).mean(),
    "Categorical": lambda w: (
        -T.Categorical(probs=w[:3].softmax(0)).log_prob(K).mean() - 0.1 * T.Categorical(logits=w[:3]).entropy()
    ),
    "counts": lambda w: (
        -(
            T.NegativeBinomial(w[0].exp(), logits=w[1]).log_prob(K.to(D))
            + T.Poisson(w[2].exp()).log_prob(K.to(D))
            + T.Binomial(6, logits=w[3]).log_prob(K.to(D))
        ).mean()
    ),
    "Dirichlet": lambda w: -T.Dirichlet(w[:3].exp()).log_prob(S).mean(),
    "kl_divergence": divergences,
    "rsample": elbo,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name):
    start = torch.tensor([0.1, 0.2, -0.1, 0.3, 0.25], dtype=D)
    options = {"learn_rate": 0.02, "steps": 6, "seed": 1}
    eager, fused = (descend(DISTRIBUTIONS[name], start, backend=one, **options) for one in ("eager", "fused"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(fused.params, eager.params, rtol=1e-9, atol=1e-11)


def test_what_torch_alone_samples_is_refused():
    start = torch.zeros(2, dtype=D)
    with pytest.raises(UnsupportedOperationError, match=r"_standard_gamma.*draws random numbers.*Way out"):
        descend(lambda w: T.Gamma(*w.exp()).rsample((4,)).mean(), start, learn_rate=0.1, steps=2, backend="fused")


# -- modules
# ----------------------------------------------------------------------------------------

X, Y = torch.randn(12, 3, generator=DRAWS, dtype=D), torch.randn(12, 1, generator=DRAWS, dtype=D)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.hidden(x).tanh())


class Hooked(Net):
    def __init__(self):
        super().__init__()
        self.hidden.register_forward_pre_hook(lambda module, args: (args[0].tanh(),))
        self.hidden.register_forward_hook(lambda module, args, out: out * 2 + 0.1)
        self.out.register_full_backward_hook(lambda module, into, out: (into[0] * 0.5,))
        self.out.weight.register_hook(lambda gradient: gradient.clamp(-0.2, 0.2))

    def forward(self, x):
        hidden = self.hidden(x)
        hidden.register_hook(lambda gradient: gradient * 0.3)
        return self.out(hidden.tanh())


class Tied(Net):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return super().forward(self.second(self.first(x).tanh()))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).T


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(-0.5, 0.5)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1)


class Saved(Net):
    def forward(self, x):
        return self.out(checkpoint(lambda x: self.hidden(x).tanh(), x, use_reentrant=False))


class Lightning(Net):
    """As one of pytorch-lightning's modules is."""

    def training_step(self, batch, _):
        x, y = batch
        return F.mse_loss(self(x), y)


class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()
        self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.9)).requires_grad_(False)

    def forward(self, x):
        return self.net(x)


class Teacher(Net):
    def __init__(self):
        super().__init__()
        self.teacher = copy.deepcopy(Net()).requires_grad_(False)


def with_layer(layer):
    return lambda: nn.Sequential(layer(nn.Linear(3, 3)), nn.Tanh(), nn.Linear(3, 1))


def parametrized(layer):
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def squares(module, x, y):
    return ((module(x) - y) ** 2).mean()


def cached(module, x, y):
    with parametrize.cached():
        return squares(module, x, y)


def of_derivatives(module, x, y):
    def at(x):
        return module(x[None])[0, 0]

    slopes, curves = vmap(grad(at))(x), vmap(hessian(at))(x)
    return slopes.square().mean() + curves.diagonal(dim1=1, dim2=2).sum(1).square().mean() + squares(module, x, y)


def of_jacobians(module, x, y):
    forward, backward = (vmap(of(module))(x).square().mean() for of in (jacfwd, jacrev))
    out, along = jvp(module, (x,), (torch.ones_like(x),))
    _, back = vjp(module, x)
    return forward + backward + along.square().mean() + back(out)[0].square().mean() + squares(module, x, y)


def of_an_inner_step(module, x, y):
    def loss(params, x, y):
        return ((functional_call(module, params, (x,)) - y) ** 2).mean()

    params = dict(module.named_parameters())
    inner = grad(loss)(params, x[:6], y[:6])
    return loss({name: value - 0.1 * inner[name] for name, value in params.items()}, x[6:], y[6:])


def of_newton_steps(module, x, y):
    """Logistic regression by Newton's method on what the module finds, in a loss."""
    features, labels = module.hidden(x).tanh(), (y[:, 0] > 0).to(x.dtype)

    def inner(slopes):
        logits = features @ (slopes + module.out.weight)[0]
        return F.binary_cross_entropy_with_logits(logits, labels) + slopes.square().sum()

    slopes = torch.zeros(1, 4, dtype=x.dtype)
    for _ in range(2):
        curves = hessian(inner)(slopes).reshape(4, 4)
        slopes = slopes - torch.linalg.solve(curves, grad(inner)(slopes)[0])
    return inner(slopes) + squares(module, x, y)


def averaging(module, x, y):
    value = squares(module, x, y)
    module.average.update_parameters(module.net)
    return value


def teaching(module, x, y):
    with torch.no_grad():
        for theirs, own in zip(module.teacher.parameters(), list(module.parameters())[:4], strict=True):
            theirs.lerp_(own, 0.1)
    return squares(module, x, y) + (module(x) - module.teacher(x)).square().mean()


MODULES = {
    "hooks": (Hooked, squares),
    "tied weights": (Tied, squares),
    "weight_norm": (with_layer(parametrizations.weight_norm), squares),
    "orthogonal": (with_layer(parametrizations.orthogonal), squares),
    "spectral_norm of old": (with_layer(nn.utils.spectral_norm), squares),
    "a parametrization": (with_layer(parametrized), cached),
    "vmap, grad, hessian": (Net, of_derivatives),
    "jvp, vjp, jacfwd, jacrev": (Net, of_jacobians),
    "hessian in Newton's steps": (Net, of_newton_steps),
    "functional_call in an inner step": (Net, of_an_inner_step),
    "autograd.Function": (Net, lambda module, x, y: (Straight.apply(module(x)) - y).square().mean()),
    "checkpoint": (Saved, squares),
    "LightningModule": (Lightning, lambda module, x, y: module.training_step((x, y), 0)),
    "AveragedModel": (Averaged, averaging),
    "a teacher": (Teacher, teaching),
    "jit.script": (lambda: torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))), squares),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize("backend", [pytest.param("eager", marks=pytest.mark.slow), "fused"])
@pytest.mark.parametrize("name", MODULES)
def test_modules(name, backend):
    make, loss = MODULES[name]
    both = []
    for _ in range(2):
        torch.manual_seed(1)
        both.append(make().double())
    module, trained = both
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        value = loss(module, X, Y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    run = descend_module(trained, loss, (X, Y), learn_rate=0.05, steps=5, backend=backend)
    assert run.loss.tolist() == pytest.approx(losses, rel=1e-9)
    for (which, got), want in zip(trained.state_dict().items(), module.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10, msg=lambda text, which=which: f"{which}: {text}")


def test_single_params_and_double_data():
    start = torch.tensor([0.1, 0.2])
    loss = lambda w: ((w[0] + w[1] * X[:, 0] - Y[:, 0]) ** 2).mean()  # noqa: E731
    eager, fused = (descend(loss, start, learn_rate=0.1, steps=9, backend=one) for one in ("eager", "fused"))
    assert fused.params.dtype == torch.float32
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-6, atol=0)


def test_functions_behind_an_accumulated_gradient_are_refused():
    module = nn.Linear(3, 1).double()
    module.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(ValueError, match=r"params: have functions to be called.*optimizer="):
        descend_module(module, squares, (X, Y), learn_rate=0.1, steps=2)
