"""What fastpoly takes from torch that torch does not promise to keep: all of it is here, and each name has a test.

torch's own compiler is imported by those functions alone that need it: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["TorchDispatchMode", "decomposition_table", "tree"]


class LightDispatchMode(TorchDispatchMode):
    """A TorchDispatchMode that does not import torch's compiler at its first operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def wrapper(
    cls: type[Any], shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
) -> Any:
    """A tensor of the class `cls` without values."""
    return torch.Tensor._make_wrapper_subclass(cls, shape, strides=strides, dtype=dtype, device=device)


def storage(tensor: torch.Tensor) -> int:
    """A number that tensors have in common that share their memory, as long as one of them lives."""
    return tensor.untyped_storage()._cdata


def differentiated() -> int | None:
    """The sequence number of the operation whose gradient autograd is computing in this thread."""
    node: Any = torch._C._current_autograd_node()
    return None if node is None else node._sequence_nr()


def sequence_number() -> int:
    """What autograd gave the last operation that it will differentiate."""
    return torch._C._autograd._get_sequence_nr() - 1


def decomposition(func: Any) -> Callable[..., Any]:
    """torch's, of an ATen operation; it may return NotImplemented.

    As `torch._decomp.core_aten_decompositions` has it, without making that of all operations: what torch registers for
    this one, but its own C++ where that takes it apart and what is registered is of `torch._refs`, made for compilers.
    """
    registered = decomposition_table.get(func)
    if registered is None:
        return func.decompose
    of_a_compiler = registered.__module__.startswith("torch._refs") and not func._schema.is_mutable
    return func.decompose if of_a_compiler and func._can_decompose() else registered


def with_parameters(module: torch.nn.Module, values: dict[str, torch.Tensor]) -> AbstractContextManager[Any]:
    """While it lasts, the module has these parameters, and others that are the same tensor with them."""
    return torch.nn.utils.stateless._reparametrize_module(module, values, tie_weights=True)
