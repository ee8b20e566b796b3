"""Whether `auto` takes the right backend on a grid that was measured: recomputed from its rows, in a moment."""

from dataclasses import replace
from pathlib import Path

import auto_grid
import pytest

from fastpoly._choice import machines

ROWS = Path(__file__).parents[1] / "tests" / "data" / "auto_grid.jsonl"
"""One core of an AMD EPYC that others used, by the processor's time; see docs/auto.md."""

MEASURED = replace(machines.AVX2, threads=1, fuse=0.7, line=1.5e-2, load=0.08)
"""That core, with what it took to compile a kernel when the rows were measured, by way of numba. `auto` weighs what a
compiler takes against what its code saves; the rows do not change when the compiler does."""

VERDICTS = list(auto_grid.verdicts(auto_grid.read(ROWS), MEASURED))


def test_the_grid_has_what_it_should():
    assert {verdict.cell[0] for verdict in VERDICTS} == {"polynomial", "exponential-decay", "softmax", "network"}
    assert {verdict.best for verdict in VERDICTS} >= {"eager", "fused"}
    assert {verdict.steps for verdict in VERDICTS} == set(auto_grid.STEPS)


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda v: f"{auto_grid.name_of(v.cell)} {v.form} {v.steps}")
def test_auto_is_never_far_from_the_best(verdict):
    """A kernel that lies on the disk is taken even where loading it takes longer than all steps would: in a fresh
    process, for a tenth of a second to one, for a run of at most 1,000 steps."""
    loads = verdict.form == "warm" and verdict.taken == "fused" and verdict.steps <= 1_000
    assert verdict.is_allowed or (loads and verdict.seconds < 1.2), verdict
