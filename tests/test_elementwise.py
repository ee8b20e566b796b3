"""Operations element by element; see `operation_cases`."""

import pytest
import torch
from operation_cases import (
    INF,
    NAN,
    numbers,
    off,
    values,
    values_and_gradients,
)
from torch.nn import functional as F

from fastpoly import scan

pytestmark = pytest.mark.slow  # some two hundred kernels to compile: make test-all


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
        "atan2": lambda a: torch.atan2(a, a - 0.2),
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
        "erfcx": torch.special.erfcx,
        "log_ndtr": torch.special.log_ndtr,
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
        "copysign": lambda a: torch.copysign(a * a, a - 0.2),
        "copysign of a number": lambda a: torch.copysign(a * a, -2.0),
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
    "special functions": {
        "i0": lambda a: torch.i0(6 * a),
        "i0e": lambda a: torch.special.i0e(6 * a),
        "i1": lambda a: torch.special.i1(6 * a),
        "i1e": lambda a: torch.special.i1e(6 * a),
        "digamma": lambda a: torch.digamma(4 * a + 0.21),
        "lgamma": lambda a: torch.lgamma(4 * a.abs() + 0.21),
        "polygamma": lambda a: torch.polygamma(1, 3 * a.abs() + 0.4) + torch.polygamma(3, positive(a)),
        "polygamma of negative numbers": lambda a: torch.polygamma(2, 0.4 * a.sigmoid() - 3.7),
        "mvlgamma": lambda a: torch.mvlgamma(a.abs() + 2, 3),
        "erfinv": lambda a: torch.erfinv(0.99 * a.sin()),
        "ndtri": lambda a: torch.special.ndtri((3 * a).sigmoid()),
        "entr": lambda a: torch.special.entr(positive(a)),
        "zeta": lambda a: torch.special.zeta(1.2 + 3 * a.detach().abs(), positive(a)),
        "zeta of numbers": lambda a: torch.special.zeta(2.5, positive(a)) + torch.special.zeta(a.detach() + 4, 0.7),
        "zeta of negative numbers": lambda a: torch.special.zeta(3, 0.4 * a.sigmoid() - 3.7),
        "sgn": lambda a: a * torch.sgn(a - 0.1),
        "angle": lambda a: a * torch.angle(a - 0.1),
        "nextafter": lambda a: torch.nextafter(a, a.detach() * a) * a,
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
        "fill": lambda a: a + torch.fill(2 * a, 2.0),
        "copy": lambda a: a * torch.ops.aten.copy(2 * a.detach(), a.detach()),
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
    "i0": torch.i0,
    "i0e": torch.special.i0e,
    "i1": torch.special.i1,
    "i1e": torch.special.i1e,
    "digamma": torch.digamma,
    "erfinv": torch.erfinv,
    "ndtri": torch.special.ndtri,
    "sgn": torch.sgn,
    "angle": torch.angle,
    "nextafter, up": lambda a: torch.nextafter(a, torch.full_like(a, INF)),
    "nextafter, down": lambda a: torch.nextafter(a, torch.full_like(a, -1.5)),
    "mantissa": lambda a: torch.frexp(a)[0],
    "exponent": lambda a: torch.frexp(a)[1].double(),
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
