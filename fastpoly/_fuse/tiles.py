"""A product of matrices, tile by tile: so many sums in registers as hide each other's waiting and share what they load.

Where registers run along the rows, a tile is some registers of rows by some columns. What it reads of the first matrix
is copied to a panel beforehand, where it lies as it is read, for all columns. Where registers run along what is summed
over, a tile is some rows by some columns, and each of its sums has a register of partial ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from . import ir
from .builder import Builder, indices, least, number, shifted
from .expressions import Axis, Expr
from .ir import BOOL, FLOAT, Const, If, Kind, Load, Op, Var
from .products import Product
from .turns import Part

TILES = {32: (2, 8), 16: (2, 4)}
"""Of a processor with so many registers: the registers of rows and the columns of a tile along the rows."""

SQUARES = {32: (6, 4), 16: (2, 4)}
"""The rows and the columns of a tile along what is summed over."""

SPAN = 64
"""Registers that such a tile sums up before its lanes are added up."""

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


def _some(size: int, most: int) -> Iterator[tuple[int, int, int]]:
    """So many in steps of at most `most`, which differ by one at most: (first, end, step), once or twice."""
    narrow, wider = divmod(size, -(-size // most))
    whole = wider * (narrow + 1)
    yield from (loop for loop in ((0, whole, narrow + 1), (whole, size, narrow)) if loop[0] < loop[1])


@contextmanager
def _around(builder: Builder, axes: tuple[Axis, ...]) -> Iterator[None]:
    """Loops over all of these axes."""
    with ExitStack() as loops:
        for axis in axes:
            loops.enter_context(builder.loop(axis.name, number(0), number(axis.size)))
        yield


@dataclass(frozen=True)
class _Block:
    """Columns, and how many are a tile."""

    first: ir.Expr
    end: ir.Expr
    step: int


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
        """The rows of a part of the samples, or all."""
        builder, row, registers = self.builder, self.product.row, self.registers
        panel = builder.aligned_room(self.product.over.size * registers * self.width)
        size = registers * self.width
        spans: list[tuple[int, ir.Expr, ir.Expr]]
        if part is None:
            count = -(-row.size // self.width)
            middle: ir.Expr = number(count // registers * size)
            spans = [(registers, number(0), middle), (count % registers, middle, number(count * self.width))]
        else:
            first, last = part
            tiles = indices("floordiv", indices("sub", last, first), number(size))
            middle = builder.assign(builder.new("tiles"), indices("add", first, indices("mul", tiles, number(size))))
            spans = [(registers, first, middle), (1, middle, last)]
        for block in self._blocks(self.columns, self.product.over.size):
            for count, begin, end in spans:
                if count:
                    with builder.loop(row.name, begin, end, count * self.width):
                        self._pack(panel, count)
                        with self._columns(block):
                            self._tile(panel, count, block.step)

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
        builder, product, (rows, columns) = self.builder, self.product, self.square
        first, last = part or (number(0), number(-(-product.lanes.size // self.width) * self.width))
        with builder.loop(product.lanes.name, first, last, self.width):
            for r in self._steps(product.row, rows):
                for c in self._steps(product.column, columns):
                    sums = self._begin(r, c)
                    with builder.loop(product.over.name, number(0), number(product.over.size)):
                        self._terms(sums, r, c, None)
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
        builder, span, size = self.builder, SPAN * self.width, number(self.product.over.size)
        first, last = (part[0], least(part[1], size)) if part else (number(0), size)
        with builder.loop("start", first, last, span) as begin:
            end = builder.assign(builder.new("until"), least(shifted(begin, span), last))
            self._squares(begin, end, is_added=True)

    def _squares(self, begin: ir.Expr, end: ir.Expr, is_added: bool) -> None:
        rows, columns = self.square
        for block in self._blocks(min(columns, self.width), min(SPAN * self.width, self.product.over.size)):
            for r in self._steps(self.product.row, rows):
                with self._columns(block):
                    self._square(r, block.step, begin, end, is_added)

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

    def _steps(self, axis: Axis, most: int) -> Iterator[int]:
        """Loops over an axis in steps of at most so many: how many."""
        for start, end, step in _some(axis.size, most):
            with self.builder.loop(axis.name, number(start), number(end), step):
                yield step

    def _blocks(self, most: int, terms: int) -> Iterator[_Block]:
        """Loops over blocks of columns, of tiles of at most so many, of which so many `terms` stay in the cache."""
        size = np.dtype(self.builder.dtype).itemsize
        for start, end, step in _some(self.product.column.size, most):
            length = max(BLOCK // (terms * size) // step, 1) * step
            if end - start <= length:
                yield _Block(number(start), number(end), step)
                continue
            with self.builder.loop("block", number(start), number(end), length) as block:
                stop = self.builder.assign(self.builder.new("stop"), least(shifted(block, length), number(end)))
                yield _Block(block, stop, step)

    def _columns(self, block: _Block) -> AbstractContextManager[Var]:
        """A loop over the tiles of a block."""
        return self.builder.loop(self.product.column.name, block.first, block.end, block.step)

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
