"""From the loop IR to a page of Python that does the same, for whoever wants to read what runs.

Each line has the caller's line that it comes from as its comment. The page runs as it stands, in plain Python: what it
imports is numpy's, or of `fastpoly_kernels.pages`.
"""

from __future__ import annotations

import math
import textwrap

from fastpoly_kernels.functions import is_called
from fastpoly_kernels.pages import NAMES

from .instructions import INSTRUCTIONS
from .ir import INDEX, Assign, Break, Const, Do, Expr, If, Kernel, Load, Loop, Op, Statement, Store, Var, While, inside
from .names import PYTHON, Names
from .naming import WIDE

COMMENT_COLUMN = 60

INFIX = {name: of.sign for name, of in INSTRUCTIONS.items()}
STRENGTH = {**{name: of.strength for name, of in INSTRUCTIONS.items()}, "neg": 7}
"""How strongly Python's operators bind."""

CALLED = {"not": "inverse", "integer": "int"}
"""Functions that have another name in Python."""

DOC = '''    """Take `steps` steps in {dtype}: what the machine code does, as a page of Python.

    carry: what goes from step to step; data: what never changes; scratch: room for what one step keeps.
    out: a row of results after `wait` steps and then after every `every` steps.
    Axes with a loop: i, along which {lanes} elements are taken at a time, and j and k. All others are written out.
    """'''


def to_python(kernel: Kernel) -> str:
    """The page that defines `kernel`."""
    return Page(kernel).text()


class Page:
    """A page while it is written."""

    def __init__(self, kernel: Kernel, reserved: frozenset[str] = PYTHON) -> None:
        self.kernel = kernel
        self.lines: list[str] = []
        self.used: set[str] = set()
        # indices are called what they are; other variables give way to them
        indices = [*kernel.numbers.values()]
        indices += (s.axis for s in inside(kernel.body) if isinstance(s, Loop))
        indices += (s.var for s in inside(kernel.body) if isinstance(s, Assign) and s.var.kind.base == "index")
        self.new = Names(reserved).new
        self.names: dict[Var, str] = {}
        for var in indices:
            self.name(var)

    def text(self) -> str:
        kernel = self.kernel
        self.statements(kernel.body, 1)
        if kernel.result is not None:
            self.line(f"return {self.value(kernel.result)}", 1)
        head = f"def kernel({', '.join(kernel.arguments)}):"
        doc = DOC.format(dtype=kernel.dtype, lanes=kernel.lanes)
        return "\n".join([*self.imports(), "", "", head, doc, *self.lines]) + "\n"

    def imports(self) -> list[str]:
        lines = ["import math", ""] if "math" in self.used else []
        return [*lines, *imported("fastpoly_kernels.pages", self.used & NAMES)]

    def line(self, text: str, indent: int, note: object = "") -> None:
        line, comment = "    " * indent + text, str(note)
        self.lines.append(f"{line:<{COMMENT_COLUMN}}  # {comment}" if comment else line)

    # -- statements

    def statements(self, body: list[Statement], indent: int) -> None:
        for statement in body:
            match statement:
                case Assign(var=var, value=value, note=note):
                    self.line(self.assignment(var, value), indent, note)
                case Store(note=note):
                    self.line(self.stored(statement), indent, note)
                case Loop(axis=axis, first=first, end=end, step=step, body=inner):
                    bounds = [self.value(first), self.value(end), str(step)][: 2 + (step != 1)]
                    bounds = bounds[1:] if bounds[0] == "0" and step == 1 else bounds
                    self.line(f"for {self.name(axis)} in range({', '.join(bounds)}):", indent)
                    self.statements(inner, indent + 1)
                case While(test=test, body=inner):
                    self.line(f"while {self.value(test)}:", indent)
                    self.statements(inner, indent + 1)
                case If(test=test, body=inner):
                    self.line(f"if {self.value(test)}:", indent)
                    self.statements(inner, indent + 1)
                case Break():
                    self.line("break", indent)
                case Do(name=name, buffer=buffer, args=args, note=note):
                    texts = [*[buffer] * bool(buffer), *map(self.value, args)]
                    self.line(f"{self.called(name)}({', '.join(texts)})", indent, note)
                case _:
                    self.other(statement, indent)

    def other(self, statement: Statement, indent: int) -> None:
        """What a CPU's kernels do not have."""
        raise NotImplementedError(str(statement))

    def stored(self, store: Store) -> str:
        """Writing one element, or a register."""
        buffer, place, value = store.buffer, self.value(store.index), self.value(store.value)
        several = store.value.kind.lanes
        return f"{self.use('store')}({buffer}, {place}, {value})" if several else f"{buffer}[{place}] = {value}"

    def assignment(self, var: Var, value: Expr) -> str:
        """An assignment, of an index as one of += and -= if it can be."""
        text = self.value(value)
        name = self.name(var)
        if isinstance(value, Op) and value.name in ("add", "sub") and value.kind == INDEX and value.args[0] is var:
            return f"{name} {INFIX[value.name]}= {self.value(value.args[1], STRENGTH['mul'])}"
        return f"{name} = {text}"

    # -- expressions

    def use(self, name: str) -> str:
        """A name that must be imported."""
        self.used.add(name)
        return name

    def called(self, name: str) -> str:
        """What an operation is called here."""
        return self.use(CALLED.get(name, name))

    def name(self, var: Var) -> str:
        """What a variable is called."""
        if var not in self.names:
            self.names[var] = self.name(var.like) if var.like else self.new(var.name)
        return self.names[var]

    def value(self, expr: Expr, strength: int = 0, beside: bool = False) -> str:
        """An expression, in brackets where what stands around it binds more strongly than `strength`.

        A number `beside` a register may stand as it is; elsewhere it would make a float64 of a float32, and of all that
        is added to it.
        """
        match expr:
            case Const():
                return self.constant(expr, beside)
            case Var():
                return self.name(expr)
            case Load():
                return self.load(expr)
            case Op(name=name) if name in INFIX or name == "neg":
                text, own = self.infix(expr), STRENGTH[name]
                # to Python a sign binds more strongly than a product, to a reader it does not
                return f"({text})" if strength > (STRENGTH["add"] if name == "neg" else own) else text
        return self.call(expr)

    def infix(self, op: Op) -> str:
        own, beside = STRENGTH[op.name], self.takes_numbers(op)
        if op.name == "neg":
            return f"-{self.value(op.args[0], own)}"
        left = self.value(op.args[0], own + (own == STRENGTH["lt"]), beside)
        return f"{left} {INFIX[op.name]} {self.value(op.args[1], own + 1, beside)}"

    def takes_numbers(self, op: Op) -> bool:
        """May a number stand as it is beside this operator?"""
        return op.kind.lanes > 0

    def load(self, load: Load) -> str:
        """Reading one element, or a register."""
        place, lanes = self.value(load.index), load.kind.lanes
        is_wide = lanes and not load.index.kind.lanes
        return f"{self.use('load')}({load.buffer}, {place}, {lanes})" if is_wide else f"{load.buffer}[{place}]"

    def call(self, op: Op) -> str:
        name, args, lanes = op.name, op.args, op.kind.lanes
        if name == "isfinite" and args[0].kind.lanes:
            return f"{self.use('are_finite')}({self.value(args[0])})"
        if name == "isfinite":
            self.use("math")
            return f"math.isfinite({self.value(args[0])})"
        if name == "not" and isinstance(args[0], Op) and args[0].name == "isfinite" and not lanes:
            return f"not {self.value(args[0])}"
        if name == "integer" and lanes:
            return f"{self.use('whole')}({self.value(args[0])})"
        if name == "positions":
            first, step = map(self.value, args)
            return f"{self.use(self.kernel.dtype)}({self.use('positions')}({first}, {step}, {lanes}))"
        if name == "position":
            return f"{self.use(self.kernel.dtype)}({self.value(args[0])})"
        texts = [self.value(arg) for arg in args]
        if is_called(name) and len(args) > 1 and lanes:  # functions of two that want both in registers
            texts = [
                text if arg.kind.lanes else f"{self.use('splat')}({text}, {lanes})"
                for text, arg in zip(texts, args, strict=True)
            ]
        if name in ("splat", "widened", "first_lanes"):
            texts.append(str(lanes))
        return f"{self.called(name)}({', '.join(texts)})"

    def constant(self, const: Const, plain: bool) -> str:
        value = const.value
        if not isinstance(value, float) or math.isfinite(value):
            text = repr(value)
        else:
            self.use("math")
            text = "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
        typed = isinstance(value, float) and self.kernel.dtype == "float32" and not plain
        return f"{self.use('float32')}({text})" if typed else text


def imported(module: str, names: set[str]) -> list[str]:
    """The lines that import these names from a module."""
    text, indent = ", ".join(sorted(names)), "    "
    line = f"from {module} import {text}"
    if len(line) <= WIDE:
        return [line] if names else []
    rest = textwrap.wrap(text + ",", WIDE, initial_indent=indent, subsequent_indent=indent)
    return [f"from {module} import (", *rest, ")"]
