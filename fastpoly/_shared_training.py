"""A step of a descent whose samples are shared out over the processes of a group."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._group import Group
from ._inside import inside
from ._training import Called, Training


class SharedTraining(Training):
    """As `Training`; value and gradients are those of all processes' samples together.

    Attributes:
        group: the processes.
    """

    group: Group

    def _called(self, parts: dict[str, list[torch.Tensor]]) -> Called:
        """Of all samples; every process must ask at the same time."""
        return self._of(self.group.summed(flattened(self._own(parts))))

    def _own(self, parts: dict[str, list[torch.Tensor]]) -> list[torch.Tensor]:
        """This process's part of the loss and of its gradients."""
        params = parts["params"]
        if not self.group.count:
            return [params[0].new_zeros(()), *(torch.zeros_like(leaf) for leaf in params)]
        called = super()._called(parts)
        return [part * self.group.share for part in (called.value, *called.grads)]

    def _of(self, flat: torch.Tensor) -> Called:
        """The loss and its gradients, of the flat tensor."""
        grads, at = [], 1
        for leaf in self.start:
            grads.append(flat[at : at + leaf.numel()].reshape(leaf.shape))
            at += leaf.numel()
        return Called(flat[0], grads, [], [])

    # -- a step in two functions of flat lists of tensors

    def read_by_the_loss(self) -> list[int]:
        """Which of the tensors loss and gradients depend on: the params, and the place in xs."""
        places = {name: at for at, name in enumerate(name for name, count in self.layout for _ in range(count))}
        return [*range(len(self.start)), *([places["place"]] if self.rows else [])]

    def _inside(self, parts: dict[str, list[torch.Tensor]]) -> dict[str, list[torch.Tensor]]:
        """The same, with places that are seen to lie inside of what they choose from; they do."""
        sizes = {"place": len(self.rows[0]) if self.rows else 0}
        sizes["rate"] = 0 if self.rates.each is None else len(self.rates.each)
        inside = {name: [at.clamp(0, size - 1) for at in parts.get(name, [])] for name, size in sizes.items() if size}
        return parts | inside

    @inside()
    def own_gradients(self, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        """This process's part of the loss and of its gradients, of those tensors."""
        count = len(self.start)
        return self._own(self._inside({"params": leaves[:count], "place": leaves[count:]}))

    def update(self, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        """The loss, NaN where the run ends, and the tensors after a step; of those before it and the flat tensor."""
        *before, flat = leaves
        parts = self._inside(self.parts(before))
        after, (value,), ends = self.updated(parts, self._of(flat), self.rule.update)
        for end in ends:
            value = torch.where(end, torch.nan, value)
        return [value, *(leaf for part in after.values() for leaf in part)]


def flattened(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One after the other."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
