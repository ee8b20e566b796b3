"""What is done to tensors, written down as a graph: see `trace`."""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from .._errors import OutsideWriteError, RandomDrawError, UnsupportedOperationError
from .._torch_private import (
    LightDispatchMode,
    decomposition,
    storage,
    without_values,
)
from . import lists, picks
from .apart import INDICES, OURS, extreme, laid_out, scattered
from .arguments import (
    BY_DIMENSION,
    BY_LIST,
    Operation,
    copied_like,
    device_of,
    leaves,
    mapped,
    refuse_out_of_range,
    result_like,
    without_masks,
)
from .attention import DROPOUT
from .branches import Branches
from .callers import Callers
from .complex_numbers import are_complex
from .complex_tensors import of_complex_numbers
from .constants import Constants
from .graph import Node, Page, Where
from .launches import Launches, launch
from .operations import OPERATIONS
from .orders import IN_TURNS
from .plans import Kind, Plan, Result, described, filled, in_numbers, plan_of
from .refusing import Refusing
from .stand_ins import stand_ins
from .storages import Storage
from .writes import Traced, Writes, offset_of

aten = torch.ops.aten


class Tracer(LightDispatchMode, Refusing):
    """Writes down every operation on a Traced tensor while it is active; computes all others.

    Args:
        names: what to call constants, by the id of the tensor.
        loop: see `written_loops.loop`.
    """

    def __init__(self, names: Mapping[int, str], loop: Callable[..., list[torch.Tensor]]) -> None:
        super().__init__()
        self._loop = loop
        self.constants = Constants(names)
        self.nodes = Page(0)
        self.made: list[weakref.ref[Traced]] = []
        self.refused: UnsupportedOperationError | None = None
        self.branches = Branches()
        self._asked_in: tuple[str, Where | None] = "", None  # the operation that asked, and where
        self.callers = Callers()
        self._where: Where | None = None  # of the operation at hand
        self.asked = ""  # the operation that torch asked for, before it was taken apart
        self.depth = 0
        self._operations: dict[int, Operation] = {}
        self._plans: dict[Any, Plan] = {}
        self.kinds: dict[tuple[Any, ...], Kind] = {}
        self._numbers: dict[Any, int] = {}
        self._known: dict[Any, Node] = {}
        self.writes = Writes(self)
        self._planning: set[int] | None = None  # the storages that a plan has made of nothing
        self._is_stale = False  # is there a tensor among the operands whose memory has been written to?
        self._is_general = True  # is what is written down the same for all arguments of these kinds?
        self.fixed: frozenset[int] = frozenset()  # storages made outside of the body of a loop that is being traced
        self.weights: list[Any] = []  # of recurrent layers that are called, as these keep them
        self.has_loops = False
        self.reached: dict[
            int, tuple[torch.Tensor, torch.Tensor]
        ] = {}  # tensors with values and a gradient that it uses

    def input(self, like: torch.Tensor, position: int) -> Traced:
        """A tensor like what torch computes from `like`, strides and all, whose values change from step to step."""
        label = self.constants.labels.get(id(like)) or (f"c{position}" if position else "w")
        node = Node("input", (), tuple(like.shape), like.dtype, position=position, label=label)
        traced = self.traced(node, self.kind(torch.empty_like(like, device="meta"), like.device))
        traced.memory.is_input = True
        return traced

    def node(self, value: torch.Tensor) -> Node:
        """The node that computes a tensor."""
        if isinstance(value, Traced):
            return value.node
        if self.writes.changes(value):
            return self.writes.of_memory(value).node
        return self.constants.node(value)

    def page(self) -> tuple[Page, dict[Any, Node]]:
        """Where operations are written down at the moment, and what is known there."""
        return self.nodes, self._known

    @contextmanager
    def on(self, nodes: Page, known: dict[Any, Node]) -> Iterator[None]:
        """While it lasts, they are written down there."""
        before = self.page()
        self.nodes, self._known = nodes, known
        try:
            yield
        finally:
            self.nodes, self._known = before

    def may_write(self, value: torch.Tensor) -> bool:
        """Was its memory made here: while tracing, and in the body of the loop that is being traced?"""
        if type(value) is Traced:
            return value.memory.home is self.nodes
        return self.constants.owns(value) and storage(value) not in self.fixed

    @contextmanager
    def launched(self) -> Iterator[dict[Plan, int]]:
        """What torch launches meanwhile, which is not counted there."""
        before = {plan: plan.count for plan in self._plans.values()}
        found: dict[Plan, int] = {}
        try:
            yield found
        finally:
            for plan in self._plans.values():
                found[plan] = plan.count - before.get(plan, 0)
                plan.count = before.get(plan, 0)

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
        outermost = self.depth == 0
        self.depth += 1
        if outermost:
            self._where, self.asked = self.callers.line(), operation.name
        try:
            if operation.name.startswith(lists.PREFIX):
                with self:
                    return lists.one_by_one(operation.name, args, kwargs or {})
            signature: list[Any] = [operation]
            operands: list[Any] = []
            if self.writes.written and not operation.is_mutable:
                args = [mapped(self.writes.of_memory, value) for value in args]
            is_of_memory = operation.is_mutable or (
                operation.is_view and self.writes.asks_memory(operation.name, args[0])
            )
            changes = self._describe(operation, args, kwargs, signature, operands)
            if self.writes.written and operation.name == "add":  # before what is a list of rows is made one tensor
                added = self.writes.added(args, kwargs)
                if added is not None:
                    return added
            if self._is_stale:
                self._is_stale = False
                if operation.name.startswith("new_"):  # which asks for a tensor's kind alone
                    with self:
                        like = torch.empty(0, dtype=args[0].dtype, device=args[0].device)
                        return operation.func(like, *args[1:], **(kwargs or {}))
                if not is_of_memory:
                    operands = [one.node if type(one) is Traced else one for one in operands]
            key = tuple(signature)
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = self._plan(operation, args, kwargs or {}, changes, is_of_memory)
            if is_of_memory and changes:
                self._is_general = False
                result = self.writes.in_memory(operation, args, kwargs or {})
            elif plan.way == "again":
                result = self._again(plan, operands, args)
            elif plan.way == "compute":
                result = self._compute(operation, args, kwargs or {}, operands)
            else:
                self._is_general = False
                result = self.write_down(operation, args, kwargs or {})
            if outermost:
                if plan.launch is None:
                    plan.launch = launch(operation, args, kwargs, result)
                plan.count += 1
            return result
        finally:
            self.depth -= 1

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
                if value.seen == value.memory.version:
                    operands.append(value._node)
                else:
                    operands.append(value)
                    self._is_stale = True
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
                if self.writes.written and storage(value) in self.writes.written:
                    changes = True
                signature.append((value.shape, value.stride(), value.dtype, value.device))
                operands.append(value)
            elif cls is list or cls is tuple:
                signature.append(len(value))
                changes = self._describe_all(value, False, signature, operands) or changes
            else:
                signature.append(repr(value))
        return changes

    def _plan(self, operation: Operation, args: Any, kwargs: Any, changes: bool, is_of_memory: bool) -> Plan:
        """What is to be done for an operation on arguments like these."""
        name = operation.name
        if operation.is_random and not (name in DROPOUT and not operation.in_order(args, kwargs)[DROPOUT[name]]):
            raise self.refusal(
                name,
                "it draws random numbers, anew in every step",
                "draw them before, and hand them over by xs=",
                RandomDrawError,
            )
        if not changes:
            return Plan("compute")
        alone = is_of_memory or name in BRANCHES or name in BY_LIST or name in BY_DIMENSION or name in IN_TURNS
        alone = alone or bool(operation.targets(args, kwargs))  # to write twice is not to write once
        return Plan("write") if alone else self._written_once(operation, args, kwargs) or Plan("write")

    # -- what does not depend on the inputs

    def _compute(self, operation: Operation, args: Any, kwargs: Any, operands: Sequence[Any]) -> Any:
        written = operation.targets(args, kwargs)
        for tensor in written:
            if not self.may_write(tensor):
                name, of = operation.name, "scan's step" if self.constants.owns(tensor) else "the loss"
                raise self.refusal(
                    name,
                    f"it writes to a tensor from outside {of}",
                    f"compute a new one; {name.rstrip('_')} does",
                    OutsideWriteError,
                )
            self.constants.before_writing(tensor)
        # zeros without memory would be told from others wherever they are used
        function = aten.zeros.default if operation.name == "_efficientzerotensor" else operation.func
        result = function(*args, **kwargs)
        if operation.name.removeprefix("new_").startswith("empty"):
            result.zero_()  # what happens to lie there is another number every time
        tensors = [operand for operand in operands if isinstance(operand, torch.Tensor)]
        for tensor in tensors:
            self.constants.read(tensor)
        sources = {storage(tensor) for tensor in tensors}
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
            return self._result(plan.results[0], slots, args, bool(plan.steps) and plan.steps[-1].op == "select")
        return plan.several(self._result(result, slots, args, False) for result in plan.results)

    def _result(self, result: Result, slots: list[Any], args: Any, is_select: bool) -> Traced:
        if result.shares is None:
            return self.traced(slots[result.node], result.kind)
        source, kind = args[result.shares], result.kind
        if is_select:  # whose plan is one for all places
            _, dim, place = args
            offset = source.kind.offset + place % source.kind.shape[dim] * source.kind.strides[dim]
            if offset != kind.offset:
                kind = self.only(Kind(kind.shape, kind.strides, kind.dtype, kind.device, offset))
        return self.traced(slots[result.node], kind).sharing(source.memory)

    def _written_once(self, operation: Operation, args: Any, kwargs: Any) -> Plan | None:
        """Write an operation down on a page of its own, as a plan; None if it depends on the values of constants."""
        given: list[Any] = [mapped(self._stand_in, value) for value in args]
        named = {key: mapped(self._stand_in, value) for key, value in kwargs.items()}
        before = self.nodes, self._known, self._planning, self._is_general
        nodes = Page(math.inf)
        made: set[int] = set()
        self.nodes, self._known, self._planning, self._is_general = nodes, {}, made, True
        try:
            result = self.write_down(operation, given, named)
            is_general = self._is_general
        finally:
            self.nodes, self._known, self._planning, self._is_general = before
        if self._planning is not None:
            self._planning |= made
        if not is_general or result is None or isinstance(result, bool):  # of the kinds alone, as whether sizes agree
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
        return self.traced(Node("operand", (), value.node.shape, value.node.dtype), value.kind)

    # -- what does, for the first time

    def write_down(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        name = operation.name
        if name == "masked_select" and not self.writes.changes(args[1]):
            with self:
                return picks.masked_select(*args)
        if name in BRANCHES:
            with self:
                asked = (args[0] == args[1]).all() if name == "equal" and args[0].shape == args[1].shape else args[0]
            if name not in ("_local_scalar_dense", "is_nonzero", "equal") or asked.dtype != torch.bool:
                raise self.refused_branch(name)
            self._asked_in = name, self._where
            return self.branches.answer(asked)
        if are_complex(name, args, kwargs):
            result = of_complex_numbers(self, operation, args, kwargs)
            return self.take_apart(operation, args, kwargs) if result is NotImplemented else result
        if name in ("detach", "alias", "lift_fresh", "lift_fresh_copy", "clone", "contiguous") or (
            name in ("_to_copy", "_conj") and kwargs.get("dtype") in (None, args[0].dtype)
        ):
            if name in ("detach", "alias") and isinstance(args[0], Traced):
                return self.traced(args[0].node, args[0].kind).sharing(args[0].memory)
            like = copied_like(operation, args, kwargs)
            return self.traced(self.node(args[0]), self.kind(like, device_of(operation, args, kwargs)))
        if name in ("max", "min") and operation.overload == "dim":
            with self:
                return extreme(*operation.in_order(args, kwargs), name == "max")
        if name not in OPERATIONS:
            return self.take_apart(operation, args, kwargs)
        if name in BY_LIST:
            if any(self.writes.changes(index) for index in args[1]):
                masked = self._masked(name, operation.in_order(args, kwargs))
                if masked is not None:
                    return masked
                with self:
                    picked = picks.by_one_that_changes(operation.in_order(args, kwargs))
                if picked is not None:
                    return picked
                raise self.refusal(name, "the index changes from step to step", "use torch.where")
            args = (args[0], without_masks(args[1], self.writes.changes), *args[2:])
        if name in BY_LIST or name in BY_DIMENSION:
            refuse_out_of_range(name, args, self.writes.changes)
        if name in BY_LIST:
            with self:
                found = picks.by_list(operation.in_order(args, kwargs))
            if found is not None:
                return found
        if name in ("scatter", "scatter_add"):
            a, dim, index, values, *combines = operation.in_order(args, kwargs)
            if any(way is not None for way in combines):
                raise self.refusal(name, "it combines what meets at one place", "use scatter_add")
            with self:
                scattering = scattered(name, a, dim, index, values, not self.writes.changes(index))
            if scattering is not None:
                return scattering
        device = device_of(operation, args, kwargs)
        result = result_like(operation, args, kwargs)
        if not isinstance(result, torch.Tensor):
            raise self.refusal(name, "it returns several tensors", "use operations that return one")
        arguments = tuple(
            mapped(lambda a: self.node(a) if isinstance(a, torch.Tensor) else a, argument)
            for argument in operation.in_order(args, kwargs)
        )
        key = (name, described(arguments), tuple(result.shape), result.dtype)
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = self._new_node(name, arguments, tuple(result.shape), result.dtype)
        traced = self.traced(node, self.kind(result, device, offset_of(operation, args)))
        return traced.sharing(args[0].memory) if operation.is_view and isinstance(args[0], Traced) else traced

    def _masked(self, name: str, arguments: Sequence[Any]) -> Any:
        """One number put wherever a mask is true, which may change; None if that is not what is asked."""
        a, indices, *rest = arguments
        mask, *others = indices
        is_one = bool(rest) and not others and mask.dtype == torch.bool and rest[0].numel() == 1
        if not is_one or not name.endswith("put"):
            return None
        with self:
            mask = mask.reshape(*mask.shape, *[1] * (a.ndim - mask.ndim))
            value = rest[0].reshape([])
            return torch.where(mask, a + value if rest[1] else value, a)

    def _new_node(self, op: str, args: tuple[Any, ...], shape: tuple[int, ...], dtype: torch.dtype) -> Node:
        """A new node; the backward pass repeats much of the forward pass, and is given what is known."""
        if len(self.nodes) == MOST_NODES:
            raise self.refusal(
                op,
                f"the step has more than {MOST_NODES:,} operations, and would take minutes to trace and compile",
                "write it with operations of whole tensors instead of their elements",
            )
        node = Node(op, args, shape, dtype, self._where)
        self.nodes.append(node)
        return node

    def take_apart(self, operation: Operation, args: Any, kwargs: Any) -> Any:
        name = operation.name
        if any(self.writes.changes(operation.in_order(args, kwargs)[i]) for i in INDICES.get(name, ())):
            raise self.refusal(name, "the index changes from step to step", "use torch.where")
        elementary = name.removeprefix("prims::")
        if elementary in OPERATIONS and OPERATIONS[elementary].is_elementwise:
            with self:
                return getattr(aten, elementary)(*args, **kwargs)
        with self, stand_ins():
            if name in IN_TURNS:
                a, *rest = operation.in_order(args, kwargs)
                with torch.no_grad(), self.words(name):
                    result = IN_TURNS[name](partial(self._loop, self), self.node(a), a, *rest)
            elif name in OURS:
                with self.words(name):
                    result = OURS[name](*operation.in_order(args, kwargs))
            else:
                result = decomposition(operation.func)(*args, **kwargs)
            result = laid_out(name, result)
        if result is NotImplemented:
            raise self.refusal(name, "fastpoly has no rule for it", "write it with elementary operations")
        if isinstance(result, Traced) and any(result is leaf for leaf in leaves(args)):
            return self.traced(result.node, result.kind)  # autograd wants a tensor that is not what it gave
        return result

    def kind(self, like: torch.Tensor, device: torch.device, offset: int = 0) -> Kind:
        kind = Kind(tuple(like.shape), like.stride(), like.dtype, device, int(like.storage_offset()) + offset)
        return self.only(kind)

    def only(self, kind: Kind) -> Kind:
        """The object that stands for all kinds like this one, by which plans are found."""
        return self.kinds.setdefault((kind.shape, kind.strides, kind.dtype, kind.device, kind.offset), kind)

    def traced(self, node: Node, kind: Kind) -> Traced:
        traced: Traced = without_values(Traced, kind.shape, kind.strides, kind.dtype, kind.device, kind.offset)
        traced._node, traced._tracer, traced.kind = node, self, kind
        traced.memory, traced.seen = Storage(node, in_numbers(kind), self.nodes), 0
        self.made.append(weakref.ref(traced))
        return traced


MOST_NODES = 1_000_000
"""Of a trace, before equal iterations are one: at what a node takes (`bench/tracing.py`) some 20 seconds."""

BRANCHES = frozenset({"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "allclose"})
"""What gives Python a value, or a shape that depends on one."""
