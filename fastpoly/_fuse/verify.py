"""Does a kernel hold together? Asked in tests, of everything that becomes one and after everything that changes one."""

from __future__ import annotations

from fastpoly_kernels.functions import FUNCTIONS

from .ir import (
    BOOL,
    FLOAT,
    INDEX,
    RESULT,
    Assign,
    Break,
    Const,
    Do,
    Expr,
    If,
    Kernel,
    Kind,
    KindError,
    Load,
    Loop,
    Op,
    Reduce,
    Statement,
    Store,
    Var,
    View,
    While,
    operation,
)


def verify(kernel: Kernel) -> None:
    """Raise AssertionError, naming the statement, where

    - a variable is read that no path has given a value, or assigned a value of another kind;
    - a loop's axis is assigned in its body, or a place or a bound is no index;
    - a buffer is none of the kernel's, or a place or a mask has other lanes than what is read or written;
    - `Break` stands outside of all loops;
    - an operation has operands that it does not take, or another kind than they give it, or lanes of another number.
    """
    known = {id(var) for var in kernel.numbers.values()}
    _Verifier(kernel).body(kernel.body, known, frozenset(), looped=False)
    assert kernel.result is None or kernel.result.kind == INDEX, "the result is no index"


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.buffers = {*kernel.buffers}

    def body(self, body: list[Statement], known: set[int], axes: frozenset[int], *, looped: bool) -> None:
        """Check statements; `known` grows by the variables that have a value after them."""
        for statement in body:
            try:
                self.statement(statement, known, axes, looped)
            except AssertionError as error:
                first = str(statement).splitlines()[0]
                raise AssertionError(f"{error}, in: {first}") from None

    def statement(self, statement: Statement, known: set[int], axes: frozenset[int], looped: bool) -> None:
        match statement:
            case Assign(var=var, value=value):
                self.value(value, known)
                assert var.kind == value.kind, f"{var} is {var.kind} and becomes {value.kind}"
                assert id(var) not in axes, f"the axis {var} is assigned"
                known.add(id(var))
            case Store(buffer=buffer, index=index, value=value, mask=mask):
                self.value(value, known)
                self.place(buffer, index, known, mask, value.kind.lanes or index.kind.lanes)
                assert value.kind.base == ("index" if buffer == "stopped" else "float"), f"{value.kind} is stored"
                assert buffer != "data", "what never changes is stored to"
            case Reduce(vars=sums, values=values, rows=rows):
                for var, value in zip(sums, values, strict=True):
                    self.value(value, known)
                    assert value.kind.base == "float", f"{value.kind} is summed"
                    assert value.kind.lanes == values[0].kind.lanes > 0, "blocks of different lengths"
                    assert var.kind == FLOAT.of(rows), f"{var} is {var.kind} and becomes a sum"
                    assert not rows or value.kind.lanes % rows == 0, f"{value.kind} in {rows} rows"
                known.update(map(id, sums))
            case View(buffer=buffer, of=of, index=index):
                self.place(of, index, known)
                self.buffers.add(buffer)
            case Loop(axis=axis, first=first, end=end, step=step, body=body):
                for bound in (first, end):
                    self.value(bound, known)
                    assert bound.kind == INDEX, "a bound is no index"
                assert step != 0, "a loop does not move"
                # the body may not run, so that what it assigns first is unknown after it
                self.body(body, known | {id(axis)}, axes | {id(axis)}, looped=True)
            case While(test=test, body=body):
                self.value(test, known)
                assert test.kind == BOOL, f"{test.kind} decides"
                self.body(body, set(known), axes, looped=True)
            case If(test=test, body=body):
                self.value(test, known)
                assert test.kind == BOOL, f"{test.kind} decides"
                self.body(body, set(known), axes, looped=looped)
            case Break():
                assert looped, "break outside of a loop"
            case Do(buffer=buffer, args=args):
                assert not buffer or buffer in self.buffers, f"no buffer {buffer}"
                for arg in args:
                    self.value(arg, known)

    def value(self, value: Expr, known: set[int]) -> None:
        match value:
            case Const(value=number, kind=kind):
                kinds = {FLOAT: float, INDEX: int, BOOL: bool}
                assert type(number) is kinds[kind], f"{number!r} as {kind}"
            case Var():
                assert id(value) in known, f"{value} has no value"
            case Load(buffer=buffer, index=index, kind=kind, mask=mask):
                self.place(buffer, index, known, mask, kind.lanes)
                assert kind.base == "float", f"{kind} is loaded"
            case Op(name=name, args=args, kind=kind):
                for arg in args:
                    self.value(arg, known)
                if name in ("splat", "first_lanes", "numbers", "positions"):
                    assert kind.lanes, f"{name} without lanes"
                elif name == "packed":
                    assert [arg.kind for arg in args] == [FLOAT] * kind.lanes, f"{len(args)} numbers in {kind}"
                elif name == "totals":
                    assert kind == FLOAT.of(len(args)), f"{len(args)} sums in {kind}"
                    assert len({arg.kind for arg in args}) == 1, "registers of different kinds"
                    assert args[0].kind.base == "float", f"the lanes of {args[0].kind} are summed"
                    assert args[0].kind.lanes, f"the lanes of {args[0].kind} are summed"
                elif name == "lane":
                    register, lane = args
                    assert isinstance(lane, Const), f"{lane} is no number"
                    assert lane.value in range(register.kind.lanes), f"no lane {lane}"
                elif name in RESULT or name in FUNCTIONS:
                    found = self.kind(name, args)
                    assert found == kind, f"{name} of {', '.join(str(arg.kind) for arg in args)} as {kind}"
                elif name in ("masked", "widened"):
                    assert args[-1].kind.lanes in (0, kind.lanes) or name == "widened", f"{name} of other lanes"

    def kind(self, name: str, args: tuple[Expr, ...]) -> Kind:
        """What operands give an operation."""
        try:
            return operation(name, *args).kind
        except KindError as error:
            raise AssertionError(str(error)) from None

    def place(self, buffer: str, index: Expr, known: set[int], mask: Expr | None = None, lanes: int = 0) -> None:
        """Check an access to so many elements."""
        assert buffer in self.buffers, f"no buffer {buffer}"
        assert index.kind.base == "index", "a place is no index"
        assert index.kind.lanes in (0, lanes), f"{index.kind.lanes} places for {lanes} lanes"
        self.value(index, known)
        if mask is not None:
            self.value(mask, known)
            assert mask.kind == BOOL.of(lanes), f"{mask.kind} is a mask of {lanes} lanes"
