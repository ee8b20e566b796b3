"""A step as the ATen operations that torch runs for it, autograd's among them, to be done again or compiled.

Requirements: everything that torch can do stays what it was, writes to the step's own memory and several results too;
what does not change between steps is computed once and for all, for a step that is replayed on a GPU pays for each of
its operations in every step, and what it copies to the GPU (the post makes its exponents on the CPU) could not be
captured at all; what a replay would do otherwise than the step is refused, with the caller's line.

What runs while it records has values. So the step is recorded twice, the second time from other values: what Python
made of them, or what it changed meanwhile, would stand in the record as a constant, and the two would differ.
"""

from __future__ import annotations

import gc
import operator
from collections.abc import Container, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.utils.weak import WeakTensorKeyDictionary

from .._errors import OutsideWriteError, UnsupportedOperationError
from .._fuse.arguments import Operation, array_of, leaves, mapped
from .._fuse.callers import Callers, kept_outside, place
from .._fuse.trace import without_collector
from .._torch_private import LightDispatchMode

if TYPE_CHECKING:
    from .._fuse.graph import Where
    from . import Step

aten = torch.ops.aten

_LIKE = {aten.ones_like.default, aten.zeros_like.default, aten.full_like.default}
"""They take a shape from their argument and no value; autograd begins with one of them."""

_SAME = {aten.detach.default, aten.alias.default}
"""What autograd asks for where there is nothing to do."""


def recorded(function: Step, inputs: Sequence[torch.Tensor]) -> GraphModule:
    """The step as a function of a list of tensors, whose constant parts are buffers on the device of the inputs.

    What it returns may be one of its inputs or a view of one, and must be copied before they are overwritten. A node's
    `meta` has the dtype and device of its tensor, if it is one.

    Raises:
        UnsupportedOperationError: the step decides by the value of a tensor what it does, writes to a tensor from
            outside, keeps one for later, or is not the same every time.
    """
    step = _recorded(function, inputs)
    others = [tensor * 1.01 + 0.01 if tensor.is_floating_point() else tensor for tensor in inputs]
    if _described(step) != _described(_recorded(function, others)):
        raise UnsupportedOperationError(
            "the loss does something else when it is called again: it depends on what Python changes meanwhile, or "
            "computes outside of torch. Way out: pass what changes as data or keep it in the params, or backend='eager'"
        )
    return step


def _recorded(function: Step, inputs: Sequence[torch.Tensor]) -> GraphModule:
    # clones, that the step may write to its tensors: they are the rows of the block before
    clones = [tensor.detach().clone() for tensor in inputs]
    recorder = _Recorder(clones)
    here = torch.autograd.set_multithreading_enabled(False)  # a thread of its own may still hold the last gradient
    with without_collector(), torch.no_grad(), here, recorder:
        results = function(list(clones))
    outputs = [recorder.node(result) for result in results]
    del clones, results
    recorder.forget()
    gc.collect()
    for node in recorder.nodes.values():
        if node.meta["memory"] in recorder.changes:
            raise kept_outside(node.meta["where"])
    return recorder.step(outputs, inputs[0].device)


class _Recorder(LightDispatchMode):
    """While it is active, notes every operation in a graph.

    Args:
        inputs: the tensors that change from step to step.
    """

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.nodes: Any = WeakTensorKeyDictionary()  # of tensors
        self.changes: set[int] = set()  # the memory whose values change from step to step; views have the same memory
        self._own: set[int] = set()  # the memory that the step may write to
        self._written: set[int] = set()
        self._new = count()
        self._operations: dict[int, Operation] = {}
        self._callers = Callers()
        self._graph = Graph()
        tensors = self._graph.placeholder("tensors")
        self._inputs = [self._graph.call_function(operator.getitem, (tensors, i)) for i in range(len(inputs))]
        for node, tensor in zip(self._inputs, inputs, strict=True):
            self._note(node, tensor, next(self._new), None, changes=True)
        self._own |= self.changes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = self._operations.get(id(func))
        if operation is None:
            operation = self._operations[id(func)] = Operation(func, {})
        kwargs, where = kwargs or {}, self._callers.line()
        args_of_node, kwargs_of_node = tuple(mapped(self.node, args)), mapped(self.node, kwargs)
        read = [leaf.meta["memory"] for leaf in leaves(args_of_node, kwargs_of_node) if isinstance(leaf, Node)]
        changes = operation.is_random or (func not in _LIKE and not self.changes.isdisjoint(read))
        if operation.targets(args, kwargs):
            self._note_writes(operation, args, kwargs, changes, where)
        result = func(*args, **kwargs)
        results = [leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
        if func in _SAME:
            self.nodes[result] = args_of_node[0]
            return result
        if changes and not results and result is not None:
            raise UnsupportedOperationError(
                f"the value of a tensor decides what the loss does{place(where)}. Way out: use torch.where, or "
                "backend='eager'"
            )
        made = self._graph.call_function(func, args_of_node, kwargs_of_node)
        is_view = operation.is_view
        for i, tensor in enumerate(results):
            node = self._graph.call_function(operator.getitem, (made, i)) if isinstance(result, (list, tuple)) else made
            before = self.nodes.get(tensor)  # if it was written to
            memory = before.meta["memory"] if before is not None else read[0] if is_view else next(self._new)
            self._note(node, tensor, memory, where, changes)
            if before is None and not is_view:
                self._own.add(memory)
        return result

    def node(self, value: Any) -> Any:
        """The node of a tensor; anything else as it is."""
        if not isinstance(value, torch.Tensor):
            return value
        if value not in self.nodes:  # it comes from outside
            self._note(self._graph.get_attr("outside"), value, next(self._new), None, changes=False)
        return self.nodes[value]

    def _note(self, node: Node, tensor: torch.Tensor, memory: int, where: Where | None, changes: bool) -> None:
        value = None if changes else tensor
        node.meta.update(dtype=tensor.dtype, device=tensor.device, memory=memory, where=where, value=value)
        self.nodes[tensor] = node
        if changes:
            self.changes.add(memory)

    def _note_writes(self, operation: Operation, args: Any, kwargs: Any, changes: bool, where: Where | None) -> None:
        for tensor in operation.targets(args, kwargs):
            memory = self.nodes[tensor].meta["memory"]
            if memory not in self._own:
                raise OutsideWriteError(
                    f"{operation.name}{place(where)} writes to a tensor from outside the loss. Way out: compute a new "
                    "one, or backend='eager'"
                )
            self._written.add(memory)
            if changes:
                self.changes.add(memory)

    def forget(self) -> None:
        """Values of what is written to are no constants: it is made in every step."""
        for node in self._graph.nodes:
            if node.meta.get("memory") in self._written | self.changes:
                node.meta["value"] = None

    def step(self, outputs: Sequence[Any], device: torch.device) -> GraphModule:
        """What was recorded, with these results, on constants that are there."""
        graph, module = self._graph, torch.nn.Module()
        graph.output(list(outputs))
        for node in self._inputs:
            if node.meta["memory"] in self._written:
                with graph.inserting_after(self._inputs[-1]):
                    copy = graph.call_function(aten.clone.default, (node,))
                _put_inplace(copy, node, {copy})
        constants = {node: None for node in graph.nodes if node.meta.get("value") is not None}
        for i, node in enumerate(constants):
            if not constants.keys() >= node.users.keys():
                # a number on the CPU would be copied in every step, which cannot be captured
                module.register_buffer(f"constant_{i}", node.meta["value"].detach().to(device), persistent=False)
                with graph.inserting_before(node):
                    _put_inplace(graph.get_attr(f"constant_{i}"), node, constants)
        graph.eliminate_dead_code()
        return GraphModule(module, graph)


def _put_inplace(one: Node, other: Node, but: Container[Node]) -> None:
    """Whoever reads `other` reads `one`, but for these."""
    one.meta.update(other.meta)
    other.replace_all_uses_with(one, delete_user_cb=lambda user: user not in but)


def _described(step: GraphModule) -> tuple[str, list[tuple[torch.dtype, bytes]]]:
    """Equal for the same operations on the same constants."""
    return step.code, [(constant.dtype, array_of(constant).tobytes()) for constant in step.buffers()]
