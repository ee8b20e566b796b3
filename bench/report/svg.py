"""matplotlib's SVG made fit to stand in a page: colours that follow it, and nothing that it does not need.

A picture is drawn in the colours of PALETTE, which stand for variables of the page's style; text stays text, in the
page's font. Ids are kept where something refers to them, under the prefix of the picture: a page has many.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

PALETTE = {
    "ink": "#010203",
    "quiet": "#040506",
    "line": "#070809",
    "accent": "#0a0b0c",
    "short": "#0d0e0f",
    "paper": "#fdfefd",
}
"""Colours that are nobody's, each for a variable of the page's style."""

COLOURS = {  # light, dark: ratios of contrast to the paper of 4.5 and more, but for lines
    "ink": ("#1b2330", "#e8ebf0"),
    "quiet": ("#5a6676", "#9aa6b6"),
    "line": ("#d9dee6", "#343c49"),
    "accent": ("#00705f", "#48cfb5"),
    "short": ("#b3261e", "#ff8f85"),
    "paper": ("#ffffff", "#14181f"),
}

HALO = "svg text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round }"
"""Text stays readable where it crosses a line."""

EDGE = 14
"""Units of paper around a picture that stands alone."""

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def variables(dark: bool) -> str:
    """The palette as declarations of CSS."""
    return " ".join(f"--{name}: {shades[dark]};" for name, shades in COLOURS.items())


def inline(figure: Any, name: str, title: str) -> str:
    """The matplotlib figure as an <svg> element without a namespace, to stand in HTML."""
    return ElementTree.tostring(_cleaned(figure, name, title), encoding="unicode")


def alone(figure: Any, name: str, title: str) -> str:
    """The same as a file, for a page that lends it no style, on paper of its own."""
    root = _cleaned(figure, name, title)
    root.set("xmlns", SVG.strip("{}"))
    style = ElementTree.Element("style")
    style.text = (
        f":root {{ {variables(dark=False)} font-family: system-ui, sans-serif }} {HALO} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(dark=True)} }} }}"
    )
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    frame = {"x": -EDGE, "y": -EDGE, "width": width + 2 * EDGE, "height": height + 2 * EDGE}
    root.set("viewBox", " ".join(f"{value:g}" for value in frame.values()))
    root.set("width", "640")  # pixels, where nobody says how wide
    paper = ElementTree.Element("rect", {key: f"{value:g}" for key, value in frame.items()}, style="fill: var(--paper)")
    root[:0] = [style, paper]
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _cleaned(figure: Any, name: str, title: str) -> ElementTree.Element:
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's font need not have it: the page's is what is shown
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for metadata in root.findall(f"{SVG}metadata"):
        root.remove(metadata)
    used = set(re.findall(r"#([\w-]+)[\")]", file.getvalue()))
    for node in root.iter():
        node.tag = node.tag.removeprefix(SVG)
        _clean(node, name, used)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def _clean(node: ElementTree.Element, name: str, used: set[str]) -> None:
    own = node.attrib.pop("id", None)
    if own in used:
        node.set("id", f"{name}-{own}")
    link = node.attrib.pop(f"{XLINK}href", None)
    if link is not None:
        node.set("href", f"#{name}-{link[1:]}")
    for key, value in node.attrib.items():
        if key == "clip-path":
            node.set(key, value.replace("#", f"#{name}-"))
        elif key == "style":
            node.set(key, _style(value))


def _style(declarations: str) -> str:
    """Sizes and anchors stay, colours become variables, and the font is the page's."""
    for name, colour in PALETTE.items():
        declarations = declarations.replace(colour, f"var(--{name})")
    return re.sub(r"font: (?:(bold|\d+) )?([\d.]+px) [^;]*", _font, declarations)


def _font(found: re.Match[str]) -> str:
    weight, size = found.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")
