"""The first screen: what the post measured, what it takes now, and how that was checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastpoly._post import PUBLISHED_SECONDS

from .figures import deviation, seconds, times
from .results import Results, Run
from .tables import fastest, is_ours

PAIRS = (
    ("torch-autograd", ("fused-autograd",), "", "By torch’s autograd"),
    ("numpy", ("gram", "numba", "spectral"), "mixed", "By hand, to the post’s digits"),
    ("torch-autograd-gpu", ("fused-autograd-gpu",), "", "By torch’s autograd, on a GPU"),
)
"""A loop of the post, who takes its steps now, in which precision ("" for the loop's own), and what to call it."""


@dataclass(frozen=True)
class Card:
    """A loop of the post beside fastpoly's in one run: how many times as fast, and the seconds of each."""

    label: str
    ratio: str
    facts: tuple[tuple[str, str], ...]


def cards(results: Results) -> list[Card]:
    """Those of which both sides were measured; each says its machine where there are several."""
    made = [(run, _card(run, *pair)) for run in results.runs for pair in PAIRS]
    named = len(results.runs) > 1
    return [
        Card(f"{card.label}: {run.device}" if named else card.label, card.ratio, card.facts)
        for run, card in made
        if card
    ]


def _card(run: Run, loop: str, ours: Sequence[str], precision: str, label: str) -> Card | None:
    then = next((t for t in run.of("post") if t.backend == loop and t.seconds), None)
    wanted = precision or (then.precision if then else "")
    now = fastest(t for t in run.of("post") if t.backend in ours and t.precision == wanted)
    if then is None or now is None:
        return None
    facts = (
        ("published in 2017", seconds(then.published or PUBLISHED_SECONDS[loop])),
        ("that loop, here", seconds(then.seconds)),
        (f"{now.backend}, here", seconds(now.seconds)),
    )
    return Card(label, times(then.seconds / now.seconds), facts)


@dataclass(frozen=True)
class Checked:
    """How many bars were judged, how many fell short, how many are missing; and the largest deviation in double."""

    judged: int
    short: int
    missing: int
    off: str


def checked(results: Results) -> Checked:
    judged = [bar for run in results.runs for bar in run.bars if bar.holds is not None]
    off = [
        t.deviation
        for run in results.runs
        for t in run.of("post")
        if t.precision == "double" and is_ours(t) and t.deviation_of in ("", "weights") and t.deviation is not None
    ]
    return Checked(
        len(judged),
        sum(not bar.holds for bar in judged),
        sum(len(run.missing_bars) for run in results.runs),
        deviation(max(off)) if off else "",
    )
