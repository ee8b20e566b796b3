"""The loop IR: what a kernel does, one step after the other, before anybody has printed it.

A **Kind** says what a value is: a float, an index (an integer of 64 bits: a place, a count) or a bool; one of them, or
one in each lane of a register. Floats are all of the kernel's dtype; an index is never a float.

An **expression** is a value: a `Const`; a `Var`, which is an object and has a name only to be printed with; a `Load`
from one of the kernel's buffers; or an `Op` on other expressions, whose kind follows from theirs by the table `RESULT`.
Beside a register one number stands for itself in every lane. Nothing changes an expression once it is made.

A **statement** does something: `Assign` gives a variable a value, `Store` writes to a buffer, `Loop` counts an axis
through a range, `While` and `If` are theirs, `Break` leaves the innermost loop, `Do` is for what has an effect and no
value.

A **Kernel** is a list of statements, its arguments and the number that it returns. `verify` says whether it holds
together; `to_llvm` makes of it the text of an LLVM module, `to_python` a page of Python for a reader.

A GPU's kernel is one, too. Its registers are blocks, of which the threads of a program have some lanes each. Places
may be blocks of indices, masks say which lanes are read or written, and `Reduce` adds up several blocks at a time. What
one thread stores another sees after `Do("barrier")`. `View` is a part of a buffer. `to_triton` makes a page of Triton.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from fastpoly_kernels.functions import FUNCTIONS

from .._lazy import lazy

# -- what values are
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A float, an index or a bool: one, or one in each of `lanes` lanes."""

    base: str
    lanes: int = 0

    def of(self, lanes: int) -> Kind:
        """The same in so many lanes; 0 is one value."""
        return kind_of(self.base, lanes)

    def __repr__(self) -> str:
        return f"{self.base}x{self.lanes}" if self.lanes else self.base


@cache
def kind_of(base: str, lanes: int) -> Kind:
    """A kind; it is asked for more often than anything else."""
    return Kind(base, lanes)


FLOAT, INDEX, BOOL = (kind_of(base, 0) for base in ("float", "index", "bool"))


# -- expressions
# ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Const:
    """A number, or a truth."""

    value: float | int | bool
    kind: Kind

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(eq=False, slots=True)
class Var:
    """A variable. Two of one name are two; `like` is one that this one may share its name with in print."""

    name: str
    kind: Kind
    like: Var | None = None

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False, slots=True)
class Load:
    """Elements of a buffer from `index` on, one or as many as the kind has lanes; or those at each lane's own index.

    Lanes in which a `mask` does not hold are `other`.
    """

    buffer: str
    index: Expr
    kind: Kind
    mask: Expr | None = None
    other: float = 0.0

    def __repr__(self) -> str:
        several = f" +: {self.kind.lanes}" if self.kind.lanes and not self.index.kind.lanes else ""
        return f"{self.buffer}[{self.index}{several}]{_where(self.mask)}"


@dataclass(eq=False, slots=True)
class Op:
    """An operation on other expressions: see `RESULT`."""

    name: str
    args: tuple[Expr, ...]
    kind: Kind

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.args))})"


Expr: TypeAlias = Const | Var | Load | Op


# -- statements
# -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Assign:
    """var = value; `str(note)` is a comment."""

    var: Var
    value: Expr
    note: object = ""

    def __repr__(self) -> str:
        return f"{self.var}: {self.var.kind} = {self.value}"


@dataclass(eq=False, slots=True)
class Store:
    """Write a value, in as many elements as it has lanes, to a buffer from `index` on, or at each lane's own index.

    Lanes in which a `mask` does not hold are not written.
    """

    buffer: str
    index: Expr
    value: Expr
    note: object = ""
    mask: Expr | None = None

    def __repr__(self) -> str:
        return f"{self.buffer}[{self.index}] = {self.value}{_where(self.mask)}"


@dataclass(eq=False, slots=True)
class Reduce:
    """vars = the sums (products, ...: `kinds`) of `values` over their lanes, in one go and always in the same order.

    Of values in several `rows`, one after the other, each row has a sum of its own.
    """

    vars: tuple[Var, ...]
    kinds: tuple[str, ...]
    values: tuple[Expr, ...]
    notes: tuple[object, ...]
    rows: int = 0

    def __repr__(self) -> str:
        sums = (f"{kind} of {value}" for kind, value in zip(self.kinds, self.values, strict=True))
        return f"{', '.join(map(str, self.vars))} = {', '.join(sums)}{f', {self.rows} rows' if self.rows else ''}"


@dataclass(eq=False, slots=True)
class Loop:
    """for axis in range(first, end, step)."""

    axis: Var
    first: Expr
    end: Expr
    step: int
    body: list[Statement] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"for {self.axis} in {self.first} .. {self.end} by {self.step}:\n{_indented(self.body)}"


@dataclass(eq=False, slots=True)
class While:
    """while test."""

    test: Expr
    body: list[Statement] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"while {self.test}:\n{_indented(self.body)}"


@dataclass(eq=False, slots=True)
class If:
    """if test."""

    test: Expr
    body: list[Statement] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"if {self.test}:\n{_indented(self.body)}"


@dataclass(eq=False, slots=True)
class Break:
    """Leave the innermost loop."""

    def __repr__(self) -> str:
        return "break"


@dataclass(eq=False, slots=True)
class Do:
    """Something without a value: "aligned_stack", "meet" at a counter, or the "barrier" of a program's threads."""

    name: str
    buffer: str = ""
    args: tuple[Expr, ...] = ()
    note: object = ""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join([self.buffer] * bool(self.buffer) + [*map(str, self.args)])})"


@dataclass(eq=False, slots=True)
class View:
    """From here on `buffer` is what another one has from `index` on."""

    buffer: str
    of: str
    index: Expr

    def __repr__(self) -> str:
        return f"{self.buffer} = {self.of}[{self.index}:]"


Statement: TypeAlias = Assign | Store | Reduce | Loop | While | If | Break | Do | View


@dataclass(frozen=True, eq=False)
class Kernel:
    """A whole program.

    Attributes:
        dtype: "float32" or "float64": of all floats.
        lanes: elements that fill what is taken at a time.
        arguments: their names: of its arrays (buffers), and of numbers.
        numbers: those that are numbers, indices, by name.
        body: what it does.
        result: the index that it returns, if it does.
        warps: of each program on a GPU; 0 on a CPU.
        programs: how many of those share the samples.
    """

    dtype: str
    lanes: int
    arguments: tuple[str, ...]
    numbers: dict[str, Var]
    body: list[Statement]
    result: Expr | None = None
    warps: int = 0
    programs: int = 1

    @lazy
    def statements(self) -> int:
        """How many there are, about as many as its page has lines."""
        return sum(1 for _ in inside(self.body))

    @property
    def buffers(self) -> tuple[str, ...]:
        """The names of its arrays."""
        return tuple(name for name in self.arguments if name not in self.numbers)

    def __repr__(self) -> str:
        head = f"kernel({', '.join(self.arguments)}), {self.dtype}, {self.lanes} lanes:"
        return f"{head}\n{_indented(self.body)}" + (f"\n    return {self.result}" if self.result else "")


def _where(mask: Expr | None) -> str:
    return f" where {mask}" if mask else ""


def _indented(body: list[Statement]) -> str:
    return "\n".join("    " + line for statement in body for line in str(statement).splitlines())


def inside(body: list[Statement]) -> Iterator[Statement]:
    """Every statement, those within loops and conditions included."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop | While | If):
            yield from inside(statement.body)


def assigned(body: list[Statement]) -> list[Var]:
    """Every variable that statements assign."""
    found = (statement.var for statement in inside(body) if isinstance(statement, Assign))
    return list(dict.fromkeys(found))


def variables(value: Expr) -> set[Var]:
    """The variables in a value."""
    found, stack = set[Var](), [value]
    while stack:
        match stack.pop():
            case Var() as var:
                found.add(var)
            case Op(args=args):
                stack += args
            case Load(index=index, mask=mask):
                stack += [index, mask] if mask else [index]
    return found


def turns(loop: Loop) -> range | None:
    """The values of a loop's axis; None where they are not known."""
    match loop.first, loop.end:
        case Const(value=int(first)), Const(value=int(end)):
            return range(first, end, loop.step)
    return None


# -- operations
# ------------------------------------------------------------------------------------------------------------


class KindError(TypeError):
    """An operation on operands that it does not take."""


def _lanes(args: tuple[Expr, ...]) -> int:
    """The lanes that operands meet in: of those that have more than one value, all have as many."""
    several = {arg.kind.lanes for arg in args if arg.kind.lanes}
    if len(several) > 1:
        raise KindError("registers of different lengths")
    return several.pop() if several else 0


def _arithmetic(args: tuple[Expr, ...]) -> Kind:
    bases = {arg.kind.base for arg in args}
    if len(bases) != 1 or bases == {"bool"}:
        raise KindError("numbers of two kinds")
    return Kind(bases.pop(), _lanes(args))


def _of_floats(args: tuple[Expr, ...]) -> Kind:
    kind = _arithmetic(args)
    if kind.base != "float":
        raise KindError("no floats")
    return kind


def _of_indices(args: tuple[Expr, ...]) -> Kind:
    if any(arg.kind.base != "index" for arg in args):
        raise KindError("no indices")
    return INDEX.of(_lanes(args))


def _logic(args: tuple[Expr, ...]) -> Kind:
    bases = {arg.kind.base for arg in args}
    if bases == {"index"}:
        return _of_indices(args)
    if bases != {"bool"}:
        raise KindError("no truths")
    return BOOL.of(_lanes(args))


def _comparison(args: tuple[Expr, ...]) -> Kind:
    return BOOL.of(_arithmetic(args).lanes)


def _choice(args: tuple[Expr, ...]) -> Kind:
    test, *sides = args
    if test.kind.base != "bool":
        raise KindError("no truth to choose by")
    return Kind(_arithmetic(tuple(sides)).base, _lanes(args))


def _reduced(args: tuple[Expr, ...]) -> Kind:
    (arg,) = args
    if arg.kind.base != "float" or not arg.kind.lanes:
        raise KindError("no register of floats")
    return FLOAT


def _all_lanes(args: tuple[Expr, ...]) -> Kind:
    (arg,) = args
    if arg.kind.base != "bool" or not arg.kind.lanes:
        raise KindError("no register of truths")
    return BOOL


def _conversion(of: str, to: str) -> Callable[[tuple[Expr, ...]], Kind]:
    def converted(args: tuple[Expr, ...]) -> Kind:
        (arg,) = args
        if arg.kind.base != of:
            raise KindError(f"no {of}")
        return kind_of(to, arg.kind.lanes)

    return converted


RESULT: dict[str, Callable[[tuple[Expr, ...]], Kind]] = {
    **dict.fromkeys(("add", "sub", "mul"), _arithmetic),
    **dict.fromkeys(("floordiv", "mod", "min"), _of_indices),
    **dict.fromkeys(("div", "neg"), _of_floats),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _comparison),
    **dict.fromkeys(("and", "or", "xor", "not"), _logic),
    **dict.fromkeys(("total", "product", "largest", "smallest"), _reduced),
    "all_lanes": _all_lanes,
    "where": _choice,
    "isfinite": _conversion("float", "bool"),
    "position": _conversion("index", "float"),
    "integer": _conversion("float", "index"),
    "wide": _conversion("index", "index"),
}
"""From an operation and its operands to the kind of its value. Those in `FUNCTIONS` are of floats.

Those that choose how many lanes they have are made by themselves: `splat` (one number in every lane), `first_lanes`
(the first so many), `masked` (zero where a mask does not hold), `widened` (the first lanes of more, zero in the rest),
`packed` (numbers, one for each lane), `totals` (of as many registers, one in each lane), `numbers` (0, 1, 2, ...),
`positions` (an index as a float, and in each further lane one that is so much larger).
`lane` is the number in one of them.

On a GPU an index has 32 bits unless it is made of a `wide` one, and `program` is which of the grid's this is.
"""


def operation(name: str, *args: Expr) -> Op:
    """An operation, with the kind that its operands give it.

    Raises:
        KindError: they do not go together.
    """
    try:
        return Op(name, args, _of_floats(args) if name in FUNCTIONS else RESULT[name](args))
    except KindError as error:
        kinds = ", ".join(str(arg.kind) for arg in args)
        raise KindError(f"{name} of {kinds}: {error}") from None
