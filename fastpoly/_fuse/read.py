"""From a page of Python, as `write` writes it, to the loop IR.

The page is a program in a small language: assignments, loops over ranges, conditions, arithmetic, loads and stores, and
the functions of `fastpoly_kernels`. What is not of it is refused by name.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from fastpoly_kernels.formulas import FORMULAS

from .ir import (
    BOOL,
    FLOAT,
    INDEX,
    Assign,
    Break,
    Const,
    Do,
    Expr,
    If,
    Kernel,
    Load,
    Loop,
    Op,
    Statement,
    Store,
    Var,
    operation,
)

BUFFERS = ("carry", "data", "scratch", "out", "room", "counter")

BINARY: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
COMPARED: dict[type, str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
PLAIN = {"where", "maximum", "minimum", "absolute", "floor", "ceil", "trunc", "nearest", "min"}
PLAIN |= {"total", "product", "largest", "smallest"}


def read(text: str, dtype: str, lanes: int, register: int) -> Kernel:
    """The kernel that a page defines.

    Args:
        text: the page.
        dtype: of all floats.
        lanes: elements taken at a time.
        register: elements in one register, which `narrow` arrays are taken by.
    """
    return _Reader(dtype, lanes, register).kernel(ast.parse(text))


class _Reader:
    def __init__(self, dtype: str, lanes: int, register: int) -> None:
        self.dtype, self.lanes, self.register = dtype, lanes, register
        self.variables: dict[str, Var] = {}

    def kernel(self, page: ast.Module) -> Kernel:
        function = next(node for node in page.body if isinstance(node, ast.FunctionDef))
        names = [argument.arg for argument in function.args.args]
        numbers = {name: Var(name, INDEX) for name in names if name not in BUFFERS}
        self.variables |= numbers
        *body, last = function.body[1:]  # after the docstring
        assert isinstance(last, ast.Return)
        assert last.value is not None
        statements = self.statements(body)
        return Kernel(self.dtype, self.lanes, tuple(names), numbers, statements, self.value(last.value))

    # -- statements

    def statements(self, nodes: list[ast.stmt]) -> list[Statement]:
        found: list[Statement] = []
        for node in nodes:
            self.statement(node, found)
        return found

    def statement(self, node: ast.stmt, into: list[Statement]) -> None:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                # all values are those of before
                fresh = [self.value(value) for value in values]
                held = [
                    Var(f"next_{ast.unparse(target)}", value.kind) for target, value in zip(targets, fresh, strict=True)
                ]
                into += [Assign(var, value) for var, value in zip(held, fresh, strict=True)]
                for target, var in zip(targets, held, strict=True):
                    self.assign(target, var, into)
            case ast.Assign(targets=targets, value=value):
                new = self.value(value)
                for target in targets:
                    self.assign(target, new, into)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.assign(
                    node.target, self.operation(BINARY[type(op)], self.variables[name], self.value(value)), into
                )
            case ast.Expr(value=ast.Call(func=ast.Name(id="store"), args=[array, place, value])):
                into.append(Store(self.array(array)[0], self.value(place), self.value(value)))
            case ast.Expr(value=ast.Call(func=ast.Name(id="aligned_stack"))):
                into.append(Do("aligned_stack"))
            case ast.Expr(value=ast.Call(func=ast.Name(id="meet"), args=[ast.Name(id=counter), count])):
                into.append(Do("meet", counter, (self.value(count),)))
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=span), body=body):
                into.append(self.loop(name, span, body))
            case ast.If(test=test, body=body, orelse=[]):
                into.append(If(self.value(test), self.statements(body)))
            case ast.Break():
                into.append(Break())
            case _:
                raise _unknown(node)

    def assign(self, target: ast.expr, value: Expr, into: list[Statement]) -> None:
        match target:
            case ast.Name(id=name):
                into.append(Assign(self.variable(name, value), value))
            case ast.Subscript(value=ast.Name(id=buffer), slice=place):
                into.append(Store(buffer, self.value(place), value))
            case _:
                raise _unknown(target)

    def variable(self, name: str, value: Expr) -> Var:
        """The variable of this name, a new one where it becomes another kind of thing."""
        known = self.variables.get(name)
        if known is None or known.kind != value.kind:
            known = self.variables[name] = Var(name, value.kind)
        return known

    def loop(self, name: str, span: list[ast.expr], body: list[ast.stmt]) -> Loop:
        first = self.value(span[0]) if len(span) > 1 else Const(0, INDEX)
        end = self.value(span[min(len(span) - 1, 1)])
        step = int(ast.literal_eval(span[2])) if len(span) > 2 else 1
        axis = self.variables[name] = Var(name, INDEX)
        return Loop(axis, first, end, step, self.statements(body))

    # -- expressions

    def value(self, node: ast.expr) -> Expr:
        match node:
            case ast.Constant(value=bool() as value):
                return Const(value, BOOL)
            case ast.Constant(value=int() as value):
                return Const(value, INDEX)
            case ast.Constant(value=float() as value):
                return Const(value, FLOAT)
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                return Const(getattr(math, name), FLOAT)
            case ast.Name(id=name):
                return self.variables[name]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
                return Const(-value, INDEX)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                turned = self.value(operand)
                return Const(-turned.value, turned.kind) if isinstance(turned, Const) else operation("neg", turned)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return operation("not", self.value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self.operation(BINARY[type(op)], self.value(left), self.value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.operation(COMPARED[type(op)], self.value(left), self.value(right))
            case ast.Subscript(value=ast.Name(id=buffer), slice=place):
                return Load(buffer, self.value(place), FLOAT)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.call(name, args)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isfinite"), args=[value]):
                return operation("isfinite", self.value(value))
            case _:
                raise _unknown(node)

    def operation(self, name: str, left: Expr, right: Expr) -> Expr:
        if {left.kind.base, right.kind.base} == {"float", "index"}:  # 2 * x: a literal beside a float is one
            left, right = (
                Const(float(side.value), FLOAT) if isinstance(side, Const) else side for side in (left, right)
            )
        return operation(name, left, right)

    def call(self, name: str, args: list[ast.expr]) -> Expr:
        special: dict[str, Callable[[list[ast.expr]], Expr]] = {
            "load": self.load,
            "splat": lambda args: Op("splat", (self.float(args[0]),), FLOAT.of(self.array(args[1])[1])),
            "first_lanes": lambda args: Op("first_lanes", (self.value(args[1]),), BOOL.of(self.array(args[0])[1])),
            "masked": self.masked,
            "widened": lambda args: Op("widened", (self.value(args[0]),), FLOAT.of(self.array(args[1])[1])),
            "inverse": lambda args: operation("not", self.value(args[0])),
            "float32": lambda args: self.float(args[0]),
            "float64": lambda args: self.float(args[0]),
            "int": lambda args: operation("integer", self.value(args[0])),
        }
        if name in special:
            return special[name](args)
        values = [self.value(arg) for arg in args]
        if name in PLAIN:
            return operation(name, *(self.floats(values) if name != "min" else values))
        if name in FORMULAS:
            return operation(name, *self.floats(values), formula=True)
        raise _unknown(name)

    def floats(self, values: list[Expr]) -> list[Expr]:
        """Literals beside floats are floats."""
        if not any(value.kind.base == "float" for value in values):
            return values
        return [Const(float(v.value), FLOAT) if isinstance(v, Const) and v.kind == INDEX else v for v in values]

    def float(self, node: ast.expr) -> Expr:
        """A number of the kernel's dtype."""
        value = self.value(node)
        if isinstance(value, Const):
            return Const(float(value.value), FLOAT)
        return operation("position", value) if value.kind == INDEX else value

    def load(self, args: list[ast.expr]) -> Expr:
        buffer, lanes = self.array(args[0])
        return Load(buffer, self.value(args[1]), FLOAT.of(lanes))

    def masked(self, args: list[ast.expr]) -> Expr:
        mask, value = map(self.value, args)
        return Op("masked", (mask, value), FLOAT.of(mask.kind.lanes))

    def array(self, node: ast.expr) -> tuple[str, int]:
        """A buffer, and how many of its elements are taken at a time."""
        match node:
            case ast.Name(id=name):
                return name, self.lanes
            case ast.Call(func=ast.Name(id="narrow"), args=[ast.Name(id=name)]):
                return name, self.register
            case _:
                raise _unknown(node)


def _unknown(what: Any) -> NotImplementedError:
    text = ast.unparse(what) if isinstance(what, ast.AST) else str(what)
    return NotImplementedError(f"the language of kernels has no {text!r}")
