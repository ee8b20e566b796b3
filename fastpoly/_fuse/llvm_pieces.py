"""Pieces of LLVM's text: numbers, elementary functions, and how threads meet."""

from __future__ import annotations

import re
import struct
from functools import cache

from fastpoly_kernels.functions import FUNCTIONS

MEET = """
define internal void @meet(ptr %counter, i64 %count) {
  %mine = atomicrmw add ptr %counter, i64 1 acq_rel
  br label %again
again:
  %turns = phi i64 [ 0, %0 ], [ %turn, %patience ], [ %turn, %wait ]
  %come = load atomic i64, ptr %counter acquire, align 8
  %all = icmp sge i64 %come, %count
  br i1 %all, label %met, label %patience
patience:
  %turn = add i64 %turns, 1
  %soon = icmp slt i64 %turn, 4000
  br i1 %soon, label %again, label %wait
wait:
  call i32 @sched_yield()
  br label %again
met:
  ret void
}
declare i32 @sched_yield()
"""
"""One comes to the counter and waits for the others; after so many looks, some microseconds, it lets others run."""


ELEMENT = {"float32": "float", "float64": "double"}
BITS = {"float32": 32, "float64": 64}


def named(line: str) -> str:
    """What a declaration, or a line of metadata, is of."""
    name = re.search(r"""@"?([\w.]+)|^(!\d+)""", line)
    assert name is not None
    return name[0].replace('"', "")


def number(value: float, dtype: str) -> str:
    """A float as LLVM reads it: of either width, the bits of a double."""
    if dtype == "float32":
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"


@cache
def multiples(step: int, lanes: int) -> str:
    """0, step, 2 step, ... as the lanes of a constant register of indices of 32 bits."""
    return ", ".join(f"i32 {step * lane}" for lane in range(lanes))


def formula_text(name: str, dtype: str, lanes: int) -> tuple[str, tuple[str, ...]]:
    """The LLVM function of a formula for one kind of operand, and what it declares."""
    from llvmlite import ir

    from fastpoly_kernels import emitter, formulas

    kind = emitter.SINGLE.kind if dtype == "float32" else emitter.DOUBLE.kind
    if lanes:
        kind = ir.VectorType(kind, lanes)
    module = ir.Module()
    emitter.written(name, formulas.formula(name), module, [kind] * FUNCTIONS[name].operands, "alwaysinline")
    text = re.sub(r" = (fadd|fsub|fmul|fdiv) ", r" = \1 contract ", str(module))
    lines = [line for line in text.split("\n") if not line.startswith((";", "target", "source_filename"))]
    # what formulas say of branches is all that they have of metadata, and the same in each: !0
    once = [line for line in lines if line.startswith(("declare", "!"))]
    return "\n".join(line for line in lines if line not in once), tuple(once)
