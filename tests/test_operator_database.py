"""No operator of torch's database is fused into other numbers, on the CPU or on the emulated device.

Some of them here, and all when there is time; `operator_database` says what is asked, and runs as a program, too.
"""

from collections import Counter

import pytest
import torch
from operator_database import FUNCTIONS, TOLERANCE, cases, compared, device_for, name_of, operators, run

SOME = ("gradient", "complex", "gather", "scatter", "scatter_add", "tensor_split", "cat", "logsumexp", "amax")
"""What was wrong once, on a GPU or everywhere, and one of each kind besides."""

SHARDS = 15


def rows(backend, part, samples):
    """{operator: its row}, in the process of the fixture `interpreted`; `part` is names, or a shard."""
    device = device_for(backend)
    every = operators()
    ops = every[part::SHARDS] if isinstance(part, int) else [op for op in every if name_of(op) in part]
    with device:
        return {row["op"]: row for row in run(ops, backend, samples=samples, seconds=120)}


def bad(found):
    """What is wrong, and how."""
    return {op: row["samples"] for op, row in found.items() if row["class"] in ("wrong", "crash")}


def worse(on_device, on_cpu):
    """What is right on the CPU, and not on the device; an operator may be too slow for an interpreter."""
    return {
        op: row["samples"]
        for op, row in on_device.items()
        if on_cpu[op]["class"] in ("right", "partly") and row["class"] not in (on_cpu[op]["class"], "slow", "skipped")
    }


def test_some_operators(interpreted):
    on_cpu, on_device = (interpreted(rows, backend, SOME, 1) for backend in ("fused", "triton"))
    assert set(on_cpu) == set(on_device) == set(SOME)
    assert bad(on_cpu) == {}
    assert bad(on_device) == {}
    assert worse(on_device, on_cpu) == {}
    assert sum(row["class"] == "right" for row in on_cpu.values()) > len(SOME) / 2


def outcomes(name, by):
    """How often an operator's samples are right and wrong, of params that are off by so much of how far they moved."""
    (op,) = (op for op in operators() if name_of(op) == name)
    found, _ = cases(op, torch.float64, 4, FUNCTIONS)

    def moved(case):
        return [start + (end - start) * (1 + by) for start, end in zip(case.params, case.after, strict=True)]

    return Counter(compared(case, case.trace, moved(case), TOLERANCE["float64"])["class"] for case in found)


def test_what_eager_torch_rounds_away_is_not_wrong_and_all_else_is(interpreted):
    """Exponentials of 1e14 have lost as many digits of their gradient in eager torch: one sample of two."""
    assert interpreted(outcomes, "matrix_exp", 2e-9) == {"right": 1, "wrong": 1}
    for name in ("matrix_exp", "exp", "linalg.inv"):
        assert set(interpreted(outcomes, name, 1e-7)) == {"wrong"}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_operator(interpreted, shard):
    on_cpu, on_device = (interpreted(rows, backend, shard, 2) for backend in ("fused", "triton"))
    assert bad(on_cpu) == {}
    assert bad(on_device) == {}
    assert worse(on_device, on_cpu) == {}
