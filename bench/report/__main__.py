"""`python -m report`, with bench/ on the path: result files into one page that needs nothing but itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .page import page
from .results import FOLDER, newest, read


def main(words: Sequence[str] | None = None) -> int:
    """Write the page. The exit status: 2 if there is nothing to write, or a file is no result file."""
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help=f"default: the newest of each device in {FOLDER}")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    chosen = parser.parse_args(words)
    try:
        made = _made(chosen.results, chosen.out)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(made, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"wrote {chosen.out}")
    return 0


def _made(paths: Sequence[Path], out: Path) -> str:
    if out.resolve() in [path.resolve() for path in paths]:
        raise ValueError(f"--out: {out} is a result file, which this would overwrite")
    results = read(paths) if paths else newest()
    if not results.runs:
        where = "in these files" if paths else f"in {FOLDER}"
        raise ValueError(f"no benchmark results {where}: `make bench-quick` makes some in 2 minutes, `make bench` all")
    try:
        return page(results)
    except ModuleNotFoundError as error:
        print(f"no pictures: {error}")
        return page(results, pictures=False)


if __name__ == "__main__":
    sys.exit(main())
