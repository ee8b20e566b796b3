"""The statements of what takes turns of its own: see `in_turns`.

Sorting begins with the order of the step before, which parameters that move a little leave nearly right: short blocks
are sorted by insertion, and neighbours merged, of which only what overlaps is moved. So a step takes a few turns for
each element, and never more than a merge sort of that many. What comes out does not depend on where it began: equal
keys stand in the order of their places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from . import ir
from .builder import Builder, indices, least, number, shifted
from .eliminations import Elimination
from .in_turns import InTurns, Putting, Sorting
from .ir import BOOL, FLOAT, INDEX, Break, Const, If, Load, Op, Var, kind_of

INSERTED = 16
"""Elements of a block that is sorted by insertion: on average a quarter of them move for each, one after the other."""


def write_in_turns(builder: Builder, what: InTurns) -> None:
    """Write it."""
    if isinstance(what, Elimination):
        what.write(builder)
        return
    if isinstance(what, Putting):
        _write_putting(builder, what)
        return
    outer, builder.body = builder.body, builder.before
    with _rows(builder, what), builder.loop("at", number(0), number(what.size)) as at:
        builder.store(what.memory.region, _begin(builder, what, at), Op("position", (at,), FLOAT), "any order")
    builder.body = outer
    with _rows(builder, what):
        _Sort(builder, what).write()


def _rows(builder: Builder, what: Sorting | Putting) -> ExitStack:
    """Loops over all axes."""
    loops = ExitStack()
    for axis in what.axes:
        loops.enter_context(builder.loop(axis.name, number(0), number(axis.size)))
    return loops


def _begin(builder: Builder, what: Sorting, at: ir.Expr) -> ir.Expr:
    return indices("add", builder.place(what.memory, what.first), at)


def _write_putting(builder: Builder, what: Putting) -> None:
    builder.hoist(what.exprs)
    region, names = what.memory.region, dict(builder.names)
    with _rows(builder, what):
        which = indices("integer", builder.value(what.which))
        row = builder.place(what.memory, what.rest)
        place = builder.assign(builder.new("there"), indices("add", row, indices("mul", number(what.stride), which)))
        value = builder.value(what.value)
        if what.adds:
            value = builder.operation("add", Load(region, place, FLOAT), value)
        builder.store(region, place, value, what.node)
    builder.names = names


Lists = Sequence[ir.Expr]
"""Where keys begin in scratch, and where their places do."""


class _Entry:
    """A key, with where it comes from."""

    def __init__(self, key: ir.Expr, place: ir.Expr) -> None:
        self.key, self.place = key, place


class _Sort:
    """The statements that sort one row.

    A key is such that smaller ones stand first and NaN is infinity, whose place then counts as one beyond all others
    (before all others where the largest comes first).
    """

    def __init__(self, builder: Builder, what: Sorting) -> None:
        self.builder, self.what, self.size = builder, what, what.size
        self.places = builder.assign(builder.new("row_begin"), builder.place(what.memory, what.first), what.node)
        keys, *aside = (number(builder.spare(self.size + builder.schedule.lanes)) for _ in range(5))
        self.whole = keys, self.places
        self.left, self.right = aside[:2], aside[2:]

    def write(self) -> None:
        self.insert()
        if self.size > INSERTED:
            self.merge_all()
        self.finish()

    # -- entries

    def entry(self, where: Lists, at: ir.Expr, name: str) -> _Entry:
        """The one at a place, in variables."""
        names = (f"{name}_key", f"{name}_place")
        loads = [Load("scratch", indices("add", begin, at), FLOAT) for begin in where]
        return _Entry(*(self.builder.assign(Var(n, FLOAT), load) for n, load in zip(names, loads, strict=True)))

    def put(self, where: Lists, at: ir.Expr, entry: _Entry) -> None:
        """Write one."""
        for begin, value in zip(where, (entry.key, entry.place), strict=True):
            self.builder.store("scratch", indices("add", begin, at), value)

    def is_after(self, one: _Entry, other: _Entry) -> ir.Expr:
        """Must one stand behind the other?"""
        equal = Op("eq", (one.key, other.key), BOOL)
        later = Op("and", (equal, Op("gt", (one.place, other.place), BOOL)), BOOL)
        return Op("or", (Op("gt", (one.key, other.key), BOOL), later), BOOL)

    def stop_unless(self, truth: ir.Expr) -> None:
        """Leave the innermost loop if it does not hold."""
        self.builder.body.append(If(Op("not", (truth,), BOOL), [Break()]))

    def new_entry(self, at: ir.Expr) -> _Entry:
        """What stood at a place in the step before, with the key that it has now."""
        builder, what = self.builder, self.what
        place = builder.assign(what.place, Load("scratch", indices("add", self.places, at), FLOAT))
        plain = builder.assign(Var("key", FLOAT), builder.value(what.key), what.node)
        is_number = Op("eq", (plain, plain), BOOL)
        ordered = Op("neg", (plain,), FLOAT) if what.descending else plain
        last = Const(-math.inf if what.descending else math.inf, FLOAT)
        beyond = Op("sub" if what.descending else "add", (place, self.count()), FLOAT)
        key = builder.assign(Var("own_key", FLOAT), Op("where", (is_number, ordered, last), FLOAT))
        return _Entry(key, builder.assign(Var("own_place", FLOAT), Op("where", (is_number, place, beyond), FLOAT)))

    def count(self) -> Const:
        return Const(float(self.size), FLOAT)

    # -- statements

    def insert(self) -> None:
        """Sort short blocks: each element goes to the left past all that must stand behind it."""
        builder = self.builder
        with builder.loop("block", number(0), number(self.size), INSERTED) as block:
            end = builder.assign(builder.new("end"), least(shifted(block, INSERTED), number(self.size)))
            with builder.loop("at", block, end) as at:
                own = self.new_entry(at)
                hole = builder.assign(builder.new("hole"), at)
                with builder.loop("after", at, block, -1) as after:
                    before = builder.assign(builder.new("before"), shifted(after, -1))
                    other = self.entry(self.whole, before, "other")
                    self.stop_unless(self.is_after(other, own))
                    self.put(self.whole, after, other)
                    builder.assign(hole, before)
                self.put(self.whole, hole, own)

    def merge_all(self) -> None:
        """Merge neighbours, each time twice as long ones, until one is left."""
        builder, size = self.builder, number(self.size)
        width = builder.assign(builder.new("width"), number(INSERTED))
        rounds = math.ceil(math.log2(self.size / INSERTED))
        with builder.loop("merging", number(0), number(rounds)):
            twice = builder.assign(builder.new("twice"), indices("mul", number(2), width))
            pairs = indices("floordiv", shifted(indices("add", size, width), -1), twice)
            with builder.loop("pair", number(0), pairs) as pair:
                low = builder.assign(builder.new("low"), indices("mul", pair, twice))
                middle = builder.assign(builder.new("middle"), indices("add", low, width))
                high = builder.assign(builder.new("high"), least(indices("add", middle, width), size))
                self.merge(low, middle, high)
            builder.assign(width, twice)

    def merge(self, low: Var, middle: Var, high: Var) -> None:
        """Merge what lies from `low` and from `middle` on: what overlaps is copied, and merged from both ends at once.

        Of what overlaps the first on the right is the smallest, and the last on the left the largest: neither end can
        come to its end there, and to those of the others something infinite is added.
        """
        builder = self.builder
        first, left = self.entry(self.whole, middle, "first"), builder.assign(builder.new("left"), middle)
        with builder.loop("after", middle, low, -1) as after:
            before = builder.assign(builder.new("before"), shifted(after, -1))
            other = self.entry(self.whole, before, "other")
            self.stop_unless(self.is_after(other, first))
            self.put(self.left, after, other)
            builder.assign(left, before)
        with builder.into(If(Op("lt", (left, middle), BOOL))):
            last, right = (
                self.entry(self.whole, shifted(middle, -1), "last"),
                builder.assign(builder.new("right"), middle),
            )
            with builder.loop("at", middle, high) as at:
                other = self.entry(self.whole, at, "other")
                self.stop_unless(self.is_after(last, other))
                self.put(self.right, at, other)
                builder.assign(right, shifted(at, 1))
            self.put(self.left, left, _Entry(Const(-math.inf, FLOAT), Const(-math.inf, FLOAT)))
            self.put(self.right, right, _Entry(Const(math.inf, FLOAT), Const(math.inf, FLOAT)))
            self.from_both_ends(left, middle, right)

    def from_both_ends(self, left: Var, middle: Var, right: Var) -> None:
        """Write what overlaps, in order: neither end waits for the other."""
        builder = self.builder
        count = indices("sub", right, left)
        half = builder.assign(builder.new("half"), indices("floordiv", count, number(2)))
        lows = builder.assign(builder.new("low_left"), left), builder.assign(builder.new("low_right"), middle)
        highs = builder.assign(builder.new("high_left"), middle), builder.assign(builder.new("high_right"), right)
        with builder.loop("turn", number(0), half) as turn:
            self.smallest(indices("add", left, turn), *lows)
            self.largest(shifted(indices("sub", right, turn), -1), *highs)
        with builder.loop("turn", half, indices("sub", count, half)) as turn:
            self.smallest(indices("add", left, turn), *lows)

    def smallest(self, to: ir.Expr, left: Var, right: Var) -> None:
        """Write the smaller of two, and go on behind it."""
        one, other = self.entry(self.left, shifted(left, 1), "left"), self.entry(self.right, right, "right")
        takes = self.builder.assign(Var("takes", BOOL), self.is_after(one, other))
        self.put(self.whole, to, self.chosen(takes, other, one))
        self.builder.assign(left, Op("where", (takes, left, shifted(left, 1)), INDEX))
        self.builder.assign(right, Op("where", (takes, shifted(right, 1), right), INDEX))

    def largest(self, to: ir.Expr, left: Var, right: Var) -> None:
        """Write the larger of two, and go on before it; the variables say where those end that are left."""
        one, other = self.entry(self.left, left, "left"), self.entry(self.right, shifted(right, -1), "right")
        takes = self.builder.assign(Var("takes", BOOL), self.is_after(one, other))
        self.put(self.whole, to, self.chosen(takes, one, other))
        self.builder.assign(left, Op("where", (takes, shifted(left, -1), left), INDEX))
        self.builder.assign(right, Op("where", (takes, right, shifted(right, -1)), INDEX))

    def chosen(self, truth: ir.Expr, one: _Entry, other: _Entry) -> _Entry:
        return _Entry(
            Op("where", (truth, one.key, other.key), FLOAT), Op("where", (truth, one.place, other.place), FLOAT)
        )

    def finish(self) -> None:
        """Places of what is no number count as others do, and keys are values again."""
        builder, width = self.builder, self.builder.schedule.lanes
        kind = FLOAT.of(width if width > 1 else 0)
        values = builder.assign(builder.new("values_begin"), builder.place(self.what.values, self.what.first))
        with builder.loop("at", number(0), number(self.size), width) as at:
            index = indices("add", self.places, at)
            place = builder.assign(Var("places", kind), Load("scratch", index, kind))
            bound = Const(0.0, FLOAT) if self.what.descending else self.count()
            is_number = Var("is_number", kind_of("bool", kind.lanes))
            within = Op("ge" if self.what.descending else "lt", (place, bound), is_number.kind)
            builder.assign(is_number, within)
            moved = Op("add" if self.what.descending else "sub", (place, self.count()), kind)
            builder.store("scratch", index, Op("where", (is_number, place, moved), kind), self.what.node)
            key = Load("scratch", indices("add", self.whole[0], at), kind)
            own = Op("neg", (key,), kind) if self.what.descending else key
            value = Op("where", (is_number, own, Const(math.nan, FLOAT)), kind)
            builder.store("scratch", indices("add", values, at), value, self.what.node)
