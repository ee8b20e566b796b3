"""Races between the warps of a fused GPU kernel, found in its text; nothing is compiled or run.

A kernel is one program of some warps, which do not wait for each other but at a `tl.debug_barrier()`. What one of them
stores and another loads or stores, elements of `carry` or `scratch`, needs a barrier between. So the loop over the
steps is read twice, as a step follows on a step, and of every access all elements that it may touch are kept till the
next barrier. Two that have an element in common, one of them a store, are a race. That is stricter than a GPU: sums
over all warps are barriers there, a kernel may have one warp, and a thread sees what it stored itself; nothing shall
rest on it.

A program of a grid has `carry` and `own` for itself, and its own samples in `scratch`; so what holds for the warps of
one holds for all of them. `meet` is a barrier, too.

What is loaded before the loop and stored after it is not looked at: a kernel of several warps sums over them between.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

import numpy as np

SHARED = ("carry", "scratch", "own")
"""The arrays that are both read and written."""

ANY = -1
"""All elements, as bits."""


@dataclass(frozen=True)
class Access:
    """One load or store: of which array, at which place in words, and the elements that this may be, as bits."""

    kind: str
    array: str
    place: str
    line: str
    elements: int = field(repr=False)


def races(text, memories=()):
    """What no barrier keeps apart.

    Args:
        text: of a kernel.
        memories: where values lie: (array, first element, the one after the last). A place that depends on a value is
            anywhere in the memory that it begins in; without, anywhere in the array.

    Returns:
        Pairs of accesses: [(the earlier, the later)].
    """
    (kernel,) = (part for part in ast.parse(text).body if isinstance(part, ast.FunctionDef) and part.name == "kernel")
    reader = _Reader(text.splitlines(), memories)
    for statement in kernel.body:
        if isinstance(statement, ast.For):
            reader.loop(statement)
        else:
            reader.assign(statement)
    return list(reader.found)


class _Reader:
    """Reads statements in the order in which a thread runs them.

    Attributes:
        numbers: the values that a name for whole numbers takes: of a loop, or of the elements of a block.
        masks: what a name for a mask says: the name that is masked, and the number that it stays below.
        ends: where the samples end, by the name for where a program's part of them does.
        since: the accesses since the last barrier.
        found: the races, as keys.
    """

    def __init__(self, lines, memories):
        self.lines, self.memories = lines, memories
        self.numbers = {}
        self.masks = {}
        self.ends = {}
        self.since = {}
        self.found = {}

    # -- statements

    def statements(self, statements):
        for statement in statements:
            if isinstance(statement, ast.For):
                self.loop(statement)
            elif isinstance(statement, ast.If):
                before = dict(self.since)
                self.statements(statement.body)
                self.since = before | self.since  # whoever does not come here meets no barrier
            elif ast.unparse(statement) in ("tl.debug_barrier()", "meet(counter, met)"):
                self.since.clear()
            else:
                for access in self._accesses(statement):
                    self._meet(access)
                self.assign(statement)

    def loop(self, loop):
        """A loop: whatever follows on itself is met in the second turn."""
        name, bounds = loop.target.id, loop.iter.args
        if name.startswith("t"):  # a scan's, whose turns do not come into each other's way for the rows that they have
            for turn in range(*map(ast.literal_eval, bounds)):
                self.numbers[name] = np.array([turn])
                self.statements(loop.body)
            self.numbers.pop(name)
            return
        if all(isinstance(bound, ast.Constant) for bound in bounds):
            self.numbers[name] = np.arange(*(bound.value for bound in bounds))
        elif ast.unparse(bounds[-2:][0]) in self.ends:  # a program's part, and others' with it
            self.numbers[name] = np.arange(0, self.ends[bounds[1].id], bounds[2].value)
        for _ in range(2):
            self.statements(loop.body)
        self.numbers.pop(name, None)

    def assign(self, statement):
        """Remember what a name means, if that is a whole number or a mask."""
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return
        name = statement.targets[0].id
        self.numbers.pop(name, None)
        self.masks.pop(name, None)
        if name == "end" and isinstance(statement.value, ast.Call):
            self.ends[name] = statement.value.args[1].value
        if isinstance(statement.value, ast.Compare):
            self.masks[name] = statement.value
        elif (values := _values(statement.value, self.numbers)) is not None and values.size > 1:
            self.numbers[name] = values

    def _meet(self, access):
        for other in self.since:
            if (
                other.elements & access.elements
                and other.array == access.array
                and "store" in (other.kind, access.kind)
                # to store to the same place again is the same thread's affair
                and not (other.kind == access.kind and other.place == access.place)
            ):
                self.found[other, access] = None
        self.since[access] = None

    # -- accesses

    def _accesses(self, statement):
        """Those of one statement: what it loads comes before what it stores."""
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
        kinds = {"tl.load": "load", "tl.store": "store"}
        found = [(kinds[name], call) for call in calls if (name := ast.unparse(call.func)) in kinds]
        for kind, call in sorted(found, key=lambda pair: pair[0]):
            array, place = _pointer(call.args[0])
            if array in SHARED:
                text = ast.unparse(place)
                line = self.lines[statement.lineno - 1].split("  #")[0].strip()
                yield Access(kind, array, text, line, self._elements(array, place, call))

    def _elements(self, array, place, call):
        """The elements that an access at `place` may touch, as bits."""
        numbers = dict(self.numbers)
        for mask in (keyword.value for keyword in call.keywords if keyword.arg == "mask"):
            self._clip(numbers, self.masks.get(mask.id) if isinstance(mask, ast.Name) else mask)
        values = _values(place, numbers)
        if values is None:
            begin = sum(known.min() for term in _terms(place) if (known := _values(term, numbers)) is not None)
            ranges = (range(first, end) for region, first, end in self.memories if region == array)
            values = next((np.array(memory) for memory in ranges if begin in memory), None)
        if values is None:
            return ANY
        bits = np.zeros(values[-1] + 1, bool)
        bits[values] = True
        return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")

    def _clip(self, numbers, mask):
        """Leave out the numbers that a mask masks."""
        if isinstance(mask, ast.Compare) and isinstance(mask.left, ast.Name) and isinstance(mask.ops[0], ast.Lt):
            name, (end,) = mask.left.id, mask.comparators
            if name in numbers and isinstance(end, ast.Constant):
                numbers[name] = np.minimum(numbers[name], end.value - 1)


def _values(node, numbers):
    """Whatever an expression of whole numbers may be; None if that is not known. Its names have all values at once."""
    texts = [ast.unparse(part) for part in ast.walk(node) if _is_block(part) or isinstance(part, ast.Name)]
    axes = [text for text in dict.fromkeys(texts) if text in numbers or "(" in text]

    def of(part):
        if isinstance(part, ast.Constant) and isinstance(part.value, int):
            return np.array(part.value)
        if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
            value = of(part.operand)
            return None if value is None else -value
        if isinstance(part, ast.BinOp) and type(part.op) in _OPERATIONS:
            one, other = of(part.left), of(part.right)
            return None if one is None or other is None else _OPERATIONS[type(part.op)](one, other)
        text = ast.unparse(part)
        if text not in axes:
            return None
        values = np.arange(*(bound.value for bound in part.args)) if _is_block(part) else numbers[text]
        return values.reshape(-1, *[1] * axes.index(text))

    values = of(node)
    return None if values is None else np.unique(values)


def _is_block(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.arange"


_OPERATIONS = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.FloorDiv: np.floor_divide}
_OPERATIONS |= {ast.Mod: np.remainder}


def _terms(node):
    """What a sum is made of."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _pointer(node):
    """The array of a pointer, and the place in it."""
    terms = []
    while isinstance(node, ast.BinOp):
        terms.append((node.op, node.right))
        node = node.left
    place = ast.Constant(0)
    for op, term in reversed(terms):
        place = ast.BinOp(place, op, term)
    return ast.unparse(node), place
