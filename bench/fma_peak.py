"""How many multiplications and additions a second the processors can do: independent ones, in registers alone."""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from fastpoly._fuse.machine import optimised
from fastpoly._fuse.program import processors
from fastpoly_kernels import machine_code, processor

CHAINS = 12
"""Of them: an fma takes four cycles, and two can begin in each."""

TURNS = 4_000_000

ROUNDS = 12
"""Of which the shortest counts: a peak is what nobody has disturbed."""

TEXT = """
target triple = "{triple}"
define {element} @{symbol}(i64 %turns) nounwind {{
entry:
  br label %head
head:
  %turn = phi i64 [ 0, %entry ], [ %then, %head ]
{phis}
{steps}
  %then = add i64 %turn, 1
  %more = icmp slt i64 %then, %turns
  br i1 %more, label %head, label %end
end:
{sums}
  %one = extractelement {kind} %sum{last}, i64 0
  ret {element} %one
}}
declare {kind} @llvm.fma.{suffix}({kind}, {kind}, {kind})
"""


@cache
def _code(precision: str) -> tuple[Any, int]:
    bits = 64 if precision == "double" else 32
    lanes = processor.register_bits() // bits
    element = "double" if bits == 64 else "float"
    kind, suffix = f"<{lanes} x {element}>", f"v{lanes}f{bits}"
    phis = [f"  %a{k} = phi {kind} [ splat ({element} {k + 1}.0), %entry ], [ %b{k}, %head ]" for k in range(CHAINS)]
    half = f"{kind} splat ({element} 0.5)"
    call = f"call {kind} @llvm.fma.{suffix}"
    steps = [f"  %b{k} = {call}({kind} %a{k}, {half}, {half})" for k in range(CHAINS)]
    sums = [f"  %sum0 = fadd {kind} %b0, %b1"]
    sums += [f"  %sum{k} = fadd {kind} %sum{k - 1}, %b{k + 1}" for k in range(1, CHAINS - 1)]
    fields = dict(element=element, kind=kind, suffix=suffix, last=CHAINS - 2, triple=processor.triple())
    fields |= {"phis": "\n".join(phis), "steps": "\n".join(steps), "sums": "\n".join(sums)}

    def text(symbol: str) -> str:
        return TEXT.format(symbol=symbol, **fields)

    code = machine_code.linked(machine_code.key(text("")), lambda symbol: optimised(text(symbol)))
    result = ctypes.c_double if bits == 64 else ctypes.c_float
    function = code.function(result, ctypes.c_int64)
    function(1)
    return (function, code), lanes


def peak(precision: str) -> float:
    """Of all processors that this process may use, together."""
    (function, _), lanes = _code(precision)
    threads = processors()
    with ThreadPoolExecutor(threads) as pool:
        seconds = min(_seconds(pool, function, threads) for _ in range(ROUNDS))
    return threads * TURNS * CHAINS * lanes / seconds


def _seconds(pool: ThreadPoolExecutor, function: Any, threads: int) -> float:
    """What it takes all threads."""
    started = time.perf_counter()
    list(pool.map(function, [TURNS] * threads))
    return time.perf_counter() - started
