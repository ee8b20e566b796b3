"""Triton's interpreter, made fit for our kernels; imported first of all in a process that interprets.

Triton chooses its interpreter when it is imported, tl's own functions included, so that no process can both compile and
interpret. Three things are put right here:

- libdevice is machine code of the GPU, which the interpreter cannot run: numpy stands in for it, function by function.
  What those functions give is NVIDIA's affair; that they are there by these names and compile is tested elsewhere.
- What `range` counts to and what `tl.arange` begins at are arrays of one element. Triton 3.6 makes a number of these by
  `int`, which numpy takes for arrays without dimensions only, from 2.4 on.
- A comparison's bools become floats when they are made a block, as their handle keeps the dtype of what was compared.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from fastpoly_kernels.functions import FUNCTIONS


def stand_in(function):
    def applied(*arguments):
        arrays = [argument.handle.data for argument in arguments]
        largest = max(arguments, key=lambda argument: argument.handle.data.size)
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays)).astype(arrays[0].dtype)
        return tl.tensor(TensorHandle(result, largest.handle.dtype), largest.type)

    return applied


for of in FUNCTIONS.values():
    module, _, name = of.triton.rpartition(".")
    if module == "libdevice":
        setattr(libdevice, name, stand_in(of.numpy))
libdevice.exp, libdevice.fast_dividef = stand_in(np.exp), stand_in(np.divide)  # which triton_math calls


def create_splat(self, shape, of):
    """A block of one value, in the dtype of that value."""
    return TensorHandle(np.full(shape.shape, of.data.reshape(-1)[0], of.data.dtype), of.dtype.scalar)


InterpreterBuilder.create_splat = create_splat

_patch_lang_tensor = interpreter._patch_lang_tensor


def patch_lang_tensor(tensor, *scope):
    """As Triton's own, which gives tensors their Python methods at every launch; and then a number is `item`."""
    _patch_lang_tensor(tensor, *scope)
    tensor.__index__ = lambda self: int(self.handle.data.item())


interpreter._patch_lang_tensor = patch_lang_tensor
