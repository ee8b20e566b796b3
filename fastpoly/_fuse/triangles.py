"""Cholesky's factor of a matrix, and triangles that are solved: see `eliminations`.

Each row is finished before the next one is begun, so that what is subtracted from it stays in registers all the time. A
single column is solved the other way round, as registers run along it: what is found is subtracted from all that come
after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import ir
from .builder import number, shifted
from .eliminations import Elimination
from .expressions import Axis
from .graph import Node
from .ir import FLOAT, Op, Var
from .schedule import Schedule


class UpperFactor(Elimination):
    """`dense.upper_factor`."""

    def body(self) -> None:
        """Row by row: less all rows above, each times what it has above the diagonal's element, over its root."""
        builder, size = self.builder, number(self.node.shape[-1])
        with builder.loop("r", number(0), size) as row:
            with (
                self.registers_from(row, size) as j,
                self.changed(self.at(row, j)) as rest,
                builder.loop("c", number(0), row) as c,
            ):
                self.subtract(rest, self.read(self.at(c, j)), self.splat(self.number(c, row)))
            root = self.assigned("root", Op("sqrt", (self.number(row, row),), FLOAT))
            if self.width == 1:
                with builder.loop("j", number(0), row) as j:
                    builder.store("scratch", self.at(row, j), self.zero())
            with self.registers_from(row if self.width == 1 else number(0), size) as j:
                place = self.at(row, j)
                value = self.divided(self.read(place), root)
                builder.store("scratch", place, self.from_on(row, j, value, self.zero()), self.node)


class Solution(Elimination):
    """`dense.solved`.

    Attributes:
        matrix: of which the triangle is.
        size: how many rows it has.
    """

    def __init__(self, schedule: Schedule, node: Node) -> None:
        self.is_column = node.shape[-1] == 1
        self.along = -2 if self.is_column else -1
        super().__init__(schedule, node)
        self.size = node.shape[-2]
        axes = (Axis(name, self.size) for name in ("r", "c"))
        self.matrix = self.operand(schedule, node.args[0], *axes, along=0 if self.is_column else None)

    @property
    def given(self) -> Node:
        """The right side."""
        second: Node = self.node.args[1]
        return second

    @property
    def is_upper(self) -> bool:
        """Is the upper triangle read?"""
        return bool(self.node.args[2])

    def body(self) -> None:
        if self.is_column:
            self._column()
        else:
            self._rows()

    def _rows(self) -> None:
        """Row by row of the solution, all columns at once."""
        builder, columns = self.builder, number(self.node.shape[-1])
        with self._turns() as row, self.registers_from(number(0), columns) as j, self.changed(self.at(row, j)) as rest:
            with builder.loop("c", *self._done(row)) as c:
                self.subtract(rest, self.read(self.at(c, j)), self.splat(self.matrix.load(builder, row, c)))
            if not self.node.args[3]:
                builder.assign(rest, self.divided(rest, self.matrix.load(builder, row, row)), self.node)

    def _column(self) -> None:
        """Each number of the solution, and then what is left of all that come after it."""
        builder = self.builder
        with self._turns() as row:
            found = self.assigned("found", self.number(row))
            if not self.node.args[3]:
                builder.assign(found, self.divided(found, self.matrix.load(builder, row, row)), self.node)
                builder.store("scratch", self.at(row), found)
            first, end = (number(0), row) if self.is_upper else (shifted(row, 1), number(self.size))
            with self.registers_from(first, end) as j:
                before = self.assigned("before", self.read(self.at(j)))
                rest = self.assigned("rest", before)
                self.subtract(rest, self.matrix.load(builder, j, row, kind=self.kind), self.splat(found))
                kept = self.up_to(end, j, rest, before) if self.is_upper else self.from_on(first, j, rest, before)
                builder.store("scratch", self.at(j), kept, self.node)

    @contextmanager
    def _turns(self) -> Iterator[Var]:
        """A loop over the rows, from below where the upper triangle is read."""
        turns = (number(self.size - 1), number(-1), -1) if self.is_upper else (number(0), number(self.size), 1)
        with self.builder.loop("r", *turns) as row:
            yield row

    def _done(self, row: Var) -> tuple[ir.Expr, ir.Expr]:
        """Which rows are there before this one."""
        return (shifted(row, 1), number(self.size)) if self.is_upper else (number(0), row)
