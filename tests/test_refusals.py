"""What cannot be fused is refused in words: the operation, the caller's line, a way out."""

import itertools
import random
import re
import sys
import threading
import time

import numpy as np
import pytest
import torch
from small_loss import W, X, run, smooth

from fastpoly import (
    UnsupportedOperationError,
    descend,
    scan,
)

# -- the loss
# ----------------------------------------------------------------------------------------

KEPT = []
BUFFER = torch.zeros(3, dtype=torch.float64)
COUNTER = itertools.count(1)
NUMPYS = np.random.default_rng(0)
NORM = torch.nn.BatchNorm1d(3, affine=False).double()
DROPOUT = torch.nn.Dropout()


def branch(w, x):
    if (w * w).sum().item() > 0:
        return (w[0] * x).sum()
    return (w[1] * x).sum()


def loop(w, x):
    h = w.sum()
    while h > 1:
        h = h / 2
    return h * w.sum()


def check(w, x):
    assert w.sum().item() < 1e9
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


def other_precision(w, x):
    return smooth(w.half(), x.half())


def complex_numbers(w, x):
    return torch.linalg.eigvals(w * torch.eye(3)).abs().sum()


def bessel(w, x):
    return torch.special.bessel_j0(w.detach()).sum()


REFUSED = {
    # name: (the loss, the operation, its line, why)
    "a branch": (branch, "_local_scalar_dense", "if (w * w).sum().item() > 0:", "the value of a tensor decides"),
    "a loop": (loop, "_local_scalar_dense", "while h > 1:", "the value of a tensor decides"),
    "an assert": (check, "_local_scalar_dense", "assert w.sum().item() < 1e9", "the value of a tensor decides"),
    "item": (item, "_local_scalar_dense", "return w[0].item() * w.sum()", "the value of a tensor decides"),
    "float": (as_a_float, "_local_scalar_dense", "return float(w[0]", "the value of a tensor decides"),
    "a mask that changes": (chosen, "index", "return w[w > 0].sum()", "the index changes from step to step"),
    "allclose": (all_close, "allclose", "if torch.allclose(w, w)", ""),
    "params written to": (params_in_place, "mul_", "w.mul_(0.5)", "it writes to a tensor"),
    "a generator": (noise_of_its_own, "rand", "torch.rand(3", "it draws random numbers"),
    "params in another dtype": (other_precision, "_to_copy", "return smooth(w.half()", "it gives torch.float16"),
    "complex numbers": (complex_numbers, "linalg_eig", "return torch.linalg.eigvals(w", "no rule"),
    "an operation without a rule": (
        bessel,
        "bessel_j0",
        "return torch.special.bessel_j0(",
        "fastpoly has no rule for it",
    ),
}

OF_A_SCAN = {  # what `descend` carries from step to step, and nothing else does
    "random numbers": (noise, "randn_like", "torch.randn_like(x)", "it draws random numbers, anew in every step"),
    "dropout": (dropped, "bernoulli_", "return DROPOUT(w * w).sum()", "it draws random numbers"),
    "a permutation": (shuffled, "randperm", "torch.randperm(3)", "it draws random numbers"),
    "data written to": (in_place, "add_", "x += 1", "it writes to a tensor from outside the loss"),
    "a view of data written to": (part_in_place, "mul_", "x[:5].mul_(0)", "it writes to a tensor from outside"),
    "params written to data": (set_item, "copy_", "x[0] = w[0]", "into another tensor"),
    "a closure's tensor written to": (closure_in_place, "add_", "BUFFER.add_(1)", "from outside the loss"),
    "params written to a closure": (closure_kept, "copy_", "BUFFER.copy_(w.detach())", "into another tensor"),
    "out=": (out, "add", "torch.add(BUFFER, 1, out=BUFFER)", "from outside the loss"),
    "BatchNorm that learns": (normalised, "add_", "return NORM(x[:, None] * w)", "from outside the loss"),
}


@pytest.mark.parametrize("name", [*REFUSED, *OF_A_SCAN])
def test_a_refusal_names_the_operation_the_line_and_a_way_out(name):
    loss, operation, line, why = (REFUSED | OF_A_SCAN)[name]
    before = X.clone()
    with pytest.raises(UnsupportedOperationError) as refusal:
        if name in OF_A_SCAN:
            scan(lambda w, x: (w, loss(w, x)), W, (X,), 1, backend="fused")
        else:
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


@pytest.mark.parametrize("loss", [branch, item, numpy_in_it, leak_to_a_list])
def test_auto_falls_back_with_one_warning(loss):
    """And to what is right: step by step, as torch runs it."""
    eager = run(loss, backend="eager")
    KEPT.clear()
    with pytest.warns(
        RuntimeWarning, match=r"^running with backend='(compile|eager)', many times slower: .*"
    ) as warned:
        fallen = descend(loss, W, (X,), learn_rate=0.1, steps=3)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert fallen.backend != "fused"
    assert fallen.loss.tolist() == pytest.approx(eager.loss.tolist(), rel=1e-12)  # a few roundings, where it compiles
    assert fallen.params.tolist() == pytest.approx(eager.params.tolist(), rel=1e-12)
    if loss is leak_to_a_list:
        assert [float(value) for value in KEPT[-3:]] == fallen.loss.tolist()  # before them, what the refusal left
        KEPT.clear()


def element_by_element(w, x):
    """Without a pattern, which would make it a loop."""
    draw = random.Random(0)
    parts = (w[:, None] * x).reshape(-1).unbind()
    return sum(draw.choice((torch.sin, torch.cos, torch.tanh))(part) * draw.random() for part in parts)


@pytest.mark.filterwarnings("ignore:running with backend='eager', many times slower. unbind:RuntimeWarning")
@pytest.mark.parametrize(
    ("what", "said"), [("tracer.MOST_NODES", "more than 500 operations"), ("traced.MOST_LINES", r"\d{3} lines")]
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


def test_who_looks_at_the_frames_keeps_nothing():
    """A profiler in another thread holds the frames of what was called, and lets go of them."""
    over = threading.Event()

    def look():
        while not over.is_set():
            frames = sys._current_frames()
            time.sleep(0.02)
            del frames

    def loss(p, x):
        value = p * x
        time.sleep(0.02)  # long enough to be looked at
        return (value.sin() - x).square().mean()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for k in range(5):
            x = torch.linspace(0, 1 + k, 20 + k)
            descend(loss, torch.tensor(0.5), x, learn_rate=0.1, steps=2, backend="fused")
    finally:
        over.set()
        watcher.join()
