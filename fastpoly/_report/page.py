"""The report: one HTML page that needs nothing but itself.

Requirements: it opens from a file and asks no network for anything; it is read on a phone, on paper and in the dark;
what was not measured is said, never left out in silence; whatever stands in a result file is text, never markup.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from .html import element, text
from .opening import opening
from .results import Results
from .sections import sections
from .svg import HALO, inline, variables

TITLE = "fastpoly: a training loop of 2017, then and now"


def page(results: Results, *, pictures: bool = True) -> str:
    """The whole document. Without `pictures` it has tables alone, and matplotlib is not needed.

    Raises:
        ModuleNotFoundError: there is something to draw, and matplotlib is missing.
    """
    shown = sections(results, _draw if pictures else _leave_out)
    links = " ".join(text("a", title, href=f"#{name}") for name, title, _ in shown)
    body = "\n".join(element("section", text("h2", title) + content, id=name) for name, title, content in shown)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>{_head()}</head>\n<body>\n'
        f"{element('header', opening(results) + element('nav', links, aria_label='Sections'))}\n"
        f"{element('main', body)}\n{element('footer', _footer(results))}\n</body>\n</html>\n"
    )


def _head() -> str:
    style = (
        f":root {{ color-scheme: light dark; {variables(dark=False)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(dark=True)} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light; {variables(dark=False)} }} }}\n"  # paper is white
    )
    style += HALO + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">' + text("title", TITLE) + element("style", style)  # or browsers ask for one
    )


def _footer(results: Results) -> str:
    names = ", ".join(run.path.name for run in results.runs)
    return text(
        "p",
        f"Made by fastpoly report{f' from {names}' if names else ''}. The post: “Comparing Numpy, Pytorch, and "
        "autograd on CPU and GPU”, October 2017.",
    )


def _draw(name: str, title: str, picture: Callable[[], Any]) -> str:
    return inline(picture(), name, title)


def _leave_out(name: str, title: str, picture: Callable[[], Any]) -> str:  # noqa: ARG001
    return ""
