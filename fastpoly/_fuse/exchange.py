"""Threads that share the samples of a step, and add up what each has summed over its own.

Each has a room, where it writes its sums for the others to read once all have come to a meeting. All of them add them
up in the same order, and go on with the same sums, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from . import ir
from .builder import Builder, indices, number, shifted
from .expressions import Memory
from .ir import FLOAT, Do, Load, Var
from .layout import Layout
from .plan import Accumulate, Nest

SEEN = "until every thread sees what was written"
"""Why there is a barrier."""


class Exchange:
    """What a kernel says of the others.

    Attributes:
        me: the number of this thread.
        span: where its samples begin and end.
        unit: how many samples go together.
    """

    names = ("thread", "first", "last")

    def __init__(self, builder: Builder, layout: Layout, unit: int) -> None:
        self.builder = builder
        self.layout = layout
        self.unit = unit
        self.me, *span = map(builder.own, self.names)
        self.span: tuple[Var, Var] = (span[0], span[1])
        self.taken = 0  # of the room, in this step

    def begin(self) -> None:
        """Before all steps: which samples are this thread's."""
        units = number(-(-self.builder.schedule.samples // self.unit))
        for bound, of in zip(self.span, (self.me, shifted(self.me, 1)), strict=True):
            share = indices("floordiv", indices("mul", units, of), number(self.layout.threads))
            self.builder.assign(bound, indices("mul", share, number(self.unit)), f"this {self.names[0]}'s samples")
        self.builder.assign(self.builder.own("met"), self.builder.long_zero())

    def begin_step(self) -> None:
        """Two rooms in turn: a thread that is a step ahead must not overwrite what another still reads."""
        builder, room = self.builder, self.layout.room
        side = builder.assign(builder.own("side"), self._side())
        builder.assign(builder.own("mine"), indices("add", side, indices("mul", self.me, number(room))))

    def _side(self) -> ir.Expr:
        """Where the room of this step begins."""
        odd = indices("and", self.builder.own("step"), number(1))
        return indices("mul", odd, number(self.layout.threads * self.layout.room))

    def __call__(self, nests: Sequence[Nest]) -> bool:
        """Add up the sums of these nests, which have been written. Are there any?"""
        builder = self.builder
        sums = builder.schedule.shared(nests)
        if not sums:
            return False
        variables = {root: self._place(1) for root in sums if root.memory is None}
        kinds = {root.memory: root.kind for root in sums if root.memory is not None}
        memories = [(memory, kind, self._place(memory.size)) for memory, kind in kinds.items()]
        for root, at in variables.items():
            self._tell(root.var, at)
        if memories:
            builder.barrier(SEEN)
        for memory, _, at in memories:
            self._tell_all(memory, at)
        met = builder.own("met")
        builder.assign(met, shifted(met, self.layout.threads))
        builder.body.append(Do("meet", "counter", (met,)))
        self._total(variables)
        for memory, kind, at in memories:
            self._total_of(memory, kind, at)
        if memories:
            builder.barrier(SEEN)
        return True

    def _place(self, size: int) -> int:
        """Where in the room so many sums lie."""
        start, self.taken = self.taken, self.taken + size
        return start

    def _tell(self, var: Var, at: int) -> None:
        """Write a sum to the room."""
        self.builder.store("room", indices("add", self.builder.own("mine"), number(at)), var)

    def _tell_all(self, memory: Memory, at: int) -> None:
        """The same for all elements of a memory."""
        self.builder.copy("room", indices("add", self.builder.own("mine"), number(at)), memory)

    def _total(self, sums: dict[Accumulate, int]) -> None:
        """Add up what all have of these sums."""
        for root, at in sums.items():
            self.builder.assign(root.var, self._of_all(root.kind, number(at)))

    def _total_of(self, memory: Memory, kind: str, at: int) -> None:
        """The same for all elements of a memory."""
        builder = self.builder
        for first, end, width in builder.registers_of(memory):
            with builder.loop("i", number(first), number(end), width) as i:
                total = self._of_all(kind, number(at), i, lanes=width if width > 1 else 0)
                builder.store(memory.region, shifted(i, memory.start), total)

    def _of_all(self, kind: str, *at: ir.Expr, lanes: int = 0) -> ir.Expr:
        """What all have at a place of their rooms, together."""
        side, room = self.builder.own("side"), self.layout.room
        starts = (shifted(side, thread * room) for thread in range(self.layout.threads))
        places = (reduce(lambda one, other: indices("add", one, other), at, start) for start in starts)
        values: list[ir.Expr] = [Load("room", place, FLOAT.of(lanes)) for place in places]
        return reduce(lambda one, other: self.builder.operation(kind, one, other), values)
