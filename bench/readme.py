"""The tables and pictures of README.md and docs/, from bench/results/: `make readme` writes them, `--check` compares.

Requirements: no table of figures is typed; to compare takes nothing but numpy, so that `make
check` has it for little; what is not measured yet is said in its place. Quick runs are not printed.

A block stands between `<!-- results: NAME -->` and `<!-- end -->`, each on a line of its own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from report import charts, markdown, svg, tables
from report.results import FOLDER, Results, Run, newest

README, DOCS = Path("README.md"), Path("docs")
PICTURED = DOCS / "pictures"
BLOCK = re.compile(r"(<!-- results: (\S+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
MARKER = re.compile(r"<!-- (results: .*|end) -->")
PENDING = "*Not measured yet: `make bench` measures, `make readme` prints it here.*"

Picture = tuple[str, str, Callable[[Run], object]]
PICTURES: dict[str, Picture] = {
    "then": (
        "then",
        "Seconds for 200,000 steps, of the post's loops and of fastpoly's",
        lambda run: charts.then_and_now(tables.post_and_ours(run)),
    ),
    "post": (
        "seconds",
        "Seconds for 200,000 steps of every backend",
        lambda run: charts.then_and_now(run.of("post")),
    ),
    "ladder": ("ladder", "A step's time after each change", lambda run: charts.waterfall(run.rungs)),
}
"""By block: the file's name, what it shows, and how it is drawn."""


def pages() -> dict[Path, str]:
    """The pages and their texts."""
    return {page: page.read_text(encoding="utf-8") for page in (README, *sorted(DOCS.glob("*.md")))}


def filled(text: str, results: Results, page: Path = README) -> str:
    """The `text` of a page with every block printed anew.

    Raises:
        ValueError: a marker is not one of a pair, or its name is of no block.
    """
    if len(MARKER.findall(text)) != 2 * len(BLOCK.findall(text)):
        raise ValueError(f"markers in {page}: wants '<!-- results: NAME -->' and '<!-- end -->' in turn")

    def block(found: re.Match[str]) -> str:
        opening, name, _, end = found.groups()
        if name not in BLOCKS:
            raise ValueError(f"markers in {page}: no block {name!r}; wants one of {', '.join(BLOCKS)}")
        return f"{opening}\n{BLOCKS[name](results, page)}\n\n{end}"

    return BLOCK.sub(block, text)


def differing(text: str, results: Results, page: Path = README) -> list[str]:
    """What of a page is not what `results` say: names of blocks, and pictures that are not there."""
    blocks = zip(BLOCK.findall(text), BLOCK.findall(filled(text, results, page)), strict=True)
    wrong = [f"block {name} differs from {FOLDER}" for (_, name, was, _), (_, _, now, _) in blocks if was != now]
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    return wrong + [f"{name} is missing" for name in pictures if not (page.parent / name).exists()]


def draw(results: Results) -> list[Path]:
    """Write the pictures that the blocks refer to. Needs matplotlib."""
    written = []
    PICTURED.mkdir(parents=True, exist_ok=True)
    for block, (name, title, picture) in PICTURES.items():
        run = _first(results, block)
        if run:
            written.append(PICTURED / f"{name}.svg")
            written[-1].write_text(svg.alone(picture(run), name, title), encoding="utf-8")
    return written


# -- the blocks


def _first(results: Results, block: str) -> Run | None:
    """The run that a picture is of: the first that has what the block shows."""
    return next((run for run in results.runs if TABLES[block](run).rows), None)


def _tables(block: str) -> Callable[[Results, Path], str]:
    """The block's table of every run that has one, under the device's name where there are several."""

    def made(results: Results, page: Path) -> str:
        parts = []
        first = _first(results, block)
        shown = [(run, table) for run in results.runs if (table := TABLES[block](run)).rows]
        for run, table in shown:
            parts += [_over(run)] if len(results.runs) > 1 else []
            if run is first and block in PICTURES:
                parts.append(_pictured(block, page))
            parts.append(markdown.table(table))
        return "\n\n".join(parts) or PENDING

    return made


def _pictured(block: str, page: Path) -> str:
    name, title, _ = PICTURES[block]
    return f"![{title}]({(PICTURED / name).relative_to(page.parent).as_posix()}.svg)"


def _over(run: Run) -> str:
    """What stands over a table: whose figures these are."""
    said = tables.said_shortly(run)
    return markdown.escaped(f"On {tables.place(run)}{f', {said}' if said else ''}:")


def _fidelity(results: Results, _: Path) -> str:
    table = tables.fidelity(results.fidelity)
    return markdown.table(table) if table.rows else PENDING


def _machine(results: Results, _: Path) -> str:
    """What was measured on, in a sentence for each run; and what not."""
    said = []
    for run in results.runs:
        names = ("python", "numpy", "numba", "torch", "jax", "triton", "driver")
        versions = ", ".join(f"{name} {run.versions[name]}" for name in names if name in run.versions)
        how = f"; {tables.said_of(run)}" if tables.said_of(run) else ""
        said.append(f"Measured on {tables.place(run)}, {run.date}" + (f": {versions}" if versions else "") + f"{how}.")
    if not any(run.on_gpu for run in results.runs):
        said.append("Not yet measured on a GPU.")
    return markdown.escaped(" ".join(said))


def _verdicts(results: Results, page: Path) -> str:
    """What is promised, and how many of all bars hold."""
    judged = [bar for run in results.runs for bar in run.bars if bar.holds is not None]
    if not judged:
        return PENDING
    holding = sum(bool(bar.holds) for bar in judged)
    more = f"With those of single features, {holding} of {len(judged)} bars hold; `make report` shows all."
    return f"{_tables('bars')(results, page)}\n\n{more}"


def _bars_of(run: Run) -> tables.Table:
    """On a CPU what is promised, of many; all of those on a GPU."""
    return tables.bars(run, "" if run.on_gpu else "docs/bars.md: promises").only("what", "measured", "bar", "")


TABLES: dict[str, Callable[[Run], tables.Table]] = {
    "then": tables.then_and_now,
    "post": tables.post,
    "loss": lambda run: tables.loss_of(run, "damped-sine", "single"),
    "peers": tables.peers,
    "bars": _bars_of,
    "ladder": lambda run: tables.ladder(run).only("loop", "a step", "saved", "why"),
}

BLOCKS: dict[str, Callable[[Results, Path], str]] = {
    **{block: _tables(block) for block in TABLES},
    "bars": _verdicts,
    "fidelity": _fidelity,
    "machine": _machine,
}


def main(words: Sequence[str] | None = None) -> int:
    """Write the pages and their pictures, or with `--check` say what differs. The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page differs from the results"
    )
    check = parser.parse_args(words).check
    results = newest(quick=False)
    if not check:
        marked = {page: text for page, text in pages().items() if BLOCK.search(text)}
        for page, text in marked.items():
            page.write_text(filled(text, results, page), encoding="utf-8")
        print("wrote", *[*marked, *draw(results)])
        return 0
    told = [
        f"{page}: {'; '.join(wrong)}" for page, text in pages().items() if (wrong := differing(text, results, page))
    ]
    if told:
        print("\n".join(told), "run `make readme`", sep=": ", file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
