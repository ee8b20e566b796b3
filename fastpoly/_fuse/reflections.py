"""Householder's reflections, of which a matrix's Q is a product: see `eliminations`.

A reflection subtracts from each column a multiple of one vector, the same for all: registers run along the rows, and
what is subtracted from as many columns as fill one is summed over the rows first.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from . import ir
from .builder import number, shifted
from .eliminations import Elimination
from .expressions import Axis
from .graph import Node
from .ir import BOOL, FLOAT, Const, Op, Var
from .schedule import Schedule


class Reflections(Elimination):
    """What both have in common."""

    def reflect(self, k: Var, j: Var, tau: ir.Expr, vector: Callable[[Var], ir.Expr], only: Var | None = None) -> None:
        """Reflect the columns from j on that one register has, by the k-th vector, which begins with a one at row k.

        Args:
            vector: its element of a row.
            only: the last of them that is not to be reflected, if there is one.
        """
        builder, rows = self.builder, number(self.node.shape[-2])
        across = self.assigned("across", self.read(self.at(k, j)))
        with builder.loop("r", shifted(k, 1), rows) as row:
            product = Op("mul", (self.read(self.at(row, j)), self.splat(vector(row))), self.kind)
            builder.assign(across, Op("add", (across, product), self.kind), self.node)
        share: ir.Expr = Op("mul", (across, self.splat(tau)), self.kind)
        if only is not None:
            share = self.from_on(shifted(only, 1), j, share, self.zero())
            share = self.up_to(number(self.node.shape[-1] - 1), j, share, self.zero())
        builder.assign(across, share, self.node)
        with self.changed(self.at(k, j)) as rest:
            builder.assign(rest, Op("sub", (rest, across), self.kind), self.node)
        with builder.loop("r", shifted(k, 1), rows) as row, self.changed(self.at(row, j)) as rest:
            self.subtract(rest, self.splat(vector(row)), across)


class Reflectors(Reflections):
    """`dense.reflectors`: column by column, each reflected so that nothing is left of it below the diagonal."""

    def body(self) -> None:
        builder, (rows, columns) = self.builder, self.node.shape[-2:]
        zero, one = Const(0.0, FLOAT), Const(1.0, FLOAT)
        with builder.loop("k", number(0), number(min(rows, columns - 1))) as k:
            first, squares = self.assigned("first", self.number(k, k)), self.assigned("squares", zero)
            with builder.loop("r", shifted(k, 1), number(rows)) as row:
                below = self.assigned("below", self.number(row, k))
                builder.assign(squares, Op("add", (squares, Op("mul", (below, below), FLOAT)), FLOAT), self.node)
            square = Op("add", (Op("mul", (first, first), FLOAT), squares), FLOAT)
            length = self.assigned("length", Op("sqrt", (square,), FLOAT))
            is_negative, is_there = Op("lt", (first, zero), BOOL), Op("gt", (squares, zero), BOOL)
            builder.assign(length, Op("where", (is_negative, length, Op("neg", (length,), FLOAT)), FLOAT))
            share = Op("div", (Op("sub", (length, first), FLOAT), Op("where", (is_there, length, one), FLOAT)), FLOAT)
            tau = self.assigned("tau", Op("where", (is_there, share, zero), FLOAT))
            beyond = Op("sub", (first, length), FLOAT)
            divisor = self.assigned("divisor", Op("where", (is_there, beyond, one), FLOAT))
            builder.store("scratch", self.at(k, k), Op("where", (is_there, length, first), FLOAT), self.node)
            builder.store("scratch", self.at(k, number(columns - 1)), tau, self.node)
            with builder.loop("r", shifted(k, 1), number(rows)) as row:
                place = self.at(row, k)
                builder.store("scratch", place, self.divided(self.number(row, k), divisor), self.node)
            with self.registers_from(shifted(k, 1), number(columns - 1)) as j:
                self.reflect(k, j, tau, lambda row: self.number(row, k), only=k)


class Reflected(Reflections):
    """`dense.reflected`: all vectors on some columns, and then on the next ones."""

    def __init__(self, schedule: Schedule, node: Node) -> None:
        super().__init__(schedule, node)
        reflectors: Node = node.args[1]
        rows, columns = reflectors.shape[-2:]
        self.count = columns - 1
        self.reflectors = self.operand(schedule, reflectors, Axis("r", rows), Axis("k", columns))

    @property
    def measured(self) -> tuple[int, int, int]:
        """Every row, for each vector."""
        *batch, rows, columns = self.node.shape
        return math.prod(batch) * self.count * rows * -(-columns // self.width), 1, 2

    def body(self) -> None:
        builder, count = self.builder, self.count
        turns = (number(0), number(count), 1) if self.node.args[2] else (number(count - 1), number(-1), -1)
        with self.registers_from(number(0), number(self.node.shape[-1])) as j, builder.loop("k", *turns) as k:
            tau = self.assigned("tau", self.reflectors.load(builder, k, number(count)))
            self.reflect(k, j, tau, lambda row: self.reflectors.load(builder, row, k))
