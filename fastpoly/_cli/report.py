"""`fastpoly report`: result files into one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from .._report.page import page
from .._report.results import FOLDER, newest, read
from .write import existing, make_folder, refuse_overwriting, replacing, wrote


def write_report(paths: Sequence[Path], out: Path, console: Console) -> None:
    """Write the page of the result files `paths`, or of the newest in bench/results/, to `out`.

    Raises:
        ValueError: one of them is no result file.
        FileNotFoundError: there is no result file.
    """
    refuse_overwriting(paths, [out])
    results = read(paths) if paths else newest()
    if not results.runs:
        where = "in these files" if paths else f"in {FOLDER}"
        raise FileNotFoundError(
            f"no benchmark results {where}: `make bench-quick` makes some in 2 minutes, `make bench` all"
        )
    try:
        made = page(results)
    except ModuleNotFoundError as error:
        console.print(f"no pictures: {error}", soft_wrap=True, markup=False, highlight=False)
        made = page(results, pictures=False)
    make_folder(out.parent)
    before = existing([out])
    with replacing(out) as new:
        new.write_text(made, encoding="utf-8")
    console.print(wrote([out], before), soft_wrap=True, markup=False, highlight=False)
