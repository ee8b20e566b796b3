"""Bad input gets a clear error: the argument's name, what it got and what it wants."""

import re
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from raw_runs import fit

from fastpoly import BackendUnavailableError, backends, stability_limit, train

X = [0.0, 1.0, 2.0]
NAN, INF = float("nan"), float("inf")


class Unfriendly:
    """Neither a number nor a sequence."""


# (what is wrong, arguments of fit, error, message)
BAD = [
    ("lengths differ", dict(y=[1.0, 2.0]), ValueError, "x and y: want the same number of samples, got 3 and 2"),
    ("x empty", dict(x=[], y=[]), ValueError, "x: is empty, wants at least one number"),
    ("empty column", dict(x=np.empty((0, 1))), ValueError, "x: is empty"),
    ("x NaN", dict(x=[0, NAN, 2]), ValueError, "x: wants finite numbers, got x[1] = nan"),
    ("y infinite", dict(y=[0, 1, -INF]), ValueError, "y: wants finite numbers, got y[2] = -inf"),
    ("NaN in a tensor", dict(y=torch.tensor([NAN, 1, 2])), ValueError, "y: wants finite numbers, got y[0] = nan"),
    ("two columns", dict(x=np.zeros((3, 2))), ValueError, "x: wants a vector or one column, got shape (3, 2)"),
    (
        "a row",
        dict(y=np.zeros((1, 3))),
        ValueError,
        "x and y: want the same number of samples, got 3 and 1; the columns",
    ),
    ("three dimensions", dict(x=np.zeros((3, 1, 1))), ValueError, "x: wants a vector or one column"),
    ("a number", dict(x=3.0), ValueError, "x: wants a vector or a column, got a single number"),
    ("None", dict(x=None), TypeError, "x: wants real numbers, got dtype object"),
    ("complex", dict(x=[1j, 2, 3]), TypeError, "x: wants real numbers, got dtype complex128"),
    (
        "complex tensor",
        dict(y=torch.zeros(3, dtype=torch.complex64)),
        TypeError,
        "y: wants real numbers, got dtype comp",
    ),
    ("text", dict(y=["a", "b", "c"]), TypeError, "y: wants real numbers, got dtype <U1"),
    (
        "objects",
        dict(x=pd.Series([1, None, 3], dtype=object)),
        TypeError,
        "got dtype object; convert it with np.asarray(x, float)",
    ),
    ("an object", dict(x=Unfriendly()), TypeError, "x: wants real numbers, got dtype object"),
    (
        "dates",
        dict(x=np.array(["2017-10-10"] * 3, "M8[D]")),
        TypeError,
        "x: wants real numbers, got dtype datetime64[D]",
    ),
    ("ragged", dict(x=[[1], [2, 3]]), ValueError, "x: wants a vector or a column of numbers, got a ragged sequence"),
    ("all-masked", dict(x=np.ma.masked_array(X, [1, 1, 1])), ValueError, "x and y: are empty once"),
    ("sparse", dict(x=torch.tensor(X).to_sparse()), TypeError, "x: wants a dense tensor, got layout torch.sparse_coo"),
    ("degree negative", dict(degree=-1), ValueError, "degree: wants an integer >= 0, got -1"),
    ("degree a float", dict(degree=4.0), TypeError, "degree: wants an integer >= 0, got 4.0 (float)"),
    ("degree text", dict(degree="4"), TypeError, "degree: wants an integer >= 0, got '4' (str)"),
    ("degree bool", dict(degree=True), TypeError, "degree: wants an integer >= 0, got True"),
    ("steps negative", dict(steps=-5), ValueError, "steps: wants an integer >= 0, got -5"),
    ("steps a float", dict(steps=1e3), TypeError, "steps: wants an integer >= 0, got 1000.0 (float)"),
    ("steps beyond int64", dict(steps=2**63), ValueError, "steps: wants at most 9223372036854775807"),
    ("learn_rate zero", dict(learn_rate=0), ValueError, "learn_rate: wants a positive finite number, got 0.0"),
    (
        "learn_rate negative",
        dict(learn_rate=-1e-5),
        ValueError,
        "learn_rate: wants a positive finite number, got -1e-05",
    ),
    ("learn_rate NaN", dict(learn_rate=NAN), ValueError, "learn_rate: wants a positive finite number, got nan"),
    ("learn_rate infinite", dict(learn_rate=INF), ValueError, "learn_rate: wants a positive finite number, got inf"),
    (
        "learn_rate text",
        dict(learn_rate="fast"),
        ValueError,
        "learn_rate: wants 'auto' or a number, got 'fast'",
    ),
    ("learn_rate complex", dict(learn_rate=1j), TypeError, "learn_rate: wants a positive finite number, got complex"),
    ("learn_rate a list", dict(learn_rate=[0.1]), TypeError, "learn_rate: wants a positive finite number, got list"),
    (
        "learn_rate tensor",
        dict(learn_rate=torch.ones(2)),
        TypeError,
        "learn_rate: wants a positive finite number, got Te",
    ),
    (
        "precision unknown",
        dict(precision="half"),
        ValueError,
        "precision: wants one of double, mixed, single, got 'half'",
    ),
    ("precision a type", dict(precision=np.float32), ValueError, "precision: wants one of double, mixed, single"),
    ("precision a list", dict(precision=[]), ValueError, "precision: wants one of double, mixed, single, got []"),
    ("backend unknown", dict(backend="fortran"), ValueError, "backend: wants auto, numpy, torch, torch-gpu,"),
    ("backend None", dict(backend=None), ValueError, "got None"),
    ("mixed on torch", dict(backend="torch", precision="mixed"), ValueError, "backend torch runs in double or single"),
    (
        "weights too few",
        dict(initial_weights=[0.0] * 4),
        ValueError,
        "initial_weights: wants 5 weights for degree 4, got 4",
    ),
    ("weights too many", dict(degree=0, initial_weights=[0, 0]), ValueError, "wants 1 weights for degree 0, got 2"),
    ("weights NaN", dict(degree=0, initial_weights=[NAN]), ValueError, "got initial_weights[0] = nan"),
    ("weights empty", dict(initial_weights=[]), ValueError, "initial_weights: is empty"),
    ("trace_every zero", dict(trace_every=0), ValueError, "trace_every: wants an integer >= 1, got 0"),
    ("trace_every a float", dict(trace_every=0.5), TypeError, "trace_every: wants an integer >= 1, got 0.5 (float)"),
    ("progress a number", dict(progress=1), TypeError, "progress: wants True, False or a function (done, of), got 1"),
    (
        "too large for float32",
        dict(x=[0, 1e39, 1], precision="single"),
        ValueError,
        "x: wants numbers that float32 can hold, got x[1] = 1e+39",
    ),
    (
        "weights too large",
        dict(degree=0, initial_weights=[1e39], precision="mixed"),
        ValueError,
        "wants numbers that float32 can hold, got initial_weights[0] = 1e+39",
    ),
]


@pytest.mark.parametrize("backend", ["numba", "gram", "spectral", "fused-autograd"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in BAD]
)
def test_bad_input(arguments, error, message, backend):
    if arguments.get("precision") in ("single", "mixed") and backend != "numba":
        backend = "numba"  # the others do not run in it, which has its own message
    with pytest.raises(error, match=re.escape(message)):
        fit(**{"x": X, "y": X, "steps": 5, "backend": backend, **arguments})


def test_there_are_enough_of_them():
    assert len(BAD) >= 30


def test_a_trace_beyond_memory_is_refused_before_the_work():
    tracemalloc.start()
    with pytest.raises(MemoryError, match=r"8,000\.0 GB .* larger trace_every, or None, or fewer steps"):
        fit(X, X, steps=10**12)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    with pytest.raises(MemoryError, match="fewer nSteps"):
        train(X, X, nSteps=10**12)


def test_available_memory_heeds_machine_and_container(monkeypatch):
    from fastpoly import _memory

    assert 1e6 < _memory.available_bytes() < 1e15
    monkeypatch.setattr(_memory, "_container", lambda: 1000)
    assert _memory.available_bytes() == 1000
    with pytest.raises(MemoryError):
        fit(X, X, steps=10**7)
    monkeypatch.setattr(_memory, "_machine", lambda: None)
    monkeypatch.setattr(_memory, "_container", lambda: None)
    assert _memory.available_bytes() is None  # nobody says: numpy will
    assert fit(X, X, 1, steps=200, learn_rate=0.1).steps == 200


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["torch-gpu", "torch-autograd-gpu", "triton"])
def test_an_unavailable_backend_says_why_and_what_helps(name):
    with pytest.raises(BackendUnavailableError, match=f"backend {name} cannot run here: .*CUDA.*"):
        fit(X, X, backend=name, steps=1)


def test_without_torch_its_backends_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    reasons = {backend.name: backend.unavailable for backend in backends()}
    for name in ("torch", "torch-gpu", "torch-autograd", "torch-autograd-gpu", "triton"):
        assert reasons[name] == "torch is not installed; pip install 'fastpoly[torch]'"
    assert reasons["numpy"] is reasons["numba"] is None
    with pytest.raises(BackendUnavailableError, match=r"use_torch=True cannot run here: torch is not installed"):
        train(X, X, use_autograd=True)


def test_a_bar_without_rich_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastpoly\[cli\]'"):
        fit(X, X, steps=1, progress=True)


def test_stability_limit_checks_its_input_too():
    with pytest.raises(ValueError, match=r"x: wants finite numbers, got x\[0\] = nan"):
        stability_limit([NAN], 1)
    with pytest.raises(TypeError, match="degree: wants an integer"):
        stability_limit(X, 1.5)


@pytest.mark.parametrize("backend", ["gram", "spectral", "numba", "fused-autograd"])
@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("place", [0, 57, 5_000, 1_200_000])
@pytest.mark.parametrize("name", ["x", "y"])
def test_not_a_number_is_found_wherever_it_is(backend, degree, place, name):
    """In the pass over the samples that some backends make instead of a check before it."""
    samples = {"x": np.linspace(-1, 1, place + 10), "y": np.linspace(-1, 1, place + 10)}
    samples[name][place] = NAN
    with pytest.raises(ValueError, match=rf"{name}: wants finite numbers, got {name}\[{place}\] = nan"):
        fit(**samples, degree=degree, steps=3, learn_rate=0.1, backend=backend)
