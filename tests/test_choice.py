"""What `auto` takes: the model on recorded sizes, the decision as a function of numbers, and what is remembered."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import zoo
from conftest import DATA

from fastpoly import descend, scan
from fastpoly._choice import begin as choice_begin
from fastpoly._choice import calibration, costs, machines, memory, polynomial, work
from fastpoly._choice.costs import Cost, State
from fastpoly._choice.decision import ALLOWED, EXCESS, choose
from fastpoly._choice.memory import Remembered
from fastpoly._fuse.launches import Launch

X = torch.linspace(-1, 1, 50, dtype=torch.float64)
W = torch.tensor([0.3, 0.2], dtype=torch.float64)


def line(number):
    """A loss of its own, whose kernel no other test has compiled: a process links one only once."""
    return lambda w, x: ((w[0] + w[1] * x - x * x) ** 2).mean() * number


def run(steps, loss, params=W, data=(X,), **options):
    return descend(loss, params, data, learn_rate=0.1, steps=steps, **options)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache of this test's own, and a process that remembers nothing of what was chosen."""
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", str(tmp_path / "kernels"))
    for kept in (memory._here, choice_begin._steps_here, calibration._known):
        kept.clear()
    yield tmp_path / "kernels"
    for kept in (memory._here, choice_begin._steps_here, calibration._known):
        kept.clear()


# -- the decision, from numbers alone
# ----------------------------------------------------------------------------------------

FUSED, EAGER = Cost(1.0, 1e-6), Cost(0.0, 2e-4)


@pytest.mark.parametrize(("steps", "expected"), [(0, "eager"), (100, "eager"), (100_000, "fused")])
def test_few_steps_are_not_worth_a_compilation(steps, expected):
    chosen = choose({"eager": EAGER, "fused": FUSED}, steps, measure=unexpected)
    assert chosen.backend == expected
    assert chosen.timed == {}
    assert f"{steps:,} steps" in chosen.reason


def unexpected(name):
    raise AssertionError(f"a clear decision timed {name}")


def test_two_that_come_near_are_timed():
    asked = []

    def measure(name):
        asked.append(name)
        return {"eager": 1e-4, "fused": 1e-6}[name]

    chosen = choose({"eager": EAGER, "fused": FUSED}, 6_000, measure=measure)
    assert asked == ["eager"]  # what is ready is asked first, and then it is clear: 0.6 s to 1
    assert chosen.backend == "eager"
    assert chosen.timed == {"eager": 1e-4}
    assert "as timed" in chosen.reason


def test_what_is_compiled_for_a_trial_is_paid_for():
    """The kernel looked best and was compiled, and its steps are slower than modelled: what is left decides."""
    slow = {"eager": 2e-4, "fused": 2.2e-4}
    chosen = choose({"eager": EAGER, "fused": FUSED}, 7_000, measure=slow.__getitem__)
    assert chosen.backend == "eager"
    assert set(chosen.timed) == {"eager", "fused"}


def test_a_rival_that_cannot_run_is_left_out():
    chosen = choose({"eager": EAGER, "fused": FUSED}, 7_000, measure=lambda n: None if n == "fused" else 2e-4)
    assert chosen.order == ("eager",)


@pytest.mark.parametrize("before", ["eager", "fused"])
def test_what_was_taken_before_is_taken_again_within_the_bound(before):
    found = {"eager": EAGER, "fused": FUSED}
    assert choose(found, 5_500, before, unexpected).backend == before  # 1.1 s and 1.0 s
    assert choose(found, 100_000, before).backend == "fused"


def test_the_bound_is_the_one_that_is_promised():
    assert (ALLOWED, EXCESS) == (1.3, 0.05)
    near = {"eager": Cost(0.0, 1.29), "fused": Cost(0.0, 1.0)}
    assert choose(near, 10, "eager").backend == "eager"
    assert choose({**near, "eager": Cost(0.0, 1.31)}, 10, "eager").backend == "fused"
    assert choose({**near, "fused": Cost(0.0, 1.0), "eager": Cost(0.0, 1.04)}, 1, "eager").backend == "eager"


# -- the model, on what an H200 showed
# ----------------------------------------------------------------------------------------

SIZES = json.loads((DATA / "h200_sizes.json").read_text())


def of_row(row):
    """The costs on an H200 of a loss whose features were recorded."""
    launches = tuple((Launch(*launch), count) for launch, count in row["launches"])
    asked = work.Work(launches, row["nodes"], row["dtype"])
    kernel = work.Kernel(tuple(map(tuple, row["nests"])), 1024, 1, row["lines"], row["bytes"])
    state = State()
    return {
        "eager": costs.eager(asked, machines.H200),
        "compile": costs.compiled(asked, machines.H200, state),
        "cudagraph": costs.captured(asked, machines.H200, state),
        "triton": costs.fused(kernel, asked, machines.H200, state),
    }


@pytest.mark.parametrize("row", SIZES, ids=lambda row: row["loss"])
def test_the_model_is_near_what_was_measured(row):
    """Within the factor beyond which nothing is timed; the network of 1,024 samples took twice as long."""
    found = of_row(row)
    for backend, seconds in row["seconds"].items():
        assert 1 / 2.2 < found[backend].step / seconds < 2.2, backend


@pytest.mark.parametrize(
    ("loss", "steps", "expected"),
    [
        ("polynomial n=100", 200_000, {"triton"}),
        ("polynomial n=10,000", 200_000, {"triton"}),
        ("polynomial n=10,000", 100, {"eager"}),
        ("polynomial n=1,000,000", 200_000, {"cudagraph", "compile"}),
        ("exponential decay n=100", 200_000, {"triton"}),
        ("network 8-32-32-1 n=1,024", 1_000_000, {"cudagraph", "compile"}),
        ("network 8-64-64-1 n=4,096", 200_000, {"cudagraph", "compile"}),
        ("network 8-64-64-1 n=4,096", 100, {"eager"}),
        ("network 8-128-128-1 n=65,536", 100_000, {"cudagraph", "compile"}),
        ("network 8-128-128-1 n=65,536", 1_000, {"eager"}),
    ],
)
def test_a_card_takes_one_program_for_small_losses_only(loss, steps, expected):
    (row,) = (row for row in SIZES if row["loss"] == loss)
    assert choose(of_row(row), steps).backend in expected


def test_another_card_is_scaled():
    half = SimpleNamespace(name="a card", multi_processor_count=66, clock_rate=1.98e6)
    card = machines.card(half)
    assert card.flop["float32"] == pytest.approx(2 * machines.H200.flop["float32"])
    assert card.register == pytest.approx(machines.H200.register)
    assert card.name == "a card"


@pytest.mark.parametrize(
    ("n", "steps", "expected"),
    [(20_000, 200_000, "triton"), (1_000_000, 1_000, "triton"), (1_000_000, 200_000, "compile-gpu")],
)
def test_a_fit_of_many_samples_takes_the_whole_card(n, steps, expected):
    assert polynomial.fastest(n, 4, steps, machines.H200) == expected


def test_what_torch_launches_is_counted():
    from fastpoly._fuse.traced import read

    weight = torch.zeros(4, 3, dtype=torch.float64)
    data = torch.ones(100, 4, dtype=torch.float64)

    def step(tensors):
        return [tensors[0] - 0.1 * (data.T @ torch.tanh(data @ tensors[0]))]

    launches = read(step, [weight], {}).graph.launches
    assert launches[Launch("function", 300, 4800, 0)] == 1
    assert sum(launch.flops * count for launch, count in launches.items()) == 2 * 2 * 100 * 4 * 3
    assert launches[Launch("view", 0, 0, 0)] == 1


# -- what is remembered
# ----------------------------------------------------------------------------------------

KEY = "0" * 64
WHAT = Remembered("fused", {"eager": 1e-4}, frozenset({"fused"}))


def test_another_process_finds_what_was_remembered(fresh):
    memory.remember(KEY, WHAT)
    memory._here.clear()
    assert memory.recall(KEY) == WHAT


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"fused", b"eager"),
        lambda content: b"\xff\x00 another program's",
    ],
    ids=["empty", "cut off", "changed", "foreign"],
)
def test_a_damaged_file_is_as_none(fresh, damage):
    memory.remember(KEY, WHAT)
    memory._here.clear()
    (file,) = fresh.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert memory.recall(KEY) == Remembered()
    memory.remember(KEY, WHAT)  # and mended
    memory._here.clear()
    assert memory.recall(KEY) == WHAT


@pytest.mark.parametrize("told", [[], {"taken": 1}, {"taken": "eager", "timed": {"eager": -1}, "known": []}, "text"])
def test_what_makes_no_sense_is_as_none(fresh, told):
    memory.write(f"{KEY}.choice", told)
    assert memory.recall(KEY) == Remembered()


def test_a_cache_that_cannot_be_written_lasts_as_long_as_the_process(tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", str(blocked))
    memory.remember(KEY, WHAT)
    assert memory.recall(KEY) == WHAT
    memory._here.clear()


def test_a_machine_is_measured_once(fresh, monkeypatch):
    told = {"launch": 2e-6, "far_byte": 1e-10}
    told |= {f"{kind} {dtype}": 1e-9 for kind in ("function", "flop") for dtype in ("float32", "float64")}
    asked = []
    monkeypatch.setattr(calibration, "measured", lambda device: asked.append(device) or told)
    machine = machines.processor()
    assert calibration.known(machine) is None
    here = calibration.calibrated(machine, torch.device("cpu"))
    calibration._known.clear()
    assert calibration.known(machine) == here
    assert here.far_byte == 1e-10
    assert here.launch > machine.launch  # 2 us for what took 0.9 where the numbers come from
    assert len(asked) == 1


# -- end to end
# ----------------------------------------------------------------------------------------


def test_few_steps_run_as_they_are_and_many_are_compiled(fresh):
    loss = line(2)
    few = run(100, loss)
    assert few.backend == "eager"
    assert "eager as modelled, for 100 steps: eager" in few.reason
    assert run(100_000, loss).backend == "fused"
    again = run(100, loss)  # the kernel is there now
    assert again.backend == "fused"
    assert "as for this loss before" in again.reason
    assert run(5, loss, backend="eager").reason == "it was asked for"
    assert torch.allclose(few.params, again.params, rtol=1e-12)


def test_a_compiled_kernel_is_used_whoever_compiled_it(fresh):
    loss = line(3)
    run(10, loss, backend="fused")
    assert run(100, loss).backend == "fused"


def test_many_short_runs_are_worth_a_compilation_together(fresh):
    loss = line(4)
    taken = [run(150, loss).backend for _ in range(40)]
    assert taken[0] == "eager"
    assert taken[-1] == "fused"
    assert taken == sorted(taken)  # and then it stays


CHILD = """
import sys
import torch
sys.path.insert(0, {tests!r})
from test_choice import line, run
result = run(100, line(5))
print(result.backend, result.params[0].item().hex())
"""


def test_splits_resumes_and_children_run_as_the_whole(fresh):
    loss = line(5)
    whole = run(50_000, loss)
    first = run(20_000, loss)
    rest = run(30_000, loss, params=first.params, state=first.state)
    assert {whole.backend, first.backend, rest.backend} == {"fused"}
    assert torch.equal(rest.params, whole.params)
    code = CHILD.format(tests=str(Path(__file__).parent))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["fused", run(100, loss).params[0].item().hex()]


def test_the_clock_is_asked_once_for_a_loss(fresh, monkeypatch):
    """A kernel whose compilation comes near to what the steps take: timed, and then never again."""
    timed = []
    real = choice_begin._Prospect._measured

    def measured(self, name):
        timed.append(name)
        real(self, name)
        return 3e-4

    monkeypatch.setattr(choice_begin._Prospect, "_measured", measured)
    monkeypatch.setattr(calibration, "known", lambda machine: machine)
    monkeypatch.setattr(costs, "fused", lambda *_: Cost(0.7, 1e-7))  # 2,000 steps take eager 0.6 s, by the clock above
    loss = line(6)
    first = run(2_000, loss)
    assert timed
    assert first.backend == "eager"
    count = len(timed)
    for forget in (memory._here, choice_begin._steps_here):
        forget.clear()
    assert run(2_000, loss).backend == "eager"
    assert len(timed) == count


class Slow:
    """A loop whose steps take so many seconds, of which it takes `good`."""

    def __init__(self, seconds, good=10**9):
        self.seconds, self.good, self.asked = seconds, good, []

    def advance(self, steps, *_):
        self.asked.append(steps)
        time.sleep(self.seconds * steps)
        return min(steps, self.good), []


@pytest.mark.parametrize(
    ("loop", "most", "asked"),
    [(Slow(0.25), 1000, [1]), (Slow(0.01), 1000, [1, 5]), (Slow(0.01), 2, [1, 2]), (Slow(0.01, 0), 0, [1, 1])],
    ids=["long", "short", "a short run", "diverging"],
)
def test_a_trial_is_short(loop, most, asked):
    """A card's kernel in one program may take 0.1 s a step, and says beforehand that it takes a microsecond."""
    assert choice_begin._of_a_step(loop, most) >= loop.seconds
    assert loop.asked == asked


def test_a_large_graph_is_not_even_written_for_few_steps(fresh, monkeypatch):
    from fastpoly._fuse import traced

    monkeypatch.setattr(traced, "written_anew", unexpected)

    def long(w, x):
        for _ in range(100):
            w = torch.sin(w) + 0.1 * w.flip(0)
        return (w * w).sum()

    assert run(3, long).backend == "eager"


def test_no_warning_where_another_is_chosen_by_its_cost(fresh, recwarn):
    assert run(100, line(7)).backend == "eager"
    assert not recwarn.list


def test_a_scan_says_why_in_the_log(fresh, caplog):
    with caplog.at_level(logging.INFO, "fastpoly"):
        scan(lambda c: (c * 0.5, c.sum()), W, (), 10)
    assert "backend eager: eager as modelled, for 10 steps" in caplog.text


def test_the_zoo_is_fused_for_many_steps():
    """What the model says of every small loss: nothing here is compiled."""
    from fastpoly._fuse.program import write_for_cpu
    from fastpoly._fuse.traced import read, written_anew

    for name in ("polynomial", "damped-sine"):
        found = {}

        def repeat(step, inputs, *_, names, found=found, **__):
            found.update(step=step, inputs=inputs, names=names)
            raise KeyError

        model = zoo.model(name, torch.float64)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
            patch.setattr("fastpoly._run_descent.repeat", repeat)
            descend(model.loss, model.params, model.data, learn_rate=1e-3, steps=1)
        reading = read(found["step"], found["inputs"], found["names"])
        asked, kernel = work.of_graph(reading.graph), work.of_kernel(written_anew(reading, 0, write_for_cpu))
        on = {
            "eager": costs.eager(asked, machines.AVX2),
            "fused": costs.fused(kernel, asked, machines.AVX2, State()),
            "compile": costs.compiled(asked, machines.AVX2, State()),
        }
        assert choose(on, 200_000).backend == "fused"
        assert choose(on, 100).backend == "eager"


@pytest.mark.parametrize(
    ("name", "measured"), [("exponential-decay", 0.31e-6), ("damped-sine", 0.68e-6), ("tanh-network", 5.3e-6)]
)
def test_what_a_written_kernel_of_a_card_costs(name, measured):
    """A kernel for a card takes blocks of samples: within a factor of what an H200 took a step, in single."""
    from fastpoly._fuse.gpu_program import write_for_gpu
    from fastpoly._fuse.traced import traced

    model = zoo.model(name, torch.float32)
    leaves, structure = torch.utils._pytree.tree_flatten(model.params)

    def step(carried):
        own = [leaf.detach().requires_grad_() for leaf in carried]
        with torch.enable_grad():
            loss = model.loss(torch.utils._pytree.tree_unflatten(own, structure), *model.data)
            gradients = torch.autograd.grad(loss, own)
        return [*(leaf - 0.1 * gradient for leaf, gradient in zip(carried, gradients, strict=True)), loss.detach()]

    written, _ = traced(step, leaves, {}, 0, write_for_gpu)
    cost = costs.fused(work.of_kernel(written), work.UNKNOWN, machines.H200, State())
    assert measured / 3 < cost.step < 3 * measured
