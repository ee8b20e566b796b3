"""Jacobi's rotations of a matrix's rows, pair by pair, until nothing is left to turn: see `eliminations`.

What the rows have behind the matrix turns with them: of ones on a diagonal become the vectors. Each sweep turns all
pairs that are not done yet, and the first one that finds none is the last. Demmel and Veselic, "Jacobi's method is more
accurate than QR", 1992.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from . import ir
from .builder import number, shifted
from .eliminations import Elimination
from .ir import BOOL, FLOAT, Break, Const, If, Op, Var

SWEEPS = 40
"""At most; eight or so bring matrices of hundreds of rows to their last bits, and NaN is never done."""

USUAL = 8
"""Sweeps that are counted upon."""

ZERO, ONE = Const(0.0, FLOAT), Const(1.0, FLOAT)


class Rotations(Elimination):
    """What both kinds have in common."""

    @property
    def rows(self) -> int:
        """Of the matrix."""
        return self.node.shape[-2]

    @property
    def eps(self) -> float:
        """A rounding."""
        return float(np.finfo(self.builder.dtype).eps)

    @property
    def measured(self) -> tuple[int, int, int]:
        """Every pair, in every sweep."""
        *batch, rows, columns = self.node.shape
        return math.prod(batch) * USUAL * rows * rows // 2 * -(-columns // self.width), 1, 8

    def body(self) -> None:
        builder, rows = self.builder, number(self.rows)
        self.begin()
        with builder.loop("sweep", number(0), number(SWEEPS)):
            turned = self.assigned("turned", ZERO)
            with (
                builder.loop("p", number(0), rows) as p,
                builder.loop("q", shifted(p, 1), rows) as q,
            ):
                one, off, other = self.products(p, q)
                with builder.into(If(Op("not", (self.is_done(one, off, other),), BOOL))):
                    tangent = self.tangent(one, off, other)
                    square = self.sum(ONE, self.times(tangent, tangent))
                    cosine = self.assigned("cosine", Op("div", (ONE, Op("sqrt", (square,), FLOAT)), FLOAT))
                    sine = self.assigned("sine", self.times(tangent, cosine))
                    self.turn(p, q, cosine, sine)
                    self.finish(p, q, cosine, sine, (one, self.times(tangent, off), other))
                    builder.assign(turned, ONE)
            builder.body.append(If(Op("eq", (turned, ZERO), BOOL), [Break()]))

    def begin(self) -> None:
        """What comes before the first sweep."""

    @abstractmethod
    def products(self, p: Var, q: Var) -> tuple[Var, Var, Var]:
        """What becomes diagonal when two rows are turned: an element on the diagonal, that beside it, the other one."""

    @abstractmethod
    def is_done(self, one: Var, off: Var, other: Var) -> ir.Expr:
        """Is that diagonal?"""

    def finish(self, p: Var, q: Var, cosine: Var, sine: Var, parts: tuple[ir.Expr, ir.Expr, ir.Expr]) -> None:
        """What comes after that; `parts`: an element on the diagonal, what it gives to the other one, and that."""

    def tangent(self, one: Var, off: Var, other: Var) -> Var:
        """Of the smaller one of the angles by which two rows can turn."""
        twice = self.sum(off, off)
        ratio = self.assigned("ratio", Op("div", (Op("sub", (other, one), FLOAT), twice), FLOAT))
        length = Op("sqrt", (self.sum(ONE, self.times(ratio, ratio)),), FLOAT)
        tangent = self.assigned("tangent", Op("div", (ONE, self.sum(self.size(ratio), length)), FLOAT))
        is_left = Op("lt", (ratio, ZERO), BOOL)
        return self.builder.assign(tangent, Op("where", (is_left, Op("neg", (tangent,), FLOAT), tangent), FLOAT))

    def turn(self, p: Var, q: Var, cosine: Var, sine: Var) -> None:
        """Turn two rows, with what is behind the matrix."""
        with self.registers_from(number(0), number(self.node.shape[-1])) as j:
            self.turn_two(self.at(p, j), self.at(q, j), self.splat(cosine), self.splat(sine))

    def turn_two(self, one: ir.Expr, other: ir.Expr, cosine: ir.Expr, sine: ir.Expr) -> None:
        """Turn what lies at two places: numbers or registers, as the cosine is one."""
        builder, kind = self.builder, cosine.kind
        x, y = (self.assigned(name, ir.Load("scratch", at, kind)) for name, at in (("x", one), ("y", other)))
        less = Op("sub", (Op("mul", (cosine, x), kind), Op("mul", (sine, y), kind)), kind)
        more = Op("add", (Op("mul", (sine, x), kind), Op("mul", (cosine, y), kind)), kind)
        builder.store("scratch", one, less, self.node)
        builder.store("scratch", other, more, self.node)

    # -- numbers

    def sum(self, one: ir.Expr, other: ir.Expr) -> Op:
        """Of two numbers."""
        return Op("add", (one, other), FLOAT)

    def times(self, one: ir.Expr, other: ir.Expr) -> Op:
        """Their product."""
        return Op("mul", (one, other), FLOAT)

    def size(self, value: ir.Expr) -> Op:
        """Without its sign."""
        return Op("absolute", (value,), FLOAT)


class Diagonal(Rotations):
    """`dense.diagonalized`: rows are turned, and columns as they were."""

    def products(self, p: Var, q: Var) -> tuple[Var, Var, Var]:
        places = (("one", p, p), ("off", p, q), ("other", q, q))
        one, off, other = (self.assigned(name, self.number(row, column)) for name, row, column in places)
        return one, off, other

    def is_done(self, one: Var, off: Var, other: Var) -> ir.Expr:
        """Is it less than a rounding of either?"""
        limits = (self.times(Const(self.eps / 4, FLOAT), self.size(diagonal)) for diagonal in (one, other))
        beside_one, beside_other = (Op("le", (self.size(off), limit), BOOL) for limit in limits)
        return Op("and", (beside_one, beside_other), BOOL)

    def finish(self, p: Var, q: Var, cosine: Var, sine: Var, parts: tuple[ir.Expr, ir.Expr, ir.Expr]) -> None:
        builder, (one, moved, other) = self.builder, parts
        with builder.loop("r", number(0), number(self.rows)) as row:
            self.turn_two(self.at(row, p), self.at(row, q), cosine, sine)
        for place, value in (
            (self.at(p, p), Op("sub", (one, moved), FLOAT)),
            (self.at(q, q), self.sum(other, moved)),
            (self.at(p, q), ZERO),
            (self.at(q, p), ZERO),
        ):
            builder.store("scratch", place, value, self.node)


class RightAngles(Rotations):
    """`dense.at_right_angles`: rows are turned until all are at right angles to each other."""

    @property
    def length(self) -> int:
        """Of a row, without what is behind it."""
        return int(self.node.args[1])

    def begin(self) -> None:
        """Rows that are nothing but roundings of others are at no angle to them: how long those are.

        Rows that are a little longer are turned until they are so short, if a matrix is of lower rank: what is made of
        it counts singular values of some roundings as zero.
        """
        limit = self.limit = self.assigned("limit", ZERO)
        with self.builder.loop("r", number(0), number(self.rows)) as row:
            (square,) = self.sums(row)
            self.builder.assign(limit, self.sum(limit, square))
        self.builder.assign(limit, self.times(Const(self.eps**2, FLOAT), limit))

    def products(self, p: Var, q: Var) -> tuple[Var, Var, Var]:
        one, off, other = self.sums(p, q)
        return one, off, other

    def is_done(self, one: Var, off: Var, other: Var) -> ir.Expr:
        roots = self.times(Op("sqrt", (one,), FLOAT), Op("sqrt", (other,), FLOAT))
        limit = self.times(Const(self.eps * math.sqrt(self.length), FLOAT), roots)
        is_right = Op("le", (self.size(off), limit), BOOL)
        are_short = [Op("le", (square, self.limit), BOOL) for square in (one, other)]
        return Op("or", (is_right, Op("or", (are_short[0], are_short[1]), BOOL)), BOOL)

    def sums(self, p: Var, q: Var | None = None) -> list[Var]:
        """A row's square, and with another one its product with that, and the square of that."""
        builder, length = self.builder, self.length
        names = ("one",) if q is None else ("one", "off", "other")
        totals = [self.assigned(f"{name}_parts", self.zero()) for name in names]
        with self.registers_from(number(0), number(length)) as j:
            x = self.assigned("x", self.read(self.at(p, j)))
            y = x if q is None else self.assigned("y", self.read(self.at(q, j)))
            for total, pair in zip(totals, ((x, x), (x, y), (y, y)), strict=False):
                product: ir.Expr = Op("mul", pair, self.kind)
                if length % self.width:
                    product = self.up_to(number(length), j, product, self.zero())
                builder.assign(total, Op("add", (total, product), self.kind), self.node)
        if self.width == 1:
            return totals
        pairs = zip(names, totals, strict=True)
        return [self.assigned(name, Op("total", (total,), FLOAT)) for name, total in pairs]
