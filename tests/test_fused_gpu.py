"""The fused loop of the GPU: interpreted, it takes torch's steps; compiled for GPUs that are not here, it fits them.

All that the fused loop of the CPU is tested for runs through this one, too (slow). With a GPU, the zoo runs on it.
"""

import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import zoo
from machine_code_gpu import ARCHITECTURES, compiled_launches, machine_code, opcodes
from raw_runs import fit
from recurrent_losses import recurrent
from torch.utils import _pytree as tree

from fastpoly import BackendUnavailableError, DivergenceWarning, descend, scan

TYPES = {"float32": "*fp32", "float64": "*fp64"}
SIN_AND_COS = ("fourier", "damped-sine")
"""libdevice reduces huge arguments with an array of its own, in local memory; others have none."""

FEW = {"float64": 1e-13, "float32": 1e-5}
"""After 5 steps: both loops round in every step, in different orders. 1e-15 and 2e-6 are measured."""

# -- interpreted
# ----------------------------------------------------------------------------------------


def descended(name, dtype, steps, n=100, options=None):
    """In the process of the fixture `interpreted`: (params, losses, diverged_at) of `descend` on a model of the zoo."""
    import interpreted_gpu  # noqa: F401  (lets backend="triton" take tensors of the CPU)

    model = zoo.model(name, getattr(torch, dtype), n=n)
    options = {"learn_rate": model.learn_rate, **(options or {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of elements that are masked
        run = descend(model.loss, model.params, model.data, steps=steps, backend="triton", **options)
    return run.params, run.loss, run.diverged_at


def off(got, want):
    """How far the params are off, relative to the largest entry of each."""
    pairs = zip(tree.tree_leaves(got), tree.tree_leaves(want), strict=True)
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in pairs)


# powers as data, functions, an extreme, a loop over features
INTERPRETED = ("polynomial", "damped-sine", "softmax", "linear-64")  # all others: slow, below
IN_SINGLE = ("polynomial", "softmax")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, "float64") for name in INTERPRETED), *((name, "float32") for name in IN_SINGLE)],
)
def test_five_steps(interpreted, name, dtype):
    params, losses, diverged_at = interpreted(descended, name, dtype, 5)
    want, expected = zoo.eager(zoo.model(name, getattr(torch, dtype)), 5)
    assert off(params, want) <= FEW[dtype]
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=FEW[dtype])
    assert diverged_at is None


@pytest.mark.parametrize("n", [1, 3, 5, 64, 1025])  # one number; no loop; few; a whole block; one more than the largest
def test_any_number_of_samples(interpreted, n):
    params, losses, _ = interpreted(descended, "damped-sine", "float64", 3, n)
    want, expected = zoo.eager(zoo.model("damped-sine", torch.float64, n), 3)
    assert off(params, want) <= FEW["float64"]
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=FEW["float64"])


def test_kept_losses(interpreted):
    whole = interpreted(descended, "polynomial", "float64", 8)
    some = interpreted(descended, "polynomial", "float64", 8, 100, {"trace_every": 3})
    none = interpreted(descended, "polynomial", "float64", 8, 100, {"trace_every": None})
    assert some[1].tolist() == whole[1][::3].tolist()
    assert len(none[1]) == 0
    assert torch.equal(whole[0], some[0])
    assert torch.equal(whole[0], none[0])


def test_divergence_ends_where_it_does_on_the_cpu(interpreted):
    """The kernel goes on beyond it, with nothing; the steps before are taken again."""
    model = zoo.model("polynomial", torch.float32)
    with pytest.warns(DivergenceWarning):
        on_cpu = descend(model.loss, model.params, model.data, learn_rate=0.1, steps=50, backend="fused")
    params, losses, diverged_at = interpreted(descended, "polynomial", "float32", 50, 100, {"learn_rate": 0.1})
    assert diverged_at == on_cpu.diverged_at < 50
    assert len(losses) == diverged_at
    assert losses.tolist() == pytest.approx(on_cpu.loss.tolist(), rel=1e-3)  # numbers grow by 1e5 a step, and roundings
    assert off(params, on_cpu.params) < 1e-3


def test_adam(interpreted):
    params, losses, _ = interpreted(descended, "exponential-decay", "float64", 5, 100, {"optimizer": "adam"})
    want, expected = zoo.eager(zoo.model("exponential-decay", torch.float64), 5, "adam")
    assert off(params, want) <= FEW["float64"]
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=FEW["float64"])


def compared(numbers, dtype):
    """In the process of the fixture `interpreted`: which numbers are below, beside and above some that are written."""
    import interpreted_gpu  # noqa: F401

    def step(a):
        return a + 0, [(a < 0.3).to(dtype), (a > 0.1).to(dtype), (a == 0.7).to(dtype), (a > 1e-300).to(dtype)]

    carry = torch.tensor(numbers, dtype=dtype)
    return [scan(step, carry, (), 2, backend=backend)[1] for backend in ("eager", "triton")]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_written_number_is_compared_as_it_is(interpreted, dtype):
    """Triton makes a float32 of it, with which 0.3 in double is less than 0.3."""
    want, got = interpreted(compared, [0.3, 0.1, 0.7, 0.30000000001, 0.09999999999, 1e-40, 1e-310, 0.0], dtype)
    assert [part.tolist() for part in got] == [part.tolist() for part in want]


def of_a_number(dtype):
    """In the process of the fixture `interpreted`: functions of a number that the kernel knows."""
    import interpreted_gpu  # noqa: F401

    def step(a):
        one = a**0
        return a + 0, [one.tanh(), one.exp(), one.sigmoid(), one.cos()]

    return [scan(step, torch.ones(3, dtype=dtype), (), 1, backend=backend)[1] for backend in ("eager", "triton")]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functions_of_a_number(interpreted, dtype):
    for want, got in zip(*interpreted(of_a_number, dtype), strict=True):
        torch.testing.assert_close(got, want)


def turned(numbers):
    """In the process of the fixture `interpreted`: what their signs decide, turned."""
    import interpreted_gpu  # noqa: F401

    def step(a):
        return a + 0, [1 / -a, -(a * a), torch.copysign(a + 1, -a)]

    return [scan(step, torch.tensor(numbers), (), 1, backend=backend)[1] for backend in ("eager", "triton")]


def test_the_negative_of_zero(interpreted):
    """Is -0, by which an infinity has another sign."""
    for want, got in zip(*interpreted(turned, [0.0, -0.0, 2.0]), strict=True):
        assert torch.equal(got, want)
        assert torch.equal(got.signbit(), want.signbit())


def scanned(carry, length):
    """In the process of the fixture `interpreted`."""
    import interpreted_gpu  # noqa: F401

    return scan(heat, carry, (), length, backend="triton")


def heat(u):
    """A rod that cools: every element looks at its neighbours."""
    after = u + 0.2 * (torch.roll(u, 1) - 2 * u + torch.roll(u, -1))
    return after, (after, after.sum())


@pytest.mark.parametrize("size", [3, 100, 1500])
def test_outputs_that_lie_in_memory(interpreted, size):
    start = torch.sin(torch.arange(size, dtype=torch.float64) ** 2)
    last, (rows, sums) = interpreted(scanned, start, 4)
    for row, total in zip(rows, sums, strict=True):
        start, (want, expected) = heat(start)
        assert row.tolist() == pytest.approx(want.tolist(), abs=1e-15)
        assert float(total) == pytest.approx(float(expected), abs=1e-12)
    assert torch.equal(last, rows[-1])


def over_time(seed, backend):
    """In the process of the fixture `interpreted`: a loss with a loop, and the page of its kernel."""
    import interpreted_gpu  # noqa: F401

    of = recurrent(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = descend(of.loss, of.params, (of.data,), learn_rate=1e-3, steps=2, backend=backend)
    return run.params, run.loss, run.source or ""


# two values in variables, with a loop within their loop; twenty in memory
@pytest.mark.parametrize(
    "seed", [5, 87, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (20, 22, 26, 27, 29, 33, 36))]
)
def test_loops_over_time(interpreted, seed):
    want, expected, _ = interpreted(over_time, seed, "eager")
    params, losses, page = interpreted(over_time, seed, "triton")
    assert "for t0 in range(" in page
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert off(params, want) <= 1e-12


TESTS = ["elementwise", "operations", "torch_losses", "random_graphs", "found_by_fuzzing"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "tests"),
    [*(("interpreted_gpu", tests) for tests in TESTS), ("interpreted_grid", "torch_losses")],
)
def test_whatever_the_fused_loop_of_the_cpu_is_tested_for(plugin, tests):
    folder = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-m", "", "-W", "ignore::RuntimeWarning"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    run = subprocess.run(
        [*command, str(folder / f"test_{tests}.py")], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:]


# -- compiled
# ----------------------------------------------------------------------------------------


def written(name, dtype):
    """The kernel of a model of the zoo, its text, and how many warps it wants."""
    from fastpoly._fuse.gpu_program import kernel_of, write_for_gpu
    from fastpoly._fuse.traced import traced

    model = zoo.model(name, getattr(torch, dtype))
    leaves, structure = tree.tree_flatten(model.params)

    def step(carried):
        own = [leaf.detach().requires_grad_() for leaf in carried]
        with torch.enable_grad():
            loss = model.loss(tree.tree_unflatten(own, structure), *model.data)
            gradients = torch.autograd.grad(loss, own)
        rate = model.learn_rate
        return [*(leaf - rate * gradient for leaf, gradient in zip(carried, gradients, strict=True)), loss.detach()]

    text = traced(step, leaves, {}, 0, write_for_gpu)[0]
    return kernel_of(text.text), text.text, text.layout.threads // 32


def compiled(name, dtype, arch):
    """As a launch has it compiled, with its passes; but Triton knows nothing of the pointers' alignment."""
    from fastpoly._fuse.gpu_program import OPTIONS, moves_blocks
    from fastpoly_kernels.triton_passes import few_passes

    kernel, text, warps = written(name, dtype)
    signature = dict.fromkeys(("carry", "data", "scratch", "out"), TYPES[dtype])
    signature |= {"stopped": "*i32", "steps": "i32", "every": "i32", "wait": "i32"}
    with few_passes(moves_blocks(text)):
        return machine_code(kernel, signature, arch=arch, warps=warps, **OPTIONS)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_posts_loop_is_one_warps_registers_and_shuffles(dtype, arch):
    """As the loop by hand (test_triton_descent): five rounds for six sums, and nothing but the trace is stored."""
    code = compiled("polynomial", dtype, arch)
    loop = opcodes(code.longest_loop)
    assert code.stack == code.local == code.shared == 0
    assert loop["SHFL"] == 30 * (2 if dtype == "float64" else 1)
    assert loop["BAR"] == loop["LDS"] == loop["STS"] == loop["LDG"] == 0
    assert loop["STG"] == 1
    assert len(code.longest_loop) < {"float32": 160, "float64": 200}[dtype]  # 135 and 168 for sm_90


ZOO = [pytest.param(name, marks=() if name == "linear-64" else pytest.mark.slow) for name in zoo.NAMES]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ZOO)
def test_nothing_spills(name, dtype):
    for arch in ARCHITECTURES:
        code = compiled(name, dtype, arch)
        if name not in SIN_AND_COS:
            assert code.local == 0
            # of 2,334 instructions, 4 move three values that the steps do not change
            assert code.stack <= (16 if (name, dtype, arch) == ("tanh-network", "float64", 90) else 0)
        assert code.registers <= 255


def test_launches_of_one_step_share_a_kernel():
    """As real launches, for an absent GPU: whatever the number of steps, nothing is compiled in mid-run."""
    from fastpoly._fuse.gpu_program import program

    model = zoo.model("polynomial", torch.float32)

    def step(carried):
        gradient, loss = torch.func.grad_and_value(model.loss)(carried[0], *model.data)
        return [carried[0] - model.learn_rate * gradient, loss]

    of = program(step, [model.params], {}, 0)
    run, counts = of.start([model.params]), []
    with compiled_launches(90) as codes:
        for steps, every, wait in ((0, 1, 0), (1, 1, 1), (16, 16, 0), (10**6, 10**12, 10**12)):
            run.stopped.fill_(steps)  # as the kernel would
            taken, (losses,) = run.advance(steps, every, wait)
            assert (taken, len(losses)) == (steps, int(steps == 16))
            counts.append(sum(len(caches[0]) for caches in of.kernel.device_caches.values()))
    assert counts == [1, 1, 1, 1]
    assert all(code.local == code.stack == code.shared == 0 for code in codes)


@pytest.mark.parametrize(
    ("name", "n", "dtype", "warps"),
    [
        ("polynomial", 100, "float32", 1),  # no barrier: as measured, four warps take 2.5 times as long
        ("polynomial", 100, "float64", 1),
        ("polynomial", 300, "float32", 1),
        ("polynomial", 1000, "float32", 4),
        ("tanh-network", 100, "float32", 1),
        ("tanh-network", 100, "float64", 4),  # of one or two, registers are not enough
        ("tanh-network", 1000, "float64", 8),
    ],
)
def test_more_warps_where_elements_cost_more_than_barriers(name, n, dtype, warps, monkeypatch):
    monkeypatch.setattr(zoo, "model", partial(zoo.model, n=n))
    assert written(name, dtype)[2] == warps


def test_sums_of_a_network_are_in_registers():
    """50 of them, in double, too: nothing is read or written in a step but the trace."""
    for dtype in TYPES:
        _, text, _ = written("tanh-network", dtype)
        step = text.partition("for step in")[2].partition("\n    tl.store")[0]
        assert "tl.load" not in step
        assert step.count("tl.store(") == 1


def test_launches_of_a_run(monkeypatch):
    """One for each portion; one of no steps where the kernel is new; one more after a loss that is not finite."""
    from fastpoly._fuse import gpu_program
    from fastpoly._loops import fused_gpu

    launched, stop = [], [10**9]

    def launch(run, steps, every, wait):
        launched.append(steps)
        run.carry.add_(steps)
        run.stopped.fill_(min(steps, stop[0]))
        return run.program.data.new_zeros((steps, 1))

    monkeypatch.setattr(gpu_program.GpuRun, "_launch", launch)
    monkeypatch.setattr(gpu_program, "_launched", set())
    model = zoo.model("polynomial", torch.float32)

    def step(carried):
        gradient, loss = torch.func.grad_and_value(model.loss)(carried[0], *model.data)
        return [carried[0] - model.learn_rate * gradient, loss]

    of = gpu_program.program(step, [model.params], {}, 0)
    for _ in range(2):
        loop = fused_gpu.GpuLoop(of, [model.params])
        assert loop.advance(40, 1, 0)[0] == 40
    assert launched == [0, 40, 40]
    stop[0] = 7
    assert loop.advance(40, 1, 0)[0] == 7
    assert launched[3:] == [40, 7]
    assert loop.carried()[0].flatten().tolist() == [47.0] * 5  # the seven begin where the forty did
    assert 1e-7 < loop.step_seconds < 2e-7  # 0.13 us on an H200


# -- without a GPU, and with one
# ----------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_is_missing_is_said():
    model = zoo.model("polynomial", torch.float64)
    with pytest.raises(BackendUnavailableError, match=r"triton.*CUDA"):
        descend(model.loss, model.params, model.data, learn_rate=1e-5, steps=1, backend="triton")
    with pytest.raises(BackendUnavailableError, match=r"fused-autograd-gpu.*CUDA"):
        fit([0.0, 1.0], [0.0, 1.0], degree=1, backend="fused-autograd-gpu")


def on_gpu(model):
    """The same model with everything on the GPU."""
    return tree.tree_map_only(torch.Tensor, lambda tensor: tensor.cuda(), (model.params, model.data))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_thousand_steps_on_the_gpu(name, dtype):
    """Against eager torch on the CPU, within the bounds of test_zoo."""
    model = zoo.model(name, getattr(torch, dtype))
    params, data = on_gpu(model)
    run = descend(model.loss, params, data, learn_rate=model.learn_rate, steps=1000, backend="triton")
    want, expected = zoo.eager(model, 1000)
    bound = {"float64": 1e-10, "float32": 1e-4}[dtype]
    assert run.loss.is_cuda
    assert all(leaf.is_cuda for leaf in tree.tree_leaves(run.params))
    assert off(tree.tree_map(lambda leaf: leaf.cpu(), run.params), want) <= bound
    assert run.loss.cpu().tolist() == pytest.approx(expected.tolist(), rel=bound)


@pytest.mark.gpu
@pytest.mark.parametrize("n", [1, 2, 31, 128, 129, 1024, 1025, 100_000])  # registers, warps, and blocks change here
def test_any_number_of_samples_on_the_gpu(n):
    model = zoo.model("damped-sine", torch.float64, n)
    params, data = on_gpu(model)
    run = descend(model.loss, params, data, learn_rate=model.learn_rate, steps=50, backend="triton")
    want, expected = zoo.eager(model, 50)
    assert off(run.params.cpu(), want) <= 1e-11
    assert run.loss.cpu().tolist() == pytest.approx(expected.tolist(), rel=1e-11)


@pytest.mark.gpu
def test_tensors_of_the_cpu_are_refused_on_the_gpu():
    model = zoo.model("polynomial", torch.float64)
    with pytest.raises(ValueError, match="CUDA"):
        descend(model.loss, model.params, model.data, learn_rate=1e-5, steps=1, backend="triton")


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-9), ("single", 5e-6)])
def test_the_posts_problem_on_the_gpu(post, precision, tolerance):
    run = fit(*post, backend="fused-autograd-gpu", precision=precision)
    by_hand = fit(*post, backend="numba", precision=precision)
    assert run.weights == pytest.approx(by_hand.weights, abs=tolerance)
    assert run.mse == pytest.approx(by_hand.mse, rel=1e-4)
