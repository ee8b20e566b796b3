"""Run a function of tensors once and write down what it does, as a graph of ATen operations.

Requirements: torch's own autograd differentiates, so a gradient is traced like everything else; the inputs that change
from step to step have no values while tracing (a branch on one of them cannot be baked in by accident); whatever does
not depend on them is computed by torch there and then, and enters the graph as a constant; every node knows the line of
the caller's code that it came from, in the backward pass too; nothing of torch's compiler is imported, which would take
a second; an operation that comes again with arguments of the same kinds costs little more than torch's call of us.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .._torch_private import LightDispatchMode, decomposition, is_view, storage, without_values
from .apart import OURS, BeforeAutograd, extreme, scattered
from .arguments import (
    BY_DIMENSION,
    BY_LIST,
    Operation,
    device_of,
    leaves,
    mapped,
    refuse_out_of_range,
    result_like,
    without_masks,
)
from .callers import Callers, kept_outside, place
from .complex_numbers import are_complex, taken_apart
from .constants import Constants
from .factorizations import NotTakenApart
from .graph import Graph, Node, Where
from .launches import Launches, launch
from .operations import OPERATIONS
from .plans import Kind, Plan, Result, described, filled, plan_of
from .stand_ins import stand_ins

aten = torch.ops.aten


class Traced(torch.Tensor):
    """A tensor without values: its kind, and the node that computes it."""

    __slots__ = ("aliases", "kind", "node")
    node: Node
    kind: Kind
    aliases: list[weakref.ref[Traced]]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Traced({self.node.op}, {self.node.shape})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise UnsupportedOperationError(
            f"{func}{place(Callers().line())} was called on a tensor of a loss that is no longer being traced: the "
            "loss kept it somewhere. Return what is needed instead."
        )


class Tracer(LightDispatchMode):
    """Writes down every operation on a Traced tensor while it is active; computes all others.

    Args:
        names: what to call constants, by the id of the tensor.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.constants = Constants(names)
        self.nodes: list[Node] = []
        self.made: list[weakref.ref[Traced]] = []
        self.refused: UnsupportedOperationError | None = None
        self.callers = Callers()
        self._where: Where | None = None  # of the operation at hand
        self._asked = ""  # the operation that torch asked for, before it was taken apart
        self._depth = 0
        self._operations: dict[int, Operation] = {}
        self._plans: dict[Any, Plan] = {}
        self._kinds: dict[Any, Kind] = {}
        self._numbers: dict[Any, int] = {}
        self._known: dict[Any, Node] = {}
        self._overwritten: dict[int, Node] = {}  # constants that something traced was written to, by their ids
        self._written: set[int] = set()  # the storages of these
        self._planning: set[int] | None = None  # the storages that a plan has made of nothing
        self._is_general = True  # is what is written down the same for all arguments of these kinds?

    def input(self, like: torch.Tensor, position: int) -> Traced:
        """A tensor with the shape and dtype of `like`, whose values change from step to step."""
        label = self.constants.labels.get(id(like)) or (f"c{position}" if position else "w")
        node = Node("input", (), tuple(like.shape), like.dtype, position=position, label=label)
        return self._traced(node, self._kind(like.contiguous(), like.device))

    def node(self, value: torch.Tensor) -> Node:
        """The node that computes a tensor."""
        if isinstance(value, Traced):
            return value.node
        if self._written:
            if id(value) in self._overwritten:
                return self._overwritten[id(value)]
            if storage(value) in self._written:  # below autograd a view does not know that it is one
                raise self._refusal(
                    self._asked,
                    "it reads what was written through another tensor that shares its memory",
                    "use torch.stack",
                )
        return self.constants.node(value)

    @property
    def launches(self) -> Launches:
        """What torch launched."""
        counted: Launches = Counter()
        for plan in self._plans.values():
            if plan.launch is not None:
                counted[plan.launch] += plan.count
        return counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for every operation."""
        operation = self._operations.get(id(func))
        if operation is None:
            operation = self._operations[id(func)] = Operation(func, OPERATIONS)
        outermost = self._depth == 0
        self._depth += 1
        if outermost:
            self._where, self._asked = self.callers.line(), operation.name
        try:
            signature: list[Any] = [operation]
            operands: list[Any] = []
            changes = self._describe(operation, args, kwargs, signature, operands)
            key = tuple(signature)
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = self._plan(operation, args, kwargs or {}, changes)
            if plan.way == "again":
                result = self._again(plan, operands, args)
            elif plan.way == "compute":
                result = self._compute(operation, args, kwargs or {}, operands)
            else:
                self._is_general = False
                result = self._write_down(operation, args, kwargs or {})
            if outermost:
                if plan.launch is None:
                    plan.launch = launch(operation, args, kwargs, result)
                plan.count += 1
            return result
        finally:
            self._depth -= 1

    # -- what is asked

    def _describe(
        self, operation: Operation, args: Any, kwargs: Any, signature: list[Any], operands: list[Any]
    ) -> bool:
        """Make the key of a plan, and list what is in its slots; does any of that change from step to step?"""
        if operation.loose == "index" and operation.has_place(args):
            signature.append("a place")
            changes = self._describe_all(args[:-1], False, signature, operands)
            operands.append(args[-1])
        else:
            changes = self._describe_all(args, operation.loose == "signs", signature, operands)
        if kwargs:
            signature.extend(kwargs)
            changes = self._describe_all(kwargs.values(), False, signature, operands) or changes
        return changes

    def _describe_all(self, values: Any, is_loose: bool, signature: list[Any], operands: list[Any]) -> bool:
        changes = False
        for value in values:
            cls = type(value)
            if cls is Traced:
                signature.append(value.kind)
                operands.append(value.node)
                changes = True
            elif cls is float or cls is int:
                if is_loose and (value > 0 or value < 0):
                    signature.append((cls, value > 0))
                    operands.append(value)
                else:
                    signature.append(repr(value))  # 1 is as good a key as 1.0 and True, and 0.0 as -0.0
            elif value is None:
                signature.append(None)
            elif isinstance(value, torch.Tensor):
                if self._written and storage(value) in self._written:
                    changes = True
                    signature.append(object())  # a plan of its own
                signature.append((value.shape, value.stride(), value.dtype, value.device))
                operands.append(value)
            elif cls is list or cls is tuple:
                signature.append(len(value))
                changes = self._describe_all(value, False, signature, operands) or changes
            else:
                signature.append(repr(value))
        return changes

    def _changes(self, value: Any) -> bool:
        """Is it different in every step?"""
        if isinstance(value, Traced):
            return True
        return bool(self._written) and isinstance(value, torch.Tensor) and storage(value) in self._written

    def _plan(self, operation: Operation, args: Any, kwargs: Any, changes: bool) -> Plan:
        """What is to be done for an operation on arguments like these."""
        name = operation.name
        if operation.is_random:
            raise self._refusal(name, "it draws random numbers, anew in every step", "draw them before the loss")
        if not changes:
            return Plan("compute")
        alone = operation.is_mutable or name in BRANCHES or name in BY_LIST or name in BY_DIMENSION
        return Plan("write") if alone else self._written_once(operation, args, kwargs) or Plan("write")

    # -- what does not depend on the inputs

    def _compute(self, operation: Operation, args: Any, kwargs: Any, operands: Sequence[Any]) -> Any:
        written: list[Any] = []
        if operation.is_mutable:
            given = zip(operation.written, operation.in_order(args, kwargs), strict=True)
            written.extend(leaves([value for is_written, value in given if is_written and value is not None]))
        for tensor in written:
            if not self.constants.owns(tensor):
                name = operation.name
                raise self._refusal(
                    name, "it writes to a tensor from outside the loss", f"compute a new one; {name.rstrip('_')} does"
                )
            self.constants.before_writing(tensor)
        # zeros without memory would be told from others wherever they are used
        function = aten.zeros.default if operation.name == "_efficientzerotensor" else operation.func
        result = function(*args, **kwargs)
        sources = {storage(operand) for operand in operands if isinstance(operand, torch.Tensor)}
        if self._planning is not None:
            self._is_general &= sources <= self._planning
            self._planning.update(storage(leaf) for leaf in leaves(result) if isinstance(leaf, torch.Tensor))
        self.constants.computed(operation.name.strip("_"), sources, result, bool(written))
        return result

    # -- what does, as it was before

    def _again(self, plan: Plan, slots: list[Any], args: Any) -> Any:
        """Carry out a plan with what is in its slots."""
        for at in plan.constants:
            slots[at] = self.node(slots[at])
        slots += plan.literals
        for step in plan.steps:
            read = step.slots(slots)
            key = step.number, read
            node = self._known.get(key)
            if node is None:
                args_of_node = read if step.args is None else tuple([filled(argument, slots) for argument in step.args])
                node = self._known[key] = self._new_node(step.op, args_of_node, step.shape, step.dtype)
            slots.append(node)
        if plan.several is None:
            return self._result(plan.results[0], slots, args)
        return plan.several(self._result(result, slots, args) for result in plan.results)

    def _result(self, result: Result, slots: list[Any], args: Any) -> Traced:
        traced = self._traced(slots[result.node], result.kind)
        return traced if result.shares is None else _share(traced, args[result.shares])

    def _written_once(self, operation: Operation, args: Any, kwargs: Any) -> Plan | None:
        """Write an operation down on a page of its own, as a plan; None if it depends on the values of constants."""
        given: list[Any] = [mapped(self._stand_in, value) for value in args]
        named = {key: mapped(self._stand_in, value) for key, value in kwargs.items()}
        before = self.nodes, self._known, self._planning, self._is_general
        nodes: list[Node] = []
        made: set[int] = set()
        self.nodes, self._known, self._planning, self._is_general = nodes, {}, made, True
        try:
            result = self._write_down(operation, given, named)
            is_general = self._is_general
        finally:
            self.nodes, self._known, self._planning, self._is_general = before
        if self._planning is not None:
            self._planning |= made
        if not is_general or result is None:
            return None
        operands: list[Any] = []
        self._describe(operation, given, named, [], operands)
        read = [self.constants.found(one) if isinstance(one, torch.Tensor) else one for one in operands]
        constants = [at for at, one in enumerate(operands) if isinstance(one, torch.Tensor) and read[at] is not None]
        return plan_of(nodes, result, given, read, constants, operation.loose_places(given), self._numbers)

    def _stand_in(self, value: Any) -> Any:
        """For what changes, a tensor of its kind whose node nothing else has."""
        if not isinstance(value, Traced):
            return value
        return self._traced(Node("operand", (), value.node.shape, value.node.dtype), value.kind)

    # -- what does, for the first time

    def _write_down(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        name = operation.name
        if name in BRANCHES:
            raise self._refusal(
                name,
                "the value of a tensor decides what the loss does, and it changes from step to step",
                "use torch.where, or compute it from the data alone",
            )
        if operation.is_mutable:
            return self._in_place(name, args, kwargs)
        if are_complex(name, args, kwargs):
            return self._of_complex_numbers(operation, args, kwargs)
        if name in ("detach", "alias", "lift_fresh", "lift_fresh_copy", "clone", "contiguous") or (
            name in ("_to_copy", "_conj") and kwargs.get("dtype") in (None, args[0].dtype)
        ):
            if name in ("detach", "alias") and isinstance(args[0], Traced):
                return _share(self._traced(args[0].node, args[0].kind), args[0])
            like = torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
            return self._traced(self.node(args[0]), self._kind(like, device_of(operation, args, kwargs)))
        if name in ("max", "min") and operation.overload == "dim":
            with self:
                return extreme(*operation.in_order(args, kwargs), name == "max")
        if name not in OPERATIONS:
            return self._take_apart(operation, args, kwargs)
        if name in BY_LIST:
            if any(self._changes(index) for index in args[1]):
                raise self._refusal(name, "the index changes from step to step", "use torch.where")
            if name.endswith("put") and tuple(args[3:4]) != (True,):
                raise self._refusal(name, "it puts values at places that an index names", "use torch.where with a mask")
            args = (args[0], without_masks(args[1], self._changes), *args[2:])
        if name in BY_LIST or name in BY_DIMENSION:
            refuse_out_of_range(name, args, self._changes)
        if name in ("scatter", "scatter_add"):
            a, dim, index, values, *combines = operation.in_order(args, kwargs)
            if any(way is not None for way in combines):
                raise self._refusal(name, "it combines what meets at one place", "use scatter_add")
            with self:
                scattering = scattered(name, a, dim, index, values, not self._changes(index))
            if scattering is not None:
                return scattering
        device = device_of(operation, args, kwargs)
        result = result_like(operation, args, kwargs)
        if not isinstance(result, torch.Tensor):
            raise self._refusal(name, "it returns several tensors", "use operations that return one")
        arguments = tuple(
            mapped(lambda a: self.node(a) if isinstance(a, torch.Tensor) else a, argument)
            for argument in operation.in_order(args, kwargs)
        )
        key = (name, described(arguments), tuple(result.shape), result.dtype)
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = self._new_node(name, arguments, tuple(result.shape), result.dtype)
        traced = self._traced(node, self._kind(result, device))
        return _share(traced, args[0]) if operation.is_view and isinstance(args[0], Traced) else traced

    def _of_complex_numbers(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        """What an operation on complex numbers makes of their parts."""
        name = operation.name
        if name in ("view_as_real", "view_as_complex"):
            kind = self._kind(result_like(operation, args, kwargs), args[0].kind.device)
            return _share(self._traced(args[0].node, kind), args[0])
        try:
            with self:
                result = taken_apart(name, operation.func, args, kwargs)
        except NotTakenApart as reason:
            raise self._refusal(name, reason.why, reason.way_out) from None
        if result is NotImplemented:
            return self._take_apart(operation, args, kwargs)
        if operation.is_view and isinstance(result, Traced) and isinstance(args[0], Traced):
            kind = self._kind(result_like(operation, args, kwargs), args[0].kind.device)
            return _share(self._traced(result.node, kind), args[0])
        return result

    def _new_node(self, op: str, args: tuple[Any, ...], shape: tuple[int, ...], dtype: torch.dtype) -> Node:
        """A new node; the backward pass repeats much of the forward pass, and is given what is known."""
        if len(self.nodes) == MOST_NODES:
            raise self._refusal(
                op,
                f"the step has more than {MOST_NODES:,} operations, and would take minutes to trace and compile",
                "write it with operations of whole tensors instead of their elements",
            )
        node = Node(op, args, shape, dtype, self._where)
        self.nodes.append(node)
        return node

    def _take_apart(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        name = operation.name
        elementary = name.removeprefix("prims::")
        if elementary in OPERATIONS and OPERATIONS[elementary].is_elementwise:
            with self:
                return getattr(aten, elementary)(*args, **kwargs)
        with self, stand_ins():
            if name in OURS:
                try:
                    result = OURS[name](*operation.in_order(args, kwargs))
                except NotTakenApart as reason:
                    raise self._refusal(name, reason.why, reason.way_out) from None
            else:
                result = decomposition(operation.func)(*args, **kwargs)
        if result is NotImplemented:
            raise self._refusal(name, "fastpoly has no rule for it", "write it with elementary operations")
        if isinstance(result, Traced) and any(result is leaf for leaf in leaves(args)):
            return self._traced(result.node, result.kind)  # autograd wants a tensor that is not what it gave
        return result

    def _in_place(self, name: str, args: Any, kwargs: Any) -> Any:
        target = args[0]
        plain = getattr(aten, name.rstrip("_"), None)
        own = isinstance(target, Traced) or (self.constants.owns(target) and not is_view(target))
        if not own or plain is None or not name.endswith("_"):
            raise self._refusal(
                name, "it writes values that change from step to step into another tensor", "use torch.stack or cat"
            )
        if isinstance(target, Traced):
            target.aliases[:] = [alias for alias in target.aliases if alias() is not None]
            if len(target.aliases) > 1:
                raise self._refusal(name, "it writes to a tensor that shares memory with another", "compute a new one")
        with self:
            result = plain(*args, **kwargs)
        if result.shape != target.shape or result.dtype != target.dtype:
            raise self._refusal(name, "it would change the shape or dtype of its tensor", "compute a new one")
        if isinstance(target, Traced):
            target.node = self.node(result)
        else:
            self._overwritten[id(target)] = self.node(result)
            self._written.add(storage(target))
            self.constants.kept.append(target)
        return target

    def _kind(self, like: torch.Tensor, device: torch.device) -> Kind:
        key = tuple(like.shape), like.stride(), like.dtype, device
        return self._kinds.setdefault(key, Kind(*key))

    def _traced(self, node: Node, kind: Kind) -> Traced:
        traced: Traced = without_values(Traced, kind.shape, kind.strides, kind.dtype, kind.device)
        reference = weakref.ref(traced)
        traced.node, traced.kind, traced.aliases = node, kind, [reference]
        self.made.append(reference)
        return traced

    # -- what cannot be traced

    def refused_recurrence(self, name: str) -> UnsupportedOperationError:
        """The refusal of one of torch's recurrent layers or cells."""
        self._where, self._asked = self.callers.line(), name
        return self._refusal(
            name,
            "what torch makes of its recurrent layers writes to parts of tensors",
            "write the cell with torch.sigmoid and torch.tanh",
        )

    def _refusal(self, name: str, why: str, way_out: str) -> UnsupportedOperationError:
        name = name if name == self._asked else f"{self._asked} ({name})"
        error = UnsupportedOperationError(
            f"{name}{place(self._where)} cannot be fused: {why}. Way out: {way_out}, or backend='eager'"
        )
        self.refused = self.refused or error
        return error


def trace(
    function: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor],
    names: Mapping[int, str],
) -> Graph:
    """The graph of `function`, which takes a list of tensors like `inputs` and returns a list of tensors.

    Raises:
        UnsupportedOperationError: an operation, or what the function does beside its operations, cannot be fused.
    """
    tracer = Tracer(names)
    traced = [tracer.input(tensor, i) for i, tensor in enumerate(inputs)]
    nodes = [tensor.node for tensor in traced]
    # autograd's own thread, which tensors on a GPU have, may still hold the last gradient when it has been returned
    here = torch.autograd.set_multithreading_enabled(False)
    with without_collector(), tracer, BeforeAutograd(tracer.refused_recurrence), torch.no_grad(), here:
        results = function(list(traced))
    if tracer.refused is not None:
        raise tracer.refused  # the function caught it, and would go on differently
    outputs = [tracer.node(result) for result in results]
    del traced, results
    tracer.constants.kept.clear()
    _refuse_leaks(tracer)
    return Graph(nodes, outputs, tracer.nodes, tracer.launches)


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector would look through the growing graph again and again: half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refuse_leaks(tracer: Tracer) -> None:
    """No traced tensor may outlive the trace: somebody outside holds it, and expects it to be filled in every step."""
    if any(made() is not None for made in tracer.made):
        gc.collect()
    for made in tracer.made:
        tensor = made()
        if tensor is not None:
            raise kept_outside(tensor.node.where)


MOST_NODES = 1_000_000
"""Of a trace, before equal iterations are one: at what a node takes (`bench/tracing.py`) some 20 seconds."""

BRANCHES = frozenset(
    {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_is_all_true", "allclose"}
)
"""What gives Python a value, or a shape that depends on one."""


def _share(one: Traced, other: Traced) -> Traced:
    """Note that `one` shares memory with `other`."""
    other.aliases.append(one.aliases[0])
    one.aliases = other.aliases
    return one
