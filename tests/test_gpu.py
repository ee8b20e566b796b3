"""On a CUDA GPU: CUDA graphs, torch.compile, and fits whose samples lie there. Elsewhere all of this is skipped.

What these do is tested without a GPU in test_replayed_loop.py and test_on_device.py; here, that CUDA does it, too.
Needs numpy, llvmlite, torch, triton and pytest, and no plug-in.
"""

import numpy as np
import pytest
import torch
import zoo
from conftest import EXACT
from raw_runs import fit, fit_many
from torch.utils import _pytree as tree

from fastpoly import DivergenceWarning, UnsupportedOperationError, descend, reference, scan, train
from fastpoly._loops.capture import CudaCapture
from fastpoly._post import LEARN_RATE, REFERENCES, STEPS
from fastpoly._post import samples as post_samples

pytestmark = pytest.mark.gpu

GRAPHS = ["cudagraph", "compile"]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Of losses after some hundred steps, relative, as between the other loops: sums are taken in another order."""


def post_tensors(dtype=torch.float64):
    return tuple(torch.tensor(values.ravel(), dtype=dtype, device="cuda") for values in post_samples())


def on_gpu(model):
    """The model's start and data on the GPU."""
    return tree.tree_map(lambda tensor: tensor.cuda(), (model.params, model.data))


@pytest.fixture
def cuda():
    """Tensors that a loss makes itself lie on the GPU."""
    with torch.device("cuda"):
        yield


# -- descend and scan
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", zoo.NAMES)
def test_cudagraph_gives_the_eager_losses(name, dtype, cuda):
    """The same operations on the same tensors; but those that add by atomics do it in any order."""
    with torch.device("cpu"):
        model = zoo.model(name, dtype)
    params, data = on_gpu(model)
    options = dict(learn_rate=model.learn_rate, steps=301)
    eager, graph = (descend(model.loss, params, data, backend=b, **options) for b in ("eager", "cudagraph"))
    assert graph.backend == "cudagraph"
    assert graph.loss.is_cuda
    torch.testing.assert_close(graph.loss, eager.loss, rtol=TOLERANCE[dtype], atol=0)
    for ours, theirs in zip(tree.tree_leaves(graph.params), tree.tree_leaves(eager.params), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", ["polynomial", "exponential-decay", "tanh-network", "softmax"])
def test_compile_gives_the_eager_losses(name, dtype, cuda):
    with torch.device("cpu"):
        model = zoo.model(name, dtype)
    params, data = on_gpu(model)
    options = dict(learn_rate=model.learn_rate, steps=301)
    eager, compiled = (descend(model.loss, params, data, backend=b, **options) for b in ("eager", "compile"))
    torch.testing.assert_close(compiled.loss, eager.loss, rtol=TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("backend", GRAPHS)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_optimizers(backend, optimizer):
    model = zoo.model("damped-sine", torch.float64)
    params, data = on_gpu(model)
    options = dict(learn_rate=model.learn_rate, steps=100, optimizer=optimizer)
    eager, graph = (descend(model.loss, params, data, backend=b, **options) for b in ("eager", backend))
    torch.testing.assert_close(graph.loss, eager.loss, rtol=1e-9, atol=0)


@pytest.mark.parametrize("backend", GRAPHS)
def test_the_same_bits_however_the_run_is_cut(backend):
    """In one, in two, and once more: the sizes of graphs are chosen by the clock, and have no influence."""
    model = zoo.model("polynomial", torch.float32)
    params, data = on_gpu(model)

    def run(params, steps, **options):
        return descend(model.loss, params, data, learn_rate=LEARN_RATE, steps=steps, backend=backend, **options)

    whole = run(params, 20_011)
    again = run(params, 20_011)
    assert torch.equal(whole.loss, again.loss)
    assert torch.equal(whole.params, again.params)
    sparse = run(params, 20_011, trace_every=7)
    assert torch.equal(sparse.loss, whole.loss[::7])
    assert torch.equal(sparse.params, whole.params)
    first = run(params, 7_003)
    rest = run(first.params, 20_011 - 7_003)
    assert torch.equal(rest.params, whole.params)


@pytest.mark.parametrize("backend", GRAPHS)
def test_it_stops_at_the_step_that_is_not_finite(backend):
    model = zoo.model("polynomial", torch.float32)
    params, data = on_gpu(model)
    results = []
    for name in ("eager", backend):
        with pytest.warns(DivergenceWarning, match="diverged at step"):
            results.append(descend(model.loss, params, data, learn_rate=1e-3, steps=10_000, backend=name))
    eager, graph = results
    assert abs(graph.diverged_at - eager.diverged_at) <= 1  # a rounding may decide what is still finite
    assert len(graph.loss) == graph.steps == graph.diverged_at
    assert bool(graph.loss.isfinite().all())


@pytest.mark.parametrize("backend", GRAPHS)
def test_scan(backend):
    def step(carry, x):
        a, b = carry
        return (b, a + b * x), (a, b > 10)

    carry = torch.tensor(0.0, device="cuda"), torch.tensor(1.0, device="cuda")
    (a, b), (trail, large) = scan(step, carry, torch.ones((), device="cuda"), 30, backend=backend)
    assert trail[:10].tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]
    assert (a.item(), b.item()) == (832040, 1346269)
    assert large.sum() == 24


def test_what_waits_is_refused_and_the_next_loop_runs():
    x = torch.tensor([1.0, -1.0, 2.0], device="cuda")
    with pytest.raises(UnsupportedOperationError, match="mask as index"):
        descend(lambda w: (w[w > 0] ** 2).sum(), x, learn_rate=0.1, steps=5, backend="cudagraph")
    stream = torch.cuda.current_stream()
    with pytest.raises(UnsupportedOperationError, match="CUDA cannot capture this step"):
        CudaCapture(x.device)(lambda: x.sum().item())
    assert torch.cuda.current_stream() == stream
    assert not torch.cuda.is_current_stream_capturing()
    result = descend(lambda w: (w**2).sum(), x, learn_rate=0.1, steps=50, backend="cudagraph")
    assert result.loss[-1] < 1e-3 * result.loss[0]


def test_auto_descends_on_the_gpu():
    model = zoo.model("huber", torch.float32)
    params, data = on_gpu(model)
    result = descend(model.loss, params, data, learn_rate=model.learn_rate, steps=200_000, trace_every=1000)
    assert result.backend == "triton"
    assert all(leaf.is_cuda for leaf in tree.tree_leaves(result.params))


def test_tensors_on_the_cpu_are_told_the_way_out():
    with pytest.raises(ValueError, match=r"cudagraph runs on tensors on one CUDA device, got cpu"):
        descend(lambda w: (w**2).sum(), torch.ones(3), learn_rate=0.1, steps=5, backend="cudagraph")


# -- fit
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("backend", ["cudagraph", "compile-gpu"])
def test_the_posts_run(backend, precision):
    """All of its 200,000 steps, for arrays and for tensors."""
    expected = REFERENCES[precision]
    x, y = post_samples()
    result = fit(x, y, backend=backend, precision=precision)
    assert isinstance(result.weights, np.ndarray)
    assert result.weights == pytest.approx(expected.weights, abs=expected.tolerance)
    on_device = fit(*post_tensors(), backend=backend, precision=precision, trace_every=1000)
    assert on_device.weights.is_cuda
    assert torch.equal(on_device.weights.cpu(), torch.tensor(result.weights))
    assert torch.equal(on_device.mse.cpu(), torch.tensor(result.mse[::1000]))


@pytest.mark.parametrize("backend", ["cudagraph", "compile-gpu", "gram", "spectral"])
def test_fits_agree_with_numba(backend):
    x = np.linspace(-1, 1, 25)
    y = np.cos(3 * x)
    for degree, steps in [(0, 3), (3, 0), (3, 1), (6, 777)]:
        expected = fit(x, y, degree, steps, 0.1, backend="numba")
        result = fit(
            torch.tensor(x, device="cuda"), torch.tensor(y, device="cuda"), degree, steps, 0.1, backend=backend
        )
        assert result.weights.is_cuda
        assert result.mse.is_cuda
        assert result.weights.cpu().numpy() == pytest.approx(expected.weights, abs=1e-10)
        assert result.mse.cpu().numpy() == pytest.approx(expected.mse, abs=1e-11)


@pytest.mark.parametrize("backend", ["gram", "spectral"])
@pytest.mark.parametrize("name", list(EXACT))
def test_exact_json(name, backend):
    problem = EXACT[name]
    x, y = (torch.tensor(np.array(problem[key], float), device="cuda") for key in ("x", "y"))
    weights = np.array(problem["weights"], float)
    result = fit(x, y, problem["degree"], problem["steps"], problem["learn_rate"], backend=backend)
    assert result.weights.cpu().numpy() == pytest.approx(weights, abs=1e-10)
    mse = result.mse.cpu().numpy()[[int(step) for step in problem["mse"]]]
    assert mse == pytest.approx([float(value) for value in problem["mse"].values()], rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("backend", ["gram", "spectral"])
def test_batches(backend, shared):
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 40) if shared else np.sort(rng.uniform(-1, 1, (50, 40)), axis=1)
    y = rng.normal(size=(50, 40))
    expected = fit_many(x, y, 3, 2001, 0.2, backend=backend, trace_every=10)
    tensors = (torch.tensor(values, device="cuda") for values in (x, y))
    result = fit_many(*tensors, 3, 2001, 0.2, backend=backend, trace_every=10)
    assert result.weights.is_cuda
    assert result.weights.cpu().numpy() == pytest.approx(expected.weights, abs=1e-10)
    assert result.mse.cpu().numpy() == pytest.approx(expected.mse, abs=1e-11)


def test_ten_million_samples():
    """gram and spectral take them in pieces, and numba on the CPU says the same."""
    x = np.linspace(-1, 1, 10**7)
    y = np.sin(3 * x)
    expected = fit(x, y, 4, 1000, 0.1, backend="gram", trace_every=None).weights
    tensors = [torch.tensor(values, device="cuda") for values in (x, y)]
    for backend in ("gram", "spectral"):
        result = fit(*tensors, 4, 1000, 0.1, backend=backend, trace_every=None)
        assert result.weights.cpu().numpy() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("backend", ["cudagraph", "compile-gpu"])
def test_divergence_of_a_fit(backend):
    with pytest.warns(DivergenceWarning, match="diverged at step"):
        result = fit(*post_tensors(), 5, 10_000, 1e-5, backend=backend, precision="single")
    assert result.diverged_at == len(result.mse)
    assert bool(result.mse.isfinite().all())
    again = fit(*post_tensors(), 4, 10_000, 1e-5, backend=backend, precision="single")
    assert again.diverged_at is None


@pytest.mark.parametrize("backend", ["auto", "numba", "torch-gpu"])
def test_tensors_come_back_on_their_device(backend):
    x, y = post_tensors(torch.float32)
    result = fit(x, y, 3, 100, 1e-4, backend=backend, precision="single")
    assert result.weights.is_cuda
    assert result.mse.is_cuda
    assert result.predict(x).is_cuda
    expected = fit(x.cpu(), y.cpu(), 3, 100, 1e-4, precision="single", backend="numba")
    torch.testing.assert_close(result.weights.cpu(), expected.weights, atol=5e-6, rtol=0)


@pytest.mark.parametrize("backend", ["torch-gpu", "torch-autograd-gpu"])
def test_published_gpu_loops_agree_with_numba(small, backend):
    expected = fit(*small, 3, 200, 0.1)
    assert fit(*small, 3, 200, 0.1, backend=backend).weights == pytest.approx(expected.weights, abs=1e-12)


def test_tensors_on_two_devices_are_refused():
    with pytest.raises(ValueError, match="want tensors on one device, got cpu and cuda:0"):
        fit(torch.ones(3), torch.ones(3, device="cuda"))


@pytest.mark.parametrize("use_autograd", [False, True])
def test_the_drop_in(use_autograd):
    result = train(*post_samples(), use_gpu=True, use_autograd=use_autograd)
    expected = REFERENCES["single"]
    w, mse = result["w"], result["mseTrace"]
    assert w.is_cuda
    assert mse.is_cuda
    assert w.requires_grad is use_autograd
    assert w.is_leaf
    assert (w.shape, mse.shape) == ((5, 1), (STEPS,))
    assert w.detach().cpu().numpy().ravel() == pytest.approx(expected.weights, abs=expected.tolerance)
    few = reference.train(*post_samples(), nSteps=300, use_gpu=True, use_autograd=use_autograd)
    torch.testing.assert_close(mse[:300], few["mseTrace"], rtol=1e-5, atol=0)


def test_two_threads_fit_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x, y = post_tensors()
    expected = fit(x, y, steps=5000, backend="cudagraph").weights
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(fit, x, y, steps=5000, backend="cudagraph") for _ in range(4)]
        assert all(torch.equal(run.result().weights, expected) for run in runs)
