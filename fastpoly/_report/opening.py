"""The first screen: what the post measured, what it takes now, and how that was checked."""

from __future__ import annotations

from collections.abc import Sequence

from .._post import PUBLISHED_SECONDS, STEPS
from .figures import deviation, seconds, times
from .html import element, text
from .results import Results, Run, Timing
from .tables import fastest, is_ours, place, said_shortly

PAIRS = (
    ("torch-autograd", ("fused-autograd",), "", "By torch’s autograd"),
    ("numpy", ("gram", "numba", "spectral"), "mixed", "By hand, to the post’s digits"),
    ("torch-autograd-gpu", ("fused-autograd-gpu",), "", "By torch’s autograd, on a GPU"),
)
"""A loop of the post, who takes its steps now, in which precision ("" for the loop's own), and what to call it."""


def opening(results: Results) -> str:
    """The header of the page, but for its links."""
    autograd = PUBLISHED_SECONDS["torch-autograd"] / PUBLISHED_SECONDS["torch"]
    lede = (
        f"In October 2017 a post fitted a polynomial to sin(x) by {STEPS:,} steps of gradient descent: in numpy, in "
        f"torch, and by torch’s autograd, which took {autograd:.0f} times as long as the gradient written by hand. It "
        "asked how that could be faster. These are the same steps, with the same errors recorded at each, now."
    )
    several = len(results.runs) > 1
    cards = [card for run in results.runs for pair in PAIRS if (card := _card(run, *pair, named=several))]
    about = " · ".join(dict.fromkeys(map(_measured_on, results.runs)))
    quick = any(run.quick for run in results.runs)
    return (
        text("p", about, class_="kicker")
        + text("h1", "A training loop of 2017, then and now")
        + text("p", lede, class_="lede")
        + element("ul", "".join([*cards, _checked(results)]), class_="cards")
        + (text("p", "From a quick run: few repeats, so the figures are rough.", class_="quiet") if quick else "")
    )


def _measured_on(run: Run) -> str:
    said = [place(run), run.date, said_shortly(run)]
    return ", ".join(filter(None, said))


def _card(run: Run, loop: str, ours: Sequence[str], precision: str, label: str, *, named: bool) -> str:
    """The post's loop and fastpoly's, in one run on one machine; nothing unless both were measured.

    `named`: say which machine it is, there being others.
    """
    then = next((t for t in run.of("post") if t.backend == loop and t.seconds), None)
    wanted = precision or (then.precision if then else "")
    now = fastest(t for t in run.of("post") if t.backend in ours and t.precision == wanted)
    if then is None or now is None or not then.seconds or not now.seconds:
        return ""
    label = f"{label}: {run.device}" if named else label
    rows = [
        ("published in 2017", seconds(then.published or PUBLISHED_SECONDS[loop])),
        ("that loop, here", seconds(then.seconds)),
        (f"{now.backend}, here", seconds(now.seconds)),
    ]
    facts = "".join(text("dt", name) + text("dd", value) for name, value in rows)
    ratio = text("span", times(then.seconds / now.seconds), class_="big")
    return element("li", text("span", label, class_="label") + ratio + element("dl", facts), class_="ours")


def _checked(results: Results) -> str:
    judged = [bar for run in results.runs for bar in run.bars if bar.holds is not None]
    short = sum(not bar.holds for bar in judged)
    missing = sum(len(run.missing_bars) for run in results.runs)
    made = text("span", "Checked", class_="label")
    if judged:
        made += text("span", f"{len(judged) - short} of {len(judged)}", class_="big")
        said = "bars hold" + (f"; {short} fall{'s' if short == 1 else ''} short" if short else "")
        made += text("p", said + (f"; {missing} could not be measured here." if missing else "."))
    words = "Every benchmark asserts its answer before it reports a time."
    off = [t.deviation for run in results.runs for t in run.of("post") if _in_double(t) and t.deviation is not None]
    if off:
        words += f" In double precision fastpoly’s weights are within {deviation(max(off))} of arithmetic of 60 digits."
    return element("li", made + text("p", words))


def _in_double(timing: Timing) -> bool:
    return timing.precision == "double" and is_ours(timing) and timing.deviation_of in ("", "weights")
