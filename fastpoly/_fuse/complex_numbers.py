"""Complex tensors as real ones: of their real and imaginary parts, side by side, as they lie in torch's memory.

In a trace a complex tensor of shape S is a node of the shape (*S, 2). So `view_as_real` and `view_as_complex` say
nothing, and every other operation on complex numbers is taken apart into operations on both parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .arguments import leaves, mapped
from .factorizations import NotTakenApart

Parts = tuple[Any, Any]
"""Real and imaginary part; None for an imaginary part that is zero throughout."""


def are_complex(name: str, *values: Any) -> bool:
    """Has an operation on these anything to do with complex numbers?"""
    return name in MAKES or any(_is(value) for value in leaves(*values))


def _is(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_complex()
    return value.is_complex if isinstance(value, torch.dtype) else isinstance(value, complex)


def parts(value: Any) -> Parts:
    """The parts of a tensor or number."""
    if isinstance(value, torch.Tensor) and value.is_complex():
        both = torch.view_as_real(value.resolve_conj())
        return both.select(-1, 0), both.select(-1, 1)
    return (value.real, value.imag or None) if isinstance(value, complex) else (value, None)


def joined(real: Any, imaginary: Any) -> Any:
    """The complex tensor of two parts."""
    if imaginary is None:
        imaginary = torch.zeros_like(real)
    shape = np.broadcast_shapes(real.shape, imaginary.shape)
    return torch.view_as_complex(torch.stack([real.expand(shape), imaginary.expand(shape)], -1))


# -- element by element
# ----------------------------------------------------------------------------------------


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _minus(a: Any, b: Any) -> Any:
    return a if b is None else -b if a is None else a - b


def _times(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a * b


def product(one: Parts, other: Parts, times: Callable[[Any, Any], Any] = _times) -> Parts:
    """By any product of their parts."""
    (a, b), (c, d) = one, other
    real = times(a, c) if b is None or d is None else _minus(times(a, c), times(b, d))
    return real, _plus(None if d is None else times(a, d), None if b is None else times(b, c))


def _quotient(one: Parts, other: Parts) -> Parts:
    (a, b), (c, d) = one, other
    if d is None:
        return a / c, None if b is None else b / c
    above = product((a, b), (c, -d))
    below = c * c + d * d
    return above[0] / below, above[1] / below


def _magnitude(z: Parts) -> Any:
    return z[0].abs() if z[1] is None else torch.hypot(*z)


def _angle(z: Parts) -> Any:
    return torch.angle(z[0]) if z[1] is None else torch.atan2(z[1], z[0])


def _direction(z: Parts) -> Parts:
    """z / |z|; 0 of 0."""
    size = _magnitude(z)
    by = torch.where(size == 0, 1.0, size)
    return z[0] / by, z[1] / by


def _exp(z: Parts) -> Parts:
    size = z[0].exp()
    return size * z[1].cos(), size * z[1].sin()


def _log(z: Parts) -> Parts:
    return _magnitude(z).log(), _angle(z)


def _sqrt(z: Parts) -> Parts:
    """The one whose real part is not negative."""
    x, y = z
    half = ((x.abs() + _magnitude(z)) / 2).sqrt()
    other = y.abs() / (2 * torch.where(half == 0, 1.0, half))
    is_right = x >= 0
    return torch.where(is_right, half, other), torch.copysign(torch.where(is_right, other, half), y)


def _power(one: Parts, other: Parts) -> Parts:
    exponent = other[0]
    if (
        other[1] is None
        and not isinstance(exponent, torch.Tensor)
        and exponent == int(exponent)
        and abs(exponent) <= 64
    ):
        result: Parts = (torch.ones_like(one[0]), None)
        for _ in range(abs(int(exponent))):
            result = product(result, one)
        return result if exponent >= 0 else _quotient((torch.ones_like(one[0]), None), result)
    if not isinstance(one[0], torch.Tensor):
        one = torch.as_tensor(one[0], dtype=exponent.dtype), one[1]
    base = one if one[1] is not None else (one[0], torch.zeros_like(one[0]))
    return _exp(product(_log(base), other))


def _sin(z: Parts) -> Parts:
    return z[0].sin() * z[1].cosh(), z[0].cos() * z[1].sinh()


def _cos(z: Parts) -> Parts:
    return z[0].cos() * z[1].cosh(), -(z[0].sin() * z[1].sinh())


def _sinh(z: Parts) -> Parts:
    return z[0].sinh() * z[1].cos(), z[0].cosh() * z[1].sin()


def _cosh(z: Parts) -> Parts:
    return z[0].cosh() * z[1].cos(), z[0].sinh() * z[1].sin()


def _conjugate(z: Parts) -> Parts:
    return z[0], _minus(None, z[1]) if z[1] is not None else None


def _sum_of(sign: int) -> Callable[..., Parts]:
    def rule(one: Parts, other: Parts, alpha: Any = 1) -> Parts:
        scaled = product(other, parts(sign * alpha)) if sign * alpha != 1 else other
        return _plus(one[0], scaled[0]), _plus(one[1], scaled[1])

    return rule


def _are_equal(one: Parts, other: Parts) -> Any:
    is_real, both = one[0] == other[0], (one[1], other[1])
    imaginary = [part for part in both if part is not None]
    return is_real & (imaginary[0] == (imaginary[1] if len(imaginary) > 1 else 0))


ELEMENTS: dict[str, Callable[..., Any]] = {
    "add": _sum_of(1),
    "sub": _sum_of(-1),
    "rsub": lambda one, other, alpha=1: _sum_of(-1)(other, one, alpha),
    "mul": product,
    "div": _quotient,
    "true_divide": _quotient,
    "reciprocal": lambda z: _quotient((torch.ones_like(z[0]), None), z),
    "neg": lambda z: (-z[0], -z[1]),
    "square": lambda z: product(z, z),
    "pow": _power,
    "abs": _magnitude,
    "angle": _angle,
    "sgn": _direction,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "rsqrt": lambda z: _quotient((torch.ones_like(z[0]), None), _sqrt(z)),
    "sin": _sin,
    "cos": _cos,
    "tan": lambda z: _quotient(_sin(z), _cos(z)),
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": lambda z: _quotient(_sinh(z), _cosh(z)),
    "_conj": _conjugate,
    "conj_physical": _conjugate,
    "_conj_physical": _conjugate,
    "complex": lambda one, other: (one[0], other[0]),
    "polar": lambda size, angle: (size[0] * angle[0].cos(), size[0] * angle[0].sin()),
    "eq": _are_equal,
    "ne": lambda one, other: ~_are_equal(one, other),
    "mm": lambda one, other: product(one, other, torch.mm),
    "mv": lambda one, other: product(one, other, torch.mv),
    "dot": lambda one, other: product(one, other, torch.dot),
    "vdot": lambda one, other: product(_conjugate(one), other, torch.dot),
    "bmm": lambda one, other: product(one, other, torch.bmm),
    "tanh_backward": lambda g, y: product(g, _conjugate(_sum_of(-1)((torch.ones_like(y[0]), None), product(y, y)))),
    "isnan": lambda z: torch.isnan(z[0]) | torch.isnan(z[1]),
    "ones_like": lambda z, *_: (torch.ones_like(z[0]), None),
}
"""From the parts of their arguments to those of the result, or to a real tensor."""

BY_PART = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "expand", "permute", "t", "transpose", "diagonal"),
        *("select", "slice", "flip", "unfold", "split", "split_with_sizes", "unsafe_split", "roll", "as_strided"),
        *("cat", "stack", "select_backward", "slice_backward", "constant_pad_nd", "tril", "triu", "diag_embed"),
        *("sum", "mean", "cumsum", "index", "gather", "index_put", "scatter_add", "index_add", "where", "masked_fill"),
        *(
            "clone",
            "detach",
            "alias",
            "contiguous",
            "copy",
            "zeros_like",
            "slice_scatter",
            "select_scatter",
            "expand_copy",
        ),
        *("diagonal_backward", "unfold_backward", "repeat", "index_select"),
    }
)
"""What moves or adds up elements: the same of each part."""


def _by_part(function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
    named = {key: value for key, value in named.items() if not isinstance(value, torch.dtype)}

    def part(value: Any, which: int) -> Any:
        if isinstance(value, complex) or (isinstance(value, torch.Tensor) and value.is_complex()):
            return parts(value)[which] if parts(value)[which] is not None else 0.0
        if which and isinstance(value, torch.Tensor) and value.is_floating_point():
            return torch.zeros_like(value)
        return 0.0 if which and isinstance(value, float) else value

    real, imaginary = (
        function(*mapped(lambda v: part(v, which), list(arguments)), **named)  # noqa: B023 - called at once
        for which in (0, 1)
    )
    if isinstance(real, (list, tuple)):
        return [joined(*both) for both in zip(real, imaginary, strict=True)]
    return joined(real, imaginary)


def _converted(value: Any, dtype: torch.dtype | None) -> Any:
    """To another dtype; of complex numbers to the same, but for what is no complex one."""
    real, imaginary = parts(value)
    dtype = dtype or value.dtype
    if not dtype.is_complex:
        return real.to(dtype)
    wanted = {torch.complex128: torch.float64, torch.complex64: torch.float32}.get(dtype)
    if real.dtype != wanted and real.is_floating_point():
        raise NotTakenApart(f"it gives {dtype} in a step that computes in {real.dtype}", "use complex numbers of that")
    return joined(real.to(wanted), imaginary)


def taken_apart(name: str, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
    """What an operation gives; NotImplemented if nothing here says so."""
    from .fourier import FOURIER

    if name in FOURIER:
        return FOURIER[name](*arguments)
    if name == "_to_copy":
        return _converted(arguments[0], named.get("dtype"))
    if name in ELEMENTS:
        if named.get("rounding_mode") is not None:
            return NotImplemented
        extra = {key: value for key, value in named.items() if key == "alpha"}
        result = ELEMENTS[name](*[parts(value) for value in arguments], **extra)
        return joined(*result) if isinstance(result, tuple) else result
    return _by_part(function, arguments, named) if name in BY_PART else NotImplemented


MAKES = frozenset({"complex", "polar", "view_as_complex", "_fft_r2c"})
"""What makes complex numbers of real ones."""
