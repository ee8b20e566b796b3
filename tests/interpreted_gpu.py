"""The fused loop of the GPU in Triton's interpreter, on tensors of the CPU; for a process of its own.

As a plug-in, `pytest -p interpreted_gpu tests/test_operations.py` (with tests/ in PYTHONPATH), it makes backend="fused"
mean the GPU's loop, so that what the fused loop of the CPU is tested for, that of the GPU is, too.

libdevice is machine code of the GPU, which the interpreter cannot run: numpy stands in for it, function by function.
What those functions give is NVIDIA's affair; that they are there by these names and compile is tested beside.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton

import math

import numpy as np
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from fastpoly._fuse.gpu_program import program
from fastpoly._loops import fused, fused_gpu

BY_MATH = {name: np.vectorize(getattr(math, name), otypes=[float]) for name in ("erf", "erfc", "lgamma")}
RENAMED = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan"}
RENAMED |= {"atanh": "arctanh", "pow": "power", "fast_dividef": "divide"}
SAME_NAME = ["ceil", "cos", "cosh", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2", "rint", "sin"]
SAME_NAME += ["sinh", "sqrt", "tan", "tanh", "trunc"]


def stand_in(function):
    def applied(*arguments):
        arrays = [argument.handle.data for argument in arguments]
        largest = max(arguments, key=lambda argument: argument.handle.data.size)
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays)).astype(arrays[0].dtype)
        return tl.tensor(TensorHandle(result, largest.handle.dtype), largest.type)

    return applied


for name in (*SAME_NAME, *RENAMED):
    setattr(libdevice, name, stand_in(getattr(np, RENAMED.get(name, name))))
for name, function in BY_MATH.items():
    setattr(libdevice, name, stand_in(function))


def create_splat(self, shape, of):
    """The interpreter's own makes floats of a comparison's bools: their handle keeps the dtype of what was compared."""
    return TensorHandle(np.full(shape.shape, of.data.reshape(-1)[0], of.data.dtype), of.dtype.scalar)


InterpreterBuilder.create_splat = create_splat


def begin(function, inputs, names, stop_at):
    """As `fused_gpu.begin`, without a GPU."""
    return fused_gpu.GpuLoop(program(function, inputs, names, stop_at), inputs)


fused.begin = fused_gpu.begin = begin
