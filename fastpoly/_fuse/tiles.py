"""A product of matrices, tile by tile: so many sums in registers as hide each other's waiting and share what they load.

Where registers run along the rows, a tile is some registers of rows by some columns. What it reads of the first matrix
is copied to a panel beforehand, where it lies as it is read, for all columns. Where registers run along what is summed
over, a tile is some rows by some columns, and each of its sums has a register of partial ones; where they run along a
batch, each has a register of its own.

GFLOP/s of one thread of a Zen 5 with AVX-512 (`python bench/products.py`; 275 are its limit in float32): X W, the
product along rows, and X^T G, along what is summed over, for n samples and W (width x width). No size of either was
found at which loop nests are faster, or a library.

    dtype    n x width       X W: tiles  nests  torch.mm  numpy     X^T G: tiles  nests  torch.mm  numpy
    float32  100 x 20              199    187        36     43              162    128        37     43
    float32  1024 x 32             258    230        99    110              234     67        94    100
    float32  1024 x 256            272    197       114    131              223     67       109    129
    float32  1024 x 512            256    162       113    130              234     54       110    130
    float32  8192 x 256            214    137       104    117              236     44       106    122
    float64  100 x 20              110     98        19     30              113     86        20     29
    float64  1024 x 256            122     94        57     63              129     26        54     60
    float64  1024 x 512            110     76        52     62               96     25        54     62
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from . import ir
from .builder import Builder, indices, least, number, shifted
from .expressions import Axis, Expr
from .ir import BOOL, FLOAT, Const, If, Kind, Load, Op, Var
from .products import Product
from .turns import Part

TILES = {32: (2, 8), 16: (2, 4)}
"""Of a processor with so many registers: the registers of rows and the columns of a tile along the rows. The fastest of
some that leave room for what is loaded, by `python bench/products.py --tiles 2,8`; of 16 registers, (3, 4) spilled."""

SQUARES = {32: (6, 4), 16: (2, 4)}
"""The rows and the columns of a tile along what is summed over, or along a batch; by the same, `--squares 6,4`."""

SPAN = 64
"""Registers that such a tile sums up before its lanes are added up: the rows of a tile then fill half of the first
cache; `--span 64`."""

BLOCK = 2**18
"""Bytes of the second matrix that are read again and again: a part of the second cache."""

Sums = dict[tuple[int, int], Var]
"""Those of a tile, by row and column."""


def write_product(builder: Builder, product: Product, part: Part | None, begun: bool = False) -> None:
    """Write a product of a part of the samples, or of all.

    Args:
        begun: are sums over samples added to what is there? See `write_zeros`.
    """
    tiles = _Tiles(builder, product)
    if product.over is not product.lanes:
        with _around(builder, product.batch):
            tiles.along_rows(part) if product.row is product.lanes else tiles.along_batch(part)
        return
    at_once = part is None and not begun and product.over.size <= SPAN * tiles.width
    if not (at_once or begun):
        write_zeros(builder, product)
    with _around(builder, product.batch):
        tiles.at_once() if at_once else tiles.in_parts(part)


def write_zeros(builder: Builder, product: Product) -> None:
    """What the sums of a product begin with that is written part by part."""
    with _around(builder, (*product.batch, product.row, product.column)):
        _Tiles(builder, product).store({}, Const(0.0, FLOAT))


@contextmanager
def _around(builder: Builder, axes: tuple[Axis, ...]) -> Iterator[None]:
    """Loops over all of these axes."""
    with ExitStack() as loops:
        for axis in axes:
            loops.enter_context(builder.loop(axis.name, number(0), number(axis.size)))
        yield


@dataclass(frozen=True)
class _Span:
    """Tiles along an axis, `count` of `step` each; the last one begins at `last` if it overlaps the one before."""

    first: ir.Expr
    end: ir.Expr
    step: int
    count: int
    last: int | None = None


def _steps(size: int, most: int, again: bool) -> list[_Span]:
    """An axis in steps of at most so many and no less than half: in one loop if that leaves nothing over, or if it may
    be taken `again`, or in two of steps that differ by one. Each loop is text that must be compiled.
    """
    steps = range(min(most, size), most // 2, -1)
    step = min(steps, key=lambda step: -size % step)
    if size % step == 0 or again:
        return [_Span(number(0), number(size), step, -(-size // step), size - step if size % step else None)]
    count = -(-size // most)
    narrow, wider = divmod(size, count)
    whole = wider * (narrow + 1)
    return [
        _Span(number(0), number(whole), narrow + 1, wider),
        _Span(number(whole), number(size), narrow, count - wider),
    ]


class _Tiles:
    """The tiles of one product."""

    def __init__(self, builder: Builder, product: Product) -> None:
        self.builder = builder
        self.product = product
        schedule = builder.schedule
        self.width = schedule.lanes // schedule.registers
        self.kind = FLOAT.of(self.width)
        self.registers, self.columns = TILES[schedule.available]
        self.square = SQUARES[schedule.available]

    # -- registers along the rows

    def along_rows(self, part: Part | None) -> None:
        """The rows of a part of the samples, or all. The last tile is taken further back if there is no room for it:
        what is in two tiles is written twice.
        """
        builder, row, over = self.builder, self.product.row, self.product.over
        registers = min(self.registers, -(-row.size // self.width))
        size = registers * self.width
        panel = builder.aligned_room(over.size * size)
        end = self._end(size)
        first, last = self._bounds(part, end)
        for block in self._blocks(_steps(self.product.column.size, self.columns, again=True), over.size):
            with builder.loop(row.name, first, last, size) as i:
                if end % size:
                    builder.assign(builder.new(row.name), least(i, shifted(last, -size)))
                self._pack(panel, registers)
                with self._loop(self.product.column, block):
                    self._tile(panel, registers, block.step)

    def _end(self, size: int) -> int:
        """Where tiles of so many rows end: beyond the last one, but not beyond what there is room for."""
        count = self.product.lanes.size
        return min(-(-count // by) * by for by in (size, self.builder.schedule.lanes))

    @staticmethod
    def _bounds(part: Part | None, end: int) -> Part:
        """Where a part of the samples begins and ends, or all of them."""
        return (part[0], least(part[1], number(end))) if part else (number(0), number(end))

    def _panel(self, panel: int, registers: int, k: Var) -> list[ir.Expr]:
        """Where the panel has the registers of a term."""
        start = indices("mul", number(registers * self.width), k)
        return [shifted(start, panel + at * self.width) for at in range(registers)]

    def _pack(self, panel: int, registers: int) -> None:
        """Copy what the rows of a tile need."""
        one, row, over = self.product.one, self.product.row, self.product.over
        with self.builder.loop(over.name, number(0), number(over.size)) as k:
            for at, place in enumerate(self._panel(panel, registers, k)):
                self.builder.store("scratch", place, self._read(one, row, at * self.width, self.kind))

    def _tile(self, panel: int, registers: int, columns: int) -> None:
        """The sums of a tile, from a panel."""
        builder, product, over = self.builder, self.product, self.product.over
        sums = self._begin(registers, columns)
        with builder.loop(over.name, number(0), number(over.size)) as k:
            rows = [Load("scratch", place, self.kind) for place in self._panel(panel, registers, k)]
            numbers = [self._read(product.other, product.column, at, FLOAT) for at in range(columns)]
            self._add(sums, rows, numbers)
        for (r, c), var in sums.items():
            self.store({product.row: r * self.width, product.column: c}, var)

    # -- registers along a batch

    def along_batch(self, part: Part | None) -> None:
        """The products of a part of the samples, or of all, a register of them at a time."""
        builder, product = self.builder, self.product
        first, last = self._bounds(part, self._end(self.width))
        ((r,), (c,)) = (
            _steps(axis.size, most, again=True)
            for axis, most in zip((product.row, product.column), self.square, strict=True)
        )
        lanes = builder.loop(product.lanes.name, first, last, self.width)
        with lanes, self._loop(product.row, r), self._loop(product.column, c):
            sums = self._begin(r.step, c.step)
            with builder.loop(product.over.name, number(0), number(product.over.size)):
                self._terms(sums, r.step, c.step, None)
            for (row, column), var in sums.items():
                self.store({product.row: row, product.column: column}, var)

    # -- registers along what is summed over

    def at_once(self) -> None:
        """The sums of all terms."""
        self._squares(number(0), number(self.product.over.size), is_added=False)

    def in_parts(self, part: Part | None) -> None:
        """The sums of a part of the samples, or of all, added to what is there: so many registers of them at a time
        that what a row of tiles reads stays in the caches.
        """
        builder, span = self.builder, SPAN * self.width
        first, last = self._bounds(part, self.product.over.size)
        with builder.loop("start", first, last, span) as begin:
            end = builder.assign(builder.new("until"), least(shifted(begin, span), last))
            self._squares(begin, end, is_added=True)

    def _squares(self, begin: ir.Expr, end: ir.Expr, is_added: bool) -> None:
        (rows, columns), product = self.square, self.product
        blocks = _steps(product.column.size, min(columns, self.width), again=False)
        for block in self._blocks(blocks, min(SPAN * self.width, product.over.size)):
            for r in _steps(product.row.size, rows, again=False):
                with self._loop(product.row, r), self._loop(product.column, block):
                    self._square(r.step, block.step, begin, end, is_added)

    def _square(self, rows: int, columns: int, begin: ir.Expr, end: ir.Expr, is_added: bool) -> None:
        """The sums of a tile."""
        builder, product = self.builder, self.product
        sums = self._begin(rows, columns)
        rest = product.over.size % self.width
        whole = number(product.over.size - rest)
        with builder.loop("i", begin, least(end, whole) if rest else end, self.width):
            self._terms(sums, rows, columns, None)
        if rest:
            with builder.into(If(Op("gt", (end, whole), BOOL))):
                builder.assign(builder.new("i"), whole)
                there = BOOL.of(self.width)
                mask = builder.assign(builder.new("there", there), Op("first_lanes", (number(rest),), there))
                self._terms(sums, rows, columns, mask)
        for r in range(rows):
            place = {product.row: r}
            value: ir.Expr = Op("totals", tuple(sums[r, c] for c in range(columns)), FLOAT.of(columns))
            if is_added:
                before = Load(product.memory.region, self._place(place), FLOAT.of(columns))
                value = builder.operation("add", before, value)
            self.store(place, value)

    def _terms(self, sums: Sums, rows: int, columns: int, mask: Var | None) -> None:
        """Add a register of terms to each sum, or those of its lanes that are in a mask."""
        product = self.product
        sides = (product.one, product.row, rows), (product.other, product.column, columns)
        read = ([self._read(load, axis, at, self.kind) for at in range(n)] for load, axis, n in sides)
        if mask is not None:
            read = ([Op("masked", (mask, load), self.kind) for load in side] for side in read)
        self._add(sums, *read)

    # -- both

    def _blocks(self, spans: list[_Span], terms: int) -> Iterator[_Span]:
        """Loops over blocks of columns, of which so many `terms` stay in the cache."""
        size = np.dtype(self.builder.dtype).itemsize
        for span in spans:
            length = max(BLOCK // (terms * size) // span.step, 1) * span.step
            if span.count * span.step <= length:
                yield span
                continue
            with self.builder.loop("block", span.first, span.end, length) as block:
                stop = self.builder.assign(self.builder.new("stop"), least(shifted(block, length), span.end))
                yield replace(span, first=block, end=stop)

    @contextmanager
    def _loop(self, axis: Axis, span: _Span) -> Iterator[None]:
        """A loop over tiles."""
        with self.builder.loop(axis.name, span.first, span.end, span.step) as at:
            if span.last is not None:
                self.builder.assign(self.builder.new(axis.name), least(at, number(span.last)))
            yield

    def _begin(self, rows: int, columns: int) -> Sums:
        """The sums of a tile, of nothing yet."""
        places = itertools.product(range(rows), range(columns))
        sums = {at: Var(self.product.roots[0].var.name, self.kind) for at in places}
        for var in sums.values():
            self.builder.assign(var, Op("splat", (Const(0.0, FLOAT),), self.kind))
        return sums

    def _add(self, sums: Sums, rows: Sequence[ir.Expr], columns: Sequence[ir.Expr]) -> None:
        """Add the products of what is read once."""
        one, other = (
            [self.builder.assign(Var(name, value.kind), value) for value in values]
            for name, values in (("row", rows), ("column", columns))
        )
        for (r, c), var in sums.items():
            term = Op("mul", (one[r], other[c]), self.kind)
            self.builder.assign(var, Op("add", (var, term), self.kind))

    def _read(self, load: Expr, axis: Axis, by: int, kind: Kind) -> ir.Expr:
        """What a load reads at axis + by."""
        memory, offset = load.args
        return Load(memory.region, self.builder.place(memory, offset.moved(axis, by)), kind)

    def _place(self, moved: dict[Axis, int]) -> ir.Expr:
        """Where a sum lies, or one near it."""
        offset = self.product.offset
        for axis, by in moved.items():
            offset = offset.moved(axis, by)
        return self.builder.place(self.product.memory, offset)

    def store(self, moved: dict[Axis, int], value: ir.Expr) -> None:
        """Write a sum, or as many as the value has lanes."""
        self.builder.store(self.product.memory.region, self._place(moved), value, self.product.roots[0].node)
