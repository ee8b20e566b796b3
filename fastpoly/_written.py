"""What a loss changes beside its params, and what is carried for that: tensors that it writes to, as BatchNorm does to
its statistics, and what random numbers come of.

Requirements: nobody says which these are; all loops take a step for a function and call it as often as they like, so a
write that it makes by itself would count calls and not steps; a loss that writes to nothing pays nothing. So whoever
calls the loss first notices, a tracer, which cannot have such a write, or a call with values; the tensors are found
by one call that is watched and undone, and the run begins anew with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ._draws import rule_of
from ._fuse.arguments import Operation, leaves
from ._torch_private import LightDispatchMode, attributes, storage


class Uncarried(BaseException):
    """A loss changes what is not carried yet. No error: nobody but the run itself may catch it.

    Attributes:
        tensors: it writes to these; none if they are not known yet.
        draws: does it draw random numbers?
    """

    def __init__(self, tensors: Sequence[torch.Tensor] = (), draws: bool = False) -> None:
        super().__init__()
        self.tensors, self.draws = list(tensors), draws


class Watch(LightDispatchMode):  # type: ignore[no-untyped-call]
    """Finds what is written to while it is active, and draws; if there are such, undoes them and raises Uncarried.

    Args:
        own: tensors that may be written to; so may all that is made meanwhile.
        may_draw: are draws no news?
    """

    def __init__(self, own: Sequence[torch.Tensor], may_draw: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = {storage(tensor) for tensor in own}
        self._found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._operations: dict[int, Operation] = {}
        self._may_draw, self._draws = may_draw, False
        self._generator = torch.get_rng_state()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = self._operations.get(id(func))
        if operation is None:
            operation = self._operations[id(func)] = Operation(func, {})
        for tensor in operation.targets(args, kwargs):
            whole = tensor if tensor._base is None else tensor._base
            if storage(whole) not in self._own:
                self._found.setdefault(storage(whole), (whole, whole.detach().clone()))
        self._draws |= not self._may_draw and rule_of(func, kwargs) is not None
        result = func(*args, **kwargs)
        self._own.update(_memories(result) - _memories(args, kwargs))
        return result

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if not (self._found or self._draws) or (error[0] is not None and not issubclass(error[0], Exception)):
            return
        with torch.no_grad():
            for tensor, before in self._found.values():
                tensor.copy_(before)
        torch.set_rng_state(self._generator)
        if error[0] is None:
            raise Uncarried([tensor for tensor, _ in self._found.values()], self._draws)


def _memories(*values: Any) -> set[int]:
    tensors = (leaf for leaf in leaves(*values) if isinstance(leaf, torch.Tensor))
    return {storage(tensor) for tensor in tensors if tensor.layout == torch.strided}


def can_be_carried(tensor: torch.Tensor) -> bool:
    """Can it be a tensor that changes from step to step?"""
    return tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_complex()) and tensor.is_contiguous()


@contextmanager
def kept_tensors(module: torch.nn.Module) -> Iterator[None]:
    """While it lasts, a module may assign its buffers and other tensors anew; at the end they are the tensors that they
    were, which got what was assigned. What is of another shape or dtype stays as it was assigned.
    """
    places = (place for one in module.modules() for place in attributes(one))
    items = ((place, name, value) for place in places for name, value in place.items())
    before = [item for item in items if isinstance(item[2], torch.Tensor)]
    try:
        yield
    except BaseException:
        for place, name, tensor in before:
            place[name] = tensor
        raise
    assigned = []
    for place, name, tensor in before:
        value = place.get(name)
        is_like = isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (tensor.shape, tensor.dtype)
        if is_like and value is not tensor:
            assigned.append((tensor, value))
            place[name] = tensor
    with torch.no_grad():
        for tensor, value in assigned:
            tensor.copy_(value)
