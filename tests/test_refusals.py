"""What cannot be fused is refused in words: the operation, the caller's line, a way out. And how else a run may end."""

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch

from fastpoly import (
    DivergenceWarning,
    Interrupted,
    UnsupportedOperationError,
    descend,
    descend_module,
    optimizers,
    scan,
)

NAN, INF = math.nan, math.inf
X = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
W = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def smooth(w, x):
    """What all runs here descend on that are not about the loss."""
    return ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean()


def run(loss=smooth, params=W, data=(X,), **options):
    return descend(loss, params, data, **{"learn_rate": 0.1, "steps": 3, "backend": "fused", **options})


# -- the loss
# ----------------------------------------------------------------------------------------

KEPT = []
BUFFER = torch.zeros(3, dtype=torch.float64)
COUNTER = itertools.count(1)
NUMPYS = np.random.default_rng(0)
NORM = torch.nn.BatchNorm1d(3, affine=False).double()
DROPOUT = torch.nn.Dropout()


def branch(w, x):
    if (w * w).sum() > 0:
        return (w[0] * x).sum()
    return (w[1] * x).sum()


def loop(w, x):
    h = w.sum()
    while h > 1:
        h = h / 2
    return h * w.sum()


def check(w, x):
    assert torch.isfinite(w).all()
    return smooth(w, x)


def item(w, x):
    return w[0].item() * w.sum()


def as_a_float(w, x):
    return float(w[0].detach()) * w.sum()


def chosen(w, x):
    return w[w > 0].sum()


def all_close(w, x):
    return w.sum() if torch.allclose(w, w) else smooth(w, x)


def in_place(w, x):
    x += 1
    return smooth(w, x)


def part_in_place(w, x):
    x[:5].mul_(0)
    return smooth(w, x)


def set_item(w, x):
    x[0] = w[0]
    return smooth(w, x)


def closure_in_place(w, x):
    BUFFER.add_(1)
    return (w * BUFFER).sum()


def closure_kept(w, x):
    BUFFER.copy_(w.detach())
    return smooth(w, x)


def out(w, x):
    torch.add(BUFFER, 1, out=BUFFER)
    return (w * BUFFER).sum()


def params_in_place(w, x):
    with torch.no_grad():
        w.mul_(0.5)
    return smooth(w, x)


def noise(w, x):
    return smooth(w, x + torch.randn_like(x))


def noise_of_its_own(w, x):
    return (w * torch.rand(3, generator=torch.Generator().manual_seed(0), dtype=w.dtype)).sum()


def dropped(w, x):
    return DROPOUT(w * w).sum()


def shuffled(w, x):
    return (w[torch.randperm(3)] * torch.arange(3)).sum()


def normalised(w, x):
    return NORM(x[:, None] * w).square().sum()


def single(w, x):
    return (w[0] * x.float()).sum()


def other_precision(w, x):
    return smooth(w.float(), x.float())


def complex_numbers(w, x):
    return torch.fft.fft(w).abs().sum()


def sorted_numbers(w, x):
    return (w.sort().values * torch.arange(3)).sum()


REFUSED = {
    # name: (the loss, the operation, its line, why)
    "a branch": (branch, "_local_scalar_dense", "if (w * w).sum() > 0:", "the value of a tensor decides"),
    "a loop": (loop, "_local_scalar_dense", "while h > 1:", "the value of a tensor decides"),
    "an assert": (check, "_local_scalar_dense", "assert torch.isfinite(w).all()", "the value of a tensor decides"),
    "item": (item, "_local_scalar_dense", "return w[0].item() * w.sum()", "the value of a tensor decides"),
    "float": (as_a_float, "_local_scalar_dense", "return float(w[0]", "the value of a tensor decides"),
    "a mask that changes": (chosen, "index", "return w[w > 0].sum()", "the index changes from step to step"),
    "allclose": (all_close, "allclose", "if torch.allclose(w, w)", ""),
    "data written to": (in_place, "add_", "x += 1", "it writes to a tensor from outside the loss"),
    "a view of data written to": (part_in_place, "mul_", "x[:5].mul_(0)", "it writes to a tensor from outside"),
    "params written to data": (set_item, "copy_", "x[0] = w[0]", "into another tensor"),
    "a closure's tensor written to": (closure_in_place, "add_", "BUFFER.add_(1)", "from outside the loss"),
    "params written to a closure": (closure_kept, "copy_", "BUFFER.copy_(w.detach())", "into another tensor"),
    "out=": (out, "add", "torch.add(BUFFER, 1, out=BUFFER)", "from outside the loss"),
    "params written to": (params_in_place, "mul_", "w.mul_(0.5)", "it writes to a tensor"),
    "random numbers": (noise, "randn_like", "torch.randn_like(x)", "it draws random numbers, anew in every step"),
    "a generator": (noise_of_its_own, "rand", "torch.rand(3", "it draws random numbers"),
    "dropout": (dropped, "bernoulli_", "return DROPOUT(w * w).sum()", "it draws random numbers"),
    "a permutation": (shuffled, "randperm", "torch.randperm(3)", "it draws random numbers"),
    "BatchNorm that learns": (normalised, "add_", "return NORM(x[:, None] * w)", "from outside the loss"),
    "data of another dtype": (
        single,
        "mul",
        "return (w[0] * x.float()).sum()",
        "torch.float32 in a step that computes",
    ),
    "params in another dtype": (other_precision, "_to_copy", "return smooth(w.float()", "torch.float32 in a step"),
    "complex numbers": (complex_numbers, "fft", "return torch.fft.fft(w)", ""),
    "an operation without a rule": (sorted_numbers, "sort", "return (w.sort().values", "fastpoly has no rule for it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_operation_the_line_and_a_way_out(name):
    loss, operation, line, why = REFUSED[name]
    before = X.clone()
    with pytest.raises(UnsupportedOperationError) as refusal:
        run(loss)
    message = str(refusal.value)
    assert re.search(rf"^\w*{operation}\w* .*in test_refusals\.py:\d+ \(.*{re.escape(line)}", message), message
    assert why in message
    assert re.search(r"Way out: .*, or backend='eager'$", message), message
    assert torch.equal(X, before)  # nothing was written to while finding out


def leak_to_a_list(w, x):
    value = smooth(w, x)
    KEPT.append(value.detach())
    return value


def leak_of_params(w, x):
    KEPT.append(w)
    return smooth(w, x)


@pytest.mark.parametrize("loss", [leak_to_a_list, leak_of_params])
def test_what_the_loss_keeps_is_noticed(loss):
    with pytest.raises(UnsupportedOperationError, match=r"the loss keeps a tensor.* in a variable outside.* Way out: "):
        run(loss)
    KEPT.clear()


@pytest.mark.parametrize(
    "loss",
    [
        lambda w, x: smooth(w, x) * next(COUNTER),
        lambda w, x: smooth(w, x) * NUMPYS.random(),
        # a graph of its own line: what another test has seen is not traced twice
        lambda w, x: (w * x.mean()).sum() if next(COUNTER) % 2 else w.sum(),
    ],
    ids=["a counter", "numpy's random numbers", "another graph every time"],
)
def test_what_python_changes_is_noticed(loss):
    with pytest.raises(UnsupportedOperationError, match=r"does something else when it is called again.* Way out: "):
        run(loss)


def swallows(w, x):
    try:
        scale = w[0].item()
    except RuntimeError:
        scale = 1.0
    return scale * w.sum()


def test_a_refusal_cannot_be_swallowed():
    """Else the loss would go on with what it does after an error, at every step."""
    with pytest.raises(UnsupportedOperationError, match="_local_scalar_dense"):
        run(swallows)


def numpy_in_it(w, x):
    return (w * torch.from_numpy(np.sin(w.detach().numpy()))).sum()


def listed(w, x):
    return sum(w.tolist()) * w.sum()


def sparse(w, x):
    return (torch.eye(3, dtype=w.dtype).to_sparse() @ w[:, None]).sum()


@pytest.mark.parametrize("loss", [numpy_in_it, listed, sparse])
def test_what_only_torch_itself_can_run_is_refused_too(loss):
    with pytest.raises(UnsupportedOperationError, match=r"Way out: .*backend='eager'"):
        run(loss)


@pytest.mark.parametrize("loss", [branch, item, normalised, numpy_in_it, leak_to_a_list])
def test_auto_falls_back_with_one_warning(loss):
    """And to what is right: step by step, as torch runs it."""
    NORM.reset_running_stats()
    eager = run(loss, backend="eager")
    NORM.reset_running_stats()
    KEPT.clear()
    with pytest.warns(
        RuntimeWarning, match=r"^running with backend='(compile|eager)', many times slower: .*"
    ) as warned:
        fallen = run(loss, backend="auto")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert fallen.backend != "fused"
    assert fallen.loss.tolist() == pytest.approx(eager.loss.tolist(), rel=1e-12)  # a few roundings, where it compiles
    assert fallen.params.tolist() == pytest.approx(eager.params.tolist(), rel=1e-12)
    if loss is leak_to_a_list:
        assert [float(value) for value in KEPT[-3:]] == fallen.loss.tolist()  # before them, what the refusal left
        KEPT.clear()


def element_by_element(w, x):
    return sum(part.sin() for part in (w[:, None] * x).reshape(-1).unbind())


@pytest.mark.filterwarnings("ignore:running with backend='eager', many times slower. unbind:RuntimeWarning")
@pytest.mark.parametrize(
    ("what", "said"), [("trace.MOST_NODES", "more than 500 operations"), ("traced.MOST_LINES", r"\d{3} lines")]
)
def test_what_would_compile_for_minutes_is_refused(monkeypatch, what, said):
    monkeypatch.setattr(f"fastpoly._fuse.{what}", 500)
    with pytest.raises(UnsupportedOperationError, match=f"{said}.*minutes.*Way out: .*whole tensors.*backend='eager'"):
        run(element_by_element)
    # auto leaves it to torch: it says so where it found out, and weighs the time for compiling where it did not
    assert run(element_by_element, backend="auto").backend != "fused"


# torch's own words for mistakes that have nothing to do with fusing
MISTAKES = {
    "shapes of a product": (lambda w, x: (x.reshape(20, 5) @ w).sum(), RuntimeError, "size mismatch|cannot be multip"),
    "shapes of a sum": (lambda w, x: (w + x).sum(), RuntimeError, "must match the size of tensor"),
    "an axis": (lambda w, x: w.sum(1), IndexError, "Dimension out of range"),
    "an axis of amax": (lambda w, x: w.amax(3), IndexError, "Dimension out of range"),
    "a reshape": (lambda w, x: w.reshape(2, 2).sum(), RuntimeError, "invalid for input of size 3"),
    "an index": (lambda w, x: w[7], IndexError, "out of bounds"),
    "an index in a tensor": (lambda w, x: w[torch.tensor([1, 7])].sum(), IndexError, "out of bounds"),
    "a label": (
        lambda w, x: torch.nn.functional.cross_entropy(w[None], torch.tensor([3])),
        IndexError,
        "out of bounds",
    ),
    "its own": (lambda w, x: {}["mine"], KeyError, "mine"),
    "a name": (lambda w, x: w.summ(), AttributeError, "summ"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_loss_is_told_in_torchs_words(name):
    loss, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        run(loss)


# -- arguments
# ----------------------------------------------------------------------------------------

MODULE = torch.nn.Linear(1, 1).double()
FROZEN = torch.nn.Linear(1, 1).double().requires_grad_(False)


def of_module(module, x):
    return module(x[:, None]).square().mean()


def of_descend(**options):
    return lambda: run(**options)


def of_function(function):
    return lambda: run(optimizer=function)


def of_scan(**options):
    defaults = dict(step=lambda c, x: (0.5 * c, c.sum()), carry=W, data=(X,), length=3, backend="fused")
    return lambda: scan(**{**defaults, **options})


def plain(params, grads, state):
    return params - 0.1 * grads, state


BAD = {
    # what is wrong: (the call, error, message)
    "loss none": (of_descend(loss=None), TypeError, "loss: wants a function, got None"),
    "loss too few": (of_descend(loss=lambda w: w.sum()), TypeError, "takes 1 positional argument but 2 were given"),
    "loss a number": (of_descend(loss=lambda w, x: 1.0), TypeError, "loss: its result: wants tensors, got 1.0 (float)"),
    "loss nothing": (of_descend(loss=lambda w, x: None), TypeError, "loss: its result: wants tensors, got None"),
    "loss a pair": (of_descend(loss=lambda w, x: (w.sum(), 1)), TypeError, "loss: its result: wants tensors, got ("),
    "loss a vector": (
        of_descend(loss=lambda w, x: w * w),
        ValueError,
        "loss: wants to return one number, got shape (3,); take its mean or sum",
    ),
    "loss of data": (
        of_descend(loss=lambda w, x: x.sum()),
        ValueError,
        "loss: its result does not depend on the param",
    ),
    "loss detached": (of_descend(loss=lambda w, x: w.sum().detach()), ValueError, "does not depend on the params"),
    "loss an integer": (of_descend(loss=lambda w, x: (w > 0).sum()), ValueError, "does not depend on the params"),
    "params none": (of_descend(params=None), TypeError, "params: wants tensors, got None (NoneType)"),
    "params empty": (of_descend(params=[]), ValueError, "params: has no tensors"),
    "params a number": (of_descend(params=1.0), TypeError, "params: wants tensors, got 1.0 (float)"),
    "params an array": (of_descend(params=np.ones(2)), TypeError, "params: wants tensors, got array([1., 1.]) (ndarr"),
    "params a text in a dict": (
        of_descend(params={"a": W, "b": "x"}),
        TypeError,
        "params: wants tensors, got 'x' (str",
    ),
    "params integers": (
        of_descend(params=torch.ones(3).long()),
        TypeError,
        "params: wants tensors of floats, got torch",
    ),
    "params complex": (of_descend(params=W + 0j), TypeError, "params: wants tensors of floats, got torch.complex128"),
    "params NaN": (of_descend(params=NAN * W), ValueError, "params: want finite numbers, got NaN or infinity"),
    "params of two dtypes": (
        of_descend(params=[W, W.float()]),
        ValueError,
        "params: want one dtype, got torch.float32 and torch.float64",
    ),
    "params sparse": (
        of_descend(params=W.to_sparse()),
        TypeError,
        "params: wants dense tensors with values, got layout",
    ),
    "params meta": (of_descend(params=W.to("meta")), TypeError, "params: wants dense tensors with values, got layout"),
    "params half": (
        of_descend(params=W.half(), data=(X.half(),)),
        UnsupportedOperationError,
        "torch.float16",
    ),
    "data missing": (of_descend(data=()), TypeError, "missing 1 required positional argument: 'x'"),
    "learn_rate zero": (of_descend(learn_rate=0), ValueError, "learn_rate: wants a positive finite number, got 0.0"),
    "learn_rate negative": (
        of_descend(learn_rate=-1),
        ValueError,
        "learn_rate: wants a positive finite number, got -1",
    ),
    "learn_rate NaN": (of_descend(learn_rate=NAN), ValueError, "learn_rate: wants a positive finite number, got nan"),
    "learn_rate infinite": (
        of_descend(learn_rate=INF),
        ValueError,
        "learn_rate: wants a positive finite number, got in",
    ),
    "learn_rate text": (
        of_descend(learn_rate="1"),
        TypeError,
        "learn_rate: wants a positive finite number, got '1' (st",
    ),
    "learn_rate bool": (of_descend(learn_rate=True), TypeError, "learn_rate: wants a positive finite number, got True"),
    "learn_rate several": (
        of_descend(learn_rate=W),
        TypeError,
        "learn_rate: wants a positive finite number, got Tensor",
    ),
    "steps negative": (of_descend(steps=-1), ValueError, "steps: wants an integer >= 0, got -1"),
    "steps a float": (of_descend(steps=1e3), TypeError, "steps: wants an integer >= 0, got 1000.0 (float)"),
    "steps bool": (of_descend(steps=True), TypeError, "steps: wants an integer >= 0, got True"),
    "steps none": (of_descend(steps=None), TypeError, "steps: wants an integer >= 0, got None"),
    "steps beyond int64": (of_descend(steps=2**63), ValueError, "steps: wants at most 9223372036854775807"),
    "trace beyond memory": (of_descend(steps=10**13), MemoryError, "trace_every"),
    "trace_every zero": (of_descend(trace_every=0), ValueError, "trace_every: wants an integer >= 1, got 0"),
    "trace_every a float": (
        of_descend(trace_every=0.5),
        TypeError,
        "trace_every: wants an integer >= 1, got 0.5 (float",
    ),
    "backend unknown": (
        of_descend(backend="gpu"),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager, go",
    ),
    "backend none": (
        of_descend(backend=None),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager, got N",
    ),
    "progress a number": (
        of_descend(progress=1),
        TypeError,
        "progress: wants True, False or a function (done, of), go",
    ),
    "optimizer unknown": (
        of_descend(optimizer="lion"),
        ValueError,
        "optimizer: wants one of sgd, momentum, nesterov, adam, adamw, got 'lion'",
    ),
    "optimizer none": (
        of_descend(optimizer=None),
        TypeError,
        "optimizer: wants a name, an object or a function, got No",
    ),
    "optimizer a class": (
        of_descend(optimizer=optimizers.Adam),
        TypeError,
        "optimizer: wants an object, got the class; write Adam()",
    ),
    "optimizer of torch": (
        of_descend(optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)),
        TypeError,
        "optimizer: wants a name, an object or a function, got SGD",
    ),
    "optimizer no pair": (
        of_function(lambda p, g, s: p),
        TypeError,
        "optimizer: wants to return (params, state), got T",
    ),
    "optimizer nothing": (
        of_function(lambda p, g, s: None),
        TypeError,
        "optimizer: wants to return (params, state), go",
    ),
    "optimizer another structure": (
        of_function(lambda p, g, s: ([p], s)),
        ValueError,
        "optimizer: returns params of another structure",
    ),
    "optimizer another shape": (of_function(lambda p, g, s: (p[:1], s)), ValueError, "optimizer: "),
    "optimizer's state a number": (
        of_function(lambda p, g, s: (p - g, 1)),
        TypeError,
        "optimizer: its state: wants tensors, got 1 (int)",
    ),
    "optimizer's state changes": (
        of_function(lambda p, g, s: (p - g, g if s is None else [s, g])),
        ValueError,
        "optimizer: its state changes its structure",
    ),
    "state too short": (of_descend(optimizer="adam", state=[W]), ValueError, "state: "),
    "state of another shape": (of_descend(optimizer="momentum", state=[X]), ValueError, "state: "),
    "state too long": (of_descend(state=[W]), ValueError, "state: "),
    "state of text": (of_descend(optimizer="adam", state="abc"), TypeError, "state: wants tensors, got 'abc' (str)"),
    "momentum negative": (
        lambda: optimizers.SGD(momentum=-1),
        ValueError,
        "momentum: wants a finite number >= 0, got -",
    ),
    "momentum text": (lambda: optimizers.SGD(momentum="a"), TypeError, "momentum: wants a finite number >= 0, got 'a'"),
    "dampening NaN": (lambda: optimizers.SGD(0.9, dampening=NAN), ValueError, "dampening: wants a finite number"),
    "nesterov alone": (
        lambda: optimizers.SGD(nesterov=True),
        ValueError,
        "nesterov: wants a momentum > 0 and no dampening",
    ),
    "weight_decay infinite": (
        lambda: optimizers.SGD(weight_decay=INF),
        ValueError,
        "weight_decay: wants a finite number >= 0, got inf",
    ),
    "betas too large": (
        lambda: optimizers.Adam(betas=(1, 0.9)),
        ValueError,
        "betas: want two numbers from 0 up to 1, got (1, 0.9)",
    ),
    "betas three": (
        lambda: optimizers.Adam(betas=(0.9, 0.9, 0.9)),
        ValueError,
        "betas: want two numbers from 0 up to 1",
    ),
    "betas one": (
        lambda: optimizers.Adam(betas=0.9),
        (TypeError, ValueError),
        "betas: want two numbers from 0 up to 1",
    ),
    "eps negative": (lambda: optimizers.AdamW(eps=-1), ValueError, "eps: wants a finite number >= 0, got -1"),
    "module none": (
        lambda: descend_module(None, of_module, (X,), learn_rate=0.1, steps=1),
        TypeError,
        "module: wants a torch.nn.Module, got NoneType",
    ),
    "module frozen": (
        lambda: descend_module(FROZEN, of_module, (X,), learn_rate=0.1, steps=1),
        ValueError,
        "module: has no parameters that require a gradient",
    ),
    "option unknown": (
        lambda: descend_module(MODULE, of_module, (X,), learn_rate=0.1, steps=1, momentum=0.9),
        TypeError,
        "unexpected keyword argument 'momentum'",
    ),
    "step none": (of_scan(step=None), TypeError, "step: wants a function, got None"),
    "step no pair": (of_scan(step=lambda c, x: c), TypeError, "step: wants to return (carry, output), got Tensor"),
    "step another shape": (
        of_scan(step=lambda c, x: (c[:1], c)),
        ValueError,
        "step: leaf 0 of the carry was (3,) torch.float64 and comes back (1,) torch.float64",
    ),
    "step another dtype": (of_scan(step=lambda c, x: (c.float(), c)), ValueError, "comes back (3,) torch.float32"),
    "step another structure": (
        of_scan(step=lambda c, x: ([c], c)),
        ValueError,
        "step: returns a carry of another structure",
    ),
    "step's output a number": (
        of_scan(step=lambda c, x: (c, 1.0)),
        TypeError,
        "step: an output: wants tensors, got 1.0",
    ),
    "carry integers": (
        of_scan(carry=torch.ones(3).long()),
        TypeError,
        "carry: wants tensors of floats, got torch.int64",
    ),
    "carry none": (of_scan(carry=None), TypeError, "carry: wants tensors, got None"),
    "carry empty": (of_scan(carry=(), step=lambda c, x: ((), x.sum())), ValueError, "carry: has no tensors"),
    "length negative": (of_scan(length=-1), ValueError, "length: wants an integer >= 0, got -1"),
    "length a float": (of_scan(length=3.0), TypeError, "length: wants an integer >= 0, got 3.0 (float)"),
    "outputs beyond memory": (of_scan(length=10**13), MemoryError, "length"),
    "scan's backend unknown": (
        of_scan(backend="jax"),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_arguments(wrong):
    call, error, message = BAD[wrong]
    with pytest.raises(error, match=re.escape(message)):
        call()


# -- the ends of a run
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("trace_every", [1, 7, None])
def test_divergence_ends_the_run(backend, trace_every):
    """The params are those whose loss is not finite; the losses are those that are."""
    with pytest.warns(
        DivergenceWarning, match=r"diverged at step \d+: the loss is not finite; choose a learn_rate bel"
    ):
        result = run(learn_rate=5.0, steps=2000, backend=backend, trace_every=trace_every)
    assert result.diverged_at == result.steps < 2000
    assert not torch.isfinite(smooth(result.params, X))
    assert torch.isfinite(result.loss).all()
    assert len(result.loss) == (0 if trace_every is None else -(-result.steps // trace_every))
    before = run(learn_rate=5.0, steps=result.steps - 1, backend=backend)
    assert before.diverged_at is None
    assert torch.isfinite(smooth(before.params, X))


def test_params_that_are_not_finite_after_the_last_step_are_a_divergence_too():
    with pytest.warns(DivergenceWarning, match="diverged at step 1"):
        result = run(lambda w, x: (w**2).sum() * 1e300, learn_rate=1e10, steps=1)
    assert result.diverged_at == 1


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_no_steps(backend):
    for optimizer in ("sgd", "adam", plain):
        result = run(steps=0, backend=backend, optimizer=optimizer)
        assert torch.equal(result.params, W)
        assert (result.steps, result.loss.tolist(), result.diverged_at) == (0, [], None)
        assert result.loss.dtype == W.dtype


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_trace_every(backend):
    whole = run(steps=20, backend=backend)
    for every in (1, 3, 20, 21, 1000):
        some = run(steps=20, trace_every=every, backend=backend)
        assert torch.equal(some.loss, whole.loss[::every])
        assert torch.equal(some.params, whole.params)
    none = run(steps=20, trace_every=None, backend=backend)
    assert len(none.loss) == 0
    assert torch.equal(none.params, whole.params)


def test_what_is_given_stays_as_it_is():
    params = {"a": W.clone().requires_grad_(), "b": [torch.ones(3, 4, dtype=torch.float64).T]}
    data = X.clone()
    before = params["a"].detach().clone(), params["b"][0].clone()
    result = run(lambda p, x: smooth(p["a"], x) + p["b"][0].square().sum(), params, (data,))
    assert torch.equal(params["a"], before[0])
    assert torch.equal(params["b"][0], before[1])
    assert params["a"].grad is None
    assert torch.equal(data, X)
    assert not result.params["a"].requires_grad
    assert result.params["b"][0].shape == (4, 3)


def test_the_same_bits_every_time():
    one, other = run(steps=1000), run(steps=1000)
    assert torch.equal(one.params, other.params)
    assert torch.equal(one.loss, other.loss)


def test_scan_keeps_the_dtype_of_outputs():
    def step(c, x):
        return c * 2, {"float": c.sum(), "bool": c > 0.3, "int": (c > 0.3).sum()}

    fused, eager = (scan(step, W, (X,), 3, backend=backend)[1] for backend in ("fused", "eager"))
    for name, want in eager.items():
        assert fused[name].dtype == want.dtype
        assert torch.equal(fused[name], want) or name == "float"


# -- Ctrl-C
# ----------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": "sgd",
    "adam": "adam",
    "damped": optimizers.SGD(0.9, dampening=0.5),
    "a function": lambda p, g, s: (p - 0.01 * g, g if s is None else 0.9 * s + g),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_splits_anywhere(optimizer):
    whole = run(steps=50, optimizer=optimizer)
    first = run(steps=20, optimizer=optimizer)
    second = run(params=first.params, steps=30, optimizer=optimizer, state=first.state)
    assert torch.equal(second.params, whole.params)
    assert torch.equal(torch.cat([first.loss, second.loss]), whole.loss)


CHILD = """
import sys, time
import torch
from fastpoly import Interrupted, descend

optimizer, steps, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
x = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
w = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)

def loss(w, x):
    return ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean()

options = dict(learn_rate=1e-7, optimizer=optimizer, backend="fused", trace_every=1000)
descend(loss, w, (x,), steps=10, **options)  # compiled: the run is what gets interrupted
told = []
started = time.monotonic()

def progress(done, of):
    if not told and time.monotonic() > started + 0.3:  # well into the run, where portions have their full length
        told.append(done)
        print("running", flush=True)

try:
    descend(loss, w, (x,), steps=steps, progress=progress, **options)
except KeyboardInterrupt as stop:
    print("stopped", flush=True)
    assert isinstance(stop, Interrupted)
    partial = stop.partial
    torch.save((partial.params, partial.loss, partial.state, partial.steps), out)
    print(stop)
else:
    print("ran to the end")
"""


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_ctrl_c(tmp_path, optimizer):
    saved, steps = tmp_path / "partial.pt", 10**9
    arguments = [sys.executable, "-c", CHILD, optimizer, str(steps), str(saved)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "running\n"
        pressed = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped\n"
        waited = time.monotonic() - pressed
        message = child.stdout.readline()
    assert child.returncode == 0
    assert waited < 1.0  # promised: 0.2 s; the rest is for a busy machine
    params, losses, state, done = torch.load(saved)
    assert f"interrupted after {done:,} of {steps:,} steps" in message
    assert 0 < done < steps
    assert len(losses) == -(-done // 1000)
    # an unbroken run of those steps, and some more from either, have the same bits
    options = dict(learn_rate=1e-7, optimizer=optimizer, trace_every=1000)
    whole = run(steps=done, **options)
    assert torch.equal(params, whole.params)
    assert torch.equal(losses, whole.loss)
    on = run(params=params, steps=500, state=state, **options)
    further = run(steps=done + 500, **options)
    assert torch.equal(on.params, further.params)


def test_a_module_that_is_interrupted_holds_the_partial_result(monkeypatch):
    module = torch.nn.Linear(1, 1).double()

    def pressing(done, of):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stop:
        descend_module(module, of_module, (X,), learn_rate=1e-3, steps=10**6, backend="fused", progress=pressing)
    partial = stop.value.partial
    assert 0 < partial.steps < 10**6
    assert torch.equal(module.weight, partial.params["weight"])


# -- the cache of kernels
# ----------------------------------------------------------------------------------------

PROGRAM = textwrap.dedent("""
    import sys
    import torch
    from fastpoly import descend
    from fastpoly._fuse import machine
    compiled, optimised = [], machine.optimised
    machine.optimised = lambda *arguments: compiled.append(arguments) or optimised(*arguments)
    x = torch.linspace(-1, 1.3, 100, dtype=torch.float64)
    w = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    result = descend(lambda w, x: ((w[0] + w[1] * x + w[2] * x * x - torch.sin(3 * x)) ** 2).mean(),
                     w, (x,), learn_rate=0.1, steps=100, backend="fused")
    print(*(number.hex() for number in result.params.tolist()), bool(compiled))
    assert "numba" not in sys.modules
""")


def in_a_process(cache):
    """(the params, whether anything was compiled): of a run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, "FASTPOLY_CACHE_DIR": str(cache)},
        check=True,
    )
    *params, compiled = done.stdout.split()
    return params, compiled == "True"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the kernel in it, and the params that the run gave that compiled it."""
    cache = tmp_path_factory.mktemp("cache") / "not" / "there" / "yet"
    params, compiled = in_a_process(cache)
    assert compiled
    return cache, params


def test_a_kernel_is_compiled_once_and_then_loaded(filled):
    cache, params = filled
    assert in_a_process(cache) == (params, False)


def with_one_bit_changed(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty", marks=pytest.mark.slow),
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(with_one_bit_changed, id="one bit"),
        pytest.param(lambda content: b"another program's file\n" + content, id="foreign", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cache_costs_a_compilation(tmp_path, filled, damage):
    cache, params = filled
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        (tmp_path / path.name).write_bytes(damage(path.read_bytes()))
    assert in_a_process(tmp_path) == (params, True)
    for path in files:  # and mended
        assert (tmp_path / path.name).stat().st_size == path.stat().st_size


def test_a_cache_that_cannot_be_written_costs_a_compilation(tmp_path, filled):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    assert in_a_process(blocked) == (filled[1], True)


# -- threads
# ----------------------------------------------------------------------------------------


def test_two_threads_descend_at_once():
    """Different losses, and the same one twice: each compiled and run beside the others."""

    def other(w, x):
        return (w[0] + w[1] * torch.exp(w[2] * x) - x).abs().mean()

    losses = [smooth, other, smooth, other]
    results = [None] * len(losses)

    def work(i):
        results[i] = run(losses[i], steps=20_000, learn_rate=1e-3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(losses))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loss, result in zip(losses, results, strict=True):
        alone = run(loss, steps=20_000, learn_rate=1e-3)
        assert torch.equal(result.params, alone.params)
        assert torch.equal(result.loss, alone.loss)
