"""What `make gpu` does, in its order: is it right, how fast is it, which of torch's operations are right, the tests.

Times are taken by one process at a time, everything else by as many as pay. The figures that have bars come first.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from . import card
from .driver import Group
from .process import Stage

LIBRARY = (
    "fastpoly/*.py",
    "fastpoly/_backends/*.py",
    "fastpoly/_fuse/*.py",
    "fastpoly/_loops/*.py",
    "kernels/fastpoly_kernels/*.py",
)
"""What runs loops; neither the report nor the command line."""

TESTS = Path(__file__).parents[2] / "tests"
SHARDS = 15
"""Parts of the operator database, all at a time: a lent machine has 16 cores."""


def groups() -> list[Group]:
    """All stages."""
    return [Group(_all_at_a_time(), 2)] if card.EMULATED else _groups()


def _all_at_a_time() -> list[Stage]:
    """All of it where nothing is timed that means anything, in few processes, as most of their time is their start."""
    stages = [stage for group in _groups() for stage in group.stages]
    modules = [stage.command[2] for stage in stages if "gpu.child" in stage.command]
    rest = [stage for stage in stages if "gpu.child" not in stage.command]
    return [Stage(f"units_{half}", _child(*modules[half::2]), 300, unit_seconds=100.0) for half in (0, 1)] + rest


def _groups() -> list[Group]:
    checks = [_units(f"checks_{of}", 100) for of in ("triton", "torch", "descend")]
    return [
        Group([_units("environment", 40)]),
        Group(checks, 3),
        Group(
            [
                _units("checks_capture", 30),
                _units("post", 100),
                _units("kernels", 40),
                _units("jax_scan", 90, "bench/jax_zoo.py"),
                _units("many", 40),
                _units("problems", 60),
                _units("losses", 60),
                _units("sizes", 200, "bench/gpu/larger.py"),
                _units("sizes_jax", 90, "bench/gpu/larger.py"),
                _units("first_calls", 90),
                _units("choices", 90, "bench/gpu/larger.py"),
                _units("growth", 60),
            ]
        ),
        Group(_operations(), SHARDS),
        Group([_tests()]),
    ]


def _units(name: str, seconds: float, *sources: str) -> Stage:
    """A stage of this package."""
    own = f"bench/gpu/{name}.py", "bench/gpu/measure.py", "bench/gpu/card.py", "tests/zoo.py"
    return Stage(name, _child(f"gpu.{name}"), seconds, (*LIBRARY, *own, *sources))


def _child(*modules: str) -> tuple[str, ...]:
    return "-m", "gpu.child", *modules, "--out", "{out}", "--done", "{done}"


def _operations() -> list[Stage]:
    """torch's operator database, in parts."""
    script = "tests/operator_database.py"
    parts, samples = card.full((range(SHARDS), SHARDS), (range(1), 100))
    return [
        Stage(
            f"operations_{part}",
            (script, "--backend", "triton", "--shard", f"{part}/{samples}", "--out", "{out}"),
            200,
            (*LIBRARY, script),
            needs=script,
            one_thread=True,
        )
        for part in parts
    ]


def _tests() -> Stage:
    """`pytest -m gpu`, on as many processes as pay."""
    words = ["-m", "pytest", "-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", "-p", "gpu.ends_of_tests"]
    words += ["--gpu-rows={out}", "--gpu-done={done}", "--continue-on-collection-errors"]
    if card.EMULATED:
        words += ["-p", "emulated_cuda", "tests/test_gpu.py", "-k", "test_optimizers and momentum and cudagraph"]
    else:  # others may need what is not installed there
        words += [f"tests/{file.name}" for file in sorted(TESTS.glob("test_*.py")) if "mark.gpu" in file.read_text()]
        words += ["-n", "8", "--dist", "worksteal"] if importlib.util.find_spec("xdist") else []
    if importlib.util.find_spec("pytest_timeout"):
        words += ["--timeout", "90", "--timeout-method", "thread"]
    return Stage(
        "tests", tuple(words), 200, (*LIBRARY, "tests/*.py", "fastpoly/_cli/*.py"), fine=(0, 1, 5), one_thread=True
    )
