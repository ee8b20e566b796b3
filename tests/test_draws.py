"""What a loss draws at random: the same numbers in every loop, and others in every step, place and element."""

import functools

import interpreted_cpu
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastpoly import UnsupportedOperationError, descend, descend_module
from fastpoly._draws import DRAWN, LOW, Draws, first, following
from fastpoly_kernels.functions import FUNCTIONS, threefry

D = torch.float64
BOTH = pytest.mark.parametrize("dtype", [D, torch.float32], ids=["double", "single"])


# -- the generator
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "key", "want"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_known_answers_of_its_authors(count, key, want):
    """Of Random123's file kat_vectors, for threefry2x32 with 20 rounds."""
    words = ([np.array([word], np.uint32) for word in pair] for pair in (key, count))
    assert [int(word[0]) for word in threefry(*words)] == list(want)


ARGUMENTS = [  # key_low, key_high, site, low, high; the last bits of each count
    (0, 0, 0, 0, 0),
    (1, 2, 3, 4, 5),
    (2**22 - 1, 2**22 - 1, 2**20 - 1, 2**20 - 1, 2**22 - 1),
    (2**21, 2**21 + 1, 1024, 2**19, 4096),
]


def on_target(name, dtype, backend):
    """What a kernel makes of these arguments: an optimizer whose next params are that."""
    place = torch.tensor([0, 1, 2, 3, 100, 4095, 2**21, 2**22 - 1] * 5, dtype=dtype)
    rows = []
    for words in ARGUMENTS:

        def update(params, grads, state, words=words):
            drawn = getattr(torch.ops.fastpoly, name)
            return drawn(*[torch.tensor(word, dtype=dtype) for word in words], params), state

        loss = dict(learn_rate=1.0, steps=1, optimizer=update, backend=backend)
        rows.append(descend(lambda w: w.sum(), place, **loss).params)
    return torch.stack(rows), place


def interpreted_by_triton(name, dtype):
    import interpreted_gpu  # noqa: F401  (lets backend="triton" take tensors of the CPU)

    return on_target(name, dtype, "triton")


@pytest.mark.parametrize("target", ["fused", "page", "triton"])
@pytest.mark.parametrize(
    ("name", "dtype"), [("uniform", torch.float32), ("uniform", D), ("uniform_double", D)], ids=["23", "23 wide", "52"]
)
def test_every_target_draws_the_same_bits(name, dtype, target, request, monkeypatch):
    if target == "triton":
        got, place = request.getfixturevalue("interpreted")(functools.partial(interpreted_by_triton, name, dtype))
    else:
        if target == "page":
            interpreted_cpu.install(monkeypatch)
        got, place = on_target(name, dtype, "fused")
    want = [FUNCTIONS[name].numpy(*map(float, words), place.double().numpy()) for words in ARGUMENTS]
    np.testing.assert_array_equal(got.double().numpy(), np.stack(want))


def numbers(kind, steps=4, sites=3, count=5_000, dtype=torch.float32):
    """(steps, sites, count) draws."""
    carried, rows = first(12345, "cpu"), []
    for _ in range(steps):
        with Draws(carried) as draws:
            rows.append(torch.stack([getattr(draws, kind)((count,), dtype, "cpu") for _ in range(sites)]))
        carried = following(carried)
    return torch.stack(rows).double()


@BOTH
def test_uniform_numbers_are_uniform_and_independent(dtype):
    drawn = numbers("uniform", dtype=dtype)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    ordered = drawn.reshape(-1).sort().values
    steps = torch.linspace(0, 1, len(ordered), dtype=D)
    assert (ordered - steps).abs().max() < 1.9 / len(ordered) ** 0.5  # Kolmogorov and Smirnov's test, at 0.1 %
    rows = drawn.reshape(12, -1) - 0.5
    products = rows @ rows.T / rows.shape[1] * 12  # correlations of steps and places
    assert (products - torch.eye(12, dtype=D)).abs().max() < 4.5 / rows.shape[1] ** 0.5
    neighbours = (rows[:, 1:] * rows[:, :-1]).mean(1) * 12
    assert neighbours.abs().max() < 4.5 / rows.shape[1] ** 0.5


@BOTH
def test_normal_numbers_are_normal(dtype):
    drawn = numbers("normal", dtype=dtype).reshape(-1)
    for power, moment, width in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((drawn**power).mean().item() - moment) < 4.5 * width / len(drawn) ** 0.5
    assert drawn.isfinite().all()


def test_the_count_of_steps_has_two_words():
    *_, low, high = following([torch.tensor(n) for n in (1, 2, LOW - 1, 6)])
    assert (low.item(), high.item()) == (0, 7)
    *_, low, high = following([torch.tensor(n) for n in (1, 2, LOW - 2, 6)])
    assert (low.item(), high.item()) == (LOW - 1, 6)


# -- in losses
# ----------------------------------------------------------------------------------------

LOSSES = {
    "rand": lambda w: torch.rand(4, dtype=w.dtype),
    "rand of another width": lambda w: torch.rand(4, dtype=torch.float32) + 0 * w.double(),
    "randn": lambda w: torch.randn(2, 4, dtype=w.dtype).sum(0),
    "rand_like": torch.rand_like,
    "randn_like": torch.randn_like,
    "randint": lambda w: w[torch.randint(1, 4, (2, 4))].sum(0),
    "randint from 0": lambda w: w[torch.randint(4, (4,))],
    "randperm": lambda w: w[torch.randperm(4)],
    "normal": lambda w: torch.normal(w, w.exp()) + torch.normal(w, 0.5) + torch.normal(0.5, w.exp()),
    "normal of numbers": lambda w: torch.normal(1.0, 2.0, (4,), dtype=w.dtype),
    "bernoulli": lambda w: torch.bernoulli(torch.sigmoid(w.detach())) + torch.bernoulli(w.detach(), 0.3),
    "in place": lambda w: (
        torch.empty_like(w).uniform_(-2, 3)
        + torch.empty_like(w).normal_(1, 2)
        + torch.empty_like(w).exponential_(2)
        + torch.empty_like(w).log_normal_(0.1, 0.2)
        + torch.empty_like(w).cauchy_().clamp(-3, 3)
        + torch.empty_like(w).bernoulli_(0.5)
        + torch.empty_like(w).bernoulli_(torch.full_like(w, 0.3))
    ),
    "dropout": lambda w: F.dropout(w, 0.3) + F.alpha_dropout(w, 0.2) + torch.native_dropout(w, 0.4, True)[0],
    "rsample": lambda w: torch.distributions.Normal(w, w.exp()).rsample(),
    "a loop": lambda w: sum(torch.rand_like(w) * w * t for t in range(30)),
}


def loss_of(name):
    return lambda w: ((w + LOSSES[name](w) - 0.3) ** 2 * (1 + torch.arange(4))).sum()


def run(name, dtype=D, backend="fused", **options):
    start = torch.tensor([0.3, -0.2, 0.1, 0.5], dtype=dtype)
    return descend(loss_of(name), start, **{"learn_rate": 1e-4, "steps": 9, "backend": backend, "seed": 5} | options)


@BOTH
@pytest.mark.parametrize("name", LOSSES)
def test_the_same_numbers_step_by_step_and_fused(name, dtype):
    eager, fused = (run(name, dtype, backend) for backend in ("eager", "fused"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=2e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)
    changes = eager.loss.diff().abs()
    assert changes.min() > 0 if "randint" not in name else changes.max() > 0


def test_every_rule_has_a_case():
    assert len(DRAWN) == 21  # when one comes, so does a line in LOSSES


def test_a_seed_is_a_run():
    assert torch.equal(run("randn").loss, run("randn").loss)
    assert not torch.equal(run("randn").loss, run("randn", seed=6).loss)
    torch.manual_seed(3)
    one = run("randn", seed=None)
    torch.manual_seed(3)
    assert torch.equal(one.loss, run("randn", seed=None).loss)
    assert not torch.equal(one.loss, run("randn", seed=None).loss)


def test_the_numbers_do_not_depend_on_how_a_run_is_cut(tmp_path):
    whole = run("randn", steps=30)
    looked = run("randn", steps=30, callback=lambda *_: None, callback_every=7)
    assert torch.equal(looked.loss, whole.loss)
    run("randn", steps=11, save=tmp_path / "run.pt")
    assert torch.equal(run("randn", steps=30, save=tmp_path / "run.pt").loss, whole.loss)


def test_an_optimizer_draws_others_than_the_loss():
    def langevin(params, grads, state):
        return params - 0.01 * grads + 0.1 * torch.randn_like(params), state

    def loss(w):
        noise = torch.randn_like(w)
        return (w * 0).sum(), noise

    start = torch.zeros(2000, dtype=D)
    result = descend(loss, start, optimizer=langevin, steps=2, has_aux=True, seed=1, backend="fused")
    first_step, second = (result.params / 0.1), result.aux[1]
    for one in (result.aux[0], second):
        assert abs((first_step * one).mean().item()) < 0.12


def test_a_module_with_dropout_and_statistics():
    def trained(backend):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)).double()
        x = torch.linspace(-1, 1, 30, dtype=D).reshape(10, 3)
        options = dict(learn_rate=0.05, steps=12, backend=backend, seed=3)
        descend_module(module, lambda m, x: (m(x) - x.sin().sum(1, True)).square().mean(), x, **options)
        return module.state_dict()

    eager, fused = trained("eager"), trained("fused")
    for name, value in eager.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-9, atol=1e-11)


def test_minibatches_drawn_in_the_loss():
    x, y = torch.linspace(-1, 1, 50, dtype=D), torch.linspace(-1, 1, 50, dtype=D).sin()

    def loss(w, x, y):
        batch = torch.randint(len(x), (8,))
        return (w[0] + w[1] * x[batch] - y[batch]).square().mean()

    start, options = torch.zeros(2, dtype=D), dict(learn_rate=0.1, steps=50, seed=2)
    eager, fused = (descend(loss, start, (x, y), backend=backend, **options) for backend in ("eager", "fused"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-11, atol=1e-13)


OWN = torch.Generator().manual_seed(0)


def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.rand(3)


@pytest.mark.parametrize(
    ("drawn", "named"),
    [
        (lambda: torch.rand(3, generator=OWN), "rand "),
        (lambda: torch.multinomial(torch.ones(3), 3), "multinomial "),
        (seeded, "rand "),
    ],
    ids=["a generator of one's own", "what has no rule", "torch's generator seeded in the loss"],
)
def test_what_torch_alone_draws_is_refused(drawn, named):
    with pytest.raises(UnsupportedOperationError, match=rf"{named}.*draws random numbers.*xs="):
        descend(lambda w: (w * drawn()).sum(), torch.ones(3), learn_rate=0.1, steps=2, backend="fused")


def test_a_loss_that_seeds_torch_has_the_same_numbers_in_every_step():
    run = descend(lambda w: (w * seeded()).sum(), torch.ones(3), learn_rate=0.0001, steps=3, backend="eager")
    assert run.loss[0].item() == pytest.approx(seeded().sum().item())
    assert run.loss.std() < 1e-3


def test_torchs_generator_is_left_alone():
    before = torch.get_rng_state()
    run("dropout")
    run("dropout", backend="eager")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script:DeprecationWarning")
def test_torchs_compiler_draws_them_too():
    torch.testing.assert_close(run("dropout", backend="compile").loss, run("dropout").loss, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
def test_a_card_draws_in_registers():
    pytest.importorskip("triton")
    import drawing_on_a_card
    from machine_code_gpu import machine_code

    for kernel, kind in ((drawing_on_a_card.single, "fp32"), (drawing_on_a_card.double, "fp64")):
        code = machine_code(kernel, {"out": f"*{kind}", "key": kind}, {"N": 32})
        assert code.local == code.stack == 0
