"""The fused loop of the GPU in Triton's interpreter, on tensors of the CPU; for a process of its own.

Once this is imported, backend="triton" takes tensors of the CPU, too. As a plug-in, `pytest -p interpreted_gpu
tests/test_operations.py` (with tests/ in PYTHONPATH), it makes backend="fused" mean the GPU's loop, so that what the
fused loop of the CPU is tested for, that of the GPU is, too.
"""

import triton_interpreter  # noqa: F401  (before anything else imports triton)

from fastpoly import _run_many
from fastpoly._choice import begin as choice
from fastpoly._fuse import own_operations
from fastpoly._fuse.gpu_program import program
from fastpoly._loops import fused_gpu
from fastpoly._nonlinear import solve

of_a_gpu = fused_gpu.begin
begun = 0
"""Loops on tensors of the CPU."""


def begin(function, inputs, names, stop_at):
    """As `fused_gpu.begin`, which refuses tensors that are on no GPU."""
    if inputs[0].device.type == "cpu":
        global begun
        begun += 1
        return fused_gpu.GpuLoop(program(function, inputs, names, stop_at), inputs)
    return of_a_gpu(function, inputs, names, stop_at)


fused_gpu.begin = begin
_run_many.GPUS = frozenset({"cpu", "cuda"})
own_operations.DEVICES = frozenset()
solve.GPU, solve.missing_triton = "cpu", lambda: None


def pytest_configure():
    choice.asked = begin


def pytest_sessionfinish():
    assert begun, "no test has run a loop of the GPU"
