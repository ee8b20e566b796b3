"""FitProblem: a training run, checked once. Everything below it trusts it."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import (
    Array,
    computable,
    device_of,
    is_chunked,
    is_tensor,
    on_gpu,
    refuse_large_copy,
    refuse_nonfinite,
    samples,
    tensor_on,
    vector,
)
from ._memory import refuse_beyond_memory

if TYPE_CHECKING:
    import torch

PRECISIONS: Mapping[str, tuple[type[np.floating[Any]], type[np.floating[Any]]]] = {
    "double": (np.float64, np.float64),
    "mixed": (np.float64, np.float32),
    "single": (np.float32, np.float32),
}
"""Precision to (arithmetic, storage): the dtype of every operation, and that of weights and mse after every step."""

MAX_STEPS = 2**63 - 1
"""Kernels count steps in int64."""

MAX_DEGREE = 256
"""Kernels are unrolled by degree: at 256 compiling takes some seconds. Powers beyond leave float64 for |x| > 16."""


@dataclass(frozen=True, eq=False)
class FitProblem:
    """Fit a polynomial of `degree` to n samples (x, y) by `steps` steps of gradient descent on the mean squared error.

    Make one with `FitProblem.checked`. The samples stay where and what they are, so that 10**9 of them in a file cost
    nothing before they are needed; `arrays` has them as they are computed with.

    Attributes:
        x, y: the samples, (n,) of any real dtype: numpy arrays, or tensors if they came on a GPU.
        degree: of the polynomial; there are degree + 1 weights, x^0 first.
        steps: how many to take.
        learn_rate: the factor on the gradient.
        precision: "double", "mixed" or "single".
        initial_weights: (degree + 1,) of `storage`.
        trace_every: keep the mse of steps 0, trace_every, 2 trace_every, ...; None keeps none.
        device: where the caller's tensors lie; None when the caller uses numpy.
        scale: what each residual is multiplied by, (n,) float64; None is 1 for all.
        penalty: (degree + 1,), what each squared weight adds to the mse; None is nothing.
    """

    x: Any
    y: Any
    degree: int
    steps: int
    learn_rate: float
    precision: str
    initial_weights: Array
    trace_every: int | None
    device: torch.device | None = None
    scale: Array | None = None
    penalty: Array | None = None

    @classmethod
    def checked(
        cls,
        x: Any,
        y: Any,
        degree: Any = 4,
        steps: Any = 200_000,
        learn_rate: Any = 1e-5,
        *,
        precision: Any = "double",
        initial_weights: Any = None,
        trace_every: Any = 1,
        names: Mapping[str, str] | None = None,
        every_sample: bool = True,
    ) -> FitProblem:
        """Check everything a caller may get wrong, once.

        Args:
            names: what the caller calls the arguments, where that differs from here.
            every_sample: look at each sample too (`refuse_nonfinite`); otherwise whoever reads them first must.

        Raises:
            TypeError, ValueError: an argument is of the wrong kind or cannot be meant; the message names it, what it
                got and what it wants.
            MemoryError: the trace would not fit into memory.
        """
        named = {"steps": "steps", "learn_rate": "learn_rate", **(names or {})}
        degree, steps, trace_every, _, storage = checked_options(degree, steps, precision, trace_every, named["steps"])
        device = device_of(x, y)
        x, y = samples(x, "x"), samples(y, "y")
        if len(x) != len(y):
            got = f"{len(x)} and {len(y)}; cut the longer one, or look at what selected them"
            raise ValueError(f"x and y: want the same number of samples, got {got}")
        learn_rate = positive(learn_rate, named["learn_rate"])
        if initial_weights is None:
            weights = np.zeros(degree + 1, storage)
        else:
            weights = vector(initial_weights, "initial_weights")
            refuse_nonfinite(weights, "initial_weights", np.dtype(storage))
            weights = weights.astype(storage)
            if weights.size != degree + 1:
                wanted = f"{degree + 1} weights for degree {degree}"
                raise ValueError(f"initial_weights: wants {wanted}, got {weights.size}; None starts at zeros")
        problem = cls(x, y, degree, steps, learn_rate, precision, weights, trace_every, device)
        refuse_long_trace(problem.rows(steps), np.dtype(storage).itemsize, named["steps"])
        if every_sample:
            problem.refuse_nonfinite()
        return problem

    def refuse_nonfinite(self) -> None:
        """Raise ValueError for the first sample that is NaN, infinite, or beyond the range of the arithmetic."""
        for array, name in ((self.x, "x"), (self.y, "y")):
            refuse_nonfinite(array, name, np.dtype(self.arithmetic))

    def refuse_large_copies(self, loop: str) -> None:
        """Raise if the samples cannot be in memory as they are computed with: for a loop over them, as it is called."""
        if is_chunked(self.x):
            way = "leave out backend and precision, which then read them once, or pass x.compute() and y.compute()"
            raise ValueError(f"{loop}: goes through the samples in every step, and these are dask arrays; {way}")
        for array in (self.x, self.y):
            refuse_large_copy(array, self.arithmetic)

    @property
    def weighted(self) -> bool:
        """Is it more than the mean of squares? Only `spectral` knows more."""
        return self.scale is not None or self.penalty is not None

    @property
    def on_gpu(self) -> bool:
        """Did samples come on a GPU?"""
        return on_gpu(self.x) or on_gpu(self.y)

    def on_cpu(self) -> FitProblem:
        """The same with the samples in numpy; the caller still gets tensors on the device."""
        return dataclasses.replace(self, x=vector(self.x, "x"), y=vector(self.y, "y")) if self.on_gpu else self

    def tensors(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y on a device, (n,) of the dtype of the arithmetic; copies only where they are not."""
        x, y = (tensor_on(device, values, self.arithmetic) for values in (self.x, self.y))
        return x, y

    def arrays(self) -> tuple[Array, Array]:
        """x and y, contiguous and of the dtype of the arithmetic; copies only where they are not."""
        on_cpu = self.on_cpu()
        return computable(on_cpu.x, self.arithmetic), computable(on_cpu.y, self.arithmetic)

    @property
    def arithmetic(self) -> type[np.floating[Any]]:
        """The dtype of every operation."""
        return PRECISIONS[self.precision][0]

    @property
    def storage(self) -> type[np.floating[Any]]:
        """The dtype of weights and mse, to which both are rounded after every step."""
        return PRECISIONS[self.precision][1]

    def rows(self, steps: int) -> int:
        """How many mse values the first `steps` steps leave in the trace."""
        return 0 if self.trace_every is None else -(-steps // self.trace_every)


def checked_options(
    degree: Any, steps: Any, precision: Any, trace_every: Any, steps_name: str = "steps"
) -> tuple[int, int, int | None, type[np.floating[Any]], type[np.floating[Any]]]:
    """degree, steps and trace_every as they should be, and what the precision means: (arithmetic, storage)."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        got = f"got {shown(precision)}; 'double' is right to all digits"
        raise ValueError(f"precision: wants one of {', '.join(PRECISIONS)}, {got}")
    degree = integer(degree, "degree", 0, MAX_DEGREE)
    steps = integer(steps, steps_name, 0, MAX_STEPS)
    if trace_every is not None:
        trace_every = integer(trace_every, "trace_every", 1, MAX_STEPS)
    return degree, steps, trace_every, *PRECISIONS[precision]


def refuse_long_trace(values: int, itemsize: int, steps_name: str) -> None:
    """Raise MemoryError for a trace of that many values of `itemsize` bytes if it cannot fit."""
    what = f"the trace of {values:,} values takes"
    refuse_beyond_memory(values * itemsize, what, f"a larger trace_every, or None, or fewer {steps_name}")


def integer(value: Any, name: str, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`; a float is refused even when it is whole."""
    wants = f"an integer >= {least}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: wants {wants}, got {value}; write {int(value)} if that is meant")
    try:
        result = operator.index(value)
    except Exception:  # TypeError, or what a tensor of several elements raises
        way = (
            "convert it with int()" if isinstance(value, (float, str, np.floating)) else f"choose one, {max(least, 1)}"
        )
        raise TypeError(f"{name}: wants {wants}, got {shown(value)} ({type(value).__name__}); {way}") from None
    if result < least:
        raise ValueError(f"{name}: wants {wants}, got {result}; the least is {least}")
    if most is not None and result > most:
        raise ValueError(f"{name}: wants at most {most}, got {shown(result)}; choose a smaller one")
    return result


def positive(value: Any, name: str) -> float:
    """`value` as a positive finite float."""
    wants = "a positive finite number"
    way = "choose one, 1e-3 for a start"
    if isinstance(value, (bool, np.bool_, str, bytes, bytearray)):
        raise TypeError(f"{name}: wants {wants}, got {shown(value)} ({type(value).__name__}); {way}")
    if np.ndim(value) > 0 if isinstance(value, np.ndarray) else is_tensor(value) and value.ndim > 0:
        raise TypeError(f"{name}: wants {wants}, got {type(value).__name__} of shape {tuple(value.shape)}; {way}")
    try:
        with np.errstate(all="ignore"):
            result = float(value) if not _is_complex(value) else None
    except OverflowError:
        raise ValueError(f"{name}: wants {wants}, got one beyond float64; {way}") from None
    except Exception:  # whatever a stranger's __float__ raises, or a tensor without a value
        result = None
    if result is None:
        raise TypeError(f"{name}: wants {wants}, got {type(value).__name__}; {way}")
    if not 0 < result < float("inf"):
        raise ValueError(f"{name}: wants {wants}, got {result}; {way}")
    return result


def checked_rate(x: Any, y: Any, steps: Any, learn_rate: Any, degree: Any) -> float:
    """The learn rate, if x and y are what the post's loop takes, (n, 1) arrays of floats, and the rest are numbers.

    Raises:
        TypeError, ValueError, MemoryError: they are not.
    """
    for value, name in ((x, "x"), (y, "y")):
        if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
            way = f"np.asarray({name}, float).reshape(-1, 1)"
            raise TypeError(f"{name}: wants a numpy array of shape (n, 1), got {type(value).__name__}; pass {way}")
        if value.dtype.kind != "f":
            raise TypeError(f"{name}: wants floats, got dtype {value.dtype}; convert it with .astype(float)")
        if value.ndim != 2 or value.shape[1] != 1 or not value.size:
            got = f"got shape {value.shape}; pass {name}.reshape(-1, 1)"
            raise ValueError(f"{name}: wants a numpy array of shape (n, 1), {got}")
    if len(x) != len(y):
        raise ValueError(f"x and y: want the same number of samples, got {len(x)} and {len(y)}; cut the longer one")
    integer(degree, "degree", 0, MAX_DEGREE)
    refuse_long_trace(integer(steps, "nSteps", 0, MAX_STEPS), 4, "nSteps")
    return positive(learn_rate, "learnRate")


def truth(value: Any, name: str) -> bool:
    """`value` as a bool: True, False, or the numbers 1 and 0 for them."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name}: wants True or False, got {shown(value)} ({type(value).__name__}); write bool({name})")


def shown(value: Any) -> str:
    """A value in a message: what it says of itself, in a line of bounded length."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a stranger's __repr__
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_complex(value: Any) -> bool:
    return isinstance(value, (complex, np.complexfloating)) or getattr(getattr(value, "dtype", None), "kind", "") == "c"
