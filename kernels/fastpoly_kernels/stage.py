"""From a kernel's Python to LLVM, in two stages: what is known when it is compiled is computed, the rest is written.

A kernel's arguments are values of `vectors` and `emitter`, whose operators write instructions. So an expression is
simply evaluated: of Python's own numbers and tuples it makes the next ones, of values that only the run knows it makes
code. A function that it calls is called, and comprehensions over tuples are what unrolls. Only statements need reading:

    name = ...; a, b = ...; array[i] = ...; name += ...
    for i in range(first, end, step):   a loop, if one of the bounds is a value; else each turn is written out
    if truth: ... else: ...             a branch, if the truth is a value; `truth` may be a Python bool as well
    return ...                          anywhere in a kernel; at the end of a `device` function

What a loop or a branch assigns to a name that was there before becomes a phi: names are variables, as ever. A name
that first appears inside is gone behind it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

from llvmlite import ir

from . import machine_code, processor
from .emitter import DOUBLE, SINGLE, Expression, Number, Truth
from .vectors import INTEGER, Array, Index

FORMATS = {"d": DOUBLE, "f": SINGLE}
SLOT = ir.IntType(64)
"""What a result is returned in, whatever it is."""


def staged(function: Callable[..., Any], kinds: tuple[Any, ...], symbol: str) -> Any:
    """LLVM's module, not optimised, that defines `symbol`: a kernel for arguments of these kinds, see `kernel.Kind`.

    The function takes them flattened: an array as its address and its first length, a tuple as its entries; and last
    where its results go, flattened too: 8 bytes each, floats as float64.
    """
    import llvmlite.binding as llvm

    module = ir.Module()
    module.triple, module.data_layout = processor.triple(), str(machine_code.target(3).target_data)
    types = [kind for argument in kinds for kind in _types(argument)]
    defined = ir.Function(module, ir.FunctionType(ir.VoidType(), [*types, SLOT.as_pointer()]), symbol)
    defined.attributes.add("nounwind")
    builder = ir.IRBuilder(defined.append_basic_block("entry"))
    *values, out = defined.args
    given = iter(values)
    stage = _Stage(function, builder, [_argument(builder, kind, given) for kind in kinds], out)
    stage.function()
    return llvm.parse_assembly(str(module))


def inlined(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a function returns, written out where its arguments are used."""
    builder = next(argument.builder for argument in leaves(arguments) if hasattr(argument, "builder"))
    return _Stage(function, builder, list(arguments), None).function()


def leaves(value: Any) -> Iterator[Any]:
    """What a value is made of, tuples taken apart."""
    if isinstance(value, tuple | list):
        for entry in value:
            yield from leaves(entry)
    else:
        yield value


def rebuilt(value: Any, replacements: Iterator[Any]) -> Any:
    """The value with other leaves, in the same order."""
    if isinstance(value, tuple | list):
        return tuple(rebuilt(entry, replacements) for entry in value)
    return next(replacements)


def assigned(body: list[ast.stmt]) -> list[str]:
    """The names that statements assign to, in order."""
    names = (node for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name))
    return list(dict.fromkeys(name.id for name in names if isinstance(name.ctx, ast.Store)))


class _Stage:
    """A function that is being written, at a place of it: the values of its names, and whether control comes here."""

    def __init__(self, function: Callable[..., Any], builder: ir.IRBuilder, arguments: list[Any], out: Any) -> None:
        self.builder, self.out = builder, out
        closure = inspect.getclosurevars(function).nonlocals
        self.known = {**function.__globals__, **closure}
        self.names = dict(zip(inspect.signature(function).parameters, arguments, strict=True))
        self.alive, self.result = True, None
        self.file = function.__code__.co_filename
        self.body = _definition(function).body

    def function(self) -> Any:
        """Write all of it; what it returns."""
        self.statements(self.body)
        if self.alive and self.out is not None:
            self.leave(())
        return self.result

    def value(self, expression: ast.expr) -> Any:
        """What it evaluates to; a comprehension sees the names of its function as if they were global."""
        code = compile(ast.fix_missing_locations(ast.Expression(expression)), self.file, "eval")
        return eval(code, {**self.known, **self.names})

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self.assign(target, self.value(value))
                case ast.AugAssign(target=target, op=operation, value=value):
                    before = ast.parse(ast.unparse(target), mode="eval").body
                    self.assign(target, self.value(ast.BinOp(before, operation, value)))
                case ast.For(iter=ast.Call(func=ast.Name(id="range"), args=bounds), target=target, body=inner):
                    self.loop(target, [self.value(bound) for bound in bounds], inner)
                case ast.If(test=test, body=inner, orelse=other):
                    self.condition(self.value(test), inner, other)
                case ast.Return() if self.out is None and statement is not self.body[-1]:
                    raise SyntaxError(f"{self.file}:{statement.lineno}: a device function returns at its end")
                case ast.Return(value=value):
                    self.leave(self.value(value) if value else ())
                case ast.Expr(value=value):
                    self.value(value)
                case _:
                    raise SyntaxError(f"{self.file}:{statement.lineno}: no statement of kernels, see `stage`")
            if not self.alive:
                return

    def assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Tuple(elts=targets):
                for one, entry in zip(targets, value, strict=True):
                    self.assign(one, entry)
            case ast.Subscript(value=array, slice=place):
                self.value(array)[self.value(place)] = value

    def leave(self, result: Any) -> None:
        """Return: from a kernel with its results stored, from a `device` function into the one that called it."""
        self.result = result
        if self.out is None:
            return
        for place, value in enumerate(leaves(result)):
            address = self.builder.gep(self.out, [ir.Constant(INTEGER, place)], inbounds=True)
            stored = self.slot(value)
            self.builder.store(stored, self.builder.bitcast(address, stored.type.as_pointer()))
        self.builder.ret_void()
        self.alive = False

    def slot(self, value: Any) -> ir.Value:
        if isinstance(value, Number):
            return value.to(DOUBLE).value
        if isinstance(value, Truth):
            return self.builder.zext(value.value, SLOT)
        return self.dynamic(value).value

    def dynamic(self, value: Any) -> Expression:
        """A Python integer as a value of the kernel; others are already."""
        return Index(self.builder, ir.Constant(INTEGER, int(value))) if isinstance(value, int) else value

    def loop(self, target: ast.expr, bounds: list[Any], body: list[ast.stmt]) -> None:
        if all(isinstance(bound, int) for bound in bounds):
            for turn in range(*bounds):
                self.assign(target, turn)
                self.statements(body)
                if not self.alive:
                    return
            return
        span = slice(*bounds)
        first, end, step = (self.dynamic(span.start or 0), self.dynamic(span.stop), self.dynamic(span.step or 1))
        builder, before = self.builder, self.names
        carried = [name for name in assigned(body) if name in before]
        starts = [self.dynamic(leaf) for name in carried for leaf in leaves(before[name])]
        head, inside, behind = (builder.append_basic_block(name) for name in ("head", "body", "behind"))
        came_from = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        axis, *phis = (builder.phi(value.kind) for value in (first, *starts))
        replaced = iter([type(start)(builder, phi) for start, phi in zip(starts, phis, strict=True)])
        at_head = {**before, **{name: rebuilt(before[name], replaced) for name in carried}}
        builder.cbranch(builder.icmp_signed("<", axis, end.value), inside, behind)
        builder.position_at_end(inside)
        self.names = dict(at_head)
        self.assign(target, Index(builder, axis))
        self.statements(body)
        ends = [self.dynamic(leaf).value for name in carried for leaf in leaves(self.names[name])]
        ends.insert(0, builder.add(axis, step.value, flags=("nsw",)))
        for phi, start, after in zip((axis, *phis), (first, *starts), ends, strict=True):
            phi.add_incoming(start.value, came_from)
            phi.add_incoming(after, builder.block)
        builder.branch(head)
        builder.position_at_end(behind)
        self.names = at_head

    def condition(self, test: Any, body: list[ast.stmt], other: list[ast.stmt]) -> None:
        if isinstance(test, bool):
            self.statements(body if test else other)
            return
        builder, before = self.builder, self.names
        then, otherwise, past = (builder.append_basic_block(name) for name in ("then", "otherwise", "past"))
        builder.cbranch(test.value, then, otherwise)
        arrivals = []
        for block, statements in ((then, body), (otherwise, other)):
            builder.position_at_end(block)
            self.names, self.alive = dict(before), True
            self.statements(statements)
            if self.alive:
                builder.branch(past)
                arrivals.append((builder.block, self.names))
        builder.position_at_end(past)
        self.alive = bool(arrivals)
        self.names = {name: self.joined([(block, names[name]) for block, names in arrivals]) for name in before}

    def joined(self, arrivals: list[tuple[Any, Any]]) -> Any:
        """Of what several blocks bring of one name: itself if it is the same, else a phi for each entry."""
        (_, first), *others = arrivals
        if all(value is first for _, value in others):
            return first
        phis = []
        for entries in zip(*(leaves(value) for _, value in arrivals), strict=True):
            values = [self.dynamic(entry) for entry in entries]
            phi = self.builder.phi(values[0].kind)
            for (block, _), value in zip(arrivals, values, strict=True):
                phi.add_incoming(value.value, block)
            phis.append(type(values[0])(self.builder, phi))
        return rebuilt(first, iter(phis))


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """Its syntax, of the source file: if that still is what was imported.

    Raises:
        RuntimeError: it is another, as after an update beneath a process that goes on.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    if not isinstance(definition, ast.FunctionDef) or [a.arg for a in definition.args.args] != [*arguments]:
        file = function.__code__.co_filename
        raise RuntimeError(f"{file} has changed since {function.__name__} was imported; start Python anew")
    return ast.increment_lineno(definition, function.__code__.co_firstlineno - 1)


def _types(kind: Any) -> list[ir.Type]:
    match kind:
        case ("array", code, _):
            return [FORMATS[code].kind.as_pointer(), INTEGER]
        case ("tuple", code, count):
            return [FORMATS[code].kind] * count
        case (code,):
            return [INTEGER if code == "q" else FORMATS[code].kind]
    raise TypeError(f"{kind}: no argument of kernels")


def _argument(builder: ir.IRBuilder, kind: Any, given: Iterator[ir.Value]) -> Any:
    match kind:
        case ("array", _, row):
            return Array(builder, next(given), Index(builder, next(given)), prod(row))
        case ("tuple", _, count):
            return tuple(Number(builder, next(given)) for _ in range(count))
        case ("q",):
            return Index(builder, next(given))
    return Number(builder, next(given))
