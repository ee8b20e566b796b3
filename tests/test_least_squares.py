"""`least_squares` against scipy's, `covariance` against closed forms; one problem, and many."""

import numpy as np
import pytest
import scipy.optimize
import torch

import fastpoly
from fastpoly import covariance, least_squares

X = torch.linspace(0, 4, 40, dtype=torch.float64)


def rosenbrock(w):
    return torch.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]])


def decay(params, x, y):
    return params["a"] * torch.exp(-params["b"] * x) - y


def data(count):
    """(problems, n) decays."""
    draws = torch.Generator().manual_seed(3)
    rates = torch.linspace(0.5, 1.5, count, dtype=torch.float64)[:, None]
    return 2 * torch.exp(-rates * X) + 0.05 * torch.randn((count, 40), generator=draws, dtype=torch.float64)


START = {"a": torch.ones((), dtype=torch.float64), "b": torch.ones((), dtype=torch.float64)}
SHARED = ({"a": None, "b": None}, None, 0)


def scipys(y, start=(1.0, 1.0), **options):
    return scipy.optimize.least_squares(lambda w: w[0] * np.exp(-w[1] * X.numpy()) - y.numpy(), start, **options)


def test_one_problem_is_scipys():
    found = least_squares(decay, START, (X, data(1)[0]))
    wanted = scipys(data(1)[0], ftol=1e-14, xtol=1e-14, gtol=1e-14)
    np.testing.assert_allclose([found.x["a"], found.x["b"]], wanted.x, rtol=1e-7)
    np.testing.assert_allclose(found.cost, wanted.cost, rtol=1e-12)
    np.testing.assert_allclose(found.fun, wanted.fun, atol=1e-6)
    np.testing.assert_allclose(found.jac, wanted.jac, atol=1e-5)
    assert found.success
    assert found.status in (1, 2, 3, 4)
    assert found.nfev < 20
    assert found.optimality < 1e-6
    assert "termination condition is satisfied" in found.message
    assert found.message in repr(found)


def test_every_problem_of_many_is_that_alone():
    y = data(41)
    many = least_squares(decay, START, (X, y), in_dims=SHARED)
    for k in (0, 9, 40):
        one = least_squares(decay, START, (X, y[k]))
        assert torch.equal(many.x["b"][k], one.x["b"])
        assert torch.equal(many.nfev[k], one.nfev)
        torch.testing.assert_close(many.fun[k], one.fun, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(many.jac[k], one.jac, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(many.covariance()[k], one.covariance(), rtol=1e-10, atol=0)
    assert bool(many.success.all())
    assert repr(many).startswith("LeastSquaresResult(41 of 41 problems converged")


def test_rosenbrocks_valley_free_and_cut_by_a_bound():
    start = torch.tensor([-2.0, 1.0], dtype=torch.float64)
    free = least_squares(rosenbrock, start)
    np.testing.assert_allclose(free.x, [1.0, 1.0], rtol=1e-9)
    cut = least_squares(rosenbrock, start, bounds=(-3.0, torch.tensor([0.75, 2.0], dtype=torch.float64)))
    np.testing.assert_allclose(cut.x, [0.75, 0.5625], rtol=1e-7)
    assert cut.active_mask.tolist() == [1, 0]
    assert cut.optimality < 1e-6


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses(loss):
    y = data(1)[0].clone()
    y[::9] += 1.0
    near = {"a": torch.tensor(2.0, dtype=torch.float64), "b": torch.tensor(0.6, dtype=torch.float64)}
    found = least_squares(decay, near, (X, y), loss=loss, f_scale=0.1)
    wanted = scipys(y, start=(2.0, 0.6), loss=loss, f_scale=0.1, ftol=1e-14, xtol=1e-14, gtol=1e-14)
    np.testing.assert_allclose([found.x["a"], found.x["b"]], wanted.x, rtol=1e-5)
    np.testing.assert_allclose(found.cost, wanted.cost, rtol=1e-9)


def test_single_precision():
    start = {name: value.float() for name, value in START.items()}
    found = least_squares(decay, start, (X.float(), data(1)[0].float()))
    assert found.x["a"].dtype == torch.float32
    assert found.success
    np.testing.assert_allclose(found.x["b"], scipys(data(1)[0]).x[1], rtol=1e-4)


def test_a_start_without_residuals_and_one_that_is_not_solved():
    def log(w, a):
        return torch.log(w * a)

    start, a = torch.ones(3, 1, dtype=torch.float64), torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    many = least_squares(log, start, (a,), in_dims=(0, 0))
    assert many.status[1] == -1
    assert many.success.tolist() == [True, False, True]
    assert "not finite" in many.message[1]
    with pytest.raises(ValueError, match="Residuals are not finite in the initial point"):
        least_squares(log, start[0], (a[1],))
    stopped = least_squares(rosenbrock, torch.tensor([-2.0, 1.0], dtype=torch.float64), max_nfev=3)
    assert stopped.status == 0
    assert not stopped.success


WRONG = {
    "loss": (dict(loss="square"), "loss: wants linear, soft_l1"),
    "scale": (dict(f_scale=0), "f_scale: wants a number > 0"),
    "jac": (dict(jac="cs"), "jac: wants None or '2-point'"),
    "backend": (dict(backend="numba"), "backend: wants auto, fused, triton or eager"),
    "tolerance": (dict(ftol=-1), "want numbers >= 0"),
    "evaluations": (dict(max_nfev=0), "max_nfev"),
    "bounds": (dict(bounds=(2.0, 3.0)), "outside of provided bounds"),
    "order": (dict(bounds=(2.0, 1.0)), "Each lower bound must be less"),
    "structure": (dict(bounds=([0.0], [9.0])), "structures like the params'"),
    "axes": (dict(in_dims=(0, None, 0)), "in_dims"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    change, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=message):
        least_squares(decay, START, (X, data(1)[0]), **change)


def test_residuals_that_are_no_tensor():
    with pytest.raises(TypeError, match="residuals: wants to return a tensor, got list"):
        least_squares(lambda w: [w], torch.ones(2))


# -- covariance


def test_the_covariance_of_a_line_is_that_of_linear_regression():
    y = 1 + 2 * X + 0.1 * torch.cos(7 * X)
    design = torch.stack([torch.ones_like(X), X], 1)
    w = torch.linalg.lstsq(design, y).solution
    residuals = y - design @ w
    inverse, variance = torch.linalg.inv(design.T @ design), (residuals**2).sum() / 38

    def line(w, x, y):
        return w[0] + w[1] * x - y

    def likelihood(w, x, y):
        return 0.5 * line(w, x, y) ** 2 / variance

    torch.testing.assert_close(covariance(line, w, (X, y), kind="jacobian"), inverse * variance)
    torch.testing.assert_close(covariance(line, w, (X, y), kind="jacobian", absolute_sigma=True), inverse)
    hessian = covariance(lambda *a: likelihood(*a).sum(), w, (X, y), kind="hessian")
    torch.testing.assert_close(hessian, inverse * variance)
    scores = design * residuals[:, None]
    wanted = inverse @ (scores.T @ scores) @ inverse
    torch.testing.assert_close(covariance(likelihood, w, (X, y), kind="sandwich"), wanted)
    many = covariance(line, torch.stack([w, w + 1]), (X, y), kind="jacobian", in_dims=(0, None, None))
    torch.testing.assert_close(many[0], inverse * variance)


def test_what_the_data_do_not_fix_is_infinite():
    twice = covariance(lambda w, x: (w[0] + w[1]) * x, torch.ones(2), (X.float(),), kind="jacobian")
    assert twice.isinf().all()
    saddle = covariance(lambda w: w[0] ** 2 - w[1] ** 2, torch.zeros(2), kind="hessian")
    assert saddle.isinf().all()


def test_a_wrong_kind_of_covariance_is_named():
    with pytest.raises(ValueError, match="kind: wants one of hessian, jacobian, sandwich, got 'fisher'"):
        covariance(rosenbrock, torch.ones(2), kind="fisher")
    with pytest.raises(ValueError, match=r"function: wants to return one number for 'hessian', got shape \(2,\)"):
        covariance(rosenbrock, torch.ones(2), kind="hessian")


def test_it_agrees_with_curve_fit():
    y = data(1)[0]
    fit = least_squares(decay, START, (X, y))
    _, pcov = fastpoly.curve_fit(lambda x, a, b: a * torch.exp(-b * x), X, y)
    np.testing.assert_allclose(fit.covariance(), pcov, rtol=1e-5)
    np.testing.assert_allclose(covariance(decay, fit.x, (X, y), kind="jacobian"), pcov, rtol=1e-5)
