"""What a loss reaches by another way than its arguments: a trained tensor is trained there, too; others are told of.

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
        self._kept = list(originals)  # so that no address is used twice
        self._wanted: bool | None = None  # not known before the first call

    def by(self, own: Sequence[torch.Tensor]) -> AbstractContextManager[Any]:
        """While a loss is called with `own`, in the order of the originals."""
        if self._wanted is False:
            return nullcontext()
        return _StandIns(self, own)

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


class _StandIns(TorchFunctionMode):
    def __init__(self, of: Reached, own: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.of, self.own = of, own
        self.met = False
        self.untrained: dict[int, torch.Tensor] = {}
        self._known = {id(tensor): tensor for tensor in own}  # and what the loss makes itself

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in leaves(args, kwargs) if isinstance(leaf, torch.Tensor)]
        if any(id(leaf) in self.of.originals for leaf in given):
            self.met = True
            args, kwargs = substituted(self._stand_in, args), substituted(self._stand_in, kwargs)
        elif self.of._wanted is None:
            self._note(func, given)
        result = func(*args, **kwargs)
        if self.of._wanted is None:
            self._known |= {id(leaf): leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor)}
        return result

    def _stand_in(self, value: Any) -> Any:
        at = self.of.originals.get(id(value))
        return value if at is None else self.own[at]

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
