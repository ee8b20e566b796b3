"""The loop over blocks of problems: each runs through all of its steps before the next one begins.

It is machine code, so that threads take blocks from one counter without Python between them. For a block it lays out
what its problems have each for themselves, an element of each in the lanes of a register, calls the fused kernel (see
`machine.Kernel`), and writes back what is asked for. All of that stays in the processor's caches. The steps are taken
in portions, so that whoever waits can stop them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from fastpoly_kernels import machine_code, processor
from fastpoly_kernels.aside import aside

from .llvm_pieces import ELEMENT, number
from .machine import optimised

NEXT, STOP, FINISHED = range(3)
"""What stands in `shared`: the next block, whether to stop, and behind these a 1 for each block that is finished."""

FIELDS = 4
"""Of a table's rows, all 64-bit integers: an address, how many elements a problem has there, how many there are from
one problem to the next (0: all have the same), and where they lie in a problem's `carry`; in `out`, if that is < 0."""

TEXT = """
target triple = "{triple}"
define i64 @{symbol}(ptr %kernel, ptr %shared, i64 %blocks, i64 %lanes, i64 %count, ptr %ins, i64 %last_in,
                     ptr %outs, i64 %last_out, ptr %carry, ptr %data, ptr %scratch, ptr %out, i64 %row, i64 %rows,
                     i64 %steps, i64 %every, i64 %wait, i64 %portion) nounwind {{
entry:
  %stop = getelementptr i64, ptr %shared, i64 1
  %flags = getelementptr i64, ptr %shared, i64 2
  %wide_row = mul i64 %row, %lanes
  %out_size = mul i64 %wide_row, %rows
  %last = sub i64 %count, 1
  br label %next
next:
  %block = atomicrmw add ptr %shared, i64 1 monotonic
  %more = icmp slt i64 %block, %blocks
  br i1 %more, label %begin, label %end
begin:
  %problem = mul i64 %block, %lanes
  call void @lay_out(ptr %ins, i64 %last_in, i64 %problem, i64 %lanes, i64 %last, ptr %carry)
  call void @clear(ptr %out, i64 %out_size)
  br label %head
head:
  %taken = phi i64 [ 0, %begin ], [ %after, %again ]
  %due = phi i64 [ %wait, %begin ], [ %due_after, %again ]
  %at = phi ptr [ %out, %begin ], [ %at_after, %again ]
  %stopped = load atomic i64, ptr %stop monotonic, align 8
  %stops = icmp ne i64 %stopped, 0
  br i1 %stops, label %end, label %run
run:
  %left = sub i64 %steps, %taken
  %few = icmp slt i64 %left, %portion
  %part = select i1 %few, i64 %left, i64 %portion
  %did = call i64 %kernel(ptr %carry, ptr %data, ptr %scratch, ptr %at, i64 %part, i64 %every, i64 %due)
  %after = add i64 %taken, %part
  %short = icmp slt i64 %did, %part
  %all = icmp sge i64 %after, %steps
  %over = or i1 %short, %all
  br i1 %over, label %finished, label %again
again:
  %beyond = sub i64 %part, %due
  %up = add i64 %beyond, %every
  %less = sub i64 %up, 1
  %times = sdiv i64 %less, %every
  %none = icmp sle i64 %beyond, 0
  %written = select i1 %none, i64 0, i64 %times
  %ahead = mul i64 %written, %every
  %next_due = add i64 %due, %ahead
  %due_after = sub i64 %next_due, %part
  %wide = mul i64 %written, %wide_row
  %at_after = getelementptr {element}, ptr %at, i64 %wide
  br label %head
finished:
  call void @write_back(ptr %outs, i64 %last_out, i64 %problem, i64 %lanes, i64 %last, ptr %carry, ptr %out)
  %flag = getelementptr i64, ptr %flags, i64 %block
  store atomic i64 1, ptr %flag release, align 8
  br label %next
end:
  ret i64 0
}}

define internal void @clear(ptr %out, i64 %size) {{
  br label %head
head:
  %i = phi i64 [ 0, %0 ], [ %then, %body ]
  %more = icmp slt i64 %i, %size
  br i1 %more, label %body, label %end
body:
  %at = getelementptr {element}, ptr %out, i64 %i
  store {element} {nan}, ptr %at
  %then = add i64 %i, 1
  br label %head
end:
  ret void
}}
{copies}
"""

COPY = """
define internal void @{name}(ptr %table, i64 %end, i64 %problem, i64 %lanes, i64 %last, ptr %carry{out}) {{
  br label %rows
rows:
  %entry = phi i64 [ 0, %0 ], [ %entry_then, %row_end ]
  %has_row = icmp slt i64 %entry, %end
  br i1 %has_row, label %row, label %done
row:
  %field = mul i64 %entry, {fields}
  %first = getelementptr i64, ptr %table, i64 %field
  %second = getelementptr i64, ptr %first, i64 1
  %third = getelementptr i64, ptr %first, i64 2
  %fourth = getelementptr i64, ptr %first, i64 3
  %address = load ptr, ptr %first
  %elements = load i64, ptr %second
  %apart = load i64, ptr %third
  %place = load i64, ptr %fourth
  {where}
  br label %lanes_head
lanes_head:
  %lane = phi i64 [ 0, %row ], [ %lane_then, %lane_end ]
  %has_lane = icmp slt i64 %lane, %lanes
  br i1 %has_lane, label %lane_begin, label %row_end
lane_begin:
  %wanted = add i64 %problem, %lane
  %there = icmp sle i64 %wanted, %last
  {missing}
one:
  %own = {own}
  %behind = mul i64 %own, %apart
  %problems = getelementptr {element}, ptr %address, i64 %behind
  %lane_at = getelementptr {element}, ptr %base, i64 %lane
  br label %head
head:
  %i = phi i64 [ 0, %one ], [ %then, %body ]
  %more = icmp slt i64 %i, %elements
  br i1 %more, label %body, label %lane_end
body:
  %wide = mul i64 %i, %lanes
  %here = getelementptr {element}, ptr %lane_at, i64 %wide
  %its = getelementptr {element}, ptr %problems, i64 %i
  %value = load {element}, ptr {source}
  store {element} %value, ptr {target}
  %then = add i64 %i, 1
  br label %head
lane_end:
  %lane_then = add i64 %lane, 1
  br label %lanes_head
row_end:
  %entry_then = add i64 %entry, 1
  br label %rows
done:
  ret void
}}
"""

IN = {
    "name": "lay_out",
    "out": "",
    "where": "%wide_place = mul i64 %place, %lanes\n  %base = getelementptr {element}, ptr %carry, i64 %wide_place",
    "missing": "br label %one",  # lanes of no problem do what the last one does
    "own": "select i1 %there, i64 %wanted, i64 %last",
    "source": "%its",
    "target": "%here",
}
OUT = {
    "name": "write_back",
    "out": ", ptr %out",
    "where": "%is_out = icmp slt i64 %place, 0\n  %wide_place = mul i64 %place, %lanes\n"
    "  %in_carry = getelementptr {element}, ptr %carry, i64 %wide_place\n"
    "  %base = select i1 %is_out, ptr %out, ptr %in_carry",
    "missing": "br i1 %there, label %one, label %lane_end",
    "own": "add i64 %wanted, 0",
    "source": "%here",
    "target": "%its",
}


@cache
def loop_over_blocks(dtype: str) -> Callable[..., int]:
    """The machine code for kernels of a dtype: of addresses and numbers, as TEXT has them. It runs without the GIL."""
    return aside(_linked, dtype)


def _linked(dtype: str) -> Callable[..., int]:
    element = ELEMENT[dtype]
    copies = "".join(
        COPY.format(element=element, fields=FIELDS, **{key: text.format(element=element) for key, text in of.items()})
        for of in (IN, OUT)
    )

    def text(symbol: str) -> str:
        nan = number(float("nan"), dtype)
        return TEXT.format(symbol=symbol, triple=processor.triple(), element=element, nan=nan, copies=copies)

    code = machine_code.linked(machine_code.key(text("")), lambda symbol: optimised(text(symbol)))
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    kinds = [pointer, pointer, *[whole] * 3, pointer, whole, pointer, whole, *[pointer] * 4, *[whole] * 6]
    function = code.function(whole, *kinds)

    def run(*arguments: int) -> int:
        return int(function(*arguments))

    run.code = code  # type: ignore[attr-defined]  # it lives as long as this does
    return run
