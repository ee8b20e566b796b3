"""`auto`: the loop that is done the soonest with a step, begun."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastpoly_kernels.log import say

from .._errors import BackendUnavailableError, UnsupportedOperationError
from .._garbage import uncollected
from .._loops import PREFERENCES, Loop, begin
from . import calibration, costs, machines, work
from .costs import Cost, State
from .decision import LOADING, NEAR, PART, TRIAL_STEPS, choose, is_near
from .memory import Remembered, key_of, recall, remember

if TYPE_CHECKING:
    import torch

    from .._fuse.traced import Reading, Written
    from .._loops import Step
    from .machines import Machine

CANNOT = (BackendUnavailableError, UnsupportedOperationError)
"""What a backend raises that cannot run a step: the next one by cost is taken."""

TRIAL_SECONDS = 0.005
"""For the steps that are timed of what takes microseconds."""

LONG = 0.2
"""A step that takes so many seconds is not timed again."""

FUSERS = {"cpu": "fused", "cuda": "triton"}

COMPILING = ("fused", "triton", "compile")
"""What they compiled once is found again by other processes."""

_steps_here: Counter[str] = Counter()
"""How many steps of a loss this process has asked for, by its key."""


@dataclass(frozen=True)
class Begun:
    """A loop, and why it is this one.

    Attributes:
        name: of the backend.
        reason: what it was chosen for.
        fell_back: why it is not the fused loop although no other was asked for; None if that was a matter of cost.
    """

    name: str
    loop: Loop
    reason: str
    fell_back: str | None


def begun(step: Step, inputs: Sequence[torch.Tensor], steps: int, names: dict[int, str], stop_at: int | None) -> Begun:
    """Begin the loop that is done the soonest with `steps` steps, or of those that can run them the next.

    Args:
        step, inputs, names, stop_at: see `fastpoly._loops.Begin`.
        steps: how many will be asked for.

    Raises:
        UnsupportedOperationError: none can run it.
    """
    return _Prospect(step, inputs, steps, names, stop_at).begun()


@uncollected()
def asked(step: Step, inputs: Sequence[torch.Tensor], names: dict[int, str], stop_at: int | None) -> Loop:
    """The fused loop, and a note for `auto` that its kernel is compiled. Raises what `fastpoly._loops.fused` does."""
    prospect = _Prospect(step, inputs, 0, names, stop_at)
    prospect.read()
    loop = prospect.fused()
    prospect.remember("fused")
    return loop


class _Prospect:
    """A step before its loop begins."""

    def __init__(
        self, step: Step, inputs: Sequence[torch.Tensor], steps: int, names: dict[int, str], stop_at: int | None
    ) -> None:
        self.given = step, inputs, names, stop_at
        self.steps = self.horizon = steps
        self.backends, self.fell_back = _candidates(inputs)
        self.reading: Reading | None = None
        self.written: Written | None = None
        self.key: str | None = None
        self.loops: dict[str, Loop] = {}
        self.device = inputs[0].device

    def begun(self) -> Begun:
        try:
            order, reason, timed = self._order()
        except Exception as error:  # of the model: any backend may still run it
            self.fell_back = self.fell_back or str(refusal("auto", error, *self.given[:2]))
            order, reason, timed, self.key = self.backends, "its cost is not known", {}, None
        for name in order:
            try:
                loop = self.loops.get(name) or self._loop(name)
            except Exception as error:
                if name == order[-1]:
                    raise
                self._cannot(name, error)
                continue
            if self.key is not None:
                self.remember(name, timed, taken=name)
            return Begun(name, loop, reason if name == order[0] else f"{order[0]} cannot run it", self.fell_back)
        raise AssertionError("eager runs everywhere")

    # -- which

    def _order(self) -> tuple[tuple[str, ...], str, dict[str, float]]:
        """The backends, what to try first in front; why; and what was timed."""
        if self.device.type not in FUSERS or len(self.backends) < 2 or _elsewhere(self.given[1]):
            return self.backends, "the fast loops do not run there", {}
        fuser = FUSERS[self.device.type]
        if fuser in self.backends:
            try:
                self.read()
            except Exception as error:
                self.key = None
                self._cannot(fuser, error)
        if self.key is not None:
            _steps_here[self.key] += self.steps
            self.horizon = _steps_here[self.key]
            self._write()
        found = self._costs()
        if self.key is None:
            choice = choose(found, self.horizon)
        else:
            if is_near(found, self.horizon, self.remembered.taken) and calibration.known(self._machine) is None:
                calibration.calibrated(self._machine, self.device)
                found = self._costs()
            choice = choose(found, self.horizon, self.remembered.taken, self._measured)
        return choice.order, choice.reason, dict(choice.timed)

    @uncollected()
    def read(self) -> None:
        """Trace the step, and recall what is known of it."""
        from .._fuse.traced import read

        self.reading = read(*self.given)
        self.key = key_of(self.reading, f"{self._machine.name}, {self._machine.threads}", self.device.type)
        self.remembered = recall(self.key)

    def _write(self) -> None:
        """Write the kernel, unless having it takes longer than all of the run does otherwise."""
        from .._fuse.traced import found

        assert self.reading is not None
        fuser = FUSERS[self.device.type]
        known = fuser in self.remembered.known
        try:
            self.written = found(self.reading, self.given[3], _writer(fuser))
            if self.written is None:
                of = work.of_graph(self.reading.graph)
                least = costs.fused_at_least(of, self._machine, self._state("disk" if known else None)).ready
                least -= LOADING if known else 0.0
                if least > NEAR * min(cost.of(self.horizon) for cost in self._costs().values()):
                    self.backends = tuple(name for name in self.backends if name != fuser)
                    return
                self._written_anew(fuser)
        except Exception as error:
            self._cannot(fuser, error)

    @uncollected()
    def _written_anew(self, fuser: str) -> Written:
        from .._fuse.traced import written_anew

        assert self.reading is not None
        self.written = written_anew(self.reading, self.given[3], _writer(fuser))
        return self.written

    def _costs(self) -> dict[str, Cost]:
        """Of each backend, as it is known by now; what begins the soonest first."""
        machine = calibration.known(self._machine) or self._machine
        of = work.UNKNOWN if self.reading is None else work.of_graph(self.reading.graph)
        state = self._state(self._kernel_is())
        result = {}
        for name in self.backends[::-1]:
            if name == "eager":
                cost = costs.eager(of, machine)
            elif name == "compile":
                cost = costs.compiled(of, machine, state)
            elif name == "cudagraph":
                cost = costs.captured(of, machine, state)
            elif self.written is None:
                continue
            else:
                cost = costs.fused(work.of_kernel(self.written), of, machine, state)
            if self.key is not None and name in self.remembered.timed:
                cost = replace(cost, step=self.remembered.timed[name])
            result[name] = cost
        return result

    @property
    def _machine(self) -> Machine:
        if self.device.type == "cpu":
            return machines.processor()
        import torch

        return machines.card(torch.cuda.get_device_properties(self.device))

    def _state(self, kernel: str | None) -> State:
        known = self.remembered.known if self.key is not None else frozenset()
        loaded = "llvmlite.binding" if self.device.type == "cpu" else "triton"
        from .._torch_private import is_compiler_loaded

        return State(kernel, loaded in sys.modules, is_compiler_loaded(), known)

    def _kernel_is(self) -> str | None:
        """Where the fused kernel is; see State."""
        if self.written is None:
            return None
        if self.device.type == "cpu":
            from .._fuse.machine import is_compiled

            return is_compiled(self.written.code)
        if self.written.text in _launched:
            return "memory"
        return "disk" if self.key is not None and "triton" in self.remembered.known else None

    # -- trials

    def _measured(self, name: str) -> float | None:
        """Seconds of a step, by some steps of a loop that is thrown away or begun anew."""
        _, inputs, _, _ = self.given
        try:
            loop = self._loop(name)
        except Exception as error:
            self._cannot(name, error)
            return None
        if name in ("compile", "cudagraph"):  # to begin anew takes seconds; a compiled loop has timed a block by itself
            self.loops[name] = loop
            if not hasattr(loop, "restart"):
                return loop.step_seconds
        seconds = _of_a_step(loop, self.horizon // PART)
        if hasattr(loop, "restart"):
            loop.restart(inputs)
        say(f"backend {name} timed: {seconds:.3g} s a step")
        return seconds

    # -- how

    def fused(self) -> Loop:
        """The fused loop of the CPU."""
        from .._fuse.program import write_for_cpu
        from .._fuse.traced import found

        assert self.reading is not None
        self.written = found(self.reading, self.given[3], write_for_cpu) or self._written_anew("fused")
        return self._loop("fused")

    def _loop(self, name: str) -> Loop:
        step, inputs, names, stop_at = self.given
        if self.written is None or self.reading is None or name not in FUSERS.values():
            return begin(name)(step, inputs, names, stop_at)
        module = import_module(".._loops." + ("fused" if name == "fused" else "fused_gpu"), __package__)
        with uncollected():
            loop: Loop = module.begin_written(self.written, self.reading.constants, inputs)
        if name == "triton":
            _launched.add(self.written.text)
        return loop

    def _cannot(self, name: str, error: Exception) -> None:
        """Note that a backend cannot run the step: the caller is told if it is the fused loop."""
        error = refusal(name, error, *self.given[:2])
        say(f"backend {name} cannot run it: {error}")
        self.backends = tuple(other for other in self.backends if other != name)
        if name in FUSERS.values():
            self.fell_back = self.fell_back or str(error)

    def remember(self, name: str, timed: Mapping[str, float] | None = None, taken: str | None = None) -> None:
        """That a backend has begun with this step; that it was chosen, and what was timed for that."""
        assert self.key is not None
        before = self.remembered
        known = before.known | ({name} if name in COMPILING else set())
        remember(self.key, Remembered(taken or before.taken, {**before.timed, **(timed or {})}, known))


def refusal(name: str, error: Exception, step: Step, inputs: Sequence[torch.Tensor]) -> Exception:
    """What to say of a backend that does not run a step: its own refusal, or that something in it is broken.

    Raises:
        Exception: the step itself raises, or memory is short: the caller's own, in torch's words.
    """
    import torch

    if isinstance(error, CANNOT):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        raise error
    step([tensor.detach().clone() for tensor in inputs])
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return UnsupportedOperationError(
        f"{type(error).__name__} in backend {name!r}: {said}: a mistake of ours, or of a compiler. Please report it"
    )


def _of_a_step(loop: Loop, most: int) -> float:
    """Seconds of a step of a loop, by some steps of it, `most` at most; where one takes long, by that alone."""
    started = time.perf_counter()
    loop.advance(1, 1, 0)
    once = time.perf_counter() - started
    if once > LONG:
        return once
    wanted = max(1, min(max(TRIAL_STEPS, int(TRIAL_SECONDS / once)), most))
    started = time.perf_counter()
    done, _ = loop.advance(wanted, 1, 0)
    seconds = time.perf_counter() - started
    return seconds / done if done else once  # one that diverges at once is as quick as any


_launched: set[str] = set()
"""Texts of kernels that Triton has compiled in this process."""


def _writer(fuser: str) -> Any:
    if fuser == "fused":
        from .._fuse.program import write_for_cpu

        return write_for_cpu
    from .._fuse.gpu_program import write_for_gpu

    return write_for_gpu


def _elsewhere(inputs: Sequence[torch.Tensor]) -> bool:
    """Are the tensors on several kinds of devices?"""
    return len({tensor.device.type for tensor in inputs}) > 1


def _candidates(inputs: Sequence[torch.Tensor]) -> tuple[tuple[str, ...], str | None]:
    """What could run these tensors, and why it is not the fused loop, if that is known."""
    from .._backends import missing_triton

    (first, *rest) = sorted({tensor.device.type for tensor in inputs})
    if rest or first not in PREFERENCES:
        where = ", ".join(sorted({str(tensor.device) for tensor in inputs if tensor.device.type != "cpu"}))
        return ("compile", "eager"), f"the tensors are on {where}, and the fast loops run on the CPU or on CUDA"
    choices = PREFERENCES[first]
    reason = None if choices[0] == "fused" else missing_triton()
    return (choices, None) if reason is None else (choices[1:], f"backend 'triton' cannot run here: {reason}")
