"""`scan`: the loop that torch lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._memory import available_bytes
from ._monitor import Monitor
from ._problem import MAX_STEPS, integer
from ._repeat import checked_backend, repeat
from ._tensors import (
    need_torch,
    pair,
    refuse_changed,
    refuse_no_dense_tensor,
    refuse_no_function,
    refuse_no_tensor,
    tensor_labels,
)

if TYPE_CHECKING:
    import torch


PART = 16
"""Of the free memory: beside the carry there is what steps make of it."""


def scan(
    step: Callable[..., tuple[Any, Any]],
    carry: Any,
    data: Any = (),
    length: int | None = None,
    *,
    xs: Any = None,
    reverse: bool = False,
    checkpoint_bytes: int | None = None,
    backend: str = "auto",
) -> tuple[Any, Any]:
    """Run carry, output = step(carry, *data, x) `length` times, as one compiled loop.

    The step is traced once and fused into one kernel (see `descend`): whatever it computes from `data` alone is
    computed once, and between two steps nothing happens in Python.

    In a loss of `descend` or `value_and_grad`, or in another scan's step, it is a loop within their kernel, and what
    comes out has a gradient for all that the step gets or reaches: carry, data, xs, params of a module. The step is
    traced once there, too, and its gradient once, so that 100,000 steps are compiled as soon as 10.

    Elsewhere, where a tensor requires a gradient (and not under torch.no_grad()), torch takes the steps one by one.

    Args:
        step: takes the carry, the data and, if there are xs, a slice of these; returns the next carry and an output. It
            must do the same operations in every step and depend on nothing else that changes.
        carry: tensors of one float dtype, of whole numbers or of truths, on the CPU or on a CUDA GPU: a tensor, or a
            list, tuple or dict of such, nested at will. Whole numbers are fused where floats hold them exactly: what is
            wrapped around with %, or kept between two numbers, and counters in float64.
        data: what else the step takes, the same in every step: a tensor or a tuple.
        length: how many steps; with xs, as many as these have slices. With 0 the step is still looked at, to know what
            its outputs are like.
        xs: what else the step takes, another in every step: a tensor whose first axis is that of the steps, or a list,
            tuple or dict of such.
        reverse: does the first step take the last slice? The outputs lie as the slices do.
        checkpoint_bytes: how much of the carry may be kept for a gradient. Where that before each step is more, it is
            kept before every sqrt(length)-th step (a checkpoint), and the steps between are taken again; a carry with
            whole numbers is kept in any case. None for a sixteenth of the free memory.
        backend: "fused" (one kernel of machine code), "compile" (torch.compile, blocks of steps), "eager" (torch as it
            is), or "auto": the one that is done the soonest of those that can run the step; a RuntimeWarning says why
            if the fused loop cannot. On a GPU it is "triton", "cudagraph", "compile", "eager". See `descend`; what was
            taken and why is logged by the logger "fastpoly" at level INFO. Within a loss it is that of the loss.

    Returns:
        The last carry, and the outputs of all steps: in the structure of one output, with the steps as first axis of
        each tensor.

    Raises:
        TypeError, ValueError: an argument cannot be meant, or the step returns a carry of another structure, shape or
            dtype than it got.
        UnsupportedOperationError: the step does what the backend cannot do.
        BackendUnavailableError: torch, a compiler or a GPU is missing.
        MemoryError: the outputs do not fit.
        KeyboardInterrupt: Ctrl-C.
    """
    need_torch()
    refuse_no_function(step, "step")
    backend = checked_backend(backend)
    if checkpoint_bytes is not None:
        checkpoint_bytes = integer(checkpoint_bytes, "checkpoint_bytes", 0, 2**60)
    return _Steps(step, carry, data, length, xs, reverse, checkpoint_bytes).taken(backend)


class _Steps:
    """The steps of a scan."""

    def __init__(
        self,
        step: Callable[..., tuple[Any, Any]],
        carry: Any,
        data: Any,
        length: int | None,
        xs: Any,
        reverse: bool,
        checkpoint_bytes: int | None,
    ) -> None:
        from ._torch_private import tree

        self.step, self.reverse = step, reverse
        self.most_bytes = _most_bytes() if checkpoint_bytes is None else checkpoint_bytes
        self.data = data if isinstance(data, tuple) else (data,)
        self.start, self.structure = tree.tree_flatten(carry)
        if not self.start:
            raise ValueError("carry: has no tensors; pass a tensor, or a list, tuple or dict of them")
        for leaf in self.start:
            refuse_no_dense_tensor(leaf, "carry")
        self.form: Any = None
        self.xs: list[Any] = []
        if xs is not None:
            self.xs, self.form = tree.tree_flatten(xs)
        self.length = self._length(length, xs is not None)
        self.output: Any = None
        self.has_output = True

    def _length(self, length: int | None, has_xs: bool) -> int:
        for one in self.xs:
            refuse_no_dense_tensor(one, "xs")
        sizes = {len(one) if one.ndim else None for one in self.xs}
        if has_xs and (len(sizes) != 1 or None in sizes):
            shapes = ", ".join(str(tuple(one.shape)) for one in self.xs)
            raise ValueError(
                f"xs: wants tensors with one leading axis, a slice for each step; got {shapes or 'no tensors'}"
            )
        size: int | None = next(iter(sizes), None)
        if length is None:
            if size is None:
                raise ValueError("length: wants the number of steps where there are no xs, got None; pass an integer")
            return size
        length = integer(length, "length", 0, MAX_STEPS)
        if size is not None and size != length:
            raise ValueError(f"xs: wants a slice for each of {length:,} steps, got {size:,}; leave length away")
        return length

    def taken(self, backend: str) -> tuple[Any, Any]:
        """Take them; the last carry and the outputs."""
        from ._called_loops import LONG, called
        from ._fuse.trace import active
        from ._fuse.written_loops import loop
        from ._inside import is_inside

        tracer = active()
        given = self.start, self.xs, self.length, self.reverse, self.most_bytes
        if self.length and tracer is not None:
            return self._nested(loop(tracer, self.flat, *given))
        if self.length and tracer is None and not is_inside() and not self._requires_grad():
            try:
                return self._compiled(backend)
            except _NeedsGradientError:
                pass
        found: list[torch.Tensor] | None = None
        if self.length > LONG and tracer is None and backend in ("auto", "fused"):
            found = called(self.flat, self._taken, *given)
        return self._nested(self._taken(self.start, self.xs, self.length) if found is None else found)

    def flat(self, leaves: Sequence[torch.Tensor], row: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """A step of the tensors in the carry and in a slice: those of the next carry, and those of the output."""
        from ._torch_private import tree

        last = () if self.form is None else (tree.tree_unflatten(list(row), self.form),)
        returned = self.step(tree.tree_unflatten(list(leaves), self.structure), *self.data, *last)
        after, output = pair(returned, "step: wants to return (carry, output)")
        successors, structure = tree.tree_flatten(after)
        if structure != self.structure:
            raise ValueError(
                f"step: returns a carry of another structure: {structure}, wants {self.structure}; return it as it came"
            )
        refuse_changed(successors, leaves, "step", "carry")
        results, self.output = tree.tree_flatten(() if output is None else output)
        self.has_output = output is not None
        for result in results:
            refuse_no_tensor(result, "step: an output")
        return [*successors, *results]

    def _nested(self, found: Sequence[torch.Tensor]) -> tuple[Any, Any]:
        from ._torch_private import tree

        count = len(self.start)
        output = tree.tree_unflatten(list(found[count:]), self.output) if self.has_output else None
        return tree.tree_unflatten(list(found[:count]), self.structure), output

    def _requires_grad(self) -> bool:
        import torch

        from ._torch_private import tree

        given = [*self.start, *self.xs, *tree.tree_leaves(self.data)]
        return torch.is_grad_enabled() and any(isinstance(one, torch.Tensor) and one.requires_grad for one in given)

    def _taken(self, leaves: Sequence[torch.Tensor], xs: Sequence[torch.Tensor], length: int) -> list[torch.Tensor]:
        """By torch."""
        from ._fuse.written_loops import one_by_one

        return one_by_one(self.flat, leaves, xs, length, self.reverse)

    # -- as a loop of its own

    def _compiled(self, backend: str) -> tuple[Any, Any]:
        import torch

        from ._inside import inside
        from ._training import row

        tracks, count, length = torch.is_grad_enabled(), len(self.start), self.length
        place: list[torch.Tensor] = []
        if self.xs:
            place = [torch.tensor(length - 1 if self.reverse else 0, device=self.start[0].device)]

        def flat(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
            with inside(), torch.set_grad_enabled(tracks):
                found = self.flat(leaves[:count], [row(one, leaves[-1]) for one in self.xs])
                following = [(one + (length - 1 if self.reverse else 1)) % length for one in leaves[count:]]
            if any(one.requires_grad for one in found):
                raise _NeedsGradientError
            return [*found[:count], *following, *found[count:]]

        monitor = Monitor()
        start = [*self.start, *place]
        run = repeat(flat, start, length, 1, backend, monitor, names=tensor_labels(self.data), about=self.step)
        if monitor.interrupted:
            raise KeyboardInterrupt(f"interrupted after {run.steps:,} of {length:,} steps")
        results = [one.flip(0) for one in run.results] if self.reverse else run.results
        return self._nested([*run.carried[:count], *results])


def _most_bytes() -> float:
    free = available_bytes()
    return math.inf if free is None else free / PART


class _NeedsGradientError(Exception):
    """What comes of the step has one."""
