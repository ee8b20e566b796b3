"""The rungs: the post's autograd loop, and what becomes of it when one thing at a time is changed.

Requirements: a rung is the loop that a reader would write, whole and short, so that the change between two rungs can be
read off; it starts from zeros and ends with the weights and every mse of the post's loop, up to rounding; and the
sentence that goes with it says what to do and why it pays, or that it does not.

A loop takes (problem, steps) and returns the weights (degree + 1, 1) and the mse before every step (steps,), on the
device of the problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import numpy as np
import torch

from .. import reference
from .._arrays import Array
from .._backends import backends, missing_cuda, missing_torch_compile
from .._fit import solve
from .._problem import FitProblem

BLOCK = 8
"""Steps in one compiled call and in one captured graph; see `fastpoly._loops.compiled` for why 8."""

Loop = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Problem:
    """What the loops fit.

    Attributes:
        x, y: (n, 1), float32 or float64, on the device that the ladder runs on.
        degree: of the polynomial.
        learn_rate: factor on the gradient.
    """

    x: torch.Tensor
    y: torch.Tensor
    degree: int
    learn_rate: float

    @property
    def zeros(self) -> torch.Tensor:
        """The weights that every loop starts from."""
        return self.x.new_zeros(self.degree + 1, 1)

    @property
    def leaf(self) -> torch.Tensor:
        """The same, for autograd."""
        return self.zeros.requires_grad_()

    @property
    def powers(self) -> torch.Tensor:
        """(n, degree + 1): the powers of x."""
        return self.x ** torch.arange(self.degree + 1, dtype=self.x.dtype, device=self.x.device)

    @property
    def on_gpu(self) -> bool:
        """Is it on a GPU?"""
        return self.x.device.type == "cuda"


@dataclass(frozen=True, eq=False)
class Rung:
    """One change.

    Attributes:
        name: what the loop is now.
        change: what was changed in the rung before, or in the last one that was kept.
        why: one sentence: what to do, and why it costs what it costs.
        begin: makes the loop, a function of the number of steps; compiles, if it must.
        kept: is the next rung made from this one? What makes a step slower, or gives up autograd, is shown and taken
            back.
        missing: None, or why the rung cannot run on this problem.
    """

    name: str
    change: str
    why: str
    begin: Callable[[Problem], Loop]
    kept: bool = True
    missing: Callable[[Problem], str | None] = lambda _: None


# -- autograd, step by step
# ----------------------------------------------------------------------------------------


def post(problem: Problem) -> Loop:
    """The post's loop: `fastpoly.reference`."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y, w, trace = problem.x, problem.y, problem.leaf, problem.x.new_zeros(steps)
        for i in range(steps):
            trace[i] = reference.autograd_step(x, y, w, problem.learn_rate)
        return w.detach(), trace

    return loop


def powers_hoisted(problem: Problem) -> Loop:
    """As `post`, the powers made once."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, trace, powers = problem.y, problem.leaf, problem.x.new_zeros(steps), problem.powers
        for i in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            if w.grad is not None:
                w.grad.data.zero_()
            mse.backward()  # type: ignore[no-untyped-call]
            assert w.grad is not None
            w.data -= problem.learn_rate * w.grad.data
            trace[i] = mse.data
        return w.detach(), trace

    return loop


def no_data(problem: Problem) -> Loop:
    """As `powers_hoisted`, with no_grad for `.data`."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, trace, powers = problem.y, problem.leaf, problem.x.new_zeros(steps), problem.powers
        for i in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            if w.grad is not None:
                w.grad.zero_()
            mse.backward()  # type: ignore[no-untyped-call]
            assert w.grad is not None
            with torch.no_grad():
                w -= problem.learn_rate * w.grad
                trace[i] = mse
        return w.detach(), trace

    return loop


def gradient_none(problem: Problem) -> Loop:
    """As `no_data`, without a gradient to add to."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, trace, powers = problem.y, problem.leaf, problem.x.new_zeros(steps), problem.powers
        for i in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            w.grad = None
            mse.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                w -= problem.learn_rate * w.grad  # type: ignore[operator]
                trace[i] = mse
        return w.detach(), trace

    return loop


def autograd_grad(problem: Problem) -> Loop:
    """As `gradient_none`, with torch.autograd.grad."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, trace, powers = problem.y, problem.leaf, problem.x.new_zeros(steps), problem.powers
        for i in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            (gradient,) = torch.autograd.grad(mse, w)
            with torch.no_grad():
                w -= problem.learn_rate * gradient
                trace[i] = mse
        return w.detach(), trace

    return loop


def trace_once(problem: Problem) -> Loop:
    """As `autograd_grad`, with the errors kept as they come."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, powers = problem.y, problem.leaf, problem.powers
        errors = []
        for _ in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            (gradient,) = torch.autograd.grad(mse, w)
            with torch.no_grad():
                w -= problem.learn_rate * gradient
            errors.append(mse.detach())
        return w.detach(), torch.stack(errors)

    return loop


def horner(problem: Problem) -> Loop:
    """As `trace_once`, by Horner's scheme."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y, w = problem.x, problem.y, problem.leaf
        errors = []
        for _ in range(steps):
            *rest, model = w.unbind()
            for coefficient in reversed(rest):
                model = torch.addcmul(coefficient, model, x)
            mse = ((y - model) ** 2).mean()
            (gradient,) = torch.autograd.grad(mse, w)
            with torch.no_grad():
                w -= problem.learn_rate * gradient
            errors.append(mse.detach())
        return w.detach(), torch.stack(errors)

    return loop


def in_place(problem: Problem) -> Loop:
    """As `trace_once`, the update as one operation."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, powers = problem.y, problem.leaf, problem.powers
        errors = []
        for _ in range(steps):
            mse = ((y - powers.mm(w)) ** 2).mean()
            (gradient,) = torch.autograd.grad(mse, w)
            with torch.no_grad():
                w.sub_(gradient, alpha=problem.learn_rate)
            errors.append(mse.detach())
        return w.detach(), torch.stack(errors)

    return loop


def functional(problem: Problem) -> Loop:
    """As `in_place`, with torch.func."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, powers = problem.y, problem.zeros, problem.powers

        def loss(w: torch.Tensor) -> torch.Tensor:
            return ((y - powers.mm(w)) ** 2).mean()

        gradient_and_loss = torch.func.grad_and_value(loss)
        errors = []
        for _ in range(steps):
            gradient, mse = gradient_and_loss(w)
            w.sub_(gradient, alpha=problem.learn_rate)
            errors.append(mse)
        return w, torch.stack(errors)

    return loop


def by_hand(problem: Problem) -> Loop:
    """As `in_place`, the gradient written out."""

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        y, w, powers = problem.y, problem.zeros, problem.powers
        transposed, rate = powers.t(), -2 * problem.learn_rate / len(y)
        errors = []
        for _ in range(steps):
            residual = y - powers.mm(w)
            errors.append((residual**2).mean())
            w.sub_(transposed.mm(residual), alpha=rate)
        return w, torch.stack(errors)

    return loop


# -- compiled
# ----------------------------------------------------------------------------------------


def compiled_step(problem: Problem) -> Loop:
    """A step of autograd by torch.compile."""
    return _compiled(problem, 1)


def compiled_block(problem: Problem) -> Loop:
    """BLOCK steps of autograd by torch.compile."""
    return _compiled(problem, BLOCK)


def _compiled(problem: Problem, block: int) -> Loop:
    y, powers, rate = problem.y, problem.powers, problem.learn_rate

    def loss(w: torch.Tensor) -> torch.Tensor:
        return ((y - powers.mm(w)) ** 2).mean()

    def advance(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        errors = []
        for _ in range(block):
            gradient, mse = torch.func.grad_and_value(loss)(w)
            w = w - rate * gradient
            errors.append(mse)
        return w, torch.stack(errors)

    # Dynamo counts compilations by code object, 8 at most: each needs one of its own.
    fresh = FunctionType(advance.__code__.replace(), advance.__globals__, advance.__name__, None, advance.__closure__)
    step = torch.compile(fresh, fullgraph=True, dynamic=False)

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        _refuse_part(steps, block)
        w = problem.zeros
        errors = []
        with torch.no_grad():
            for _ in range(steps // block):
                w, some = step(w)
                errors.append(some)
        return w, torch.cat(errors)

    return loop


def captured(problem: Problem) -> Loop:
    """BLOCK steps of autograd as one CUDA graph."""
    y, w, powers, errors = problem.y, problem.leaf, problem.powers, problem.x.new_zeros(BLOCK)

    def advance() -> None:
        for i in range(BLOCK):
            mse = ((y - powers.mm(w)) ** 2).mean()
            (gradient,) = torch.autograd.grad(mse, w)
            with torch.no_grad():
                w.sub_(gradient, alpha=problem.learn_rate)
                errors[i] = mse

    # Libraries set themselves up at the first call, which a capture does not take.
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        advance()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance()

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        _refuse_part(steps, BLOCK)
        trace = errors.new_empty(steps // BLOCK, BLOCK)
        with torch.no_grad():
            w.zero_()
            for row in trace:
                graph.replay()
                row.copy_(errors)
        return w.detach().clone(), trace.reshape(-1)

    return loop


def fused(problem: Problem) -> Loop:
    """The whole loop of autograd as one kernel."""
    backend, precision = _fused_name(problem), "double" if problem.x.dtype == torch.float64 else "single"
    x, y = (_vector(samples) for samples in (problem.x, problem.y))

    def loop(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        whole = FitProblem.checked(x, y, problem.degree, steps, problem.learn_rate, precision=precision)
        run = solve(whole, backend)
        return torch.from_numpy(run.weights).reshape(-1, 1), torch.from_numpy(run.mse)

    return loop


def _vector(samples: torch.Tensor) -> Array:
    return np.asarray(samples.cpu().numpy()).reshape(-1)


def _fused_name(problem: Problem) -> str:
    return "fused-autograd-gpu" if problem.on_gpu else "fused-autograd"


def _refuse_part(steps: int, block: int) -> None:
    if steps % block:
        raise ValueError(f"steps: wants a multiple of {block}, got {steps}")


def _no_compiler(_: Problem) -> str | None:
    return missing_torch_compile()


def _no_capture(problem: Problem) -> str | None:
    return missing_cuda() or (None if problem.on_gpu else "this ladder runs on the CPU, a CUDA graph on the GPU")


def _no_fused(problem: Problem) -> str | None:
    name = _fused_name(problem)
    known = {backend.name: backend.unavailable for backend in backends()}
    return known.get(name, f"there is no backend {name} yet")


RUNGS = (
    Rung(
        "the post's loop",
        "as published, on current torch",
        "Each of the 25 small operations of a step is looked up, set up and given a new tensor, those of the loss are "
        "called from Python and noted for autograd, and none of them has more to do than 500 numbers.",
        post,
    ),
    Rung(
        "powers hoisted",
        "the powers of x are made once, before the loop",
        "Make before the loop what does not depend on the weights: the post makes the exponents, converts them and "
        "raises 100 numbers to five powers in every step, and pow is the slowest arithmetic in it.",
        powers_hoisted,
    ),
    Rung(
        "no .data",
        "the update and the trace under torch.no_grad()",
        "Do it for safety, since .data hides a write from autograd's checks, and not for speed: entering and leaving "
        "no_grad is work in Python and costs at least what the four tensors did that .data makes.",
        no_data,
    ),
    Rung(
        "gradient None",
        "w.grad = None in place of w.grad.zero_()",
        "Drop the gradient rather than zero it: backward then hands its tensor over, and two small operations go, "
        "zeroing the old one and adding to it, which hardly shows beside all that stays.",
        gradient_none,
    ),
    Rung(
        "autograd.grad",
        "torch.autograd.grad(mse, w) in place of mse.backward()",
        "Ask for the gradient that you want for clarity: it is returned, and there is no .grad to keep clear; the "
        "engine behind is the same, and so, nearly, is the time.",
        autograd_grad,
    ),
    Rung(
        "trace once",
        "errors kept in a list, stacked once after the loop",
        "Keep mse.detach() and stack at the end: trace[i] = mse makes a view of one element and copies into it, two "
        "small operations a step, and on a GPU a kernel.",
        trace_once,
    ),
    Rung(
        "Horner",
        "addcmul by addcmul in place of one product with the powers",
        "Do not, in eager torch: the product with the powers is one operation, Horner's scheme is one for each degree, "
        "and autograd has several more for each of these, whatever the arithmetic saves.",
        horner,
        kept=False,
    ),
    Rung(
        "in place",
        "w.sub_(gradient, alpha=learn_rate) in place of w -= learn_rate * gradient",
        "Let one operation scale and subtract: it saves the other one and its tensor, which is little beside a pass of "
        "autograd.",
        in_place,
    ),
    Rung(
        "torch.func.grad",
        "torch.func.grad_and_value(loss)(w) in place of torch.autograd.grad",
        "Do not, in an eager loop: every call enters and leaves a level of function transforms in Python and wraps "
        "each tensor in it; it is for what is compiled.",
        functional,
        kept=False,
    ),
    Rung(
        "by hand",
        "the gradient written out, no autograd at all",
        "This is what autograd itself costs: the graph, the engine, and those operations of its formulas that nobody "
        "would write by hand.",
        by_hand,
        kept=False,
    ),
    Rung(
        "compile, 1 step",
        "torch.compile of a step, autograd's gradient in it",
        "Compile the step, and autograd runs once, while compiling: what stays is a call a step, whose guards, "
        "wrappers and new tensors cost more than the arithmetic.",
        compiled_step,
        missing=_no_compiler,
    ),
    Rung(
        f"compile, {BLOCK} steps",
        f"{BLOCK} steps in one compiled call",
        "Compile several steps in one: they share the price of a call, but compiling takes longer with each of them.",
        compiled_block,
        missing=_no_compiler,
    ),
    Rung(
        "CUDA graph",
        f"{BLOCK} steps of autograd captured once and replayed",
        "Capture the step: a replay launches its kernels one after the other from a list, and neither Python nor "
        "autograd runs between them.",
        captured,
        missing=_no_capture,
    ),
    Rung(
        "fused",
        "the whole loop, traced from autograd, as one kernel",
        "Let fastpoly.descend make a loop of it: the weights stay in registers, and between two steps there is no "
        "call, no new tensor and no Python, only arithmetic.",
        fused,
        missing=_no_fused,
    ),
)
"""In the order in which they are climbed."""
