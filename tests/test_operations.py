"""Every operation of the fuser's tables, by the names that torch has for them: value and gradient are torch's.

A case is a function of one tensor (or of a list of them). What it returns is summed with uneven weights, so that no
element can stand in for another, and that sum and its gradient are taken twice: by torch, and by `scan`, fused. Cases
of a kind share a kernel, because compiling is what takes time here; what is off is told by name.
"""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils import _pytree as tree

from fastpoly import scan
from fastpoly._fuse import pointwise, rules
from fastpoly._fuse.trace import trace

pytestmark = pytest.mark.slow  # some two hundred kernels to compile: make test-all

ROUNDINGS = {torch.float64: 1e-12, torch.float32: 2e-5}
"""Of the largest entry of a value or gradient, or of 1. Sums of up to 4,000 numbers of either sign in another order and
elementary functions to 2 ulp make 1e-14 and 2e-6; the rest is for what the cases do with them."""


def weighted(value):
    """A number that depends on every element of a tensor, or of several, in its own way."""
    if isinstance(value, (tuple, list)):
        return sum(weighted(part) for part in value)
    weights = torch.cos(torch.arange(value.numel(), dtype=torch.float64)).reshape(value.shape)
    return (value * weights.to(value.dtype)).sum()


def values_and_gradients(cases):
    """A step of `scan` that leaves its carry as it is and gives {name: (value, gradients)}."""

    def step(carry):
        return carry, {name: value_and_gradients(case, carry) for name, case in cases.items()}

    return step


def value_and_gradients(case, params):
    leaves, structure = tree.tree_flatten(params)
    own = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad():
        value = weighted(case(tree.tree_unflatten(own, structure)))
        gradients = torch.autograd.grad(value, own, materialize_grads=True)
    return [value.detach(), *gradients]


def values(cases):
    """A step of `scan` that leaves its carry as it is and gives {name: value}, whole."""
    return lambda carry: (carry, {name: [case(carry)] for name, case in cases.items()})


def off(step, carry):
    """What differs between the step fused and the step as torch takes it: {name: (by how much, ...)}."""
    want = step(carry)[1]
    got = scan(step, carry, (), 1, backend="fused")[1]
    found = {}
    for name in want:
        deviations = tuple(deviation(g[0], w) for g, w in zip(got[name], want[name], strict=True))
        if not all(d <= ROUNDINGS[want[name][0].dtype] for d in deviations):
            found[name] = deviations
    return found


def deviation(got, want):
    """Relative to the largest entry, or to 1; infinite where NaN, infinities or kinds do not agree."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return math.inf
    finite = want.isfinite()
    if not torch.equal(torch.where(finite, 0.0, got), torch.where(finite, 0.0, want)):
        special = torch.where(finite, 0.0, got).nan_to_num(123.0), torch.where(finite, 0.0, want).nan_to_num(123.0)
        if not torch.equal(*special):
            return math.inf
    got, want = got[finite].double(), want[finite].double()
    return float((got - want).abs().max() / want.abs().max().clamp_min(1.0)) if want.numel() else 0.0


def numbers(*shape, seed=0.0, dtype=torch.float64):
    """Anything between -2 and 2; no two alike."""
    return (2 * torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 1.7 + seed)).reshape(shape).to(dtype)


# -- element by element
# ----------------------------------------------------------------------------------------


def positive(a):
    return a.abs() + 0.3


def added_in_place(a):
    h = a * 2
    h += 1
    h *= a
    return h


def without_gradient(a):
    with torch.no_grad():
        factor = a * a
    return a * factor


ELEMENTWISE = {
    "arithmetic": {
        "a + 2.5": lambda a: a + 2.5,
        "1 - a": lambda a: 1 - a,
        "a - b": lambda a: a - 0.3 * a * a,
        "a * a": lambda a: a * a,
        "a / b": lambda a: a / (1 + a * a),
        "2 / a": lambda a: 2 / (2 + a * a),
        "-a": lambda a: -a,
        "add alpha": lambda a: torch.add(a, a * a, alpha=-3),
        "sub alpha": lambda a: torch.sub(a, a * a, alpha=2),
        "rsub alpha": lambda a: torch.rsub(a, 3.0, alpha=2),
        "true_divide": lambda a: torch.true_divide(a, 3),
        "reciprocal": lambda a: (2 + a * a).reciprocal(),
        "square": lambda a: a.square(),
        "addcmul": lambda a: torch.addcmul(a, a, a.sin(), value=0.3),
        "addcdiv": lambda a: torch.addcdiv(a, a, positive(a), value=0.3),
        "lerp": lambda a: torch.lerp(a, a * a, 0.3),
        "lerp by a tensor": lambda a: torch.lerp(a, a * a, a.sigmoid()),
        "hypot": lambda a: torch.hypot(a, a + 3),
        "remainder": lambda a: torch.remainder(a, 0.7),
        "fmod": lambda a: torch.fmod(a, 0.7),
        "deg2rad": torch.deg2rad,
    },
    "powers": {
        "** 0": lambda a: a**0,
        "** 1": lambda a: a**1,
        "** 2": lambda a: a**2,
        "** 3": lambda a: a**3,
        "** 7": lambda a: a**7,
        "** -1": lambda a: (4 + a) ** -1,
        "** -3": lambda a: (4 + a) ** -3,
        "** 0.5": lambda a: positive(a) ** 0.5,
        "** -0.5": lambda a: positive(a) ** -0.5,
        "** 1.5": lambda a: positive(a) ** 1.5,
        "** -1.5": lambda a: positive(a) ** -1.5,
        "** 2.5": lambda a: positive(a) ** 2.5,
        "** 0.37": lambda a: positive(a) ** 0.37,
        "** 100": lambda a: (1 + 1e-3 * a) ** 100,
        "tensor ** tensor": lambda a: positive(a) ** a,
        "negative ** 3": lambda a: (a - 5) ** 3,
        "2 ** a": lambda a: 2**a,
        "0.5 ** a": lambda a: 0.5**a,
        "1 ** a": lambda a: 1.0**a,
    },
    "exponentials": {
        "exp": torch.exp,
        "exp2": torch.exp2,
        "expm1": torch.expm1,
        "log": lambda a: positive(a).log(),
        "log2": lambda a: positive(a).log2(),
        "log10": lambda a: positive(a).log10(),
        "log1p": lambda a: positive(a).log1p(),
        "sqrt": lambda a: positive(a).sqrt(),
        "rsqrt": lambda a: positive(a).rsqrt(),
        "xlogy": lambda a: torch.xlogy(a, positive(a)),
        "logaddexp": lambda a: torch.logaddexp(a, a * a),
        "logit": lambda a: torch.logit(a.sigmoid()),
        "lgamma, no gradient": lambda a: torch.lgamma(positive(a).detach()) * a,
    },
    "angles": {
        "sin": torch.sin,
        "cos": torch.cos,
        "tan": lambda a: torch.tan(0.3 * a),
        "asin": lambda a: (0.3 * a).asin(),
        "acos": lambda a: (0.3 * a).acos(),
        "atan": torch.atan,
        "sinh": torch.sinh,
        "cosh": torch.cosh,
        "tanh": torch.tanh,
        "asinh": torch.asinh,
        "acosh": lambda a: (2 + positive(a)).acosh(),
        "atanh": lambda a: (0.3 * a).atanh(),
        "sinc": torch.sinc,
    },
    "activations": {
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "relu6": F.relu6,
        "leaky_relu": lambda a: F.leaky_relu(a, 0.2),
        "gelu": F.gelu,
        "gelu by tanh": lambda a: F.gelu(a, approximate="tanh"),
        "silu": F.silu,
        "softplus": F.softplus,
        "softplus beta": lambda a: F.softplus(a, beta=2, threshold=1),
        "elu": F.elu,
        "elu alpha": lambda a: F.elu(a, 0.5),
        "selu": F.selu,
        "celu": lambda a: F.celu(a, 1.3),
    },
    "more activations": {
        "mish": F.mish,
        "hardswish": F.hardswish,
        "hardtanh": F.hardtanh,
        "logsigmoid": F.logsigmoid,
        "softsign": F.softsign,
        "tanhshrink": F.tanhshrink,
        "threshold": lambda a: F.threshold(a, 0.1, 20.0),
        "prelu": lambda a: F.prelu(a, torch.full((1,), 0.25, dtype=a.dtype)),
        "dropout in evaluation": lambda a: F.dropout(a, 0.5, training=False),
        "erf": torch.erf,
        "erfc": torch.erfc,
        "ndtr": torch.special.ndtr,
    },
    "pieces": {
        "abs": torch.abs,
        "sign": lambda a: a.sign() * a,
        "clamp": lambda a: a.clamp(-0.5, 0.7),
        "clamp from below": lambda a: a.clamp(min=0.1),
        "clamp from above": lambda a: a.clamp(max=0.1),
        "clamp_max": lambda a: torch.clamp_max(a, 0.2),
        "clamp by tensors": lambda a: torch.clamp(a, -0.5 * a.abs(), a.cos()),
        "maximum": lambda a: torch.maximum(a, a * a),
        "minimum": lambda a: torch.minimum(a, a * a),
        "fmax": lambda a: torch.fmax(a, a * a),
        "fmin": lambda a: torch.fmin(a, a * a),
        "where": lambda a: torch.where(a > 0.1, a, a * a),
        "where with a number": lambda a: torch.where(a > 0.1, a, 0.0),
        "masked_fill": lambda a: a.masked_fill(a > 0.3, 0.2),
        "floor": lambda a: a * a.floor(),
        "ceil": lambda a: a * a.ceil(),
        "round": lambda a: a * a.round(),
        "trunc": lambda a: a * a.trunc(),
        "frac": lambda a: a * a.frac(),
        "nan_to_num": torch.nan_to_num,
    },
    "comparisons": {
        "<": lambda a: (a < 0.1) * a,
        "<=": lambda a: (a <= 0.1) * a,
        ">": lambda a: (a > 0.1) * a,
        ">=": lambda a: (a >= a * a) * a,
        "==": lambda a: (a == a.abs()) * a,
        "!=": lambda a: (a != a.abs()) * a,
        "&": lambda a: ((a < 0.5) & (a > -0.5)) * a,
        "|": lambda a: ((a < -0.5) | (a > 0.5)) * a,
        "^": lambda a: ((a < 0.5) ^ (a > -0.5)) * a,
        "~": lambda a: (~(a < 0.5)) * a,
        "logical_and": lambda a: torch.logical_and(a, a > 0.2) * a,
        "logical_or": lambda a: torch.logical_or(a > 0.7, a < 0) * a,
        "logical_xor": lambda a: torch.logical_xor(a > 1, a > -1) * a,
        "logical_not": lambda a: torch.logical_not(a > -1) * a,
        "isnan": lambda a: torch.where(torch.isnan(a), 0.0, a),
        "isinf": lambda a: torch.where(torch.isinf(a), 0.0, a),
        "isfinite": lambda a: torch.where(torch.isfinite(a), a, 0.0),
        "isclose": lambda a: a * torch.isclose(a, a.abs()),
        "as bool": lambda a: a * (a > 0.3).to(a.dtype).bool(),
        "bool as float": lambda a: a * (a > 0).to(a.dtype),
        "bool as integer": lambda a: a * (a > 0).long(),
    },
    "copies": {
        "clone": lambda a: a.clone() * a,
        "contiguous": lambda a: a.contiguous() * 2,
        "to": lambda a: a.to(a.dtype) * 3,
        "detach": lambda a: a * a.detach(),
        "no_grad": without_gradient,
        "ones_like": lambda a: a * torch.ones_like(a),
        "zeros_like": lambda a: a + torch.zeros_like(a),
        "full_like": lambda a: a * torch.full_like(a, 3.0),
        "+= and *=": added_in_place,
        "add_": lambda a: (2 * a).add_(1.5),
        "sub_": lambda a: (2 * a).sub_(a, alpha=0.3),
        "relu_": lambda a: (2 * a).relu_(),
        "clamp_": lambda a: (2 * a).clamp_(-1, 1),
        "exp_": lambda a: (0.5 * a).exp_(),
        "pow_": lambda a: (2 * a).pow_(2),
        "fill_": lambda a: a + (2 * a).fill_(2.0),
        "zero_": lambda a: a + (2 * a).zero_(),
        "copy_": lambda a: (2 * a).copy_(a),
        "masked_fill_": lambda a: (2 * a).masked_fill_(a > 0, 1.0),
    },
}


def in_registers_and_alone(case, x):
    """A case on 100 samples, which fill registers and leave a rest, and on three numbers in variables."""

    def both(params):
        one, few = params
        return case(one * x.to(one.dtype)), case(few)

    return both


def elementwise(kind, dtype=torch.float64):
    x = numbers(100, seed=0.3)
    cases = {name: in_registers_and_alone(case, x) for name, case in ELEMENTWISE[kind].items()}
    params = [torch.tensor(0.93, dtype=dtype), torch.tensor([0.57, -0.31, 1.23], dtype=dtype)]
    return values_and_gradients(cases), params


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_element_by_element(kind, dtype):
    assert off(*elementwise(kind, dtype)) == {}


NAN, INF = math.nan, math.inf
SPECIAL = torch.tensor(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.7, 20.0, -20.0, 700.0, -746.0, 1e-310, 1e308, -1e308, INF, -INF, NAN],
    dtype=torch.float64,
)
"""Zeros of both signs, halves, where exponentials end, a subnormal number, the largest, and what is none."""

AT_SPECIAL_VALUES = {
    "abs": torch.abs,
    "sign": torch.sign,
    "neg": torch.neg,
    "reciprocal": torch.reciprocal,
    "1 / a": lambda a: 1 / a,
    "a / 0": lambda a: a / 0.0,
    "a / a": lambda a: a / a,
    "a - a": lambda a: a - a,
    "0 * a": lambda a: 0 * a,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "erf": torch.erf,
    "sin": torch.sin,
    "** 0": lambda a: a**0,
    "** 2": lambda a: a**2,
    "** 3": lambda a: a**3,
    "** -1": lambda a: a**-1,
    "** -2": lambda a: a**-2,
    "** 0.5": lambda a: a**0.5,
    "** -0.5": lambda a: a**-0.5,
    "** 0.3": lambda a: a**0.3,
    "** -3.3": lambda a: a**-3.3,
    "0 ** a": lambda a: torch.pow(0.0, a),
    "(-2) ** a": lambda a: torch.pow(-2.0, a),
    "relu": torch.relu,
    "leaky_relu": lambda a: F.leaky_relu(a, 0.1),
    "clamp": lambda a: a.clamp(-1, 2),
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "silu": F.silu,
    "elu": F.elu,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "nan_to_num": torch.nan_to_num,
    "isnan": lambda a: a.isnan().double(),
    "isinf": lambda a: a.isinf().double(),
    "isfinite": lambda a: a.isfinite().double(),
    "< 0": lambda a: (a < 0).double(),
    "<= 0": lambda a: (a <= 0).double(),
    "== 0": lambda a: (a == 0).double(),
    "!= 0": lambda a: (a != 0).double(),
    "bool": lambda a: a.bool().double(),
    "where": lambda a: torch.where(a > 0, a, -1.0),
}

OF_SPECIAL_PAIRS = {
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "<": lambda a, b: (a < b).double(),
    ">=": lambda a, b: (a >= b).double(),
    "==": lambda a, b: (a == b).double(),
    "!=": lambda a, b: (a != b).double(),
    "logical_and": lambda a, b: torch.logical_and(a, b).double(),
    "where": lambda a, b: torch.where(a > b, a, b),
    "clamp": lambda a, b: torch.clamp(a, b, b + 1),
}


def places_where_off(step, carry, inputs):
    """{name: [(inputs, got, want), ...]} for values of special numbers, each of which counts."""
    want = step(carry)[1]
    got = scan(step, carry, (), 1, backend="fused")[1]
    found = {}
    for name in want:
        (g,), (w,) = got[name], want[name]
        # elementary functions to 2 ulp, powers to some more; torch's own log1p has lost digits near 1e-310
        near = (g[0] - w).abs() <= 1e-14 * w.abs() + 1e-320
        wrong = ~((g[0] == w) | near | (g[0].isnan() & w.isnan()))
        if wrong.any():
            found[name] = [(inputs[i], float(g[0][i]), float(w[i])) for i in wrong.nonzero().flatten().tolist()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [SPECIAL, SPECIAL[[0, 15, 17]]], ids=["in registers", "alone"])
def test_special_values(numbers):
    """In registers, and in variables."""
    step = values({name: lambda a, f=f: f(a) for name, f in AT_SPECIAL_VALUES.items()})
    assert places_where_off(step, numbers, numbers.tolist()) == {}


def test_special_pairs():
    one, other = SPECIAL.repeat_interleave(len(SPECIAL)), SPECIAL.repeat(len(SPECIAL))
    step = values({name: lambda pair, f=f: f(pair[0], pair[1]) for name, f in OF_SPECIAL_PAIRS.items()})
    inputs = list(zip(one.tolist(), other.tolist(), strict=True))
    assert places_where_off(step, torch.stack([one, other]), inputs) == {}


def logarithm_where_it_is_safe(a):
    return torch.where(a > 0, torch.where(a > 0, a, 1.0).log(), 0.0)


AT_KINKS = {
    "abs": torch.abs,
    "relu": torch.relu,
    "relu6": lambda a: F.relu6(3 * a),
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": lambda a: F.softplus(30 * a),
    "hardswish": lambda a: F.hardswish(1.5 * a),
    "logsigmoid": F.logsigmoid,
    "clamp": lambda a: a.clamp(-1, 2),
    "clamp from below": lambda a: a.clamp(min=0),
    "hardtanh": F.hardtanh,
    "threshold": lambda a: F.threshold(a, 0.0, -1.0),
    "sign": lambda a: a.sign() * a,
    "maximum of equals": lambda a: torch.maximum(a, a * 1.0),
    "maximum with 0": lambda a: torch.maximum(a, torch.zeros((), dtype=a.dtype)),
    "minimum": lambda a: torch.minimum(a.abs(), a),
    "fmax": lambda a: torch.fmax(a.abs(), a),
    "amax of equals": lambda a: a.abs().amax(),
    "amin of equals": lambda a: a.abs().amin(),
    "max of equals": lambda a: a.abs().max(),
    "** 2": lambda a: a**2,
    "** 0": lambda a: a**0,
    "** 0.5": lambda a: a.abs() ** 0.5,
    "** -1": lambda a: a**-1,
    "tensor ** 0": lambda a: torch.pow(a, torch.zeros_like(a)),
    "tensor ** tensor": lambda a: torch.pow(a.abs(), a),
    "sqrt": lambda a: a.abs().sqrt(),
    "log": lambda a: a.abs().log(),
    "xlogy": lambda a: torch.xlogy(a.abs(), a.abs()),
    "where with a NaN": lambda a: torch.where(a > 0, a.log(), 0.0),
    "where without": logarithm_where_it_is_safe,
    "norm of zeros": lambda a: (0 * a).norm() + a,
    "std of equals": lambda a: (0 * a + 1).std(),
    "normalize zeros": lambda a: F.normalize(a.reshape(-1, 2), dim=1),
    "product with a zero": lambda a: a[1:4].prod(),
    "product with two": lambda a: a[:8].prod(),
    "smooth_l1_loss": lambda a: F.smooth_l1_loss(a, torch.zeros_like(a)),
    "huber_loss": lambda a: F.huber_loss(a, torch.zeros_like(a)),
    "l1_loss": lambda a: F.l1_loss(a, torch.zeros_like(a)),
    "softmax of -inf": lambda a: a.masked_fill(torch.arange(len(a)) == 0, -INF).softmax(0),
    "cross entropy far out": lambda a: F.cross_entropy(1e3 * a.reshape(-1, 2), torch.arange(len(a) // 2) % 2),
    "logits far out": lambda a: F.binary_cross_entropy_with_logits(1e3 * a, (a > 0).to(a.dtype)),
}
"""Gradients where there are two, or none: torch's choice is the one to make."""


@pytest.mark.slow
def test_gradients_at_kinks():
    kinks = torch.tensor([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.0, 3.0, -3.0], dtype=torch.float64)
    assert off(values_and_gradients(AT_KINKS), kinks.repeat(4)) == {}


# -- over axes
# ----------------------------------------------------------------------------------------

X = numbers(100, 40, seed=1.0)
SHAPES = {
    "(4, 3)": (numbers(4, 3), lambda w: w, [0, -1]),
    "(100, 40)": (numbers(40), lambda w: X * w, [0, 1]),
    "(2, 100, 3)": (numbers(3), lambda w: w * X[:, :6].reshape(2, 100, 3), [1, (0, 2)]),
}
"""Params, what a case sees of them, and over what to reduce: short axes, which become variables; samples, along which
registers run, beside another long axis of params, which lie in memory; and samples in the middle."""

REDUCTIONS = {
    "sums": {
        "sum": torch.sum,
        "mean": torch.mean,
        "nansum": lambda t, axis, keepdim: torch.nansum(t, dim=axis, keepdim=keepdim),
        "count": lambda t, axis, keepdim: t.sum() * (t > 0.1).sum(axis, keepdim=keepdim),
        "logsumexp": torch.logsumexp,
    },
    "variances": {
        "var": torch.var,
        "std": torch.std,
        "biased var": lambda t, axis, keepdim: torch.var(t, axis, correction=0, keepdim=keepdim),
    },
    "extremes": {
        "amax": torch.amax,
        "amin": torch.amin,
        "largest entry": lambda t, axis, keepdim: torch.linalg.vector_norm(t, INF, dim=axis, keepdim=keepdim),
    },
    "norms": {
        "of order 1": lambda t, axis, keepdim: torch.linalg.vector_norm(t, 1, dim=axis, keepdim=keepdim),
        "of order 2": lambda t, axis, keepdim: torch.linalg.vector_norm(t, dim=axis, keepdim=keepdim),
        "of order 3": lambda t, axis, keepdim: torch.linalg.vector_norm(t, 3, dim=axis, keepdim=keepdim),
    },
}


def reductions(kind, shape):
    params, seen, axes = SHAPES[shape]
    cases = {
        f"{name} over {axis}, keepdim={keep}": lambda w, f=f, axis=axis, keep=keep: f(seen(w), axis, keepdim=keep)
        for name, f in REDUCTIONS[kind].items()
        for axis, keep in zip(axes, (False, True), strict=True)
    }
    return values_and_gradients(cases), params


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind, shape):
    assert off(*reductions(kind, shape)) == {}


OF_ALL = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.max,
    "min": torch.min,
    "var": torch.var,
    "norm": torch.norm,
    "frobenius": torch.linalg.norm,
    "var_mean": lambda t: sum(torch.var_mean(t)),
    "nanmean": torch.nanmean,
    "sum with a dtype": lambda t: t.sum(dtype=torch.float64),
    "prod": lambda t: (0.1 * t + 1).prod(),
    "dist": lambda t: torch.dist(t, t * t),
}

ALONG_ONE = {
    "prod": lambda t, axis: torch.prod(0.1 * t + 1, axis),
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "max": lambda t, axis: torch.max(t, axis).values,
    "min": lambda t, axis: torch.min(t, axis).values,
    "normalize": lambda t, axis: F.normalize(t, dim=axis),
    "cumsum": torch.cumsum,
    "centred": lambda t, axis: (t - t.mean(axis, keepdim=True)) / (t.std(axis, keepdim=True) + 0.1),
    "any": lambda t, axis: t.sum() * (t > 1.99).any(axis),
    "all": lambda t, axis: t.sum() * (t > -1.9).all(axis),
}

OVER_LAST = {
    "layer_norm": lambda t: F.layer_norm(t, t.shape[-1:]),
    "rms_norm": lambda t: F.rms_norm(t, t.shape[-1:]),
    "group_norm": lambda t: F.group_norm(t.reshape(1, 4, -1), 2) if t.numel() % 4 == 0 else t,
    "instance_norm": lambda t: F.instance_norm(t.reshape(1, 4, -1)) if t.numel() % 4 == 0 else t,
}


def of_everything(shape):
    params, seen, _ = SHAPES[shape]
    cases = {kind: lambda w, f=f: f(seen(w)) for kind, f in (OF_ALL | OVER_LAST).items()}
    return values_and_gradients(cases), params


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_reductions_of_everything(shape):
    assert off(*of_everything(shape)) == {}


def along_an_axis(kind, shape):
    params, seen, axes = SHAPES[shape]
    cases = {
        f"along {axis}": lambda w, axis=axis: ALONG_ONE[kind](seen(w), axis) for axis in axes if isinstance(axis, int)
    }
    return values_and_gradients(cases), params


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ALONG_ONE)
def test_along_an_axis(kind, shape):
    assert off(*along_an_axis(kind, shape)) == {}


# -- products, views: every case with params of its own
# ----------------------------------------------------------------------------------------


def with_params(cases):
    """A step and its carry for {name: (case, shape, ...)}: a case takes tensors of these shapes."""
    carry = {
        name: [0.5 * numbers(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
        for seed, (name, (_, *shapes)) in enumerate(cases.items())
    }

    def step(carry):
        found = {name: value_and_gradients(lambda own, f=f: f(*own), carry[name]) for name, (f, *_) in cases.items()}
        return carry, found

    return step, carry


Y = X[:, 20]
X5 = X[:, :5]
S = numbers(6, 5, seed=2.0)
B = numbers(3, 100, 5, seed=3.0)

PRODUCTS = {
    "mm": {
        "samples @ short": (lambda w: X5 @ w, (5, 3)),
        "short @ short": (lambda w: S @ w, (5, 3)),
        "params @ params": (lambda a, b: a @ b, (4, 5), (5, 3)),
        "params @ samples": (lambda w: w @ X5.T, (3, 5)),
        "samples @ long": (lambda w: X @ w, (40, 3)),
        "over the samples": (lambda w: (X * w).T @ X5, (40,)),
        "by a transpose": (lambda w: X5 @ w.T, (3, 5)),
        "of data alone": (lambda w: (X.T @ X) @ w, (40,)),
    },
    "networks": {
        "1 - 20 - 2": (lambda a, b: torch.tanh(Y[:, None] @ a) @ b, (1, 20), (20, 2)),
        "5 - 20 - 20 - 1": (lambda a, b, c: torch.tanh(torch.tanh(X5 @ a) @ b) @ c, (5, 20), (20, 20), (20, 1)),
        "attention": (lambda q, k: torch.softmax(S @ q @ (S @ k).T / 2, -1) @ S, (5, 3), (5, 3)),
    },
    "vectors": {
        "mv": (lambda w: X @ w, (40,)),
        "mv of params": (lambda a, b: a @ b, (40, 5), (5,)),
        "mv of a transpose": (lambda a, b: a.T @ b, (40, 5), (40,)),
        "vector @ matrix": (lambda w: w @ X5, (100,)),
        "dot with samples": (lambda w: w @ Y, (100,)),
        "dot": (torch.dot, (5,), (5,)),
        "inner": (torch.inner, (3, 5), (4, 5)),
        "outer": (torch.outer, (5,), (4,)),
        "outer with samples": (lambda a: torch.outer(Y, a), (40,)),
        "vector @ batch": (lambda w: w @ B[:, :5, :4], (5,)),
    },
    "batches": {
        "bmm": (lambda w: torch.bmm(B, w), (3, 5, 4)),
        "bmm of params": (torch.bmm, (3, 4, 5), (3, 5, 2)),
        "batch @ matrix": (lambda w: B @ w, (5, 2)),
        "batch @ vector": (lambda w: B @ w, (5,)),
        "batches broadcast": (lambda w: B[:, None] @ w, (2, 5, 4)),
        "baddbmm": (lambda b, w: torch.baddbmm(b, B, w, beta=0.3, alpha=0.7), (3, 100, 4), (3, 5, 4)),
    },
    "and a sum": {
        "addmm": (lambda b, w: torch.addmm(b, X5, w, beta=0.5, alpha=2), (3,), (5, 3)),
        "addmv": (lambda b, w: torch.addmv(b, X5, w, beta=0.5, alpha=2), (100,), (5,)),
        "addr": (lambda a, b: torch.addr(torch.ones(4, 5, dtype=a.dtype), a, b), (4,), (5,)),
        "linear": (lambda w, b: F.linear(X5, w, b), (3, 5), (3,)),
        "linear of a batch": (lambda w, b: F.linear(B, w, b), (2, 5), (2,)),
    },
    "einsum and others": {
        "ij,jk->ik": (lambda w: torch.einsum("ij,jk->ik", X5, w), (5, 3)),
        "ni,ij,nj->n": (lambda w: torch.einsum("ni,ij,nj->n", X5, w, X5), (5, 5)),
        "bnj,bjk->bnk": (lambda w: torch.einsum("bnj,bjk->bnk", B, w), (3, 5, 4)),
        "nk,k->": (lambda w: torch.einsum("nk,k->", X5, w), (5,)),
        "n,k->nk": (lambda w: torch.einsum("n,k->nk", Y, w), (4,)),
        "tensordot": (lambda w: torch.tensordot(B, w, dims=([0, 2], [0, 1])), (3, 5, 2)),
        "kron": (torch.kron, (2, 3), (3, 2)),
        "multi_dot": (lambda a, b: torch.linalg.multi_dot([X5, a, b]), (5, 4), (4, 2)),
        "matrix_power": (lambda a: torch.matrix_power(a, 3), (4, 4)),
        "cross": (lambda a: torch.linalg.cross(X5[:, :3], a.expand(100, 3)), (3,)),
        "distances": (lambda c: ((X5[:, None] - c) ** 2).sum(-1), (4, 5)),
        "pairwise_distance": (lambda c: F.pairwise_distance(X5, c), (5,)),
    },
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_products(kind):
    assert off(*with_params(PRODUCTS[kind])) == {}


VIEWED = {
    "short": ((4, 6), lambda w: w),
    "samples": ((6,), lambda w: X[:, :6] * w),
    "long": ((40,), lambda w: X[:50] * w),
    "batch": ((6,), lambda w: w * X[:, :18].reshape(100, 3, 6).permute(1, 0, 2)),
}

VIEWS = {
    "shapes": {
        "reshape(-1)": lambda t: t.reshape(-1),
        "flatten": lambda t: t.exp().flatten(),
        "rows merged": lambda t: t.reshape(t.shape[0] * 2, -1),
        "rows split": lambda t: t.reshape(2, -1, t.shape[-1]) if t.ndim == 2 else t,
        "unflatten": lambda t: t.unflatten(-1, (2, -1)),
        "permute": lambda t: t.permute(*reversed(range(t.ndim))),
        "mT": lambda t: t.mT.exp() @ t,
        "transposed, reshaped": lambda t: t.mT.reshape(-1),
        "transposed, viewed": lambda t: t.transpose(0, -1).contiguous().view(2, -1),
        "movedim": lambda t: t.movedim(0, -1),
        "flipped, reshaped": lambda t: t.reshape(-1).flip(0).reshape(-1, 2).T,
        "reshaped, flipped": lambda t: t.mT.reshape(-1).flip(0),
    },
    "parts": {
        "t[0]": lambda t: t[0],
        "t[-1]": lambda t: t[-1],
        "t[..., 2]": lambda t: t[..., 2],
        "t[..., -2]": lambda t: t[..., -2],
        "t[1:3]": lambda t: t[1:3],
        "t[::2]": lambda t: t[::2],
        "t[-3:-1]": lambda t: t[-3:-1],
        "t[1:1000]": lambda t: t[1:1000],
        "t[..., ::3]": lambda t: t[..., ::3],
        "t[1::3]": lambda t: t[1::3].exp(),
        "t[1:] - t[:-1]": lambda t: t[1:] - t[:-1],
        "t[..., 1:] * t[..., :-1]": lambda t: t[..., 1:] * t[..., :-1],
        "an empty slice": lambda t: t[2:2].sum() + t,
        "narrow": lambda t: t.narrow(-1, 1, 3),
        "unbind": lambda t: sum(k * part for k, part in enumerate(t.unbind(-1))),
        "chunk": lambda t: sum(k * part.sum() for k, part in enumerate(t.chunk(3, -1))),
        "split": lambda t: t.split(2, -1)[1] * t.split(2, -1)[0],
        "split unevenly": lambda t: torch.split(t, [1, t.shape[-1] - 1], -1)[1],
        "diff": lambda t: t.diff(dim=0),
        "second diff": lambda t: t.diff(n=2, dim=-1),
    },
    "sizes of 1": {
        "squeeze": lambda t: t[:1].squeeze(0),
        "squeeze all": lambda t: t[:1].unsqueeze(0).squeeze(),
        "unsqueeze": lambda t: t.unsqueeze(1),
        "unsqueeze last": lambda t: t.unsqueeze(-1) * numbers(3),
        "None": lambda t: t[:, None],
        "expand": lambda t: t[:1].expand(4, *t.shape[1:]),
        "expand to more": lambda t: t.expand(2, *t.shape),
        "expand_as": lambda t: t[:1].expand_as(t) * t,
        "repeat": lambda t: t.repeat(*([2] * t.ndim)),
        "repeat_interleave": lambda t: t.repeat_interleave(2, -1),
        "tile": lambda t: t.tile(2),
    },
    "put together": {
        "stack": lambda t: torch.stack([t, t * 2]),
        "stack last": lambda t: torch.stack([t, t.exp()], -1),
        "cat": lambda t: torch.cat([t, t.sin()]),
        "cat last": lambda t: torch.cat([t, t.sin()], -1),
        "cat of slices": lambda t: torch.cat([t[2:], t[:2].exp()]),
        "cat of ones": lambda t: torch.cat([torch.ones_like(t), t], -1),
        "cat @": lambda t: torch.cat([t, t * t], -1) @ numbers(2 * t.shape[-1]),
        "cat of cats": lambda t: torch.cat([torch.cat([t, t * t], -1), torch.cat([t.exp(), t], -1)]),
        "cat, softmax": lambda t: torch.cat([t, t.exp()]).softmax(0),
        "stack of unbound": lambda t: torch.stack(t[:3].unbind(0)[::-1]),
        "stack, amax": lambda t: torch.stack([t, t * t]).amax(0),
        "glu": lambda t: F.glu(torch.cat([t, 2 * t], -1), -1),
        "hstack": lambda t: torch.hstack([t, t * t]),
        "pad": lambda t: F.pad(t, (1, 2)),
        "pad with 1": lambda t: F.pad(t, (0, 0, 2, 1), value=1.0),
    },
    "turned": {
        "flip": lambda t: t.flip(0),
        "flip all": lambda t: t.flip(tuple(range(t.ndim))),
        "flip last": lambda t: t.flip(-1) * t,
        "roll": lambda t: t.roll(1, 0) * t,
        "roll back": lambda t: t.roll(-2, -1).exp(),
        "roll flat": lambda t: t.roll(3),
        "roll by nothing": lambda t: t.roll(0, 0) * t,
        "roll both": lambda t: t.roll((1, -2), (0, -1)) * t,
        "rot90": lambda t: t.rot90(),
        "tril": lambda t: t.tril(),
        "triu": lambda t: t.triu(1) * t,
        "diagonal, no gradient": lambda t: t.detach().diagonal(0, -2, -1).sum() * t,
        "diag_embed": lambda t: torch.diag_embed(t[0]),
    },
    "picked": {
        "by a list": lambda t: t[[0, 2, 1, 0]],
        "by a tensor": lambda t: t[torch.tensor([2, 1, 1, -1])],
        "in columns": lambda t: t[..., torch.tensor([0, 2, -1])],
        "by a table": lambda t: t[torch.tensor([[0, 1], [2, 0]])],
        "by a mask": lambda t: t[..., torch.arange(t.shape[-1]) % 2 == 0],
        "by two": lambda t: t[torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2])],
        "index_select": lambda t: torch.index_select(t, -1, torch.tensor([2, 0])),
        "as upsampling does": lambda t: torch.ops.aten._unsafe_index(t, [torch.tensor([0, 2])]),
        "gather": lambda t: t.gather(-1, torch.arange(t[..., :1].numel()).reshape(t[..., :1].shape) % 3),
        "take_along_dim": lambda t: torch.take_along_dim(t, torch.ones([1] * t.ndim, dtype=torch.long), -1),
        "where": lambda t: torch.where(torch.arange(t.shape[-1]) % 2 == 0, t, t * t),
        "masked_fill": lambda t: t.masked_fill((torch.arange(t.shape[-1]) % 2).bool(), 0.0),
    },
    "added": {
        "scatter_add": lambda t: t.scatter_add(-1, torch.arange(t.numel()).reshape(t.shape) % 3, t.sin()),
        "scatter": lambda t: t.scatter(-1, torch.ones_like(t[..., :1], dtype=torch.long), 2 * t[..., :1]),
        "index_add": lambda t: t.index_add(0, torch.tensor([1, 0]), t[:2]),
    },
}


def views(kind, seen):
    shape, view = VIEWED[seen]
    return with_params({name: (lambda w, f=f: f(view(w)), shape) for name, f in VIEWS[kind].items()})


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        *(("shapes", seen) for seen in ("samples", "long", "batch")),
        *(("parts", seen) for seen in ("short", "long")),
        ("sizes of 1", "samples"),
        *(("put together", seen) for seen in ("short", "long")),
        *(("turned", seen) for seen in ("short", "long")),
        *(("picked", seen) for seen in ("short", "long", "batch", "samples")),
        *(("added", seen) for seen in ("short", "samples")),
    ],
)
def test_views(kind, seen):
    assert off(*views(kind, seen)) == {}


# -- constants, autograd inside of the loss, losses and modules of torch.nn
# ----------------------------------------------------------------------------------------

HUNDRED = torch.arange(100)
WITHIN = numbers(100, seed=0.7)
PARAMETER = torch.nn.Parameter(numbers(100, seed=0.9))


def sum_in_a_loop(w):
    total = torch.zeros_like(w)
    for k in range(3):
        total = total + w * k
    return total


CONSTANTS = {
    "int64": (lambda w: w * HUNDRED, ()),
    "int32": (lambda w: w * HUNDRED.int(), ()),
    "uint8": (lambda w: w * HUNDRED.to(torch.uint8), ()),
    "bool": (lambda w: w * (HUNDRED % 3 == 0), ()),
    "float32 beside a vector": (lambda w: w * WITHIN[:3].float(), (3,)),
    "float16 beside a vector": (lambda w: w * WITHIN[:3].half(), (3,)),
    "samples ** integers": (lambda w: (w * WITHIN)[:, None] ** torch.arange(4), ()),
    "samples ** params": (lambda w: WITHIN.abs()[:, None] ** w, (3,)),
    "integers ** params": (lambda w: torch.arange(1, 4) ** w, (3,)),
    "in where": (lambda w: torch.where(WITHIN > 0, w * WITHIN, w * w), ()),
    "a mask and a traced one": (lambda w: ((WITHIN > 0) & (w * WITHIN > 0.1)) * w, ()),
    "integers compared": (lambda w: (w * WITHIN > HUNDRED - 50) * w, ()),
    "integer arithmetic": (lambda w: (HUNDRED + 1) * 2 % 7 * w, ()),
    "a float32 number": (lambda w: w * WITHIN * torch.tensor(2.5), ()),
    "an integer number": (lambda w: w * WITHIN * torch.tensor(2), ()),
    "infinity": (lambda w: torch.minimum(w * WITHIN, torch.tensor(INF)), ()),
    "made in the loss": (lambda w: torch.linspace(0, 1, 100, dtype=w.dtype) * w, ()),
    "as_tensor": (lambda w: torch.as_tensor([1, 2, 3]) * w, ()),
    "new_ones": (lambda w: w.new_ones(3) * w, ()),
    "zeros, added to": (sum_in_a_loop, ()),
    "numel": (lambda w: w * WITHIN / WITHIN.numel(), ()),
    "a transpose": (lambda w: w * X[:, :3].T, ()),
    "a stride": (lambda w: w * X.reshape(-1)[::40], ()),
    "expanded": (lambda w: w * WITHIN[:1].expand(100) * WITHIN, ()),
    "flipped": (lambda w: w * WITHIN.flip(0) * WITHIN, ()),
    "overlapping": (lambda w: w * WITHIN[1:] * WITHIN[:-1], ()),
    "one number": (lambda w: w * torch.tensor(3.0, dtype=torch.float64), ()),
    "a parameter that stays": (lambda w: w * PARAMETER.detach(), ()),
    "NaN that is masked": (lambda w: torch.where(HUNDRED < 50, WITHIN.masked_fill(HUNDRED > 60, NAN), w), ()),
}


def test_constants():
    assert off(*with_params(CONSTANTS)) == {}


def residual(w):
    """What a network that solves u' + u = 0 minimises."""
    x = WITHIN.clone().requires_grad_()
    u = torch.tanh(x[:, None] * w).sum(1)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return slope + u


def second_residual(w):
    x = WITHIN.clone().requires_grad_()
    u = torch.sin(x[:, None] * w).sum(1)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return curvature + u


def gradient_penalty(w):
    fit = ((w * WITHIN[:, None]).exp().sum(1) - Y).square().mean()
    (gradient,) = torch.autograd.grad(fit, w, create_graph=True)
    return fit + gradient.square().sum()


def hooked(w):
    h = w * WITHIN
    h.register_hook(lambda gradient: 2 * gradient)
    return h.square()


class Doubled(torch.autograd.Function):
    """exp whose gradient is said to be twice what it is."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.exp()

    @staticmethod
    def backward(ctx, gradient):
        (a,) = ctx.saved_tensors
        return 2 * gradient * a.exp()


DERIVATIVES = {
    "detach": (lambda w: (w * WITHIN) * (w * WITHIN).detach(), ()),
    "a derivative in the loss": (residual, (3,)),
    "a second derivative": (second_residual, (3,)),
    "a gradient penalty": (gradient_penalty, (3,)),
    "a hook": (hooked, ()),
    "a Function": (lambda w: Doubled.apply(w * WITHIN), ()),
    "func.grad": (lambda w: torch.func.grad(lambda a: torch.sin(a * WITHIN).sum())(w), ()),
    "func.vjp": (lambda w: torch.func.vjp(lambda a: torch.sin(a * WITHIN), w)[1](Y)[0], ()),
    "func.jacrev": (lambda w: torch.func.jacrev(lambda a: torch.tanh(WITHIN[:, None] * a).sum(0))(w), (3,)),
    "vmap": (lambda w: torch.func.vmap(lambda x: torch.tanh(x * w).sum())(WITHIN), (3,)),
    "vmap of a product": (lambda w: torch.func.vmap(lambda row: torch.tanh(row @ w).sum())(X5), (5, 3)),
    "vmap of grad": (lambda w: torch.func.vmap(torch.func.grad(lambda x: torch.tanh(x * w).sum()))(WITHIN), (3,)),
}


def test_derivatives_in_the_loss():
    assert off(*with_params(DERIVATIVES)) == {}


LABELS = HUNDRED % 3
ONE_OF_TWO = (HUNDRED % 2).double()
SIGNS = 2 * ONE_OF_TWO - 1
CLASSES = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
CHANCES = torch.softmax(X[:, 30:33], 1)


def smooth(loss, target, **options):
    return lambda w: loss(X5 @ w, target, **options), (5,)


def classes(target, **options):
    return lambda w: F.cross_entropy(X5 @ w, target, **options), (5, 3)


LOSSES = {
    "regression": {
        "mse_loss": smooth(F.mse_loss, Y),
        "mse_loss, sum": smooth(F.mse_loss, Y, reduction="sum"),
        "mse_loss, none": smooth(F.mse_loss, Y, reduction="none"),
        "l1_loss": smooth(F.l1_loss, Y),
        "smooth_l1_loss": smooth(F.smooth_l1_loss, Y),
        "smooth_l1_loss, beta": smooth(F.smooth_l1_loss, Y, beta=0.3),
        "huber_loss": smooth(F.huber_loss, Y, delta=0.5),
        "poisson_nll_loss": smooth(F.poisson_nll_loss, Y.abs()),
        "poisson_nll_loss, no log": smooth(F.poisson_nll_loss, Y.abs(), log_input=False, eps=9.0),
        "student": (lambda w: 2 * torch.log1p((X5 @ w - Y) ** 2 / 3), (5,)),
        "normal": (
            lambda w: -torch.distributions.Normal(X5 @ w, torch.exp(w[0]), validate_args=False).log_prob(Y),
            (5,),
        ),
    },
    "two classes": {
        "soft_margin_loss": smooth(F.soft_margin_loss, SIGNS),
        "hinge_embedding_loss": smooth(F.hinge_embedding_loss, SIGNS),
        "binary_cross_entropy": (lambda w: F.binary_cross_entropy(torch.sigmoid(X5 @ w), ONE_OF_TWO), (5,)),
        "with weights": (lambda w: F.binary_cross_entropy(torch.sigmoid(X5 @ w), ONE_OF_TWO, weight=Y.abs()), (5,)),
        "with_logits": smooth(F.binary_cross_entropy_with_logits, ONE_OF_TWO),
        "with_logits, pos_weight": smooth(
            F.binary_cross_entropy_with_logits, ONE_OF_TWO, pos_weight=torch.tensor(2.0, dtype=torch.float64)
        ),
        "with_logits, weights, sum": smooth(
            F.binary_cross_entropy_with_logits, ONE_OF_TWO, weight=Y.abs(), reduction="sum"
        ),
    },
    "classes": {
        "cross_entropy": classes(LABELS),
        "weight": classes(LABELS, weight=CLASSES),
        "label_smoothing": classes(LABELS, label_smoothing=0.1),
        "weight, label_smoothing": classes(LABELS, weight=CLASSES, label_smoothing=0.1),
        "ignore_index": classes(LABELS, ignore_index=1),
        "some -100": classes(torch.where(LABELS == 2, -100, LABELS)),
        "sum": classes(LABELS, reduction="sum"),
        "none": classes(LABELS, reduction="none"),
        "probabilities": classes(CHANCES),
        "few samples": (lambda w: F.cross_entropy(w, torch.tensor([0, 2, 1, 1, 0])), (5, 3)),
        "one sample": (lambda w: F.cross_entropy(w, torch.tensor(1)), (3,)),
        "many classes": (lambda w: F.cross_entropy(X5 @ w, HUNDRED % 40), (5, 40)),
        "nll_loss": (lambda w: F.nll_loss(F.log_softmax(X5 @ w, 1), LABELS, weight=CLASSES), (5, 3)),
        "by hand": (lambda w: -F.log_softmax(X5 @ w, 1)[torch.arange(100), LABELS].mean(), (5, 3)),
        "by gather": (lambda w: -F.log_softmax(X5 @ w, 1).gather(1, LABELS[:, None]).mean(), (5, 3)),
        "one_hot": (lambda w: (F.one_hot(LABELS, 3) * F.log_softmax(X5 @ w, 1)).sum(), (5, 3)),
    },
    "distances": {
        "kl_div": (lambda w: F.kl_div(F.log_softmax(X5 @ w, 1), CHANCES, reduction="batchmean"), (5, 3)),
        "cosine_similarity": (lambda w: 1 - F.cosine_similarity(X5 @ w, CHANCES), (5, 3)),
        "cosine_embedding_loss": (lambda w: F.cosine_embedding_loss(X5 @ w, CHANCES, SIGNS), (5, 3)),
        "margin_ranking_loss": (lambda w: F.margin_ranking_loss(X5 @ w[:, 0], X5 @ w[:, 1], SIGNS), (5, 2)),
        "triplet_margin_loss": (lambda w: F.triplet_margin_loss(X5 @ w, CHANCES, CHANCES.flip(0)), (5, 3)),
        "multilabel_soft_margin_loss": (
            lambda w: F.multilabel_soft_margin_loss(X5 @ w, (CHANCES > 0.3).double()),
            (5, 3),
        ),
    },
}


@pytest.mark.parametrize("kind", LOSSES)
def test_losses(kind):
    assert off(*with_params(LOSSES[kind])) == {}


nn = torch.nn
MODULES = {
    "Linear": lambda: nn.Linear(5, 3),
    "Sequential": lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 3)),
    "RMSNorm": lambda: nn.Sequential(nn.Linear(5, 3), nn.RMSNorm(3)),
    "BatchNorm1d in evaluation": lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).eval(),
    "Dropout in evaluation": lambda: nn.Sequential(nn.Linear(5, 3), nn.Dropout()).eval(),
    "PReLU": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4), nn.Linear(4, 3)),
    "ReLU in place": lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
    "RNNCell": lambda: nn.RNNCell(5, 3),
}


def test_modules():
    made = {}
    for name, make in MODULES.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made[name] = make().double()
    carry = {
        name: {key: parameter.detach() for key, parameter in module.named_parameters()} for name, module in made.items()
    }

    def step(carry):
        found = {}
        for name, module in made.items():
            found[name] = value_and_gradients(lambda p, m=module: torch.func.functional_call(m, p, (X5,)), carry[name])
        return carry, found

    assert off(step, carry) == {}


# -- and none is forgotten
# ----------------------------------------------------------------------------------------

UNDER_ANOTHER_NAME = {"square"}
"""What this version of torch calls something else before the tracer sees it."""


def every_step():
    yield from (elementwise(kind) for kind in ELEMENTWISE)
    yield from (reductions(kind, "(4, 3)") for kind in REDUCTIONS)
    yield of_everything("(4, 3)")
    yield from (along_an_axis(kind, "(4, 3)") for kind in ALONG_ONE)
    yield from (with_params(cases) for cases in (*PRODUCTS.values(), *LOSSES.values(), CONSTANTS, DERIVATIVES))
    yield from (views(kind, "short") for kind in VIEWS)


def operations(step, carry):
    """The names of the operations in the graph of a step."""
    leaves, structure = tree.tree_flatten(carry)

    def flat(own):
        return tree.tree_leaves(step(tree.tree_unflatten(own, structure))[1])

    return {node.op for node in trace(flat, leaves, pointwise.TABLE, rules.TABLE, {}).nodes}


def test_no_operation_of_the_tables_is_forgotten():
    traced = set().union(*(operations(step, carry) for step, carry in every_step()))
    assert (set(pointwise.TABLE) | set(rules.TABLE)) - traced == UNDER_ANOTHER_NAME
