"""Run a function of tensors once and write down what it does, as a graph of ATen operations.

Requirements: torch's own autograd differentiates, so a gradient is traced like everything else; the inputs that change
from step to step have no values while tracing (a branch on one of them cannot be baked in by accident); whatever does
not depend on them is computed by torch there and then, and enters the graph as a constant; every node knows the line of
the caller's code that it came from, in the backward pass too; nothing of torch's compiler is imported, which would take
a second.
"""

from __future__ import annotations

import gc
import re
import sys
import weakref
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .._errors import UnsupportedOperationError
from .apart import OURS, BeforeAutograd, decomposition, extreme, scattered
from .arguments import (
    BY_DIMENSION,
    BY_LIST,
    array_of,
    device_of,
    in_order,
    leaves,
    mapped,
    refuse_out_of_range,
    result_like,
    without_masks,
)
from .graph import Graph, Node, Where
from .launches import Launches, launch
from .stand_ins import stand_ins

aten = torch.ops.aten

_NOT_THE_CALLER = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1] / "_"))
"""Files that start so are torch's or our own: a line there is not what the caller wrote."""


class Traced(torch.Tensor):
    """A tensor without values: shape, dtype, and the node that computes it."""

    node: Node
    aliases: list[weakref.ref[Traced]]

    @staticmethod
    def __new__(cls, node: Node, like: torch.Tensor, device: torch.device) -> Traced:
        """The tensor that `node` computes, which says that it lies on `device`; strides as `like`."""
        tensor: Traced = torch.Tensor._make_wrapper_subclass(
            cls, node.shape, strides=like.stride(), dtype=node.dtype, device=device
        )
        tensor.node = node
        tensor.aliases = [weakref.ref(tensor)]
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Traced({self.node.op}, {self.node.shape})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        line = _caller()
        raise UnsupportedOperationError(
            f"{func} was called on a tensor of a loss that is no longer being traced"
            + (f" ({line}: {line.text})" if line else "")
            + ": the loss kept it somewhere. Return what is needed instead."
        )


class Tracer(TorchDispatchMode):
    """Writes down every operation on a Traced tensor while it is active; computes all others.

    Args:
        elementwise, others: names of the operations that may stand in the graph; all else is taken apart by torch's
            own decompositions.
        names: what to call constants, by the id of the tensor.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo at the first operation: a second

    def __init__(self, elementwise: Container[str], others: Container[str], names: Mapping[int, str]) -> None:
        super().__init__()
        self._labels = {key: re.sub(r"\W+", "_", name).strip("_") or "data" for key, name in names.items()}
        self._views: dict[Any, Node] = {}
        self._known: dict[Any, Node] = {}
        self._overwritten: dict[int, Node] = {}  # constants that something traced was written to, by their ids
        self._written: set[int] = set()  # the storages of these
        self.elementwise, self.others = elementwise, others
        self.nodes: list[Node] = []
        self.made: list[weakref.ref[Traced]] = []
        self._constants: dict[int, Node] = {}
        self._own: set[int] = set()  # storages made while tracing, which may be written to
        self._made_here: set[int] = set()  # those of them that hold nothing from outside
        self._kept: list[torch.Tensor] = []  # so that no address is used twice
        self._lines: dict[int, Where] = {}  # of the forward pass, by autograd's sequence number
        self._where: Where | None = None  # of the operation at hand
        self.refused: UnsupportedOperationError | None = None
        self.launches = Launches()
        self._depth = 0
        self._asked = ""  # the operation that torch asked for, before it was taken apart

    def input(self, like: torch.Tensor, position: int) -> Traced:
        """A tensor with the shape and dtype of `like`, whose values change from step to step."""
        label = self._labels.get(id(like)) or (f"c{position}" if position else "w")
        node = Node("input", (), tuple(like.shape), like.dtype, position=position, label=label)
        return self._traced(node, like.contiguous(), like.device)

    def node(self, value: Any) -> Node:
        """The node that computes a tensor."""
        if isinstance(value, Traced):
            return value.node
        key = id(value)
        if key in self._overwritten:
            return self._overwritten[key]
        if _storage(value) in self._written:  # below autograd a view does not know that it is one
            raise self._refusal(
                self._asked,
                "it reads what was written through another tensor that shares its memory",
                "use torch.stack",
            )
        if key not in self._constants:
            self._kept.append(value)
            self._constants[key] = self._constant(value)
        return self._constants[key]

    def _constant(self, value: torch.Tensor) -> Node:
        baked = _baked(value) if _storage(value) in self._made_here else None
        label = self._labels.get(id(value)) or "data"
        kept = value.detach()
        node = Node("constant", (), tuple(value.shape), value.dtype, tensor=kept, baked=baked, label=label)
        node.is_own = _storage(value) in self._own
        moving = [d for d, (n, k) in enumerate(zip(value.shape, value.stride(), strict=True)) if n > 1 and k]
        dimensions = {(value.shape[d], value.stride(d)): d for d in moving}
        memory = (value.data_ptr(), value.dtype, frozenset(dimensions))
        if len(dimensions) < len(moving):  # two that nothing tells apart, as unfold makes them
            node.ones = _ones(kept)
        elif memory in self._views:
            other = self._views[memory]
            assert other.tensor is not None
            axes = zip(other.shape, other.tensor.stride(), strict=True)
            node.view_of = (other, tuple(dimensions.get(axis) for axis in axes))
        else:
            self._views[memory] = node
            node.ones = _ones(kept)
        return node

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        outermost = self._depth == 0
        self._depth += 1
        if outermost:
            self._where, self._asked = self._line(), name
        try:
            if torch.Tag.nondeterministic_seeded in func.tags:
                raise self._refusal(name, "it draws random numbers, anew in every step", "draw them before the loss")
            changes = any(self._changes(leaf) for leaf in leaves(args, kwargs))
            result = (self._write_down if changes else self._compute)(func, name, args, kwargs)
            if outermost:
                self.launches[launch(func, name, args, kwargs, result)] += 1
            return result
        finally:
            self._depth -= 1

    def _changes(self, value: Any) -> bool:
        """Is it different in every step?"""
        if isinstance(value, Traced):
            return True
        return bool(self._written) and isinstance(value, torch.Tensor) and _storage(value) in self._written

    # -- what does not depend on the inputs

    def _compute(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        given = zip(func._schema.arguments, in_order(func._schema, args, kwargs), strict=True)
        written = [value for argument, value in given if _written(argument) and value is not None]
        for tensor in leaves(written):
            if _storage(tensor) not in self._own:
                raise self._refusal(
                    name, "it writes to a tensor from outside the loss", f"compute a new one; {name.rstrip('_')} does"
                )
            for key, node in list(self._constants.items()):
                if node.tensor is not None and _storage(node.tensor) == _storage(tensor):
                    node.tensor, node.view_of = node.tensor.clone(), None  # as it was when it was used
                    del self._constants[key]
                    self._views.clear()
        result = func(*args, **kwargs)
        sources = {_storage(leaf) for leaf in leaves(args, kwargs) if isinstance(leaf, torch.Tensor)}
        for tensor in leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._kept.append(tensor)
                self._labels.setdefault(id(tensor), name.strip("_"))
                if _storage(tensor) not in sources:
                    self._own.add(_storage(tensor))
                if sources <= self._made_here and _storage(tensor) in self._own:
                    self._made_here.add(_storage(tensor))
                elif written:
                    self._made_here.discard(_storage(tensor))
        return result

    # -- what does

    def _write_down(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if name in (
            "_local_scalar_dense",
            "is_nonzero",
            "equal",
            "nonzero",
            "masked_select",
            "_is_all_true",
            "allclose",
        ):
            raise self._refusal(
                name,
                "the value of a tensor decides what the loss does, and it changes from step to step",
                "use torch.where, or compute it from the data alone",
            )
        if func._schema.is_mutable:
            return self._in_place(name, args, kwargs)
        if name in ("detach", "alias", "lift_fresh", "lift_fresh_copy", "clone", "contiguous") or (
            name in ("_to_copy", "_conj") and _same(args, kwargs)
        ):
            if name in ("detach", "alias") and isinstance(args[0], Traced):
                return _share(self._traced(self.node(args[0]), args[0], args[0].device), args[0])
            like = torch.empty(args[0].shape, device="meta")
            return self._traced(self.node(args[0]), like, device_of(func, name, args, kwargs, True))
        if name in ("max", "min") and func._overloadname == "dim":
            with self:
                dims = list(in_order(func._schema, args, kwargs))
                return extreme(*dims, name == "max")
        if name not in self.elementwise and name not in self.others:
            return self._take_apart(func, name, args, kwargs)
        if name in BY_LIST:
            if any(self._changes(index) for index in args[1]):
                raise self._refusal(name, "the index changes from step to step", "use torch.where")
            if name.endswith("put") and tuple(args[3:4]) != (True,):
                raise self._refusal(name, "it puts values at places that an index names", "use torch.where with a mask")
            args = (args[0], without_masks(args[1], self._changes), *args[2:])
        if name in BY_LIST or name in BY_DIMENSION:
            refuse_out_of_range(name, args, self._changes)
        if name in ("scatter", "scatter_add"):
            a, dim, index, values, *combines = in_order(func._schema, args, kwargs)
            if any(way is not None for way in combines):
                raise self._refusal(name, "it combines what meets at one place", "use scatter_add")
            with self:
                result = scattered(name, a, dim, index, values, not self._changes(index))
            if result is not None:
                return result
        device = device_of(func, name, args, kwargs, name in self.elementwise)
        result = result_like(func, name, args, kwargs, name in self.elementwise)
        arguments = tuple(
            mapped(lambda a: self.node(a) if isinstance(a, torch.Tensor) else a, argument)
            for argument in in_order(func._schema, args, kwargs)
        )
        if not isinstance(result, torch.Tensor):
            raise self._refusal(name, "it returns several tensors", "use operations that return one")
        node = self._new_node(name, arguments, result)
        traced = self._traced(node, result, device)
        if any(r.alias_info is not None for r in func._schema.returns) and isinstance(args[0], Traced):
            _share(traced, args[0])
        return traced

    def _new_node(self, name: str, arguments: tuple[Any, ...], result: torch.Tensor) -> Node:
        """A new node, or the one that does the same: the backward pass repeats much of the forward pass."""

        def described(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return tuple(map(described, value))
            return value if isinstance(value, Node) else repr(value)

        key = (name, described(arguments), tuple(result.shape), result.dtype)
        node = self._known.get(key)
        if node is None:
            if len(self.nodes) == MOST_NODES:
                raise self._refusal(
                    name,
                    f"the step has more than {MOST_NODES:,} operations, and would take minutes to compile",
                    "write it with operations of whole tensors instead of their elements",
                )
            node = self._known[key] = Node(name, arguments, tuple(result.shape), result.dtype, self._where)
            self.nodes.append(node)
        return node

    def _take_apart(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        elementary = name.removeprefix("prims::")
        if elementary in self.elementwise:
            with self:
                return getattr(aten, elementary)(*args, **kwargs)
        with self, stand_ins():
            if name in OURS:
                result = OURS[name](*in_order(func._schema, args, kwargs))
            else:
                result = decomposition(func)(*args, **kwargs)
        if result is NotImplemented:
            raise self._refusal(name, "fastpoly has no rule for it", "write it with elementary operations")
        if isinstance(result, Traced) and any(result is leaf for leaf in leaves(args)):
            return self._traced(result.node, result, result.device)  # autograd wants a tensor that is not what it gave
        return result

    def _in_place(self, name: str, args: Any, kwargs: Any) -> Any:
        target = args[0]
        plain = getattr(aten, name.rstrip("_"), None)
        own = isinstance(target, Traced) or (_storage(target) in self._own and not target._is_view())
        if not own or plain is None or not name.endswith("_"):
            raise self._refusal(
                name, "it writes values that change from step to step into another tensor", "use torch.stack or cat"
            )
        if isinstance(target, Traced) and sum(alias() is not None for alias in target.aliases) > 1:
            raise self._refusal(name, "it writes to a tensor that shares memory with another", "compute a new one")
        with self:
            result = plain(*args, **kwargs)
        if result.shape != target.shape or result.dtype != target.dtype:
            raise self._refusal(name, "it would change the shape or dtype of its tensor", "compute a new one")
        if isinstance(target, Traced):
            target.node = self.node(result)
        else:
            self._overwritten[id(target)] = self.node(result)
            self._written.add(_storage(target))
            self._kept.append(target)
        return target

    def _traced(self, node: Node, like: torch.Tensor, device: torch.device) -> Traced:
        traced = Traced(node, like, device)
        self.made.append(weakref.ref(traced))
        return traced

    # -- where it happens

    def _line(self) -> Where | None:
        """The caller's line; in the backward pass the one whose gradient is being computed."""
        backward: Any = torch._C._current_autograd_node()
        if backward is not None:
            forward = self._lines.get(backward._sequence_nr())
            return forward and Where(forward.file, forward.line, gradient=True)
        line = _caller()
        if line is not None:
            self._lines[torch._C._autograd._get_sequence_nr() - 1] = line
        return line

    def refused_recurrence(self, name: str) -> UnsupportedOperationError:
        """The refusal of one of torch's recurrent layers or cells."""
        self._where, self._asked = self._line(), name
        return self._refusal(
            name,
            "what torch makes of its recurrent layers writes to parts of tensors",
            "write the cell with torch.sigmoid and torch.tanh",
        )

    def _refusal(self, name: str, why: str, way_out: str) -> UnsupportedOperationError:
        place = f" in {self._where} ({self._where.text})" if self._where else ""
        name = name if name == self._asked else f"{self._asked} ({name})"
        error = UnsupportedOperationError(
            f"{name}{place} cannot be fused: {why}. Way out: {way_out}, or backend='eager'"
        )
        self.refused = self.refused or error
        return error


def trace(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    elementwise: Container[str],
    others: Container[str],
    names: Mapping[int, str],
) -> Graph:
    """The graph of `function`, which takes a list of tensors like `inputs` and returns a list of tensors.

    Raises:
        UnsupportedOperationError: an operation, or what the function does beside its operations, cannot be fused.
    """
    tracer = Tracer(elementwise, others, names)
    traced = [tracer.input(tensor, i) for i, tensor in enumerate(inputs)]
    nodes = [tensor.node for tensor in traced]
    # autograd's own thread, which tensors on a GPU have, may still hold the last gradient when it has been returned
    here = torch.autograd.set_multithreading_enabled(False)
    with tracer, BeforeAutograd(tracer.refused_recurrence), torch.no_grad(), here:
        results = function(list(traced))
    if tracer.refused is not None:
        raise tracer.refused  # the function caught it, and would go on differently
    outputs = [tracer.node(result) for result in results]
    del traced, results
    tracer._kept.clear()
    _refuse_leaks(tracer)
    return Graph(nodes, outputs, tracer.nodes, tracer.launches)


def _refuse_leaks(tracer: Tracer) -> None:
    """No traced tensor may outlive the trace: somebody outside holds it, and expects it to be filled in every step."""
    if any(made() is not None for made in tracer.made):
        gc.collect()
    for made in tracer.made:
        tensor = made()
        if tensor is not None:
            where = tensor.node.where
            place = f" ({where}: {where.text})" if where else ""
            raise UnsupportedOperationError(
                f"the loss keeps a tensor{place} in a variable outside: it would be filled once and not in every step. "
                "Way out: compute it from the result, or backend='eager'"
            )


MOST_NODES = 80_000
"""Of a graph: its kernel has some four times fewer lines, and compiles for minutes."""

BAKED = 1024
"""Constants of the function's own up to this size are part of the program."""


def _baked(tensor: torch.Tensor) -> np.ndarray[Any, Any] | None:
    values = array_of(tensor)
    if np.iscomplexobj(values):
        return None
    if values.size and (values == values.flat[0]).all() and len(np.unique(np.signbit(values))) == 1:
        return values.reshape(-1)[:1].copy()
    return values.copy() if values.size <= BAKED else None


COLUMNS = 16
"""Dimensions up to this size are looked at for columns of ones: longer ones are loops, in which all are alike."""


def _ones(tensor: torch.Tensor) -> frozenset[tuple[int, int]]:
    """The columns of a matrix that are ones from top to bottom, as a polynomial's x**0 is: they are no factors."""
    if tensor.dim() < 2 or not tensor.dtype.is_floating_point:
        return frozenset()
    places = ((d, k) for d, size in enumerate(tensor.shape) if 1 < size <= COLUMNS for k in range(size))
    columns = ((place, tensor.select(*place)) for place in places)
    # most columns are told by their first element
    return frozenset(p for p, c in columns if c.numel() > COLUMNS and c[(0,) * c.dim()] == 1 and bool((c == 1).all()))


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _caller() -> Where | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THE_CALLER) and not file.startswith("<frozen"):
            return Where(file, frame.f_lineno)
        frame = frame.f_back
    return None


def _same(args: Any, kwargs: Any) -> bool:
    dtype = kwargs.get("dtype")
    return dtype is None or dtype == args[0].dtype


def _written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _share(one: Traced, other: Traced) -> Traced:
    """Note that `one` shares memory with `other`."""
    other.aliases.append(weakref.ref(one))
    one.aliases = other.aliases
    return one
