"""Which expressions get a name in a kernel: what is used twice, in deeper loops, or in long lines."""

from __future__ import annotations

from collections.abc import Iterable

from .expressions import Expr
from .instructions import INSTRUCTIONS
from .ir import Var
from .plan import Root
from .schedule import Schedule

WIDE = 100
"""Columns of a line, before its comment."""

NAME = 6
"""Columns of a name, about."""


class Naming:
    """What the expressions of a schedule are called where its kernel is written.

    Attributes:
        names: what those are called that have been computed.
        kept_here: the values that the nest at hand stores; they are at hand in it.
        scratch: how many elements of scratch are taken.
    """

    def __init__(self, schedule: Schedule, dtype: str, scratch: int) -> None:
        self.schedule = schedule
        self.dtype = dtype
        self.scratch = scratch
        self.names: dict[Expr, Var] = {}
        self.kept_here: frozenset[Expr] = frozenset()

    def name(self, expr: Expr, before: bool = False) -> None:
        """Compute an expression and name it; `before` all steps, or here."""
        raise NotImplementedError

    def hint(self, expr: Expr) -> str:
        """What to call an expression: as its data, or as the operation that it comes from."""
        if expr.op == "load":
            return str(expr.args[0].name)
        origin = self.schedule.origin.get(expr)
        return (origin[0].op if origin else expr.op).strip("_")

    def spare(self, count: int) -> int:
        """Where so many elements of scratch lie that nobody else has."""
        start, self.scratch = self.scratch, self.scratch + count
        return start

    def resolved(self, expr: Expr) -> Expr:
        """A kept value is at hand in the nest that stores it; elsewhere it is loaded."""
        while expr.op == "kept":
            expr = expr.args[0] if expr.args[0] in self.kept_here else expr.args[1]
        return expr

    def unnamed(self, roots: Iterable[Expr]) -> list[Expr]:
        """Every expression that the roots are made of and that has no name yet, operands first."""
        found: dict[Expr, None] = {}
        for root in map(self.resolved, roots):
            stack = [root]
            while stack:
                expr = stack[-1]
                if expr in found or expr in self.names:
                    stack.pop()
                    continue
                waiting = [e for e in map(self.resolved, expr.operands) if e not in found and e not in self.names]
                stack.extend(reversed(waiting))
                if not waiting:
                    found[stack.pop()] = None
        return list(found)

    def hoist(self, roots: Iterable[Expr]) -> None:
        """Name what these expressions need from outside of all loops: what they share, or what changes in no step."""
        roots = [self.resolved(root) for root in roots]
        parts, needed = self.arranged(self.unnamed(roots))
        users: dict[Expr, int] = dict.fromkeys(roots, 0)
        for part in parts:
            for operand in map(self.resolved, part.operands):
                users[operand] = users.get(operand, 0) + 1
                if (part.axes and not operand.axes) or (operand.invariant and not part.invariant):
                    needed.add(operand)
        for root in roots:
            users[root] += 1
        width: dict[Expr, int] = {}
        for part in parts:
            if part.axes or part.op in ("number", "local") or part in self.names:
                continue
            operands = map(self.resolved, part.operands)
            width[part] = _own_width(part) + sum(width.get(o) or self._width(o) for o in operands)
            loaded = part.op == "load" and part.invariant
            if part in needed or loaded or users[part] > 1 or width[part] > WIDE // 2:
                self.name(part, before=part.invariant)
                width[part] = self._width(part)

    def arranged(self, parts: list[Expr]) -> tuple[list[Expr], set[Expr]]:
        """What is to be computed, in an order with operands first, and what of it is to have a name in any case."""
        return parts, set()

    def _width(self, expr: Expr) -> int:
        """About how many columns a number or a name takes. Names differ; but what is computed must not depend on them,
        and how sums are associated depends on which parts of them are computed by themselves.
        """
        if expr.op == "number":
            return len(repr(expr.args[0])) + len("float32()") * (self.dtype == "float32")
        return {"local": NAME // 2, "load": 10}.get(expr.op, NAME)

    def worth_a_name(self, exprs: list[Expr], depth: dict[Expr, int], roots: list[Root], loops: int) -> set[Expr]:
        """Of `exprs`, operands first: what is used twice, or from a deeper loop, or would make a long line.

        Args:
            depth: inside of how many of the nest's `loops` each is computed.
            roots: what they are for.
        """
        users: dict[Expr, int] = {}
        named: set[Expr] = set()
        width: dict[Expr, int] = {}
        for expr in exprs:
            operands = [self.resolved(operand) for operand in expr.operands]
            for operand in operands:
                users[operand] = users.get(operand, 0) + 1
                if operand in depth and depth[operand] < depth[expr]:
                    named.add(operand)
            width[expr] = _own_width(expr) + sum(NAME if o in named else width.get(o, NAME) for o in operands)
            for widest in sorted((o for o in operands if o in width), key=width.__getitem__, reverse=True):
                if width[expr] > WIDE:
                    named.add(widest)
                    width[expr] -= width[widest] - NAME
        for value in (self.resolved(root.value) for root in roots):
            users[value] = users.get(value, 0) + 1
            if value in depth and depth[value] < loops:
                named.add(value)
        return named | {expr for expr in exprs if users.get(expr, 0) > 1}


def _own_width(expr: Expr) -> int:
    """About how many columns an expression takes beside those of its operands."""
    if expr.op == "load":
        return NAME if expr.args[0].region == "data" else 3 * NAME  # data have names, others say where they lie
    return 3 if expr.op in INSTRUCTIONS else len(expr.op) + 2 * len(expr.operands)
