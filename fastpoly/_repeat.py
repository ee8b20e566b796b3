"""Run a step many times: by the loop that was asked for or is chosen, in portions for Ctrl-C and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from fastpoly_kernels.log import say

from ._loops import MODULES, Loop, begin
from ._memory import refuse_beyond_memory
from ._monitor import Monitor
from ._pages import uninitialised
from ._portions import FIRST_SECONDS, PORTION_SECONDS
from ._preparing import preparing
from ._problem import shown
from ._steadiness import refuse_unsteady
from ._warn import warn_once

if TYPE_CHECKING:
    import torch

    from ._loops import Step

ASKED = "it was asked for"


class Watch(Protocol):
    """Who wants to see a run from time to time."""

    def most(self, taken: int) -> int:
        """How many steps may be taken before it is asked again, after so many; > 0."""

    def began(self, backend: str) -> None:
        """The loop of that name is about to take the first step."""

    def saw(self, taken: int, carried: Callable[[], list[torch.Tensor]], results: list[torch.Tensor]) -> bool:
        """The run is there, and has not stopped by itself; should it end here?"""

    def ended(self, taken: int, carried: list[torch.Tensor], results: list[torch.Tensor], stopped: bool) -> None:
        """The run ended there; by itself, or not."""


@dataclass(frozen=True, eq=False)
class Repeated:
    """What came of it.

    Attributes:
        carried: the tensors after the last step.
        results: what the steps gave: a tensor (kept steps, *shape) for each.
        steps: how many were taken.
        stopped: did the result `stop_at` stop being finite?
        backend, source: what ran, and what gives the text of its kernel if it has one.
        reason: why it was that backend.
    """

    carried: list[torch.Tensor]
    results: list[torch.Tensor]
    steps: int
    stopped: bool
    backend: str
    source: Callable[[], str] | None
    reason: str = ASKED


def checked_backend(backend: object) -> str:
    """The backend's name.

    Raises:
        ValueError: there is none of that name.
    """
    if not isinstance(backend, str) or backend not in ("auto", *MODULES):
        got = f"got {shown(backend)}; auto is the fastest that can run it"
        raise ValueError(f"backend: wants auto or one of {', '.join(MODULES)}, {got}")
    return backend


def repeat(
    step: Step,
    inputs: Sequence[torch.Tensor],
    steps: int,
    every: int | None,
    backend: str,
    monitor: Monitor,
    *,
    names: dict[int, str],
    about: object,
    stop_at: int | None = None,
    finite: int = 0,
    offset: int = 0,
    watch: Watch | None = None,
) -> Repeated:
    """Take `steps` steps from `inputs`.

    Args:
        step: takes the list of tensors, returns their successors and its results.
        every: keep the results of steps 0, every, 2 every, ...; None keeps none.
        backend: "auto" or a name of `_loops`.
        monitor: hears Ctrl-C, and is told of progress.
        names: what the caller calls tensors that the step uses, by their ids.
        about: the caller's function, of which warnings are.
        stop_at: the result that ends the run when it is not finite.
        finite: how many of the tensors, from the first on, end it after the last step when they are not finite.
        offset: how many steps came before these, of which `every` counts.
        watch: who else wants to see the run.
    """
    with preparing():
        name, loop, reason = _begun(step, inputs, steps, backend, names, about, stop_at)
    say(f"backend {name}: {reason}")
    options = steps, every, monitor, finite, offset, watch
    if name == "eager":
        return replace(run(name, loop, *options), reason=reason)
    try:
        return replace(run(name, loop, *options, step), reason=reason)
    except Exception as error:
        if backend != "auto" or error is monitor.raised:
            raise
        from ._choice.begin import refusal

        reason = str(refusal(name, error, step, inputs))
        _tell("eager", reason, about)
        return replace(run("eager", begin("eager")(step, inputs, names, stop_at), *options), reason=reason)


def run(
    name: str,
    loop: Loop,
    steps: int,
    every: int | None,
    monitor: Monitor,
    finite: int,
    offset: int = 0,
    watch: Watch | None = None,
    like: Step | None = None,
) -> Repeated:
    """As `repeat`, by a loop of that name which has begun.

    Args:
        finite, offset, watch: as for `repeat`.
        like: what the loop was made of; then the second step of the loop (or the only one) is compared with it.
    """
    import torch

    if watch is not None:
        watch.began(name)
    interval = every or 1
    taken, stopped = 0, False
    kept: list[torch.Tensor] | None = None
    filled = 0
    first = max(1, int(FIRST_SECONDS / loop.step_seconds))
    portion = first if like is None else 1
    checked = min(1, steps - 1)  # the step that is compared
    with monitor.listening():
        while kept is None or (taken < steps and not stopped and not monitor.interrupted):
            count = min(portion, steps - taken)
            if watch is not None:
                count = min(count, watch.most(offset + taken)) or count
            wait = count if every is None else -(offset + taken) % interval
            started = time.perf_counter()
            if like is not None and taken == checked:
                done, results = _compared(like, loop)
                results = results if wait == 0 else [result[:0] for result in results]
                portion = first
            else:
                done, results = loop.advance(count, interval, wait)
                seconds = time.perf_counter() - started
                if like is None or taken > checked:
                    portion = max(1, min(count * 16, int(count * PORTION_SECONDS / max(seconds, 1e-6))))
            taken += done
            stopped = done < count
            if kept is None:
                rows = 0 if every is None else -(-(offset + steps) // interval) - -(-offset // interval)
                needed = rows * sum(result[:1].nbytes for result in results)
                refuse_beyond_memory(needed, f"the outputs of {rows:,} steps take", "a smaller length")
                kept = [_rows(rows, result) for result in results]
            for whole, part in zip(kept, results, strict=True):
                _put(whole[filled : filled + len(part)], part)
            filled += len(results[0]) if results else 0
            monitor.report(taken, steps)
            if watch is not None and not stopped:
                with monitor.callers():
                    ends = watch.saw(offset + taken, loop.carried, [whole[:filled] for whole in kept])
                if ends:
                    break
    carried = loop.carried()
    if taken == steps and not all(bool(torch.isfinite(c).all()) for c in carried[:finite]):
        stopped = True  # in the last step of all, whose result nobody asked for
    results = [whole[:filled] for whole in kept]
    if watch is not None:
        with monitor.callers():
            watch.ended(offset + taken, carried, results, stopped)
    return Repeated(carried, results, taken, stopped, name, loop.source)


def _compared(like: Step, loop: Loop) -> tuple[int, list[torch.Tensor]]:
    """One step, with its results, which is what `like` gives; see `refuse_unsteady`."""
    before = loop.carried()
    done, results = loop.advance(1, 1, 0)
    if done:
        refuse_unsteady(like, before, loop.carried(), [result[0] for result in results])
    return done, results


def _rows(count: int, like: torch.Tensor) -> torch.Tensor:
    """Room for so many rows like those of a tensor, with nothing in it."""
    shape = (count, *like.shape[1:])
    if not _is_numpys(like):
        return like.new_empty(shape)
    import torch

    return torch.from_numpy(uninitialised(shape, like.detach().numpy().dtype))


def _is_numpys(tensor: torch.Tensor) -> bool:
    """Can numpy have its memory? It has no bfloat16."""
    import torch

    return tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16


def _put(to: torch.Tensor, values: torch.Tensor) -> None:
    """Copy, on the CPU by numpy: torch would wake threads for it, and wait for milliseconds if a core is busy."""
    if _is_numpys(to):
        to.numpy()[...] = values.detach().numpy()
    else:
        to.copy_(values)


def _begun(
    step: Step,
    inputs: Sequence[torch.Tensor],
    steps: int,
    backend: str,
    names: dict[int, str],
    about: object,
    stop_at: int | None,
) -> tuple[str, Loop, str]:
    """The backend's name, its loop, and why it is that."""
    from ._choice.begin import asked, begun

    if backend == "fused":
        return backend, asked(step, inputs, names, stop_at), ASKED
    if backend != "auto":
        return backend, begin(backend)(step, inputs, names, stop_at), ASKED
    found = begun(step, inputs, steps, names, stop_at)
    if found.fell_back is not None:
        _tell(found.name, found.fell_back, about)
    return found.name, found.loop, found.reason


def _tell(name: str, reason: str, about: object) -> None:
    slower = "" if name in ("fused", "triton") else ", many times slower"
    warn_once(f"running with backend={name!r}{slower}: {reason}", RuntimeWarning, about)
