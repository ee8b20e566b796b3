"""An operation on single values as one on rows of them: what `torch.vmap` has its batching rules for.

Of the arguments some have a row for each iteration of a loop (`Rows`, along a new first dimension), the others are the
same in all. The result has a row for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .graph import Node, Where


@dataclass(frozen=True, eq=False)
class Rows:
    """An argument that has a row for each iteration: a node of the shape (count, *that of one)."""

    node: Node


class Writer:
    """Writes down nodes, each once.

    Attributes:
        nodes: what is written, operands first.
        where: the caller's line that they come from.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.where: Where | None = None
        self._known: dict[Any, Node] = {}

    def new(self, op: str, args: Sequence[Any], shape: Sequence[int], like: Node) -> Node:
        """A node, with the dtype of `like`."""
        key = (op, _key(args), tuple(shape), like.dtype)
        if key not in self._known:
            self._known[key] = Node(op, tuple(args), tuple(shape), like.dtype, self.where or like.where)
            self.nodes.append(self._known[key])
        return self._known[key]

    def reshaped(self, node: Node, shape: Sequence[int]) -> Node:
        """The same elements in another shape."""
        return node if node.shape == tuple(shape) else self.new("view", (node, list(shape)), shape, node)

    def expanded(self, node: Node, count: int) -> Node:
        """So many equal rows."""
        row = self.reshaped(node, (1, *node.shape))
        return self.new("expand", (row, [count, *node.shape], False), (count, *node.shape), node)

    def permuted(self, node: Node, order: Sequence[int]) -> Node:
        """Its dimensions in another order."""
        if list(order) == list(range(len(node.shape))):
            return node
        return self.new("permute", (node, list(order)), [node.shape[d] for d in order], node)

    def sliced(self, node: Node, start: int, end: int, step: int = 1) -> Node:
        """Rows from `start` to `end`; all of them are the node itself."""
        if (start, step) == (0, 1) and end == node.shape[0]:
            return node
        count = -(-(end - start) // step)
        return self.new("slice", (node, 0, start, end, step), (count, *node.shape[1:]), node)

    def flipped(self, node: Node) -> Node:
        """The last row first."""
        return self.new("flip", (node, [0]), node.shape, node)

    def summed(self, rows: Node) -> Node:
        """The sum of all rows; of the gradient of a slice, with zeros beside it, that of each part."""
        shape = rows.shape[1:]
        dim = (rows.args[1] or 0) % len(rows.shape) if rows.op == "cat" else 0
        if dim == 0 or len(rows.args[0]) > A_SLICE or any(len(p.shape) != len(rows.shape) for p in rows.args[0]):
            return self.new("sum", (rows, [0], False), shape, rows)
        parts = [self.summed(part) for part in rows.args[0] if part.shape[dim]]
        return self.new("cat", (parts, dim - 1), shape, rows)


A_SLICE = 3
"""Parts of which a row is put together when it is the gradient of a slice."""


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_key, value))
    return value if isinstance(value, Node) else repr(value)


def aligned(write: Writer, rows: Node, rank: int) -> Node:
    """Rows whose dimensions meet those of a result of so many."""
    missing = rank + 1 - len(rows.shape)
    return write.reshaped(rows, (rows.shape[0], *[1] * missing, *rows.shape[1:])) if missing > 0 else rows


def _all_rows(write: Writer, value: Any, count: int) -> Node:
    return value.node if isinstance(value, Rows) else write.expanded(value, count)


Lift = Callable[[Writer, Node, Sequence[Any], int], "Node | None"]
"""From the node of an operation, its arguments, of which some are Rows, and how many rows these have: the operation on
rows, or None if there is none."""


def elementwise(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    """Rows meet as their elements do."""
    rows = [aligned(write, a.node, len(node.shape)) if isinstance(a, Rows) else a for a in args]
    return write.new(node.op, rows, (count, *node.shape), node)


def view(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    return write.reshaped(args[0].node, (count, *node.shape))


def expand(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    source = aligned(write, args[0].node, len(node.shape))
    return write.new("expand", (source, [count, *node.shape], False), (count, *node.shape), node)


def permute(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:  # noqa: ARG001
    rank = len(node.shape)
    order = list(range(rank))
    if node.op == "permute":
        order = [d % rank for d in args[1]]
    elif rank > 1:
        one, other = (d % rank for d in (args[1:] or (0, 1)))
        order[one], order[other] = other, one
    return write.permuted(args[0].node, [0, *(d + 1 for d in order)])


def with_dimension(at: int) -> Lift:
    """For an operation whose argument `at` is a dimension (or several) of its first argument."""

    def rule(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
        rank, dims = len(args[0].node.shape) - 1, args[at]
        moved = [d % max(rank, 1) + 1 for d in dims] if isinstance(dims, (list, tuple)) else dims % max(rank, 1) + 1
        return write.new(node.op, (args[0].node, *args[1:at], moved, *args[at + 1 :]), (count, *node.shape), node)

    return rule


def unfold(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    if not args[0].node.shape[1:]:  # a number is a window of one
        return write.reshaped(args[0].node, (count, *node.shape))
    return with_dimension(1)(write, node, args, count)  # type: ignore[return-value]


def diagonal(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    rows, offset, *dims = args
    rank = len(rows.node.shape) - 1
    return write.new("diagonal", (rows.node, offset, *(d % rank + 1 for d in dims)), (count, *node.shape), node)


def select_backward(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    gradient, sizes, dim, index = args
    shape = (count, *sizes)
    return write.new("select_backward", (gradient.node, list(shape), dim % len(sizes) + 1, index), shape, node)


def by_index(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node | None:
    """gather and scatter_add, whose index is known for each row, or the same for all."""
    source, dim, index, *values = args
    rows = [
        _all_rows(write, part, count) for part in (source, index, *(v for v in values if isinstance(v, (Rows, Node))))
    ]
    if len({len(part.shape) for part in rows}) > 1:
        return None
    if not node.shape:
        rows = [write.reshaped(part, (count, 1)) for part in rows]
    given = (rows[0], dim % max(len(node.shape), 1) + 1, rows[1], *(rows[2:] or values))
    found = write.new(node.op, given, (count, *(node.shape or (1,))), node)
    return write.reshaped(found, (count, *node.shape))


def join(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node | None:
    """cat and stack."""
    if any(not isinstance(part, (Rows, Node)) for part in args[0]):
        return None
    parts = [_all_rows(write, part, count) for part in args[0]]
    if node.op == "cat" and any(len(part.shape) != len(node.shape) + 1 for part in parts):
        return None  # torch lets an empty vector pass everywhere
    return write.new(node.op, (parts, (args[1] or 0) % len(node.shape) + 1), (count, *node.shape), node)


def reduction(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    source: Node = args[0].node
    rank = len(source.shape) - 1
    asked = args[1] if len(args) > 1 and isinstance(args[1], (int, list, tuple)) else None
    dims = [asked] if isinstance(asked, int) else asked or range(rank)
    kept = len(node.shape) == rank
    if not rank:  # of a number
        return source
    name = {"max": "amax", "min": "amin"}.get(node.op, node.op)
    return write.new(name, (source, [d % rank + 1 for d in dims], kept), (count, *node.shape), node)


def mm(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    one, other = args
    if isinstance(one, Rows) and isinstance(other, Node):
        m, k = one.node.shape[1:]
        flat = write.reshaped(one.node, (count * m, k))
        product = write.new("mm", (flat, other), (count * m, other.shape[1]), node)
        return write.reshaped(product, (count, *node.shape))
    both = [_all_rows(write, arg, count) for arg in args]
    return write.new("bmm", both, (count, *node.shape), node)


def mv(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    matrix, vector = args
    if isinstance(matrix, Node):
        turned = write.permuted(matrix, (1, 0))
        return write.new("mm", (vector.node, turned), (count, *node.shape), node)
    if isinstance(vector, Node):
        m, k = matrix.node.shape[1:]
        flat = write.reshaped(matrix.node, (count * m, k))
        return write.reshaped(write.new("mv", (flat, vector), (count * m,), node), (count, m))
    column = write.reshaped(vector.node, (*vector.node.shape, 1))
    return write.reshaped(write.new("bmm", (matrix.node, column), (count, *node.shape, 1), node), (count, *node.shape))


def dot(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    one, other = args
    if not (isinstance(one, Rows) and isinstance(other, Rows)):
        rows, same = (one.node, other) if isinstance(one, Rows) else (other.node, one)
        return write.new("mv", (rows, same), (count,), node)
    product = write.new("mul", (one.node, other.node), one.node.shape, node)
    return write.new("sum", (product, [1], False), (count,), node)


def bmm(write: Writer, node: Node, args: Sequence[Any], count: int) -> Node:
    flat = [
        write.reshaped(part, (part.shape[0] * part.shape[1], *part.shape[2:]))
        for part in (_all_rows(write, arg, count) for arg in args)
    ]
    product = write.new("bmm", flat, (count * node.shape[0], *node.shape[1:]), node)
    return write.reshaped(product, (count, *node.shape))
