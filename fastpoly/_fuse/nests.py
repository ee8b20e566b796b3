"""The text of a loop nest.

Along the lanes axis `i` whole registers are read; the samples that do not fill one come with a mask, before the loop or
after it, or all come with a mask if the body is long. Where an element does not lie next to its neighbour, a nest goes
element by element. An expression is computed in the outermost loop that it can be computed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .expressions import Axis, Expr, Index, Memory
from .graph import Node
from .page import INFIX, STRENGTH, WIDE, Page
from .schedule import Accumulate, Loops, Nest, Root, Store
from .turns import Part, Turn, turns

PEELED = 150
"""A loop body of at most so many operations is written twice, for whole registers and for the samples that are left."""

MOST_VARIABLES = 64
"""Sums of one nest, or numbers carried from step to step, beyond which they live in memory: registers have spilled long
before."""

BLOCK = 16_384
"""Samples summed in one variable: beyond, a running sum in float32 loses digits (see fastpoly_kernels.descent)."""

NAME = 6
"""Columns of a name, about."""

NEUTRAL = {"add": "0.0", "mul": "1.0", "maximum": "-math.inf", "minimum": "math.inf"}
LANES = {"add": "total", "mul": "product", "maximum": "largest", "minimum": "smallest"}


def write_nest(page: Page, nest: Nest, part: Part | None) -> None:
    """Write a nest that takes a part of the samples, or all."""
    lanes = nest.loops.lanes
    if lanes is None or lanes.size != page.schedule.samples:
        part = None
    with beginning(page, nest):
        for turn in turns(page, nest, part):
            body = _Body(page, nest.loops, turn, part)
            body.level(0)
            for expr in body.exprs:  # names given inside of the loops mean nothing outside of them
                page.names.pop(expr, None)


@contextmanager
def beginning(page: Page, nest: Nest) -> Iterator[None]:
    """Write what belongs before a nest's loops; within, the page is that nest's."""
    page.kept_here = kept_in(nest)
    page.vector = is_whole(page, nest)
    page.hoist(root.value for root in nest.roots)
    yield
    page.kept_here, page.vector = frozenset(), False


def combined(page: Page, kind: str, one: str, other: str) -> str:
    """Two partial sums (products, ...) as one."""
    sign = {"add": "+", "mul": "*"}.get(kind)
    return f"{one} {sign} {other}" if sign else f"{page.use(kind)}({one}, {other})"


def kept_in(nest: Nest) -> frozenset[Expr]:
    """The values that a nest stores; they are at hand in it."""
    return frozenset(root.value for root in nest.roots if isinstance(root, Store))


def is_whole(page: Page, nest: Nest) -> bool:
    """Does a nest take whole registers along the lanes axis?"""
    lanes = nest.loops.lanes
    before, page.kept_here = page.kept_here, kept_in(nest)
    whole = lanes is not None and _is_read_whole(page, nest.roots, lanes)
    page.kept_here = before
    return whole and lanes is not None and all(_is_written_whole(page, root, lanes) for root in nest.roots)


def _is_read_whole(page: Page, roots: list[Root], lanes: Axis) -> bool:
    """Can whole registers be read along the lanes axis?"""
    for expr in page.unnamed(root.value for root in roots):
        if expr.op in ("position", "lookup") and lanes in expr.axes:
            return False
        if expr.op == "load" and expr.args[1].factor(lanes) not in (0, 1):
            return False
    return True


def _is_written_whole(page: Page, root: Root, lanes: Axis) -> bool:
    """Can whole registers be written along the lanes axis, or summed?"""
    if isinstance(root, Store):
        memory = root.memory
        whole = memory.shape[memory.order[-1]] == lanes.size or lanes.size % page.schedule.lanes == 0
        return whole and root.offset.factor(lanes) == 1  # else the last register would overwrite what comes next
    return root.offset is None or lanes in root.reduced or root.offset.factor(lanes) == 1


def worth_a_name(page: Page, exprs: list[Expr], depth: dict[Expr, int], roots: list[Root], loops: int) -> set[Expr]:
    """Of `exprs`, operands first: what is used twice, or from a deeper loop, or would make a long line.

    Args:
        depth: inside of how many of the nest's `loops` each is computed.
        roots: what they are for.
    """
    users: dict[Expr, int] = {}
    named: set[Expr] = set()
    width: dict[Expr, int] = {}
    for expr in exprs:
        operands = [page.resolved(operand) for operand in expr.operands]
        for operand in operands:
            users[operand] = users.get(operand, 0) + 1
            if operand in depth and depth[operand] < depth[expr]:
                named.add(operand)
        width[expr] = _own_width(expr) + sum(NAME if o in named else width.get(o, NAME) for o in operands)
        for widest in sorted((o for o in operands if o in width), key=width.__getitem__, reverse=True):
            if width[expr] > WIDE:
                named.add(widest)
                width[expr] -= width[widest] - NAME
    for value in (page.resolved(root.value) for root in roots):
        users[value] = users.get(value, 0) + 1
        if value in depth and depth[value] < loops:
            named.add(value)
    return named | {expr for expr in exprs if users.get(expr, 0) > 1}


def _own_width(expr: Expr) -> int:
    """About how many columns an expression takes beside those of its operands."""
    if expr.op == "load":
        return NAME if expr.args[0].region == "data" else 3 * NAME  # data have names, others say where they lie
    return 3 if expr.op in INFIX else len(expr.op) + 2 * len(expr.operands)


class _Body:
    """One nest while it is written."""

    def __init__(self, page: Page, loops: Loops, turn: Turn, part: Part | None) -> None:
        self.page = page
        self.lanes = loops.lanes
        self.order = loops.order
        self.roots = roots = turn.roots
        self.sums = [root for root in roots if isinstance(root, Accumulate)]
        self.steps = turn.steps
        self.span = turn.span
        self.backwards = turn.backwards
        self.part = part
        self.slots = self._slots()
        self.beginning: list[Accumulate] = []  # the sums that the statements at hand begin
        self.exprs = [expr for expr in page.unnamed(root.value for root in roots) if expr.axes]
        self.depth = {expr: max(self.order.index(axis) for axis in expr.axes) + 1 for expr in self.exprs}
        self.named = self._named()

    def _slots(self) -> dict[Accumulate, int]:
        """Where in memory sums are taken, register by register, if there are too many for variables."""
        sums = [root for root in self.sums if self.lanes in root.reduced] if self.page.vector else []
        in_blocks = self.lanes is not None and self.lanes.size > BLOCK
        if len(sums) <= MOST_VARIABLES or in_blocks or self.steps:
            return {}
        return {root: self.page.spare(self.page.schedule.lanes) for root in sums}

    def _named(self) -> set[Expr]:
        """What gets a name: what `worth_a_name` says, and data for the name that they have."""
        data = {expr for expr in self.exprs if expr.op == "load" and expr.args[0].region == "data"}
        return data | worth_a_name(self.page, self.exprs, self.depth, self.roots, len(self.order))

    # -- loops

    def level(self, depth: int) -> None:
        """Everything inside of the first `depth` loops."""
        starting = self._starting(depth)
        if not self._begins_with_rest(depth):
            self._start(starting)
        if depth == len(self.order):
            self._update("")
        elif self.order[depth] is self.lanes and self.page.vector:
            self._along_lanes(depth)
        else:
            axis = self.order[depth]
            step = self.steps.get(axis, 1)
            size = f"0, {axis.size}, {step}" if step > 1 else str(axis.size)
            if axis is self.lanes and self.part:
                size = f"{self.part[0]}, min({self.part[1]}, {axis.size})"
            if self.backwards and depth == 0:
                size = f"{axis.size - step}, {-step}, {-step}"
            with self.page.block(f"for {axis} in range({size}):"):
                self._statements(depth + 1)
                self.level(depth + 1)
        self._finish(starting)

    def _starting(self, depth: int) -> list[Accumulate]:
        """The sums that begin and end inside of so many loops."""
        return [root for root in self.sums if self._scope(root) == depth]

    def _scope(self, root: Accumulate) -> int:
        """Inside of how many loops a sum begins and ends: of those around the first that it runs over."""
        return next(depth for depth, axis in enumerate(self.order) if axis in root.reduced)

    def _along_lanes(self, depth: int) -> None:
        page, axis, width = self.page, self.order[depth], self.page.schedule.lanes
        whole = axis.size - axis.size % width
        if whole == axis.size or not any(axis in root.reduced for root in self.sums):
            if self._ends_in_one_register(axis, whole):
                self._loop(depth, whole)
                self._last_register(depth, whole)
            else:
                self._loop(depth, -(-axis.size // width) * width)
        elif len(self.exprs) > PEELED and whole:
            span = ", ".join(self.part or ("0", str(axis.size)))
            with page.block(f"for i in range({span}, {width}):"):
                page.line(f"there = {page.use('first_lanes')}(data, {axis.size} - i)")
                self._turn(depth, "there")
        elif self._begins_with_rest(depth):
            self.beginning = self._starting(depth)
            page.narrow = self._fit_in_one(axis.size - whole) and all(
                root.kind == "add" and root in self.beginning for root in self.sums
            )
            self._rest(depth, whole, axis.size - whole)
            self.beginning, page.narrow = [], False
            self._loop(depth, whole)
        else:
            if whole:
                self._loop(depth, whole)
            if self.part:
                with page.block(f"if {self.part[1]} > {whole}:"):
                    self._rest(depth, whole, axis.size - whole)
            else:
                self._rest(depth, whole, axis.size - whole)

    def _begins_with_rest(self, depth: int) -> bool:
        """Do the sums of this loop begin with the samples that do not fill a register?

        At its end a mask would keep the total waiting; and where sums have two registers, those samples need but one.
        """
        if depth + 1 != len(self.order) or self.order[depth] is not self.lanes or not self.page.vector:
            return False
        rest = self.lanes.size % self.page.schedule.lanes
        is_plain = not (self.part or self.slots) and len(self.exprs) <= PEELED
        return is_plain and 0 < rest < self.lanes.size and bool(self._starting(depth))

    def _ends_in_one_register(self, axis: Axis, whole: int) -> bool:
        """Do the samples after the last turn of several registers fit into one, at little text for it?"""
        return self._fit_in_one(axis.size - whole) and not (self.part or self.span) and len(self.exprs) <= PEELED

    def _fit_in_one(self, samples: int) -> bool:
        """Do they fill no more than one of several registers?"""
        schedule = self.page.schedule
        return 0 < samples <= schedule.lanes // schedule.registers < schedule.lanes

    def _last_register(self, depth: int, start: int) -> None:
        self.page.line(f"i = {start}")
        self.page.narrow = True
        self._turn(depth, "")
        self.page.narrow = False

    def _rest(self, depth: int, start: int, count: int) -> None:
        """The samples that do not fill a register."""
        page = self.page
        array = page.array("data")
        page.line(f"there = {page.use('first_lanes')}({array}, {count})  # the samples that do not fill a register")
        page.line(f"i = {start}")
        self._turn(depth, "there")

    def _loop(self, depth: int, end: int) -> None:
        """The samples up to `end` in whole registers."""
        page, width = self.page, self.page.schedule.lanes
        first, last = self.part or ("0", str(end))
        if self.span:
            first, last = self.span
        elif self.part:
            last = f"min({last}, {end})"
        width = self.steps.get(self.order[depth], width)
        blocked = [
            r for r in self.sums if r.kind == "add" and self.lanes in r.reduced and end > BLOCK and r.slot is None
        ]
        if not blocked:
            with page.block(f"for i in range({first}, {last}, {width}):"):
                self._turn(depth, "")
            return
        wholes = {root: page.schedule.new_name(f"{root.name}_blocks") for root in blocked}
        for root, whole in wholes.items():
            page.line(f"{whole} = {root.name}")
        with page.block(f"for block in range({first}, {last}, {BLOCK}):"):
            self._start(blocked)
            with page.block(f"for i in range(block, min(block + {BLOCK}, {last}), {width}):"):
                self._turn(depth, "")
            for root, whole in wholes.items():
                page.line(f"{whole} = {whole} + {root.name}")
        for root, whole in wholes.items():
            page.line(f"{root.name} = {whole}")

    def _turn(self, depth: int, mask: str) -> None:
        """One turn of the lanes loop; of a register that is not full, the lanes in `mask` count."""
        self._statements(depth + 1)
        if depth + 1 < len(self.order):
            self.level(depth + 1)
        else:
            self._update(mask)
        for expr in self.exprs:  # the next turn is written anew
            if self.depth[expr] > depth:
                self.page.names.pop(expr, None)

    # -- statements

    def _statements(self, depth: int) -> None:
        """Everything that has a name and belongs just inside of `depth` loops."""
        for expr in self.exprs:
            if expr in self.named and self.depth[expr] == depth:
                self.page.name(expr)

    def _update(self, mask: str) -> None:
        """The innermost statements: write what is stored, add to what is summed."""
        for root in self.roots:
            value = self.page.resolved(root.value)
            if isinstance(root, Store):
                self._write(root.memory, root.offset, self.page.text(value), value, root.node)
                continue
            if root in self.beginning:
                self._set_sum(root, self._begun(root, mask, value), root.node)
                continue
            before = self._sum(root)
            new = self._added(root.kind, before, value)
            if mask and self.lanes in root.reduced:
                new = f"{self.page.use('where')}({mask}, {new}, {before})"
            self._set_sum(root, new, root.node)

    def _begun(self, root: Accumulate, mask: str, value: Expr) -> str:
        """What a sum begins with: the value in the lanes of a mask."""
        page, text = self.page, self.page.text(value)
        if not page.along(value):
            text = f"{page.use('splat')}({text}, {page.array('data')})"
        if root.kind != "add":
            return f"{page.use('where')}({mask}, {text}, {self._neutral(root)})"
        text = f"{page.use('masked')}({mask}, {text})"
        return f"{page.use('widened')}({text}, data)" if page.narrow else text

    def _neutral(self, root: Accumulate) -> str:
        """A register of what changes nothing."""
        if "math" in NEUTRAL[root.kind]:
            self.page.use("math")
        return f"{self.page.use('splat')}({NEUTRAL[root.kind]}, {self.page.array('data')})"

    def _sum(self, root: Accumulate) -> str:
        """A sum as it stands."""
        slot = self.slots.get(root)
        return root.name if slot is None else f"{self.page.use('load')}(scratch, {slot})"

    def _set_sum(self, root: Accumulate, text: str, about: Node | None = None) -> None:
        slot = self.slots.get(root)
        line = f"{root.name} = {text}" if slot is None else f"{self.page.use('store')}(scratch, {slot}, {text})"
        self.page.line(line, about)

    def _added(self, kind: str, before: str, value: Expr) -> str:
        if kind == "add" and value.op == "mul" and value.args[0].number == -1 and value not in self.page.names:
            return f"{before} - {self.page.text(value.args[1], STRENGTH['mul'])}"
        return combined(self.page, kind, before, self.page.text(value, STRENGTH["mul"]))

    def _write(self, memory: Memory, offset: Index, text: str, value: Expr | None, node: Node) -> None:
        """Write to memory; `value` is what the text stands for, None if that is a register."""
        page, place = self.page, offset + memory.start
        if not page.vector or self.lanes not in offset.axes:
            page.line(f"{memory.region}[{place}] = {text}", node)
            return
        if value is not None and self.lanes not in value.axes:
            text = f"{page.use('splat')}({text}, {page.array(memory.region)})"
        page.line(f"{page.use('store')}({page.array(memory.region)}, {place}, {text})", node)

    def _start(self, roots: list[Accumulate]) -> None:
        page = self.page
        for root in roots:
            # lane by lane if it runs over the lanes, or within one turn of their loop
            inside = self.lanes is not None and self._scope(root) > self.order.index(self.lanes)
            if page.vector and (self.lanes in root.reduced or inside):
                self._set_sum(root, self._neutral(root))
            else:
                neutral = NEUTRAL[root.kind]
                if "math" in neutral:
                    page.use("math")
                page.line(f"{root.name} = {page.literal()}({neutral})")

    def _finish(self, roots: list[Accumulate]) -> None:
        page = self.page
        for part in roots:
            if part.part_of is not None:
                page.line(f"{part.part_of.name} = {combined(page, part.kind, part.part_of.name, part.name)}")
        for root in roots:
            if root.part_of is not None:
                continue
            if root.slot is not None:
                before = f"{page.use('load')}(scratch, {root.slot})"
                after = combined(page, root.kind, before, self._sum(root))
                page.line(f"{page.use('store')}(scratch, {root.slot}, {after})")
                continue
            text = root.name
            if page.vector and self.lanes in root.reduced:
                text = f"{page.use(LANES[root.kind])}({self._sum(root)})"
            if root.memory is not None and root.offset is not None:
                self._write(root.memory, root.offset, text, None, root.node)
            elif text != root.name:
                page.line(f"{root.name} = {text}")
