"""Triton's interpreter, made fit for our kernels; imported first of all in a process that interprets.

Triton chooses its interpreter when it is imported, tl's own functions included, so that no process can both compile and
interpret. Four things are put right here:

- libdevice is machine code of the GPU, which the interpreter cannot run: numpy stands in for it, function by function.
  What those functions give is NVIDIA's affair; that they are there by these names and compile is tested elsewhere.
- What `range` counts to and what `tl.arange` begins at are arrays of one element. Triton 3.6 makes a number of these by
  `int`, which numpy takes for arrays without dimensions only, from 2.4 on.
- Programs of a grid run one after the other, so that one that waits for the others would wait for ever. Here each has a
  thread, and they count each other by the same atomic additions.
- A comparison's bools become floats when they are made a block, as their handle keeps the dtype of what was compared.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

import inspect
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

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


# -- the programs of a grid

own = threading.local()
"""What a thread has for itself: `place`, of its program in the grid."""

InterpreterBuilder.grid_idx = property(
    lambda builder: getattr(own, "place", None), lambda builder, place: setattr(own, "place", place)
)


class AllAtOnce:
    """A kernel's function. It is called for one program after the other, and runs all of them with the last."""

    def __init__(self, function):
        self.function = function
        self.__signature__ = inspect.signature(function)
        self.places = []

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __call__(self, **arguments):
        self.places.append(own.place)
        places, count = self.places, math.prod(interpreter.interpreter_builder.grid_dim)
        if len(places) < count:
            return
        self.places, failed = [], []

        def run(place):
            own.place, own.failed = place, failed
            try:
                self.function(**arguments)
            except BaseException:
                failed.append(place)
                raise

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(run, places))


_init = GridExecutor.__init__


def init(self, fn, arg_names, grid, *rest):
    _init(self, fn, arg_names, grid, *rest)
    if grid != (1,):
        self.fn = AllAtOnce(fn)


GridExecutor.__init__ = init

_create_atomic_rmw = InterpreterBuilder.create_atomic_rmw


def create_atomic_rmw(self, *arguments):
    """As Triton's own; but nobody waits for a program that has failed, and whoever waits lets others run."""
    assert not getattr(own, "failed", []), f"the programs {own.failed} have failed"
    time.sleep(1e-4)
    return _create_atomic_rmw(self, *arguments)


InterpreterBuilder.create_atomic_rmw = create_atomic_rmw
