"""What the iterations of a run read: whether they read alike, and what each operand is, seen from one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .arguments import leaves
from .graph import Node
from .runs import Run

LEAST = 8
"""Iterations that make a loop."""


class Refused(Exception):  # noqa: N818 - a run that stays unrolled is no error
    def __init__(self, run: Run) -> None:
        super().__init__(str(run))
        self.run = run


@dataclass(frozen=True)
class Own:
    """What class `of` has made in the same iteration."""

    of: int


@dataclass(frozen=True, eq=False)
class Before:
    """What class `of` has made len(starts) iterations before; `starts` for the first ones, the oldest first."""

    of: int
    starts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Each:
    """A node or a number of its own for each iteration."""

    values: tuple[Any, ...]


@dataclass(eq=False)
class Loop:
    """A run, as far as its iterations read alike.

    Attributes:
        run: of the graph's nodes.
        found: the run that it was found as.
        classes: for each the first iteration's node, in order.
        operands: for each class what its arguments are, in the order of `leaves`: one of the above, or what is the same
            for all.
        backwards: are its rows in the order of the last iteration first?
    """

    run: Run
    found: Run
    classes: list[Node]
    operands: list[list[Any]]
    backwards: bool = False

    @property
    def count(self) -> int:
        """How many iterations."""
        return self.run.times

    def row(self, iteration: int) -> int:
        """Where an iteration's row lies; rows of iterations before the first one lie beyond the end."""
        return self.count - 1 - iteration if self.backwards else iteration


def token(node: Node) -> tuple[Any, ...]:
    """What operations must agree in to be the same one of two iterations. Numbers may differ."""
    own = node.op, node.shape, node.dtype, *map(_form, node.args)
    return own if node.scan is None else (*own, *node.scan.described)


def _form(value: Any) -> Any:
    if isinstance(value, Node):
        return "node"
    if isinstance(value, (list, tuple)):
        return tuple(map(_form, value))
    return "number" if type(value) in (int, float) else repr(value)


def loop_of(nodes: Sequence[Node], at: dict[Node, int], run: Run) -> Loop | None:
    """The longest part of a run in which all iterations read alike."""
    start, period, count = run
    end = run.end
    reads = [list(leaves(node.args)) for node in nodes[start:end]]

    def read_by(iteration: int) -> tuple[Any, ...]:
        """For each operand that is a node: how many iterations back, and the class; None for one from outside."""
        found: list[Any] = []
        for own in reads[iteration * period : (iteration + 1) * period]:
            for leaf in own:
                if isinstance(leaf, Node):
                    place = at.get(leaf, -1)
                    inside = start <= place < end
                    found.append((iteration - (place - start) // period, (place - start) % period) if inside else None)
        return tuple(found)

    seen = [read_by(k) for k in range(count)]
    names: dict[Any, int] = {}
    alike = [names.setdefault(one, len(names)) for one in seen]
    first, most, begun = 0, 0, 0
    for k in range(1, count + 1):
        if k == count or alike[k] != alike[begun]:
            if k - begun > most:
                first, most = begun, k - begun
            begun = k
    last = first + most
    first = _with_starts(nodes, run, seen, reads, first)
    if last - first < LEAST:
        return None
    classes = list(nodes[start + first * period : start + (first + 1) * period])
    operands = []
    place = 0
    for j in range(period):
        over = [reads[k * period + j] for k in range(first, last)]
        own: list[Any] = []
        for values in zip(*over, strict=True):
            back = None
            if isinstance(values[0], Node):
                back = seen[last - 1][place]
                place += 1
            if isinstance(values[0], Node) and len({(value.shape, value.dtype) for value in values}) > 1:
                return None  # constants that broadcast differently
            own.append(_operand(values, back))
        operands.append(own)
    return Loop(Run(start + first * period, period, last - first), run, classes, operands)


def _with_starts(
    nodes: Sequence[Node], run: Run, seen: list[tuple[Any, ...]], reads: list[list[Any]], first: int
) -> int:
    """The iterations before that read the same, but what loops begin with where later ones read what was carried."""
    start, period, _ = run
    wanted = seen[first]
    for more in sorted({back[0] for back in wanted if back} - {0} | {1}, reverse=True):

        def fits(iteration: int, begun: int) -> bool:
            own = (leaf for r in reads[iteration * period : (iteration + 1) * period] for leaf in r)
            operands = [leaf for leaf in own if isinstance(leaf, Node)]
            for back, want, operand in zip(seen[iteration], wanted, operands, strict=True):
                if back == want:
                    continue
                if not want or want[0] <= iteration - begun:  # it should have been made within the loop
                    return False
                if back is not None and back[0] <= iteration - begun:
                    return False
                like = nodes[start + want[1]]
                if (operand.shape, operand.dtype) != (like.shape, like.dtype):
                    return False
            return True

        if first >= more and all(
            len(seen[k]) == len(wanted) and fits(k, first - more) for k in range(first - more, first)
        ):
            return first - more
    return first


def _operand(values: Sequence[Any], back: tuple[int, int] | None) -> Any:
    if back is not None:
        return Before(back[1], tuple(values[: back[0]])) if back[0] else Own(back[1])
    first = values[0]
    if all(value is first for value in values):
        return first
    if isinstance(first, Node):
        return first if all(_same_constant(first, value) for value in values) else Each(tuple(values))
    return first if len({repr(value) for value in values}) == 1 else Each(tuple(values))


def _same_constant(one: Node, other: Node) -> bool:
    if one.baked is None or other.baked is None or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return one.baked.shape == other.baked.shape and one.baked.tobytes() == other.baked.tobytes()
