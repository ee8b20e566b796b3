"""What the figures of a card are held to. Each bar has its source: a sentence that says why it is what it is.

Both sides of a ratio were timed on one card, each in a process of its own. Times that an H200 took at 1,980 MHz are
held in cycles on a card with another clock; what fills a card is held as a share of what that card can do.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastpoly._post import STEPS

from . import grid
from .book import RIGHT
from .figures import Figures
from .rows import Row

MHZ = 1980.0
"""The clock at which the bars in seconds were set."""

BY_HAND = 272.0
"""Cycles a step of one warp written by hand in CUDA, in single, without the mse."""

FMAS = 11
"""Of a sample and a step at degree 4: five for the model's error, five for the gradient, one for the mse."""

ANY_FMAS = 12
"""The same with the mean taken of each, as autograd has it."""

MANY = "polynomial, 10,000 problems"
THREADS = "polynomial, 10,000 problems of any model"
SPOTS = "fits of spots of 5 x 5 pixels"
OURS = frozenset({"triton", "fused-autograd-gpu"})
LARGER = ("polynomial, n = 10,000", "polynomial, n = 1,000,000")
LARGER += ("network 8-32-32-1, n = 1,024", "network 8-64-64-1, n = 4,096", "network 8-128-128-1, n = 65,536")

FIRST_DAY = "the loop's kernel took 25.5 and 40.9 ms on an H200 on its first day; a call adds no more than half a ms"
CUDA = f"one warp written by hand in CUDA, without the mse, takes {BY_HAND:g} cycles a step on an H200"
TRACED = "nobody's loop on a GPU comes nearer to one that fastpoly traced from torch's autograd"
GRAPHS = "a graph of the post's own step saves its launches, and a compiled one most of its kernels"
NETWORK = "a step's work is little beside its latency, which one warp's exchange of sums sets"
ANY_SIZE = "whatever the size, auto's choice is not slower than JAX's loop"
CHOICE = "whoever leaves the choice to auto waits no longer than for a good choice, compiling included"
FULL = "a card that is full of problems is held to half of the fma that it can do"
GPUFIT = "ten times what Gpufit's authors print for their own fits of such spots, on a card that they do not name"
OVERHEAD = "what is around the kernel: copies, checks, portions"
RIGHT_FIRST = "a wrong answer has no speed"

Bar = Row


def held(rows: list[Row]) -> list[Bar]:
    """The bars whose figures are there, as a report reads them."""
    return [bar for bar in _all(Figures(rows)) if bar.get("value", bar.get("ratio")) is not None]


def open_ones(rows: list[Row]) -> list[tuple[str, str]]:
    """(name, reason) of the bars that have no figure."""
    return [
        (bar["name"] if "name" in bar else f"{bar['of']} / {bar['to']}", "there is no figure yet")
        for bar in _all(Figures(rows))
        if bar.get("value", bar.get("ratio")) is None
    ]


def _all(figures: Figures) -> Iterator[Bar]:
    yield from _correctness(figures)
    yield from _post(figures)
    yield from _losses(figures)
    yield from _choices(figures)
    yield from _many(figures)


def _post(figures: Figures) -> Iterator[Bar]:
    for precision, most in (("single", 26.0), ("double", 42.0)):
        whole = figures.seconds("triton", precision)
        yield _limit(
            f"triton {precision}, {STEPS:,} steps", _times(1e3, whole), _clocked(figures, most), "ms", FIRST_DAY
        )
    kernel = figures.value("kernel", precision="single")
    step, by_hand = kernel and kernel / STEPS, BY_HAND / (figures.mhz * 1e6) if figures.mhz else None
    yield _ratio("a step of triton's kernel, single", "one by hand in CUDA", step, by_hand, 1, CUDA, at_most=True)
    for precision in ("single", "double"):
        whole, kernel = figures.seconds("triton", precision), figures.value("kernel", precision=precision)
        around = 1e3 * (whole - kernel) if whole and kernel else None
        yield _limit(f"triton {precision}, the call without its kernel", around, 0.5, "ms", OVERHEAD)
    for precision, least in (("single", 14), ("double", 12)):
        sides = figures.seconds("JAX", precision), figures.seconds("fused-autograd-gpu", precision)
        yield _ratio(f"JAX, best unroll, {precision}", f"fused-autograd-gpu {precision}", *sides, least, TRACED)
    for backend, least in (("cudagraph", 50), ("compile-gpu", 120)):
        sides = figures.seconds("torch-autograd-gpu", "single"), figures.seconds(backend, "single")
        yield _ratio("torch autograd on the GPU, as published", f"{backend} single", *sides, least, GRAPHS)


def _losses(figures: Figures) -> Iterator[Bar]:
    for precision, most in (("single", 2.5), ("double", 7.0)):
        row = figures.timing("triton", precision, "tanh-network")
        value = row["ns_per_step"] / 1e3 if row else None
        yield _limit(f"descend, tanh network, {precision}, a step", value, _clocked(figures, most), "µs", NETWORK)
    for model in LARGER:
        jax, auto = (figures.timing(name, "single", model) for name in ("JAX", "auto"))
        sides = (row and row["ns_per_step"] / 1e9 for row in (jax, auto))
        yield _ratio(f"JAX, best unroll, {model}", "auto", *sides, 1.1, ANY_SIZE)


def _choices(figures: Figures) -> Iterator[Bar]:
    found = list(grid.choices(figures.rows))
    bad = sum(not choice.good for choice in found) if found else None
    name = f"runs for which auto takes over {grid.NEAR:g} times the fastest, of {len(found)}"
    yield _limit(name if found else "runs for which auto takes too long", bad, 0, "", CHOICE)


def _many(figures: Figures) -> Iterator[Bar]:
    for precision in ("single", "double"):
        row, peak = figures.timing("triton", precision, MANY), figures.value("peak", precision=precision)
        done = FMAS * row["n"] * row["batch"] * row["steps"] / row["seconds"] if row else None
        share = 100 * done / peak if done and peak else None
        name = f"10,000 polynomials, {precision}, of the card's fma peak"
        yield _limit(name, share, 50, "%", FULL, at_most=False)
    for precision in ("single", "double"):
        row, peak = figures.timing("triton", precision, THREADS), figures.value("peak", precision=precision)
        done = ANY_FMAS * 100 * row["batch"] * row["steps"] / row["seconds"] if row else None
        share = 100 * done / peak if done and peak else None
        name = f"descend_many, 10,000 polynomials, {precision}, of the card's fma peak"
        yield _limit(name, share, 50, "%", FULL, at_most=False)
    row = figures.timing("triton", "single", SPOTS)
    rate = row["batch"] / row["seconds"] / 1e6 if row else None
    yield _limit("curve_fit, spots of 5 x 5 pixels, single", rate, 30, "million a second", GPUFIT, at_most=False)


def _correctness(figures: Figures) -> Iterator[Bar]:
    """How many answers are wrong, of those that were looked at."""
    for what, chosen in (("checks", "checks"), ("tests marked gpu", "tests")):
        rows = [row for row in figures.rows if "ended" in row]
        ends = [row["ended"] for row in rows if row["stage"].startswith(chosen) or row["unit"].startswith(chosen)]
        ends = [end for end in ends if end != "not measured"]
        wrong = sum(end != RIGHT for end in ends) if ends else None
        yield _limit(f"{what} that fail, of {len(ends):,}" if ends else f"{what} that fail", wrong, 0, "", RIGHT_FIRST)
    found = [verdict(row) for row in figures.rows if "op" in row]
    wrong = sum(end in WRONG for end in found) if found else None
    name = f"operations of torch that are wrong or crash, of {len(found):,}" if found else "operations of torch"
    yield _limit(name, wrong, 0, "", RIGHT_FIRST)


WRONG = ("wrong", "crash", "crashed", "poisoned")


def verdict(row: Row) -> str:
    """What the operator database found of an operation."""
    return str(row.get("class", row.get("cls", row.get("verdict", "?"))))


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _clocked(figures: Figures, most: float) -> float:
    """A limit in a unit of time, set at MHZ, at this card's clock."""
    return most * MHZ / figures.mhz if figures.mhz else most


def _ratio(
    of: str, to: str, first: float | None, second: float | None, bar: float, source: str, *, at_most: bool = False
) -> Bar:
    ratio = first / second if first and second else None
    holds = ratio is not None and (ratio <= bar if at_most else ratio >= bar)
    sides = {"seconds_of": first, "seconds_to": second}
    return {"kind": "ratio", "of": of, "to": to, "ratio": ratio, "bar": bar, "at_most": at_most, "holds": holds} | (
        sides | {"source": source}
    )


def _limit(name: str, value: float | None, limit: float, unit: str, source: str, *, at_most: bool = True) -> Bar:
    holds = value is not None and (value <= limit if at_most else value >= limit)
    known = {"kind": "limit", "name": name, "value": value, "limit": limit, "unit": unit}
    return known | {"at_most": at_most, "holds": holds, "source": source}
