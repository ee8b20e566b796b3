"""The Triton loop against the numba loop: interpreted and compiled without a GPU, and the real thing with one."""

from collections import Counter

import numpy as np
import pytest
import torch
from machine_code_gpu import ARCHITECTURES, compiled_launches, opcodes
from raw_runs import fit, fit_many

from fastpoly import BackendUnavailableError, DivergenceWarning, stability_limit
from fastpoly import _backends as registry
from fastpoly._backends import moments as on_the_cpu
from fastpoly._backends import triton_loop
from fastpoly._batch import BatchProblem
from fastpoly._monitor import Monitor
from fastpoly._problem import PRECISIONS, FitProblem
from fastpoly._transfers import Returned
from fastpoly_kernels import triton_descent
from fastpoly_kernels.triton_descent import Plan, descend, plan

TORCH = {np.float64: torch.float64, np.float32: torch.float32}
ROUNDINGS = {"double": 1e-13, "mixed": 2e-7, "single": 1e-6}
"""What another order of the sums may change in a few hundred steps, of weights and mse of order 1. In `mixed` it may
tip the rounding of a weight to float32."""


def samples(n, problems=None):
    """n places in [-1, 1.2] and a sine there, or one for each of so many problems."""
    x = np.linspace(-1, 1.2, n)
    return (x, np.sin(2 * x)) if problems is None else (x, np.sin(np.outer(np.arange(1, problems + 1), x)))


# -- in Triton's interpreter: these run in the process of `interpreted`
# ----------------------------------------------------------------------------------------


def interpreted_fit_many(x, y, degree, steps, rates, options, group, stop_after=None):
    """fit_many(backend="triton") in groups of `group`, with Ctrl-C after so many problems; as a BatchTrajectory."""

    def report(done, of):
        monitor._interrupted = done == stop_after

    monitor = Monitor(report)
    problem = BatchProblem.checked(x, y, degree, steps, rates, **options)
    triton_loop.GROUP = group
    return triton_loop.train_many_on(torch.device("cpu"), problem, monitor)


def interpreted_descend(x, y, degree, rate, portions, every, how):
    """Weights and trace of one problem after portions of so many steps."""
    x, y = torch.from_numpy(x), torch.from_numpy(y)[None]
    weights, rates = y.new_zeros(1, degree + 1), y.new_tensor([rate * 2 / x.numel()])
    trace, done = y.new_full((1, -(-sum(portions) // every)), torch.nan), 0
    for steps in portions:
        part = trace[:, -(-done // every) :]
        weights, taken = descend(x, y, weights, rates, steps, every, -done % every, part, how)
        assert int(taken) == steps
        done += steps
    return weights[0].numpy(), trace[0].numpy()


@pytest.mark.parametrize(
    ("n", "degree", "precision", "steps", "trace_every"),
    [
        (3, 4, "single", 300, 1),
        (7, 0, "double", 100, 3),
        (1, 8, "mixed", 50, None),
        (33, 8, "double", 15, 7),  # two blocks of 32, one of them for a single sample
        (100, 4, "mixed", 10, 1),
    ],
)
def test_it_takes_the_steps_of_the_numba_loop(interpreted, n, degree, precision, steps, trace_every):
    x, y = samples(n)
    rate = 0.9 * stability_limit(x, degree)
    options = dict(precision=precision, trace_every=trace_every)
    problem = FitProblem.checked(x, y, degree, steps, rate, **options)
    got = interpreted(triton_loop.train_on, torch.device("cpu"), problem, Monitor())
    want = fit(x, y, degree, steps, rate, backend="numba", **options)
    assert got.weights.dtype == want.weights.dtype
    assert got.mse.dtype == want.mse.dtype
    assert got.weights == pytest.approx(want.weights, abs=ROUNDINGS[precision])
    assert got.mse == pytest.approx(want.mse, abs=ROUNDINGS[precision])
    assert (got.steps, got.diverged_at) == (steps, None)


@pytest.mark.parametrize(("n", "steps"), [(37, 10), (1100, 1)])  # some turns of 16 samples; more than TURNS of them
def test_samples_that_are_loaded_in_every_step(interpreted, n, steps):
    x, y = samples(n)
    weights, trace = interpreted(interpreted_descend, x, y, 3, 0.2, [steps], 1, Plan(1, 4, 0))
    want = fit(x, y, 3, steps, 0.2, backend="numba")
    assert weights == pytest.approx(want.weights, abs=ROUNDINGS["double"])
    assert trace == pytest.approx(want.mse, abs=ROUNDINGS["double"])


def test_portions_have_the_bits_of_one_launch(interpreted):
    x, y = samples(9)
    whole, parts = (interpreted(interpreted_descend, x, y, 2, 0.2, portions, 3, None) for portions in ([40], [17, 23]))
    assert whole[0].tobytes() == parts[0].tobytes()
    assert whole[1].tobytes() == parts[1].tobytes()
    assert np.isfinite(whole[1]).all()


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_divergence_is_found_at_its_step(interpreted, precision):
    x, y = samples(6)
    problem = FitProblem.checked(x, y, 3, 20, 1e3, precision=precision)
    got = interpreted(triton_loop.train_on, torch.device("cpu"), problem, Monitor())
    with pytest.warns(DivergenceWarning):
        want = fit(x, y, 3, 20, 1e3, precision=precision, backend="numba")
    assert 2 < got.diverged_at == want.diverged_at == got.steps < 20
    assert got.mse == pytest.approx(want.mse, rel=1e-4)  # each step multiplies by 3,000 what the last one lost
    assert got.weights == pytest.approx(want.weights, rel=1e-4)


def test_an_mse_that_leaves_the_floats_and_comes_back_has_diverged(interpreted):
    """The first one is infinite, the later ones are not."""
    x, y = np.array([1.0, 1.0]), np.array([1e20, 1e20])
    problem = FitProblem.checked(x, y, 0, 9, 0.5, precision="single")
    got = interpreted(triton_loop.train_on, torch.device("cpu"), problem, Monitor())
    assert (got.diverged_at, got.steps, got.mse.size, got.weights.tolist()) == (0, 0, 0, [0.0])


@pytest.mark.parametrize("own_x", [False, True], ids=["shared", "own"])
def test_a_batch_of_three(interpreted, own_x):
    """In two groups; the second problem diverges, and neither it nor the others notice."""
    x, y = samples(5, 3)
    x = np.stack([x, x + 0.1, x - 0.1]) if own_x else x
    rates = np.array([0.2, 1e3, 0.1])
    options = dict(precision="single", initial_weights=[0.5, 0.0, -0.5], trace_every=4)
    got = interpreted(interpreted_fit_many, x, y, 2, 24, rates, options, 2)
    with pytest.warns(DivergenceWarning):
        want = fit_many(x, y, 2, 24, rates, backend="numba", **options)
    assert got.diverged_at.tolist() == want.diverged_at.tolist()
    assert 0 < got.diverged_at[1] < 24
    assert np.isnan(got.mse).tolist() == np.isnan(want.mse).tolist()
    for i, tolerance in enumerate([1e-6, 1e-3, 1e-6]):
        assert got.weights[i] == pytest.approx(want.weights[i], rel=tolerance)
        assert got.mse[i] == pytest.approx(want.mse[i], rel=10 * tolerance, nan_ok=True)


def test_ctrl_c_leaves_the_groups_that_are_done(interpreted):
    x, y = samples(4, 3)
    options = dict(precision="double", initial_weights=None, trace_every=None)
    got = interpreted(interpreted_fit_many, x, y, 1, 10, 0.2, options, 1, 2)
    assert got.weights == pytest.approx(fit_many(x, y[:2], 1, 10, 0.2, backend="numba").weights, abs=1e-15)


# -- compiled, for GPUs that need not be there
# ----------------------------------------------------------------------------------------


def launched(n, degree, precision, arch=90, batch=1, steps=1000, how=None):
    """The machine code of a launch."""
    arithmetic, storage = (TORCH[number] for number in PRECISIONS[precision])
    y = torch.zeros(batch, n, dtype=arithmetic)
    weights, trace = (torch.zeros(batch, columns, dtype=storage) for columns in (degree + 1, 10))
    with compiled_launches(arch) as codes:
        descend(y[0], y, weights, y.new_zeros(batch), steps, 100, 0, trace, how)
    return codes[0]


def assert_nothing_spilled(code):
    used = opcodes(code.instructions)
    assert code.stack == code.local == used["LDL"] == used["STL"] == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("precision", "words"), [("single", 1), ("double", 2)])
def test_a_step_of_one_warp_is_registers_and_shuffles(arch, precision, words):
    """No barrier, no memory but the trace, no branch but the loop's own, and at degree 4 the 5 rounds of 6 sums."""
    code = launched(100, 4, precision, arch)
    used = opcodes(code.longest_loop)
    assert used["SHFL"] == 5 * 6 * words <= 40 * words  # a shuffle moves 32 bits
    assert not {"BAR", "LDS", "STS", "LDG", "WARPSYNC", "CALL", "MUFU"} & set(used)
    assert used["STG"] == used["BRA"] == 1
    assert code.shared == 0
    assert_nothing_spilled(code)
    # of each of 4 samples: p(x) and the sums by fma, 5 and 6 of them, less what is added to 0 or multiplied by 1
    assert 34 <= used["FFMA"] + used["DFMA"] <= 44 + 5


CASES = [
    (100, 4, "mixed"),
    (700, 4, "single"),
    (3000, 4, "double"),
    (100, 16, "single"),
    (700, 16, "double"),
]


def checked(n, degree, precision):
    how = plan(n, degree, np.dtype(PRECISIONS[precision][0]).itemsize)
    code = launched(n, degree, precision)
    assert_nothing_spilled(code)
    used = opcodes(code.longest_loop)
    assert ("BAR" in used) == (how.warps > 1)
    assert ("LDG" in used) == (how.blocks == 0)
    assert code.registers * 32 * how.warps <= 65_536  # what a multiprocessor has


@pytest.mark.parametrize(("n", "degree", "precision"), CASES)
def test_nothing_is_spilled(n, degree, precision):
    checked(n, degree, precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("degree", [0, 3, 8, 12, 16])
@pytest.mark.parametrize("n", [32, 96, 256, 2048, 100_000])
def test_nothing_is_spilled_at_any_size_and_degree(n, degree, precision):
    checked(n, degree, precision)


def test_problems_that_take_their_own_numbers_of_steps():
    code = launched(100, 4, "single", batch=3, steps=torch.ones(3, dtype=torch.int32))
    assert opcodes(code.longest_loop)["SHFL"] == 30
    assert_nothing_spilled(code)


def test_launches_of_one_shape_share_a_kernel():
    """Whatever the number of steps, where the trace begins and what is recorded: nothing is compiled in mid-run."""
    y, weights = torch.zeros(1, 50), torch.zeros(1, 3)
    counts = []
    with compiled_launches(90):
        for steps, every, wait, column in ((1, 1, 1, 0), (16, 16, 0, 1), (2**30, 2**60, 2**61, 2)):
            descend(y[0], y, weights, torch.ones(1), steps, every, wait, torch.zeros(1, 9)[:, column:])
            counts.append(sum(len(caches[0]) for caches in triton_descent._descend.device_caches.values()))
    assert counts[0] == counts[1] == counts[2] > 0


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("degree", [0, 1, 4, 16, 64])
def test_a_plan_holds_every_sample_once(degree, itemsize):
    before = 0
    for n in (1, 2, 31, 32, 33, 100, 255, 256, 257, 1024, 1025, 2048, 2049, 10**6):
        how = plan(n, degree, itemsize)
        assert how.lanes & (how.lanes - 1) == 0
        assert how.lanes <= 32 * how.warps
        if how.blocks:
            assert how.lanes * (how.blocks - 1) < n <= how.lanes * how.blocks
            assert how.blocks * (degree + 2) * itemsize <= 128 * 4  # half of a thread's registers
        assert how.warps >= before  # more samples, no fewer warps
        before = how.warps


# -- around the kernel
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 5])
@pytest.mark.parametrize("n", [1, 1000, 2**20 + 3])
def test_moments_by_a_matrix_product(n, degree):
    x, y = samples(n)
    got, want = (
        function(*where, x, y, degree, Monitor())
        for function, where in ((on_the_cpu.moments_on, [torch.device("cpu")]), (on_the_cpu.moments, []))
    )
    assert got.n == want.n
    scale = want.largest
    assert got.matrix == pytest.approx(want.matrix, abs=1e-13 * scale)
    assert got.vector == pytest.approx(want.vector, abs=1e-13 * scale)
    assert got.square == pytest.approx(want.square, rel=1e-13)


@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_many_samples_go_by_their_moments(monkeypatch, precision):
    """No kernel could run here: one problem, and each of a batch."""
    monkeypatch.setattr(triton_loop, "ONE_PROGRAM", 49)
    x, y = samples(50, 3)
    options = dict(precision=precision, trace_every=5)
    problem = BatchProblem.checked(x, y, 3, 80, 0.2, initial_weights=None, **options)
    many = triton_loop.train_many_on(torch.device("cpu"), problem, Monitor())
    one = triton_loop.train_on(torch.device("cpu"), problem.one(1), Monitor())
    want = fit_many(x, y, 3, 80, 0.2, backend="gram", **options)
    assert many.weights == pytest.approx(want.weights, abs=ROUNDINGS[precision])
    assert many.mse == pytest.approx(want.mse, abs=ROUNDINGS[precision])
    assert one.weights.tobytes() == many.weights[1].tobytes()


def counted(monkeypatch, portion_seconds, diverges_at=None):
    """Of a call with the post's sizes: launches, waits and copies back, allocations for results, copies there; and the
    steps of each launch. The kernel is a stub, and all its tensors are the CPU's."""
    counts, launched = Counter(), []

    def stub(x, y, weights, rates, steps, every, wait, trace, how, out):
        counts["launches"] += 1
        launched.append(steps)
        end, taken = out
        taken.fill_(steps if diverges_at is None else min(steps, diverges_at))
        end.copy_(weights + steps)
        assert end.data_ptr() != weights.data_ptr()
        trace.fill_(1.0)

    def counting(patch, of, name, what):
        function = getattr(of, name)

        def call(*arguments):
            counts[what] += 1
            return function(*arguments)

        patch.setattr(of, name, call)

    with monkeypatch.context() as patch:
        patch.setattr(triton_loop, "descend", stub)
        patch.setattr("fastpoly._portions.PORTION_SECONDS", portion_seconds)
        patch.setattr("fastpoly._portions.next_portion", lambda steps, seconds: 10_000)
        counting(patch, Returned, "bring", "waits")
        counting(patch, Returned, "__init__", "results")
        counting(patch, triton_loop, "uploaded", "uploads")
        x, y = samples(100)
        problem = FitProblem.checked(x, y, 4, 200_000, 1e-5, precision="single")
        result = triton_loop.train_on(torch.device("cpu"), problem, Monitor())
    return counts, launched, result


def test_a_call_is_one_launch_one_wait_and_one_copy_back(monkeypatch):
    """But for the first of all, which compiles in a launch of no steps. Two copies there: in `mixed` they differ in
    their dtype."""
    monkeypatch.setattr(triton_loop, "_compiled", set())
    first, launched, _ = counted(monkeypatch, 1.0)
    assert launched == [0, 200_000]
    assert first == {"launches": 2, "waits": 1, "results": 2, "uploads": 2}
    again, launched, result = counted(monkeypatch, 1.0)
    assert launched == [200_000]
    assert again == {"launches": 1, "waits": 1, "results": 1, "uploads": 2}
    assert (result.steps, len(result.mse), result.weights.tolist()) == (200_000, 200_000, [200_000.0] * 5)


def test_weights_stay_where_they_are_from_portion_to_portion(monkeypatch):
    monkeypatch.setattr(triton_loop, "_compiled", set())
    counts, launched, result = counted(monkeypatch, 0.02)
    assert launched[0] == 0
    assert len(launched) > 3
    assert sum(launched) == 200_000
    assert counts["waits"] == counts["launches"] - 1
    assert counts["results"] <= 3  # room for two portions in turn, beside that of the launch that compiles
    assert counts["uploads"] == 2
    assert result.weights.tolist() == [200_000.0] * 5


def test_what_diverged_is_launched_again_from_where_it_began(monkeypatch):
    monkeypatch.setattr(triton_loop, "_compiled", set())
    counts, launched, result = counted(monkeypatch, 1.0, 1234)
    assert launched == [0, 200_000, 1234]
    assert counts["waits"] == 2
    assert (result.diverged_at, len(result.mse), result.weights.tolist()) == (1234, 1234, [1234.0] * 5)


@pytest.mark.parametrize(("itemsize", "measured"), [(4, 127.5e-9), (8, 204.7e-9)])
def test_a_steps_time_is_known_to_a_tenth(itemsize, measured):
    """On an H200; so the first portion is nearly as long as one may be."""
    guess = triton_loop.step_seconds(plan(100, 4, itemsize), 100, 4, itemsize)
    assert guess == pytest.approx(measured, rel=0.1)


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setattr(registry, "missing_cuda", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "triton is not installed; pip install 'fastpoly[torch]'" in registry.missing_triton()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_batch_says_what_is_missing_too():
    x, y = samples(5, 2)
    with pytest.raises(BackendUnavailableError, match=r"backend triton cannot run here: .*CUDA"):
        fit_many(x, y, backend="triton", steps=1)
