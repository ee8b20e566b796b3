"""A matrix taken apart into two triangles, with its rows exchanged: see `eliminations`."""

from __future__ import annotations

import math

from .builder import number, shifted
from .eliminations import Elimination
from .expressions import Axis
from .graph import Node
from .ir import BOOL, FLOAT, INDEX, Const, If, Op, Var
from .schedule import Schedule


class Triangles(Elimination):
    """`dense.triangles`: row by row, less those above; before that, the row with the largest element comes first."""

    @property
    def columns(self) -> int:
        """Of the matrix itself."""
        return self.node.shape[-1] - 1

    def body(self) -> None:
        builder, rows = self.builder, number(self.node.shape[-2])
        with builder.loop("k", number(0), number(min(self.node.shape[-2], self.columns))) as k:
            if self.node.args[1]:
                self._exchange(k, self._largest(k))
            divisor = self.assigned("divisor", self.number(k, k))
            is_zero = Op("eq", (divisor, Const(0.0, FLOAT)), BOOL)
            builder.assign(divisor, Op("where", (is_zero, Const(1.0, FLOAT), divisor), FLOAT))
            with builder.loop("r", shifted(k, 1), rows) as row:
                factor = self.assigned("factor", self.divided(self.number(row, k), divisor))
                builder.store("scratch", self.at(row, k), factor, self.node)
                first = shifted(k, 1)
                with self.registers_from(first, number(self.columns)) as j:
                    before = self.assigned("before", self.read(self.at(row, j)))
                    rest = self.assigned("rest", before)
                    self.subtract(rest, self.read(self.at(k, j)), self.splat(factor))
                    kept = self.up_to(number(self.columns), j, self.from_on(first, j, rest, before), before)
                    builder.store("scratch", self.at(row, j), kept, self.node)

    def _largest(self, k: Var) -> Var:
        """The row, from this one on, whose element in this column is; NaN is larger than all numbers."""
        builder = self.builder
        largest = self.assigned("largest", Op("absolute", (self.number(k, k),), FLOAT))
        chosen = builder.assign(Var("chosen", INDEX), k)
        with builder.loop("r", shifted(k, 1), number(self.node.shape[-2])) as row:
            size = self.assigned("size", Op("absolute", (self.number(row, k),), FLOAT))
            is_nan, beside = (Op(op, (one, one), BOOL) for op, one in (("ne", size), ("eq", largest)))
            is_larger = Op("or", (Op("gt", (size, largest), BOOL), Op("and", (is_nan, beside), BOOL)), BOOL)
            with builder.into(If(is_larger)):
                builder.assign(largest, size)
                builder.assign(chosen, row)
        return chosen

    def _exchange(self, k: Var, chosen: Var) -> None:
        """Two rows of which the first gets the place of the second, counted from 1, in the last column."""
        builder = self.builder
        with self.registers_from(number(0), number(self.node.shape[-1])) as j:
            one, other = (self.assigned(f"row_{at}", self.read(self.at(row, j))) for at, row in ((1, k), (2, chosen)))
            builder.store("scratch", self.at(k, j), other)
            builder.store("scratch", self.at(chosen, j), one)
        place = Op("position", (shifted(chosen, 1),), FLOAT)
        builder.store("scratch", self.at(k, number(self.columns)), place, self.node)


class Permutation(Elimination):
    """`dense.permutation`: numbers exchanged, one after the other."""

    rank = 1

    @property
    def measured(self) -> tuple[int, int, int]:
        """An exchange for each pivot."""
        return math.prod(self.node.args[1].shape), 1, 4

    def __init__(self, schedule: Schedule, node: Node) -> None:
        super().__init__(schedule, node)
        pivots: Node = node.args[1]
        self.pivots = self.operand(schedule, pivots, Axis("k", pivots.shape[-1]))

    def body(self) -> None:
        count = self.node.args[1].shape[-1]
        turns = (number(count - 1), number(-1), -1) if self.node.args[2] else (number(0), number(count), 1)
        with self.builder.loop("k", *turns) as k:
            there = shifted(Op("integer", (self.pivots.load(self.builder, k),), INDEX), -1)
            one, other = (self.assigned(f"row_{at}", self.number(row)) for at, row in ((1, k), (2, there)))
            self.builder.store("scratch", self.at(k), other, self.node)
            self.builder.store("scratch", self.at(there), one, self.node)
