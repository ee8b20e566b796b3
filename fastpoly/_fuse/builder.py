"""A builder of loop IR: statements one after the other, and the values of expressions.

An expression becomes a value by one rule each: an operation, a call of an elementary function, a load. One that has
been given a name is that variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from fastpoly_kernels.functions import is_called

from . import ir
from .expressions import Axis, Division, Expr, Index, Memory
from .graph import Node
from .instructions import COMPARISONS
from .ir import BOOL, FLOAT, INDEX, Assign, Break, Const, If, Kind, Load, Loop, Op, Statement, Store, Var, kind_of
from .naming import Naming
from .schedule import Schedule

TOGETHER = 3
"""Calls of one elementary function on so many plain numbers are one on a register."""

TRUTHS = COMPARISONS | {"and", "or", "xor", "not"}
"""Operations whose value is a bool."""

INVERSE = {"add": "sub", "mul": "div"}

About: TypeAlias = "Expr | Node | str | None"
Mask: TypeAlias = "ir.Expr | None"


class Builder(Naming):
    """See `Naming`.

    Attributes:
        body: where statements are written to: the innermost loop's.
        before: those that belong before the loop over the steps.
        lanes: how many elements along the axis i are taken at a time; 0 if one by one.
        blocks: for an axis whose elements in the lanes have numbers of their own: those, and the mask of the elements
            that are there, None if all are.
        begins: of a memory that only ever has some samples: the first of them.
    """

    def __init__(self, schedule: Schedule, dtype: str, scratch: int) -> None:
        super().__init__(schedule, dtype, scratch)
        self.body: list[Statement] = []
        self.before: list[Statement] = []
        self.lanes = 0
        self.blocks: dict[Axis, tuple[Var, Var | None]] = {}
        self.begins: dict[Memory, ir.Expr] = {}
        self._together: dict[Expr, list[Expr]] = {}  # calls of one function on plain numbers
        self._own: dict[str, Var] = {}

    # -- statements

    def assign(self, var: Var, value: ir.Expr, about: About = None) -> Var:
        """var = value; `about` is what the statement computes."""
        self.body.append(Assign(var, value, self.note(about)))
        return var

    def store(self, buffer: str, index: ir.Expr, value: ir.Expr, about: About = None, mask: Mask = None) -> None:
        """Write a value, one element or a register."""
        self.body.append(Store(buffer, index, value, self.note(about), mask))

    @contextmanager
    def loop(self, name: str, first: ir.Expr, end: ir.Expr, step: int = 1) -> Iterator[Var]:
        """A loop over an axis of that name; what is written meanwhile is its body."""
        loop = Loop(self.new(name), first, end, step)
        with self.into(loop):
            yield loop.axis

    @contextmanager
    def into(self, statement: Loop | If) -> Iterator[None]:
        """Write a loop or a condition, and what is written meanwhile into it."""
        self.body.append(statement)
        outer, self.body = self.body, statement.body
        yield
        self.body = outer

    def note(self, about: About) -> object:
        """The comment of a statement that computes this."""
        if isinstance(about, Expr):
            origin = self.schedule.origin.get(about)
            about = origin[0] if origin else None
        return about.origin if isinstance(about, Node) else about or ""

    def long_zero(self) -> ir.Expr:
        """0, to count far from."""
        return number(0)

    def stop_unless(self, goes_on: ir.Expr) -> None:
        """Take no more steps if this does not hold; `taken` are those before."""
        self.body.append(If(Op("not", (goes_on,), BOOL), [Assign(self.own("taken"), self.own("step")), Break()]))

    def barrier(self, why: str) -> None:
        """Let all threads of a program come to here. On a CPU a program is one thread."""

    def aligned_room(self, count: int) -> int:
        """Where so many elements of scratch begin that nobody else has: where a register does."""
        width = self.schedule.lanes
        return -(-self.spare(count + width) // width) * width

    # -- names

    def own(self, name: str) -> Var:
        """The kernel's variable of that name, a count or an axis of a loop: the last one that was made."""
        return self._own.get(name) or self.new(name)

    def new(self, name: str, kind: Kind = INDEX) -> Var:
        """A variable of the kernel's that needs the name no longer than until the next one of that name."""
        var = self._own[name] = Var(name, kind, self._own.get(name))
        return var

    def name(self, expr: Expr, before: bool = False) -> None:
        """See `Naming.name`."""
        if expr in self._together and not before:
            self._call_on_all(expr.op, self._together[expr])
            return
        value = self.value(expr)
        var = self.names[expr] = Var(self.hint(expr), value.kind)
        (self.before if before else self.body).append(Assign(var, value, self.note(expr)))

    def arranged(self, parts: list[Expr]) -> tuple[list[Expr], set[Expr]]:
        """See `Naming.arranged`: so that elementary functions of several plain numbers can be taken together."""
        depth: dict[Expr, int] = {}  # how many functions are in each other
        calls: dict[tuple[int, str], list[Expr]] = {}
        for part in parts:
            own = max((depth.get(self.resolved(operand), 0) for operand in part.operands), default=0)
            if is_called(part.op) and len(part.operands) == 1 and not part.axes and not part.invariant:
                own += 1
                calls.setdefault((own, part.op), []).append(part)
            depth[part] = own
        widest = self.schedule.lanes // self.schedule.registers
        for some in calls.values():
            for start in range(0, len(some), widest):
                together = some[start : start + widest]
                if len(together) >= TOGETHER:
                    self._together.update(dict.fromkeys(together, together))
        wanted = {part for part in parts if part in self._together}
        return (sorted(parts, key=depth.__getitem__) if wanted else parts), wanted

    def _call_on_all(self, op: str, parts: list[Expr]) -> None:
        """Name the calls of a function, computed in one register."""
        lanes, self.lanes = self.lanes, 0
        values = [self.value(part.args[0]) for part in parts]
        kind = FLOAT.of(1 << (len(parts) - 1).bit_length())
        values += values[:1] * (kind.lanes - len(values))
        together = Var(f"{op}s", kind)
        self.assign(together, Op(op, (Op("packed", tuple(values), kind),), kind), parts[0])
        for at, part in enumerate(parts):
            var = self.names[part] = Var(self.hint(part), FLOAT)
            self.assign(var, Op("lane", (together, number(at)), FLOAT), part)
        self.lanes = lanes

    # -- places

    def place(self, memory: Memory, index: Index) -> ir.Expr:
        """Where an element of a memory lies in its buffer: here all addresses are made."""
        place = self.index(index + memory.start)
        return indices("sub", place, self.begins[memory]) if memory in self.begins else place

    def index(self, index: Index) -> ir.Expr:
        """The value of an index."""
        result: ir.Expr | None = None
        for part, factor in index.terms:
            value: ir.Expr
            if isinstance(part, Division):
                name = "floordiv" if part.sign == "//" else "mod"
                value = indices(name, self.index(part.index), number(part.by))
            else:
                value = self.axis(part)
            minus = factor < 0 and result is not None
            factor = -factor if minus else factor
            value = value if factor == 1 else indices("mul", number(factor), value)
            result = value if result is None else indices("sub" if minus else "add", result, value)
        return shifted(result, index.constant)

    def axis(self, axis: Axis) -> Var:
        """The variable that counts an axis here."""
        return self.blocks[axis][0] if axis in self.blocks else self.own(axis.name)

    def mask(self, axes: frozenset[Axis]) -> Var | None:
        """The lanes that are there, of what depends on these axes; None if all are."""
        return next((self.blocks[axis][1] for axis in axes if axis in self.blocks), None)

    def copy(self, to: str, start: ir.Expr, memory: Memory) -> None:
        """Copy all elements of a memory to `start` and what follows, a register at a time and then the rest."""
        for first, end, width in self.registers_of(memory):
            with self.loop("i", number(first), number(end), width) as i:
                value = Load(memory.region, shifted(i, memory.start), FLOAT.of(width if width > 1 else 0))
                self.store(to, indices("add", start, i), value)

    def registers_of(self, memory: Memory) -> list[tuple[int, int, int]]:
        """All elements of a memory as (first, end, step): the whole registers, and the elements that fill none."""
        width = self.schedule.lanes
        whole = memory.size - memory.size % width
        return [(first, end, by) for first, end, by in ((0, whole, width), (whole, memory.size, 1)) if first < end]

    # -- values

    def value(self, expr: Expr) -> ir.Expr:
        """An expression's value: in a register if it depends on the axis i and registers are taken along that."""
        expr = self.resolved(expr)
        known = self.names.get(expr)
        if known is not None:
            return known
        match expr.op:
            case "number":
                return Const(expr.args[0], BOOL if isinstance(expr.args[0], bool) else FLOAT)
            case "local":
                var: Var = expr.args[0]
                return var
            case "load":
                memory, index = expr.args
                return self._loaded(memory, self.place(memory, index), expr)
            case "lookup":
                memory, rest, stride, which = expr.args
                moved = indices("mul", number(stride), indices("integer", self.value(which)))
                return self._loaded(memory, indices("add", self.place(memory, rest), moved), expr)
            case "position":
                index = self.index(expr.args[0])
                if self.lanes_of(expr) > 1 and not index.kind.lanes:
                    step = next(expr.args[0].factor(axis) for axis in expr.axes if axis.name == "i")
                    return Op("positions", (index, number(step or 0)), FLOAT.of(self.lanes))
                kind = kind_of("float", index.kind.lanes)
                return Const(float(index.value), FLOAT) if isinstance(index, Const) else Op("position", (index,), kind)
            case "mul" if is_negative(expr):
                return self.operation("neg", self.value(expr.args[1]))
            case "add" | "mul":
                return self.joined(expr.op, self.value(expr.args[0]), expr.args[1])
        return self.operation(expr.op, *map(self.value, expr.args))

    def lanes_of(self, expr: Expr) -> int:
        """How many lanes it has here."""
        return self.lanes if any(axis.name == "i" for axis in expr.axes) else 0

    def _loaded(self, memory: Memory, place: ir.Expr, expr: Expr) -> Load:
        return Load(memory.region, place, kind_of("float", self.lanes_of(expr)), self.mask(expr.axes))

    def joined(self, op: str, left: ir.Expr, right: Expr) -> ir.Expr:
        """A sum or a product: left + (a + b) as (left + a) + b, in one chain.

        But not where (left + a) - b may round what a - b does not, or left * a overflow where a / b does not.
        """
        right = self.resolved(right)
        if right.op == op and right not in self.names and not is_negative(right):
            return self._chained(op, left, right)
        return self.operation(op, left, self.value(right))

    def _chained(self, op: str, left: ir.Expr, expr: Expr) -> ir.Expr:
        expr = self.resolved(expr)
        if expr in self.names or expr.op not in (op, INVERSE[op]) or is_negative(expr):
            return self.operation(op, left, self.value(expr))
        first = self._chained(op, left, expr.args[0])
        if expr.op == op:
            return self.joined(op, first, expr.args[1])
        return self.operation(expr.op, first, self.value(expr.args[1]))

    def operation(self, name: str, *args: ir.Expr) -> Op:
        """An operation on floats or bools."""
        lanes = max(arg.kind.lanes for arg in args)
        return Op(name, args, kind_of("bool" if name in TRUTHS else "float", lanes))

    def splat(self, value: ir.Expr) -> Op:
        """A number in every lane."""
        return Op("splat", (value,), kind_of("float", self.lanes))


def is_negative(expr: Expr) -> bool:
    """Is it another expression with its sign turned?"""
    return expr.op == "mul" and expr.args[0].number == -1


def number(value: int) -> Const:
    """An index that is a number."""
    return Const(value, INDEX)


def shifted(value: ir.Expr | None, by: int) -> ir.Expr:
    """value + by, or by if there is no value."""
    if value is None or not by:
        return number(by) if value is None else value
    return indices("add" if by > 0 else "sub", value, number(abs(by)))


def indices(name: str, *args: ir.Expr) -> Op:
    """An operation whose value is an index, one or a block of them."""
    return Op(name, args, kind_of("index", max(arg.kind.lanes for arg in args)))


def least(one: ir.Expr, other: ir.Expr) -> ir.Expr:
    """The smaller of two indices."""
    return indices("min", one, other)
