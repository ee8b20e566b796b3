"""The machine code of the loop kernel is what it is meant to be. Facts of instructions, not of seconds."""

import platform
import re

import numpy as np
import pytest

from fastpoly_kernels.descent import descend
from fastpoly_kernels.simd import register_bits

X86 = platform.machine() in ("x86_64", "AMD64")
REGISTER = {512: "zmm", 256: "ymm", 128: "xmm"}


def assembly(arithmetic, storage, degree=4):
    """The kernel's own assembly, without numba's wrappers around it."""
    x = np.zeros(3, arithmetic)
    start = tuple(arithmetic(0) for _ in range(degree + 1))
    descend(x, x, start, arithmetic(1), 0, 1, 0, np.zeros(0, storage))
    for signature in descend.signatures:
        types = (signature[0].dtype.name, signature[7].dtype.name, len(signature[2]))
        if types == (np.dtype(arithmetic).name, np.dtype(storage).name, degree + 1):
            text = descend.inspect_asm(signature)
            start = re.search(r"^_ZN16fastpoly_kernels7descent7descend\w*:", text, re.MULTILINE).end()
            return text[start : text.index(".Lfunc_end", start)]
    raise AssertionError("the kernel was not compiled")


CASES = [(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.float32)]


@pytest.fixture(autouse=True, scope="module")
def compiled_here(tmp_path_factory):
    """Machine code from the disk cache cannot be looked at: compile in this process."""
    cache = descend._cache
    kept = descend.overloads.copy()
    descend.overloads.clear()
    descend._cache = type("Nothing", (), {"load_overload": lambda *_: None, "save_overload": lambda *_: None})()
    yield
    descend._cache = cache
    descend.overloads.update(kept)


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_packed_fma_in_the_widest_registers(arithmetic, storage):
    text = assembly(arithmetic, storage)
    suffix = "pd" if arithmetic is np.float64 else "ps"
    packed = re.findall(rf"vf[n]?madd\d+{suffix}\s[^\n]*%{REGISTER[register_bits()]}\d+", text)
    # degree 4: four for Horner's rule and one for the sum of squares, in the main loop and in the masked rest
    assert len(packed) >= 2 * 5


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_accumulators_stay_in_registers(arithmetic, storage):
    """No vector register is stored to memory within the loop that takes most samples, the one with most packed fma."""
    text = assembly(arithmetic, storage)
    lines = text.splitlines()
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops = []
    for i, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", line)
        if jump and labels.get(jump[1], i) < i:
            body = lines[labels[jump[1]] : i]
            if not any(re.match(r"\s+(j\w+|call)", inner) for inner in body):  # innermost
                loops.append(body)
    hot = max(loops, key=lambda body: sum("madd" in line for line in body))
    assert sum("madd" in line for line in hot) >= 5
    stores = [line for line in hot if re.match(r"\s+vmov\w+\s+%[xyz]mm\d+,.*\(", line)]
    assert stores == []


@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_nothing_is_called_in_the_loop(arithmetic, storage):
    """Neither numba's reference counting nor a libm function."""
    assert not re.findall(r"\bcallq?\b", assembly(arithmetic, storage))


def test_the_kernel_releases_the_gil():
    assert descend.targetoptions["nogil"] is True
