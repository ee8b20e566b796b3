"""train is a drop-in for the post's: same names, same kinds, same digits."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from conftest import POST
from raw_runs import fit

from fastpoly import BackendUnavailableError, DivergenceWarning, reference, train

FLAGS = [
    dict(zip(("use_torch", "use_autograd", "use_gpu"), values, strict=True))
    for values in itertools.product((False, True), repeat=3)
]
NEEDS_GPU = [pytest.param(f, marks=pytest.mark.gpu) if f["use_gpu"] else f for f in FLAGS]


def test_the_signature_is_the_posts():
    ours, posts = (inspect.signature(f).parameters for f in (train, reference.train))
    assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in posts.values()]


def test_the_posts_printed_digits(post):
    result = train(*post)
    printed = POST["train_numpy_float32_weights"]
    assert result["w"].ravel() == pytest.approx(printed["w"], abs=2e-7)  # every digit that the post prints
    assert [f"{mse:.8f}" for mse in result["mseTrace"][-3:]] == ["0.00790985", "0.00790982", "0.00790979"]
    assert result["mseTrace"][:3] == pytest.approx(printed["mseTrace_first"], abs=5e-8)


@pytest.mark.parametrize("flags", [{"use_torch": True}, {"use_autograd": True}])
def test_the_posts_printed_torch_digits(post, flags):
    result = train(*post, **flags)
    printed = POST["train_torch_float32"]
    assert result["w"].detach().ravel().tolist() == pytest.approx(printed["w"], abs=5.5e-5)
    assert result["mseTrace"][-3:].tolist() == pytest.approx(printed["mseTrace_last"], abs=5.5e-5)


@pytest.mark.parametrize("flags", NEEDS_GPU, ids=lambda flags: "+".join(f for f, on in flags.items() if on) or "numpy")
def test_everything_returned_is_of_the_references_kind(post, flags):
    ours, posts = (f(*post, nSteps=40, **flags) for f in (train, reference.train))
    assert list(ours) == list(posts)
    for key, value in posts.items():
        mine = ours[key]
        assert type(mine) is type(value), key
        if key in ("w", "mseTrace"):
            assert mine.shape == value.shape
            assert mine.dtype == value.dtype
            if isinstance(value, torch.Tensor):
                assert mine.device == value.device
                assert mine.requires_grad == value.requires_grad
                assert mine.is_leaf == value.is_leaf
                mine, value = mine.detach().cpu().numpy(), value.detach().cpu().numpy()
            assert mine == pytest.approx(value, rel=1e-5, abs=1e-7)
        elif key != "seconds":
            assert mine == value


@pytest.mark.parametrize("steps", [40_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_the_whole_trace_is_the_references(post, steps):
    ours, posts = train(*post, nSteps=steps), reference.train(*post, nSteps=steps)
    # both round to float32 after every step; where a value lies on the edge, one rounding apart
    assert ours["w"] == pytest.approx(posts["w"], abs=6e-8)
    assert ours["mseTrace"] == pytest.approx(posts["mseTrace"], rel=1.2e-6)


def test_other_degrees_rates_and_lengths(post):
    ours, posts = (f(*post, nSteps=777, learnRate=2e-3, degree=2) for f in (train, reference.train))
    assert ours["w"] == pytest.approx(posts["w"], abs=2e-7)
    assert ours["learnRate"] == 2e-3


def test_zero_steps(post):
    result = train(*post, nSteps=0)
    assert np.array_equal(result["w"], np.zeros((5, 1), np.float32))
    assert result["mseTrace"].shape == (0,)


@pytest.mark.parametrize("flags", [{}, {"use_torch": True}, {"use_autograd": True}])
@pytest.mark.parametrize(
    ("steps", "rate", "scale"),
    [(200, 1e-3, 1), (11, 1e-3, 1), (12, 1e-3, 1), (300, 1e-5, 1e20)],
    ids=["to-nan", "one-after", "two-after", "only-the-mse"],
)
def test_after_divergence_all_is_as_the_loop_leaves_it(post, flags, steps, rate, scale):
    x, y = post
    with pytest.warns(DivergenceWarning):
        ours = train(x, y * scale, nSteps=steps, learnRate=rate, **flags)
    with np.errstate(all="ignore"):
        posts = reference.train(x, y * scale, nSteps=steps, learnRate=rate, **flags)
    assert ours["mseTrace"].shape == (steps,)
    for key in ("w", "mseTrace"):
        mine, value = (np.asarray(r[key].detach() if flags else r[key], float) for r in (ours, posts))
        assert mine == pytest.approx(value, rel=2e-4, nan_ok=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_use_gpu_without_cuda_is_a_clear_error(post):
    with pytest.raises(BackendUnavailableError, match=r"use_gpu=True cannot run here: .*CUDA"):
        train(*post, use_gpu=True)


def test_mistakes_are_told_in_the_posts_names(post):
    with pytest.raises(ValueError, match="nSteps: wants an integer >= 0, got -1"):
        train(*post, nSteps=-1)
    with pytest.raises(ValueError, match="learnRate: wants a positive finite number, got 0"):
        train(*post, learnRate=0)


def test_train_is_fit_in_other_words(post):
    assert np.array_equal(train(*post)["w"].ravel(), fit(*post, precision="mixed").weights)
    assert np.array_equal(train(*post)["w"].ravel(), fit(*post, precision="mixed", backend="numba").weights)
    assert np.array_equal(train(*post, use_torch=True)["w"].ravel(), fit(*post, precision="single").weights)
