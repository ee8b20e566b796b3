"""The report: one HTML page that needs nothing but itself.

Requirements: it opens from a file and asks no network for anything; it is read on a phone, on paper and in the dark;
what was not measured is said, never left out in silence; whatever stands in a result file is text, never markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fastpoly._post import PUBLISHED_SECONDS, STEPS

from . import svg, tables
from .opening import cards, checked
from .results import Results
from .sections import Part, sections


def page(results: Results, *, pictures: bool = True) -> str:
    """The whole document. Without `pictures` it has tables alone, and matplotlib is not needed.

    Raises:
        ModuleNotFoundError: there is something to draw, and matplotlib is missing.
    """

    def drawn(part: Part, name: str) -> Markup:
        wanted = pictures and part.picture
        return Markup(svg.inline(part.picture(), name, part.title) if wanted else "")

    # every value is escaped where it is put in, but for what is Markup
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        results=results,
        sections=sections(results),
        cards=cards(results),
        checked=checked(results),
        autograd=PUBLISHED_SECONDS["torch-autograd"] / PUBLISHED_SECONDS["torch"],
        steps=STEPS,
        drawn=drawn,
        place=tables.place,
        said=tables.said_shortly,
        light=_css(svg.variables(dark=False)),
        dark=_css(svg.variables(dark=True)),
        halo=_css(svg.HALO),
    )


def _css(style: Any) -> Markup:
    return Markup(style)
