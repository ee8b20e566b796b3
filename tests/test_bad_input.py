"""Every argument of every public function, given what callers get wrong.

A table: the calls, each with arguments that are right; and the values, each put in the place of each argument. What is
odd but can be meant gives the numbers of the plain value. All else is a ValueError, a TypeError or, where it is only
too large, a MemoryError, whose message names the argument and ends in a way out. Nothing warns, nothing is half done.
"""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from fastpoly import (
    BackendUnavailableError,
    FitProblem,
    descend,
    descend_module,
    dpoly_dw,
    fit,
    fit_many,
    optimizers,
    poly,
    profiling,
    reference,
    scan,
    stability_limit,
    train,
)

NAN, INF = float("nan"), float("inf")
N = 6
X = np.linspace(-1.0, 1.0, N)
Y = np.array([1.0, 0.0, 2.0, 1.0, 3.0, 2.0])
MANY = np.stack([Y, Y[::-1]])
W = torch.tensor([0.5, -1.0], dtype=torch.float64)
T = torch.linspace(-1, 1, N, dtype=torch.float64)


class Unfriendly:
    """Neither a number nor a sequence, and its repr is long and of several lines."""

    def __repr__(self):
        return "<an\nunfriendly object " + "x" * 5000 + ">"


class Raising:
    """A stranger whose conversions and repr fail."""

    def __float__(self):
        raise KeyError("float")

    def __index__(self):
        raise KeyError("index")

    def __repr__(self):
        raise KeyError("repr")

    def __array__(self, dtype=None, copy=None):
        raise KeyError("array")


NOTHING = {
    "None": None,
    "an object": Unfriendly(),
    "a stranger": Raising(),
    "a generator": (v for v in ()),
    "a set": {1.0, 2.0},
    "a dict": {"a": 1.0},
    "text": "many",
    "digits": "1",
    "bytes": b"1",
    "a class": float,
    "complex": 1 + 0j,
    "a date": np.datetime64("2017-10-10"),
    "a span": np.timedelta64(3, "s"),
    "NaT": np.datetime64("NaT"),
}
"""What no argument of numbers can be."""

NUMBERS = {
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "zero": 0,
    "minus one": -1,
    "a half": 0.5,
    "huge": 10**400,
    "1e300": 1e300,
    "true": True,
    "numpy true": np.True_,
    "a fraction": Fraction(1, 3),
    "empty list": [],
    "a list": [1, 2],
    "an array of one": np.array([3.0]),
    "a tensor of two": torch.ones(2),
    "a meta tensor": torch.empty((), device="meta"),
    "a complex tensor": torch.tensor(1j),
}

SAMPLES = {
    "a number": 3.0,
    "empty": np.empty(0),
    "empty column": np.empty((0, 1)),
    "a row": np.ones((1, N)),
    "three dimensions": np.ones((N, 1, 1)),
    "too few": np.ones(N - 1),
    "nan inside": np.array([0, NAN, 1, 2, 3, 4]),
    "inf inside": np.array([0, 1, 2, 3, 4, -INF]),
    "None inside": [None, 1, 2, 3, 4, 5],
    "text inside": ["a", "b", "c", "d", "e", "f"],
    "digits inside": ["1", "2", "3", "4", "5", "6"],
    "dates": np.array(["2017-10-10"] * N, "M8[D]"),
    "spans": np.arange(N).astype("m8[s]"),
    "complex without imaginary part": np.ones(N, complex),
    "complex tensor": torch.ones(N, dtype=torch.complex128),
    "records": np.zeros(N, [("a", float)]),
    "ragged": [[1], [2, 3]],
    "masked": np.ma.masked_array(X, np.arange(N) == 2),
    "sparse": torch.ones(N).to_sparse(),
    "meta": torch.ones(N, device="meta"),
    "tensors that require a gradient": [torch.ones((), requires_grad=True)] * N,
    "a generator of numbers": (float(v) for v in range(N)),
    "more than there is room for": np.broadcast_to(np.float32(1.0), (10**13,)),
}

ALIKE = {
    "a list": lambda a: a.tolist(),
    "a tuple": lambda a: tuple(a.tolist()),
    "a range of objects": lambda a: list(map(np.float64, a.tolist())) if a.ndim == 1 else a.tolist(),
    "read-only": lambda a: _read_only(a),
    "big-endian": lambda a: a.astype(">f8"),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards twice": lambda a: a[..., ::-1].copy()[..., ::-1],
    "Fortran order": lambda a: np.asfortranarray(a),
    "unaligned": lambda a: _unaligned(a),
    "no mask": lambda a: np.ma.masked_array(a),
    "longdouble": lambda a: a.astype(np.longdouble),
}
"""The same numbers, laid out in another way."""


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    view = room[1:].view(np.float64).reshape(a.shape)
    view[...] = a
    return view


def loss(params, x):
    return ((params[0] + params[1] * x - x.sin()) ** 2).mean()


def step(carry, x):
    return carry * 0.5 + x.mean(), carry.sum()


def module():
    return torch.nn.Linear(1, 1, dtype=torch.float64)


def module_loss(m, x):
    return (m(x[:, None]) ** 2).mean()


FEW = dict(degree=1, steps=3, learn_rate=0.1)
RULE = dict(learn_rate=0.1, steps=2, backend="eager")

CALLS = {
    "fit": (fit, dict(x=X, y=Y, **FEW, backend="auto", precision="double", initial_weights=None, trace_every=1)),
    "fit auto": (
        fit,
        dict(x=X, y=Y, degree=1, steps="auto", learn_rate="auto", domain="auto", sigma=None, sample_weight=None)
        | dict(ridge=0.0, nan_policy="raise", validation=None, early_stopping=False, trace_every="auto"),
    ),
    "fit mixed": (fit, dict(x=X, y=Y, **FEW, precision="mixed")),
    "fit numba": (fit, dict(x=X, y=Y, **FEW, backend="numba")),
    "fit gram": (fit, dict(x=X, y=Y, **FEW, backend="gram")),
    "fit progress": (fit, dict(x=X, y=Y, **FEW, progress=False)),
    "problem": (FitProblem.checked, dict(x=X, y=Y, **FEW)),
    "train": (train, dict(x=X, y=Y, nSteps=3, learnRate=0.1, degree=1, use_torch=False, use_autograd=False)),
    "train gpu": (train, dict(x=X, y=Y, nSteps=3, use_gpu=False)),
    "fit_many": (fit_many, dict(x=X, y=MANY, **FEW, initial_weights=None, trace_every=None, backend="auto")),
    "fit_many auto": (
        fit_many,
        dict(x=X, y=MANY, degree=1, steps="auto", learn_rate="auto", domain="auto", problems="rows"),
    ),
    "fit_many mixed": (fit_many, dict(x=X, y=MANY, **FEW, precision="mixed", progress=False)),
    "stability_limit": (stability_limit, dict(x=X, degree=1, domain=None)),
    "poly": (poly, dict(x=X, w=np.array([1.0, 2.0]))),
    "dpoly_dw": (dpoly_dw, dict(x=X, w=np.array([1.0, 2.0]))),
    "reference": (reference.train, dict(x=X[:, None], y=Y[:, None], nSteps=3, learnRate=0.1, degree=1)),
    "predict": (lambda x: fit(X, Y, **FEW).predict(x), dict(x=X)),
    "descend": (descend, dict(loss=loss, params=W, data=T, **RULE, trace_every=1, progress=False, optimizer="sgd")),
    "descend_module": (
        lambda module, **o: descend_module(module, **o),
        dict(module=module(), loss=module_loss, data=T, **RULE),
    ),
    "scan": (scan, dict(step=step, carry=W, data=T, length=3, backend="eager")),
    "SGD": (optimizers.SGD, dict(momentum=0.5, dampening=0.0, nesterov=False, weight_decay=0.0)),
    "Adam": (optimizers.Adam, dict(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)),
    "AdamW": (optimizers.AdamW, dict(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)),
    "Lion": (optimizers.Lion, dict(betas=(0.9, 0.99), weight_decay=0.0)),
    "AdaBelief": (optimizers.AdaBelief, dict(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)),
}
PROFILE_CALLS = {
    "autograd_ladder": (
        lambda **given: profiling.autograd_ladder(**given),
        dict(x=X, y=Y, degree=1, learn_rate=0.1, precision="single", device="cpu", steps=8, rounds=1, progress=None)
        | dict(rungs=None),
    ),
    "step_split": (lambda **given: profiling.step_split(**given), dict(rounds=1)),
    "loss_profile": (
        lambda **given: profiling.loss_profile(**given),
        dict(loss=loss, params=W, data=T, learn_rate=0.1, rounds=1),
    ),
    "write_trace": (
        lambda **given: profiling.write_trace(**given),
        dict(path="nowhere/trace.json", loss=loss, params=W),
    ),
}
PLACES = ("x", "y", "w", "params", "carry", "data")

FINE = {
    "steps": {"zero"},
    "nSteps": {"zero"},
    "length": {"zero"},
    "degree": {"zero"},
    "learn_rate": {"a half", "a fraction", "1e300"},
    "domain": {"None", "a list"},
    "sigma": {"None", "a half", "a fraction", "true", "numpy true"},
    "sample_weight": {"None", "a half", "1e300", "a fraction", "true", "numpy true"},
    "ridge": {"zero", "a half", "1e300", "a fraction", "true", "numpy true", "a list", "a tensor of two"},
    "validation": {"None"},
    "early_stopping": {"zero"},
    "learnRate": {"a half", "a fraction", "1e300"},
    "initial_weights": {"None", "a list", "a tensor of two"},
    "trace_every": {"None"},
    "progress": {"true"},
    "use_torch": {"true", "numpy true", "zero"},
    "use_autograd": {"true", "numpy true", "zero"},
    "use_gpu": {"zero"},
    "carry": {"a tensor of two"},
    "params": {"a tensor of two", "tensors that require a gradient"},
    "momentum": {"zero", "a half", "1e300", "a fraction"},
    "dampening": {"zero", "a half", "1e300", "minus one", "a fraction"},
    "nesterov": {"true", "numpy true", "zero"},
    "weight_decay": {"zero", "a half", "1e300", "a fraction"},
    "eps": {"zero", "a half", "1e300", "a fraction"},
}
"""What an argument may be, though it stands among the values above."""

ANY_NUMBER = {*NUMBERS} - {"huge", "a meta tensor", "a complex tensor"} | {
    *("a number", "empty", "empty column", "a row", "three dimensions", "too few", "nan inside", "inf inside")
}
"""Of any shape, and NaN is NaN."""

MORE = {
    ("poly", "x"): ANY_NUMBER,
    ("poly", "w"): ANY_NUMBER,
    ("dpoly_dw", "x"): ANY_NUMBER,
    ("dpoly_dw", "w"): ANY_NUMBER,
    ("predict", "x"): ANY_NUMBER,
    ("stability_limit", "x"): {"a list", "an array of one", "a tensor of two", "too few"},
    ("fit_many", "y"): {"a row"},
    ("fit_many auto", "y"): {"a row"},
    ("fit_many auto", "problems"): {"None"},
    ("fit_many auto", "learn_rate"): {*FINE["learn_rate"], "a list", "a tensor of two"},
    ("autograd_ladder", "progress"): {"None"},
    ("autograd_ladder", "rungs"): {"None"},
    ("descend", "learn_rate"): {*FINE["learn_rate"], "a list", "a tensor of two"},
    ("descend_module", "learn_rate"): {*FINE["learn_rate"], "a list", "a tensor of two"},
    ("write_trace", "path"): {"text", "digits"},
    ("write_trace", "loss"): {"None"},
    ("fit_many mixed", "y"): {"a row"},
    ("fit_many", "learn_rate"): {*FINE["learn_rate"], "a list", "a tensor of two"},
    ("fit_many mixed", "learn_rate"): {*FINE["learn_rate"], "a list", "a tensor of two"},
}
"""And for some functions alone."""

CALLED = ("progress", "loss", "step", "optimizer")
"""Arguments that are called, as a class can be."""


def call(name, **changed):
    function, arguments = {**CALLS, **PROFILE_CALLS}[name]
    return function(**{**arguments, **changed})


def values_of(name, argument):
    values = {**NOTHING, **NUMBERS, **(SAMPLES if argument in PLACES else {})}
    if name.startswith("fit") and "many" not in name and argument in ("x", "y"):
        del values["masked"]  # samples that are masked are left out
    if name == "stability_limit" and argument == "x":
        del values["more than there is room for"]  # it looks at them all, for some hours
    if argument in CALLED:
        del values["a class"]
    if argument == "carry":
        del values["tensors that require a gradient"]  # a list: the step takes none
    return values


PROFILES = [(name, a) for name, (_, given) in PROFILE_CALLS.items() for a in given if a != "data"]
CASES = [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments if argument != "data"]


def answer(name, argument, what, value):
    """What is wrong with what a call makes of a value; None if nothing is."""
    try:
        result = call(name, **{argument: value})
    except (ValueError, TypeError, MemoryError) as error:
        said = str(error)
        named = re.match(rf"(x and y: |scan: |{argument}\b)", said) or re.search(r"\(\d[\d,]* bytes\)", said)
        if not named or not re.search("; |Way out", said):
            return f"{type(error).__name__}: {said[:200]}"
        return f"too long: {said[:100]}" if len(said) > 600 or "\n" in said else None
    except BackendUnavailableError as error:
        return None if argument == "use_gpu" and what in ("true", "numpy true") else f"unavailable: {error}"
    except RuntimeWarning as warning:  # DivergenceWarning is one
        return None if argument in ("learn_rate", "learnRate") else f"warns: {warning}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None if what in fine(name, argument) else f"taken, {result!r:.100}"


def fine(name, argument):
    return MORE.get((name, argument), FINE.get(argument, set()))


@pytest.mark.parametrize(("name", "argument"), [pytest.param(*case, id=" ".join(case)) for case in CASES])
def test_it_is_refused_by_name_or_right(name, argument):
    answers = {what: answer(name, argument, what, value) for what, value in values_of(name, argument).items()}
    missed = [f"{what}: {wrong}" for what, wrong in answers.items() if wrong is not None]
    assert not missed, "\n".join(missed)


@pytest.mark.parametrize(("name", "argument"), [pytest.param(*case, id=" ".join(case)) for case in PROFILES])
def test_profiles_refuse_before_they_measure(name, argument):
    """What they would take is left out: it would be measured."""
    values = {what: v for what, v in values_of(name, argument).items() if what not in fine(name, argument)}
    answers = {what: answer(name, argument, what, value) for what, value in values.items()}
    missed = [f"{what}: {wrong}" for what, wrong in answers.items() if wrong is not None]
    assert not missed, "\n".join(missed)


NUMBERS_OUT = {
    "fit": lambda **given: fit(**{"x": X, "y": Y, **FEW, **given}).weights,
    "fit numba": lambda **given: fit(**{"x": X, "y": Y, **FEW, "backend": "numba", **given}).weights,
    "fit gram": lambda **given: fit(**{"x": X, "y": Y, **FEW, "backend": "gram", **given}).mse,
    "fit torch": lambda **given: fit(**{"x": X, "y": Y, **FEW, "backend": "torch", **given}).mse,
    "fit_many": lambda **given: fit_many(**{"x": X, "y": MANY, **FEW, **given}).weights,
    "fit_many numba": lambda **given: fit_many(**{"x": X, "y": MANY, **FEW, "backend": "numba", **given}).weights,
    "train": lambda **given: train(**{"x": X, "y": Y, "nSteps": 3, "degree": 1, **given})["w"],
    "stability_limit": lambda x: stability_limit(x, 2),
    "poly": lambda **given: poly(**{"x": X, "w": Y, **given}),
    "predict": lambda x: fit(X, Y, **FEW).predict(x),
}
PLAIN = {"x": X, "y": Y, "w": Y, "initial_weights": np.array([0.5, -1.0])}
PAIRS = [
    *[(name, argument) for name in NUMBERS_OUT for argument in ("x", "y") if argument == "x" or "fit" in name],
    ("train", "y"),
    ("poly", "w"),
    ("fit", "initial_weights"),
    ("fit_many", "initial_weights"),
]


@pytest.mark.parametrize(("name", "argument"), [pytest.param(*pair, id=" ".join(pair)) for pair in PAIRS])
def test_the_same_numbers_in_another_layout_give_the_same(name, argument):
    plain = MANY if argument == "y" and "many" in name else PLAIN[argument]
    kept = plain.copy()
    expected = np.asarray(NUMBERS_OUT[name](**{argument: plain}))
    for what, made in ALIKE.items():
        got = np.asarray(NUMBERS_OUT[name](**{argument: made(plain)}))
        if name == "poly":  # numpy's matrix product sums in another order, or in the long double that it is given
            assert got.astype(float) == pytest.approx(expected, rel=1e-14), what
        else:
            assert np.array_equal(got, expected), what
    assert np.array_equal(plain, kept), "an argument was written to"


@pytest.mark.parametrize("name", ["fit", "fit numba", "fit gram", "fit torch"])
def test_samples_that_overlap_are_as_good_as_copies(name):
    """Every y the same number in memory (a stride of 0), and x within y's own memory."""
    room = np.linspace(-1, 1, N + 1)
    flat, shifted = np.broadcast_to(np.float64(0.5), (N,)), room[1:]
    expected = np.asarray(NUMBERS_OUT[name](x=room[:-1].copy(), y=shifted.copy()))
    assert np.array_equal(np.asarray(NUMBERS_OUT[name](x=room[:-1], y=shifted)), expected)
    expected = np.asarray(NUMBERS_OUT[name](y=flat.copy()))
    assert np.array_equal(np.asarray(NUMBERS_OUT[name](y=flat)), expected)


def test_masked_samples_are_left_out_in_pairs():
    x = np.ma.masked_array(np.linspace(0, 1, 6), mask=[1, 0, 0, 0, 0, 0])
    y = np.ma.masked_array(2 * np.linspace(0, 1, 6), mask=[0, 0, 0, 0, 0, 1])
    for given in ((x, y), (x.data, np.ma.masked_array(y.data, x.mask | y.mask))):
        result = fit(*given, degree=1)
        assert result.minimum.n == np.ma.count(given[0] + given[1])
        assert result.raw_weights == pytest.approx(np.ma.polyfit(*given, 1)[::-1], abs=1e-9)
    with pytest.raises(ValueError, match="x: has masked entries") as error:  # where they are not left out
        train(x, y)
    advice = re.search(r"keep = (.*), then", str(error.value))[1]
    keep = eval(advice, {"np": np, "x": x, "y": y})
    assert fit(x[keep], y[keep], degree=1).raw_weights == pytest.approx(np.ma.polyfit(x, y, 1)[::-1], abs=1e-9)


def test_predictions_of_integers_are_not_cut():
    result = fit(X, 0.5 + 0.25 * X - 0.75 * X**2, degree=2)
    for dtype in (torch.int64, torch.int32, torch.uint8):
        predicted = result.predict(torch.arange(4).to(dtype))
        assert predicted.dtype == torch.float64
        assert predicted.numpy() == pytest.approx([0.5, 0.0, -2.0, -5.5], abs=1e-9)
    assert result.predict(torch.tensor([True])).tolist() == pytest.approx([0.0], abs=1e-9)
    assert result.predict(torch.arange(4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert result.predict(INF) == -INF


@pytest.mark.parametrize(
    ("work", "bytes_needed"),
    [
        (lambda huge: fit(huge[:1], Y[:1], steps=10**13, trace_every=1), 8 * 10**13),
        (lambda huge: fit_many(X, np.broadcast_to(Y, (10**12, N)), steps=1), 48 * 10**12),
        (lambda huge: fit_many(X, MANY, steps=10**13, trace_every=1), 16 * 10**13),
        (lambda huge: fit(huge, huge, backend="numba", trace_every=None), 8 * 10**13),
        (lambda huge: poly(huge, [1.0, 2.0]), 8 * 10**13),
        (lambda huge: fit(X, Y, **FEW).predict(huge), 24 * 10**13),
        (lambda huge: reference.train(X[:, None], Y[:, None], nSteps=10**13), 4 * 10**13),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(work, bytes_needed):
    huge = np.broadcast_to(np.float32(1.0), (10**13,))
    with pytest.raises(MemoryError, match=rf"\({bytes_needed:,} bytes\) and .* GB are free; choose "):
        work(huge)
