"""A step of eager autograd taken apart: its loss, its backward pass and its update as functions of nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .. import reference
from .._post import samples
from .._torch_private import tree


@dataclass(frozen=True, eq=False)
class EagerStep:
    """A step that can be taken again and again.

    Attributes:
        forward: the loss, with its graph.
        clear: gets the parameters' gradients ready to be written.
        update: the parameters after backward, and the trace of the loss that it is given.
        leaves: the parameters, as tensors.

    A learn rate of 0 makes a step that does what any step does and leaves the values where they are, however often it
    is taken: what is timed then does not depend on how often.
    """

    forward: Callable[[], torch.Tensor]
    clear: Callable[[], None]
    update: Callable[[torch.Tensor], None]
    leaves: list[torch.Tensor]

    def step(self) -> None:
        """The whole of it."""
        value = self.forward()
        self.clear()
        value.backward()  # type: ignore[no-untyped-call]
        self.update(value)


def post_samples() -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of the post as its torch loops have them: float32 columns."""
    x, y = samples()
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def as_tuple(data: Any) -> tuple[Any, ...]:
    """What a loss takes besides the params; a single thing need not be a tuple."""
    return data if isinstance(data, tuple) else (data,)


def post_step(x: torch.Tensor, y: torch.Tensor, degree: int) -> EagerStep:
    """The step of `fastpoly.reference.autograd_step` and of the line that records its mse; the learn rate is 0."""
    w = x.new_zeros(degree + 1, 1).requires_grad_()
    trace = x.new_zeros(1)

    def forward() -> torch.Tensor:
        y_model = reference.poly(x, w)
        mse: torch.Tensor = ((y - y_model) ** 2).mean()
        return mse

    def clear() -> None:
        if w.grad is not None:
            w.grad.data.zero_()

    def update(mse: torch.Tensor) -> None:
        assert w.grad is not None
        w.data -= 0.0 * w.grad.data
        trace[0] = mse.data

    return EagerStep(forward, clear, update, [w])


def own_step(loss: Callable[..., torch.Tensor], params: Any, data: Sequence[Any], learn_rate: float = 0.0) -> EagerStep:
    """The step of a plain training loop: gradients None, backward, an update of each parameter in place."""
    start, structure = tree.tree_flatten(params)
    leaves = [leaf.detach().clone().requires_grad_() for leaf in start]
    own = tree.tree_unflatten(leaves, structure)

    def forward() -> torch.Tensor:
        return loss(own, *data)

    def clear() -> None:
        for leaf in leaves:
            leaf.grad = None

    def update(value: torch.Tensor) -> None:
        with torch.no_grad():
            for leaf in leaves:
                if leaf.grad is not None:
                    leaf.sub_(leaf.grad, alpha=learn_rate)
        value.detach()

    return EagerStep(forward, clear, update, leaves)
