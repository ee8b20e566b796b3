"""value_and_grad against torch's own autograd: the same numbers, however the call changes from one to the next."""

import threading
import warnings

import numpy as np
import pytest
import torch
import zoo

from fastpoly import UnsupportedOperationError, value_and_grad

SCALE = 2.0

tree = torch.utils._pytree


def eager(loss, params, *data):
    """torch's own."""
    leaves, structure = tree.tree_flatten(params)
    own = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    value = loss(tree.tree_unflatten(own, structure), *data)
    return value.detach(), tree.tree_unflatten(list(torch.autograd.grad(value, own)), structure)


def assert_like(got, want, tolerance=1e-11):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def line(w, x, y):
    return ((y - (w[0] + w[1] * x)) ** 2).mean()


def samples(count=50, dtype=torch.float64, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, generator=draws, dtype=dtype) for _ in range(2))


W = torch.tensor([0.3, -0.7], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_model_of_the_zoo(name, dtype):
    model = zoo.model(name, dtype, 40)
    params, call = model.params, value_and_grad(model.loss, backend="fused")
    for _ in range(2):
        value, grads = call(params, *model.data)
        want, slopes = eager(model.loss, params, *model.data)
        bound = 1e-10 if dtype == torch.float64 else 1e-4
        assert_like(value, want, bound)
        for got, slope in zip(tree.tree_leaves(grads), tree.tree_leaves(slopes), strict=True):
            assert_like(got, slope, bound * float(1 + slope.abs().max()))
        params = tree.tree_map(lambda leaf: leaf * 1.01 + 0.001, params)


def test_structure_aux_and_whole_numbers():
    x, y = samples()

    def loss(params, x, y):
        guess = params["a"][0] + params["b"] * x
        off = guess - y
        return (off**2).sum(), {"off": off, "large": (off.abs() > 1).sum(), "is_large": off.abs() > 1}

    params = {"a": (torch.tensor(0.5, dtype=torch.float64),), "b": torch.tensor([2.0], dtype=torch.float64)}
    (value, aux), grads = value_and_grad(loss, has_aux=True, backend="fused")(params, x, y)
    want, slopes = eager(lambda *given: loss(*given)[0], params, x, y)
    assert_like(value, want)
    assert_like(grads, slopes)
    assert_like(aux["off"], loss(params, x, y)[1]["off"])
    assert aux["large"].dtype == torch.int64
    assert aux["large"] == loss(params, x, y)[1]["large"]
    assert aux["is_large"].dtype == torch.bool
    assert torch.equal(aux["is_large"], aux["off"].abs() > 1)


def test_what_came_back_is_the_callers_own():
    x, y = samples()
    call = value_and_grad(line)
    value, grad = call(W, x, y)
    kept = value.clone(), grad.clone()
    call(W + 1, x, y)
    assert torch.equal(value, kept[0])
    assert torch.equal(grad, kept[1])
    grad.zero_()
    assert torch.equal(value, kept[0])
    assert not value.requires_grad
    assert not grad.requires_grad


def test_large_results_are_the_callers_own_too():
    """Their memory is used again once nobody has them: what is kept, or a view of it, must not change."""

    def loss(params, x):
        return ((params["a"] * x) ** 2).sum() + params["b"].exp().sum()

    draws = torch.Generator().manual_seed(0)
    x = torch.randn(300, 100, generator=draws, dtype=torch.float64)
    call, kept = value_and_grad(loss, backend="fused"), []
    for step in range(12):
        params = {"a": x + step, "b": (x.t() / (1 + step)).contiguous()}
        _, grads = call(params, x)
        _, wanted = eager(loss, params, x)
        assert_like(grads, wanted)
        if step % 3 == 0:
            kept.append((grads, wanted))
        elif step % 3 == 1:
            kept.append(({"a": grads["a"][::7], "b": grads["b"].numpy()[1:]}, wanted))
    for step, (grads, wanted) in enumerate(kept):
        rows, columns = (slice(None, None, 7), slice(1, None)) if step % 2 else (slice(None), slice(None))
        assert_like(torch.as_tensor(grads["a"]), wanted["a"][rows])
        assert_like(torch.as_tensor(grads["b"]), wanted["b"][columns])


@pytest.mark.parametrize(
    "write", ["requires", "numpy", "data", "torch", "another", "strided", "transposed", "negative"]
)
def test_data_may_change_in_any_way(write):
    x, y = samples()
    call = value_and_grad(line, backend="fused")
    call(W, x, y)
    if write == "requires":
        x = x.repeat_interleave(2).requires_grad_()[::2]
    elif write == "numpy":
        x.numpy()[...] += 1
    elif write == "data":
        x.data.add_(1)
    elif write == "torch":
        x += 1
    elif write == "another":
        x = x + 1
    elif write == "strided":
        x, y = samples(100)
        x, y = x[::2], y[1::2]
    elif write == "transposed":
        x, y = torch.stack(samples(50), 1).unbind(1)
    else:
        x = torch.complex(x, y).conj().imag
        assert x.is_neg()
    assert_like(call(W, x, y), eager(line, W, x.detach(), y))


def test_other_shapes_labels_and_numbers():
    x, _ = samples()

    def loss(w, x, labels, power, how):
        terms = (w[labels] * x).abs() ** power
        return terms.sum() if how == "sum" else terms.mean()

    call = value_and_grad(loss, backend="fused")
    draws = torch.Generator().manual_seed(3)
    for count in (50, 20):
        for power in (2, 2.0, 3.5):
            for how in ("sum", "mean"):
                labels = torch.randint(0, 2, (count,), generator=draws)
                given = x[:count], labels, power, how
                assert_like(call(W, *given), eager(loss, W, *given))


def test_what_the_loss_names_may_change():
    global SCALE
    x, y = samples()
    strength = 0.1

    def loss(w):
        return SCALE * line(w, x, y) + strength * (w**2).sum()

    call = value_and_grad(loss, backend="fused")
    assert_like(call(W), eager(loss, W))
    strength = 5.0
    assert_like(call(W), eager(loss, W))
    SCALE = 3.0
    assert_like(call(W), eager(loss, W))
    x.mul_(2)
    assert_like(call(W), eager(loss, W))
    y = y + 1
    assert_like(call(W), eager(loss, W))


def test_what_changes_at_every_call_is_told_once():
    x, y = samples()

    def loss(w):
        return line(w, x, y)

    call = value_and_grad(loss)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(25):
            x.add_(0.1)
            assert_like(call(W), eager(loss, W))
    assert ["Hand it over as data" in str(one.message) for one in told] == [True]


def test_a_change_that_nobody_sees_is_found():
    x, y = samples()
    state = {"calls": 0}

    def loss(w):
        return line(w, x, y) * (1 + state["calls"])

    call = value_and_grad(loss, backend="fused")
    call(W)
    state["calls"] = 1
    with pytest.raises(UnsupportedOperationError, match="something else when it is called again"):
        for _ in range(200):
            call(W)


def test_numpy_in_and_out_and_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    x, y = (part.numpy() for part in samples())
    call = value_and_grad(line, backend="fused")
    value, grad = call(W.numpy(), x, y)
    want, slope = eager(line, W, torch.from_numpy(x), torch.from_numpy(y))
    assert isinstance(value, float)
    assert isinstance(grad, np.ndarray)
    assert_like(value, float(want))
    assert_like(grad, slope.numpy())
    found = optimize.minimize(call, np.zeros(2), args=(x, y), jac=True, method="L-BFGS-B")
    assert_like(found.x, np.polyfit(x, y, 1)[::-1].copy(), 1e-6)


def test_torchs_own_lbfgs():
    x, y = samples()
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    call = value_and_grad(line)
    solver = torch.optim.LBFGS([w], line_search_fn="strong_wolfe")

    def closure():
        value, w.grad = call(w, x, y)
        return value

    for _ in range(5):
        solver.step(closure)
    assert_like(w.detach().numpy(), np.polyfit(x.numpy(), y.numpy(), 1)[::-1].copy(), 1e-6)


def weighted(params, x, factors, power):
    return ((factors["slope"] * params[0] * x + factors["more"] * params[1]) ** power).sum() * (
        1 + abs(factors["more"])
    )


CHANGES = {
    "another layout": lambda p, x, f, k: ([p[0], p[1].t().contiguous().t()], x, f, k),
    "every second": lambda p, x, f, k: (p, torch.stack([x, x + 1], 1)[:, 0], f, k),
    "signs to be turned": lambda p, x, f, k: (p, torch.complex(x, x).conj().imag, f, k),
    "params of a module": lambda p, x, f, k: ([torch.nn.Parameter(leaf) for leaf in p], x, f, k),
    "params that want a gradient": lambda p, x, f, k: ([leaf.clone().requires_grad_() for leaf in p], x, f, k),
    "a tuple": lambda p, x, f, k: (tuple(p), x, f, k),
    "another shape": lambda p, x, f, k: (p, x[:, :1], f, k),
    "another dtype of data": lambda p, x, f, k: (p, x.float(), f, k),
    "another number": lambda p, x, f, k: (p, x, {**f, "slope": -0.5}, k),
    "a whole number": lambda p, x, f, k: (p, x, {**f, "more": 1}, k),
    "a truth": lambda p, x, f, k: (p, x, {**f, "more": True}, k),
    "keys in another order": lambda p, x, f, k: (p, x, {"more": f["more"], "slope": f["slope"]}, k),
    "one key more": lambda p, x, f, k: (p, x, {**f, "none": 0.0}, k),
    "another power": lambda p, x, f, k: (p, x, f, 4),
    "not finite": lambda p, x, f, k: (p, x * float("inf"), f, k),
    "arrays": lambda p, x, f, k: ([leaf.numpy() for leaf in p], x.numpy(), f, k),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_call_of_another_kind_after_many_of_one(change):
    draws = torch.Generator().manual_seed(0)
    params = [torch.randn(5, 3, generator=draws, dtype=torch.float64) for _ in range(2)]
    usual = params, torch.randn(5, 3, generator=draws, dtype=torch.float64), {"slope": 0.5, "more": 1.0}, 2
    call = value_and_grad(weighted, backend="fused")
    for _ in range(3):
        call(*usual)
    for arguments in (change(*usual), usual, change(*usual)):
        value, grads = call(*arguments)
        to_torch = lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf  # noqa: E731
        want, slopes = eager(weighted, *tree.tree_map(to_torch, arguments))
        assert type(grads) is type(arguments[0])
        for got, wanted in zip((value, *grads), (want, *slopes), strict=True):
            assert not isinstance(got, torch.Tensor) or not got.requires_grad
            torch.testing.assert_close(
                torch.as_tensor(got, dtype=wanted.dtype), wanted, rtol=1e-11, atol=1e-11, equal_nan=True
            )


def test_the_hundredth_call_is_compared_too():
    """Of tensors that want a gradient themselves, by the shortest way there is."""
    x, y = (part.requires_grad_() for part in samples())
    w, call = W.clone().requires_grad_(), value_and_grad(line, backend="fused")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(101):
            value, gradient = call(w, x, y)
    wanted = torch.autograd.grad(line(w, x, y), w)
    assert_like((value, gradient), (line(w, x, y).detach(), *wanted))


def test_several_threads_at_a_time():
    x, y = samples(1_000)
    call = value_and_grad(line, backend="fused")
    starts = [W + k for k in range(8)]
    wanted = [eager(line, start, x, y) for start in starts]
    wrong = []

    def work(k):
        for _ in range(300):
            value, grad = call(starts[k], x, y)
            if not (torch.isclose(value, wanted[k][0]) and torch.allclose(grad, wanted[k][1])):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_samples_shared_by_threads():
    x, y = samples(300_000)
    assert_like(value_and_grad(line, backend="fused")(W, x, y), eager(line, W, x, y))


def test_what_is_not_finite_comes_back_so():
    x, y = samples()
    value, grad = value_and_grad(line)(torch.tensor([np.inf, 1.0], dtype=torch.float64), x, y)
    assert value == np.inf
    assert not grad.isfinite().all()


def test_what_cannot_be_fused_runs_in_torch_after_a_warning():
    x, y = samples()

    def loss(w, x, y):
        return line(w, x, y) * w.sum().item()

    call = value_and_grad(loss)
    with pytest.warns(RuntimeWarning, match="backend='eager'.*decides"):
        assert_like(call(W, x, y), eager(loss, W, x, y))
    assert_like(call(-W, x, y), eager(loss, -W, x, y))
    with pytest.raises(UnsupportedOperationError, match="decides"):
        value_and_grad(loss, backend="fused")(W, x, y)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: value_and_grad(3), TypeError, "loss: wants a function"),
        (lambda: value_and_grad(line, backend="triton"), ValueError, "backend: wants one of auto, fused, eager"),
        (lambda: value_and_grad(line)([], *samples()), ValueError, "params: has no tensors"),
        (lambda: value_and_grad(line)(W.long(), *samples()), ValueError, "params"),
        (lambda: value_and_grad(line)([W, W.float()], *samples()), ValueError, "params: want one dtype"),
        (lambda: value_and_grad(lambda w: w)(W), ValueError, "loss: wants to return one number"),
        (lambda: value_and_grad(lambda w: torch.ones(()))(W), ValueError, "does not depend on the params"),
        (lambda: value_and_grad(line, has_aux=True)(W, *samples()), TypeError, "wants to return .number, aux."),
    ],
)
def test_wrong_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_the_kernel_can_be_read():
    call = value_and_grad(line)
    assert call.source is None
    call(W, *samples())
    assert "y - (w" in call.source


def test_registers_run_along_the_samples_and_not_along_what_params_share_with_them():
    generator = torch.Generator().manual_seed(0)
    centers, x = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (10, 1000))

    def loss(centers, x):
        return ((x[:, None] - centers) ** 2).sum(2).amin(1).sum()

    call = value_and_grad(loss, backend="fused")
    found, wanted = call(centers, x), value_and_grad(loss, backend="eager")(centers, x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert "for i in range(1000)" not in call.source
    assert "for i in range(0, 1000, " in call.source or "for i in range(0, 992, " in call.source
