"""Which axis registers run along, where several may be: the one with which a step's loops take the fewest cycles.

Where samples have numbers of their own, their axis is as long as most tensors of a step, and the choice is clear: see
`samples_of`. Rows of embeddings, tokens in sequences and layers between them have several long axes, of which only one
may lie side by side in memory: what does not lie so is computed one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from .expressions import Axis
from .graph import Graph, Node
from .plan import OTHER, Nest, Plan, is_written_whole, read_by
from .products import products
from .scan import every
from .schedule import Schedule
from .survey import samples_of

MOST = 0.9
"""Of the elements of all tensors of a step: if so many belong to one axis, it is that one."""

SHORTEST = 5
"""Elements of an axis that may be one: registers of rows of 4 numbers were slower than such of samples."""

TRIED = 3
"""Axes beside the usual one for which a step is planned: each plan takes as long as the first one."""

WORTH = 0.7
"""What another axis must take of the cycles of the usual one: these are estimates."""

SCATTERED = 2.5
"""Operations that a lane of a register takes which is filled from as many places as it has lanes."""

TILED = 0.25
"""Of the operations of a product of matrices, in tiles, that share what they load."""


class Planned(Protocol):
    """Makes a plan with registers along the axis of that size, which keeps these nodes in memory at least."""

    def __call__(self, *, samples: int, kept: Iterable[Node] = ()) -> Schedule: ...


def quickest(graph: Graph, lanes: int, plan: Planned, threads: Callable[[Schedule], int]) -> Schedule:
    """The plan for the axis with which it is the quickest, about, by as many threads as share it; for the usual one if
    none is much quicker.
    """
    usual, *others = _sizes(graph, lanes)
    first = plan(samples=usual)
    if not others:
        return first

    def time(schedule: Schedule) -> float:
        return cycles_of(schedule) / threads(schedule)

    # what the first one keeps the others will keep: so they are made in fewer rounds
    times = {size: time(plan(samples=size, kept=first.kept)) for size in others}
    best = min(times, key=times.__getitem__)
    return plan(samples=best) if times[best] < WORTH * time(first) else first


def _sizes(graph: Graph, lanes: int) -> list[int]:
    """The lengths of axes that registers of so many lanes may run along, the usual one first."""
    usual = samples_of(graph)
    nodes = [node for node in every(graph.nodes) if not node.is_constant]
    if lanes == 1 or any(node.scan is not None for node in nodes):
        return [usual]
    elements: Counter[int] = Counter()
    for node in nodes:
        elements.update(dict.fromkeys(node.shape, math.prod(node.shape)))
    total = sum(math.prod(node.shape) for node in nodes)
    if elements[usual] >= MOST * total and not any(map(_looks_up_rows, nodes)):
        return [usual]
    others = [size for size, _ in elements.most_common() if size >= SHORTEST and size != usual]
    return [usual, *others[:TRIED]]


def _looks_up_rows(node: Node) -> bool:
    """Does it pick rows from what the step computes, whose elements stay side by side?"""
    if node.op != "index" or node.args[0].is_constant:
        return False
    source, places = node.args[:2]
    return len(node.shape) > 1 and (len(places) < len(source.shape) or places[-1] is None)


def cycles_of(plan: Plan) -> float:
    """About how long a step takes: as `Plan.cycles`, but what cannot be taken in registers is taken one by one."""
    return sum(_cycles(plan, nest) for nest in plan.nests)


def _cycles(plan: Plan, nest: Nest) -> float:
    turns, length, operations = plan.measured(nest)
    lanes = nest.loops.lanes
    if lanes is None or not _is_whole(nest, lanes):
        return turns * length * operations
    lookups = {load for root in nest.roots for load in read_by(root.value) if load.op == "lookup"}
    scattered = sum(lanes in load.args[3].axes for load in lookups)
    own = operations - (OTHER - 1) * len(lookups) + SCATTERED * scattered * plan.lanes
    return turns * -(-length // plan.lanes) * own * (TILED if products(nest) else 1.0)


def _is_whole(nest: Nest, lanes: Axis) -> bool:
    """Do registers of what a nest reads and writes lie side by side, or are looked up?"""
    loads = (load for root in nest.roots for load in read_by(root.value) if load.op in ("load", "lookup"))
    is_read = all(load.args[1].factor(lanes) in (0, 1) for load in loads)
    return is_read and all(is_written_whole(root, lanes) for root in nest.roots)
