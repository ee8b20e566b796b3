"""The body of a loop that a loss writes openly (`fastpoly.scan`): traced once, for any of its iterations.

Requirements: whatever the body gets is a tensor of its own there, so that torch's autograd can differentiate one
iteration by itself: what is handed on, the rows, and what the body reaches by its closure. Of the latter nobody is
told; it is noticed where the body first uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.overrides import TorchFunctionMode

from . import recurrent
from .arguments import leaves, substituted
from .branches import Branches, Side, every_side, merged
from .graph import Node, Page
from .tracer import Tracer
from .writes import Traced

Step: TypeAlias = "Callable[[list[torch.Tensor], list[torch.Tensor]], list[torch.Tensor]]"
"""step(carry, row): the next carry, and then the outputs."""


class Body:
    """One iteration.

    Args:
        tracer: writes it down.
        step: what it does.
        tracks: is there to be a gradient?
        starts: what the first iteration gets from the one before.
        rows: tensors with a row for each iteration.
        varies: which of what is handed on has a gradient.

    Attributes:
        nodes: its operations, in order.
        carry, row: what stands for what an iteration gets.
        step: what it does.
        originals, reached, within: tensors with a gradient that it reaches by its closure, as it finds them and as what
            is around it sees them, and what stands for them.
        results: the next carry, and the outputs.
        launched: what torch launches for it.
    """

    def __init__(
        self,
        tracer: Tracer,
        step: Step,
        tracks: bool,
        starts: Sequence[torch.Tensor],
        rows: Sequence[torch.Tensor],
        varies: Sequence[bool],
    ) -> None:
        self.tracer, self.step, self.tracks = tracer, step, tracks
        tracer.has_loops = True
        self.nodes = Page(tracer.nodes.depth + 1)
        self.known: dict[Any, Node] = {}
        self.around = tracer.page()
        self.originals: list[torch.Tensor] = []
        self.reached: list[torch.Tensor] = []
        self.within: list[torch.Tensor] = []
        like = [(start, start.shape, has) for start, has in zip(starts, varies, strict=True)]
        like += [(row, row.shape[1:], tracks and row.requires_grad) for row in rows]
        inputs = [stand_in(tracer, *one) for one in like]
        self.carry, self.row = inputs[: len(starts)], inputs[len(starts) :]
        branches, tracer.branches = tracer.branches, Branches()
        fixed, tracer.fixed = tracer.fixed, tracer.constants.owned()
        try:
            with tracer.on(self.nodes, self.known), tracer.launched() as self.launched:
                closure = _Closure(self, inputs)

                def run() -> list[torch.Tensor]:
                    with closure:
                        found = step(list(self.carry), list(self.row))
                    return [closure.within(result) for result in found]

                self.sides = every_side(tracer.branches, run)
                self.results, wrong = merged(self.sides)
                for result in self.results:
                    tracer.node(result)  # of what was written to, as it is now
        finally:
            tracer.branches, tracer.fixed = branches, fixed
        if wrong is not None:
            raise tracer.refusal(
                "scan", "its step raises an error where a number that changes says so", "use torch.where"
            )

    def gradients(
        self, cotangents: Mapping[int, torch.Tensor], of: Sequence[torch.Tensor]
    ) -> list[torch.Tensor | None]:
        """The gradients of `of` from those of some results, written down where the tracer is; None where there is none.

        Each side of a branch is differentiated by itself.
        """
        found = [self._gradients_of(side, cotangents, of) for side in self.sides]
        present = [any(one[i] is not None for one in found) for i in range(len(of))]
        sides = [
            Side(
                side.answers,
                side.asked,
                [
                    torch.zeros_like(like) if grad is None else grad
                    for grad, like, there in zip(grads, of, present, strict=True)
                    if there
                ],
            )
            for side, grads in zip(self.sides, found, strict=True)
        ]
        chosen = iter(merged(sides)[0])
        return [next(chosen) if there else None for there in present]

    def _gradients_of(
        self, side: Side, cotangents: Mapping[int, torch.Tensor], of: Sequence[torch.Tensor]
    ) -> Sequence[torch.Tensor | None]:
        assert side.results is not None
        given = [(side.results[i], grad) for i, grad in cotangents.items() if side.results[i].requires_grad]
        if not given or not of:
            return [None] * len(of)
        results, grads = zip(*given, strict=True)
        return torch.autograd.grad(results, list(of), grads, retain_graph=True, allow_unused=True)

    def reach(self, value: torch.Tensor) -> torch.Tensor:
        """What stands in the body for a tensor from around it."""
        with self.tracer.on(*self.around), torch.enable_grad():
            seen = value.view_as(value)  # by the bodies around it, too, and by whatever else looks at what a loss uses
            if not (seen.requires_grad or self.tracer.writes.changes(seen)):
                return value
            has_gradient = seen.requires_grad and self.tracks
            inside = seen.detach()
            if isinstance(inside, Traced):  # in a memory of its own, to which no body may write
                inside = self.tracer.traced(inside.node, inside.kind)
            if has_gradient and self.nodes.depth == 1 and not isinstance(seen, Traced):
                self.tracer.reached[id(value)] = value, seen
            if has_gradient:
                self.originals.append(value)
                self.reached.append(seen)
                self.within.append(inside.requires_grad_())
        return inside


def stand_in(tracer: Tracer, like: torch.Tensor, shape: Sequence[int], has_gradient: bool) -> Traced:
    """A tensor of any iteration."""
    node = Node("input", (), tuple(shape), like.dtype, label="row")
    kind = tracer.kind(torch.empty(tuple(shape), dtype=like.dtype, device="meta"), like.device)
    traced = tracer.traced(node, kind)
    traced.memory.is_input = True
    return traced.requires_grad_(has_gradient)  # type: ignore[return-value]


class InPlaceOf(TorchFunctionMode):
    """Puts tensors in place of others that a step reaches by its closure."""

    def __init__(self, originals: Sequence[torch.Tensor], own: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._own = {id(original): one for original, one in zip(originals, own, strict=True)}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*substituted(self.stand_in, args), **substituted(self.stand_in, kwargs or {}))

    def stand_in(self, value: Any) -> Any:
        """What is in its place."""
        return self._own.get(id(value), value)


class _Closure(TorchFunctionMode):
    """While a body runs, puts what stands for them in place of tensors from around it."""

    def __init__(self, body: Body, own: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self._inside = {id(tensor): tensor for tensor in own}
        self._kept: list[torch.Tensor] = list(own)  # so that no address is used twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in recurrent.STEPS:  # the list is the layer's own
            self.body.tracer.weights.append(recurrent.weights_of(args))
        if any(isinstance(leaf, torch.Tensor) and self._is_new(leaf) for leaf in leaves(args, kwargs)):
            args, kwargs = substituted(self.within, args), substituted(self.within, kwargs)
        result = picked(*args) if func is torch.Tensor.__getitem__ and _changes(args[1]) else func(*args, **kwargs)
        for leaf in leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf, leaf)
        return result

    def _note(self, value: torch.Tensor, inside: torch.Tensor) -> None:
        self._inside[id(value)] = inside
        self._kept.append(value)

    def _is_new(self, value: torch.Tensor) -> bool:
        """Is it from around the body, or has nobody seen how it was made?"""
        return self._inside.get(id(value)) is not value and not self._is_made_here(value)

    def _is_made_here(self, value: torch.Tensor) -> bool:
        """In the body, or in one within it."""
        return type(value) is Traced and value.memory.home.depth >= self.body.nodes.depth

    def within(self, value: Any) -> Any:
        """What stands for it, if it is a tensor."""
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._inside:
            inside = value if self._is_made_here(value) else self.body.reach(value)
            self._note(value, inside)
            if inside is not value:
                self._note(inside, inside)
        return self._inside[id(value)]


def _changes(index: Any) -> bool:
    """Is there one whole number among the indices that is another one in each iteration?"""
    parts = index if type(index) is tuple else (index,)
    others = [part for part in parts if not isinstance(part, Traced)]
    if len(others) != len(parts) - 1 or not all(o is None or o is Ellipsis or type(o) in (int, slice) for o in others):
        return False
    (tensor,) = (part for part in parts if isinstance(part, Traced))
    return tensor.dtype in (torch.int64, torch.int32)


def picked(a: torch.Tensor, index: Any) -> torch.Tensor:
    """a[index] with one tensor of whole numbers, of which torch would ask the value."""
    parts = list(index) if type(index) is tuple else [index]
    at = next(i for i, part in enumerate(parts) if isinstance(part, torch.Tensor))
    which, parts[at] = parts[at], slice(None)
    left = a.ndim - sum(part is not None and part is not Ellipsis for part in parts)
    sizes = {True: left, False: 1}  # of an ellipsis, and of what is a dimension of the result
    dim = sum(sizes[part is Ellipsis] for part in parts[:at] if type(part) is not int)
    rows = a[tuple(parts)].movedim(dim, 0)
    places = which.long().reshape((-1, *[1] * (rows.ndim - 1))).expand(-1, *rows.shape[1:])
    found = rows.gather(0, places).reshape((*which.shape, *rows.shape[1:]))
    order = range(which.ndim, which.ndim + dim)
    return found.movedim(tuple(order), tuple(range(dim))) if dim and which.ndim else found
