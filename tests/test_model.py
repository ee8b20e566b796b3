"""poly, dpoly_dw and stability_limit."""

import numpy as np
import pytest
import torch
from conftest import EXACT

from fastpoly import dpoly_dw, poly, stability_limit

X = np.linspace(-5, 5, 20).reshape(-1, 1)
W = 0.1 * np.array([3.0, -2.0, -1.5, 5]).reshape(-1, 1)


def test_shapes_are_the_posts():
    assert poly(X, W).shape == (20, 1)
    assert dpoly_dw(X, W).shape == (20, 4)


def test_values_are_the_polynomials():
    assert poly(X, W).ravel() == pytest.approx(0.3 - 0.2 * X.ravel() - 0.15 * X.ravel() ** 2 + 0.5 * X.ravel() ** 3)
    assert dpoly_dw(X, W)[:, 3] == pytest.approx(X.ravel() ** 3)


def test_integers_do_not_overflow():
    assert poly([1000], np.ones(8)) == pytest.approx(sum(1000.0**k for k in range(8)))
    assert poly(np.array([2, 3], np.uint8), np.ones(10)) == pytest.approx([1023, 29524])
    assert poly(torch.tensor([2, 3]), torch.ones(10)).tolist() == [1023, 29524]


def test_vectors_give_vectors():
    assert poly(X.ravel(), W.ravel()).shape == (20,)
    assert np.array_equal(poly([1, 2], [1, 1]), [2, 3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_numpy_dtypes_are_kept(dtype):
    assert poly(X.astype(dtype), W.astype(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_dtypes_are_kept(dtype):
    x, w = torch.tensor(X, dtype=dtype), torch.tensor(W, dtype=dtype)
    assert poly(x, w).dtype == dtype
    loose = {torch.float16: 2e-2, torch.bfloat16: 2e-1}.get(dtype, 1e-5)  # a few units in the last place
    assert poly(x, w).double().numpy() == pytest.approx(poly(X, W), rel=loose, abs=20 * loose)


@pytest.mark.parametrize("shape", [(7, 1), (7,)])
def test_torch_differentiates_it(shape):
    x = torch.linspace(-2, 2, 7, dtype=torch.float64).reshape(shape).requires_grad_()  # 0 among them: 0**0 is 1
    w = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(poly, (x, w))
    assert torch.autograd.gradcheck(lambda x: dpoly_dw(x, w), (x,))


def test_dpoly_dw_is_autograds_jacobian():
    x, w = torch.tensor(X), torch.tensor(W)
    jacobian = torch.autograd.functional.jacobian(lambda w: poly(x, w), w).squeeze()
    torch.testing.assert_close(jacobian, dpoly_dw(x, w))


@pytest.mark.gpu
def test_on_the_gpu():
    x, w = torch.tensor(X, device="cuda"), torch.tensor(W, device="cuda")
    assert poly(x, w).is_cuda
    assert poly(x, w).cpu().numpy() == pytest.approx(poly(X, W))


@pytest.mark.parametrize("name", list(EXACT))
def test_stability_limit_is_the_exact_one(name):
    problem = EXACT[name]
    x = np.array(problem["x"], float)
    printed = float(problem["stability_limit"])  # to 11 digits
    assert stability_limit(x, problem["degree"]) == pytest.approx(printed, rel=1e-9)


def test_stability_limit_of_a_constant_is_one():
    assert stability_limit([1.0, 2.0, 3.0], 0) == pytest.approx(1.0)  # mean squared error's second derivative is 2


def test_stability_limit_where_powers_overflow_is_zero():
    assert stability_limit([1e200], 4) == 0.0


def test_stability_limit_splits_converging_from_diverging(small):
    from raw_runs import fit

    from fastpoly import DivergenceWarning

    limit = stability_limit(small[0], 3)
    assert fit(*small, 3, 20_000, limit * 0.99).diverged_at is None
    with pytest.warns(DivergenceWarning):
        assert fit(*small, 3, 200_000, limit * 1.01).diverged_at > 1000
