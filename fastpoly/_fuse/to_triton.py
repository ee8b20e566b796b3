"""From the loop IR to a page of Triton: the kernel of a GPU, which Triton compiles.

A register is a block of elements, spread over the threads of a program. A number has a type where Triton would make a
float32 of it.
"""

from __future__ import annotations

import math

import numpy as np

from fastpoly_kernels.functions import FUNCTIONS

from .instructions import COMPARISONS
from .ir import FLOAT, Const, Expr, Kernel, Load, Op, Reduce, Statement, Store, Var, View
from .names import PYTHON
from .to_python import INFIX, STRENGTH, Page, imported

OWN = frozenset(name for name, function in FUNCTIONS.items() if function.triton == "own")
"""Functions of `fastpoly_kernels.triton_math`."""

RESERVED = PYTHON | {"data", "stopped", "own", "side", "libdevice", "tl", "triton", "meet"}

CALLED = {"where": "tl.where", "min": "tl.minimum", "barrier": "tl.debug_barrier", "meet": "meet"}

TINIEST, MOST = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).max)
"""Of what Triton makes float32 where it chooses."""

DOC = '''    """Take `steps` steps in {dtype}, in {programs} of {warps}.

    carry: what goes from step to step; data: what never changes; scratch: room for what one step keeps.
    out: a row of results after `wait` steps and then after every `every` steps.
    stopped: the first step with a result that is not finite, or `steps`; what comes after it means nothing.{shared}
    """'''

SHARED = """
    room: where programs tell each other their sums; counter: how many have come to a meeting."""


def to_triton(kernel: Kernel) -> str:
    """The page that defines `kernel`."""
    return _Page(kernel).text()


class _Page(Page):
    """See `Page`.

    Attributes:
        combines: the functions that combine two lots of sums (products, ...), by the kinds of those.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, RESERVED)
        self.type = f"tl.{kernel.dtype}"
        self.combines: dict[tuple[str, ...], str] = {}

    def text(self) -> str:
        kernel, several = self.kernel, self.kernel.programs > 1
        self.statements(kernel.body, 1)
        combining = [line for kinds, name in self.combines.items() for line in self.combining(name, kinds)]
        programs = f"{kernel.programs} programs" if several else "one program"
        warps = f"{kernel.warps} warp{'s' if kernel.warps > 1 else ''}"
        lines = [
            *self.imports(),
            "",
            "",
            *combining,
            f"@triton.jit(do_not_specialize={[*kernel.numbers]})".replace("'", '"'),
            f"def kernel({', '.join(kernel.arguments)}):",
            DOC.format(dtype=kernel.dtype, programs=programs, warps=warps, shared=SHARED if several else ""),
            *self.lines,
        ]
        return "\n".join(lines) + "\n"

    def imports(self) -> list[str]:
        lines = ["import triton", "import triton.language as tl"]
        if "libdevice" in self.used:
            lines.append("from triton.language.extra import libdevice")
        grid = imported("fastpoly_kernels.triton_grid", self.used & {"meet"})
        own = grid + imported("fastpoly_kernels.triton_math", self.used & OWN)
        return [*lines, "", *own] if own else lines

    # -- sums

    def combining(self, name: str, kinds: tuple[str, ...]) -> list[str]:
        """A function that combines two lots of sums (products, ...) of these kinds."""
        ones, others = ([f"{letter}{n}" for n in range(len(kinds))] for letter in "ab")
        results = (
            f"{one} {INFIX[kind]} {other}" if kind in INFIX else f"{self.use(kind)}({one}, {other})"
            for kind, one, other in zip(kinds, ones, others, strict=True)
        )
        arguments = ", ".join([*ones, *others])
        return ["@triton.jit", f"def {name}({arguments}):", f"    return {', '.join(results)}", "", ""]

    def other(self, statement: Statement, indent: int) -> None:
        match statement:
            case View(buffer=buffer, of=of, index=index):
                self.line(f"{buffer} = {self.pointer(of, index)}", indent)
            case Reduce():
                self.reduce(statement, indent)

    def reduce(self, statement: Reduce, indent: int) -> None:
        """Sums that are taken in one go."""
        if statement.kinds not in self.combines:
            self.combines[statement.kinds] = self.new("combine")
        combine, rows = self.combines[statement.kinds], statement.rows
        texts = [self.value(value) for value in statement.values]
        if rows:
            shapes = (f"[{rows}, {value.kind.lanes // rows}]" for value in statement.values)
            texts = [f"tl.reshape({text}, {shape})" for text, shape in zip(texts, shapes, strict=True)]
        names = ", ".join(map(self.name, statement.vars))
        rest = f"{int(rows > 0)}, {combine})"
        if len(texts) == 1:
            self.line(f"{names} = tl.reduce({texts[0]}, {rest}", indent, statement.notes[0])
            return
        self.line(f"{names} = tl.reduce((", indent)
        for text, note in zip(texts, statement.notes, strict=True):
            self.line(f"{text},", indent + 1, note)
        self.line(f"), {rest}", indent)

    # -- memory

    def pointer(self, buffer: str, index: Expr) -> str:
        return f"{buffer} + {self.value(index, STRENGTH['add'])}"

    def load(self, load: Load) -> str:
        masked = f", mask={self.value(load.mask)}, other={self.plain(load.other)}" if load.mask else ""
        return f"tl.load({self.pointer(load.buffer, load.index)}{masked})"

    def stored(self, store: Store) -> str:
        mask = f", mask={self.value(store.mask)}" if store.mask else ""
        return f"tl.store({self.pointer(store.buffer, store.index)}, {self.typed(store.value)}{mask})"

    def assignment(self, var: Var, value: Expr) -> str:
        return f"{self.name(var)} = {self.typed(value)}" if isinstance(value, Const) else super().assignment(var, value)

    # -- numbers

    def infix(self, op: Op) -> str:
        if op.name == "neg":  # Triton's -x is 0 - x, which is no -0
            op = Op("mul", (op.args[0], Const(-1.0, FLOAT)), op.kind)
        return super().infix(op)

    def takes_numbers(self, op: Op) -> bool:
        """May numbers stand as they are beside this operator, taking the other operand's type? Not in comparisons."""
        numbers = [arg.value for arg in op.args if isinstance(arg, Const) and isinstance(arg.value, float)]
        return len(numbers) < 2 and (op.name not in COMPARISONS or all(map(self.keeps, numbers)))

    def keeps(self, value: float) -> bool:
        """Is a number the same if Triton chooses its type, a float32 or, if it is too small or large, a float64?"""
        is_float32 = value == 0 or not math.isfinite(value) or TINIEST <= abs(value) <= MOST
        return is_float32 and (self.kernel.dtype == "float32" or float(np.float32(value)) == value)

    def typed(self, value: Expr) -> str:
        """A value that has the type of numbers even if it is one: to be stored, carried on, or a function's."""
        if isinstance(value, Const) and isinstance(value.value, float):
            return self.number(value)
        return self.value(value)

    def number(self, const: Const, block: int | None = None) -> str:
        """A number with a type, or a block of it."""
        return f"tl.full([{block or ''}], {self.plain(const.value)}, {self.type})"

    def plain(self, value: float) -> str:
        """A number as it is written."""
        return repr(value) if math.isfinite(value) else f'float("{value}")'

    def constant(self, const: Const, plain: bool) -> str:
        if not isinstance(const.value, float):
            return repr(const.value)
        # Among the arguments of a function Triton chooses.
        chosen = self.kernel.dtype == "float32" and self.keeps(const.value)
        return self.plain(const.value) if plain or chosen else self.number(const)

    # -- calls

    def called(self, name: str) -> str:
        if name in CALLED:
            return CALLED[self.use(name)]
        if name in OWN:
            return self.use(name)
        triton = FUNCTIONS[name].triton
        self.used.add(triton.partition(".")[0])
        return triton

    def call(self, op: Op) -> str:
        args, lanes = op.args, op.kind.lanes
        match op.name:
            case "not":
                return f"({self.value(args[0], STRENGTH['neg'])} == 0)"
            case "isfinite":
                return f'(tl.abs({self.value(args[0])}) < float("inf"))'
            case "position":
                return f"(tl.full([], 0.0, {self.type}) + ({self.value(args[0])}))"
            case "integer":
                return f"({self.value(args[0])}).to(tl.int32)"
            case "wide":
                text = self.value(args[0], STRENGTH["neg"])
                return f"tl.full([], {text}, tl.int64)" if isinstance(args[0], Const) else f"{text}.to(tl.int64)"
            case "program":
                return "tl.program_id(0)"
            case "numbers":
                return f"tl.arange(0, {lanes})"
            case "splat":
                (value,) = args
                if isinstance(value, Const):
                    return self.number(value, lanes)
                return f"tl.broadcast_to({self.value(value)}, [{lanes}])"
            case "all_lanes":
                return f"(tl.min(({self.value(args[0])}).to(tl.int32), 0) != 0)"
            case "masked":
                return f"tl.where({self.value(args[0])}, {self.value(args[1])}, 0.0)"
        name = self.called(op.name)
        takes_numbers = name.startswith("tl.")
        return f"{name}({', '.join(map(self.value if takes_numbers else self.typed, args))})"
