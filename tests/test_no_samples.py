"""Nothing to sum: an empty batch, a mask that leaves nothing, tensors with a dimension of size 0. As torch has it."""

import pytest
import torch

from fastpoly import DivergenceWarning, descend

X = torch.ones(5, dtype=torch.float64)
NONE = X[5:]
WIDE = torch.ones(3, 0, dtype=torch.float64)

LOSSES = {
    "a slice that leaves nothing": lambda p, x: (p - 1) ** 2 + ((x[5:] - p) ** 2).sum(),
    "a mask that leaves nothing": lambda p, x: ((x[x > 3] - p) ** 2).sum() + p * p,
    "a product": lambda p, x: (NONE * p).prod() * p,
    "a norm": lambda p, x: (NONE * p).norm() + p * p,
    "logsumexp": lambda p, x: torch.logsumexp(NONE * p, 0).exp() + p * p,
    "a running sum": lambda p, x: torch.cumsum(NONE * p, 0).sum() + p * p,
    "joined with something": lambda p, x: torch.cat([NONE * p, x * p]).sum() ** 2,
    "rows without columns": lambda p, x: ((WIDE * p).sum(1) - p).sum() ** 2,
    "means of nothing are nan": lambda p, x: torch.nan_to_num((WIDE * p).mean(1) + p).sum() ** 2 + p * p,
    "a matrix product over nothing": lambda p, x: ((WIDE @ (p * torch.ones(0, 2, dtype=torch.float64))) + p).sum() ** 2,
    "nothing but that": lambda p, x: ((NONE - p) ** 2).sum(),
}


def run(loss, backend):
    return descend(loss, torch.tensor(0.7, dtype=torch.float64), X, learn_rate=0.01, steps=3, backend=backend)


@pytest.mark.parametrize("name", LOSSES)
def test_as_eager(name):
    eager, fused = run(LOSSES[name], "eager"), run(LOSSES[name], "fused")
    assert torch.allclose(fused.params, eager.params, rtol=1e-12, atol=0)  # sums of a few numbers, in another order
    assert torch.allclose(fused.loss, eager.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_the_mean_of_an_empty_batch_is_nan_and_ends_the_run(backend):
    with pytest.warns(DivergenceWarning, match="diverged at step 0"):
        result = run(lambda p, x: ((NONE - p) ** 2).mean(), backend)
    assert result.steps == 0
    assert result.params.item() == 0.7


def test_auto_says_nothing_of_it():
    assert run(LOSSES["a slice that leaves nothing"], "auto").backend == "fused"
