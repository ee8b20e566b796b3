"""What `builder` makes of expressions for a CPU, for a GPU.

Along the axis i a whole block of elements is one value, spread over the threads. So nothing needs to lie next to its
neighbour, and elements beyond the end of the axis are masked where they are read, written or summed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from . import ir
from .builder import Builder, indices, number
from .expressions import Axis, Expr, Memory
from .gpu_warps import warps_for
from .ir import BOOL, FLOAT, INDEX, Assign, Do, Load, Op, Reduce, Var
from .plan import Accumulate
from .schedule import Schedule

LARGEST_BLOCK = 1024
"""Elements of an axis that are one value; a longer axis has a loop. With four to a thread, eight warps."""

TOGETHER = 16
"""Sums that go through the tree together: their shuffles already overlap, and each holds a register on the way."""

SMALL = frozenset({"add", "sub", "mul", "number", "local"})
MOST_EARLY = 6
"""Operations of a successor that is computed as soon as its sums are there: the whole expression is computed there, and
what it shares with others is computed again."""


def block_of(size: int) -> int:
    """The elements of a block for an axis of so many: a power of 2, which Triton's blocks must be."""
    return min(1 << (size - 1).bit_length(), LARGEST_BLOCK)


class GpuBuilder(Builder):
    """See `Builder`. An expression with the axis i is a block, whatever its strides.

    Attributes:
        step: the statements of a step, those in its loops left out.
        span: where the samples of a program begin and end.
        warps: how many the program has.
        held: how many registers of each thread hold data through all steps.
        samples: how long the axis is whose blocks have the shortest names.
        pending: the sums in variables that the step has yet to take, and the variables of its scans.
        partial: the sums in variables of which a program of a grid has yet only its part.
    """

    def __init__(self, schedule: Schedule, dtype: str, scratch: int) -> None:
        super().__init__(schedule, dtype, scratch)
        self.step = self.body
        self.samples = schedule.samples
        self.span: tuple[ir.Expr, ir.Expr] = number(0), number(schedule.samples)
        self.warps = warps_for(schedule, dtype, block_of(schedule.samples), TOGETHER)
        self.held = 0
        roots = (root for nest in schedule.nests for root in nest.roots if isinstance(root, Accumulate))
        self.pending = {root.var for root in roots if root.memory is None}
        self.pending.update(var for recurrence in schedule.recurrences for var in recurrence.variables())
        self.partial: set[Var] = set()

    # -- blocks

    def block(self, axis: Axis, first: ir.Expr | None = None) -> None:
        """Give the elements of an axis from `first` on their numbers, as many as a block has, and their mask."""
        size = block_of(axis.size)
        end = f"_{axis.size}" * (axis.size != self.samples)
        numbers = self.assign(self.new(f"i{end}", INDEX.of(size)), numbers_from(first, size))
        mask = None
        if axis.size % size:
            mask = self.new(f"there{end}", BOOL.of(size))
            self.assign(mask, Op("lt", (numbers, number(axis.size)), mask.kind))
        self.blocks[axis] = numbers, mask

    @contextmanager
    def elements(self, memory: Memory, most: int | None = None) -> Iterator[tuple[Var, Op]]:
        """Write a loop over the elements of a memory, at most so many at a time; yields where it is, and their mask."""
        size = min(block_of(memory.size), most or LARGEST_BLOCK)
        with self.loop("block", number(0), number(memory.size), size) as block:
            at = self.assign(self.new("at", INDEX.of(size)), numbers_from(block, size))
            yield at, Op("lt", (at, number(memory.size)), BOOL.of(size))

    def copy(self, to: str, start: ir.Expr, memory: Memory, stride: int = 1) -> None:
        """See `Builder.copy`; to every so manieth element."""
        with self.elements(memory) as (at, mask):
            value = Load(memory.region, indices("add", number(memory.start), at), FLOAT.of(at.kind.lanes), mask)
            moved = at if stride == 1 else indices("mul", number(stride), at)
            self.store(to, indices("add", start, moved), value, mask=mask)

    def resolved(self, expr: Expr) -> Expr:
        """A kept value is at hand where it still has a name; elsewhere it is loaded."""
        while expr.op == "kept":
            at_hand = expr.args[0] in self.kept_here or expr.args[0] in self.names
            expr = expr.args[0] if at_hand else expr.args[1]
        return expr

    # -- threads

    def long_zero(self) -> ir.Expr:
        """See `Builder.long_zero`: in 64 bits."""
        return indices("wide", number(0))

    def stop_unless(self, goes_on: ir.Expr) -> None:
        """See `Builder.stop_unless`. It goes on, with what means nothing."""
        taken, step = self.own("taken"), self.own("step")
        known = Op("or", (goes_on, Op("lt", (taken, step), BOOL)), BOOL)
        self.assign(taken, indices("where", known, taken, step))

    def barrier(self, why: str) -> None:
        self.body.append(Do("barrier", note=why))

    def reduce(self, sums: dict[Accumulate, ir.Expr]) -> None:
        """Add up what these values have over their lanes, all in one go."""
        names, kinds = tuple(root.var for root in sums), tuple(root.kind for root in sums)
        self.body.append(Reduce(names, kinds, tuple(sums.values()), tuple(self.note(root.node) for root in sums)))

    def summed(self, sums: Iterable[Var]) -> None:
        """Note that these sums are there, and compute what only waited for them: small successors of variables.

        Triton sums in pieces of code between which nothing is moved. A successor takes its variable's register; at the
        end of the step it would need one beside that of its sum.
        """
        self.pending.difference_update(set(sums) - self.partial)
        if self.body is not self.step:  # in a loop, which others come after
            return
        for var, expr in self.schedule.changing():
            if expr.operands and expr.cost <= MOST_EARLY and expr not in self.names and self._is_known(expr):
                value = self.value(expr)
                self.names[expr] = then = Var(f"next_{var.name}", FLOAT)
                self.body.append(Assign(then, value, self.note(expr)))

    def _is_known(self, expr: Expr) -> bool:
        """Is it made by arithmetic of variables, and of sums that are there?"""
        if expr.op == "local":
            return expr.args[0] not in self.pending
        return expr.op in SMALL and all(map(self._is_known, expr.operands))


def numbers_from(first: ir.Expr | None, lanes: int) -> ir.Expr:
    """first, first + 1, ..., so many of them; from 0 on without a `first`."""
    numbers = Op("numbers", (), INDEX.of(lanes))
    return indices("add", first, numbers) if first else numbers
