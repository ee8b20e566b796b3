"""Rows of times, asked for by what they are of."""

from __future__ import annotations

from .rows import Row


class Figures:
    """The figures of some rows; None where there is none."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def timing(self, backend: str, precision: str, model: str = "post", *, group: str = "") -> Row | None:
        """The fastest row of a backend's; "JAX" is of whichever unroll."""
        found = [
            row
            for row in self.rows
            if row.get("kind") == "timing"
            and (row["backend"], row["precision"], row["model"]) == (backend, precision, model)
            and row["group"] in (group, *(() if group else ("post", "peers", "zoo")))
        ]
        return min(found, key=lambda row: row["seconds"], default=None)

    def seconds(self, backend: str, precision: str, model: str = "post") -> float | None:
        """Of all steps."""
        row = self.timing(backend, precision, model)
        return None if row is None else row["seconds"]

    def value(self, kind: str, **where: str) -> float | None:
        """The value of a row that is no time of a run."""
        found = (row for row in self.rows if row.get("kind") == kind and where.items() <= row.items())
        return next((row["value"] for row in found), None)

    def models(self, group: str) -> list[str]:
        """The names of what was timed, in order."""
        return list(dict.fromkeys(row["model"] for row in self.rows if row.get("group") == group))

    @property
    def mhz(self) -> float | None:
        """The clock under load: the highest that was seen."""
        return max((row["mhz"] for row in self.rows if row.get("mhz")), default=None)
