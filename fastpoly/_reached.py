"""What a loss reaches by another way than its arguments: a trained tensor is trained there, too; others are told of.
What a loss writes to is carried from step to step, and it gets at that in the same way.

A loss may hold its parameters in a list of its own, say for a penalty on all of them. It then computes with the tensors
that the descent started from, and what was meant to be trained would stay as it is. Of a tensor with a gradient that is
none of the params nobody knows what was meant: it stays, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from ._fuse.arguments import leaves, substituted
from ._torch_private import memory_of, storage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Reached:
    """Stands in for the params wherever a loss reaches them.

    Args:
        originals: the params as they were given. Those that require a gradient are what a loss may mean to be trained
            when it has them from elsewhere; a tensor without one is a number like any other.
        tell: is called after the first call of the loss with each tensor that requires a gradient and is none of them.
    """

    def __init__(self, originals: Sequence[torch.Tensor], tell: Callable[[torch.Tensor], None]) -> None:
        self.tell = tell
        self.originals = {id(tensor): at for at, tensor in enumerate(originals) if tensor.requires_grad}
        self.params = list(originals)  # kept, so that no address is used twice
        self._wanted: bool | None = None  # not known before the first call
        self.written: list[torch.Tensor] = []
        self.memories: dict[int | None, int] = {}  # of which each of these has all

    def carry(self, tensor: torch.Tensor) -> bool:
        """Stand in for one more tensor, to which a loss writes; False if that is done already."""
        if storage(tensor) in self.memories:
            return False
        self.memories[storage(tensor)] = len(self.written)
        self.written.append(tensor)
        return True

    def has(self, tensor: torch.Tensor) -> bool:
        """Does something stand in for it?"""
        return id(tensor) in self.originals or self.written_at(tensor) is not None

    def written_at(self, tensor: torch.Tensor) -> int | None:
        """Which of those that are written to has its memory?"""
        return self.memories.get(memory_of(tensor)) if self.written else None

    def by(
        self, own: Sequence[torch.Tensor], written: Sequence[torch.Tensor] = ()
    ) -> AbstractContextManager[_StandIns | None]:
        """While a loss is called with `own` in the order of the originals, and `written` in that of what is carried."""
        if self._wanted is False and not self.written:
            return nullcontext()
        return _StandIns(self, own, written)

    def _ended(self, mode: _StandIns) -> None:
        for tensor in mode.untrained.values():
            self.tell(tensor)  # again in the next call, if it raises
        self._wanted = bool(self._wanted) or mode.met


def untrained(tensor: torch.Tensor) -> str:
    """What to say of a tensor that stays as it is."""
    return (
        f"the loss uses a tensor of shape {tuple(tensor.shape)} that requires a gradient and is none of the params: it "
        "stays as it is. Way out: put it into params, or give the loss tensor.detach()"
    )


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Which elements of its memory a tensor has."""
    return tensor.shape, tensor.stride(), tensor.storage_offset()


class _StandIns(TorchFunctionMode):
    def __init__(self, of: Reached, own: Sequence[torch.Tensor], written: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.of, self.own, self.written = of, own, written
        self._originals: dict[int, torch.Tensor] = {}  # by what stands in for them
        self.met = False
        self.untrained: dict[int, torch.Tensor] = {}
        self._known = {id(tensor): tensor for tensor in own}  # and what the loss makes itself

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
        others = [leaf for leaf in given if not self.of.has(leaf)]
        if self.of._wanted is None:
            self._note(func, others)
        if len(others) < len(given):
            self.met = True
            args, kwargs = substituted(self._replaced, args), substituted(self._replaced, kwargs)
        result = func(*args, **kwargs)
        if self.of._wanted is None:
            self._known |= {id(leaf): leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)}
        # so that `module.count += 1` leaves the module its own tensor
        return self._originals.get(id(result), result)

    def _replaced(self, value: Any) -> Any:
        return self.stand_in(value) if isinstance(value, torch.Tensor) else value

    def stand_in(self, value: torch.Tensor) -> torch.Tensor:
        """What stands in for a tensor; itself if there is no such."""
        at = self.of.originals.get(id(value))
        if at is not None:
            return self.own[at]
        at = self.of.written_at(value)
        if at is None:
            return value
        original, found = self.of.written[at], self.written[at]
        if _place(value) != _place(original):
            return found.as_strided(value.shape, value.stride(), value.storage_offset() - original.storage_offset())
        self._originals[id(found)] = value
        return found

    def _note(self, func: Callable[..., Any], given: Sequence[torch.Tensor]) -> None:
        if func is torch.Tensor.detach:  # it is meant to stay
            return
        for leaf in given:
            if leaf.requires_grad and leaf.is_leaf and id(leaf) not in self._known:
                self.untrained[id(leaf)] = leaf
            if func is torch.autograd.grad:  # the loss takes its derivative: that is what the gradient is for
                self.untrained.pop(id(leaf), None)
                self._known[id(leaf)] = leaf

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if error[0] is None:
            self.of._ended(self)
