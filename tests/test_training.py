"""What a training loop does beside descending, each against the loop that a torch user would write."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import fastpoly
from fastpoly import Interrupted, descend, descend_module

RATE, STEPS = 0.05, 60
GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(30, 3, generator=GENERATOR, dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3
BATCHES = X.reshape(6, 5, 3), Y.reshape(6, 5)
START = {"w": torch.zeros(3, dtype=torch.float64), "b": torch.zeros((), dtype=torch.float64)}
BACKENDS = ["fused", "eager", pytest.param("compile", marks=pytest.mark.slow)]
ALL = pytest.mark.parametrize("backend", BACKENDS)


def loss(p, x, y):
    return ((x @ p["w"] + p["b"] - y) ** 2).mean()


def of_a_slice(p, batch):
    return loss(p, *batch)


def by_hand(steps=STEPS, batches=None, clip=None, project=None, rate=RATE):
    """torch's own loop: the losses, and the params before each step and after the last."""
    params = {name: leaf.clone().requires_grad_() for name, leaf in START.items()}
    optimizer, losses, path = torch.optim.SGD(params.values(), lr=rate), [], []
    for step in range(steps):
        path.append({name: leaf.detach().clone() for name, leaf in params.items()})
        optimizer.zero_grad()
        value = loss(params, X, Y) if batches is None else loss(params, *(part[step % 6] for part in batches))
        value.backward()
        if clip:
            clip(params.values())
        optimizer.step()
        if project:
            with torch.no_grad():
                for name, leaf in project(params).items():
                    params[name].copy_(leaf)
        losses.append(value.detach())
    path.append({name: leaf.detach().clone() for name, leaf in params.items()})
    return torch.stack(losses), path


def assert_like(run, losses, params):
    torch.testing.assert_close(run.loss, losses, rtol=1e-11, atol=1e-11)
    for name, value in params.items():
        torch.testing.assert_close(run.params[name], value, rtol=1e-11, atol=1e-11)


@ALL
def test_a_slice_for_each_step(backend):
    losses, path = by_hand(batches=BATCHES)
    options = dict(learn_rate=RATE, backend=backend)
    run = descend(of_a_slice, START, steps=STEPS, xs=BATCHES, cycle=True, **options)
    assert_like(run, losses, path[-1])
    assert_like(descend(of_a_slice, START, steps=6, xs=BATCHES, **options), losses[:6], path[6])


def test_slices_of_whole_numbers_and_a_long_row():
    """Labels of each step, and rows that registers run along."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 40, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (20, 40), generator=generator)

    def entropy(w, batch):
        return torch.nn.functional.cross_entropy(batch["x"] @ w, batch["labels"])

    start, options = torch.zeros(4, 3, dtype=torch.float64), dict(learn_rate=0.1, steps=50, cycle=True)
    xs = {"x": x, "labels": labels}
    fused, eager = (descend(entropy, start, xs=xs, backend=backend, **options) for backend in ("fused", "eager"))
    torch.testing.assert_close(fused.loss, eager.loss, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(fused.params, eager.params, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("xs", "options", "error", "match"),
    [
        (BATCHES, dict(steps=7), ValueError, "a slice for each of 7 steps, got 6; cycle=True"),
        ((X, Y[:4]), dict(steps=3), ValueError, "one leading axis"),
        (torch.tensor(1.0), dict(steps=1), ValueError, "one leading axis"),
        (None, dict(steps=1, cycle=True), ValueError, "cycle: wants xs"),
    ],
)
def test_slices_that_cannot_be_meant(xs, options, error, match):
    with pytest.raises(error, match=match):
        descend(of_a_slice, START, learn_rate=RATE, xs=xs, **options)


@ALL
@pytest.mark.parametrize("how", ["norm", "value"])
def test_clipped_gradients(how, backend):
    clip = {
        "norm": (dict(clip_norm=0.5), lambda params: torch.nn.utils.clip_grad_norm_(params, 0.5)),
        "value": (dict(clip_value=0.3), lambda params: torch.nn.utils.clip_grad_value_(params, 0.3)),
    }
    options, by_torch = clip[how]
    losses, path = by_hand(clip=by_torch)
    run = descend(loss, START, (X, Y), learn_rate=RATE, steps=STEPS, backend=backend, **options)
    assert_like(run, losses, path[-1])


@ALL
def test_params_kept_where_they_belong(backend):
    def project(params):
        return {"w": params["w"].clamp(-0.5, 0.7), "b": params["b"].abs()}

    losses, path = by_hand(project=project)
    run = descend(loss, START, (X, Y), learn_rate=RATE, steps=STEPS, project=project, backend=backend)
    assert_like(run, losses, path[-1])
    assert float(run.params["w"].max()) == 0.7


@ALL
def test_until(backend):
    losses, path = by_hand()
    end = int((losses < 0.5).nonzero()[0])
    run = descend(
        loss, START, (X, Y), learn_rate=RATE, steps=STEPS, until=lambda _, value: value < 0.5, backend=backend
    )
    assert (run.steps, run.ended_by, run.diverged_at) == (end, "until", None)
    assert_like(run, losses[:end], path[end])
    run = descend(loss, START, (X, Y), learn_rate=RATE, steps=STEPS, until=lambda p, _: p["w"][0] > 9, backend=backend)
    assert (run.steps, run.ended_by) == (STEPS, "steps")


def test_divergence_is_told_from_an_end():
    with pytest.warns(fastpoly.DivergenceWarning):
        run = descend(loss, START, (X, Y), learn_rate=1e6, steps=STEPS, until=lambda _, v: v < 1e-9, backend="fused")
    assert run.ended_by == "divergence"
    assert run.diverged_at == run.steps


@ALL
def test_patience_on_held_out_data(backend):
    """Noise is learned after some steps: the best params on other data are some steps back."""
    x, y = X[:4], Y[:4] + torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)
    run = descend(
        loss, START, (x, y), learn_rate=0.02, steps=3_000, held_out=(X[4:], Y[4:]), patience=20, backend=backend
    )
    points = []
    plain = descend(
        loss,
        START,
        (x, y),
        learn_rate=0.02,
        steps=run.steps,
        backend="eager",
        callback=lambda step, params, _: points.append(params),
        callback_every=1,
    )
    held = torch.stack([loss(params, X[4:], Y[4:]) for params in (START, *points[:-1])])
    best = int(held.argmin())
    assert (run.ended_by, run.steps) == ("patience", best + 20)
    torch.testing.assert_close(run.held_out, held[: run.steps], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(loss(run.best, X[4:], Y[4:]), held[best], rtol=1e-11, atol=1e-11)
    assert_like(run, plain.loss, plain.params)


@ALL
@pytest.mark.parametrize("how", ["mean", 0.9])
def test_averages_are_torchs(how, backend):
    _, path = by_hand()
    functions = {"mean": None, 0.9: torch.optim.swa_utils.get_ema_avg_fn(0.9)}
    for name in START:
        holder = torch.nn.Module()
        holder.leaf = torch.nn.Parameter(START[name].clone())
        average = torch.optim.swa_utils.AveragedModel(holder, avg_fn=functions[how])
        for params in path[1:]:
            holder.leaf.data.copy_(params[name])
            average.update_parameters(holder)
        run = descend(loss, START, (X, Y), learn_rate=RATE, steps=STEPS, average=how, backend=backend)
        torch.testing.assert_close(run.averaged[name], average.module.leaf.detach(), rtol=1e-11, atol=1e-11)


@ALL
def test_a_callback_sees_params_and_their_loss(backend):
    losses, path = by_hand()
    seen = []

    def callback(step, params, value):
        seen.append(step)
        torch.testing.assert_close(params["w"], path[step]["w"], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(value, loss(path[step], X, Y), rtol=1e-11, atol=1e-11)

    options = dict(learn_rate=RATE, steps=STEPS, backend=backend, callback_every=7)
    run = descend(loss, START, (X, Y), callback=callback, **options)
    assert seen == list(range(7, STEPS + 1, 7))
    assert_like(run, losses, path[-1])
    run = descend(loss, START, (X, Y), callback=lambda step, *_: step >= 21, **options)
    assert (run.steps, run.ended_by) == (21, "callback")
    assert_like(run, losses[:21], path[21])


def test_an_error_in_a_callback_is_the_callers():
    with pytest.raises(ZeroDivisionError):
        descend(loss, START, (X, Y), learn_rate=RATE, steps=STEPS, callback=lambda *_: 1 / 0, callback_every=5)


# -- a run in a file
# ----------------------------------------------------------------------------------------

OPTIONS = dict(learn_rate=RATE, optimizer="adam", steps=100_000, trace_every=3, backend="fused")


def test_a_run_goes_on_from_its_file_bit_for_bit(tmp_path):
    whole = descend(of_a_slice, START, xs=BATCHES, cycle=True, average=0.9, **OPTIONS)
    file = tmp_path / "runs" / "run.pt"
    stopped = []

    def stop(steps, total):
        """As Ctrl-C does, some time after the first steps."""
        stopped.append(steps)
        if len(stopped) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descend(
            of_a_slice, START, xs=BATCHES, cycle=True, average=0.9, save=file, save_every=1e-9, progress=stop, **OPTIONS
        )
    assert 0 < torch.load(file, weights_only=True)["steps"] < OPTIONS["steps"]
    again = descend(of_a_slice, START, xs=BATCHES, cycle=True, average=0.9, save=file, **OPTIONS)
    assert torch.equal(again.loss, whole.loss)
    for name in START:
        assert torch.equal(again.params[name], whole.params[name])
        assert torch.equal(again.averaged[name], whole.averaged[name])
    assert [entry.name for entry in file.parent.iterdir()] == ["run.pt"]


def test_ctrl_c_writes_the_file(tmp_path):
    file = tmp_path / "run.pt"

    def ctrl_c(*_):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stop:
        descend(loss, START, (X, Y), save=file, progress=ctrl_c, **OPTIONS)
    taken = stop.value.partial.steps
    assert 0 < taken < OPTIONS["steps"]
    assert torch.load(file, weights_only=True)["steps"] == taken
    whole = descend(loss, START, (X, Y), **OPTIONS)
    again = descend(loss, START, (X, Y), save=file, **OPTIONS)
    assert torch.equal(again.loss, whole.loss)
    assert torch.equal(again.params["w"], whole.params["w"])


KILLED = """
import sys, torch
sys.path.insert(0, {tests!r})
import test_training as t
from fastpoly import descend
descend(t.loss, t.START, (t.X, t.Y), learn_rate=1e-6, steps=10**9, trace_every=10**6, backend="fused", optimizer="adam",
        save={file!r}, save_every=0.05)
"""


def test_a_killed_run_goes_on(tmp_path):
    file = tmp_path / "run.pt"
    script = KILLED.format(tests=str(Path(__file__).parent), file=str(file))
    process = subprocess.Popen([sys.executable, "-c", script])
    for _ in range(600):
        if file.exists():
            break
        time.sleep(0.1)
    time.sleep(0.2)
    process.kill()
    process.wait()
    taken = torch.load(file, weights_only=True)["steps"]
    steps = taken + 50_000
    options = dict(learn_rate=1e-6, trace_every=10**6, backend="fused", optimizer="adam")
    resumed = descend(loss, START, (X, Y), steps=steps, save=file, **options)
    whole = descend(loss, START, (X, Y), steps=steps, **options)
    assert resumed.steps == whole.steps == steps
    assert torch.equal(resumed.loss, whole.loss)
    for name in START:
        assert torch.equal(resumed.params[name], whole.params[name])


def test_an_ended_run_is_not_run_again(tmp_path):
    file = tmp_path / "run.pt"
    first = descend(loss, START, (X, Y), save=file, **OPTIONS)
    again = descend(loss, START, (X, Y), save=file, **OPTIONS)
    assert again.steps == first.steps
    assert torch.equal(again.loss, first.loss)
    assert torch.equal(again.params["w"], first.params["w"])
    longer = descend(loss, START, (X, Y), save=file, **{**OPTIONS, "steps": 150_000})
    whole = descend(loss, START, (X, Y), **{**OPTIONS, "steps": 150_000})
    assert torch.equal(longer.loss, whole.loss)
    assert torch.equal(longer.params["w"], whole.params["w"])


def test_a_file_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    descend(loss, START, (X, Y), save=file, **OPTIONS)
    for other in (
        lambda: descend(loss, START, (X, Y + 1), save=file, **OPTIONS),
        lambda: descend(loss, START, (X, Y), save=file, **{**OPTIONS, "learn_rate": 0.1}),
        lambda: descend(loss, START, (X, Y), save=file, **{**OPTIONS, "optimizer": "sgd"}),
        lambda: descend(loss, START, (X, Y), save=file, clip_norm=1.0, **OPTIONS),
    ):
        with pytest.raises(ValueError, match="is of another run"):
            other()
    file.write_text("not a run")
    with pytest.raises(ValueError, match="is no file of a run"):
        descend(loss, START, (X, Y), save=file, **OPTIONS)


# -- all together
# ----------------------------------------------------------------------------------------


def test_a_module_with_everything():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    twin = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    twin.load_state_dict(model.state_dict())

    def of_model(module, batch):
        return ((module(batch[0])[:, 0] - batch[1]) ** 2).mean()

    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        value = of_model(twin, [part[step % 6] for part in BATCHES])
        value.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
        optimizer.step()
        schedule.step()
        losses.append(value.detach())
    own = torch.optim.AdamW(model.parameters(), lr=0.02)
    run = descend_module(
        model,
        of_model,
        steps=STEPS,
        optimizer=own,
        learn_rate=torch.optim.lr_scheduler.CosineAnnealingLR(own, STEPS),
        xs=BATCHES,
        cycle=True,
        clip_norm=0.3,
        backend="fused",
    )
    torch.testing.assert_close(run.loss, torch.stack(losses), rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(clip_norm=1, clip_value=1), "want one of them"),
        (dict(clip_norm=-1), "clip_norm"),
        (dict(patience=3), "held_out, patience: want both"),
        (dict(average=2.0), "average: wants 'mean'"),
        (dict(average="median"), "average: wants 'mean'"),
        (dict(callback=3), "callback: wants a function"),
        (dict(callback=print, callback_every=0), "callback_every"),
        (dict(until=lambda p, v: 3), "until: wants to return one bool"),
        (dict(project=lambda p: p["w"]), "project: returns params of another structure"),
        (dict(project=lambda p: {**p, "w": p["w"][:2]}), "project: leaf"),
    ],
)
def test_what_cannot_be_meant_is_said(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        descend(loss, START, (X, Y), learn_rate=RATE, steps=3, backend="fused", **options)
