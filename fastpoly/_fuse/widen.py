"""A kernel of one problem as a kernel of several, one in each lane of a register.

Its problems take every step together. What is the same for all of them, as what is read from `data`, stays one number;
everything else becomes a register. Of the buffers that each problem has for itself, the elements of all lanes lie next
to each other. The kernel ends when no lane would go on.
"""

from __future__ import annotations

from dataclasses import replace

from .ir import (
    BOOL,
    FLOAT,
    Assign,
    Break,
    Const,
    Do,
    Expr,
    If,
    Kernel,
    Kind,
    Load,
    Loop,
    Op,
    Statement,
    Store,
    Var,
    inside,
)

SHARED = frozenset({"data"})
"""Buffers that all problems have in common."""

OF_ONE_LANE = frozenset({"splat", "total", "totals", "product", "largest", "smallest"})
"""Operations that are nothing on a register of one lane."""

BY_LANE = frozenset({"totals", "first_lanes", "masked", "widened", "packed", "lane", "numbers", "integer"})
"""Operations that are not the same in every lane, or whose value is a place."""


class NotWidenedError(Exception):
    """The problems of a kernel would part: each would read from another place, or take another branch."""


def widened(kernel: Kernel, lanes: int) -> Kernel:
    """The kernel for so many problems.

    Args:
        kernel: of one problem; its registers have one lane.

    Raises:
        NotWidenedError: it cannot be.
    """
    assert kernel.lanes == 1, "its registers are of samples"
    return Widening(kernel, lanes).whole()


class Widening:
    """A kernel while it is widened."""

    def __init__(self, kernel: Kernel, lanes: int) -> None:
        self.kernel, self.lanes = kernel, lanes
        self.differs: set[Var] = set()
        self.vars: dict[Var, Var] = {}

    def whole(self) -> Kernel:
        kernel = self.kernel
        assigns = [statement for statement in inside(kernel.body) if isinstance(statement, Assign)]
        before = -1
        while before < len(self.differs):  # what a loop assigns at its end it may have read at its beginning
            before = len(self.differs)
            self.differs.update(each.var for each in assigns if self.is_several(each.value))
        if any(var.kind.base == "index" for var in self.differs):
            raise NotWidenedError
        return replace(kernel, lanes=self.lanes, body=self.statements(kernel.body))

    def is_several(self, expr: Expr) -> bool:
        """Has each problem a value of its own?"""
        match expr:
            case Var():
                return expr in self.differs
            case Load(buffer=buffer):
                return buffer not in SHARED
            case Op(args=args):
                return any(map(self.is_several, args))
        return False

    def kind(self, kind: Kind, several: bool) -> Kind:
        return kind.of(self.lanes if several else 0)

    def var(self, var: Var) -> Var:
        if var.kind.base == "index":
            return var
        if var not in self.vars:
            like = None if var.like is None else self.var(var.like)
            self.vars[var] = Var(var.name, self.kind(var.kind, var in self.differs), like)
        return self.vars[var]

    # -- statements

    def statements(self, body: list[Statement]) -> list[Statement]:
        return [self.statement(statement) for statement in body]

    def statement(self, statement: Statement) -> Statement:
        match statement:
            case Assign(var=var, value=value, note=note):
                return Assign(self.var(var), self.value(value, var in self.differs), note)
            case Store(buffer=buffer, index=index, value=value, note=note, mask=None):
                return Store(buffer, self.place(index), self.value(value, True), note)
            case Loop(axis=axis, first=first, end=end, step=step, body=body):
                return Loop(axis, first, end, step, self.statements(body))
            case If(test=test, body=body) if not self.is_several(test):
                return If(test, self.statements(body))
            case If(test=test, body=[*_, Break()] as body):
                return If(Op("all_lanes", (self.value(test, True),), BOOL), self.statements(body))
            case Break() | Do(name="aligned_stack"):
                return statement
        raise NotWidenedError

    def place(self, index: Expr) -> Expr:
        """Where the first lane's element lies."""
        if self.is_several(index):
            raise NotWidenedError
        return multiplied(self.expr(index), self.lanes)

    # -- expressions

    def value(self, expr: Expr, several: bool) -> Expr:
        """An expression, with a value for each lane if it is to be `several`."""
        wide = self.expr(expr)
        if not several or wide.kind.lanes:
            return wide
        return Op("splat", (wide,), wide.kind.of(self.lanes))

    def expr(self, expr: Expr) -> Expr:
        match expr:
            case Const():
                return expr
            case Var():
                return self.var(expr)
            case Load(buffer=buffer, index=index, mask=None):
                if buffer not in SHARED:
                    return Load(buffer, self.place(index), FLOAT.of(self.lanes))
                if self.is_several(index):
                    raise NotWidenedError
                return Load(buffer, self.expr(index), FLOAT)
            case Op(name=name, args=args, kind=kind):
                if name in OF_ONE_LANE and len(args) == 1:
                    return self.expr(args[0])
                several = self.is_several(expr)
                if name in BY_LANE and several:
                    raise NotWidenedError
                # a choice between two that are the same for all, by a test that is not, is a value for each lane
                return Op(name, tuple(map(self.expr, args)), self.kind(kind, several))
        raise NotWidenedError


def multiplied(index: Expr, by: int) -> Expr:
    """An index so many times."""
    if isinstance(index, Const):
        return replace(index, value=int(index.value) * by)
    return Op("mul", (index, Const(by, index.kind)), index.kind)
