"""Writes into tensors that the step itself has made, and what is read of these afterwards; see `storages`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from .._errors import OutsideWriteError, UnsupportedOperationError
from .._torch_private import changes_shape, reshaped_in_place, storage
from .arguments import Operation, result_like
from .callers import Callers, place
from .graph import Node
from .operations import OPERATIONS
from .plans import Kind, in_numbers
from .storages import Outside, Storage, same

if TYPE_CHECKING:
    from .tracer import Tracer

aten = torch.ops.aten


class Traced(torch.Tensor):
    """A tensor without values: its kind, the memory where its elements lie, and the node that computes them.

    Attributes:
        seen: at what version of the memory the node was right.
    """

    __slots__ = ("_node", "_tracer", "kind", "memory", "seen")
    _node: Node
    _tracer: Tracer
    kind: Kind
    memory: Storage
    seen: int

    def sharing(self, memory: Storage, seen: int | None = None) -> Traced:
        """The same tensor, with its elements in a memory; at no version of it, if `seen` is -1, was it read."""
        self.memory, self.seen = memory, memory.version if seen is None else seen
        return self

    @property
    def node(self) -> Node:
        """What computes its elements as they are now."""
        if self.seen != self.memory.version:
            self._node, self.seen = self._tracer.writes.read(self.memory, in_numbers(self.kind)), self.memory.version
        return self._node

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Traced({self._node.op}, {self.kind.shape})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise UnsupportedOperationError(
            f"{func}{place(Callers().line())} was called on a tensor of a loss that is no longer being traced: the "
            "loss kept it somewhere. Return what is needed instead."
        )


class Writes:
    """What a tracer does with memory.

    Attributes:
        written: of constants that something traced was written to, by their storage.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.written: dict[int, Storage] = {}

    def changes(self, value: Any) -> bool:
        """Is it different in every step?"""
        if isinstance(value, Traced):
            return True
        return bool(self.written) and isinstance(value, torch.Tensor) and storage(value) in self.written

    def asks_memory(self, name: str, value: Any) -> bool:
        """Does a view ask where elements lie, or for what was written there?"""
        return type(value) is Traced and (value.memory.version > 0 or name == "as_strided")

    def of_memory(self, value: Any) -> Any:
        """For a constant that something traced was written to, a traced tensor with the same memory."""
        if type(value) is Traced or not self.changes(value):
            return value
        return self.tracer.traced(UNREAD, self.tracer.kind(value, value.device)).sharing(self._memory(value), -1)

    def _memory(self, value: torch.Tensor) -> Storage:
        """The memory of a tensor that is to be written to."""
        if type(value) is Traced:
            return value.memory
        key = storage(value)
        if key not in self.written:
            owner = self.tracer.constants.owner(value)
            self.tracer.constants.kept.append(value)
            numbers = torch.view_as_real(owner) if owner.is_complex() else owner
            self.written[key] = Storage(
                self.tracer.constants.node(numbers), self.tracer.kind(numbers, owner.device), self.tracer.nodes
            )
        return self.written[key]

    def read(self, memory: Storage, kind: Kind) -> Node:
        """What a tensor of this kind has there now."""
        self.tracer.depth += 1
        try:
            with self.tracer:
                found: Traced = memory.read(kind, partial(self._plain, kind.device))
            return found.node
        except Outside:
            raise self.tracer.refusal(self.tracer.asked, "it reaches beyond what its tensor has", "index it") from None
        finally:
            self.tracer.depth -= 1

    def _plain(self, device: torch.device, node: Node) -> Traced:
        """A tensor of what a node computes, with a memory of its own."""
        return self.tracer.traced(
            node, self.tracer.kind(torch.empty(node.shape, dtype=node.dtype, device="meta"), device)
        )

    def in_memory(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        """Write to memory, or look at what was written there, or at where it lies."""
        name = operation.name
        if operation.is_mutable:
            if changes_shape(operation.func):
                return self._with_another_shape(operation, args, kwargs)
            if not name.endswith("_") and "out" not in kwargs and name not in _CALLED:
                return self.tracer.take_apart(operation, args, kwargs)
            return self._in_place(name, args, kwargs)
        kind = args[0].kind
        if name == "as_strided":
            _, shape, strides, offset = operation.in_order(args, kwargs)
            offset = kind.offset if offset is None else offset
            kind = self.tracer.only(Kind(tuple(shape), tuple(strides), kind.dtype, kind.device, offset))
        elif name in OPERATIONS:
            kind = self.tracer.kind(result_like(operation, args, kwargs), kind.device, offset_of(operation, args))
        elif name not in ("detach", "alias"):
            return self.tracer.write_down(operation, args, kwargs)
        return self.tracer.traced(UNREAD, kind).sharing(args[0].memory, -1)

    def _with_another_shape(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        """squeeze_ and the like: the same memory, seen otherwise."""
        target = args[0]
        if type(target) is Traced:
            plain = getattr(aten, operation.name.rstrip("_"), None)
            if plain is None:
                raise self.tracer.refusal(operation.name, "it changes what its tensor has", "compute a new one")
            with self.tracer:
                seen = plain(*args, **kwargs)
            reshaped_in_place(operation.func, args, kwargs)
            target.kind, target._node, target.seen = seen.kind, seen._node, seen.seen
            return target
        return operation.func(*args, **kwargs)

    def _in_place(self, name: str, args: Any, kwargs: Any) -> Any:
        if "out" in kwargs:
            with self.tracer:
                result = getattr(aten, name)(*args, **{key: value for key, value in kwargs.items() if key != "out"})
                return kwargs["out"].copy_(result)
        target = args[0]
        name = _CALLED.get(name, name)
        plain = getattr(aten, name.rstrip("_"), None)
        own = type(target) is Traced or self.tracer.constants.owns(target)
        if type(target) is Traced and target.memory.is_input:
            raise self.tracer.refusal(name, "it writes to a tensor that the step is given", "compute a new one")
        if own and not self.tracer.may_write(target):
            raise self.tracer.refusal(name, "it writes to a tensor from outside scan's step", "compute a new one")
        if not own:
            raise self.tracer.refusal(
                name,
                "it writes values that change from step to step into another tensor",
                "use torch.stack or cat",
                OutsideWriteError,
            )
        if plain is None:
            raise self.tracer.refusal(name, "it writes into a tensor in a way that has no rule", "compute a new one")
        memory = self._memory(target)
        kind = in_numbers(target.kind if type(target) is Traced else self.tracer.kind(target, target.device))
        if name == "copy_" and self._copies(args[1], kind, memory):
            return target
        with self.tracer:
            result = self._overwriting(name, target, args) if name in _OVERWRITING else plain(*args, **kwargs)
        if self._copies(result, kind, memory):
            return target
        if result.shape != target.shape or result.dtype != target.dtype:
            raise self.tracer.refusal(name, "it would change the shape or dtype of its tensor", "compute a new one")
        node = self.tracer.node(result)
        try:
            with self.tracer:
                memory.write(kind, node, partial(self._plain, kind.device))
        except Outside:
            raise self.tracer.refusal(
                name, "several elements of its tensor lie in one place", "compute a new one"
            ) from None
        if type(target) is Traced:
            target._node, target.seen = node, memory.version
        return target

    def _copies(self, source: Any, kind: Kind, memory: Storage) -> bool:
        """Copy all of a memory that is a list of rows to another one; False if that is not asked."""
        source = self.of_memory(source)
        return (
            type(source) is Traced
            and same(kind, memory.kind)
            and same(source.kind, source.memory.kind)
            and memory.copy(source.memory)
        )

    def added(self, args: Any, kwargs: Any) -> Traced | None:
        """The sum of a list of rows and the gradient of a row, which is another such list; None if it is none.

        This is how the gradients of a tensor that is filled and read in a loop add up.
        """
        for rows, other in (args, args[::-1]) if len(args) == 2 and not kwargs else ():
            if type(rows) is Traced and type(other) is Traced and other._node.op == "select_backward":
                memory, (part, sizes, dim, number) = rows.memory, other._node.args
                is_all = same(rows.kind, memory.kind) and rows.kind.shape == tuple(sizes)
                if not is_all or not memory.has_rows(dim % len(sizes)) or other.seen != other.memory.version:
                    continue
                tensor = partial(self._plain, rows.kind.device)
                with self.tracer:
                    total = memory.with_row_added(number, part, tensor)
                return self.tracer.traced(UNREAD, rows.kind).sharing(total, -1)
        return None

    def _overwriting(self, name: str, target: Any, args: Any) -> Any:
        """What a tensor has that is written to as a whole, whatever it had."""
        value = 0 if name == "zero_" else args[1]
        if not isinstance(value, torch.Tensor):
            return torch.full(target.shape, value, dtype=target.dtype, device=target.device)
        value = value if value.dtype == target.dtype else value.to(target.dtype)
        return value.expand(target.shape)


UNREAD = Node("unread", (), (), torch.float64)
"""Of a tensor that has not been asked for its value since its memory was written to."""

_CALLED = {"prims::copy_to": "copy_", "_index_put_impl_": "index_put_"}
"""What writes in place under another name."""

_OVERWRITING = ("copy_", "fill_", "zero_")


def offset_of(operation: Operation, args: Any) -> int:
    """Where the memory of a view begins, in that of what it is a view of."""
    if not operation.is_view or not isinstance(args[0], torch.Tensor):
        return 0
    return args[0].kind.offset if type(args[0]) is Traced else int(args[0].storage_offset())
