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
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.weak import TensorWeakRef

from .._errors import UnsupportedOperationError
from .._fuse.arguments import Operation, array_of, leaves, mapped
from .._fuse.callers import Callers
from .._fuse.trace import without_collector
from .._torch_private import LightDispatchMode

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from . import Step
    from .._fuse.graph import Where

aten = torch.ops.aten

_LIKE = {aten.ones_like.default, aten.zeros_like.default, aten.full_like.default}
"""They take a shape from their argument and no value; autograd begins with one of them."""

_SAME = {aten.detach.default, aten.alias.default}
"""What autograd asks for where there is nothing to do."""


def recorded(function: Step, inputs: Sequence[torch.Tensor]) -> GraphModule:
    """The step as a function of a list of tensors, whose constant parts are buffers on the device of the inputs.

    What it returns may be one of its inputs or a view of one, and must be copied before they are overwritten. Nodes have
    the dtype and device of a result that is one tensor in their `meta`.

    Raises:
        UnsupportedOperationError: the step decides by the value of a tensor what it does, writes to a tensor from
            outside, keeps one for later, or is not the same every time.
    """
    step = _recorded(function, inputs)
    if _described(step) != _described(_recorded(function, [tensor * 1.01 + 0.01 for tensor in inputs])):
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
    step = recorder.step(clones, results)
    made = [(TensorWeakRef(tensor), call.where) for call in recorder.calls if call.changes for tensor in call.results]
    del clones, results, recorder
    gc.collect()
    for reference, where in made:
        if reference() is not None:
            raise UnsupportedOperationError(
                f"the loss keeps a tensor{_place(where)} in a variable outside: it would be filled once and not in every "
                "step. Way out: compute it from the result, or backend='eager'"
            )
    return step


class _Call(NamedTuple):
    """One operation: with what it was called, what came of it, and does that change from step to step?"""

    operation: Operation
    args: Any
    kwargs: Any
    results: list[torch.Tensor]
    several: bool
    changes: bool
    where: Where | None


class _Recorder(LightDispatchMode):
    """While it is active, notes every operation.

    Args:
        inputs: the tensors that change from step to step.
    """

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.callers = Callers()
        self.memory = {id(tensor): i for i, tensor in enumerate(inputs)}  # the same for views of each other
        self.own = set(self.memory.values())
        self.changes = set(self.own)  # the memory whose values change from step to step
        self.written: set[int] = set()
        self._new = count(len(self.own))
        self._operations: dict[int, Operation] = {}
        self._outside: list[torch.Tensor] = []  # so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = self._operations.get(id(func))
        if operation is None:
            operation = self._operations[id(func)] = Operation(func, ())
        kwargs, where = kwargs or {}, self.callers.line()
        given = [leaf for leaf in leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
        read = [self._memory(tensor) for tensor in given]
        changes = operation.is_random or (func not in _LIKE and any(memory in self.changes for memory in read))
        if operation.is_mutable:
            self._note_writes(operation, args, kwargs, changes, where)
        result = func(*args, **kwargs)
        results = [leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
        if changes and not results and result is not None:
            raise UnsupportedOperationError(
                f"the value of a tensor decides what the loss does{_place(where)}. Way out: use torch.where, or "
                "backend='eager'"
            )
        is_view = operation.is_view or operation.name == "_unsafe_view"
        for tensor in results:
            if id(tensor) not in self.memory:  # else it was written to
                memory = self.memory[id(tensor)] = read[0] if is_view else next(self._new)
                if not is_view:
                    self.own.add(memory)
                if changes:
                    self.changes.add(memory)
        self.calls.append(_Call(operation, args, kwargs, results, isinstance(result, (list, tuple)), changes, where))
        return result

    def _memory(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self.memory:
            self._outside.append(tensor)
            self.memory[id(tensor)] = next(self._new)
        return self.memory[id(tensor)]

    def _note_writes(self, operation: Operation, args: Any, kwargs: Any, changes: bool, where: Where | None) -> None:
        arguments = zip(operation.written, operation.in_order(args, kwargs), strict=True)
        for tensor in leaves([value for is_written, value in arguments if is_written and value is not None]):
            memory = self._memory(tensor)
            if memory not in self.own:
                raise UnsupportedOperationError(
                    f"{operation.name}{_place(where)} writes to a tensor from outside the loss. Way out: compute a new "
                    "one, or backend='eager'"
                )
            self.written.add(memory)
            if changes:
                self.changes.add(memory)

    def step(self, inputs: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> GraphModule:
        """What was recorded, between these; what is written to is made in every step."""
        from torch.fx import Graph, GraphModule, Node

        graph, module = Graph(), torch.nn.Module()
        tensors = graph.placeholder("tensors")
        nodes: dict[int, Node] = {}

        def node(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) not in nodes:  # a number on the CPU would be copied in every step, which cannot be captured
                name = f"constant_{len(nodes)}"
                module.register_buffer(name, value.detach().to(inputs[0].device), persistent=False)
                nodes[id(value)] = _described_by(graph.get_attr(name), value)
            return nodes[id(value)]

        for i, tensor in enumerate(inputs):
            nodes[id(tensor)] = _described_by(graph.call_function(operator.getitem, (tensors, i)), tensor)
            if self.memory[id(tensor)] in self.written:
                copy = graph.call_function(aten.clone.default, (nodes[id(tensor)],))
                nodes[id(tensor)] = _described_by(copy, tensor)
        for call in self.calls:
            given = [leaf for leaf in leaves(call.args, call.kwargs) if isinstance(leaf, torch.Tensor)]
            if not call.changes and not any(self.memory[id(one)] in self.written for one in (*given, *call.results)):
                continue
            if call.operation.func in _SAME:
                nodes[id(call.results[0])] = node(given[0])
                continue
            args, kwargs = tuple(mapped(node, call.args)), mapped(node, call.kwargs)
            made = graph.call_function(call.operation.func, args, kwargs)
            for i, result in enumerate(call.results):
                part = graph.call_function(operator.getitem, (made, i)) if call.several else made
                nodes[id(result)] = _described_by(part, result)
        graph.output([node(result) for result in results])
        graph.eliminate_dead_code()
        return GraphModule(module, graph)


def _described_by(node: Any, tensor: torch.Tensor) -> Any:
    node.meta.update(dtype=tensor.dtype, device=tensor.device)
    return node


def _place(where: Where | None) -> str:
    return f" in {where} ({where.text})" if where else ""


def _described(step: GraphModule) -> tuple[str, list[tuple[torch.dtype, bytes]]]:
    """Equal for the same operations on the same constants."""
    return step.code, [(constant.dtype, array_of(constant).tobytes()) for constant in step.buffers()]
