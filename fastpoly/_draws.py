"""Random numbers in a step, as functions of a key and of a count: a seed gives the same ones in every loop.

Requirements: other numbers in every step, at every place where a step draws, and in every element; the same in the loop
of torch's own operations and in a kernel, on any target, however a run is cut into portions; a seed is data, so that
another one compiles nothing. torch's own generators keep a state of which every draw depends, in the order in which
they are asked, and have no place in a kernel. So while a step runs, what it draws comes of Threefry (see
`fastpoly_kernels.functions.threefry`), whose key and count of steps are carried from step to step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from fastpoly_kernels.functions import FUNCTIONS, WORD

from ._torch_private import LightDispatchMode, schema, without_modes

LOW = 2**20
"""Steps after which the second word of their count grows."""

SITES = 1024
"""Places where a step draws that are numbered by one tensor, so that those of a loop's iterations are rows of it."""

_LIBRARY = torch.library.Library("fastpoly", "DEF")  # type: ignore[no-untyped-call]


def _define(name: str) -> None:
    words = ("key_low", "key_high", "site", "low", "high", "place")
    _LIBRARY.define(f"{name}({', '.join(f'Tensor {word}' for word in words)}) -> Tensor")  # type: ignore[no-untyped-call]

    def numbers(*arguments: torch.Tensor) -> torch.Tensor:
        place = arguments[-1]
        if place.is_meta or not place.numel():  # its kind is asked for
            return torch.empty_like(place)
        found = FUNCTIONS[name].numpy(*(argument.detach().cpu().numpy() for argument in arguments))
        return torch.as_tensor(found, dtype=place.dtype, device=place.device)

    for kind in ("CPU", "CUDA", "Meta"):
        _LIBRARY.impl(name, numbers, kind)  # type: ignore[no-untyped-call]


for _name in ("uniform", "uniform_double"):
    _define(_name)


def first(seed: int, device: torch.device) -> list[torch.Tensor]:
    """What is carried for draws, before the first step: the words of the key, and of the count of steps."""
    key = seed % 2**WORD, seed >> WORD
    return [torch.tensor(word, device=device) for word in (*key, 0, 0)]


def following(carried: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same after a step."""
    *key, low, high = carried
    is_last = low == LOW - 1
    after = torch.where(is_last, 0, low + 1).clamp(0, LOW - 1)
    return [*key, after, (high + is_last).clamp(0, 2**WORD - 1)]


@lru_cache(64)
def _numbers(count: int, first: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    """Whole numbers from the first one on; always the same tensor, of which nobody has seen how it was made."""
    with without_modes():
        return torch.arange(first, first + count, dtype=dtype, device=device)


class Draws(LightDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, what is drawn comes of what is `carried` for that.

    What has no row in DRAWN, or a generator of its own, is drawn by torch; and so is what follows after torch's
    generator has been set, for who seeds it in a loss wants the same numbers in every step.
    """

    def __init__(self, carried: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.carried = carried
        self.sites = 0
        self._generator = torch.get_rng_state()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = rule_of(func, kwargs)
        if rule is None or not torch.equal(torch.get_rng_state(), self._generator):
            return func(*args, **(kwargs or {}))
        given = {argument.name: argument.default_value for argument in schema(func).arguments}
        return rule(self, given | dict(zip(given, args, strict=False)) | (kwargs or {}))

    def uniform(self, shape: Sequence[int], dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Numbers from 0 up to 1, in a dtype of floats."""
        own = torch.float64 if dtype == torch.float64 else torch.float32
        count, parts, device = math.prod(shape), [], device or "cpu"
        name = "uniform_double" if own == torch.float64 else "uniform"
        words = [word.to(own) for word in self.carried]
        for start in range(0, max(count, 1), 2**WORD):
            site = _numbers(SITES, self.sites // SITES * SITES, own, device)[self.sites % SITES]
            self.sites += 1
            place = _numbers(min(count - start, 2**WORD), 0, own, device)
            parts.append(getattr(torch.ops.fastpoly, name)(*words[:2], site, *words[2:], place))
        return (torch.cat(parts) if len(parts) > 1 else parts[0]).reshape(list(shape)).to(dtype)

    def inside(self, shape: Sequence[int], dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Numbers between 0 and 1, neither of these among them."""
        return self.uniform(shape, dtype, device) + (2.0**-53 if dtype == torch.float64 else 2.0**-24)

    def normal(self, shape: Sequence[int], dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Numbers of mean 0 and deviation 1: the normal distribution's quantiles of uniform ones."""
        return math.sqrt(2) * torch.erfinv(2 * self.inside(shape, dtype, device) - 1)

    def whole(self, low: int, high: int, shape: Sequence[int], device: Any) -> torch.Tensor:
        """Whole numbers from `low` up to `high`, without that; of some a float has one more than of others."""
        count = high - low
        dtype = torch.float32 if count <= 2**12 else torch.float64
        numbers = (self.uniform(shape, dtype, device) * count).floor().clamp(0, count - 1)
        return numbers.to(torch.int64) + low


@contextmanager
def drawing(carried: Sequence[torch.Tensor] | None) -> Iterator[None]:
    """While it lasts, draws come of what is carried for them, if anything is."""
    if carried is None:
        yield
        return
    with Draws(carried):
        yield


Given = dict[str, Any]
"""The arguments of an operation, by their names."""

Kind = tuple[Sequence[int], torch.dtype, Any]
"""A tensor's shape, dtype and device."""


def _asked(given: Given) -> Kind:
    return given["size"], given["dtype"] or torch.get_default_dtype(), given["device"]


def _like(given: Given) -> Kind:
    like = given["self"]
    return like.shape, given["dtype"] or like.dtype, given["device"] or like.device


def _floats(like: torch.Tensor) -> Kind:
    return like.shape, like.dtype if like.is_floating_point() else torch.float32, like.device


def _normal(draws: Draws, given: Given) -> torch.Tensor:
    mean, std = given["mean"], given["std"]
    parts = [part for part in (mean, std) if isinstance(part, torch.Tensor)]
    kind = _floats(parts[0] + parts[-1]) if parts else _asked(given)
    numbers: torch.Tensor = draws.normal(*kind) * std + mean
    return numbers


def _put(numbers: Callable[[Draws, Kind, Given], torch.Tensor]) -> Callable[[Draws, Given], torch.Tensor]:
    """A rule that fills a tensor with numbers."""
    return lambda draws, given: given["self"].copy_(numbers(draws, _floats(given["self"]), given))


def _truths(draws: Draws, kind: Kind, given: Given) -> torch.Tensor:
    chances: Any = given["p"] if "p" in given else given["self"]
    truths: torch.Tensor = draws.uniform(*kind) < chances
    return truths


def _kept(draws: Draws, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    a, p = given["input"], given["p"]
    if given["train"] is False:
        return a.clone(), torch.ones_like(a, dtype=torch.bool)
    kept = draws.uniform(*_floats(a)) >= p
    return torch.where(kept, a / (1 - p) if p < 1 else 0.0, 0.0), kept


def _whole(draws: Draws, given: Given) -> torch.Tensor:
    numbers = draws.whole(given.get("low", 0), given["high"], given["size"], given["device"])
    return _as_asked(numbers, given)


def _order(draws: Draws, given: Given) -> torch.Tensor:
    order = draws.uniform((given["n"],), torch.float32, given["device"]).argsort()
    return _as_asked(order, given)


def _as_asked(numbers: torch.Tensor, given: Given) -> torch.Tensor:
    dtype = given["dtype"]  # a schema's own default is a number
    return numbers.to(dtype if isinstance(dtype, torch.dtype) else torch.int64)


aten = torch.ops.aten

DRAWN: dict[Any, Callable[[Draws, Given], Any]] = {
    aten.rand.default: lambda draws, given: draws.uniform(*_asked(given)),
    aten.randn.default: lambda draws, given: draws.normal(*_asked(given)),
    aten.rand_like.default: lambda draws, given: draws.uniform(*_like(given)),
    aten.randn_like.default: lambda draws, given: draws.normal(*_like(given)),
    aten.randint.default: _whole,
    aten.randint.low: _whole,
    aten.randperm.default: _order,
    aten.normal.Tensor_float: _normal,
    aten.normal.float_Tensor: _normal,
    aten.normal.Tensor_Tensor: _normal,
    aten.normal.float_float: _normal,
    aten.bernoulli.default: lambda draws, given: _truths(draws, _floats(given["self"]), given).to(given["self"].dtype),
    aten.bernoulli.p: lambda draws, given: _truths(draws, _floats(given["self"]), given).to(given["self"].dtype),
    aten.bernoulli_.Tensor: _put(_truths),
    aten.bernoulli_.float: _put(_truths),
    aten.native_dropout.default: _kept,
    aten.uniform_.default: _put(
        lambda draws, kind, given: given["from"] + (given["to"] - given["from"]) * draws.uniform(*kind)
    ),
    aten.normal_.default: _put(lambda draws, kind, given: given["mean"] + given["std"] * draws.normal(*kind)),
    aten.log_normal_.default: _put(
        lambda draws, kind, given: (given["mean"] + given["std"] * draws.normal(*kind)).exp()
    ),
    aten.exponential_.default: _put(lambda draws, kind, given: -draws.inside(*kind).log() / given["lambd"]),
    aten.cauchy_.default: _put(
        lambda draws, kind, given: given["median"] + given["sigma"] * (math.pi * (draws.inside(*kind) - 0.5)).tan()
    ),
}


def rule_of(func: Any, kwargs: Any) -> Callable[[Draws, Given], Any] | None:
    """How an operation draws, unless it draws nothing, has no row, or has a generator of the caller's."""
    rule = DRAWN.get(func)
    return None if rule is None or (kwargs or {}).get("generator") is not None else rule
