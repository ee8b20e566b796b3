"""What the tests of Triton kernels stand on: the disassembly tells the truth, and the interpreter interprets."""

import numpy as np
import pytest
import triton
import triton.language as tl
from machine_code_gpu import ARCHITECTURES, machine_code, opcodes


@triton.jit
def decayed(x_ptr, n, steps, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    for _ in range(steps):
        x = tl.where(i < n, x - 0.5 * tl.sum(x, 0), 0.0)
    tl.store(x_ptr + i, x, mask=i < n)


SIGNATURE = {"x_ptr": "*fp32", "n": "i32", "steps": "i32"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_warp_sums_by_shuffles_alone(arch):
    code = machine_code(decayed, SIGNATURE, {"BLOCK": 32}, arch=arch)
    used = opcodes(code.longest_loop)
    assert used["SHFL"] % 5 == 0 < used["SHFL"]  # log2(32) rounds a step, of as many steps as the loop is unrolled by
    assert used["BAR"] == used["LDS"] == used["STS"] == 0
    assert code.shared == code.local == code.stack == 0
    assert 8 <= code.registers <= 64
    assert sum(opcodes(code.instructions).values()) == len(code.instructions) > len(code.longest_loop)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_two_warps_need_a_barrier_and_shared_memory(arch):
    code = machine_code(decayed, SIGNATURE, {"BLOCK": 64}, arch=arch, warps=2)
    assert {"BAR", "LDS", "STS"} <= set(opcodes(code.longest_loop))


def run_decayed(x, steps):
    import torch

    x = torch.tensor(x)
    decayed[(1,)](x, x.numel(), steps, BLOCK=8)
    return x.numpy()


def test_the_interpreter_gives_numpys_answer(interpreted):
    want = np.array([1, 2, 4], np.float32)
    for _ in range(3):
        want = want - 0.5 * want.sum()
    assert interpreted(run_decayed, np.array([1, 2, 4], np.float32), 3).tolist() == want.tolist()
