"""How a run may end: done, diverged, interrupted, killed; and what it leaves behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch
from small_loss import W, X, run, smooth
from test_refused_arguments import of_module, plain

from fastpoly import (
    DivergenceWarning,
    Interrupted,
    descend_module,
    optimizers,
    scan,
)

# -- the ends of a run
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("trace_every", [1, 7, None])
def test_divergence_ends_the_run(backend, trace_every):
    """The params are those whose loss is not finite; the losses are those that are."""
    with pytest.warns(
        DivergenceWarning, match=r"diverged at step \d+: the loss is not finite; choose a learn_rate bel"
    ):
        result = run(learn_rate=5.0, steps=2000, backend=backend, trace_every=trace_every)
    assert result.diverged_at == result.steps < 2000
    assert not torch.isfinite(smooth(result.params, X))
    assert torch.isfinite(result.loss).all()
    assert len(result.loss) == (0 if trace_every is None else -(-result.steps // trace_every))
    before = run(learn_rate=5.0, steps=result.steps - 1, backend=backend)
    assert before.diverged_at is None
    assert torch.isfinite(smooth(before.params, X))


def test_params_that_are_not_finite_after_the_last_step_are_a_divergence_too():
    with pytest.warns(DivergenceWarning, match="diverged at step 1"):
        result = run(lambda w, x: (w**2).sum() * 1e300, learn_rate=1e10, steps=1)
    assert result.diverged_at == 1


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_no_steps(backend):
    for optimizer in ("sgd", "adam", plain):
        result = run(steps=0, backend=backend, optimizer=optimizer)
        assert torch.equal(result.params, W)
        assert (result.steps, result.loss.tolist(), result.diverged_at) == (0, [], None)
        assert result.loss.dtype == W.dtype


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_trace_every(backend):
    whole = run(steps=20, backend=backend)
    for every in (1, 3, 20, 21, 1000):
        some = run(steps=20, trace_every=every, backend=backend)
        assert torch.equal(some.loss, whole.loss[::every])
        assert torch.equal(some.params, whole.params)
    none = run(steps=20, trace_every=None, backend=backend)
    assert len(none.loss) == 0
    assert torch.equal(none.params, whole.params)


def test_what_is_given_stays_as_it_is():
    params = {"a": W.clone().requires_grad_(), "b": [torch.ones(3, 4, dtype=torch.float64).T]}
    data = X.clone()
    before = params["a"].detach().clone(), params["b"][0].clone()
    result = run(lambda p, x: smooth(p["a"], x) + p["b"][0].square().sum(), params, (data,))
    assert torch.equal(params["a"], before[0])
    assert torch.equal(params["b"][0], before[1])
    assert params["a"].grad is None
    assert torch.equal(data, X)
    assert not result.params["a"].requires_grad
    assert result.params["b"][0].shape == (4, 3)


def test_the_same_bits_every_time():
    one, other = run(steps=1000), run(steps=1000)
    assert torch.equal(one.params, other.params)
    assert torch.equal(one.loss, other.loss)


def test_scan_keeps_the_dtype_of_outputs():
    def step(c, x):
        return c * 2, {"float": c.sum(), "bool": c > 0.3, "int": (c > 0.3).sum()}

    fused, eager = (scan(step, W, (X,), 3, backend=backend)[1] for backend in ("fused", "eager"))
    for name, want in eager.items():
        assert fused[name].dtype == want.dtype
        assert torch.equal(fused[name], want) or name == "float"


# -- Ctrl-C
# ----------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": "sgd",
    "adam": "adam",
    "damped": optimizers.SGD(0.9, dampening=0.5),
    "a function": lambda p, g, s: (p - 0.01 * g, g if s is None else 0.9 * s + g),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_splits_anywhere(optimizer):
    whole = run(steps=50, optimizer=optimizer)
    first = run(steps=20, optimizer=optimizer)
    second = run(params=first.params, steps=30, optimizer=optimizer, state=first.state)
    assert torch.equal(second.params, whole.params)
    assert torch.equal(torch.cat([first.loss, second.loss]), whole.loss)


CHILD = """
import sys, time
import torch
from fastpoly import Interrupted, descend

optimizer, steps, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
x = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
w = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)

def loss(w, x):
    return ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean()

options = dict(learn_rate=1e-7, optimizer=optimizer, backend="fused", trace_every=1000)
descend(loss, w, (x,), steps=10, **options)  # compiled: the run is what gets interrupted
told = []
started = time.monotonic()

def progress(done, of):
    if not told and time.monotonic() > started + 0.3:  # well into the run, where portions have their full length
        told.append(done)
        print("running", flush=True)

try:
    descend(loss, w, (x,), steps=steps, progress=progress, **options)
except KeyboardInterrupt as stop:
    print("stopped", flush=True)
    assert isinstance(stop, Interrupted)
    partial = stop.partial
    torch.save((partial.params, partial.loss, partial.state, partial.steps), out)
    print(stop)
else:
    print("ran to the end")
"""


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_ctrl_c(tmp_path, optimizer):
    saved, steps = tmp_path / "partial.pt", 10**9
    arguments = [sys.executable, "-c", CHILD, optimizer, str(steps), str(saved)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "running\n"
        pressed = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        waited = time.monotonic() - pressed
        message = child.stdout.readline()
    assert child.returncode == 0
    assert waited < 1.0  # promised: 0.2 s; the rest is for a busy machine
    params, losses, state, done = torch.load(saved)
    assert f"interrupted after {done:,} of {steps:,} steps" in message
    assert 0 < done < steps
    assert len(losses) == -(-done // 1000)
    # an unbroken run of those steps, and some more from either, have the same bits
    options = dict(learn_rate=1e-7, optimizer=optimizer, trace_every=1000)
    whole = run(steps=done, **options)
    assert torch.equal(params, whole.params)
    assert torch.equal(losses, whole.loss)
    on = run(params=params, steps=500, state=state, **options)
    further = run(steps=done + 500, **options)
    assert torch.equal(on.params, further.params)


def test_a_module_that_is_interrupted_holds_the_partial_result(monkeypatch):
    module = torch.nn.Linear(1, 1).double()

    def pressing(done, of):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stop:
        descend_module(module, of_module, (X,), learn_rate=1e-3, steps=10**6, backend="fused", progress=pressing)
    partial = stop.value.partial
    assert 0 < partial.steps < 10**6
    assert torch.equal(module.weight, partial.params["weight"])


# -- the cache of kernels
# ----------------------------------------------------------------------------------------

PROGRAM = textwrap.dedent("""
    import sys
    import torch
    from fastpoly import descend
    from fastpoly._fuse import machine
    compiled, optimised = [], machine.optimised
    machine.optimised = lambda *arguments: compiled.append(arguments) or optimised(*arguments)
    x = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
    w = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    result = descend(lambda w, x: ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean(),
                     w, (x,), learn_rate=0.1, steps=100, backend="fused")
    print(*(number.hex() for number in result.params.tolist()), bool(compiled))
    assert "numba" not in sys.modules
""")


def in_a_process(cache):
    """(the params, whether anything was compiled): of a run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "FASTPOLY_CACHE_DIR": str(cache)},
        check=True,
    )
    *params, compiled = done.stdout.split()
    return params, compiled == "True"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the kernel in it, and the params that the run gave that compiled it."""
    cache = tmp_path_factory.mktemp("cache") / "not" / "there" / "yet"
    params, compiled = in_a_process(cache)
    assert compiled
    return cache, params


def test_a_kernel_is_compiled_once_and_then_loaded(filled):
    cache, params = filled
    assert in_a_process(cache) == (params, False)


def with_one_bit_changed(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty", marks=pytest.mark.slow),
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(with_one_bit_changed, id="one bit"),
        pytest.param(lambda content: b"another program's file\n" + content, id="foreign", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cache_costs_a_compilation(tmp_path, filled, damage):
    cache, params = filled
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        (tmp_path / path.name).write_bytes(damage(path.read_bytes()))
    assert in_a_process(tmp_path) == (params, True)
    for path in files:  # and mended
        assert (tmp_path / path.name).stat().st_size == path.stat().st_size


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_a_compilation(tmp_path, filled):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    assert in_a_process(blocked) == (filled[1], True)


# -- threads
# ----------------------------------------------------------------------------------------


def test_two_threads_descend_at_once():
    """Different losses, and the same one twice: each compiled and run beside the others."""

    def other(w, x):
        return (w[0] + w[1] * torch.exp(w[2] * x) - x).abs().mean()

    losses = [smooth, other, smooth, other]
    results = [None] * len(losses)

    def work(i):
        results[i] = run(losses[i], steps=20_000, learn_rate=1e-3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(losses))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loss, result in zip(losses, results, strict=True):
        alone = run(loss, steps=20_000, learn_rate=1e-3)
        assert torch.equal(result.params, alone.params)
        assert torch.equal(result.loss, alone.loss)
