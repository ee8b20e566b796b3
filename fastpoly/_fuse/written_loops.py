"""`fastpoly.scan` in a loss that is traced: its body is traced once, and written as the loop that it is.

Forward and backward: the gradient of one iteration is traced from torch's autograd, too, and is the body of a loop from
the last iteration to the first. Both are split into scans and operations on rows as loops are that a trace has unrolled
(`splitting`); so what they hand to each other are rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .bodies import Body, InPlaceOf, Step, stand_in
from .given import Given
from .graph import Node, Page
from .iterations import LEAST
from .lift import Writer
from .plans import Plan
from .tracer import Tracer

MOST_PEELED = 3
"""Last iterations whose gradients are written out, as something that a loss does not look at has none there."""


def loop(
    tracer: Tracer,
    step: Step,
    starts: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    length: int,
    reverse: bool,
    most_bytes: float = math.inf,
) -> list[torch.Tensor]:
    """The last carry and the rows of the outputs of a loop.

    Args:
        tracer: is tracing.
        step: see `Step`.
        starts: the first carry.
        rows: tensors with a row for each iteration.
        length: how many iterations, at least one.
        reverse: does the first iteration take the last rows?
        most_bytes: of the carry before each iteration, which are kept for the gradient; where it is more, it is kept
            for some alone, and what follows is computed again.

    Raises:
        UnsupportedOperationError: it cannot be fused.
    """
    starts, rows = ([tensor.view_as(tensor) for tensor in given] for given in (starts, rows))
    tracks = torch.is_grad_enabled()
    if length < LEAST and len(Body(tracer, step, False, starts, rows, [False] * len(starts)).sides) == 1:
        return one_by_one(step, starts, rows, length, reverse)  # it is fused with what stands around it
    kept = length * sum(start.numel() * start.element_size() for start in starts)
    is_float = all(start.is_floating_point() for start in starts)  # of whole numbers in a circle nobody knows bounds
    if tracks and is_float and kept > most_bytes and length >= LEAST**2:
        return _in_segments(tracer, step, starts, rows, length, reverse)
    return _traced(tracer, step, starts, rows, length, reverse)


def _in_segments(
    tracer: Tracer,
    step: Step,
    starts: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    length: int,
    reverse: bool,
) -> list[torch.Tensor]:
    """The same, with the carry kept at the beginning of each of some segments: what is in one is computed again."""
    size = math.isqrt(length)
    count, rest, carried = length // size, length % size, len(starts)

    def segment(leaves: list[torch.Tensor], row: list[torch.Tensor]) -> list[torch.Tensor]:
        return _traced(tracer, step, leaves, row, size, reverse, is_again=True)

    def part(low: int, high: int) -> list[torch.Tensor]:
        return [one[length - high : length - low] if reverse else one[low:high] for one in rows]

    folded = [one.reshape(count, size, *one.shape[1:]) for one in part(0, length - rest)]
    found = _traced(tracer, segment, starts, folded, count, reverse, is_whole=True)
    outputs = [one.flatten(0, 1) for one in found[carried:]]
    if not rest:
        return [*found[:carried], *outputs]
    last = _traced(tracer, step, found[:carried], part(length - rest, length), rest, reverse)
    pairs = zip(outputs, last[carried:], strict=True)
    return [*last[:carried], *(torch.cat([two, one] if reverse else [one, two]) for one, two in pairs)]


def _traced(
    tracer: Tracer,
    step: Step,
    starts: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    length: int,
    reverse: bool,
    is_whole: bool = False,
    is_again: bool = False,
) -> list[torch.Tensor]:
    """See `loop`.

    Args:
        is_whole: are all operations of an iteration to be taken together?
        is_again: does the gradient compute all values again?
    """
    tracks = torch.is_grad_enabled()
    varies = [tracks and start.requires_grad for start in starts]
    while True:
        body = Body(tracer, step, tracks, starts, rows, varies)
        now = [has or result.requires_grad for has, result in zip(varies, body.results, strict=False)]
        if now == varies:
            break
        varies = now
    _count(body.launched, length)
    written = _Written(tracer, body, length, reverse, is_whole, is_again)
    return list(_Loop.apply(written, *starts, *rows, *body.reached))  # type: ignore[no-untyped-call]


def _count(launched: Mapping[Plan, int], times: int) -> None:
    """Torch would launch that so many times."""
    for plan, count in launched.items():
        plan.count += count * times


def one_by_one(
    step: Step, starts: Sequence[torch.Tensor], rows: Sequence[torch.Tensor], length: int, reverse: bool
) -> list[torch.Tensor]:
    """The same by torch. With no iteration at all the step is looked at, to know what its outputs are like."""
    leaves, count = list(starts), len(starts)
    if not length:
        with torch.no_grad():
            like = step(leaves, [one.new_zeros(one.shape[1:]) for one in rows])
        return [*leaves, *(one.new_zeros((0, *one.shape)) for one in like[count:])]
    slices = list(zip(*(one.unbind() for one in rows), strict=True)) or [()] * length
    outputs: list[list[torch.Tensor]] = []
    for row in reversed(slices) if reverse else slices:
        found = step(leaves, list(row))
        leaves = found[:count]
        outputs.append(found[count:])
    return [*leaves, *(torch.stack(one[::-1] if reverse else one) for one in zip(*outputs, strict=True))]


class _Loop(torch.autograd.Function):
    """A loop as an operation of autograd's."""

    @staticmethod
    def forward(ctx: Any, written: _Written, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.written = written
        ctx.set_materialize_grads(False)
        results = written.forward(tensors)
        has_gradient = [result.requires_grad for result in written.body.results]
        ctx.mark_non_differentiable(*(r for r, has in zip(results, has_gradient, strict=True) if not has))
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> Any:
        if torch.is_grad_enabled():
            return None, *ctx.written.differentiable(cotangents)
        return None, *ctx.written.backward(cotangents, ctx.needs_input_grad[1:])


@dataclass(frozen=True, eq=False)
class _Gradient:
    """That of one iteration.

    Attributes:
        nodes: its operations.
        launched: what torch launches for them.
        given: the gradients of the results that it begins with, by their positions.
        found: those that it comes to.
    """

    nodes: list[Node]
    launched: Mapping[Plan, int]
    given: Mapping[int, torch.Tensor]
    found: list[torch.Tensor | None]


class _Written:
    """A loop while it is traced."""

    def __init__(self, tracer: Tracer, body: Body, length: int, reverse: bool, is_whole: bool, is_again: bool) -> None:
        self.tracer, self.body = tracer, body
        self.is_whole, self.is_again = is_whole, is_again
        self.length, self.reverse = length, reverse
        self.count = len(body.carry)
        self.inside = [*body.carry, *body.row, *body.within]
        self.of = [tensor for tensor in self.inside if tensor.requires_grad]

    def forward(self, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """What comes of the loop; `tensors` are what it gets, as `inside` stands for them."""
        body, node, count = self.body, self.tracer.node, self.count
        self.tensors = tensors
        outputs = [node(result) for result in body.results[count:]]
        self.ahead = ahead = Given(
            self._writer(), body.nodes, outputs, self.length, self.reverse, is_whole=self.is_whole
        )
        for own, rows in zip(body.row, tensors[count:], strict=False):
            ahead.give_rows(node(own), node(rows))
        for own, result, start in zip(body.carry, body.results, tensors, strict=False):
            ahead.give_carry(node(own), node(result), node(start))
        ahead.write()
        found = [*(ahead.last(node(own)) for own in body.carry), *map(ahead.rows_of, outputs)]
        return tuple(map(self._traced, found, body.results))

    def _writer(self) -> Writer:
        writer = Writer()
        writer.nodes = self.tracer.nodes
        return writer

    def _traced(self, node: Node, like: torch.Tensor) -> torch.Tensor:
        """A tensor of what a node computes, whose shape may be that of rows."""
        shape = node.shape[:-1] if like.is_complex() else node.shape
        return self.tracer.traced(
            node, self.tracer.kind(torch.empty(shape, dtype=like.dtype, device="meta"), like.device)
        )

    # -- the gradient

    def differentiable(self, cotangents: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """That of a loop whose gradient is differentiated again: as one in Python has it, one step after the other."""
        own = [tensor.view_as(tensor) for tensor in self.tensors]  # what is made of another has a gradient of its own
        starts, rows, reached = own[: self.count], own[self.count :], own[self.count + len(self.body.row) :]
        rows, there = rows[: len(self.body.row)], InPlaceOf(self.body.originals, reached)

        def step(carry: list[torch.Tensor], row: list[torch.Tensor]) -> list[torch.Tensor]:
            return list(map(there.stand_in, self.body.step(carry, row)))  # which may be what it reaches, as it is

        with there:
            results = one_by_one(step, starts, rows, self.length, self.reverse)
        given = zip(results, cotangents, strict=True)
        pairs = [(result, grad) for result, grad in given if grad is not None and result.requires_grad]
        wanted = [tensor for tensor in own if tensor.requires_grad]
        if not pairs:
            return [None] * len(own)
        ends, grads = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(ends, wanted, grads, create_graph=True, allow_unused=True))
        return [next(found) if tensor.requires_grad else None for tensor in own]

    def backward(
        self, cotangents: Sequence[torch.Tensor | None], is_wanted: Sequence[bool]
    ) -> list[torch.Tensor | None]:
        """The gradients of what the loop got, from those of what came of it."""
        if self.is_again:
            self.forward(self.tensors)
        handed = {i: given for i, given in enumerate(cotangents) if given is not None and i < self.count}
        outputs = {i: given for i, given in enumerate(cotangents) if given is not None and i >= self.count}
        parts: list[tuple[Given, _Gradient]] = []  # the last iterations first
        rest = self.length
        while rest and (handed or outputs):
            one = self._of_an_iteration(handed, outputs)
            after = self._handed_on(one)
            if after.keys() != handed.keys() and len(parts) == MOST_PEELED:
                handed = {i: handed.get(i, zeros) for i, zeros in self._zeros().items()}
                one = self._of_an_iteration(handed, outputs)
                after = {**self._zeros(), **self._handed_on(one)}
            times = rest if after.keys() == handed.keys() else 1
            part = self._part(one, after, handed, outputs, times, rest)
            _count(one.launched, times)
            parts.append((part, one))
            node = self.tracer.node
            ends = {
                i: part.first_row(node(g)) if times == 1 else part.last(node(one.given[i])) for i, g in after.items()
            }
            handed = {i: self._traced(end, after[i]) for i, end in ends.items()}
            rest -= times
        if rest:
            handed = {}
        return self._collected(parts, handed, rest, is_wanted)

    def _of_an_iteration(self, handed: Mapping[int, torch.Tensor], outputs: Mapping[int, torch.Tensor]) -> _Gradient:
        results, nodes = self.body.results, Page(self.tracer.nodes.depth + 1)
        with self.tracer.on(nodes, dict(self.body.known)), self.tracer.launched() as launched:
            given = {i: stand_in(self.tracer, results[i], results[i].shape, False) for i in (*handed, *outputs)}
            found = self.body.gradients(given, self.of)
            for grad in found:
                if grad is not None:
                    self.tracer.node(grad)
        return _Gradient(nodes, launched, given, found)

    def _handed_on(self, one: _Gradient) -> dict[int, torch.Tensor]:
        """The gradients that an iteration hands to the one before, by the positions in the carry."""
        found = zip(self.of, one.found, strict=True)
        positions = {id(own): i for i, own in enumerate(self.body.carry)}
        return {positions[id(own)]: grad for own, grad in found if grad is not None and id(own) in positions}

    def _zeros(self) -> dict[int, torch.Tensor]:
        carry = enumerate(self.body.carry)
        return {i: torch.zeros(own.shape, dtype=own.dtype, device=own.device) for i, own in carry if own.requires_grad}

    def _part(
        self,
        one: _Gradient,
        after: Mapping[int, torch.Tensor],
        handed: Mapping[int, torch.Tensor],
        outputs: Mapping[int, torch.Tensor],
        times: int,
        rest: int,
    ) -> Given:
        """The gradients of the last `times` of the first `rest` iterations, written down."""
        node, writer = self.tracer.node, self._writer()
        low = self.length - rest if self.reverse else rest - times
        read = [node(grad) for grad in one.found if grad is not None]
        part = Given(writer, one.nodes, read, times, not self.reverse, (self.ahead, low), self.is_whole)
        for i, given in outputs.items():
            part.give_rows(node(one.given[i]), writer.sliced(node(given), low, low + times))
        for i, given in handed.items():
            own = node(one.given[i])
            part.give_carry(own, node(after[i]) if i in after else own, node(given))
        part.write()
        return part

    def _collected(
        self,
        parts: Sequence[tuple[Given, _Gradient]],
        handed: Mapping[int, torch.Tensor],
        rest: int,
        is_wanted: Sequence[bool],
    ) -> list[torch.Tensor | None]:
        """The gradients of all iterations together, for each tensor that the loop got.

        Args:
            parts: of the last iterations first.
            handed: those of the first carry.
            rest: how many iterations at the beginning have none.
            is_wanted: of each tensor.
        """
        grads: list[torch.Tensor | None] = []
        for i, (own, like) in enumerate(zip(self.inside, self.tensors, strict=True)):
            found: list[tuple[Given, Node | None]] = []
            if own.requires_grad and is_wanted[i]:
                place = next(at for at, other in enumerate(self.of) if other is own)
                for part, one in parts:
                    grad = one.found[place]
                    found.append((part, None if grad is None else self.tracer.node(grad)))
            if i < self.count:
                grads.append(handed.get(i))
            elif all(node is None for _, node in found):
                grads.append(None)
            elif i < self.count + len(self.body.row):
                pieces = [self._rows(part.count, part, node, like) for part, node in found]
                pieces += [self._rows(rest, None, None, like)] if rest else []
                pieces = pieces if self.reverse else pieces[::-1]
                whole = pieces[0]
                if len(pieces) > 1:
                    whole = self._writer().new("cat", (pieces, 0), self.tracer.node(like).shape, pieces[0])
                grads.append(self._traced(whole, like))
            else:
                sums = [self._traced(part.total(node), like) for part, node in found if node is not None]
                grads.append(sum(sums[1:], sums[0]))
        return grads

    def _rows(self, count: int, part: Given | None, node: Node | None, like: torch.Tensor) -> Node:
        if part is not None and node is not None:
            return part.rows_of(node)
        return self.tracer.node(torch.zeros((count, *like.shape[1:]), dtype=like.dtype, device=like.device))
