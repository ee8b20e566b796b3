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
    Statement,
    Store,
    Var,
    operation,
)


def verify(kernel: Kernel) -> None:
    """Raise AssertionError, naming the statement, where

    - a variable is read that no path has given a value, or assigned a value of another kind;
    - a loop's axis is assigned in its body, or a place or a bound is no index;
    - a buffer is none of the kernel's, or `Break` stands outside of all loops;
    - an operation has operands that it does not take, or another kind than they give it, or lanes of another number.
    """
    known = {id(var) for var in kernel.numbers.values()}
    _Verifier(kernel).body(kernel.body, known, frozenset(), looped=False)
    assert kernel.result.kind == INDEX, "the result is no index"


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

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
            case Store(buffer=buffer, index=index, value=value):
                self.value(value, known)
                self.place(buffer, index, known)
                assert value.kind.base == "float", f"{value.kind} is stored"
                assert buffer != "data", "what never changes is stored to"
            case Loop(axis=axis, first=first, end=end, step=step, body=body):
                for bound in (first, end):
                    self.value(bound, known)
                    assert bound.kind == INDEX, "a bound is no index"
                assert step != 0, "a loop does not move"
                # the body may not run, so that what it assigns first is unknown after it
                self.body(body, known | {id(axis)}, axes | {id(axis)}, looped=True)
            case If(test=test, body=body):
                self.value(test, known)
                assert test.kind == BOOL, f"{test.kind} decides"
                self.body(body, set(known), axes, looped=looped)
            case Break():
                assert looped, "break outside of a loop"
            case Do(buffer=buffer, args=args):
                assert not buffer or buffer in self.kernel.buffers, f"no buffer {buffer}"
                for arg in args:
                    self.value(arg, known)

    def value(self, value: Expr, known: set[int]) -> None:
        match value:
            case Const(value=number, kind=kind):
                kinds = {FLOAT: float, INDEX: int, BOOL: bool}
                assert type(number) is kinds[kind], f"{number!r} as {kind}"
            case Var():
                assert id(value) in known, f"{value} has no value"
            case Load(buffer=buffer, index=index, kind=kind):
                self.place(buffer, index, known)
                assert kind.base == "float", f"{kind} is loaded"
            case Op(name=name, args=args, kind=kind):
                for arg in args:
                    self.value(arg, known)
                if name in ("splat", "first_lanes"):
                    assert kind.lanes, f"{name} without lanes"
                elif name == "packed":
                    assert [arg.kind for arg in args] == [FLOAT] * kind.lanes, f"{len(args)} numbers in {kind}"
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

    def place(self, buffer: str, index: Expr, known: set[int]) -> None:
        assert buffer in self.kernel.buffers, f"no buffer {buffer}"
        assert index.kind == INDEX, "a place is no index"
        self.value(index, known)
