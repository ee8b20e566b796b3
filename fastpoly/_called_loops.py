"""A long loop of `scan` where nothing is traced: a call of a kernel for its values, and one for their gradients.

Requirements: what comes out is for torch's autograd as if torch had taken the steps one by one. Nobody can tell whether
a step is the same function as in the last call, so that it is traced each time; the kernel is found again if it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ._errors import UnsupportedOperationError
from ._fuse.bodies import Step
from ._fuse.evaluation import Evaluation
from ._fuse.trace import active, trace
from ._fuse.written_loops import loop, one_by_one
from ._inside import inside
from ._reached import Reached
from ._steadiness import refuse_unsteady
from ._torch_private import is_watched

LONG = 1000
"""Steps that torch takes in some tens of milliseconds, as long as it takes to trace them."""

COMPARED = 8
"""The first steps, whose outputs (or carry, if there are none) are compared with torch's own. So are the last ones, if
the carry that these begin with is among the outputs."""

Take = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], int], list[torch.Tensor]]
"""take(starts, rows, length): the last carry and the outputs, by torch step by step."""


def called(
    step: Step,
    take: Take,
    starts: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    length: int,
    reverse: bool,
    most_bytes: float,
) -> list[torch.Tensor] | None:
    """The last carry and the outputs of a loop, by a kernel; None if it cannot be one.

    Args:
        step, starts, rows, length, reverse, most_bytes: see `loop`.
        take: what torch makes of the steps.
    """
    if is_watched() or any(tensor.device.type != "cpu" for tensor in (*starts, *rows)):
        return None  # whoever looks wants to see what torch does
    starts, rows = ([tensor.view_as(tensor) for tensor in given] for given in (starts, rows))
    try:
        kernels = _Kernels(step, starts, rows, length, reverse, most_bytes)
        found: list[torch.Tensor] = list(_Called.apply(kernels, *kernels.inputs))  # type: ignore[no-untyped-call]
        sides = slice(COMPARED), slice(length - COMPARED, length)
        first, last = reversed(sides) if reverse else sides
        with torch.no_grad():
            few, outputs = ([one[first] for one in given] for given in (rows, found[len(starts) :]))
            at = _carried(step, starts, few, reverse)
            if not outputs:  # the carry after so many steps
                outputs = _Kernels(step, starts, few, COMPARED, reverse, most_bytes).values([])
            refuse_unsteady(lambda _: take(starts, few, COMPARED)[-len(outputs) :], [], [], outputs)
            if at is not None:
                before = last.stop if reverse else last.start - 1
                carry, few = [found[i][before] for i in at], [one[last] for one in rows]
                ends = [*found[: len(starts)], *(one[last] for one in found[len(starts) :])]
                refuse_unsteady(lambda _: take(carry, few, COMPARED), [], [], ends)
    except UnsupportedOperationError:
        return None
    return found


def _carried(
    step: Step, starts: Sequence[torch.Tensor], rows: Sequence[torch.Tensor], reverse: bool
) -> list[int] | None:
    """Which results of a step are its next carry, handed out once more; None if not all of it is."""
    found = step(list(starts), [one[-1 if reverse else 0] for one in rows])
    handed, outputs = found[: len(starts)], found[len(starts) :]
    at = [next((i for i, one in enumerate(outputs) if one is carry), None) for carry in handed]
    return [len(starts) + i for i in at if i is not None] if None not in at else None


class _Called(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernels: _Kernels, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.kernels = kernels
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        results = kernels.values(inputs)
        flags = zip(results, kernels.has_gradient, strict=True)
        ctx.mark_non_differentiable(*(result for result, has in flags if not has))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        if torch.is_grad_enabled():  # it is differentiated again
            return None, *ctx.kernels.by_torch(ctx.saved_tensors, cotangents)
        return None, *ctx.kernels.gradients(ctx.saved_tensors, cotangents)


class _Kernels:
    """A loop and its gradient as kernels.

    Attributes:
        inputs: the tensors that have a gradient, among what the loop is given and what its step reaches.
        has_gradient: whether each result has one.
    """

    def __init__(
        self,
        step: Step,
        starts: Sequence[torch.Tensor],
        rows: Sequence[torch.Tensor],
        length: int,
        reverse: bool,
        most_bytes: float,
    ) -> None:
        self.step, self.options = step, (length, reverse, most_bytes)
        self.given, self.count = [*starts, *rows], len(starts)
        self.tracks = torch.is_grad_enabled()
        self.originals: list[torch.Tensor] = []  # what the step reaches, as it reaches it
        own = [tensor for tensor in self.given if self.tracks and tensor.requires_grad]
        dtypes = [tensor.dtype for tensor in self.given if tensor.is_floating_point()]
        self.begin = torch.zeros((), dtype=dtypes[0] if dtypes else torch.float64)  # for loops that are given nothing
        reached: list[tuple[torch.Tensor, torch.Tensor]] = []

        def look(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
            results = self._results([tensor.detach().requires_grad_() for tensor in inputs[1:]])
            tracer = active()
            assert tracer is not None
            reached.extend(tracer.reached.values())
            self.has_gradient = [result.requires_grad for result in results]
            return inputs

        trace(look, [self.begin, *(tensor.detach() for tensor in own)], {})
        self.originals = [original for original, _ in reached]
        self.inputs = [*own, *(seen for _, seen in reached)]

    def values(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What comes of the loop."""
        return self._called(lambda own: [result.detach() for result in self._results(own)], inputs)

    def gradients(
        self, inputs: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor]:
        """The gradients of the inputs, from those of what came of the loop."""
        places = [i for i, given in enumerate(cotangents) if given is not None]
        present = [given for given in cotangents if given is not None]

        def function(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            own = [tensor.detach().requires_grad_() for tensor in tensors[: len(inputs)]]
            results = self._results(own)
            wanted = [results[i] for i in places]
            return list(torch.autograd.grad(wanted, own, tensors[len(inputs) :], materialize_grads=True))

        return self._called(function, [*inputs, *present])

    def by_torch(
        self, inputs: Sequence[torch.Tensor], cotangents: Sequence[torch.Tensor | None]
    ) -> Sequence[torch.Tensor]:
        """The same, that can be differentiated: torch takes the steps one by one."""
        own = [tensor.view_as(tensor) for tensor in inputs]  # what one is made of another has a gradient of its own
        results = self._results(own)
        pairs = [(result, given) for result, given in zip(results, cotangents, strict=True) if given is not None]
        wanted, present = zip(*pairs, strict=True)
        return torch.autograd.grad(wanted, own, present, create_graph=True, materialize_grads=True)

    def _called(
        self, function: Callable[[list[torch.Tensor]], list[torch.Tensor]], given: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        tensors = [self.begin, *(tensor.detach().contiguous() for tensor in given)]
        kernel = Evaluation(lambda own: [own[0], *function(own[1:])], tensors, {})
        found = kernel(tensors)
        assert found is not None
        return [torch.from_numpy(result) for result in found[1:]]

    def _results(self, own: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What comes of the loop, with these in place of the tensors that have a gradient."""
        tracer = active()
        rest = iter(own)
        given = [next(rest) if self.tracks and tensor.requires_grad else tensor for tensor in self.given]
        stand_ins = list(rest)
        starts, rows = given[: self.count], given[self.count :]
        reached = Reached(self.originals, lambda _: None).by(stand_ins)
        with inside(), torch.set_grad_enabled(self.tracks), reached as there:
            if tracer is None:  # its gradient is differentiated again, or it could not be traced: torch says why

                def step(carry: list[torch.Tensor], row: list[torch.Tensor]) -> list[torch.Tensor]:
                    found = self.step(carry, row)
                    return found if there is None else list(map(there.stand_in, found))  # which may be what it reaches

                return one_by_one(step, starts, rows, *self.options[:2])
            return loop(tracer, self.step, starts, rows, *self.options)
