"""Triton kernels without a GPU: compiled for one and disassembled, or interpreted in a process of their own.

Triton's package carries its compiler, ptxas, nvdisasm and cuobjdump; with a target named, nothing asks for a driver.
Its interpreter is chosen by TRITON_INTERPRET when triton is imported, tl's own functions included, so that no process
can both compile and interpret: a test that interprets gives its work to the fixture `interpreted` (conftest).
"""

import re
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

ARCHITECTURES = [80, 90]
"""Compute capabilities 8.0 (A100) and 9.0 (H100, H200)."""


@dataclass(frozen=True)
class MachineCode:
    """A compiled kernel, as the GPU runs it.

    Attributes:
        instructions: SASS, one text each, in order, predicate and operands included.
        loops: for each jump backwards, the instructions from where it leads to the jump itself: nested ones hold their
            inner ones, too.
        registers: of 32 bits, of each thread.
        stack, local: bytes of local memory of each thread: anything but 0 is a spill or an array that is indexed.
        shared: bytes of shared memory of a program.
    """

    instructions: tuple[str, ...]
    loops: tuple[tuple[str, ...], ...]
    registers: int
    stack: int
    local: int
    shared: int

    @property
    def longest_loop(self):
        """The outermost, where loops are nested."""
        return max(self.loops, key=len)


def opcodes(instructions):
    """How often each operation occurs, without its modifiers: SHFL, BAR, LDS, STS, LDL, STL, FFMA, DFMA, MUFU ..."""
    return Counter(re.match(r"(?:@!?U?P\w+\s+)?(\w+)", instruction)[1] for instruction in instructions)


def machine_code(kernel, signature, constants=None, *, arch=90, warps=1, attributes=None, **options):
    """Compile a `triton.jit` function and take it apart.

    Args:
        kernel: the function.
        signature: the type of each argument that is no constant: {"x_ptr": "*fp32", "n": "i32"}.
        constants: the values of the arguments that are tl.constexpr.
        arch: compute capability times 10, one of ARCHITECTURES.
        warps: num_warps.
        attributes: as ASTSource takes them; {(0,): [["tt.divisibility", 16]]}: the first argument is a multiple of 16.
        options: further ones of the compiler (num_stages, enable_fp_fusion ...).
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = constants or {}
    types = {name: "constexpr" if name in constants else signature[name] for name in kernel.arg_names}
    source = ASTSource(kernel, types, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps, **options})
    return _taken_apart(compiled.asm["cubin"])


@contextmanager
def compiled_launches(arch, launched=None):
    """While it lasts, kernel[grid](...) compiles the kernel for `arch` and runs nothing, though all else of a launch is
    done: arguments are bound and their types found. Yields the list to which each launch adds its MachineCode.
    To the list `launched` it adds its options, and its grid as "grid"."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import JITFunction, driver

    codes = []
    run = JITFunction.run

    def compile_only(self, *args, grid, warmup, **options):
        if launched is not None:
            launched.append({"grid": grid, **options})
        codes.append(_taken_apart(run(self, *args, grid=grid, warmup=True, **options).asm["cubin"]))

    # Triton keeps kernels by device, so that each architecture is a device of its own
    absent = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", arch, 32),
        get_current_device=lambda: f"absent sm_{arch}",
        get_current_stream=lambda device: 0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_active", absent)
        patch.setattr(JITFunction, "run", compile_only)
        yield codes


def _taken_apart(cubin):
    from triton import knobs

    with TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        listing = _run(knobs.nvidia.nvdisasm.path, "-c", file)
        usage = _run(knobs.nvidia.cuobjdump.path, "-res-usage", file)
    instructions, loops = _instructions(listing)
    used = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    return MachineCode(instructions, loops, used["REG"], used["STACK"], used["LOCAL"], used["SHARED"])


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _instructions(listing):
    instructions, labels = [], {}
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            instructions.append(instruction[1])
    loops = []
    for at, instruction in enumerate(instructions):
        jump = re.search(r"\bBRA\b.*`\((\.L\w+)\)", instruction)
        if jump and labels[jump[1]] < at:  # a jump to itself is what follows the end of a kernel
            loops.append(tuple(instructions[labels[jump[1]] : at + 1]))
    return tuple(instructions), tuple(loops)


def interpret():
    """What the process of the fixture `interpreted` does first, before anything imports triton."""
    import triton_interpreter  # noqa: F401
