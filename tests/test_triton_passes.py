"""Kernels compiled with few of Triton's passes: by those alone, by nobody else, and quicker."""

import threading

import pytest
import triton
import triton.language as tl
from machine_code_gpu import _taken_apart, compiled_launches
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastpoly_kernels import triton_passes
from fastpoly_kernels.triton_passes import few_passes, with_few_passes


@triton.jit
def halved(x_ptr, steps):
    i = tl.arange(0, 64)
    x = tl.load(x_ptr + i)
    for _ in range(steps):
        x = x - 0.5 * tl.sum(x, 0)
    tl.store(x_ptr + i, x)


def compiled(kernel=halved, signature=None, **options):
    """(the compiled kernel, nanoseconds of the stage whose passes are left out)."""
    found = {}

    def listen(src, metadata, metadata_group, times, cache_hit):
        found.update(times.lowering_stages)

    source = ASTSource(kernel, signature or {"x_ptr": "*fp32", "steps": "i32"}, constexprs={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knobs.compilation, "listener", listen)
        patch.setattr(knobs.compilation, "always_compile", True)
        result = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1, **options})
    return result, found["ttgir"]


def test_the_machine_code_is_the_same():
    all_passes, few = compiled()[0], None
    with few_passes():
        few = compiled()[0]
    codes = [_taken_apart(kernel.asm["cubin"]) for kernel in (all_passes, few)]
    assert codes[0].instructions == codes[1].instructions
    if not triton.__version__.startswith("3.6."):  # which asks nobody what to add to its key
        assert all_passes.hash != few.hash


@pytest.mark.slow
def test_the_passes_left_out_are_most_of_their_stages_time():
    import test_fused_gpu

    from fastpoly._fuse.gpu_program import OPTIONS

    kernel, text, warps = test_fused_gpu.written("tanh-network", "float32")
    assert type(kernel) is triton_passes._InRegisters, text
    signature = dict.fromkeys(("carry", "data", "scratch", "out"), "*fp32")
    signature |= {"stopped": "*i32", "steps": "i32", "every": "i32", "wait": "i32"}
    options = {"num_warps": warps, **OPTIONS}
    whole = compiled(kernel, signature, **options)[1]
    with few_passes():
        assert compiled(kernel, signature, **options)[1] * 3 < whole  # a tenth of it is measured


def test_only_launches_of_these_kernels_have_few_passes(monkeypatch):
    import torch

    asked = []
    monkeypatch.setattr(triton_passes, "_lowered", lambda *arguments: asked.append(arguments[-1]))
    kernels = [triton.jit(halved.fn) for _ in range(3)]
    with_few_passes(kernels[1])
    with_few_passes(kernels[2], through_memory=True)
    with compiled_launches(90), monkeypatch.context() as patch:
        patch.setattr(knobs.compilation, "always_compile", True)
        for kernel in kernels:
            kernel[(1,)](torch.zeros(64), 3)
            assert knobs.runtime.add_stages_inspection_hook is None
    assert asked == [False, True]  # and, as those gave None, all passes ran


def test_other_threads_compile_as_always():
    def ask():
        stages = {"ttgir": "theirs"}
        hook = knobs.runtime.add_stages_inspection_hook
        hook(None, stages, None, None, None)
        answers.append((hook()[0], stages))

    answers = []
    with few_passes():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert knobs.runtime.add_stages_inspection_hook()[0]
    assert answers == [("", {"ttgir": "theirs"})]


def test_somebody_elses_hook_stays(monkeypatch):
    def theirs(*_):
        return "theirs", "theirs"

    monkeypatch.setattr(knobs.runtime, "add_stages_inspection_hook", theirs)
    with few_passes():
        assert knobs.runtime.add_stages_inspection_hook is theirs
    assert knobs.runtime.add_stages_inspection_hook is theirs


def test_an_unknown_triton_runs_all_its_passes(monkeypatch):
    monkeypatch.setattr(triton, "__version__", "4.0.0")
    with few_passes():
        assert knobs.runtime.add_stages_inspection_hook is None
