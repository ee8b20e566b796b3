"""docs/post.ipynb from docs/post.md: its blocks are the cells, run from top to bottom. `make notebook` calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("post.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")
BLOCK = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def notebook(page: str) -> dict[str, Any]:
    """The page as a notebook that was not run yet: text and cells in turn."""
    cells = []
    for number, part in enumerate(BLOCK.split(page)):
        if not part.strip():
            continue
        kind = {"cell_type": "markdown"}
        if number % 2:
            kind = {"cell_type": "code", "execution_count": None, "outputs": []}
        cells.append({**kind, "id": f"part-{number}", "metadata": {}, "source": part.strip()})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def executed(content: dict[str, Any], seconds: float = 300) -> Any:
    """The notebook after its cells have run, each within so many seconds. Raises what a cell raises."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.from_dict(content)
    client = NotebookClient(made, timeout=seconds, coalesce_streams=True, record_timing=False)
    return client.execute()


def main() -> None:
    """Write the notebook, executed."""
    made = executed(notebook(PAGE.read_text(encoding="utf-8")))
    made["metadata"].pop("language_info", None)  # it differs between machines, and says nothing
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("wrote", NOTEBOOK.name)


if __name__ == "__main__":
    main()
