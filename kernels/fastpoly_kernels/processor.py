"""The processor that machine code is made for: the one at hand, or what numba's environment variables name.

Hand-written kernels go through numba and generated ones do not, and both must mean the same processor. numba is never
imported to ask; where it has been imported, it has read the same variables.
"""

import os
from functools import cache


@cache
def name() -> str:
    """As LLVM calls it."""
    import llvmlite.binding as llvm

    return os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()


@cache
def features() -> str:
    """What it has, as LLVM wants to be told: "+avx2,-avx512f,..."."""
    import llvmlite.binding as llvm

    told = os.environ.get("NUMBA_CPU_FEATURES")
    if told is not None or name().lower() == "generic":
        return told or ""
    found = llvm.get_host_cpu_features()
    if not _avx_enabled():
        for feature in found:
            if feature.startswith("avx"):
                found[feature] = False
    return str(found.flatten())


def _avx_enabled() -> bool:
    """Does numba use AVX? Not where it is told so, nor on the first processors that had it."""
    told = os.environ.get("NUMBA_ENABLE_AVX")
    if told:
        return told != "0"
    return name() not in {"corei7-avx", "core-avx-i", "sandybridge", "ivybridge", "nocona"}


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
