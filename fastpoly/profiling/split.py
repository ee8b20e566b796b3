"""Where the time of an eager step goes, by differences of measurements.

Requirements: each part is what it is called, by a measurement that does not involve the others; the parts and a stated
rest add up to the step's time; a loss of the user's own is split by the same rules. On the CPU: on a GPU the parts
overlap, and the trace shows how.

torch's profiler counts what a step does and draws it, but is no clock for parts of a microsecond: noting an operation
takes as long as doing one. So everything is timed without it, in processor time of the thread:

    arithmetic      every operation, repeated by itself, less the same on one sample
    graph           the loss, less the loss under no_grad
    python          the calls into torch from Python, times what Python's side of a call takes; and backward(), less
                    the engine's own entry point called with the same
    allocator       the tensors that the profiler sees allocated, times what a new tensor takes
    dispatcher      the operations, repeated in order from a list without autograd, less Python's side of that, less the
                    allocator and the arithmetic: what finds and sets up each operation
    engine          the engine's entry point, less the backward pass's operations, repeated in the same way
    rest            what is left: the interpreter's own work between the calls, attributes such as .data and .grad, and
                    all that the others got wrong

Python's side of a call is that of x.mul_(y) on one element, less what each of a hundred such takes in one call from C++
(`torch._foreach_mul_`, on the CPU a loop over mul_); a new tensor is the difference of `torch._foreach_neg` to its form
in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from .._post import DEGREE
from .._problem import integer
from .._torch_private import tree
from .chrome_trace import allocations_a_step
from .eager_step import EagerStep, own_step, post_samples, post_step
from .replay import Operation, recorded, replay
from .results import Part, Split
from .rounds import CALLS_SECONDS, MOST_ROUNDS, PARTS_ROUNDS, Call, ns_of_each

MANY = 100
"""How many operations go into one call from C++; the call itself is then lost among them."""


def step_split(*, rounds: int = PARTS_ROUNDS) -> Split:
    """Where the time of a step of the post's autograd loop goes: Python, dispatcher, graph, engine, allocator, sums.

    Args:
        rounds: how often everything is timed.

    Returns:
        A Split of the step of `fastpoly.reference`, on the post's samples in float32.
    """
    x, y = post_samples()
    return split_of(
        post_step(x, y, DEGREE), post_step(x[50:51], y[50:51], DEGREE), integer(rounds, "rounds", 1, MOST_ROUNDS)
    )


def split_own(loss: Callable[..., torch.Tensor], params: Any, data: Sequence[Any], rounds: int) -> Split:
    """The same for a loss of the user's own."""
    thin = one_sample(data)
    one = None
    if thin is not None:
        try:
            one = own_step(loss, params, thin)
            one.step()
        except Exception:  # whatever a loss may raise on data that it was not made for
            one = None
    return split_of(own_step(loss, params, data), one, rounds)


def one_sample(data: Sequence[Any]) -> tuple[Any, ...] | None:
    """The data with one sample, the n samples lying along the first axis; None if there is no such axis."""
    leaves, structure = tree.tree_flatten(tuple(data))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim()]
    n = max((len(tensor) for tensor in tensors), default=0)
    if n < 2:
        return None
    cut = [leaf[:1] if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == n else leaf for leaf in leaves]
    thin: tuple[Any, ...] = tree.tree_unflatten(cut, structure)
    return thin


def split_of(step: EagerStep, one: EagerStep | None, rounds: int) -> Split:
    """Split `step`; `one` is the same on one sample, or None if there is no such thing."""
    operations = recorded(step)
    backward_calls, all_calls = operations.backward, operations.outside + operations.backward
    ns = _ns_a_call(
        {
            "step": Call(step.step),
            "forward": Call(step.forward),
            "forward, no graph": Call(step.forward, torch.no_grad),
            "before backward": Call(partial(_before_backward, step)),
            "to backward": Call(lambda: _before_backward(step).backward()),  # type: ignore[no-untyped-call]
            "to engine": Call(lambda: _engine(_before_backward(step))),
            "replayed": Call(partial(replay, all_calls), torch.no_grad),
            "replayed backward": Call(partial(replay, backward_calls), torch.no_grad),
            **_units(),
        },
        rounds,
    )
    call_ns = (ns["calls from Python"] - ns["calls from C++"]) / MANY
    tensor_ns = (ns["new tensors"] - ns["no new tensors"]) / MANY
    allocations = allocations_a_step(step)
    wrapper = ns["to backward"] - ns["to engine"]
    backward_ns = ns["replayed backward"] - len(backward_calls) * call_ns
    engine = ns["to engine"] - ns["before backward"] - backward_ns - call_ns  # one of these is called from Python
    arithmetic = _arithmetic(all_calls, one, max(1, rounds // 4))
    allocator = allocations * tensor_ns
    dispatcher = ns["replayed"] - len(all_calls) * call_ns - allocator - (arithmetic or 0.0)
    parts = [
        Part(
            "Python",
            operations.python_calls * call_ns + wrapper,
            f"micro-measurement: {operations.python_calls} calls at {call_ns:,.0f} ns; difference: backward() less the "
            f"engine's entry point, {wrapper:,.0f} ns",
        ),
        Part(
            "dispatcher",
            dispatcher,
            f"difference: {len(all_calls)} operations repeated without autograd, less Python's side of their calls, "
            "allocator and arithmetic",
        ),
        Part("graph building", ns["forward"] - ns["forward, no graph"], "difference: the loss, less it under no_grad"),
        Part(
            "backward engine",
            engine,
            f"difference: the engine's entry point, less the {len(backward_calls)} operations of the backward pass",
        ),
        Part(
            "allocator",
            allocator,
            f"torch.profiler: {allocations:g} allocations; micro-measurement: {tensor_ns:,.0f} ns for a new tensor",
        ),
        Part(
            "arithmetic",
            arithmetic or 0.0,
            "the data cannot be cut to one sample: it is in the dispatcher's part"
            if arithmetic is None
            else "difference: each operation repeated, less the same on one sample",
        ),
    ]
    rest = ns["step"] - sum(part.ns for part in parts)
    parts.append(Part("rest", rest, "what is left: the interpreter between the calls, .data and .grad; and all errors"))
    return Split(ns["step"], tuple(parts))


def _arithmetic(calls: list[Operation], one: EagerStep | None, rounds: int) -> float | None:
    """Nanoseconds that the operations take longer than on one sample; None if they are not the same there."""
    if one is None:
        return None
    recording = recorded(one)
    thin = recording.outside + recording.backward
    if [call[0] for call in thin] != [call[0] for call in calls]:
        return None
    many = {
        f"{i} {which}": Call(partial(replay, [call] * MANY), torch.no_grad)
        for i, both in enumerate(zip(calls, thin, strict=True))
        for which, call in zip(("all", "one"), both, strict=True)
    }
    ns = _ns_a_call(many, rounds)
    return sum(ns[f"{i} all"] - ns[f"{i} one"] for i in range(len(calls))) / MANY


def _ns_a_call(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Nanoseconds of this thread's processor time that a call of each takes."""
    return ns_of_each({name: call.seconds for name, call in calls.items()}, CALLS_SECONDS, rounds)


def _before_backward(step: EagerStep) -> torch.Tensor:
    value = step.forward()
    step.clear()
    return value


def _engine(value: torch.Tensor) -> None:
    """What value.backward() comes to, without its checks in Python."""
    one = torch.ones_like(value)
    torch.autograd.variable.Variable._execution_engine.run_backward(  # type: ignore[attr-defined]
        (value,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def _units() -> dict[str, Call]:
    """Calls that differ in one thing each: MANY operations from Python or from C++, with new tensors or without.

    In inference mode, so that the calls from C++ pass by no more of the dispatcher than those from Python.
    """
    with torch.inference_mode():
        x, y = torch.ones(1), torch.ones(1)
    xs, ys = [x] * MANY, [y] * MANY
    calls: list[Operation] = [(torch.Tensor.mul_, (x, y), {})] * MANY
    return {
        "calls from Python": Call(partial(replay, calls), torch.inference_mode),
        "calls from C++": Call(lambda: torch._foreach_mul_(xs, ys), torch.inference_mode),
        "new tensors": Call(lambda: torch._foreach_neg(xs), torch.inference_mode),
        "no new tensors": Call(lambda: torch._foreach_neg_(xs), torch.inference_mode),
    }
