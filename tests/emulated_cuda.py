"""A CUDA device that is not there: tensors that say they are on cuda:0, and compute on the CPU.

`pytest -p emulated_cuda -m gpu tests/test_gpu.py` takes what is marked gpu to it; elsewhere `with installed():` does,
in a process that has not imported triton before.

It shows what the CPU does not. Tensors of two devices together are refused where CUDA refuses them, in torch's words.
Memory that nobody has written to is NaN: `torch.empty`, and so the scratch of the fused kernels. Whoever waits for the
device in what a CUDA graph would capture is noticed. It cannot show what machine code does (races, registers, the
digits of libdevice), nor torch's own kernels for CUDA.

To Python its tensors are on "cuda". To C++, where that device has a driver and autograd a thread for it, they are on
"lazy": a device that every build of torch knows and nothing here uses, and whose gradients the calling thread computes.
Triton's kernels are interpreted, a CUDA graph is the function itself, and torch.compile leaves functions as they are.
"""

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import torch
import triton_interpreter  # noqa: F401  (before anything else imports triton)
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

aten = torch.ops.aten

CPU, CUDA, IN_CPP = torch.device("cpu"), torch.device("cuda", 0), torch.device("lazy", 0)

TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"

BETWEEN_DEVICES = {"aten::copy_", "aten::_to_copy", "aten::_local_scalar_dense", "aten::lift_fresh", "aten::set_"}
"""What takes tensors of any two devices."""

INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
"""What takes indices of the CPU for a tensor of the GPU, and not the other way round."""

BESIDE_NUMBERS = {"aten::masked_fill", "aten::masked_fill_", "aten::fill", "aten::fill_", "aten::index_fill"}
"""As elementwise operations: beside tensors of the GPU they take one of the CPU that is a single number."""

EMPTY = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided"}

WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal", "aten::masked_select"}
WAITING |= {"aten::_linalg_check_errors"}
"""Python has the result only when the device has come that far."""

waits = []
"""The operations that have waited for the device so far."""


def is_ours(device):
    """Does it name the emulated device, by either of its names?"""
    if device is None or isinstance(device, int):
        return device is not None
    return torch.device(device).type in (CUDA.type, IN_CPP.type)


# -- the tensors
# ----------------------------------------------------------------------------------------


class OnCuda(torch.Tensor):
    """A tensor of the device; `inner` is the one of the CPU that computes."""

    @staticmethod
    def __new__(cls, inner):
        strides, offset = inner.stride(), inner.storage_offset()
        options = dict(dtype=inner.dtype, layout=inner.layout, requires_grad=inner.requires_grad)
        made = _make_wrapper(cls, inner.shape, strides=strides, storage_offset=offset, device=IN_CPP, **options)
        made.inner = inner.detach()
        return made

    def __repr__(self, *, tensor_contents=None):
        return f"OnCuda({self.inner.tolist()})"

    def data_ptr(self):
        return self.inner.data_ptr()

    def untyped_storage(self):
        return self.inner.untyped_storage()

    def tolist(self):
        waits.append("tolist")
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if not all(kind in (cls, torch.Tensor, torch.nn.Parameter) for kind in types):
            return NotImplemented  # traced, or fake: theirs
        return computed(func, args, kwargs or {})


_make_wrapper = torch.Tensor._make_wrapper_subclass


def computed(func, args, kwargs):
    """What an operation gives that has tensors of the device among its arguments, or is asked for one."""
    name = func._schema.name
    tensors = [leaf for leaf in tree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    refuse_two_devices(func, args, tensors)
    asked = kwargs.get("device")
    to_cpu = asked is not None and not is_ours(asked)
    from_cpu = any(not isinstance(tensor, OnCuda) for tensor in tensors)
    if name in WAITING or (name == "aten::_to_copy" and to_cpu) or (name == "aten::copy_" and from_cpu):
        waits.append(name)
    on_cpu = {**kwargs, "device": CPU} if is_ours(asked) else dict(kwargs)
    if on_cpu.get("pin_memory"):  # which wants a driver
        on_cpu["pin_memory"] = False
    here, there = tree.tree_map_only(OnCuda, lambda tensor: tensor.inner, (args, on_cpu))
    result = func(*here, **there)
    poison(name, result)
    if to_cpu:
        return result
    if name == "aten::copy_" and not isinstance(args[0], OnCuda):
        return args[0]
    if name == "aten::_to_copy" and not any(isinstance(tensor, OnCuda) for tensor in tensors):
        result = result.clone()  # on another device it shares no memory
    result = tree.tree_map(lambda leaf: OnCuda(in_memory(leaf)) if type(leaf) is torch.Tensor else leaf, result)
    if name == "aten::set_" or not tensors:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)


def in_memory(tensor):
    """Autograd's zeros have none, and say so to C++; a tensor around them would not."""
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=CPU) if tensor._is_zerotensor() else tensor


def poison(name, result):
    """Memory that comes as it is, on the CPU, too, holds what must not be used."""
    if name in EMPTY and type(result) is torch.Tensor and result.device == CPU and result.dtype in POISONED:
        result.fill_(float("nan"))
    return result


POISONED = {torch.float32, torch.float64, torch.complex64, torch.complex128}


def refuse_two_devices(func, args, tensors):
    """Raise RuntimeError where CUDA's kernels do."""
    name = func._schema.name
    others = [tensor for tensor in tensors if not isinstance(tensor, OnCuda)]
    if name in BETWEEN_DEVICES or not others or len(others) == len(tensors):
        return
    if name in INDEXING:
        if isinstance(args[0], OnCuda):
            return
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    beside_numbers = torch.Tag.pointwise in func.tags or name in BESIDE_NUMBERS
    if any(tensor.ndim or not beside_numbers for tensor in others):
        raise RuntimeError(f"{TWO_DEVICES} ({name})")


# -- what names the device
# ----------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Operations that no argument brings to the device, but their `device`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        among = {type(leaf) for leaf in tree.tree_leaves((args, kwargs))}
        if is_ours(kwargs.get("device")) and among.isdisjoint({OnCuda, FakeTensor}):
            return computed(func, args, kwargs)
        return poison(func._schema.name, func(*args, **kwargs))


class Functions(TorchFunctionMode):
    """What names the device "cuda" in Python names the lazy one in C++."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if is_name_of_cuda(kwargs.get("device")):
            kwargs["device"] = IN_CPP
        kwargs.pop("pin_memory", None)  # which wants a driver
        if func is torch.Tensor.cuda:
            return args[0].to(IN_CPP)
        if func is torch.Tensor.type:
            return typed(func, *args, **kwargs)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is IN_CPP:
            del kwargs["device"]  # they are filled on the CPU
            return func(*args, **kwargs).to(IN_CPP)
        if func is torch.Tensor.new_tensor and isinstance(args[0], OnCuda) and "device" not in kwargs:
            return torch.tensor(*args[1:], dtype=kwargs.get("dtype", args[0].dtype)).to(IN_CPP)
        if name in ("__getitem__", "__setitem__") and isinstance(args[0], OnCuda):
            index = args[1]
            index = tuple(map(as_index, index)) if isinstance(index, tuple) else as_index(index)
            args = (args[0], index, *args[2:])
        if func is torch.Tensor.to:
            args = tuple(IN_CPP if is_name_of_cuda(argument) else argument for argument in args)
        return func(*args, **kwargs)


def is_name_of_cuda(value):
    if isinstance(value, torch.device):
        return value.type == "cuda"
    return isinstance(value, str) and value.split(":")[0] == "cuda"


def as_index(value):
    """Lists would become tensors in C++."""
    return torch.tensor(value, device="cpu").to(IN_CPP) if isinstance(value, list) else value


TYPES = {"FloatTensor": torch.float32, "DoubleTensor": torch.float64}


def typed(func, tensor, dtype=None, **kwargs):
    """`Tensor.type`, which takes and gives the names of old."""
    if isinstance(dtype, str) and dtype.startswith("torch.cuda."):
        return tensor.to(IN_CPP, TYPES[dtype.rpartition(".")[2]])
    if dtype is None and isinstance(tensor, OnCuda):
        return next(f"torch.cuda.{name}" for name, of in TYPES.items() if of == tensor.dtype)
    return func(tensor, *([] if dtype is None else [dtype]), **kwargs)


PROPERTIES = SimpleNamespace(name="Emulated GPU", multi_processor_count=1)


# -- what stands in for the driver
# ----------------------------------------------------------------------------------------


class Nothing:
    """A context of torch.cuda's: there is only one device."""

    def __init__(self, *of):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


class Rerun:
    """Instead of `fastpoly._loops.capture.CudaCapture`: the function again.

    Raises:
        AssertionError: it waits for the device, which cannot be captured.
    """

    def __init__(self, device):
        assert device == CUDA, device

    def __call__(self, function):
        from fastpoly._loops.replayed import WARM_UPS

        before = len(waits)
        for _ in range(WARM_UPS):
            function()
        assert len(waits) == before, f"waits in what is captured: {waits[before : before + 5]}"
        return function


def stand_in(patch):
    """Make torch and fastpoly take the device for one."""
    from torch._subclasses import fake_tensor

    from fastpoly._fuse import callers
    from fastpoly._loops import capture, compiled

    constants = dict(is_available=True, is_initialized=True, device_count=1, current_device=0, _lazy_init=None)
    constants |= dict(synchronize=None, manual_seed_all=None, get_device_name="Emulated GPU")
    constants |= dict(get_device_capability=(9, 0), get_device_properties=PROPERTIES)
    for name, value in constants.items():
        patch.setattr(torch.cuda, name, lambda *of, value=value: value)
    patch.setattr(torch.cuda, "device", Nothing)
    patch.setattr(torch.cuda, "device_of", Nothing)
    stream = SimpleNamespace(synchronize=lambda: None)
    patch.setattr(torch.cuda, "current_stream", lambda *of: stream)
    patch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
    patch.setattr(fake_tensor, "init_gpu_context", lambda *device: None)
    torch._C._ensureCUDADeviceGuardSet()

    in_cpp = torch.Tensor.device

    def device(tensor):
        where = in_cpp.__get__(tensor)
        return CUDA if where.type == IN_CPP.type else where

    # of every subclass, too, such as what is traced
    patch.setattr(torch.Tensor, "device", property(device))
    patch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: device(tensor) == CUDA))
    patch.setattr(torch.Tensor, "is_cpu", property(lambda tensor: device(tensor).type == "cpu"))

    def wrapper(cls, *args, device=None, **kwargs):
        return _make_wrapper(cls, *args, device=IN_CPP if is_ours(device) else device, **kwargs)

    patch.setattr(torch.Tensor, "_make_wrapper_subclass", staticmethod(wrapper))
    patch.setattr(callers, "NOT_THE_CALLER", (*callers.NOT_THE_CALLER, __file__))

    patch.setattr(capture, "CudaCapture", Rerun)
    patch.setattr(compiled, "unavailable_on_gpu", lambda: None)
    patch.setattr(torch, "compile", lambda function, **options: function)


FakeTensor = None


@contextmanager
def installed():
    """There is a device as long as this lasts, for the thread that asks for it."""
    global FakeTensor
    from torch._subclasses.fake_tensor import FakeTensor

    with ExitStack() as stack:
        stand_in(stack.enter_context(pytest.MonkeyPatch.context()))
        for mode in (Operations(), Functions()):
            stack.enter_context(mode)
        yield


def pytest_configure(config):
    config.stash[DEVICE] = device = ExitStack()
    device.enter_context(installed())


def pytest_unconfigure(config):
    config.stash[DEVICE].close()


DEVICE = pytest.StashKey()
