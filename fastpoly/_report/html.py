"""HTML as text: every value is escaped where it is put in."""

from __future__ import annotations

from html import escape

from .tables import Cell, Column, Table

BRIEF = 20
"""Letters of a row's name that are kept on one line: names of backends have hyphens."""


def element(name: str, content: str, **attributes: str) -> str:
    """An element around `content`, which is HTML already; `class_` and `for_` stand for the reserved words."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value.strip())}"' for key, value in attributes.items() if value
    )
    return f"<{name}{words}>{content}</{name}>"


def text(name: str, content: str, **attributes: str) -> str:
    """An element around `content`, which is text."""
    return element(name, escape(content), **attributes)


def table(content: Table, caption: str) -> str:
    """A table in a frame that scrolls by itself where the page is narrow.

    One with sentences in it stacks its cells there instead, each number under the title of its column.
    """
    head = "".join(text("th", column.title, scope="col", class_=_class(column)) for column in content.columns)
    rows = "".join(element("tr", _row(content.columns, row)) for row in content.rows)
    body = element("caption", escape(caption)) + element("thead", element("tr", head)) + element("tbody", rows)
    stacks = "stacks" if any(column.wide for column in content.columns) else ""
    whole = element("table", body, class_=stacks)
    return element("div", whole, class_="scroll", role="region", tabindex="0", aria_label=caption)


def _row(columns: tuple[Column, ...], cells: tuple[Cell, ...]) -> str:
    first, *rest = zip(columns, cells, strict=True)
    brief = " brief" if len(first[1].text) <= BRIEF and not first[1].note else ""
    return element("th", _content(first[1]), scope="row", class_=_class(*first) + brief) + "".join(
        element("td", _content(cell), class_=_class(column, cell), data_title=column.title if cell.text else "")
        for column, cell in rest
    )


def _content(cell: Cell) -> str:
    return escape(cell.text) + (text("small", cell.note) if cell.note else "")


def _class(column: Column, cell: Cell | None = None) -> str:
    words = ["number" if column.numeric else "", "wide" if column.wide else "", cell.tone if cell else ""]
    return " ".join(filter(None, words))
