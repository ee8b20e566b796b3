"""The backends, by name: what each does, whether it can run here, and where its code lies.

Requirements: nothing heavy is imported until a backend is asked for; a backend that cannot run here says why and what
would bring it; a new backend is one new file and one entry in `_ENTRIES`.

A backend is a function `train(problem: FitProblem, monitor: Monitor) -> Trajectory`; one that takes many problems in
one call names the module of its `train_many(problem: BatchProblem, monitor: Monitor) -> BatchTrajectory`. One that
computes with samples where they lie (`stays`) may return tensors.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastpoly_kernels.aside import imported
from fastpoly_kernels.log import say

from .._arrays import Array
from .._batch import BatchProblem, BatchTrajectory
from .._errors import BackendUnavailableError
from .._minimum import Minimum
from .._monitor import Monitor
from .._problem import PRECISIONS, FitProblem, shown
from .._result import Trajectory

Train = Callable[[FitProblem, Monitor], Trajectory]
TrainMany = Callable[[BatchProblem, Monitor], BatchTrajectory]
Requirement = Callable[[], str | None]


@dataclass(frozen=True)
class Backend:
    """One way to run the training loop.

    Attributes:
        name: what `fit(backend=...)` takes.
        summary: what it does, in a line.
        precisions: those it can run in.
        unavailable: None, or why it cannot run here and what would change that.
    """

    name: str
    summary: str
    precisions: tuple[str, ...]
    unavailable: str | None

    @property
    def available(self) -> bool:
        """Can it run here?"""
        return self.unavailable is None


@dataclass(frozen=True, eq=False, repr=False)
class _Entry:
    name: str
    train: str  # "module:function", in this package
    precisions: tuple[str, ...]
    summary: str
    needs: Requirement = lambda: None
    many: str = ""  # the module of its `train_many`, if it takes batches
    stays: bool = False  # it takes samples that lie on a GPU; otherwise they come to the CPU
    checks_samples: bool = False  # it looks for NaN and infinity itself, in its only pass over the samples
    handles_sigint: bool = False  # it listens for Ctrl-C where it has the time; that costs 16 us


def missing_torch() -> str | None:
    """None, or why torch cannot be used here and what would change that."""
    if sys.modules.get("torch") is not None:
        return None
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed; pip install 'fastpoly[torch]'"
    try:
        imported("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library that it needs is not there
        return f"torch is installed but cannot be imported ({error}); install it anew"
    return None


def missing_torch_compile() -> str | None:
    """None, or why torch.compile cannot run here and what would change that."""
    missing = missing_torch()
    if missing:
        return missing
    from .._loops.compiled import unavailable

    return unavailable()


def missing_torch_compile_on_gpu() -> str | None:
    """None, or why torch.compile cannot run on a GPU here and what would change that."""
    missing = missing_cuda()
    if missing:
        return missing
    from .._loops.compiled import unavailable_on_gpu

    return unavailable_on_gpu()


def missing_cuda() -> str | None:
    """None, or why torch cannot use a GPU here and what would change that."""
    missing = missing_torch()
    if missing:
        return missing
    import torch

    if torch.version.cuda is None:
        return "this torch is built without CUDA; install a CUDA build of torch"
    if not torch.cuda.is_available():
        return "torch finds no CUDA GPU; it needs an NVIDIA GPU and its driver"
    return None


def missing_triton() -> str | None:
    """None, or why Triton's kernels cannot run here and what would change that. Imports no triton."""
    missing = missing_cuda()
    if missing is None and importlib.util.find_spec("triton") is None:
        return "triton is not installed; pip install 'fastpoly[torch]' (on Linux)"
    return missing


_ALL = tuple(PRECISIONS)
_OF_TORCH = ("double", "single")  # torch does not multiply a float64 matrix by float32 weights

# fmt: off
_ENTRIES = (
    _Entry("numpy", "published:numpy_loop", _ALL, "the post's loop on numpy"),
    _Entry("torch", "published:torch_loop", _OF_TORCH, "the post's loop on torch", missing_torch),
    _Entry("torch-gpu", "published:torch_gpu_loop", _OF_TORCH,
           "the post's loop on torch, on the GPU", missing_cuda, stays=True),
    _Entry("torch-autograd", "published:autograd_loop", _OF_TORCH, "the post's autograd loop", missing_torch),
    _Entry("torch-autograd-gpu", "published:autograd_gpu_loop", _OF_TORCH,
           "the post's autograd loop, on the GPU", missing_cuda, stays=True),
    _Entry("numba", "numba_loop:train", _ALL,
           "the whole loop in one compiled CPU kernel", many="numba_loop"),
    _Entry("fused-autograd", "autograd:fused", _OF_TORCH,
           "traced from torch's autograd, fused into one kernel", missing_torch),
    _Entry("fused-autograd-gpu", "autograd:fused_gpu", _OF_TORCH,
           "traced from torch's autograd, one kernel of the GPU", missing_triton, stays=True),
    _Entry("compile", "autograd:compiled", _OF_TORCH,
           "the autograd step through torch.compile, in blocks", missing_torch_compile),
    _Entry("compile-gpu", "autograd:compiled_gpu", _OF_TORCH,
           "the same on the GPU, the blocks in CUDA graphs", missing_torch_compile_on_gpu, stays=True),
    _Entry("cudagraph", "autograd:cudagraph", _OF_TORCH,
           "the autograd step on the GPU, captured in CUDA graphs", missing_cuda, stays=True),
    _Entry("triton", "triton_loop:train", _ALL,
           "the whole loop in one Triton kernel, on the GPU", missing_triton, "triton_loop", stays=True),
    _Entry("gram", "gram:train", ("double", "mixed"),
           "a small recurrence on the samples' moments", many="gram_many",
           stays=True, checks_samples=True),
    _Entry("spectral", "spectral:train", ("double",),
           "every step in closed form, by singular values", many="spectral_many",
           stays=True, checks_samples=True, handles_sigint=True),
)
# fmt: on

WEIGHTED = "spectral"
"""The one backend that takes sigma, sample_weight and ridge."""

CLOSED = {("spectral", "double"), ("gram", "double")}
"""Backends and precisions whose steps cost nothing, but for those that are recorded."""

SPECTRAL_SAMPLES = 4096
"""Where decomposing all samples becomes slower than a pass over them and a recurrence: measured."""

BESIDE = 2**14
"""Samples that a multiprocessor of a GPU keeps in its first cache: up to there one program is the fastest by far."""

_BY_NAME = {entry.name: entry for entry in _ENTRIES}

NAMES = tuple(_BY_NAME)
"""What `fit(backend=...)` takes besides "auto", available or not."""


def backends() -> tuple[Backend, ...]:
    """Every backend, those that cannot run here included, with the reason. Imports torch if it is installed."""
    return tuple(Backend(entry.name, entry.summary, entry.precisions, entry.needs()) for entry in _ENTRIES)


def _fastest(problem: FitProblem, finds_minimum: bool = False) -> str:
    n = len(problem.x)
    if problem.weighted or (finds_minimum and problem.precision == "double"):  # half of the work is then done
        return WEIGHTED
    if problem.precision == "single":
        name = _single(problem.device)
        return name if name == "numba" or n <= BESIDE else _on_card(problem, n)
    return "spectral" if problem.precision == "double" and n <= SPECTRAL_SAMPLES else "gram"


def _single(device: Any) -> str:
    """The fastest loop in float32 for whom wants the result on this device; None is numpy."""
    return "triton" if device is not None and device.type == "cuda" and missing_triton() is None else "numba"


def _on_card(problem: FitProblem, n: int) -> str:
    """The same for more samples than one program should go through alone in every step."""
    import torch

    from .._choice import machines, polynomial

    if missing_torch_compile_on_gpu() is not None:
        return "triton"
    card = machines.card(torch.cuda.get_device_properties(problem.device))
    return polynomial.fastest(n, problem.degree, problem.steps, card)


def choose(name: str, problem: FitProblem, finds_minimum: bool = False) -> tuple[str, Train]:
    """The backend that `name` means for `problem`, as its own name and its function; see `fit` for "auto".

    `finds_minimum`: the samples' singular values are wanted before the run.

    Raises:
        ValueError: no such backend, or it cannot run in this precision.
        BackendUnavailableError: it cannot run here.
    """
    entry = _usable(_fastest(problem, finds_minimum) if name == "auto" else name, problem.precision, _BY_NAME)
    if problem.weighted and entry.name != WEIGHTED:
        way = f"backend={WEIGHTED!r} or 'auto', in double, knows them"
        raise ValueError(f"backend: {entry.name} takes no sigma, sample_weight or ridge; {way}")
    why = f"the fastest for {len(problem.x):,} samples in {problem.precision}" if name == "auto" else "it was asked for"
    say(f"backend {entry.name}: {why}{', and what finds the minimum' if finds_minimum and name == 'auto' else ''}")
    if not entry.checks_samples:
        problem.refuse_large_copies(f"backend={entry.name!r}")
        problem.refuse_nonfinite()
    return entry.name, partial(_train, entry)


def choose_many(name: str, problem: BatchProblem) -> tuple[str, TrainMany]:
    """As `choose`, for a batch: "auto" is spectral in double, gram in mixed; in single numba, on a GPU triton."""
    if name == "auto":
        name = {"double": "spectral", "mixed": "gram", "single": _single(problem.device)}[problem.precision]
    entry = _usable(name, problem.precision, {name: entry for name, entry in _BY_NAME.items() if entry.many})
    say(f"backend {entry.name}: for {problem.batch:,} problems in {problem.precision}")
    return entry.name, partial(_train_many, entry)


def rows_of(problem: FitProblem) -> Array:
    """A matrix with the singular values of [V | y - V w_0], in float64; see `spectral.rows_of`.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    monitor = Monitor()
    start = problem.initial_weights.astype(np.float64)
    problem = dataclasses.replace(problem, precision="double", initial_weights=start)
    rows: Array = _imported("spectral").rows_of(problem, monitor)
    if monitor.interrupted:
        raise KeyboardInterrupt("interrupted before the first step")
    return rows


def minimum_of(problem: FitProblem) -> Minimum:
    """Where the descent goes, by one pass over the samples.

    Raises:
        ValueError: a sample is not finite, or its powers are not. KeyboardInterrupt: Ctrl-C.
    """
    found: Minimum | None = _imported("spectral").minimum_from(problem, rows_of(problem))
    if found is None:
        raise ValueError("x: wants numbers whose powers float64 can hold; choose domain='auto'")
    return found


def train_towards(problem: FitProblem, minimum: Minimum, monitor: Monitor) -> Trajectory:
    """`spectral`, towards a minimum that is known already."""
    trajectory: Trajectory = _imported("spectral").train_towards(problem, minimum, monitor)
    return trajectory


def _train(entry: _Entry, problem: FitProblem, monitor: Monitor) -> Trajectory:
    module, _, function = entry.train.partition(":")
    run: Train = getattr(_imported(module), function)
    with nullcontext() if entry.handles_sigint else monitor.listening():
        return run(problem if entry.stays else problem.on_cpu(), monitor)


def _train_many(entry: _Entry, problem: BatchProblem, monitor: Monitor) -> BatchTrajectory:
    run: TrainMany = _imported(entry.many).train_many
    with monitor.listening():
        return run(problem if entry.stays else problem.on_cpu(), monitor)


def _usable(name: object, precision: str, among: Mapping[str, _Entry]) -> _Entry:
    entry = among.get(name) if isinstance(name, str) else None
    if entry is None:
        raise ValueError(f'backend: wants auto, {", ".join(among)}; got {shown(name)}; "auto" is the fastest of them')
    if precision not in entry.precisions:
        wants = f"backend {name} runs in {' or '.join(entry.precisions)}"
        raise ValueError(f"precision: {wants}, got {precision!r}; choose one of these, or backend='auto'")
    reason = entry.needs()
    if reason is not None:
        raise BackendUnavailableError(f"backend {name} cannot run here: {reason}")
    return entry


def _imported(module: str) -> Any:
    return imported(f"{__name__}.{module}")
