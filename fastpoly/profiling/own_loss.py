"""The same questions to a loss of the user's own: what does a step cost eager, compiled and fused, and where does the
eager step's time go?
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from .._descend import descend
from .._errors import BackendUnavailableError, DivergenceWarning, UnsupportedOperationError
from .._loops import Loop, begin
from .._problem import integer, positive
from .._torch_private import tree
from .eager_step import EagerStep, as_tuple, own_step
from .results import LossProfile
from .rounds import MOST_ROUNDS, PARTS_ROUNDS, ROUNDS, SLICE_SECONDS, ns_of_each, seconds_of
from .split import split_own

CHECKED_STEPS = 16
"""After which all ways must have come to the same parameters."""

AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-8}
"""How far they may differ, as a share of how far they came: a gradient is a sum of terms that may cancel, and the order
of sums is each way's own, which costs some digits of the 7 or 16; a wrong gradient differs by more.
"""


def loss_profile(
    loss: Callable[..., torch.Tensor],
    params: Any,
    data: Any = (),
    *,
    learn_rate: float = 1e-3,
    rounds: int = ROUNDS,
) -> LossProfile:
    """What a step of plain gradient descent on a loss costs: eager, through torch.compile, and fused; and why.

    Args:
        loss, params, data, learn_rate: as for `fastpoly.descend`; on the CPU.
        rounds: how often each way is timed.

    Returns:
        A LossProfile. A way that this loss cannot go is in `not_measured`, with the reason.

    Raises:
        TypeError, ValueError: an argument cannot be meant, or the descent diverges.
        ArithmeticError: a way does not come to the eager one's parameters; nothing is reported then.
    """
    rounds, learn_rate = integer(rounds, "rounds", 1, MOST_ROUNDS), positive(learn_rate, "learn_rate")
    data = as_tuple(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # told below
        first = descend(loss, params, data, learn_rate=learn_rate, steps=CHECKED_STEPS, backend="eager")
    if first.diverged_at is not None:
        raise ValueError(f"learn_rate: {learn_rate:g} diverges at step {first.diverged_at}; choose a smaller one")
    start = [leaf.detach() for leaf in tree.tree_leaves(params)]
    if any(leaf.device.type != "cpu" for leaf in start):
        raise ValueError("params: this profile runs on the CPU; want tensors there, take .cpu()")
    expected = tree.tree_leaves(first.params)

    eager = own_step(loss, params, data, learn_rate)
    for _ in range(CHECKED_STEPS):
        eager.step()
    _refuse_other("eager", eager.leaves, expected, start)
    runs: dict[str, Callable[[int], float]] = {"eager": partial(_eager_seconds, own_step(loss, params, data))}
    begin_seconds, not_measured = {"eager": 0.0}, {}
    for way in ("compile", "fused"):
        started = time.perf_counter()
        try:
            loop = begin(way)(_step(loss, params, data, learn_rate), start, {}, 0)
        except (BackendUnavailableError, UnsupportedOperationError) as error:
            not_measured[way] = str(error)
            continue
        loop.advance(CHECKED_STEPS, 1, 0)
        begin_seconds[way] = time.perf_counter() - started
        _refuse_other(way, loop.carried(), expected, start)
        runs[way] = partial(_loop_seconds, loop)
    return LossProfile(
        ns_of_each(runs, SLICE_SECONDS, rounds),
        begin_seconds,
        not_measured,
        split_own(loss, params, data, rounds * PARTS_ROUNDS // ROUNDS),
    )


def _eager_seconds(step: EagerStep, count: int) -> float:
    def run() -> None:
        for _ in range(count):
            step.step()

    return seconds_of(run)


def _loop_seconds(loop: Loop, count: int) -> float:
    def run() -> None:
        if loop.advance(count, 1, 0)[0] < count:
            raise ValueError("learn_rate: the loss does not stay finite while it is timed; choose a smaller one")

    return seconds_of(run)


def _step(
    loss: Callable[..., torch.Tensor], params: Any, data: Sequence[Any], learn_rate: float
) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
    """A step as the loops take it: parameters to parameters and loss."""
    leaves, structure = tree.tree_flatten(params)
    rate = leaves[0].new_tensor(learn_rate)

    def step(carried: list[torch.Tensor]) -> list[torch.Tensor]:
        own = [leaf.detach().requires_grad_() for leaf in carried]
        with torch.enable_grad():
            value = loss(tree.tree_unflatten(own, structure), *data)
            gradients = torch.autograd.grad(value, own, materialize_grads=True)
        after = [leaf - rate * gradient for leaf, gradient in zip(carried, gradients, strict=True)]
        return [*after, value.detach().reshape(())]

    return step


def _refuse_other(
    way: str, params: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], start: Sequence[torch.Tensor]
) -> None:
    """Raise ArithmeticError if the parameters are not the expected ones."""
    got, want, before = (
        torch.cat([leaf.detach().reshape(-1) for leaf in leaves]) for leaves in (params, expected, start)
    )
    ulp = torch.finfo(want.dtype).eps * float(want.abs().max())
    off, moved = float((got - want).abs().max()), float((want - before).abs().max())
    if (
        not off <= AGREEMENT.get(want.dtype, 1e-1) * moved + CHECKED_STEPS * ulp
    ):  # a rounding a step, whatever the distance
        raise ArithmeticError(f"{way}: after {CHECKED_STEPS} steps the parameters are off by {off:.1e}")
