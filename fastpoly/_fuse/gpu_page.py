"""A page of Triton: what `builder` makes of expressions for a CPU, as text for a GPU.

Along the axis i a whole block of elements is one value, spread over the threads. So nothing needs to lie next to its
neighbour, and elements beyond the end of the axis are masked where they are read, written or summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from fastpoly_kernels.functions import FUNCTIONS
from fastpoly_kernels.pages import NAMES

from .expressions import Axis, Division, Expr, Index, Memory
from .gpu_warps import warps_for
from .graph import Node
from .instructions import COMPARISONS
from .ir import Var
from .names import Names
from .naming import INFIX as BETWEEN
from .naming import WIDE, Naming
from .plan import Accumulate
from .schedule import Schedule
from .to_python import COMMENT_COLUMN, INFIX, STRENGTH, imported

OWN = frozenset(name for name, function in FUNCTIONS.items() if function.triton == "own")
"""Functions of `fastpoly_kernels.triton_math`."""

LARGEST_BLOCK = 1024
"""Elements of an axis that are one value; a longer axis has a loop. With four to a thread, eight warps."""

TOGETHER = 16
"""Sums that go through the tree together: their shuffles already overlap, and each holds a register on the way."""

SMALL = frozenset({"add", "sub", "mul", "number", "local"})
MOST_EARLY = 6
"""Operations of a successor that is computed as soon as its sums are there: the whole text stands there, and what it
shares with others is written again."""

RESERVED = frozenset(
    {"carry", "data", "scratch", "out", "stopped", "steps", "every", "wait", "row", "step", "first", "block", "at", "i"}
    | {"room", "counter", "program", "programs", "own", "begin", "end", "met", "meet", "side", "at_programs"}
    | {"there", "value", "kernel", "float", "range", "libdevice", "tl", "triton", *NAMES}
    | {f"{letter}{number}" for letter in "jk" for number in range(16)}
)
"""Names that kernels use: j0, k0 and so on are axes, of which tensors have no more."""

INFINITY = {math.inf: 'float("inf")', -math.inf: 'float("-inf")'}

TINIEST, MOST = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).max)
"""Of what Triton makes float32 where it chooses."""


def block_of(size: int) -> int:
    """The elements of a block for an axis of so many: a power of 2, which Triton's blocks must be."""
    return min(1 << (size - 1).bit_length(), LARGEST_BLOCK)


class GpuPage(Naming[str]):
    """See `Naming`. An expression with the axis i is a block, whatever its strides.

    Attributes:
        lines: what is written.
        before: lines that belong before the loop over the steps.
        indices: for an axis that is a block: the names of its elements' numbers and of the mask of those that are
            there, None if all are.
        combines: the functions that combine two lots of sums (products, ...), by the kinds of those.
        warps: how many the program has.
        held: how many registers of each thread hold data through all steps.
        pending: the sums in variables that the step has yet to take.
        early: variables whose successors have names, before the end of the step.
        partial: the sums in variables of which a program of a grid has yet only its part.
    """

    def __init__(self, schedule: Schedule, dtype: str, scratch: int, programs: int = 1) -> None:
        super().__init__(schedule, dtype, scratch)
        self.programs = programs
        self.type = f"tl.{dtype}"
        self.lines: list[str] = []
        self.before: list[str] = []
        self.indent = 1
        self.indices: dict[Axis, tuple[str, str | None]] = {}
        self.combines: dict[tuple[str, ...], str] = {}
        self.warps = warps_for(schedule, dtype, block_of(schedule.samples), TOGETHER)
        self.held = 0
        roots = (root for nest in schedule.nests for root in nest.roots if isinstance(root, Accumulate))
        self.pending = {root.var for root in roots if root.memory is None}
        self.early: dict[Var, str] = {}
        self.partial: set[Var] = set()
        self.new_name = Names(RESERVED).new
        self._called: dict[Var, str] = {}
        self._used: set[str] = set()

    # -- lines

    def line(self, text: str, about: Expr | Node | None = None) -> None:
        """Write a line, with the caller's line that it comes from as its comment."""
        line = "    " * self.indent + text
        if isinstance(about, Expr):
            origin = self.schedule.origin.get(about)
            about = origin[0] if origin else None
        self.lines.append(f"{line:<{COMMENT_COLUMN}}  # {about.origin}" if about else line)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Write `header`, and what the block writes indented below it."""
        self.line(header)
        self.indent += 1
        yield
        self.indent -= 1

    @contextmanager
    def elements(self, memory: Memory, most: int = LARGEST_BLOCK) -> Iterator[str]:
        """Write a loop over the elements `at` of a memory, at most so many at a time; yields the mask of those."""
        block = min(block_of(memory.size), most)
        with self.block(f"for block in range(0, {memory.size}, {block}):"):
            self.line(f"at = block + tl.arange(0, {block})")
            yield f"at < {memory.size}"

    def use(self, name: str) -> str:
        """A name that must be imported."""
        self._used.add(name)
        return name

    def called(self, var: Var) -> str:
        """What a variable is called."""
        if var not in self._called:
            self._called[var] = self.new_name(var.name)
        return self._called[var]

    def name(self, expr: Expr, before: bool = False) -> None:
        """See `Naming.name`."""
        text, name = self.text(expr), self.new_name(self.hint(expr))
        if before:
            self.before.append(f"{name} = {text}")
        else:
            self.line(f"{name} = {text}", expr)
        self.names[expr] = name

    def combined(self, kind: str, one: str, other: str) -> str:
        """Two partial sums (products, ...) as one."""
        sign = {"add": "+", "mul": "*"}.get(kind)
        return f"{one} {sign} {other}" if sign else f"{self.use(kind)}({one}, {other})"

    def summed(self, sums: Iterable[Var]) -> None:
        """Note that these sums are there, and name what only waited for them: small successors of variables.

        Triton sums in pieces of code between which nothing is moved. A successor takes its variable's register; at the
        end of the step it would need one beside that of its sum.
        """
        self.pending.difference_update(set(sums) - self.partial)
        if self.indent > 2:  # in a loop, which others come after
            return
        for node, value in zip(self.schedule.graph.inputs, self.schedule.successors, strict=False):
            if isinstance(value, Memory):
                continue
            for var, expr in zip(self.schedule.variables[node].values(), value.values(), strict=True):
                if expr.operands and expr.cost <= MOST_EARLY and expr not in self.names and self._is_known(expr):
                    self.early[var] = then = self.new_name(f"next_{var.name}")
                    self.line(f"{then} = {self.text(expr)}", expr)
                    self.names[expr] = then

    def _is_known(self, expr: Expr) -> bool:
        """Is it made by arithmetic of variables, and of sums that are there?"""
        if expr.op == "local":
            return expr.args[0] not in self.pending
        return expr.op in SMALL and all(map(self._is_known, expr.operands))

    def combine(self, kinds: tuple[str, ...]) -> str:
        """The name of the function that combines two lots of such sums."""
        if kinds not in self.combines:
            self.combines[kinds] = self.new_name("combine")
        return self.combines[kinds]

    def reduce(self, sums: list[tuple[Accumulate, str]]) -> None:
        """Add up what these texts have over their elements, all in one go."""
        names = ", ".join(self.called(root.var) for root, _ in sums)
        combine = self.combine(tuple(root.kind for root, _ in sums))
        texts = [text for _, text in sums]
        if len(sums) == 1:
            self.line(f"{names} = tl.reduce({texts[0]}, 0, {combine})", sums[0][0].node)
        elif len(names) + sum(map(len, texts)) < WIDE - 20:
            self.line(f"{names} = tl.reduce(({', '.join(texts)}), 0, {combine})")
        else:
            self.line(f"{names} = tl.reduce(")
            self.line("    (")
            for root, text in sums:
                self.line(f"        {text},", root.node)
            self.line("    ),")
            self.line("    0,")
            self.line(f"    {combine},")
            self.line(")")

    def imports(self) -> list[str]:
        """The lines that import what was used."""
        lines = ["import triton", "import triton.language as tl"]
        if "libdevice" in self._used:
            lines.append("from triton.language.extra import libdevice")
        own = {"triton_grid": self._used & {"meet"}, "triton_math": self._used & OWN}
        found: list[str] = []
        for module, names in own.items():
            if names:
                found += imported(f"fastpoly_kernels.{module}", sorted(names))
        return [*lines, "", *found] if found else lines

    def names_of(self, axis: Axis) -> tuple[str, str]:
        """What to call the elements' numbers of an axis, and the mask of those that are there."""
        if axis.size == self.schedule.samples:
            return "i", "there"
        return self.new_name(f"i_{axis.size}"), self.new_name(f"there_{axis.size}")

    def bounds_of(self, axis: Axis) -> str:
        """Where the elements of an axis begin and end: a program of a grid has its part of the samples."""
        return "begin, end" if self.programs > 1 and axis.size == self.schedule.samples else f"0, {axis.size}"

    def one_block(self, axis: Axis) -> None:
        """Name the elements of an axis that a block covers, for all steps."""
        if axis in self.indices:
            return
        name, mask = self.names_of(axis)
        self.before.append(f"{name} = tl.arange(0, {block_of(axis.size)})")
        if axis.size < block_of(axis.size):
            self.before.append(f"{mask} = {name} < {axis.size}")
        self.indices[axis] = name, mask if axis.size < block_of(axis.size) else None

    def mask(self, *axes: Axis) -> str | None:
        """The mask of the elements that are there, if one of these axes is a block that has others."""
        return next((self.indices[axis][1] for axis in axes if axis in self.indices), None)

    def masked(self, *axes: Axis) -> str:
        """The same as an argument of tl.store."""
        mask = self.mask(*axes)
        return f", mask={mask}" if mask else ""

    def resolved(self, expr: Expr) -> Expr:
        """A kept value is at hand where it still has a name; elsewhere it is loaded."""
        while expr.op == "kept":
            at_hand = expr.args[0] in self.kept_here or expr.args[0] in self.names
            expr = expr.args[0] if at_hand else expr.args[1]
        return expr

    # -- text

    def text(self, expr: Expr, strength: int = 0, typed: bool = True) -> str:
        """An expression as text, in brackets where what stands around it binds more strongly than `strength`.

        A number may stand as it is beside some operators; elsewhere it is `typed`.
        """
        expr = self.resolved(expr)
        if expr in self.names:
            return self.names[expr]
        match expr.op:
            case "number":
                return self._number(expr.args[0], typed)
            case "local":
                return self.called(expr.args[0])
            case "load":
                return self._load(expr)
            case "lookup":
                return self._lookup(expr)
            case "position":
                return self._position(expr.args[0])
        return self._infix(expr, strength) if expr.op in BETWEEN else self._call(expr)

    def _infix(self, expr: Expr, strength: int) -> str:
        if expr.op == "mul" and expr.args[0].number == -1:
            text = f"-{self.text(expr.args[1], STRENGTH['neg'])}"
            return f"({text})" if strength > STRENGTH["add"] else text
        own, typed = STRENGTH[expr.op], not self._along(expr)
        left = self.text(expr.args[0], own + (own == STRENGTH["lt"]), typed)
        # a + (b + c) is written as a + b + c; but b - c may be exact where a + b is not, and a * b overflow where b / c
        # does not
        inverse = self.resolved(expr.args[1]).op in ("sub", "div")
        right = self.text(expr.args[1], own + (expr.op not in ("add", "mul") or inverse), typed)
        text = f"{left} {INFIX[expr.op]} {right}"
        return f"({text})" if own < strength else text

    def place(self, index: Index) -> str:
        """An index as text, with the names that its axes have here."""
        parts = []
        for part, factor in index.terms:
            if isinstance(part, Division):
                text = f"(({self.place(part.index)}) {part.sign} {part.by})"
            else:
                text = self.indices[part][0] if part in self.indices else str(part)
            parts.append(text if factor == 1 else f"{factor} * {text}")
        if index.constant or not parts:
            parts.append(str(index.constant))
        return " + ".join(parts).replace("+ -", "- ")

    def _along(self, expr: Expr) -> bool:
        """May numbers stand as they are beside this operator, taking the other operand's type? Not in comparisons."""
        numbers = [operand.args[0] for operand in expr.operands if operand.op == "number"]
        return len(numbers) < 2 and (expr.op not in COMPARISONS or all(map(self.keeps, numbers)))

    def keeps(self, value: float) -> bool:
        """Is a number the same if Triton chooses its type, a float32 or, if it is too small or large, a float64?"""
        is_float32 = value == 0 or not math.isfinite(value) or TINIEST <= abs(value) <= MOST
        return is_float32 and (self.dtype == "float32" or float(np.float32(value)) == value)

    def value(self, expr: Expr) -> str:
        """An expression as text that has the type of numbers even if it is one: to be stored, or carried on."""
        expr = self.resolved(expr)
        return self.number(expr.args[0]) if expr.op == "number" else self.text(expr)

    def number(self, value: float, block: int | None = None) -> str:
        """A number with a type, or a block of it."""
        return f"tl.full([{block or ''}], {self.plain(value)}, {self.type})"

    def plain(self, value: float) -> str:
        """A number as it is written."""
        if math.isnan(value):
            return 'float("nan")'
        return INFINITY.get(value) or repr(value)

    def _number(self, value: float | bool, typed: bool) -> str:
        if isinstance(value, bool):
            return str(value)
        # Among the arguments of a function Triton chooses.
        chosen = self.dtype == "float32" and self.keeps(value)
        return self.number(value) if typed and not chosen else self.plain(value)

    def _call(self, expr: Expr) -> str:
        if expr.op == "not":
            return f"({self.text(expr.args[0], STRENGTH['neg'])} == 0)"
        name = expr.op if expr.op in OWN else "tl.where" if expr.op == "where" else FUNCTIONS[expr.op].triton
        if expr.op in OWN or name.startswith("libdevice"):
            self.use(expr.op if expr.op in OWN else "libdevice")
            return f"{name}({', '.join(map(self.value, expr.args))})"  # it takes no plain numbers
        return f"{name}({', '.join(map(self.text, expr.args))})"

    def _lookup(self, expr: Expr) -> str:
        memory, rest, stride, which = expr.args
        place = f"{self.place(rest + memory.start)} + {stride} * ({self.text(which)}).to(tl.int32)"
        return self._read(memory.region, place, *expr.axes)

    def _position(self, index: Index) -> str:
        return f"({self.number(0.0)} + ({self.place(index)}))"

    def _load(self, expr: Expr) -> str:
        memory, index = expr.args
        return self._read(memory.region, self.place(index + memory.start), *index.axes)

    def _read(self, region: str, place: str, *axes: Axis) -> str:
        mask = self.mask(*axes)
        return f"tl.load({region} + {place}{f', mask={mask}, other=0.0' if mask else ''})"
