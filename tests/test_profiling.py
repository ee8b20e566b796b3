"""The ladder, the split of a step and the profile of a loss: right before they are quick, and honest about the rest."""

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from raw_runs import fit
from typer.testing import CliRunner

import fastpoly
from fastpoly._backends import missing_cuda
from fastpoly._cli.app import app
from fastpoly._post import samples
from fastpoly.profiling import (
    Ladder,
    RungResult,
    autograd_ladder,
    chrome_trace,
    ladder,
    loss_profile,
    own_loss,
    rungs,
    split,
    step_split,
    write_trace,
)
from fastpoly.profiling.eager_step import own_step, post_samples, post_step
from fastpoly.profiling.replay import recorded

QUICK = [rung for rung in rungs.RUNGS if not rung.name.startswith(("compile", "CUDA"))]
"""What compiles for seconds is climbed in bench/test_ladder.py, which `make test` runs once."""

PNG = b"\x89PNG\r\n\x1a\n"


def problem(dtype=torch.float64):
    x, y = (torch.from_numpy(values).to(dtype) for values in samples())
    return rungs.Problem(x, y, 4, 1e-5)


# -- the ladder
# ----------------------------------------------------------------------------------------


def test_the_rungs_are_those_of_the_plan_in_its_order():
    assert [rung.name for rung in rungs.RUNGS] == [
        "the post's loop",
        "powers hoisted",
        "no .data",
        "gradient None",
        "autograd.grad",
        "trace once",
        "Horner",
        "in place",
        "torch.func.grad",
        "by hand",
        "compile, 1 step",
        "compile, 8 steps",
        "CUDA graph",
        "fused",
    ]
    assert [rung.name for rung in rungs.RUNGS if not rung.kept] == ["Horner", "torch.func.grad", "by hand"]
    for rung in rungs.RUNGS:
        assert rung.change, rung.name
        assert rung.why.endswith("."), rung.name
        assert rung.why.count(". ") == 0, rung.name  # one sentence


@pytest.mark.parametrize("rung", QUICK, ids=lambda rung: rung.name)
def test_every_rung_takes_the_steps_of_the_compiled_loop(rung):
    x, y = samples()
    expected = fit(x, y, 4, 400, backend="numba")
    weights, errors = rung.begin(problem())(400)
    assert weights.shape == (5, 1)
    assert not weights.requires_grad
    assert weights.ravel().numpy() == pytest.approx(expected.weights, abs=1e-14)  # some roundings of weights near 0.01
    assert errors.numpy() == pytest.approx(expected.mse, rel=1e-12)


@pytest.mark.parametrize("rung", QUICK, ids=lambda rung: rung.name)
def test_a_loop_can_be_run_again(rung):
    loop = rung.begin(problem(torch.float32))
    first, again = loop(16), loop(16)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.fixture(scope="module")
def climbed():
    told = []
    return autograd_ladder(steps=64, rounds=2, rungs=QUICK, progress=lambda *done: told.append(done)), told


def test_a_ladder_has_every_rung_with_its_time_and_what_it_removed(climbed):
    result, told = climbed
    assert [rung.name for rung in result.rungs] == [rung.name for rung in QUICK]
    assert result.measured == result.rungs
    first, *others = result.rungs
    assert (first.after, first.removed_ns, first.deviation) == (None, None, 0.0)
    kept = first.name
    for rung in others:
        assert rung.after == kept
        assert rung.ns_per_step > 0
        assert rung.removed_ns is not None
        assert rung.deviation <= 5e-6
        kept = rung.name if rung.kept else kept
    assert result.last.name == "fused"
    assert told[-1] == (len(QUICK) + 2, len(QUICK) + 2)


def test_a_ladder_becomes_json(climbed):
    written = json.loads(json.dumps(climbed[0].as_json()))
    keys = {"name", "change", "why", "ns_per_step", "removed_ns", "deviation", "precision", "steps"}
    assert all(keys <= set(rung) for rung in written["rungs"])
    assert written["explained"] == written["explained_ns"] / written["first_ns"]


def test_what_was_kept_and_what_is_left_explain_the_first_rung():
    def rung(name, ns, removed, kept=True):
        return RungResult(name, "", "", kept, ns_per_step=ns, removed_ns=removed)

    parts = (
        rung("first", 100.0, None),
        rung("better", 72.0, 30.0),
        rung("worse", 90.0, -20.0, kept=False),  # taken back: no part of the sum
        RungResult("elsewhere", "", "", True, not_measured="no GPU"),
        rung("last", 10.0, 61.0),
    )
    result = Ladder(parts, "single", "cpu", 8, 1, first_ns=104.0)
    assert [r.name for r in result.measured] == ["first", "better", "worse", "last"]
    assert result.explained_ns == 30 + 61 + 10
    assert result.explained == 101 / 104


def test_a_rung_with_another_answer_is_not_timed():
    def other(own):
        loop = rungs.post(rungs.Problem(own.x, own.y, own.degree, own.learn_rate * 1.001))
        return lambda steps: loop(steps)

    wrong = rungs.Rung("other", "a learn rate", "None.", other)
    with pytest.raises(ArithmeticError, match="other: after 64 steps its weights are off by"):
        autograd_ladder(steps=64, rounds=1, rungs=[QUICK[0], wrong])


def test_a_rung_with_another_trace_is_not_timed():
    def shifted(own):
        loop = rungs.post(own)

        def late(steps):
            weights, errors = loop(steps)
            return weights, errors.roll(1)

        return late

    wrong = rungs.Rung("late", "the trace", "None.", shifted)
    with pytest.raises(ArithmeticError, match="late: after 64 steps its errors are off by"):
        autograd_ladder(steps=64, rounds=1, rungs=[QUICK[0], wrong])


def test_a_rung_that_cannot_run_here_is_listed_with_its_reason():
    graph = next(rung for rung in rungs.RUNGS if rung.name == "CUDA graph")
    result = autograd_ladder(steps=8, rounds=1, rungs=[QUICK[0], graph])
    assert result.rungs[1].ns_per_step is None
    assert result.rungs[1].not_measured == missing_cuda() or "GPU" in result.rungs[1].not_measured
    assert result.last.name == "the post's loop"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(steps=12), "steps: wants a multiple of 8"),
        (dict(steps=0), "steps: wants an integer >= 8"),
        (dict(rounds=0), "rounds: wants an integer >= 1"),
        (dict(precision="mixed"), "precision: wants single or double"),
        (dict(device="tpu"), "device: wants cpu or cuda"),
        (dict(learn_rate=1.0), "learn_rate: 1 diverges within"),
        (dict(x=[1.0, 2.0], y=[1.0]), "same number of samples"),
    ],
)
def test_a_ladder_refuses_what_cannot_be_meant(options, told):
    with pytest.raises(ValueError, match=told):
        autograd_ladder(**{"steps": 2000, "rungs": QUICK[:1], **options})


@pytest.mark.gpu
def test_the_rungs_are_right_on_a_gpu():
    result = autograd_ladder(device="cuda", steps=64, rounds=2)
    assert "CUDA graph" in [rung.name for rung in result.measured]


# -- the split of a step
# ----------------------------------------------------------------------------------------

PARTS = ["Python", "dispatcher", "graph building", "backward engine", "allocator", "arithmetic", "rest"]


def test_the_parts_of_a_step_are_named_sourced_and_add_up():
    parts = step_split(rounds=8)
    assert [part.part for part in parts.parts] == PARTS
    assert sum(part.ns for part in parts.parts) == pytest.approx(parts.total_ns)
    for part in parts.parts:
        assert part.source.startswith(("micro-measurement", "difference", "torch.profiler", "what is left")), part
    assert [set(part) for part in parts.as_json()] == [{"part", "ns", "from"}] * len(PARTS)


def operations_of(step, monkeypatch):
    """The names of what a second step does, as torch's profiler sees it."""
    monkeypatch.setenv("KINETO_LOG_LEVEL", "6")
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    return [event.name for event in profiler.events()]


def test_the_step_that_is_split_is_the_post_s(monkeypatch):
    x, y = post_samples()
    w, trace = torch.zeros(5, 1, requires_grad=True), torch.zeros(1)

    def published():
        trace[0] = fastpoly.reference.autograd_step(x, y, w, 1e-5)

    ours = operations_of(post_step(x, y, 4).step, monkeypatch)
    assert ours == operations_of(published, monkeypatch)
    assert ours.count("aten::mm") == 2


def test_a_step_is_recorded_in_its_parts():
    x, y = post_samples()
    step = post_step(x, y, 4)
    operations = recorded(step)
    names = [call[0].__name__ for call in operations.backward]
    assert names[0] == "ones_like"
    assert names.count("mm") == 1
    assert names[-1] == "add_"  # to the gradient that was zeroed
    assert {"arange", "pow", "mm", "mean", "zero_", "sub_", "copy_"} <= {c[0].__name__ for c in operations.outside}
    assert 8 <= operations.python_calls <= len(operations.outside)
    assert torch.equal(step.leaves[0], torch.zeros(5, 1))  # the learn rate is 0


def test_one_sample_is_cut_along_the_first_axis():
    x, weights = torch.zeros(7, 2), torch.zeros(3)
    thin = split.one_sample((x, weights, 2.0))
    assert [thin[0].shape, thin[1].shape, thin[2]] == [(1, 2), (3,), 2.0]
    assert split.one_sample(()) is None
    assert split.one_sample((torch.tensor(1.0),)) is None


def test_data_that_cannot_be_cut_leaves_the_arithmetic_where_it_is():
    def loss(w, x):
        return (w * x[3]).sum()  # there is no sample 3 of one

    parts = split.split_own(loss, torch.ones(2), (torch.ones(5),), 2)
    arithmetic = next(part for part in parts.parts if part.part == "arithmetic")
    assert (arithmetic.ns, "cannot be cut" in arithmetic.source) == (0.0, True)
    assert sum(part.ns for part in parts.parts) == pytest.approx(parts.total_ns)


def test_a_trace_opens_in_perfetto_and_names_nobody(tmp_path, capfd):
    text = write_trace(tmp_path / "trace.json").read_text()
    events = json.loads(text)["traceEvents"]
    names = [event["name"] for event in events]
    for label in ("step", "loss", "clear", "backward", "update"):
        assert names.count(label) == chrome_trace.STEPS
    assert names.count("aten::mm") == 2 * chrome_trace.STEPS
    assert any(name.startswith("autograd::engine") for name in names)
    assert all({"ph", "name", "ts"} <= set(event) for event in events)
    for secret in (platform.node(), str(Path.home()), str(Path.cwd()), f'"{getpass.getuser()}"'):
        assert secret not in text
    assert capfd.readouterr() == ("", "")  # torch's profiler likes to talk


# -- a loss of one's own
# ----------------------------------------------------------------------------------------


@pytest.fixture
def no_torch_compile(monkeypatch):
    """It takes seconds, and has tests of its own."""
    monkeypatch.setattr("fastpoly._loops.compiled.unavailable", lambda: "not in this test")


def line(params, x, y):
    return ((y - params["a"] - params["b"] * x) ** 2).mean()


def line_problem():
    x = torch.linspace(0, 1, 50)
    return {"a": torch.zeros(()), "b": torch.zeros(())}, (x, 1 + 2 * x)


def test_a_loss_is_profiled_by_every_way_that_it_can_go(no_torch_compile):
    params, data = line_problem()
    profile = loss_profile(line, params, data, learn_rate=0.1, rounds=2)
    assert set(profile.ns_per_step) == {"eager", "fused"}
    assert "not in this test" in profile.not_measured["compile"]
    assert profile.gain == profile.ns_per_step["eager"] / profile.ns_per_step["fused"]
    assert profile.gain > 10  # hundreds are measured
    saved = (profile.ns_per_step["eager"] - profile.ns_per_step["fused"]) * 1e-9
    assert profile.pays_after * saved >= profile.begin_seconds["fused"] > (profile.pays_after - 1) * saved
    assert params["a"] == 0
    assert [part.part for part in profile.split.parts] == PARTS


def test_a_loss_that_cannot_be_fused_says_why(no_torch_compile):
    def branching(w, x):
        return (w * x).sum() * w.item()

    profile = loss_profile(branching, torch.ones(()), torch.ones(3), learn_rate=1e-6, rounds=1)
    assert profile.gain is None
    assert profile.pays_after is None
    assert "the value of a tensor decides" in profile.not_measured["fused"]


def test_a_way_with_another_answer_is_not_timed(monkeypatch, no_torch_compile):
    params, data = line_problem()
    step = own_loss._step
    monkeypatch.setattr(own_loss, "_step", lambda loss, p, d, rate: step(loss, p, d, rate * 1.01))
    with pytest.raises(ArithmeticError, match="fused: after 16 steps"):
        loss_profile(line, params, data, learn_rate=0.1, rounds=1)


def test_an_eager_step_descends():
    params, data = line_problem()
    step = own_step(line, params, data, learn_rate=0.1)
    before = step.forward().item()
    for _ in range(5):
        step.step()
    assert step.forward().item() < before / 2


def test_a_diverging_loss_is_told(no_torch_compile):
    with pytest.raises(ValueError, match="learn_rate: 1e\\+30 diverges at step"):
        loss_profile(line, *line_problem(), learn_rate=1e30, rounds=1)


# -- the command
# ----------------------------------------------------------------------------------------


def invoke(*words):
    return CliRunner().invoke(app, ["profile", *map(str, words)])


def told_in_a_line(run, *parts):
    assert run.exit_code == 2, run.output
    assert run.stderr.startswith("fastpoly: ")
    assert run.stderr.count("\n") == 1, run.stderr
    for part in parts:
        assert part in run.stderr
    return True


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_profile_writes_tables_pictures_and_a_trace(here, monkeypatch):
    monkeypatch.setattr(ladder, "RUNGS", (*QUICK, next(r for r in rungs.RUNGS if r.name == "CUDA graph")))
    run = invoke("--steps", 64, "--rounds", 1, "--out", "out")
    assert run.exit_code == 0, run.output
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert "…" not in run.stdout  # nothing is cut off
    for rung in QUICK:
        assert rung.name in run.stdout
    assert "Not measured: " in run.stdout
    written = json.loads((here / "out" / "ladder.json").read_text())
    assert len(written["rungs"]) == len(QUICK) + 1
    assert [part["part"] for part in written["split"]] == PARTS
    assert json.loads((here / "out" / "trace.json").read_text())["traceEvents"]
    for picture in ("ladder.png", "split.png"):
        assert (here / "out" / picture).read_bytes().startswith(PNG)


def test_profile_of_a_loss_writes_the_same(here, no_torch_compile):
    (here / "slopes.py").write_text(
        "import torch\nx = torch.linspace(0, 1, 50)\ndef params(): return torch.zeros(2)\ndata = x, 1 + 2 * x\n"
        "learn_rate = 0.1\ndef line(w, x, y): return ((y - w[0] - w[1] * x) ** 2).mean()\n"
    )
    run = invoke("--loss", "slopes:line", "--rounds", 1, "--out", "out")
    assert run.exit_code == 0, run.output
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert "times faster" in " ".join(run.stdout.split())
    written = json.loads((here / "out" / "profile.json").read_text())
    assert (written["loss"], written["learn_rate"]) == ("slopes:line", 0.1)
    assert set(written["ns_per_step"]) == {"eager", "fused"}
    for name in ("ways.png", "split.png"):
        assert (here / "out" / name).read_bytes().startswith(PNG)
    assert json.loads((here / "out" / "trace.json").read_text())["traceEvents"]


GOOD = "params, data = torch.zeros(2), torch.ones(3)\ndef loss(w, x): return (w.sum() * x).mean()\n"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("loss", None, "--loss: wants module:function, got 'loss'"),
        ("nowhere_to_be_found:loss", None, "cannot import nowhere_to_be_found: ModuleNotFoundError"),
        ("{}:loss", "1 / 0", "ZeroDivisionError: division by zero"),
        ("{}:other", GOOD, "has no other"),
        ("{}:data", GOOD, "has something else of the name"),
        ("{}:loss", "def loss(w): return w", "has no params and no data; its module must have"),
        ("{}:loss", GOOD + "def params(): return 1 / 0", "params() raises ZeroDivisionError"),
        ("{}:loss", GOOD + "data = ()", "loss(params, *data) raises TypeError"),
        ("{}:loss", GOOD + "def loss(w, x): return w", "wants to return one number, got shape (2,)"),
        ("{}:loss", GOOD + "params = [1, 2]\ndef loss(w, x): return x.mean()", "params: wants tensors"),
        ("{}:loss", GOOD + "learn_rate = -1", "learn_rate: wants a positive finite number"),
    ],
)
def test_a_mistake_in_the_loss_is_told_in_a_line(here, request, name, text, told):
    module = f"mistaken_{abs(hash(request.node.name))}"
    if text is not None:
        (here / f"{module}.py").write_text("import torch\n" + text)
    assert told_in_a_line(invoke("--loss", name.format(module)), told)
    assert not (here / "fastpoly-profile").exists()


def test_divergence_is_told_in_a_line(here, no_torch_compile):
    text = (
        "import torch\nparams, data = torch.ones(2), torch.ones(3)\ndef loss(w, x): return (w.sum() * x).square().sum()"
    )
    (here / "diverging.py").write_text(text)
    run = invoke("--loss", "diverging:loss", "--learn-rate", 1e30)
    assert told_in_a_line(run, "learn_rate: 1e+30 diverges at step 1; choose a smaller one")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--steps", 3), "steps: wants"),
        (("--rounds", 0), "rounds: wants"),
        (("--precision", "half"), "precision: wants single or double"),
        (("--device", "abacus"), "device: wants cpu or cuda"),
        (("--rounds", 0, "--loss", "a:b"), "rounds: wants"),
        (("--learn-rate", 0.1), "--learn-rate: goes with --loss"),
    ],
)
def test_a_mistake_in_an_option_is_told_in_a_line(here, options, told):
    assert told_in_a_line(invoke(*options), told)
    assert not (here / "fastpoly-profile").exists()


def test_ctrl_c_is_told_in_a_line(here, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder, "in_turn", interrupted)
    monkeypatch.setattr(ladder, "RUNGS", QUICK[:2])
    run = invoke("--steps", 8)
    assert (run.exit_code, run.stderr) == (130, "fastpoly: interrupted\n")


def test_importing_profiling_loads_nothing_heavy():
    code = "import sys, fastpoly; assert fastpoly.profiling.Ladder; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numba", "matplotlib"} & set(loaded)
