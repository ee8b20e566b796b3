"""What does the drop-in gain over the loop that it replaces?"""

import numpy as np
import pytest

from fastpoly import reference, train
from fastpoly._post import REFERENCES, STEPS


@pytest.mark.benchmark(group="bars")
def test_train_against_the_numpy_loop(benchmark, versus, post):
    x, y = (samples.reshape(-1, 1) for samples in post)
    printed = REFERENCES["mixed"]
    result, few = train(x, y), STEPS // 20 if benchmark.enabled else 500
    assert result["w"].ravel() == pytest.approx(printed.weights, abs=printed.tolerance)
    assert np.array_equal(reference.train(x, y, nSteps=few)["mseTrace"], result["mseTrace"][:few])
    versus(
        (f"numpy loop (from {few:,} steps)", lambda: reference.train(x, y, nSteps=few)),
        ("train", lambda: train(x, y)),
        rounds=9,
        inner=(1, 10),
        times=(STEPS / few, 1),
        at_least=1500,
        source="docs/bars.md: promises",
    )
