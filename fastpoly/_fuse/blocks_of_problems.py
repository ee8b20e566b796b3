"""The loop over blocks of problems: each runs through all of its steps before the next one begins.

It is machine code, so that threads take blocks from one counter without Python between them. A block is a call of a
fused kernel (see `machine.Kernel`) on its own part of `carry` and `out`. The steps are taken in portions, so that whoever
waits can stop them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from fastpoly_kernels import machine_code, processor
from fastpoly_kernels.aside import aside

from .machine import optimised

NEXT, STOP, FINISHED = range(3)
"""What stands in `shared`: the next block, whether to stop, and behind these a 1 for each block that is finished."""

TEXT = """
target triple = "{triple}"
define i64 @{symbol}(ptr %kernel, ptr %shared, i64 %blocks, ptr %carry, i64 %carry_bytes, ptr %data, ptr %scratch,
                     ptr %out, i64 %row_bytes, i64 %rows, i64 %steps, i64 %every, i64 %wait, i64 %portion) nounwind {{
entry:
  %stop = getelementptr i64, ptr %shared, i64 1
  %flags = getelementptr i64, ptr %shared, i64 2
  %out_bytes = mul i64 %row_bytes, %rows
  br label %next
next:
  %block = atomicrmw add ptr %shared, i64 1 monotonic
  %more = icmp slt i64 %block, %blocks
  br i1 %more, label %begin, label %end
begin:
  %carry_at = mul i64 %block, %carry_bytes
  %out_at = mul i64 %block, %out_bytes
  %own = getelementptr i8, ptr %carry, i64 %carry_at
  %first = getelementptr i8, ptr %out, i64 %out_at
  br label %head
head:
  %taken = phi i64 [ 0, %begin ], [ %after, %again ]
  %due = phi i64 [ %wait, %begin ], [ %due_after, %again ]
  %row = phi ptr [ %first, %begin ], [ %row_after, %again ]
  %stopped = load atomic i64, ptr %stop monotonic, align 8
  %stops = icmp ne i64 %stopped, 0
  br i1 %stops, label %end, label %run
run:
  %left = sub i64 %steps, %taken
  %few = icmp slt i64 %left, %portion
  %count = select i1 %few, i64 %left, i64 %portion
  %did = call i64 %kernel(ptr %own, ptr %data, ptr %scratch, ptr %row, i64 %count, i64 %every, i64 %due)
  %after = add i64 %taken, %count
  %short = icmp slt i64 %did, %count
  %all = icmp sge i64 %after, %steps
  %over = or i1 %short, %all
  br i1 %over, label %finished, label %again
again:
  %beyond = sub i64 %count, %due
  %nonnegative = add i64 %beyond, %every
  %less = sub i64 %nonnegative, 1
  %times = sdiv i64 %less, %every
  %none = icmp sle i64 %beyond, 0
  %written = select i1 %none, i64 0, i64 %times
  %ahead = mul i64 %written, %every
  %next_due = add i64 %due, %ahead
  %due_after = sub i64 %next_due, %count
  %row_at = mul i64 %written, %row_bytes
  %row_after = getelementptr i8, ptr %row, i64 %row_at
  br label %head
finished:
  %flag = getelementptr i64, ptr %flags, i64 %block
  store atomic i64 1, ptr %flag monotonic, align 8
  br label %next
end:
  ret i64 0
}}
"""


@cache
def loop_over_blocks() -> Callable[..., int]:
    """The machine code: of addresses and numbers, as TEXT has them. It runs without the GIL."""
    return aside(_linked)


def _linked() -> Callable[..., int]:
    key = machine_code.key(TEXT)
    code = machine_code.linked(key, lambda symbol: optimised(TEXT.format(symbol=symbol, triple=processor.triple())))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kinds = [pointer, pointer, number, pointer, number, pointer, pointer, pointer, *[number] * 6]
    function = code.function(number, *kinds)

    def run(*arguments: int) -> int:
        return int(function(*arguments))

    run.code = code  # type: ignore[attr-defined]  # it lives as long as this does
    return run
