"""What FASTPOLY_LOG=1 prints: which backend and why, where its kernel came from, and the seconds of each stage."""

import os
import re
import subprocess
import sys

import pytest

FUSED = """
import torch; from fastpoly import descend
def loss(w, x): return ((w - x) ** 2).mean()
for _ in range({}): descend(loss, torch.zeros(2), (torch.ones(7, 2),), learn_rate=0.1, steps=9, backend='fused')
"""
FIT = "from fastpoly import fit; fit([0, 1, 2, 3], [0, 1, 4, 9], 2)\n"


def told(code, cache, log="1"):
    """The lines on standard error of a fresh process, without their figures."""
    environment = {**os.environ, "FASTPOLY_LOG": log, "FASTPOLY_CACHE_DIR": str(cache)}
    words = [sys.executable, "-c", code]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return [re.sub(r"[\d.]+ s$", "N s", line) for line in run.stderr.splitlines()]


def test_a_kernel_is_compiled_then_found_in_memory_and_on_the_disk(tmp_path):
    lines = told(FUSED.format(2), tmp_path)
    made = ["LLVM: passes: N s", "LLVM: machine code: N s", "link: N s"]
    expected = ["reroll: N s", "trace: N s", "schedule: N s", "write: N s", "kernel from LLVM", *made]
    expected += ["backend fused: it was asked for", "reroll: N s", "trace: N s", "kernel from memory"]
    expected += ["backend fused: it was asked for"]
    assert list(dict.fromkeys(lines[:7])) + lines[7:] == [f"fastpoly: {line}" for line in expected]
    again = told(FUSED.format(1), tmp_path)
    assert again[-3:] == [f"fastpoly: {line}" for line in ("kernel from disk", "link: N s", expected[-1])]


def test_a_fit_says_why(tmp_path):
    assert told(FIT, tmp_path) == [
        "fastpoly: backend spectral: the fastest for 4 samples in double, and what finds the minimum"
    ]


@pytest.mark.parametrize("off", ["", "0"])
def test_it_is_silent_unless_asked(tmp_path, off):
    assert told(FIT + FUSED.format(1), tmp_path, off) == []
