"""A kernel of one problem as a GPU's kernel of many: a problem in each thread of a warp, a warp in each program.

What `widen.py` makes lanes of are threads here. A program has a block of problems, whose elements lie next to each
other, so that the threads of a warp read neighbours. Nothing goes from one thread to another, but for the question
whether any of them goes on.
"""

from __future__ import annotations

from dataclasses import replace

from .ir import (
    BOOL,
    INDEX,
    Assign,
    Break,
    Const,
    Do,
    Expr,
    If,
    Kernel,
    Loop,
    Op,
    Statement,
    Var,
    View,
    While,
)
from .layout import Layout
from .widen import Widening, multiplied

THREADS = 32
"""Problems of a program."""


def widened_for_gpu(kernel: Kernel, layout: Layout) -> Kernel:
    """The kernel for as many problems as there are threads.

    It has two more arguments: how many rows of results a problem has in `out`, and the first of them to be written.

    Raises:
        NotWidenedError: its problems would part.
    """
    return _Widening(kernel, layout).whole()


class _Widening(Widening):
    def __init__(self, kernel: Kernel, layout: Layout) -> None:
        super().__init__(kernel, THREADS)
        self.layout = layout
        self.lane, self.last = Var("lane", INDEX.of(THREADS)), Var("last", INDEX)
        self.rows, self.first = Var("rows", INDEX), Var("first", INDEX)

    def whole(self) -> Kernel:
        wide = super().whole()
        layout, numbers = self.layout, {**wide.numbers, "rows": self.rows, "first": self.first}
        program = Op("wide", (Op("program", (), INDEX),), INDEX)
        row = multiplied(self.rows, layout.row * THREADS)
        begin: list[Statement] = [
            Assign(self.lane, Op("numbers", (), INDEX.of(THREADS))),
            View("carry", "carry", multiplied(program, layout.carry * THREADS)),
            View("scratch", "scratch", multiplied(program, layout.scratch * THREADS)),
            View("out", "out", Op("mul", (program, row), INDEX)),
        ]
        arguments = (*wide.arguments, "rows", "first")
        body: list[Statement] = [statement for statement in wide.body if not isinstance(statement, Do)]
        return replace(wide, arguments=arguments, numbers=numbers, body=begin + body, result=None, warps=1)

    def statements(self, body: list[Statement]) -> list[Statement]:
        return [one for statement in body for one in self.several(statement)]

    def several(self, statement: Statement) -> list[Statement]:
        """What a statement becomes."""
        match statement:
            case Assign(var=Var(name="row"), value=Const(value=0)):
                return [Assign(statement.var, multiplied(self.first, self.layout.row))]
            case Loop(axis=Var(name="step"), first=first, end=end, step=1, body=body):
                axis, one = statement.axis, Const(1, INDEX)
                then = Assign(axis, Op("add", (axis, one), INDEX))
                test = Op("lt", (axis, self.last), BOOL)
                return [Assign(axis, first), Assign(self.last, end), While(test, [*self.statements(body), then])]
            case If(test=test, body=[*_, Break()]) if self.is_several(test):
                none = Op("all_lanes", (self.value(test, True),), BOOL)
                # what is left of this step changes nothing any more
                return [Assign(self.last, Op("where", (none, Const(0, INDEX), self.last), INDEX))]
        return [self.statement(statement)]

    def place(self, index: Expr) -> Expr:
        return Op("add", (super().place(index), self.lane), INDEX.of(THREADS))
