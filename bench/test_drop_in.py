"""What does the drop-in gain over the loop that it replaces?"""

import pytest

from fastpoly import reference, train
from fastpoly._post import REFERENCES


@pytest.mark.benchmark(group="drop-in")
def test_train_against_the_numpy_loop(versus, post):
    x, y = (samples.reshape(-1, 1) for samples in post)
    printed = REFERENCES["mixed"]
    for result in (train(x, y), reference.train(x, y)):
        assert result["w"].ravel() == pytest.approx(printed.weights, abs=printed.tolerance)
    versus(
        ("numpy loop", lambda: reference.train(x, y)),
        ("train", lambda: train(x, y)),
        rounds=3,
        inner=(1, 25),
        at_least=1500,
    )
