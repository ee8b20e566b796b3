"""torch's own optimizers as rules of a descent: their `step` is traced, or run, on tensors of ours.

An optimizer of torch.optim asks its tensors for numbers where it can, and computes with those, in double. Here it gets
a tensor in place of each number; and where an operation wants a number, it is written out as a product. Some decide by
such a number what they do: they are told that their step is captured, and compute with tensors alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.overrides import TorchFunctionMode

from ._errors import UnsupportedOperationError
from ._problem import shown
from ._torch_private import has_step_hooks, in_tensors
from .optimizers import FunctionalOptimizer

State: TypeAlias = "list[dict[str, torch.Tensor]]"
"""For each param what the optimizer keeps of it, by torch's names."""

CHOICES = {"foreach": False, "fused": False, "capturable": False, "differentiable": False}
"""Ways to compute the same: one tensor after the other."""

CAPTURED = ("RAdam", "ASGD", "Rprop")
"""Those that decide by numbers, or write to parts of tensors."""

NOT_A_RULE = {
    "LBFGS": "it asks for the loss several times a step; call fastpoly.value_and_grad in its closure",
    "SparseAdam": "it wants sparse gradients; torch.optim.Adam takes dense ones",
}


@dataclass(frozen=True)
class Group:
    """Params with options of their own.

    Attributes:
        places: which of the params they are.
        options: by torch's names.
    """

    places: tuple[int, ...]
    options: dict[str, Any]


class TorchRule(FunctionalOptimizer):
    """See `FunctionalOptimizer`.

    Attributes:
        cls: the class of torch.optim.
        groups: of the params.
        theirs: the caller's object and its params, if that is what was given.
    """

    def __init__(
        self, cls: Any, groups: Sequence[Group], structure: Any, theirs: tuple[Any, list[torch.Tensor]] | None = None
    ) -> None:
        super().__init__(None, structure)
        reason = NOT_A_RULE.get(cls.__name__)
        if reason is not None:
            raise ValueError(f"optimizer: torch.optim.{cls.__name__} cannot be a rule of descend: {reason}")
        self.cls, self.groups, self.theirs = cls, groups, theirs
        self.own_rates = None if theirs is None else [float(group.options["lr"]) for group in groups]
        self.given_state = self._given_state()

    wants_rate = True

    def _given_state(self) -> State | None:
        """What the caller's object keeps of the params, once it has taken a step."""
        if self.theirs is None or not all(self.theirs[0].state.get(param) for param in self.theirs[1]):
            return None
        optimizer, params = self.theirs
        return [self._kept(optimizer.state[param], param) for param in params]

    def write_back(self, state: Any) -> None:
        """Let the caller's object have this state."""
        if self.theirs is not None and state is not None:
            optimizer, params = self.theirs
            for param, kept in zip(params, state, strict=True):
                own = optimizer.state[param]
                for name, value in kept.items():
                    dtype = torch.float32 if value.ndim == 0 and name in COUNTS else None
                    own[name] = value.detach().to(dtype, copy=True)

    def _called(
        self, params: Sequence[torch.Tensor], grads: Sequence[torch.Tensor], state: Any, rate: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], Any]:
        is_captured = self.cls.__name__ in CAPTURED
        own = [param.detach().clone() for param in params]
        for param, grad in zip(own, grads, strict=True):
            param.grad = grad.detach()
        groups = [{**group.options, "params": [own[i] for i in group.places]} for group in self.groups]
        options = self.groups[0].options if self.theirs is None else {}
        optimizer = self.cls(groups, **options)
        for at, group in enumerate(optimizer.param_groups):
            group.update({key: value for key, value in CHOICES.items() if key in group})
            if is_captured:
                group["capturable"] = True
            if rate is not None:
                group["lr"] = rate if rate.ndim == 0 else rate[at]
        if state is not None:
            copies = ({name: value.clone() for name, value in kept.items()} for kept in state)
            optimizer.state.update(zip(own, copies, strict=True))
        with in_tensors(as_if_compiling=is_captured), _Tensors(own[0].dtype, is_captured):
            inspect.unwrap(self.cls.step)(optimizer)  # without torch's hooks, which import its compiler
        return own, [self._kept(optimizer.state[param], param) for param in own]

    def _kept(self, state: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is kept of a param, as tensors. What is captured computes with them: as torch does, in double."""
        kept: dict[str, torch.Tensor] = {}
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                if self.cls.__name__ in CAPTURED and value.ndim == 0 and name in COUNTS:
                    value = value.float().to(param.dtype)
                kept[name] = value
            elif isinstance(value, int | float):
                kept[name] = param.new_tensor(float(value))
            elif value is not None:
                raise UnsupportedOperationError(
                    f"optimizer: {self.cls.__name__} keeps {shown(value)} in its state, which is no tensor. Way out: "
                    "fastpoly.optimizers, or a function (params, grads, state) -> (params, state)"
                )
        return kept


COUNTS = ("step", "mu_product", "eta", "mu")
"""Numbers that torch.optim keeps in float32, whatever its params are."""

MADE = ("tensor", "as_tensor", "zeros", "ones")
"""How torch.optim makes its counts."""

DIFFERENCES = {"__rsub__": -1, "rsub": -1, "__sub__": 1, "sub": 1}
"""1 - a and a - 1, by the sign of a."""


class _Tensors(TorchFunctionMode):
    """Numbers are tensors of this dtype here, and no operation asks for their values.

    1 - beta ** t is written as -expm1(t log(beta)): where torch has numbers of Python's it has all digits of it, and in
    float32 the difference of 1 and 0.999 would keep four.
    """

    def __init__(self, dtype: torch.dtype, is_captured: bool) -> None:
        super().__init__()
        self.dtype, self.is_captured = dtype, is_captured
        self._powers: dict[int, tuple[torch.Tensor, float, torch.Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if name == "item" and args[0].ndim == 0:
            return args[0].to(self.dtype)
        if kwargs.get("out") is not None:
            return kwargs.pop("out").copy_(func(*args, **kwargs))
        for key in ("alpha", "value"):
            if isinstance(kwargs.get(key), torch.Tensor):
                factor = kwargs.pop(key)
                args = (args[0], args[1] * factor, *args[2:])
        if name in DIFFERENCES and id(args[0]) in self._powers and isinstance(args[1], int | float) and args[1] == 1:
            _, base, exponent = self._powers[id(args[0])]
            return DIFFERENCES[name] * torch.expm1(exponent * math.log(base))
        if name in ("mul_", "__imul__") and isinstance(args[1], torch.Tensor) and args[1].ndim == 0:
            args = (args[0], args[1].to(args[0].dtype))
        result = func(*args, **kwargs)
        if self.is_captured and name in MADE and result.ndim == 0 and result.is_floating_point():
            return result.to(self.dtype)  # as many digits as torch gives it, but others compute with it
        if name == "__rpow__" and isinstance(args[1], float) and 0 < args[1] < 1:
            self._powers[id(result)] = result, args[1], args[0].clone()  # it may be counted on in place
        return result


def of_object(optimizer: torch.optim.Optimizer, params: list[torch.Tensor], structure: Any) -> TorchRule:
    """The rule of an optimizer that holds these params."""
    place = {id(param): at for at, param in enumerate(params)}
    held = [param for group in optimizer.param_groups for param in group["params"]]
    if sorted(map(id, held)) != sorted(place):
        missing = len(place.keys() - set(map(id, held)))
        what = f"{missing} of the params it does not hold" if missing else "params that are none of these"
        raise ValueError(f"optimizer: wants to hold the tensors of params and no others; there are {what}")
    if has_step_hooks(optimizer):
        raise ValueError("optimizer: has hooks on its step, which a compiled loop cannot call; remove them")
    groups = [
        Group(
            tuple(place[id(param)] for param in group["params"]),
            {key: value for key, value in group.items() if key not in ("params", "initial_lr", *CHOICES)},
        )
        for group in optimizer.param_groups
    ]
    return TorchRule(type(optimizer), groups, structure, (optimizer, params))


def of_class(cls: Any, options: dict[str, Any], params: list[torch.Tensor], structure: Any) -> TorchRule:
    """The rule of a class of torch.optim with these options, for params like these."""
    try:
        cls([param.detach() for param in params], **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"optimizer: torch.optim.{cls.__name__}: {error}") from None
    return TorchRule(cls, [Group(tuple(range(len(params))), options)], structure)
