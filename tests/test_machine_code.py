"""The code of the kernels is what it is meant to be. Facts of instructions, not of seconds."""

import platform
import re
import threading
import time
from functools import cache

import numpy as np
import pytest
import torch
import zoo

from fastpoly import descend as fused
from fastpoly._fuse import machine, program
from fastpoly._fuse.to_llvm import to_llvm
from fastpoly_kernels import machine_code
from fastpoly_kernels.descent import descend
from fastpoly_kernels.gram import descend_abreast
from fastpoly_kernels.processor import register_bits

X86 = platform.machine() in ("x86_64", "AMD64")
REGISTER = {512: "zmm", 256: "ymm", 128: "xmm"}


@pytest.fixture(scope="module")
def assembly():
    """assembly(arithmetic, storage): the kernel's at degree 4."""

    def of(arithmetic, storage):
        x = np.zeros(3, arithmetic)
        return descend.assembly(x, x, (arithmetic(0),) * 5, arithmetic(1), 0, 1, 0, np.zeros(0, storage))

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
    hot = hot_loop(assembly(arithmetic, storage))
    assert sum("madd" in line for line in hot) >= 5
    stores = [line for line in hot if re.match(r"\s+vmov\w+\s+%[xyz]mm\d+,.*\(", line)]
    assert stores == []


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_a_vector_of_samples_costs_fifteen_operations(assembly, arithmetic, storage):
    """At degree 4: 4 fma for the polynomial, the residual, its square, and 5 sums of 4 products. Around them two loads,
    a copy, and the loop's own: 18.5 instructions in all are measured."""
    hot = [line for line in hot_loop(assembly(arithmetic, storage)) if line.startswith("\t")]
    vectors = sum("vsub" in line for line in hot)
    assert vectors > 0
    assert sum(bool(re.match(r"\s+v(sub|mul|add|fn?m)", line)) for line in hot) <= 15 * vectors
    assert len(hot) <= 20 * vectors


def hot_loop(text):
    """The lines of the innermost loop with most packed fma."""
    lines = text.splitlines()
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops = []
    for i, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.L\w+)", line)
        if jump and labels.get(jump[1], i) < i:
            body = lines[labels[jump[1]] : i]
            if not any(re.match(r"\s+(j\w+|call)", inner) for inner in body):  # innermost
                loops.append(body)
    return max(loops, key=lambda body: sum("madd" in line for line in body))


@pytest.mark.parametrize(("arithmetic", "storage"), CASES, ids=["double", "mixed", "single"])
def test_nothing_is_called_in_the_loop(assembly, arithmetic, storage):
    assert not re.findall(r"\bcallq?\b", assembly(arithmetic, storage))


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
def test_the_steps_abreast_are_packed_too():
    """At degree 4: 25 multiplications for the weights' change and 20 for the mse, each for all lanes at once."""
    table = np.zeros((5, 6))
    body = descend_abreast.assembly(table, table, 1.0, 1.0, np.zeros((5, register_bits() // 64)), np.zeros(0))
    assert len(re.findall(rf"vf[n]?m(?:add|sub)\d+pd\s[^\n]*%{REGISTER[register_bits()]}\d+", body)) >= 25
    assert not re.findall(r"\bcallq?\b", body)


def fused_assembly(dtype):
    """Of the kernel that is made of the post's loss and torch's autograd."""
    model, kernels = zoo.model("polynomial", dtype), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "compiled", lambda *of: (kernels.append(of[0]), machine.compiled(*of))[1])
        fused(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=10, backend="fused")
    module, level = machine.optimised(to_llvm(kernels[0], "kernel"))
    return machine_code.target(level).emit_assembly(module)


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_fused_autograd_is_no_more_work_than_the_gradient_by_hand(precision):
    """Its powers are data, so that a vector of samples takes 11 operations instead of 15: 5 from y to the residual, 6
    for the sums. All are fma but those with x**0, which is known to be 1: a subtraction and an addition. The rest of
    the kernel comes once a step or once a call."""
    text = fused_assembly(getattr(torch, precision))
    suffix = "pd" if precision == "float64" else "ps"

    def count(operation):
        return len(re.findall(rf"\b{operation}{suffix}\s", text))

    fused_operations = count(r"vfn?m(?:add|sub)\d+")
    vectors = count("vsub")  # as often as LLVM has written the loop, and the rest, whose sums begin with a product
    rest = int(100 % (register_bits() // (64 if precision == "float64" else 32)) > 0)
    assert vectors >= 1 + rest
    assert fused_operations >= 9 * (vectors - rest) + 4 * rest
    assert count("vmul") <= 5
    assert len(re.findall(r"^\t[^.\s#]", text, re.MULTILINE)) <= 480  # 100 samples in twelve registers, unrolled
    assert not re.findall(r"\bcallq?\b", text)


@pytest.mark.skipif(not X86, reason="reads x86 assembly")
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_what_does_not_fit_into_registers_lies_aligned(precision):
    text = fused_assembly(getattr(torch, precision))
    assert re.search(rf"\bandq?\s+\$-{max(register_bits() // 8, 16)}, %rsp", text)


def test_kernels_release_the_gil():
    x = np.linspace(-1, 1, 100)
    run = threading.Thread(target=descend, args=(x, x, (0.0,) * 5, 1e-3, 10**7, 1, 10**7, np.empty(0)))
    run.start()
    turns = 0
    while run.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 50


def test_what_divides_all_samples_divides_their_sum():
    """Of the three quotients of a Gaussian peak and its gradient, one is left in the loop over the samples."""
    model = zoo.model("gaussian-peak", torch.float64)
    run = fused(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=10, backend="fused")
    turn = run.source[run.source.index("for i in range(") : run.source.index(" = total(")]
    assert sum(" / " in line.split("#")[0] for line in turn.splitlines()) == 1
