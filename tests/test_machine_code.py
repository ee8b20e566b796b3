"""The machine code of the kernels is what it is meant to be. Facts of instructions, not of seconds."""

import platform
import re
from functools import cache

import numba
import numpy as np
import pytest

from fastpoly_kernels.descent import descend
from fastpoly_kernels.gram import descend_abreast, descend_moments
from fastpoly_kernels.moments import power_sums
from fastpoly_kernels.simd import register_bits

X86 = platform.machine() in ("x86_64", "AMD64")
REGISTER = {512: "zmm", 256: "ymm", 128: "xmm"}


@pytest.fixture(scope="module")
def assembly():
    """assembly(arithmetic, storage): the kernel's own assembly at degree 4, without numba's wrappers around it."""
    # A kernel from the disk cache has no assembly to show, so one is compiled here.
    fresh = numba.jit(**descend.targetoptions)(descend.py_func)

    def of(arithmetic, storage):
        x = np.zeros(3, arithmetic)
        fresh(x, x, (arithmetic(0),) * 5, arithmetic(1), 0, 1, 0, np.zeros(0, storage))
        text = fresh.inspect_asm(fresh.signatures[-1])
        start = re.search(r"^_ZN16fastpoly_kernels7descent7descend\w*:", text, re.MULTILINE).end()
        return text[start : text.index(".Lfunc_end", start)]

    return cache(of)


CASES = [(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.float32)]


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_packed_fma_in_the_widest_registers(assembly, arithmetic, storage):
    text = assembly(arithmetic, storage)
    suffix = "pd" if arithmetic is np.float64 else "ps"
    packed = re.findall(rf"vf[n]?madd\d+{suffix}\s[^\n]*%{REGISTER[register_bits()]}\d+", text)
    # degree 4: four for Horner's rule and one for the sum of squares, in the main loop and in the masked rest
    assert len(packed) >= 2 * 5


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_accumulators_stay_in_registers(assembly, arithmetic, storage):
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
def test_nothing_is_called_in_the_loop(assembly, arithmetic, storage):
    """Neither numba's reference counting nor a libm function."""
    assert not re.findall(r"\bcallq?\b", assembly(arithmetic, storage))


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
def test_the_steps_abreast_are_packed_too():
    """At degree 4: 25 multiplications for the weights' change and 20 for the mse, each for all lanes at once."""
    fresh = numba.jit(**descend_abreast.targetoptions)(descend_abreast.py_func)
    table = np.zeros((5, 6))
    fresh(table, table, 1.0, 1.0, np.zeros((5, register_bits() // 64)), (0.0,) * 5, np.zeros(0))
    text = fresh.inspect_asm(fresh.signatures[-1])
    start = re.search(r"^_ZN16fastpoly_kernels4gram15descend_abreast\w*:", text, re.MULTILINE).end()
    body = text[start : text.index(".Lfunc_end", start)]
    assert len(re.findall(rf"vf[n]?m(?:add|sub)\d+pd\s[^\n]*%{REGISTER[register_bits()]}\d+", body)) >= 25
    assert not re.findall(r"\bcallq?\b", body)


@pytest.mark.parametrize("kernel", [descend, descend_moments, descend_abreast, power_sums])
def test_kernels_release_the_gil(kernel):
    assert kernel.targetoptions["nogil"] is True
