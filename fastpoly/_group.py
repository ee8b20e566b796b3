"""The processes of a torch.distributed group that share a descent: what they agree on, and the sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from ._errors import GroupError
from ._problem import integer, shown
from ._run_file import digest_of
from ._torch_private import tree

REDUCTIONS = ("mean", "sum")


class Group:
    """See `fastpoly.descend`, whose arguments these are.

    Attributes:
        rank, size: which process this is, and how many there are.
        count: how many samples this one has.
        share: what its loss and gradients are multiplied with before they are added up; known once all `agree`.
    """

    def __init__(self, group: Any, reduction: Any, count: Any, data: Any) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError("group: wants torch.distributed initialised; call dist.init_process_group first")
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group: wants a process group, got {shown(group)}; torch.distributed.group.WORLD is all")
        if reduction not in REDUCTIONS:
            got = f"got {shown(reduction)}; what the loss is of its samples"
            raise ValueError(f"reduction: wants one of {', '.join(REDUCTIONS)}, {got}")
        self._group, self.reduction = group, reduction
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.count = _counted(data) if count is None else integer(count, "count", 0)
        self.share = 1.0

    def agree(self, start: Sequence[torch.Tensor], settings: dict[str, Any]) -> None:
        """Go on together, if all mean the same run.

        Raises:
            ValueError: they do not. GroupError: a process is lost.
        """
        own = {"params": digest_of(start, ()), "reduction": self.reduction, **settings}
        found = self._gathered((self.count, own))
        for name, value in own.items():
            for rank, (_, others) in enumerate(found):
                if others[name] != value:
                    way = (
                        "dist.broadcast from rank 0 makes them the same" if name == "params" else "pass the same to all"
                    )
                    raise ValueError(f"{name}: ranks {min(rank, self.rank)} and {max(rank, self.rank)} differ; {way}")
        whole = sum(count for count, _ in found)
        if not whole:
            raise ValueError("count: no process has samples; pass count=, or data with a leading axis of them")
        if self.reduction == "mean":
            self.share = self.count / whole

    def refuse_failed(self, error: Exception | None) -> None:
        """Raise if this process or another cannot go on, which `error` says."""
        told = self._gathered(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, text in enumerate(told):
            if text is not None:
                raise GroupError(f"group: rank {rank} cannot begin, so that nobody does; look there: {text}")

    def _gathered(self, own: Any) -> list[Any]:
        """What each process has, by rank."""
        found: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(found, own, self._group)
        except RuntimeError as error:
            raise self._lost(error) from error
        return found

    def summed(self, flat: torch.Tensor) -> torch.Tensor:
        """Added up over all processes, in place: the same bits in each.

        Raises:
            GroupError: one is lost.
        """
        return self._reduced(flat, dist.ReduceOp.SUM)

    def any(self, wish: bool, like: torch.Tensor) -> bool:
        """Does any process wish it?"""
        return bool(self._reduced(like.new_tensor(float(wish)), dist.ReduceOp.MAX))

    def same(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Have all processes the same bits? If not, all get those of the first."""
        digest = int(digest_of(tensors, ())[:12], 16)
        ends = self._reduced(torch.tensor([digest, -digest], device=tensors[0].device), dist.ReduceOp.MAX)
        if ends[0] == -ends[1]:
            return True
        for tensor in tensors:
            whole = tensor.contiguous()
            dist.broadcast(whole, group=self._group, group_src=0)
            tensor.copy_(whole)
        return False

    def _reduced(self, tensor: torch.Tensor, how: Any) -> torch.Tensor:
        try:
            dist.all_reduce(tensor, how, self._group)
        except RuntimeError as error:
            raise self._lost(error) from error
        return tensor

    def _lost(self, error: RuntimeError) -> GroupError:
        return GroupError(
            f"group: rank {self.rank} of {self.size} has lost another: it ended, or did not answer in time "
            f"({str(error).splitlines()[0]}). Way out: begin anew from .params, those after .steps steps"
        )


def _counted(data: Any) -> int:
    """How many samples there are: the leading axis of all tensors."""
    tensors = [leaf for leaf in tree.tree_leaves(data) if isinstance(leaf, torch.Tensor) and leaf.ndim]
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1:
        got = "there are none" if not lengths else f"they are {', '.join(map(str, sorted(lengths)))}"
        raise ValueError(f"count: wants how many samples this process has; by the leading axes of its data {got}")
    return lengths.pop()
