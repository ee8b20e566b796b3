"""Training loops of other people, from issues, forums and tutorials, each as one writes it in torch.

Double precision; `small` makes one of a size that runs in a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributions as T
import torch.nn.functional as F
from torch.func import grad, vmap

D = torch.float64


@dataclass(frozen=True)
class Loop:
    """loss(params, *data), where it starts, a learn rate at which it falls, and how many steps are timed."""

    loss: Callable[..., torch.Tensor]
    params: Any
    data: tuple[torch.Tensor, ...]
    learn_rate: float
    steps: int


def mixture(w, x):
    """Three Gaussians, by torch.distributions."""
    parts = T.Normal(w["means"], w["scales"].exp())
    return -T.MixtureSameFamily(T.Categorical(logits=w["logits"]), parts).log_prob(x).mean()


def logistic(w, x, y):
    return F.binary_cross_entropy_with_logits(x @ w, y) + 1e-3 * w.square().sum()


def weibull(w, x, t, died):
    """Survival times, some of them censored."""
    shape, scale = w[0].exp(), (w[1] + x @ w[2:]).exp()
    hazard = w[0] - (w[1] + x @ w[2:]) + (shape - 1) * torch.log(t / scale)
    return -(died * hazard - (t / scale) ** shape).mean()


def ordinal(w, x, k):
    """Four grades, with cuts in order."""
    cuts = torch.cumsum(torch.cat([w["cuts"][:1], F.softplus(w["cuts"][1:])]), 0)
    below = torch.sigmoid(cuts - (x @ w["slopes"])[:, None])
    below = F.pad(F.pad(below, (1, 0), value=0.0), (0, 1), value=1.0)
    return -torch.log(below.gather(1, k[:, None] + 1) - below.gather(1, k[:, None]) + 1e-9).mean()


def xor(w, x, y):
    hidden = torch.tanh(x @ w["W"] + w["b"])
    return F.binary_cross_entropy_with_logits(hidden @ w["out"], y)


def pinn(w, x):
    """u'' = -u, u(0) = 0, u'(0) = 1, by a network and its second derivative."""

    def u(t):
        return torch.tanh(t * w["W"] + w["b"]) @ w["out"]

    residual = vmap(grad(grad(u)))(x) + vmap(u)(x)
    start = torch.zeros((), dtype=x.dtype)
    return residual.square().mean() + u(start) ** 2 + (grad(u)(start) - 1) ** 2


def factors(w, user, item, rating):
    """Matrix factorisation by embeddings."""
    return ((w["users"][user] * w["items"][item]).sum(1) - rating).square().mean()


def bradley_terry(w, winner, loser):
    return -F.logsigmoid(w[winner] - w[loser]).mean() + 1e-3 * w.square().sum()


def item_response(w, person, item, right):
    logits = w["slopes"][item].exp() * (w["able"][person] - w["hard"][item])
    return F.binary_cross_entropy_with_logits(logits, right)


def cox(w, x, died):
    """Partial likelihood; the rows are in the order of their times, the longest first."""
    risk = x @ w
    return -((risk - torch.logcumsumexp(risk, 0)) * died).sum() / died.sum()


def picks(w, x, order, mask, group):
    """A permutation, a mask, groups, and running sums."""
    value = x @ w["slopes"]
    running = torch.cumsum(torch.exp(value[order] / 3), 0)
    return value[mask].square().mean() + torch.log(running).mean() + (w["groups"][group] - value).square().mean()


def gaussian_process(w, x, y):
    """The marginal likelihood, by Cholesky."""
    spread = w[0].exp() * torch.exp(-0.5 * ((x[:, None] - x) / w[1].exp()) ** 2)
    lower = torch.linalg.cholesky(spread + (w[2].exp() + 1e-6) * torch.eye(len(x), dtype=x.dtype))
    white = torch.linalg.solve_triangular(lower, y[:, None], upper=False)
    return (0.5 * white.square().sum() + lower.diagonal().log().sum()) / len(x)


def filled(w, y):
    """An autoregression that fills a tensor of its own."""
    x = torch.zeros_like(y)
    x[0] = y[0]
    for t in range(1, len(y)):
        x[t] = w[0] * x[t - 1].clone() + w[1] * y[t - 1]
    return (x - y).square().mean()


def lstm(w, x):
    """A hand-written LSTM that tells the next value."""
    h, c, total = torch.zeros(6, dtype=x.dtype), torch.zeros(6, dtype=x.dtype), 0.0
    for t in range(len(x) - 1):
        i, f, g, o = (w["W"] @ x[t] + w["U"] @ h + w["b"]).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        total = total + (h @ w["out"] - x[t + 1, 0]) ** 2
    return total / len(x)


def convolution(w, x, y):
    hidden = F.max_pool2d(torch.relu(F.conv2d(x, w["kernel"], w["b"])), 2)
    return F.cross_entropy(hidden.flatten(1) @ w["out"], y)


def quantiles(w, x, y):
    """The distance of two samples, by sorting them (Wasserstein's)."""
    return (torch.sort(x @ w).values - torch.sort(y).values).square().mean()


def model(name: str, small: bool) -> Loop:
    """The loop of that name."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=D)

    def whole(high: int, count: int) -> torch.Tensor:
        return torch.randint(high, (count,), generator=generator)

    def n(count: int) -> int:
        return max(4, count // 20) if small else count

    def steps(count: int) -> int:
        return 20 if small else count

    if name == "mixture":
        x = torch.cat([normal(n(700)) * 0.5 - 2, normal(n(700)), normal(n(600)) * 0.3 + 3])
        start = {"logits": torch.zeros(3, dtype=D), "means": torch.tensor([-1.0, 0.0, 1.0], dtype=D)}
        return Loop(mixture, start | {"scales": torch.zeros(3, dtype=D)}, (x,), 0.05, steps(6000))
    if name == "logistic":
        x = normal(n(1000), 5)
        return Loop(logistic, normal(5, scale=0.1), (x, (x[:, 0] > 0).to(D)), 0.5, steps(60000))
    if name == "weibull":
        x, t = normal(n(500), 3), torch.rand(n(500), generator=generator, dtype=D) * 2 + 0.1
        return Loop(weibull, torch.zeros(5, dtype=D), (x, t, (normal(n(500)) > -0.5).to(D)), 0.02, steps(30000))
    if name == "ordinal":
        x = normal(n(500), 3)
        start = {"cuts": torch.tensor([-1.0, 0.5, 0.5], dtype=D), "slopes": torch.zeros(3, dtype=D)}
        return Loop(ordinal, start, (x, whole(4, len(x))), 0.05, steps(40000))
    if name == "xor":
        x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=D)
        start = {"W": normal(2, 8), "b": normal(8), "out": normal(8)}
        return Loop(xor, start, (x, torch.tensor([0, 1, 1, 0], dtype=D)), 0.2, steps(500000))
    if name == "pinn":
        start = {"W": normal(16), "b": normal(16), "out": normal(16, scale=0.3)}
        return Loop(pinn, start, (torch.linspace(0, 3, n(40), dtype=D),), 1e-3, steps(40000))
    if name == "factors":
        users, items = n(100), n(80)
        start = {"users": normal(users, 8, scale=0.3), "items": normal(items, 8, scale=0.3)}
        count = n(1000)
        return Loop(factors, start, (whole(users, count), whole(items, count), normal(count)), 0.1, steps(30000))
    if name == "bradley_terry":
        players, count = n(100), n(1000)
        games = whole(players, count), whole(players, count)
        return Loop(bradley_terry, torch.zeros(players, dtype=D), games, 1.0, steps(20000))
    if name == "item_response":
        people, items, count = n(100), n(20), n(1000)
        start = {"able": torch.zeros(people, dtype=D), "hard": normal(items), "slopes": torch.zeros(items, dtype=D)}
        data = whole(people, count), whole(items, count), (normal(count) > 0).to(D)
        return Loop(item_response, start, data, 0.3, steps(15000))
    if name == "cox":
        return Loop(cox, torch.zeros(4, dtype=D), (normal(n(500), 4), (normal(n(500)) > -0.5).to(D)), 0.05, steps(2000))
    if name == "picks":
        x, count = normal(n(2000), 4), n(2000)
        data = x, torch.randperm(count, generator=generator), normal(count) > 0, whole(10, count)
        return Loop(picks, {"slopes": normal(4), "groups": torch.zeros(10, dtype=D)}, data, 0.05, steps(10000))
    if name == "gaussian_process":
        x = torch.linspace(0, 3, n(30), dtype=D)
        y = x.sin() + normal(len(x), scale=0.1)
        return Loop(gaussian_process, torch.zeros(3, dtype=D), (x, y), 0.02, steps(10000))
    if name == "filled":
        return Loop(filled, torch.tensor([0.5, 0.1], dtype=D), (normal(n(200)),), 0.01, steps(300000))
    if name == "lstm":
        start = {"W": normal(24, 2, scale=0.4), "U": normal(24, 6, scale=0.4), "b": normal(24, scale=0.1)}
        return Loop(lstm, start | {"out": normal(6, scale=0.4)}, (normal(n(30), 2),), 0.02, steps(10000))
    if name == "convolution":
        start = {"kernel": normal(4, 1, 3, 3, scale=0.3), "b": torch.zeros(4, dtype=D), "out": normal(36, 3, scale=0.2)}
        return Loop(convolution, start, (normal(n(64), 1, 8, 8), whole(3, n(64))), 0.05, steps(5000))
    x = normal(n(400), 3)
    return Loop(quantiles, normal(3), (x, normal(len(x))), 0.05, steps(10000))


NAMES = (
    *("mixture", "logistic", "weibull", "ordinal", "xor", "pinn", "factors", "bradley_terry", "item_response", "cox"),
    *("picks", "gaussian_process", "filled", "lstm", "convolution", "quantiles"),
)
