"""torch.optim's optimizers as rules of a descent: as torch's own loop with them, over torch's own list of options."""

import itertools
import warnings

import pytest
import torch
import torchs_lists

from fastpoly import UnsupportedOperationError, descend, optimizers

STEPS = 200
ELSEWHERE = {"LBFGS", "SparseAdam", "Muon"}
IGNORED = {"foreach", "fused", "differentiable", "capturable", "decoupled_weight_decay"}
BOUNDS = {"RAdam": 1e-9}
"""Of a difference of about 2,000 and as much, which torch computes from 1 - 0.999 ** t, with a digit less each time."""


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    x = draw(40, 3)
    y = torch.sin(x @ torch.tensor([1.0, -2, 0.5], dtype=dtype)) + 0.3
    params = {"W": draw(3, 6) * 0.5, "b": draw(6) * 0.1, "v": draw(6) * 0.5, "c": torch.zeros((), dtype=dtype)}
    return params, (x, y)


def loss(p, x, y):
    return ((torch.tanh(x @ p["W"] + p["b"]) @ p["v"] + p["c"] - y) ** 2).mean()


def trained(params, data, optimizer, steps, schedule=None):
    """Train the params by torch's own loop; the losses."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(params, *data)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
        if schedule:
            schedule.step()
    return losses


def torchs(make, steps=STEPS, dtype=torch.float64, scheduler=None, seed=None):
    """torch's own run: the losses, the params and the optimizer. With a seed, params begin a rounding or two off."""
    params, data = problem(dtype)
    if seed is not None:
        draws = torch.Generator().manual_seed(seed)
        eps = torch.finfo(dtype).eps
        params = {k: p * (1 + eps * torch.randint(-2, 3, p.shape, generator=draws).to(p)) for k, p in params.items()}
    params = {name: param.requires_grad_() for name, param in params.items()}
    optimizer = make(list(params.values()))
    losses = trained(params, data, optimizer, steps, scheduler(optimizer) if scheduler else None)
    return torch.stack(losses), {name: param.detach() for name, param in params.items()}, optimizer


def cases():
    """The first of each optimizer's, and the others, which take longer."""
    for info in torchs_lists.optimizers():
        name = info.optim_cls.__name__
        if name in ELSEWHERE:
            continue
        for at, given in enumerate(info.optim_inputs_func(device="cpu")):
            options = {key: value for key, value in given.kwargs.items() if key not in IGNORED}
            if not any(isinstance(value, torch.Tensor) for value in options.values()):
                text = ",".join(f"{key}={value}" for key, value in options.items())
                marks = pytest.mark.slow if at > 1 else ()
                yield pytest.param(info.optim_cls, options, id=f"{name}({text})", marks=marks)


def unique(params):
    return [next(group) for _, group in itertools.groupby(params, key=lambda param: param.id)]


@pytest.mark.parametrize(("cls", "options"), unique(cases()))
def test_torchs_own_list(cls, options):
    params, data = problem()
    want, last, _ = torchs(lambda tensors: cls(tensors, **options))
    given = [param.requires_grad_() for param in params.values()]
    run = descend(loss, params, data, steps=STEPS, optimizer=cls(given, **options), backend="fused")
    bound = BOUNDS.get(cls.__name__, 1e-11)
    pairs = [
        (run.loss, want, lambda other: other[0]),
        *((run.params[k], last[k], lambda o, k=k: o[1][k]) for k in last),
    ]
    far = [pair for pair in pairs if off(*pair[:2]) > bound]
    others = [torchs(lambda tensors: cls(tensors, **options), seed=seed) for seed in range(3)] if far else []
    for got, wanted, of in far:
        assert off(got, wanted) < MARGIN * max(off(of(other), wanted) for other in others)


MARGIN = 30
"""Times as far as torch is from itself when it begins with other roundings; each step rounds otherwise, too."""


def off(got, want):
    """The largest difference, as a part of the largest number."""
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_our_own_have_torchs_options(amsgrad, maximize):
    for ours, theirs in (
        (optimizers.SGD(momentum=0.5, maximize=maximize), torch.optim.SGD(problem()[0].values(), momentum=0.5)),
        (optimizers.Adam(amsgrad=amsgrad, maximize=maximize), torch.optim.Adam(problem()[0].values())),
        (optimizers.AdamW(amsgrad=amsgrad, maximize=maximize), torch.optim.AdamW(problem()[0].values())),
    ):
        options = {key: value for key, value in vars(ours).items() if key in theirs.defaults}
        want, _, _ = torchs(lambda tensors, make=theirs.__class__, o=options: make(tensors, lr=0.005, **o), 100)
        run = descend(loss, *problem(), learn_rate=0.005, steps=100, optimizer=ours, backend="fused")
        assert off(run.loss, want) < 1e-10


@pytest.mark.parametrize("name", sorted({*optimizers.TORCHS} - {"muon"}))
def test_by_name_in_float32(name):
    params, data = problem(torch.float32)
    cls = getattr(torch.optim, optimizers.TORCHS[name])
    want, _, _ = torchs(lambda tensors: cls(tensors, lr=0.01), dtype=torch.float32)
    run = descend(loss, params, data, steps=STEPS, learn_rate=0.01, optimizer=name, backend="fused")
    other, _, _ = torchs(lambda tensors: cls(tensors, lr=0.01), dtype=torch.float32, seed=1)
    assert off(run.loss, want) < max(2e-4, MARGIN * off(other, want))


def test_the_state_goes_on_and_comes_back():
    """50 steps of torch's, then 100 of ours, then 50 of torch's: as 200 of torch's."""
    want, last, _ = torchs(lambda tensors: torch.optim.RMSprop(tensors, lr=0.01, momentum=0.5, centered=True))
    params, data = problem()
    params = {name: param.requires_grad_() for name, param in params.items()}
    optimizer = torch.optim.RMSprop(list(params.values()), lr=0.01, momentum=0.5, centered=True)
    losses = trained(params, data, optimizer, 50)
    run = descend(loss, params, data, steps=100, optimizer=optimizer, backend="fused")
    with torch.no_grad():
        for name, value in run.params.items():
            params[name].copy_(value)
    losses.extend(run.loss)
    losses += trained(params, data, optimizer, 50)
    torch.testing.assert_close(torch.stack(losses), want, rtol=1e-11, atol=1e-11)
    for name, value in last.items():
        torch.testing.assert_close(params[name].detach(), value, rtol=1e-11, atol=1e-11)
    assert optimizer.state[params["W"]]["step"] == 200


def test_groups_have_options_of_their_own():
    def make(tensors):
        return torch.optim.AdamW(
            [{"params": tensors[:2], "lr": 0.02, "weight_decay": 0.1}, {"params": tensors[2:], "betas": (0.5, 0.9)}],
            lr=0.003,
        )

    want, _, _ = torchs(make, 50)
    params, data = problem()
    given = [param.requires_grad_() for param in params.values()]
    run = descend(loss, params, data, steps=50, optimizer=make(given), backend="fused")
    torch.testing.assert_close(run.loss, want, rtol=1e-11, atol=1e-11)


SCHEDULERS = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.5),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 25),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=STEPS + 1, cycle_momentum=False),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1 / (1 + 0.01 * epoch)),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=20),
            torch.optim.lr_scheduler.ExponentialLR(o, 0.99),
        ],
        milestones=[20],
    ),
}


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name, cls):
    want, _, optimizer = torchs(lambda tensors: cls(tensors, lr=0.02), scheduler=SCHEDULERS[name])
    params, data = problem()
    own = cls([param.requires_grad_() for param in params.values()], lr=0.02)
    schedule = SCHEDULERS[name](own)
    run = descend(loss, params, data, steps=STEPS, optimizer=own, learn_rate=schedule, backend="fused")
    torch.testing.assert_close(run.loss, want, rtol=1e-11, atol=1e-11)
    assert own.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_a_learn_rate_for_each_step():
    rates = torch.linspace(0.05, 0.0, STEPS, dtype=torch.float64)
    want, _, _ = torchs(
        lambda tensors: torch.optim.SGD(tensors, lr=1.0),
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: float(rates[min(k, STEPS - 1)])),
    )
    params, data = problem()
    for given in (rates, rates.numpy(), rates.tolist()):
        run = descend(loss, params, data, steps=STEPS, learn_rate=given, backend="fused")
        torch.testing.assert_close(run.loss, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("optimizer", "learn_rate", "match"),
    [
        (lambda p: torch.optim.LBFGS(p), None, "value_and_grad in its closure"),
        (lambda p: torch.optim.SGD(p[1:], lr=0.1), None, "1 of the params it does not hold"),
        (lambda p: torch.optim.SGD([*p, torch.zeros(1, requires_grad=True)], lr=0.1), None, "none of these"),
        (lambda p: torch.optim.SGD(p, lr=0.1), 0.1, "the optimizer has its own"),
        (lambda p: optimizers.Torch("Nonsense"), 0.1, "a class of torch.optim or its name"),
        (lambda p: optimizers.Torch("RMSprop", alpha=-1), 0.1, "RMSprop: Invalid alpha"),
        (lambda p: "sgd", [0.1, 0.1], "one for each of 200 steps"),
        (lambda p: "sgd", [float("nan")] * STEPS, "finite numbers >= 0"),
        (lambda p: "sgd", -0.1, "learn_rate"),
    ],
)
def test_what_is_wrong_is_said(optimizer, learn_rate, match):
    params, data = problem()
    given = optimizer([param.requires_grad_() for param in params.values()])
    with pytest.raises((ValueError, TypeError), match=match):
        descend(loss, params, data, steps=STEPS, learn_rate=learn_rate, optimizer=given)


def test_a_learn_rate_is_wanted():
    params, data = problem()
    for optimizer in ("sgd", "rmsprop"):
        with pytest.raises(TypeError, match="learn_rate: wants a number"):
            descend(loss, params, data, steps=3, optimizer=optimizer)


def test_schedulers_that_cannot_be_computed_before():
    params, data = problem()
    own = torch.optim.SGD([param.requires_grad_() for param in params.values()], lr=0.02, momentum=0.9)
    for schedule, match in (
        (torch.optim.lr_scheduler.ReduceLROnPlateau(own), "wants a loss at every step"),
        (torch.optim.lr_scheduler.OneCycleLR(own, 0.05, total_steps=STEPS + 1), "changes more than that"),
    ):
        with pytest.raises(ValueError, match=match):
            descend(loss, params, data, steps=STEPS, optimizer=own, learn_rate=schedule)


def test_muon_runs_in_torch():
    """It rounds to bfloat16, which no kernel of ours does."""
    params, data = problem()
    start = params["W"]

    def of_a_matrix(w, x, y):
        return loss({**params, "W": w}, x, y)

    options = dict(learn_rate=0.01, optimizer="muon")
    with pytest.raises(UnsupportedOperationError):
        descend(of_a_matrix, start, data, steps=3, backend="fused", **options)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        run = descend(of_a_matrix, start, data, steps=20, **options)
    assert run.loss[-1] < run.loss[0]
