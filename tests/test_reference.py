"""The yardstick gives the numbers that the post prints."""

import numpy as np
import pytest
import torch
from conftest import POST

from fastpoly import reference
from fastpoly._post import REFERENCES

KEYS = ["mseTrace", "w", "learnRate", "seconds", "use_torch", "use_autograd", "use_gpu"]


def test_first_step_gradient(post):
    x, y = post
    w = np.zeros((5, 1))
    reference.numpy_step(x, y, w, 1.0)  # from zeros with rate 1, the weights are minus the gradient
    assert -w.ravel() == pytest.approx(POST["first_step_gradient"], abs=1e-8)  # printed to 8 decimals


def test_first_step_gradient_by_autograd(post):
    x, y = (torch.from_numpy(a).float() for a in post)
    w = torch.zeros(5, 1, requires_grad=True)
    reference.autograd_step(x, y, w, 1e-5)
    assert w.grad.ravel().tolist() == pytest.approx(POST["first_step_gradient"], rel=1e-5)


def test_numpy_loop_prints_what_the_post_prints(post):
    result = reference.train(*post)
    printed = POST["train_numpy_float32_weights"]
    # numpy prints float32 with the digits that tell it from its neighbours: equal to half a unit of the last one
    assert result["w"].ravel() == pytest.approx(printed["w"], abs=1e-8)
    assert result["mseTrace"][:3] == pytest.approx(printed["mseTrace_first"], abs=5e-8)
    assert result["mseTrace"][-3:] == pytest.approx(printed["mseTrace_last"], abs=6e-9)


@pytest.mark.parametrize("use_autograd", [False, True], ids=["torch", "torch-autograd"])
def test_torch_loops_begin_as_numpys_does(post, use_autograd):
    result = reference.train(*post, nSteps=2000, use_torch=True, use_autograd=use_autograd)
    expected = reference.train(*post, nSteps=2000)
    # sums in another order, in float32: 2.4e-7 is measured
    assert result["mseTrace"].numpy() == pytest.approx(expected["mseTrace"], rel=2e-6)
    assert result["w"].detach().ravel().tolist() == pytest.approx(expected["w"].ravel().tolist(), rel=2e-6)
    assert result["mseTrace"][:3].tolist() == pytest.approx(POST["train_torch_float32"]["mseTrace_first"], abs=5.5e-5)


@pytest.mark.slow  # a minute
@pytest.mark.parametrize("use_autograd", [False, True], ids=["torch", "torch-autograd"])
def test_torch_loops_print_what_the_post_prints(post, use_autograd):
    result = reference.train(*post, use_torch=True, use_autograd=use_autograd)
    printed = POST["train_torch_float32"]
    w, trace = result["w"].detach().ravel(), result["mseTrace"]
    assert w.tolist() == pytest.approx(printed["w"], abs=5.5e-5)  # 4 decimals
    assert trace[:3].tolist() == pytest.approx(printed["mseTrace_first"], abs=5.5e-5)
    assert trace[-3:].tolist() == pytest.approx(printed["mseTrace_last"], abs=5.5e-5)
    # the weights that the demo compares float32 rows with, and the tolerance that it grants
    single = REFERENCES["single"]
    assert w.tolist() == pytest.approx(single.weights, abs=single.tolerance)


@pytest.mark.parametrize("use_autograd", [False, True])
@pytest.mark.parametrize("use_torch", [False, True])
def test_the_result_has_the_posts_keys(post, use_torch, use_autograd):
    result = reference.train(*post, nSteps=3, use_torch=use_torch, use_autograd=use_autograd)
    assert list(result) == KEYS
    assert result["use_torch"] is (use_torch or use_autograd)
    assert result["mseTrace"].shape == (3,)
    assert result["w"].shape == (5, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("use_autograd", [False, True])
def test_gpu_loops_agree_with_the_cpu(post, use_autograd):
    on_gpu = reference.train(*post, nSteps=500, use_gpu=True, use_autograd=use_autograd)
    on_cpu = reference.train(*post, nSteps=500, use_torch=True, use_autograd=use_autograd)
    assert on_gpu["w"].is_cuda
    torch.testing.assert_close(on_gpu["w"].detach().cpu(), on_cpu["w"].detach(), atol=5e-6, rtol=0)
