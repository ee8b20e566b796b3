"""What must hold for every plan of the fuser, whoever prints it: a value is stored before it is loaded.

`refuse_unordered` looks at a schedule as it is, with the addresses of all loads and stores as numbers. While the tests
run, every schedule that is made is looked at (conftest).
"""

from __future__ import annotations

import itertools

import numpy as np

from fastpoly._fuse.expressions import Division
from fastpoly._fuse.in_turns import Sorting
from fastpoly._fuse.nests import kept_in
from fastpoly._fuse.plan import Accumulate, Memory
from fastpoly._fuse.recurrences import Recurrence

LARGEST = 2**17
"""Turns of a nest up to which its addresses are looked at: larger samples are planned as smaller ones are."""


LONGEST = 200
"""Iterations of a loop within a step up to which all of them are looked at."""


def refuse_unordered(schedule):
    """Raise AssertionError if something is read that has no value yet."""
    written = {memory: np.zeros(memory.size, bool) for memory in schedule.memories if memory.region == "scratch"}
    variables = {var for own in schedule.variables.values() for var in own.values()}
    try:
        _refuse_unordered(schedule, written, variables, {})
    except _TooLarge:
        return
    for value in (*schedule.successors, *schedule.results):
        if isinstance(value, Memory):
            assert written[value][_all_addresses(value)].all(), (
                f"not all of {value.name} is stored at the end of a step"
            )
            continue
        for expr in value.values():
            for leaf in _read(expr, frozenset()):
                _refuse_unwritten(leaf, written, variables, {}, "the end of a step")


class _TooLarge(Exception):
    """More turns than are looked at."""


def _refuse_unordered(schedule, written, variables, times):
    """What a schedule does, with the time axes of the loops around it at these turns."""
    others = sorted([*schedule.recurrences, *schedule.in_turns], key=lambda other: other.level)

    def between(other):
        check = _refuse_unordered_loop if isinstance(other, Recurrence) else _refuse_unordered_turns
        check(other, written, variables, times)

    for level, group in itertools.groupby(schedule.nests, key=lambda nest: nest.level):
        while others and others[0].level < level:
            between(others.pop(0))
        nests = list(group)
        for nest in nests:
            if np.prod([axis.size for axis in nest.loops.order], dtype=float) > LARGEST:
                raise _TooLarge
            for root in nest.roots:
                for leaf in _read(root.value, kept_in(nest)):
                    _refuse_unwritten(leaf, written, variables, times, f"level {level}")
        for root in (root for nest in nests for root in nest.roots):
            if isinstance(root, Accumulate) and root.memory is None:
                variables.add(root.var)
            else:
                written[root.memory][_addresses(root.offset, times)] = True
    for other in others:
        between(other)


def _refuse_unordered_turns(turns, written, variables, times):
    if isinstance(turns, Sorting):
        variables = {*variables, turns.place}
    for expr in turns.exprs:
        for leaf in _read(expr, frozenset()):
            _refuse_unwritten(leaf, written, variables, times, f"the turns of {turns.memory.name}")
    for memory in turns.makes:
        whole = _all_addresses(memory)
        if not isinstance(turns, Sorting):
            assert written[memory][whole].all(), f"not all of {memory.name} is there that is worked on"
        written[memory][whole] = True


def _refuse_unordered_loop(recurrence, written, variables, times):
    iteration = recurrence.iteration
    for var, start in recurrence.starts:
        for leaf in _read(start, frozenset()):
            _refuse_unwritten(leaf, written, variables, times, "what a loop begins with")
        variables.add(var)
    if iteration.scan.count > LONGEST:
        raise _TooLarge
    turns = range(iteration.scan.count)
    for turn in reversed(turns) if iteration.scan.backwards else turns:
        now = {**times, iteration.time: turn}
        _refuse_unordered(iteration, written, variables, now)
        for _, expr in iteration.following:
            for leaf in _read(expr, frozenset()):
                _refuse_unwritten(leaf, written, variables, now, "what an iteration hands on")


def _read(value, stored):
    """What a nest that stores the values `stored` reads for a value: loads, lookups and variables."""
    found, seen, stack = [], set(), [value]
    while stack:
        expr = stack.pop()
        while expr.op == "kept":
            expr = expr.args[0] if expr.args[0] in stored else expr.args[1]
        if expr in seen:
            continue
        seen.add(expr)
        if expr.op in ("load", "lookup", "local"):
            found.append(expr)
        stack.extend(expr.operands)
    return found


def _refuse_unwritten(leaf, written, variables, times, where):
    if leaf.op == "local":
        assert leaf.args[0] in variables, f"{leaf.args[0]} is read in {where} and has no value yet"
        return
    memory, index = leaf.args[:2]
    if memory.region != "scratch":
        return
    addresses = _all_addresses(memory) if leaf.op == "lookup" else _addresses(index, times)
    missing = addresses[~written[memory][addresses]]
    assert not missing.size, f"{memory.name}: {missing.size} elements are read in {where} and have no value yet"


def _all_addresses(memory):
    places = [np.arange(size) for size in memory.shape]
    strides = dict.fromkeys(memory.order[-1:], 1)
    stride = memory.padded
    for d in reversed(memory.order[:-1]):
        strides[d] = stride
        stride *= memory.shape[d]
    total = np.zeros((1,) * len(memory.shape), int)
    for d, at in enumerate(places):
        total = total + strides.get(d, 0) * at.reshape([-1 if e == d else 1 for e in range(len(memory.shape))])
    return np.unique(total)


def _addresses(index, times):
    """All values of an index, at these turns of the loops around."""
    axes = sorted(index.axes, key=str)
    turns = dict(zip(axes, np.meshgrid(*[np.arange(axis.size) for axis in axes], indexing="ij"), strict=True))
    return np.unique(_value(index, {**turns, **times}))


def _value(index, turns):
    total = np.array(index.constant)
    for part, factor in index.terms:
        if isinstance(part, Division):
            inner = _value(part.index, turns)
            total = total + factor * (inner // part.by if part.sign == "//" else inner % part.by)
        else:
            total = total + factor * turns[part]
    return total


def watch(patch):
    """Look at every schedule that is made from here on."""
    from fastpoly._fuse.schedule import Schedule

    made = Schedule.__init__

    def make(self, *args, **kwargs):
        made(self, *args, **kwargs)
        refuse_unordered(self)

    patch.setattr(Schedule, "__init__", make)
