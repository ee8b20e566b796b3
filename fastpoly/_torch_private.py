"""What fastpoly takes from torch that torch does not promise to keep: all of it is here, and each name has a test.

Beside these there are the modules that `_fuse/stand_ins.py` stands in for. torch's own compiler is imported by those
functions alone that need it: that takes seconds.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from operator import attrgetter
from types import FrameType
from typing import Any

import torch
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes

from fastpoly_kernels.forking import new_lock

__all__ = ["TorchDispatchMode", "tree", "without_modes"]

COMPILER = "torch._inductor.compile_fx"
"""The module that torch.compile imports when it is first called."""


class LightDispatchMode(TorchDispatchMode):
    """A TorchDispatchMode that does not import torch's compiler at its first operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Narrowest(LightDispatchMode):
    """While it is active, finds the narrowest floats that are computed.

    Attributes:
        bytes: how many each of them has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 16

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.bytes = min(self.bytes, tensor.element_size())
        return result


class RoundedOtherwise(LightDispatchMode):
    """While it is active, every operation that computes floats finds those it takes a little larger or smaller.

    By up to two roundings each, drawn at random: what comes out shows how much of a result is roundings, also of what
    no input has anything to do with (Monte Carlo arithmetic, D. S. Parker, 1997).

    Args:
        seed: of the numbers drawn.
        eps: one rounding.
    """

    def __init__(self, seed: int, eps: float) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(seed)
        self.eps = eps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = {arg.name for arg in func._schema.arguments if arg.alias_info is not None}
        if not any(arg.alias_info is not None and arg.alias_info.is_write for arg in func._schema.arguments):
            result = func(*args, **kwargs)
            if written or torch.Tag.nondeterministic_seeded in func.tags or not _has_floats(result):
                return result  # a view, a draw, or what is only asked, as whether two numbers are equal
        names = [arg.name for arg in func._schema.arguments]
        args = [self._moved(arg, name in written) for name, arg in zip(names, args, strict=False)]
        return func(*args, **{name: self._moved(arg, name in written) for name, arg in kwargs.items()})

    def _moved(self, arg: Any, is_written: bool) -> Any:
        if isinstance(arg, list | tuple):
            return type(arg)(self._moved(item, is_written) for item in arg)
        if is_written or not isinstance(arg, torch.Tensor) or not arg.is_floating_point() or arg.is_sparse:
            return arg
        signs = torch.randint(-2, 3, arg.shape, generator=self.draws).to(arg)
        return arg * (1 + max(self.eps, torch.finfo(arg.dtype).eps) * signs)


def _has_floats(result: Any) -> bool:
    tensors = result if isinstance(result, tuple | list) else (result,)
    return any(isinstance(tensor, torch.Tensor) and tensor.is_floating_point() for tensor in tensors)


def without_values(
    cls: type[Any],
    shape: Sequence[int],
    strides: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    offset: int = 0,
) -> Any:
    """A tensor of the class `cls` without memory."""
    return torch.Tensor._make_wrapper_subclass(
        cls, shape, strides=strides, storage_offset=offset, dtype=dtype, device=device
    )


def reshaped_in_place(func: Any, args: Sequence[Any], kwargs: Any) -> None:
    """An operation that changes where a tensor says its elements lie, of a tensor without memory."""
    with torch._C._DisableTorchDispatch():
        func(*args, **kwargs)


def changes_shape(func: Any) -> bool:
    """Is it such an operation?"""
    return torch.Tag.inplace_view in func.tags


version: Callable[[torch.Tensor], int] = attrgetter("_version")
"""How often torch has written to a tensor's memory."""


def take_hooks(of: torch.Tensor, own: torch.Tensor) -> None:
    """What is to be done to the gradient of one tensor is done to that of another, which stands for it."""
    for hook in (of._backward_hooks or {}).values():
        own.register_hook(hook)


def has_hooks_behind(tensor: torch.Tensor) -> bool:
    """Is a function to be called when its gradient has been added to `.grad`?"""
    return bool(getattr(tensor, "_post_accumulate_grad_hooks", None))


def has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Is a function to be called before or after each of its steps?"""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def is_watched() -> bool:
    """Is there a TorchDispatchMode that looks at what torch does?"""
    return torch._C._len_torch_dispatch_stack() > 0


def storage(tensor: torch.Tensor) -> int:
    """A number that tensors have in common that share their memory, as long as one of them lives."""
    return tensor.untyped_storage()._cdata


def memory_of(tensor: torch.Tensor) -> int | None:
    """That number; None of a tensor that has no memory of its own, as one within `torch.vmap`."""
    try:
        return storage(tensor)
    except (NotImplementedError, RuntimeError):
        return None


def differentiated() -> int | None:
    """The sequence number of the operation whose gradient autograd is computing in this thread."""
    node: Any = torch._C._current_autograd_node()
    return None if node is None else node._sequence_nr()


def sequence_number() -> int:
    """What autograd gave the last operation that it will differentiate."""
    return torch._C._autograd._get_sequence_nr() - 1


def schema(func: Any) -> Any:
    """An ATen operation's name, arguments and returns."""
    return func._schema


def decomposition(func: Any) -> Callable[..., Any]:
    """torch's, of an ATen operation; it may return NotImplemented.

    As `torch._decomp.core_aten_decompositions` has it, without making that of all operations: what torch registers for
    this one, but its own C++ where that takes it apart and what is registered is of `torch._refs`, made for compilers.
    """
    from torch._decomp import decomposition_table

    registered = decomposition_table.get(func)
    if registered is None:
        return func.decompose
    of_a_compiler = registered.__module__.startswith("torch._refs") and not func._schema.is_mutable
    return func.decompose if of_a_compiler and func._can_decompose() else registered


def with_parameters(module: torch.nn.Module, values: dict[str, torch.Tensor]) -> AbstractContextManager[Any]:
    """While it lasts, the module has these parameters, also where it has one under another name, too."""
    return torch.nn.utils.stateless._reparametrize_module(module, values, tie_weights=True)


_lock = new_lock()
_in_tensors: list[bool] = []  # whether each of the threads that are inside believes that it is compiling
_was_compiling = False


@contextlib.contextmanager
def in_tensors(as_if_compiling: bool) -> Iterator[None]:
    """While it lasts, torch.optim can take tensors for numbers; and may believe that it is compiled."""
    global _was_compiling
    from torch.optim import _adafactor

    with _lock:
        if not _in_tensors:
            _was_compiling = torch.compiler._is_compiling_flag
            _adafactor.max, _adafactor.min = _larger, _smaller  # type: ignore[attr-defined]
        _in_tensors.append(as_if_compiling)
        torch.compiler._is_compiling_flag = _was_compiling or any(_in_tensors)
    try:
        yield
    finally:
        with _lock:
            _in_tensors.remove(as_if_compiling)
            torch.compiler._is_compiling_flag = _was_compiling or any(_in_tensors)
            if not _in_tensors:
                del _adafactor.max, _adafactor.min  # type: ignore[attr-defined]


def _larger(one: Any, other: Any) -> Any:
    return torch.clamp(other, min=one) if isinstance(other, torch.Tensor) else max(one, other)


def _smaller(one: Any, other: Any) -> Any:
    if isinstance(other, torch.Tensor):
        return torch.minimum(one, other) if isinstance(one, torch.Tensor) else torch.clamp(other, max=one)
    return min(one, other)


_calls_checkpoints: ContextVar[bool] = ContextVar("calls_checkpoints", default=False)


@contextlib.contextmanager
def without_checkpoints() -> Iterator[None]:
    """While it lasts, torch.utils.checkpoint calls a function and computes nothing anew for its gradient.

    That is so in this thread alone: others may train at the same time.
    """
    _ask_before_checkpoints()
    token = _calls_checkpoints.set(True)
    try:
        yield
    finally:
        _calls_checkpoints.reset(token)


@cache
def _ask_before_checkpoints() -> None:
    from torch.utils import checkpoint

    def asked(*args: Any, **kwargs: Any) -> Iterator[None]:
        return once() if _calls_checkpoints.get() else torchs(*args, **kwargs)

    def once() -> Iterator[None]:
        yield

    torchs = checkpoint._checkpoint_without_reentrant_generator
    checkpoint._checkpoint_without_reentrant_generator = asked


def attributes(module: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's buffers, and all else that it has."""
    return module._buffers, vars(module)


def restore_weights(weights: list[Any]) -> None:
    """A recurrent layer that was called with others' weights has its own again.

    Such a layer keeps its weights in a list beside its parameters, which `torch.func.functional_call` leaves as it was
    for the call.
    """
    import gc

    for owner in gc.get_referrers(weights):
        of = owner if isinstance(owner, dict) else vars(owner) if isinstance(owner, torch.nn.RNNBase) else {}
        if of.get("_flat_weights") is weights:
            weights[:] = [of["_parameters"].get(name) for name in of["_flat_weights_names"]]


def validates(frame: FrameType | None) -> bool:
    """Is it a distribution that calls us here, to raise ValueError unless its arguments, or a sample, are valid?"""
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("fastpoly."):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename != _DISTRIBUTION:
        return False
    return frame.f_code.co_name in ("__init__", "_validate_sample")


_DISTRIBUTION = torch.distributions.Distribution.__init__.__code__.co_filename


def take_control_flow(called: Callable[[str, Sequence[Any]], Any]) -> None:
    """From now on torch.cond, scan and while_loop are what `called(name, args)` makes of them.

    The name is that of the function that torch would compile; None comes back for what is to be compiled.
    """
    from torch._higher_order_ops import utils

    before = utils._hop_compile_and_call

    def call(function: Any, args: Sequence[Any], kwargs: Any = None) -> Any:
        result = None if kwargs else called(function.__name__, args)
        return before(function, args, kwargs) if result is None else result

    utils._hop_compile_and_call = call


def refused_by_compiler() -> type[Exception]:
    """What torch.compile raises if it does not take a function."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException


def refuse_without_compiler() -> None:
    """Raise RuntimeError if torch's compiler does not know this Python."""
    from torch._dynamo.eval_frame import check_if_dynamo_supported

    check_if_dynamo_supported()


def is_compiler_loaded() -> bool:
    """Has torch.compile been used in this process?"""
    return COMPILER in sys.modules


def forget_capture(device: int, pool: Any) -> None:
    """Tell torch's allocator that a capture is over.

    Up to torch 2.12 it does not hear of one that failed, and would put into this pool whatever is allocated next.
    """
    with contextlib.suppress(AttributeError, RuntimeError):  # a torch that needs no telling raises, or has no such
        torch._C._cuda_endAllocateToPool(device, pool)
        torch._C._cuda_releasePool(device, pool)
