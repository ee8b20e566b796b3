"""A page of Python text: lines, names, and expressions in words.

Expressions become text by one rule each: an operator, a call of a function of `fastpoly_kernels`, a load. An expression
that has been given a name is that name.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .expressions import FUNCTIONS, SIMD, Expr, Index
from .graph import Node
from .schedule import Schedule

WIDE = 100
"""Columns of a line, before its comment."""

COMMENT_COLUMN = 60

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}
INFIX |= {"ne": "!=", "and": "&", "or": "|", "xor": "^"}

STRENGTH = {"lt": 1, "le": 1, "gt": 1, "ge": 1, "eq": 1, "ne": 1, "or": 2, "xor": 3, "and": 4, "add": 5, "sub": 5}
STRENGTH |= {"mul": 6, "div": 6, "negative": 7}
"""How strongly Python's operators bind."""


class Page:
    """Lines with an indentation, and what the names on them mean.

    Attributes:
        lines: what is written.
        before: lines that belong before the loop over the steps.
        names: the names of expressions.
        vector: do the expressions stand for whole registers along the axis i?
        narrow: for one register, where the schedule has several at a time?
        kept_here: the values that the nest at hand stores; they are at hand in it.
        scratch: how many elements of scratch are taken.
    """

    def __init__(self, schedule: Schedule, dtype: str, scratch: int) -> None:
        self.schedule = schedule
        self.scratch = scratch
        self.dtype = dtype
        self.lines: list[str] = []
        self.before: list[str] = []
        self.names: dict[Expr, str] = {}
        self.vector = False
        self.narrow = False
        self.kept_here: frozenset[Expr] = frozenset()
        self.indent = 1
        self._used: set[str] = set()

    # -- lines

    def line(self, text: str, about: Expr | Node | None = None) -> None:
        """Write a line, with the caller's line that it comes from as its comment."""
        line = "    " * self.indent + text
        comment = self._comment(about)
        self.lines.append(f"{line:<{COMMENT_COLUMN}}  # {comment}" if comment else line)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write `header`, and what the block writes indented below it."""
        self.line(header)
        self.indent += 1
        yield
        self.indent -= 1

    def use(self, name: str) -> str:
        """A name that must be imported."""
        self._used.add(name)
        return name

    def spare(self, count: int) -> int:
        """Where so many elements of scratch lie that nobody else has."""
        start, self.scratch = self.scratch, self.scratch + count
        return start

    def imports(self) -> list[str]:
        """The lines that import what was used."""
        lines = ["import math", ""] if "math" in self._used else []
        lines += [f"from numba import {self.dtype}"] if "literal" in self._used else []
        for module, names in (("simd", SIMD), ("vector_math", FUNCTIONS)):
            if self._used & names:
                lines += imported(f"fastpoly_kernels.{module}", sorted(self._used & names))
        return lines

    def _comment(self, about: Expr | Node | None) -> str:
        origin = self.schedule.origin.get(about) if isinstance(about, Expr) else None
        node = origin[0] if origin else about
        if not isinstance(node, Node):
            return ""
        if node.where is None:
            return node.op
        return f"{'d ' if node.where.gradient else ''}{node.op}: {textwrap.shorten(node.where.text, COMMENT_COLUMN)}"

    # -- names

    def name(self, expr: Expr, before: bool = False) -> None:
        """Write a line that gives an expression a name; `before` all steps, or here."""
        text = self.text(expr)
        stem = expr.args[0].name if expr.op == "load" else self._operation(expr)
        name = self.schedule.new_name(stem)
        if before:
            self.before.append(f"{name} = {text}")
        else:
            self.line(f"{name} = {text}", expr)
        self.names[expr] = name

    def _operation(self, expr: Expr) -> str:
        origin = self.schedule.origin.get(expr)
        return (origin[0].op if origin else expr.op).strip("_")

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
        parts = self.unnamed(roots)
        users: dict[Expr, int] = dict.fromkeys(roots, 0)
        needed = set()
        for part in parts:
            for operand in map(self.resolved, part.operands):
                users[operand] = users.get(operand, 0) + 1
                if (part.axes and not operand.axes) or (operand.invariant and not part.invariant):
                    needed.add(operand)
        for root in roots:
            users[root] += 1
        vector, self.vector = self.vector, False
        for part in parts:
            if part.axes or part.op in ("number", "local"):
                continue
            loaded = part.op == "load" and part.invariant
            if part in needed or loaded or users[part] > 1 or len(self.text(part)) > WIDE // 2:
                self.name(part, before=part.invariant)
        self.vector = vector

    # -- text

    def text(self, expr: Expr, strength: int = 0, typed: bool = True) -> str:
        """An expression as text, in brackets where what stands around it binds more strongly than `strength`.

        A number next to a register may stand as it is; elsewhere (`typed`) it would make a float64 of a float32.
        """
        expr = self.resolved(expr)
        if expr in self.names:
            return self.names[expr]
        if expr.op == "number":
            return self._number(expr.args[0], typed)
        if expr.op == "local":
            return str(expr.args[0])
        if expr.op == "load":
            return self._load(expr)
        if expr.op == "lookup":
            return self._lookup(expr)
        if expr.op == "position":
            return self._position(expr.args[0])
        if expr.op in INFIX:
            return self._infix(expr, strength)
        return self._call(expr)

    def along(self, expr: Expr) -> bool:
        """Does it have a value in every lane of a register?"""
        return self.vector and any(axis.name == "i" for axis in expr.axes)

    def literal(self) -> str:
        """The type of numbers."""
        self.use("literal")
        return self.dtype

    def _infix(self, expr: Expr, strength: int) -> str:
        if expr.op == "mul" and expr.args[0].number == -1:
            text = f"-{self.text(expr.args[1], STRENGTH['negative'])}"
            return f"({text})" if strength > STRENGTH["add"] else text
        own, typed = STRENGTH[expr.op], not self.along(expr)
        left = self.text(expr.args[0], own + (own == STRENGTH["lt"]), typed)
        # a + (b + c) is written as a + b + c; but b - c may be exact where a + b is not, and a * b overflow where b / c
        # does not
        inverse = self.resolved(expr.args[1]).op in ("sub", "div")
        right = self.text(expr.args[1], own + (expr.op not in ("add", "mul") or inverse), typed)
        text = f"{left} {INFIX[expr.op]} {right}"
        return f"({text})" if own < strength else text

    def _call(self, expr: Expr) -> str:
        name = self.use({"not": "inverse"}.get(expr.op, expr.op))
        operands = [self.text(operand) for operand in expr.args]
        if name in ("pow", "fmod") and self.along(expr):  # functions of two that want both in registers
            operands = [
                text if self.along(self.resolved(operand)) else f"{self.use('splat')}({text}, {self.array('data')})"
                for text, operand in zip(operands, expr.args, strict=True)
            ]
        return f"{name}({', '.join(operands)})"

    def _number(self, value: float | bool, typed: bool) -> str:
        if isinstance(value, bool):
            return str(value)
        if math.isfinite(value):
            text = repr(value)
        else:
            self.use("math")
            text = "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
        return f"{self.literal()}({text})" if typed and self.dtype == "float32" else text

    def _lookup(self, expr: Expr) -> str:
        memory, rest, stride, which = expr.args
        return f"{memory.region}[{rest + memory.start} + {stride} * int({self.text(which)})]"

    def _position(self, index: Index) -> str:
        return f"{self.literal()}({index})"

    def _load(self, expr: Expr) -> str:
        memory, index = expr.args
        place = index + memory.start
        if self.along(expr):
            return f"{self.use('load')}({self.array(memory.region)}, {place})"
        return f"{memory.region}[{place}]"

    def array(self, region: str) -> str:
        """The array that registers are read from and written to."""
        return f"{self.use('narrow')}({region})" if self.narrow else region


def imported(module: str, names: list[str]) -> list[str]:
    """The lines that import these names from a module."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDE:
        return [line]
    indent = "    "
    rest = textwrap.wrap(", ".join(names) + ",", WIDE, initial_indent=indent, subsequent_indent=indent)
    return [f"from {module} import (", *rest, ")"]
