"""What a loss writes to tensors beside its params is carried from step to step, by every loop, once for each step."""

import copy

import pytest
import torch
from torch import nn

from fastpoly import UnsupportedOperationError, descend, descend_module, scan

D = torch.float64
torch.manual_seed(0)
X, Y = torch.randn(12, 3, dtype=D), torch.randn(12, 1, dtype=D)
STEPS, RATE = 6, 0.05


def by_hand(module, loss, data, steps=STEPS):
    """A copy of the module, trained as one does in torch."""
    module = copy.deepcopy(module)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(module, *data).backward()
        optimizer.step()
    return module


def squares(module, x, y):
    return ((module(x) - y) ** 2).mean()


def assert_same(module, wanted, **options):
    for (name, got), want in zip(module.state_dict().items(), wanted.state_dict().values(), strict=True):
        torch.testing.assert_close(got, want, **options, msg=lambda text, name=name: f"{name}: {text}")


class Running(nn.Module):
    """Buffers that are written to in several ways."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("largest", torch.full((1,), -1e3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("rows", torch.zeros(2, 3))
        self.register_buffer("last", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))
        self.register_buffer("untouched", torch.ones(3))

    def forward(self, x):
        out = self.layer(x * self.untouched)
        with torch.no_grad():
            self.mean.lerp_(out.mean(), 0.1)
            self.largest.copy_(torch.maximum(self.largest, out.max()))
            self.steps += 1
            self.rows[1].mul_(0.9).add_(self.layer.weight[0])
            self.rows[0, 1:] = self.layer.weight[0, 1:]
            self.last = 0.5 * self.last + out.detach()[0, 0]
            self.seen.fill_(True)
        return out - self.mean + 0.01 * self.rows[1].sum() + 0.1 * self.last


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 1))


def images(norm):
    return nn.Sequential(nn.Conv2d(1, 2, 2), norm, nn.Flatten(), nn.Linear(2 * 1 * 2, 1))


MODULES = {
    "BatchNorm1d": lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)),
    "BatchNorm2d": lambda: images(nn.BatchNorm2d(2, momentum=0.3)),
    "BatchNorm3d": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 1, 2, 3)), nn.BatchNorm3d(1), nn.Flatten(), nn.Linear(6, 1)
    ),
    "InstanceNorm": lambda: images(nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
    "spectral_norm": spectral,
    "several ways": Running,
}
WIDE = ("BatchNorm2d", "BatchNorm3d", "InstanceNorm")


def data_of(name, dtype):
    x = torch.cat([X, X.flip(0)], 1) if name in WIDE else X
    return (x.reshape(12, 1, 2, 3) if name in ("BatchNorm2d", "InstanceNorm") else x).to(dtype), Y.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, D], ids=["single", "double"])
@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("name", MODULES)
def test_a_modules_buffers_are_those_of_torch(name, backend, dtype):
    torch.manual_seed(0)
    module = MODULES[name]().to(dtype)
    data = data_of(name, dtype)
    wanted, buffers = by_hand(module, squares, data), list(module.buffers())
    run = descend_module(module, squares, data, learn_rate=RATE, steps=STEPS, backend=backend)
    assert run.backend == backend
    assert_same(module, wanted, rtol=1e-9 if dtype == D else 1e-4, atol=1e-11 if dtype == D else 1e-5)
    assert all(one is other for one, other in zip(buffers, module.buffers(), strict=True))


# -- tensors of any loss
# ----------------------------------------------------------------------------------------


def start():
    return torch.tensor([0.7, 0.2, 0.1], dtype=D)


def in_place(w, x, kept):
    x += 1
    return (w * x[:3]).square().sum()


def a_part(w, x, kept):
    x[:2].mul_(0.5)
    return (w * x[:3]).square().sum()


def params_into_it(w, x, kept):
    x[0] = w.detach()[0]
    kept.copy_(0.5 * kept + w.detach())
    return (w * kept).square().sum() + (w * x[:3]).sum().square()


def out(w, x, kept):
    torch.add(kept, w.detach(), out=kept)
    return (w * kept).square().sum()


def into_a_view(w, x, kept):
    view = kept.data[1:]
    view.lerp_(w.detach()[1:], 0.3)
    return (w * kept).square().sum()


def functional_statistics(w, x, kept):
    """Of data alone: torch's schema does not say that it writes."""
    h = torch.nn.functional.batch_norm(x.reshape(2, 3), kept, kept.new_ones(3), training=True)
    return (w * h + w * kept).square().sum()


WRITERS = [in_place, a_part, params_into_it, out, into_a_view, functional_statistics]


def tensors():
    return start(), torch.linspace(-1, 1, 6, dtype=D), torch.tensor([0.5, -0.2, 0.3], dtype=D)


def reference(loss, steps):
    """As a loop in torch has it."""
    w, x, kept = tensors()
    losses = []
    for _ in range(steps):
        w.requires_grad_()
        value = loss(w, x, kept)
        (grad,) = torch.autograd.grad(value, w)
        losses.append(value.item())
        w = (w - RATE * grad).detach()
    return w, x, kept, losses


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("loss", WRITERS, ids=lambda loss: loss.__name__)
def test_tensors_of_any_loss_are_left_as_torch_leaves_them(loss, backend):
    w, x, kept = tensors()
    run = descend(loss, w, (x, kept), learn_rate=RATE, steps=STEPS, backend=backend)
    want_w, want_x, want_kept, losses = reference(loss, STEPS)
    assert run.loss.tolist() == pytest.approx(losses, rel=1e-12)
    for got, want in ((run.params, want_w), (x, want_x), (kept, want_kept)):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script:DeprecationWarning")
def test_torchs_compiler_carries_them_too():
    torch.manual_seed(0)
    module = MODULES["BatchNorm1d"]().double()
    wanted = by_hand(module, squares, (X, Y))
    descend_module(module, squares, (X, Y), learn_rate=RATE, steps=STEPS, backend="compile")
    assert_same(module, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_callback_sees_them_and_an_end_keeps_them(backend):
    w, x, kept = tensors()
    seen = []

    def look(step, params, value):
        seen.append(kept.clone())
        return step == 4

    run = descend(
        params_into_it, w, (x, kept), learn_rate=RATE, steps=9, backend=backend, callback=look, callback_every=2
    )
    assert run.ended_by == "callback"
    for steps, found in zip((2, 4), seen, strict=True):
        torch.testing.assert_close(found, reference(params_into_it, steps)[2], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(kept, seen[-1])


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_a_run_from_a_file_goes_on_with_them(backend, tmp_path):
    options = {"learn_rate": RATE, "backend": backend, "save": tmp_path / "run.pt"}
    w, x, kept = tensors()
    descend(params_into_it, w, (x, kept), steps=3, **options)
    again, new_x, new_kept = tensors()
    run = descend(params_into_it, again, (new_x, new_kept), steps=STEPS, **options)
    assert run.loss.tolist() == pytest.approx(reference(params_into_it, STEPS)[3], rel=1e-12)
    run = descend(params_into_it, w, (x, kept), steps=STEPS + 2, **options)  # with what the first run has left in them
    torch.testing.assert_close(kept, reference(params_into_it, STEPS + 2)[2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_held_out_data_read_them_and_leave_them(backend):
    w, x, kept = tensors()
    held = torch.ones(6, dtype=D), kept
    options = {"learn_rate": RATE, "steps": STEPS, "backend": backend, "held_out": held, "patience": 50}
    run = descend(out, w, (x, kept), **options)
    torch.testing.assert_close(kept, reference(out, STEPS)[2], rtol=1e-12, atol=1e-14)
    assert len(run.held_out) == STEPS


@pytest.mark.parametrize("optimizer", ["adam", lambda params, grads, state: (params, state)], ids=["adam", "function"])
def test_optimizers_that_look_at_a_first_step_first(optimizer):
    w, x, kept = tensors()
    descend(in_place, w, (x, kept), learn_rate=RATE, steps=STEPS, backend="fused", optimizer=optimizer)
    torch.testing.assert_close(x, tensors()[1] + STEPS, rtol=1e-12, atol=1e-14)


def test_what_is_infinite_is_no_divergence():
    least = torch.full((2,), torch.inf, dtype=D)

    def loss(w):
        with torch.no_grad():
            least[0].copy_(torch.minimum(least[0], w.square().sum()))
        return w.square().sum()

    run = descend(loss, start(), learn_rate=RATE, steps=3, backend="fused")
    assert (run.ended_by, run.steps) == ("steps", 3)
    assert least.tolist() == [run.loss[-1].item(), torch.inf]


def test_a_counter_is_exact_beyond_what_floats_hold():
    count, w = torch.tensor(2**24 + 1), torch.ones(2)

    def loss(w):
        count.add_(3)
        return w.square().sum()

    descend(loss, w, learn_rate=0.1, steps=5, backend="fused")
    assert count.item() == 2**24 + 16


def test_steps_are_counted_once_whoever_calls_the_loss():
    """What cannot be fused falls back, and the calls that found that out have left nothing behind."""
    norm = nn.BatchNorm1d(3, momentum=None).double()
    model = nn.Sequential(norm, nn.Linear(3, 1).double())
    wanted = by_hand(model, squares, (X, Y))
    with pytest.raises(UnsupportedOperationError, match="the value of a tensor decides"):
        descend_module(model, squares, (X, Y), learn_rate=RATE, steps=STEPS, backend="fused")
    assert norm.num_batches_tracked.item() == 0
    with pytest.warns(RuntimeWarning, match="many times slower"):
        descend_module(model, squares, (X, Y), learn_rate=RATE, steps=STEPS)
    assert_same(model, wanted, rtol=1e-9, atol=1e-11)


def test_scan_wants_them_in_its_carry():
    kept = torch.zeros((), dtype=D)
    with pytest.raises(UnsupportedOperationError, match="from outside the loss"):
        scan(lambda c: (c + kept.add_(1), c), torch.ones((), dtype=D), length=3, backend="fused")
    assert kept.item() == 0


LIKE_VIEWS = {
    "kron": lambda kept, p: torch.kron(kept, p),
    "unsafe_split": lambda kept, p: torch.unsafe_split(kept, 2)[0] * p,
    "unsafe_chunk": lambda kept, p: torch.unsafe_chunk(kept, 2)[1] * p,
    "a batch of matrices": lambda kept, p: torch.matmul(kept.reshape(2, 2).expand(3, 2, 2), p[:, None]),
}


@pytest.mark.parametrize("case", LIKE_VIEWS.values(), ids=LIKE_VIEWS)
def test_what_shares_memory_without_saying_so(case):
    """A gradient reads what was written behind autograd's back, as eager torch's does."""

    def run(backend):
        kept = torch.tensor([3.0, 0.2, 1.0, 2.0], dtype=torch.float64)

        def loss(p):
            value = case(kept, p).sum()
            kept.data.clamp_(-0.5, 0.5)
            return value

        return descend(loss, torch.ones(2, dtype=torch.float64), learn_rate=0.1, steps=3, backend=backend).params

    torch.testing.assert_close(run("fused"), run("eager"), rtol=1e-14, atol=0)
