"""As `interpreted_gpu`, for kernels of a grid: the samples in blocks of sixteen, shared by up to three programs.

So what is tested with a hundred samples goes through the meetings of programs, too.
"""

import interpreted_gpu
from interpreted_gpu import pytest_configure  # noqa: F401

from fastpoly._fuse import gpu_builder, gpu_grid, gpu_program

gpu_builder.LARGEST_BLOCK = 16
gpu_grid.MEETING = 1e-15
gpu_program.multiprocessors = lambda: 3

grids = 0
"""Launches of several programs."""

launch = gpu_program.GpuRun._launch


def counted(run, *arguments):
    global grids
    grids += bool(run.shared)
    return launch(run, *arguments)


gpu_program.GpuRun._launch = counted


def pytest_sessionfinish():
    interpreted_gpu.pytest_sessionfinish()
    assert grids, "no test has run several programs"
    print(f"{grids} launches of several programs")
