"""The processor that machine code is made for: the one at hand, or what $FASTPOLY_CPU and $FASTPOLY_CPU_FEATURES name.

Both are said in LLVM's words: "nehalem", and "+sse4.2,-avx"; of a processor that is named without features only its
name is known.
"""

import os
from functools import cache

SLOW_AVX = {"corei7-avx", "core-avx-i", "sandybridge", "ivybridge", "nocona"}
"""The first processors that had AVX: what moves data into and out of such a register costs more than it saves."""


@cache
def name() -> str:
    """As LLVM calls it."""
    import llvmlite.binding as llvm

    return os.environ.get("FASTPOLY_CPU") or llvm.get_host_cpu_name()


@cache
def features() -> str:
    """What it has, as LLVM wants to be told: "+avx2,-avx512f,..."."""
    import llvmlite.binding as llvm

    told = os.environ.get("FASTPOLY_CPU_FEATURES")
    if told is not None or os.environ.get("FASTPOLY_CPU"):
        return told or ""
    found = llvm.get_host_cpu_features()
    if name() in SLOW_AVX:
        found.update({feature: False for feature in found if feature.startswith("avx")})
    return str(found.flatten())


@cache
def triple() -> str:
    """Of this process."""
    import llvmlite.binding as llvm

    return str(llvm.get_process_triple())


def has(feature: str) -> bool:
    """Does it have this feature, by LLVM's name?"""
    return f"+{feature}" in features().split(",")


def register_bits() -> int:
    """Bits of its widest vector register."""
    return 512 if has("avx512f") else 256 if has("avx") else 128


def has_fma() -> bool:
    """Does it multiply and add with one rounding? Only old x86 does not."""
    return not triple().startswith(("x86", "i386", "i686")) or has("fma")
