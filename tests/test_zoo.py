"""Every model of the zoo: the fused loop takes the same steps as torch's autograd."""

import pytest
import torch
import zoo
from torch.utils import _pytree as tree

from fastpoly import descend, descend_module

DTYPES = (torch.float64, torch.float32)

BOUND = {torch.float64: 1e-10, torch.float32: 1e-4}
"""After 1,000 steps, of each loss, and of the largest entry of each parameter: what was promised. Both loops round
in every step, in different orders; descent carries that along and never blows it up here, so that 2e-14 and 3e-6 are
measured. A factor that is missing anywhere is beyond both bounds after a few steps."""

FEW = {torch.float64: 1e-12, torch.float32: 1e-5}
"""After 50 steps: a tenth and a hundredth of that has had the time to gather."""


def deviations(run, params, losses, of=None):
    """Name to how far off it is: each loss relative to itself or to `of`, params to the largest entry of a tensor."""
    assert run.loss.dtype == losses.dtype
    assert run.loss.shape == losses.shape
    assert tree.tree_structure(run.params) == tree.tree_structure(params)
    least = torch.finfo(losses.dtype).tiny  # a loss of exactly zero has to be met exactly
    found = {"loss": float(((run.loss - losses).abs() / (losses if of is None else of).clamp_min(least)).max())}
    for (path, want), got in zip(tree.tree_flatten_with_path(params)[0], tree.tree_leaves(run.params), strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        found[f"params{tree.keystr(path)}"] = float((got - want).abs().max() / want.abs().max().clamp_min(least))
    return found


def beyond(bound, found):
    """Those that are off by more, NaN included."""
    return {name: value for name, value in found.items() if not value <= bound}


def fused(model, steps, **options):
    return descend(
        model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=steps, backend="fused", **options
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=["double", "single"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_thousand_steps(name, dtype):
    model = zoo.model(name, dtype)
    run = fused(model, 1000)
    assert beyond(BOUND[dtype], deviations(run, *zoo.eager(model, 1000))) == {}
    assert (run.backend, run.steps, run.diverged_at) == ("fused", 1000, None)


LARGE = ("gelu-network", "layer-norm")  # compiled for seconds, and descended beside


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in zoo.NAMES]
)
def test_a_hundred_steps_of_adam(name):
    """No more than 100: see zoo.Model.learn_rate."""
    model = zoo.model(name, torch.float64)
    run = fused(model, 100, optimizer="adam")
    assert beyond(BOUND[torch.float64], deviations(run, *zoo.eager(model, 100, "adam"))) == {}


SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 33, 64)
"""One sample; fewer than a register's 8 doubles or 16 floats, one register exactly, one and a rest of 1, several; and
the lengths up to which an axis is written out instead of looped over, and one more."""


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param("multi-output", torch.float64, id="multi-output"),
        pytest.param("damped-sine", torch.float64, id="damped-sine"),
        pytest.param("damped-sine", torch.float32, id="damped-sine-single"),
        pytest.param("softmax", torch.float64, id="softmax"),
        pytest.param("linear-64", torch.float64, id="linear-64"),
    ],
)
def test_any_number_of_samples(name, dtype, n):
    model = zoo.model(name, dtype, n)
    params, losses = zoo.eager(model, 50)
    # 64 weights fit few samples exactly, and then the loss is but rounding: so it is measured by the first one
    assert beyond(FEW[dtype], deviations(fused(model, 50), params, losses, of=losses[0])) == {}


def test_a_module_is_trained_in_place():
    """The same numbers as `descend` over its parameters, and then they are the module's own."""
    model = zoo.model("gelu-network", torch.float64)
    before = dict(model.module.named_parameters())
    run = descend_module(
        model.module, model.module_loss, model.data, learn_rate=model.learn_rate, steps=50, backend="fused"
    )
    assert beyond(FEW[torch.float64], deviations(run, *zoo.eager(model, 50))) == {}
    for name, parameter in model.module.named_parameters():
        assert parameter is before[name]
        assert parameter.requires_grad
        assert torch.equal(parameter, run.params[name])
