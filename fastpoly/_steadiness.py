"""Does a loop that was made of one call of a function do what the function does when it is called again?

What Python changes between calls (a counter, a warm-up, numbers drawn at random) stands in the loop as it was when the
function was traced, and so does every mistake of a compiler's. So one step of the loop is compared with the function
itself. A change that comes in a later call, or is smaller than rounding, is not noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ._errors import UnsupportedOperationError

if TYPE_CHECKING:
    import torch

    from ._loops import Step

TOLERANCE = {8: 1e-7, 4: 1e-3}
"""By the bytes of a number: far above what the order of sums changes in one step, far below what is meant by a change.
Where a step multiplies roundings by more, `_rounding` finds out."""

NUDGE = {8: 1e-12, 4: 1e-5}
"""Relative change of the inputs, some thousand roundings, which shows how much a step makes of a rounding."""

TRIALS = 8
"""Of roundings drawn at random: whether a sum is off by one in its last place is a matter of chance."""

MARGIN = 100
"""Times as far as NUDGE moves a result, another order of sums may move it, whose roundings are in other places."""


def refuse_unsteady(
    step: Step, before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], results: Sequence[torch.Tensor]
) -> None:
    """Raise if the step, called with `before`, does not give what a loop gave: `after`, then `results`.

    Raises:
        UnsupportedOperationError: it gives something else, and not by rounding.
    """
    from ._torch_private import Narrowest

    got = [*after, *results]
    want = _called(step, before)
    if want is None:
        return
    were = [*before, *[None] * len(results)]
    wrong = [i for i, parts in enumerate(zip(want, got, were, strict=True)) if _off(*parts) > 0]
    if not wrong:
        return
    with Narrowest() as seen:  # it may compute with less in between
        again = _called(step, before)
    size = 8 if seen.bytes >= 8 else 4
    if _steady(want, again):
        wrong = [i for i in wrong if _off(want[i], got[i], were[i], size) > 0]
        if all(_by_rounding(step, before, want, got, i, size) for i in wrong):
            return
    i = next((i for i in wrong if want[i].numel() == 1), wrong[0])
    numbers = f": {got[i].item():.6g} for {want[i].item():.6g}" if want[i].numel() == 1 else ""
    raise UnsupportedOperationError(
        f"the loss does something else when it is called again{numbers}: it depends on what Python changes meanwhile "
        "(random numbers, a counter). Way out: pass what changes as data or keep it in the params, or backend='eager'. "
        "If nothing changes, this is a mistake of fastpoly's: please report it"
    )


def is_finite_by_chance(function: Callable[[], torch.Tensor]) -> bool:
    """Is what a function returns not finite if its operations round otherwise, as a kernel's do?"""
    import torch

    from ._torch_private import RoundedOtherwise

    for seed in range(TRIALS):
        with RoundedOtherwise(seed, torch.finfo(torch.float64).eps):
            value = function()
        if not bool(value.isfinite().all()):
            return True
    return False


def _called(step: Step, before: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
    """What the function gives; None if there is no memory for all that it makes, as a loop needs less."""
    import torch

    try:
        return [tensor.detach() for tensor in step([tensor.clone() for tensor in before])]
    except (MemoryError, torch.OutOfMemoryError):
        return None
    except RuntimeError as error:
        if "allocate memory" in str(error):
            return None
        raise


def _off(want: torch.Tensor, got: torch.Tensor, was: torch.Tensor | None, size: int | None = None) -> float:
    """By how much the largest difference is beyond the tolerance; 0 if it is within, or not all is finite in both.

    `was`: what they follow on; then it is the change that counts, which may be small beside what changes.
    """
    import torch

    if not want.numel():
        return 0.0
    if not want.dtype.is_floating_point:
        return float(bool((want != got).any()))
    if not _finite_alike(want, got):
        return math.inf
    if not bool(want.isfinite().all()):
        return 0.0  # what is not finite ends a run by itself
    rounding = 0.0
    difference = float((want - got).abs().max())
    if was is not None:
        rounding = 8 * torch.finfo(want.dtype).eps * float(want.abs().max())
        want, got = want - was, got - was
    largest = max(float(want.abs().max()), float(got.abs().max()))
    return max(0.0, difference - rounding - TOLERANCE[size or _bytes(want)] * largest)


def _steady(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor] | None) -> bool:
    """Are two calls with the same inputs the same, NaN included?"""
    return other is not None and all(bool(((a == b) | (a != a)).all()) for a, b in zip(one, other, strict=True))


def _by_rounding(
    step: Step,
    before: Sequence[torch.Tensor],
    want: Sequence[torch.Tensor],
    got: Sequence[torch.Tensor],
    i: int,
    size: int,
) -> bool:
    """Would the function itself give so much else if its inputs were rounded otherwise?

    All of them a little larger or smaller; each by a rounding or two of its own, for what is made of roundings alone,
    as the deviation of equal numbers is; and what every operation takes, where such numbers do not come from an input.
    """
    difference, moved = float((got[i].double() - want[i].double()).abs().max()), 0.0
    for there in _rounded_otherwise(step, before, size):
        if there is None or not _finite_alike(there[i], want[i]):
            return True
        moved = max(moved, float((there[i].double() - want[i].double()).abs().max()))
        if difference <= MARGIN * moved:
            return True
    return False


def _rounded_otherwise(step: Step, before: Sequence[torch.Tensor], size: int) -> Iterator[list[torch.Tensor] | None]:
    """What the function gives then, time after time."""
    import torch

    from ._torch_private import RoundedOtherwise

    for nudge in (NUDGE[size], -NUDGE[size]):
        yield _called(step, [t * (1 + nudge) + nudge if t.is_floating_point() else t for t in before])
    for seed in range(TRIALS):
        draws = torch.Generator().manual_seed(seed)
        yield _called(step, [_rounded(t, draws, size) if t.is_floating_point() else t for t in before])
    for seed in range(TRIALS):
        with RoundedOtherwise(seed, torch.finfo(torch.float64 if size == 8 else torch.float32).eps):
            there = _called(step, before)
        yield there


def _rounded(tensor: torch.Tensor, draws: torch.Generator, size: int) -> torch.Tensor:
    """Each number by up to two roundings larger or smaller."""
    import torch

    signs = torch.randint(-2, 3, tensor.shape, generator=draws).to(tensor)
    return tensor * (1 + torch.finfo(torch.float64 if size == 8 else torch.float32).eps * signs)


def _finite_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Are they finite at the same places?"""
    import torch

    return torch.equal(one.isfinite(), other.isfinite())


def _bytes(like: torch.Tensor) -> int:
    return 4 if like.is_floating_point() and like.element_size() < 8 else 8
