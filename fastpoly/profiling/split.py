"""Where the time of an eager step goes, by differences of measurements.

Requirements: each part is what it is called, by a measurement that does not involve the others; the parts and a stated
rest add up to the step's time; a loss of the user's own is split by the same rules. On the CPU: on a GPU the parts
overlap, and the trace shows how.

torch's profiler counts what a step does and draws it, but is no clock for parts of a microsecond: noting an operation
takes as long as doing one. So everything is timed without it:

    arithmetic      the step, less the step on one sample
    graph           the loss on one sample, less the same under no_grad
    python          the calls into torch from Python, times what Python's side of a call takes; and backward(), less
                    the engine's own entry point called with the same
    allocator       the tensors that the profiler sees allocated, times what a new tensor takes
    dispatcher      the operations on one sample, repeated from a list without autograd, less Python's side of that, less
                    the allocator
    engine          the engine's entry point, less the backward pass's operations, repeated in the same way
    rest            what is left: the interpreter's own work between the calls, attributes such as .data and .grad, and
                    all that the others got wrong

Python's side of a call is that of x.mul_(y) on one element, less what each of a hundred such takes within one call from
C++ (`torch._foreach_mul_`, which on the CPU is a loop over mul_); a new tensor is the difference of `torch._foreach_neg`
to its form in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as tree

from .._post import DEGREE, samples
from .._problem import integer
from .chrome_trace import allocations_a_step
from .eager_step import EagerStep, own_step, post_step
from .replay import Call, recorded, replay
from .results import Part, Split
from .rounds import ns_a_call

ROUNDS = 50
"""How often everything is timed: an eighth of a second a round."""

MANY = 100
"""How many operations go into one call from C++; the call itself is then lost among them."""


def step_split(*, rounds: int = ROUNDS) -> Split:
    """Where the time of a step of the post's autograd loop goes: Python, dispatcher, graph, engine, allocator, sums.

    Args:
        rounds: how often everything is timed.

    Returns:
        A Split of the step of `fastpoly.reference`, on the post's samples in float32.
    """
    x, y = (torch.from_numpy(values).float() for values in samples())
    return split_of(post_step(x, y, DEGREE), post_step(x[50:51], y[50:51], DEGREE), integer(rounds, "rounds", 1))


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
    thin = one or step
    operations = recorded(thin)
    backward_calls, all_calls = operations.backward, operations.outside + operations.backward
    ns = ns_a_call(
        {
            "step": step.step,
            "step on one": thin.step,
            "forward": thin.forward,
            "forward, no graph": _without_graph(thin.forward),
            "before backward": lambda: _before_backward(thin),
            "to backward": lambda: _before_backward(thin).backward(),  # type: ignore[no-untyped-call]
            "to engine": lambda: _engine(_before_backward(thin)),
            "replayed": _without_graph(lambda: replay(all_calls)),
            "replayed backward": _without_graph(lambda: replay(backward_calls)),
            **_units(),
        },
        rounds,
    )
    call_ns = (ns["calls from Python"] - ns["calls from C++"]) / MANY
    tensor_ns = (ns["new tensors"] - ns["no new tensors"]) / MANY
    allocations = allocations_a_step(step)
    python = operations.python_calls * call_ns + ns["to backward"] - ns["to engine"]
    engine_ops = ns["replayed backward"] - len(backward_calls) * call_ns
    engine = ns["to engine"] - ns["before backward"] - engine_ops - call_ns  # one of these is called from Python
    allocator = allocations * tensor_ns
    dispatcher = ns["replayed"] - len(all_calls) * call_ns - allocator
    if one is None:
        arithmetic, how = 0.0, "the data has no axis of samples to cut: it is part of the dispatcher's"
    else:
        arithmetic, how = ns["step"] - ns["step on one"], "difference: the step, less the step on one sample"
    parts = [
        Part(
            "Python",
            python,
            f"micro-measurement: {operations.python_calls} calls from Python at {call_ns:,.0f} ns; and difference: "
            f"backward() less the engine's entry point, {ns['to backward'] - ns['to engine']:,.0f} ns",
        ),
        Part(
            "dispatcher",
            dispatcher,
            f"difference: {len(all_calls)} operations on one sample, repeated without autograd, less Python's side of "
            "the calls, less the allocator",
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
        Part("arithmetic", arithmetic, how),
    ]
    rest = ns["step"] - sum(part.ns for part in parts)
    parts.append(Part("rest", rest, "what is left: the interpreter between the calls, .data and .grad, and all errors"))
    return Split(ns["step"], tuple(parts))


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


def _without_graph(call: Callable[[], object]) -> Callable[[], None]:
    def quiet() -> None:
        with torch.no_grad():
            call()

    return quiet


def _units() -> dict[str, Callable[[], object]]:
    """Calls that differ in one thing each: MANY operations from Python or from C++, with new tensors or without."""
    with torch.inference_mode():  # so that the calls from C++ pass by no more of the dispatcher than those from Python
        x, y = torch.ones(1), torch.ones(1)
    xs, ys = [x] * MANY, [y] * MANY
    calls: list[Call] = [(torch.Tensor.mul_, (x, y), {})] * MANY
    units: dict[str, Callable[[], object]] = {
        "calls from Python": lambda: replay(calls),
        "calls from C++": lambda: torch._foreach_mul_(xs, ys),
        "new tensors": lambda: torch._foreach_neg(xs),
        "no new tensors": lambda: torch._foreach_neg_(xs),
    }
    return {name: _in_inference(call) for name, call in units.items()}


def _in_inference(call: Callable[[], object]) -> Callable[[], None]:
    def inside() -> None:
        with torch.inference_mode():
            call()

    return inside
