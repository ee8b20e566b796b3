"""Where does autograd's time go? The ladder from the post's loop to the fused one, and the parts of a step."""

import pytest

from fastpoly.profiling import autograd_ladder, step_split
from fastpoly.profiling.rounds import PARTS_ROUNDS, ROUNDS

EXPLAINED = 0.15
"""How far the parts, each measured by itself, may be from the first rung: what neighbours on a shared machine add."""


@pytest.mark.benchmark(group="ladder")
@pytest.mark.slow  # its answers are checked in tests/test_profiling.py
def test_the_ladder_explains_the_post_s_loop(benchmark):
    """Each rung's weights are found right before it is timed; the removed parts add up to the first rung's time."""
    rounds = 1 if benchmark.disabled else ROUNDS
    ladder = benchmark.pedantic(lambda: autograd_ladder(rounds=rounds), rounds=1)
    split = step_split(rounds=rounds * PARTS_ROUNDS // ROUNDS)
    benchmark.extra_info.update(kind="ladder", name="the post's autograd loop", device=ladder.device)
    benchmark.extra_info.update(ladder.as_json(), split=split.as_json(), split_total_ns=split.total_ns)
    assert ladder.measured[0].name == "the post's loop"
    assert ladder.last.name == "fused"
    if not benchmark.disabled:
        assert ladder.explained == pytest.approx(1, abs=EXPLAINED)
