"""Update rules: what a step does with the gradients. Each that torch.optim has is that, with its defaults.

SGD, Adam and AdamW are written here, and Lion and AdaBelief, which torch.optim has not; RMSprop, Adagrad and the others
are torch's own code, traced (`Torch`).

A rule is functional, so that it can be traced: state in, state out. `start` gives the state before the first step, a
list of tensors; `update` takes lists of parameters and gradients and returns the next parameters and the next state.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ._problem import shown, truth
from ._tensors import refuse_changed

if TYPE_CHECKING:
    import torch

    Tensors: TypeAlias = "Sequence[torch.Tensor]"


class Optimizer(Protocol):
    """What `descend` takes for `optimizer`, beside a name or a function."""

    def start(self, params: Tensors) -> list[torch.Tensor]:
        """The state before the first step."""

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The next parameters and the next state."""


def _is_number(value: Any) -> bool:
    # a span of time is numpy's idea of an integer
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.timedelta64))


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False


def _refuse_unless(rule: Any, name: str, least: float = -math.inf) -> None:
    """Raise unless the attribute is a finite number >= `least`."""
    value: Any = getattr(rule, name)
    wants = "a finite number" if least == -math.inf else f"a finite number >= {least}"
    if not _is_number(value):
        raise TypeError(f"{name}: wants {wants}, got {shown(value)} ({type(value).__name__}); {_default(rule, name)}")
    if not (_is_finite(value) and value >= least):
        raise ValueError(f"{name}: wants {wants}, got {shown(value)}; {_default(rule, name)}")


def _refuse_unless_betas(rule: Any) -> None:
    """Raise unless `betas` are two numbers from 0 up to 1."""
    given: Any = rule.betas
    is_pair = isinstance(given, Sequence) and len(given) == 2
    if not is_pair or not all(_is_number(beta) and 0 <= beta < 1 for beta in given):
        got = f"got {shown(given)}; {_default(rule, 'betas')}"
        raise ValueError(f"betas: want two numbers from 0 up to 1, {got}")


def _default(rule: Any, name: str) -> str:
    """A way out of a bad setting."""
    return f"the default is {getattr(type(rule), name)}"


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with momentum if asked for (`torch.optim.SGD`).

    Attributes:
        momentum: how much of the last step goes into this one; 0 for none.
        dampening: how much less of the gradient then goes into it.
        nesterov: look ahead by the momentum.
        weight_decay: this times the parameters is added to the gradients.
        maximize: go up instead of down.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    maximize: bool = False

    def __post_init__(self) -> None:
        _refuse_unless(self, "momentum", 0)
        _refuse_unless(self, "dampening")
        _refuse_unless(self, "weight_decay", 0)
        truth(self.nesterov, "nesterov")
        truth(self.maximize, "maximize")
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError(
                "nesterov: wants a momentum > 0 and no dampening; SGD(momentum=0.9, nesterov=True) has them"
            )

    def start(self, params: Tensors) -> list[torch.Tensor]:
        """Zero velocities, and a 1 that says that this is the first step."""
        if not self.momentum:
            return []
        first = [params[0].new_ones(())] if self.dampening else []
        return [*(param.new_zeros(param.shape) for param in params), *first]

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """v = momentum v + (1 - dampening) g; w -= rate v."""
        if self.maximize:
            grads = [-g for g in grads]
        if self.weight_decay:
            grads = [g + self.weight_decay * p for g, p in zip(grads, params, strict=True)]
        if not self.momentum:
            return [p - rate * g for p, g in zip(params, grads, strict=True)], []
        keep: Any = 1 - self.dampening
        rest: list[torch.Tensor] = []
        if self.dampening:  # torch takes the whole gradient in the first step
            keep = keep + self.dampening * state[-1]
            rest = [state[-1] * 0]
        velocities = [self.momentum * v + keep * g for v, g in zip(state, grads, strict=False)]
        steps = velocities
        if self.nesterov:
            steps = [g + self.momentum * v for g, v in zip(grads, velocities, strict=True)]
        return [p - rate * s for p, s in zip(params, steps, strict=True)], [*velocities, *rest]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1; `torch.optim.Adam`).

    Attributes:
        betas: how much of the running means of the gradients and of their squares is kept in a step.
        eps: added to the root of the mean square.
        weight_decay: this times the parameters is added to the gradients.
        amsgrad: divide by the largest mean square until now (Reddi et al. 2018).
        maximize: go up instead of down.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled = False

    def __post_init__(self) -> None:
        _refuse_unless_betas(self)
        _refuse_unless(self, "eps", 0)
        _refuse_unless(self, "weight_decay", 0)
        truth(self.amsgrad, "amsgrad")
        truth(self.maximize, "maximize")

    def start(self, params: Tensors) -> list[torch.Tensor]:
        """Zero means, and 1 - beta ** 0 for both betas; with amsgrad the largest means, too."""
        zeros = [param.new_zeros(param.shape) for param in (*params, *params)]
        largest = [param.new_zeros(param.shape) for param in params] if self.amsgrad else []
        return [*zeros, params[0].new_zeros(()), params[0].new_zeros(()), *largest]

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """w -= rate * mean / (sqrt(mean square) + eps), both means corrected for their start at zero."""
        n = len(params)
        first, second = self.betas
        if self.maximize:
            grads = [-g for g in grads]
        if self.weight_decay and self.decoupled:
            params = [p - rate * self.weight_decay * p for p in params]
        elif self.weight_decay:
            grads = [g + self.weight_decay * p for g, p in zip(grads, params, strict=True)]
        means = [first * m + (1 - first) * g for m, g in zip(state[:n], grads, strict=True)]
        squares = [second * v + (1 - second) * (g * g) for v, g in zip(state[n : 2 * n], grads, strict=True)]
        # 1 - beta ** t by its own recurrence: in float32 the difference of 1 and 0.999 would keep 4 digits
        complete = [c * beta + (1 - beta) for c, beta in zip(state[2 * n :], self.betas, strict=False)]
        step, root = rate / complete[0], complete[1].sqrt()
        divisors, largest = squares, []
        if self.amsgrad:
            divisors = largest = [v.maximum(most) for v, most in zip(squares, state[2 * n + 2 :], strict=True)]
        after = [p - step * m / (v.sqrt() / root + self.eps) for p, m, v in zip(params, means, divisors, strict=True)]
        return after, [*means, *squares, *complete, *largest]


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019; `torch.optim.AdamW`).

    Attributes:
        weight_decay: rate times this times the parameters is taken off them.
    """

    weight_decay: float = 1e-2
    decoupled = True


@dataclass(frozen=True)
class AdaBelief:
    """Adam with the spread of the gradients about their mean (Zhuang et al. 2020, algorithm 2); torch.optim has none.

    The defaults are the paper's; those of the authors' package differ.

    Attributes:
        betas: how much of the running means of the gradients and of their squared deviations is kept in a step.
        eps: added to the mean squared deviation in each step, and to its root.
        weight_decay: rate times this times the parameters is taken off them.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless_betas(self)
        _refuse_unless(self, "eps", 0)
        _refuse_unless(self, "weight_decay", 0)

    def start(self, params: Tensors) -> list[torch.Tensor]:
        """Zero means, and 1 - beta ** 0 for both betas."""
        zeros = [param.new_zeros(param.shape) for param in (*params, *params)]
        return [*zeros, params[0].new_zeros(()), params[0].new_zeros(())]

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """w -= rate * mean / (sqrt(mean squared deviation) + eps), both means corrected for their start at zero."""
        n = len(params)
        first, second = self.betas
        if self.weight_decay:
            params = [p - rate * self.weight_decay * p for p in params]
        means = [first * m + (1 - first) * g for m, g in zip(state[:n], grads, strict=True)]
        off = [g - m for g, m in zip(grads, means, strict=True)]
        spreads = [second * s + (1 - second) * (d * d) + self.eps for s, d in zip(state[n : 2 * n], off, strict=True)]
        complete = [c * beta + (1 - beta) for c, beta in zip(state[2 * n :], self.betas, strict=True)]  # as in `Adam`
        step, root = rate / complete[0], complete[1].sqrt()
        after = [p - step * m / (s.sqrt() / root + self.eps) for p, m, s in zip(params, means, spreads, strict=True)]
        return after, [*means, *spreads, *complete]


@dataclass(frozen=True)
class Lion:
    """The sign of a mix of momentum and gradient (Chen et al. 2023, algorithm 2); torch.optim has none.

    Attributes:
        betas: how much of the momentum goes into a step, and how much of it is kept.
        weight_decay: rate times this times the parameters is taken off them.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless_betas(self)
        _refuse_unless(self, "weight_decay", 0)

    def start(self, params: Tensors) -> list[torch.Tensor]:
        """Zero momentum."""
        return [param.new_zeros(param.shape) for param in params]

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """w -= rate * (sign(first m + (1 - first) g) + weight_decay w); m = second m + (1 - second) g."""
        first, second = self.betas
        steps = [(first * m + (1 - first) * g).sign() for m, g in zip(state, grads, strict=True)]
        if self.weight_decay:
            steps = [step + self.weight_decay * p for step, p in zip(steps, params, strict=True)]
        after = [p - rate * step for p, step in zip(params, steps, strict=True)]
        return after, [second * m + (1 - second) * g for m, g in zip(state, grads, strict=True)]


NAMES: dict[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "lion": Lion(),
    "adabelief": AdaBelief(),
}


class FunctionalOptimizer:
    """A rule that is a function (params, grads, state) -> (params, state) of the caller's structures.

    Attributes:
        structure: of the params.
        state: the structure of the state, known after the first call of `update_first` or from a given state.
        wants_rate: has it use for a learn rate?
        own_rates: it has its own, for each of its groups of params.
        given_state: the state that it comes with.
    """

    wants_rate = False
    own_rates: list[float] | None = None
    given_state: Any = None

    def write_back(self, state: Any) -> None:
        """The state after the run, for whoever gave the rule."""

    def __init__(self, function: Any, structure: Any) -> None:
        self.function = function
        self.structure = structure
        self.state: Any = None

    def flattened(self, state: Any) -> list[torch.Tensor]:
        """The tensors of a state, whose structure is kept."""
        from ._torch_private import tree

        leaves, self.state = tree.tree_flatten(state)
        return [leaf for leaf in leaves if leaf is not None]

    def update_first(
        self, params: Tensors, grads: Tensors, rate: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """`update` from no state at all."""
        after, state = self._called(params, grads, None, rate)
        return after, self.flattened(state)

    def unflattened(self, leaves: Tensors) -> Any:
        """A state, from its tensors."""
        from ._torch_private import tree

        return tree.tree_unflatten(list(leaves), self.state) if leaves else None

    def update(
        self, params: Tensors, grads: Tensors, state: Tensors, rate: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """See `Optimizer`."""
        from ._torch_private import tree

        after, following = self._called(params, grads, self.unflattened(state), rate)
        leaves, structure = tree.tree_flatten(following)
        if structure != self.state and (state or following is not None):
            raise ValueError(f"optimizer: its state changes its structure from {self.state} to {structure}")
        if not state:
            return after, []
        refuse_changed(leaves, state, "optimizer", "state")
        return after, list(leaves)

    def _called(
        self, params: Tensors, grads: Tensors, state: Any, _: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], Any]:
        from ._torch_private import tree

        ours = [tree.tree_unflatten(list(leaves), self.structure) for leaves in (params, grads)]
        result = self.function(*ours, state)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"optimizer: wants to return (params, state), got {type(result).__name__}")
        leaves, structure = tree.tree_flatten(result[0])
        if structure != self.structure:
            raise ValueError(f"optimizer: returns params of another structure: {structure}, wants {self.structure}")
        refuse_changed(leaves, params, "optimizer", "params")
        return list(leaves), result[1]


class Torch:
    """An optimizer of torch.optim, or a class like those, with options of its own.

    Its learn rate is `descend`'s.

    Args:
        cls: the class, or its name.
        options: what the class takes beside params and lr.
    """

    def __init__(self, cls: Any, **options: Any) -> None:
        self.cls, self.options = cls, options

    def __repr__(self) -> str:
        given = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"Torch({self.cls if isinstance(self.cls, str) else self.cls.__name__}{given})"


TORCHS = {
    name.lower(): name
    for name in ("Adadelta", "Adafactor", "Adagrad", "Adamax", "ASGD", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop")
}
"""By torch's own code, with its defaults: as `Torch(name)`."""

Adadelta, Adafactor, Adagrad, Adamax, ASGD, Muon, NAdam, RAdam, RMSprop, Rprop = (
    partial(Torch, name) for name in TORCHS.values()
)


def resolved(optimizer: Any, structure: Any, params: list[torch.Tensor]) -> Optimizer | FunctionalOptimizer:
    """The rule that `descend` was given: by name, as an object, or as a function of params of that structure.

    Raises:
        ValueError: no such name. TypeError: none of these.
    """
    if isinstance(optimizer, str):
        if optimizer in TORCHS:
            return resolved(Torch(TORCHS[optimizer]), structure, params)
        if optimizer not in NAMES:
            got = f"got {shown(optimizer)}; others are objects of fastpoly.optimizers, or functions"
            raise ValueError(f"optimizer: wants one of {', '.join((*NAMES, *TORCHS))}, {got}")
        return NAMES[optimizer]
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer: wants an object, got the class; write {optimizer.__name__}()")
    import torch

    if isinstance(optimizer, Torch | torch.optim.Optimizer):
        from ._torch_optimizers import of_class, of_object

        if isinstance(optimizer, torch.optim.Optimizer):
            return of_object(optimizer, params, structure)
        cls = getattr(torch.optim, optimizer.cls, None) if isinstance(optimizer.cls, str) else optimizer.cls
        if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
            raise ValueError(f"optimizer: Torch wants a class of torch.optim or its name, got {shown(optimizer.cls)}")
        return of_class(cls, optimizer.options, params, structure)
    if hasattr(optimizer, "start") and hasattr(optimizer, "update"):
        rule: Optimizer = optimizer
        return rule
    if callable(optimizer):
        return FunctionalOptimizer(optimizer, structure)
    got = f"got {shown(optimizer)} ({type(optimizer).__name__}); 'sgd' is plain gradient descent"
    raise TypeError(f"optimizer: wants a name, an object or a function, {got}")
