"""What `make docs` makes of the pages: some that lie elsewhere or nowhere, and links that lead out of the site.

Requirements: pages are read on the disk and in the site, so that links are those of the tree; what the site lacks (a
test, a source file) is named there without a link, and a link to nothing stays one, which the strict build refuses.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)(#[^)]*)?\)")
PICTURE = re.compile(r"(!\[[^\]]*\]\()docs/")


def on_files(files: Any, config: Any) -> Any:
    """The pages of the root, and the API's."""
    for name, page in FROM_ROOT.items():
        text = PICTURE.sub(r"\1", (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=_relinked(text, ROOT)))
    files.append(File.generated(config, "api.md", content=api()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/, and what the cells of the post printed and drew."""
    if page.file.generated_by:
        return markdown
    if page.file.src_uri == "post.md":
        markdown = with_outputs(markdown, json.loads((ROOT / "docs/post.ipynb").read_text(encoding="utf-8")))
    return _relinked(markdown, ROOT / "docs")


def _relinked(text: str, folder: Path) -> str:
    """The `text` of a page in `folder`, with links as the site has them."""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups()
        path = (folder / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return found[0]
        place = path.relative_to(ROOT).as_posix()
        if place in FROM_ROOT or place.startswith("docs/"):
            return f"[{words}]({FROM_ROOT.get(place, place.removeprefix('docs/'))}{anchor or ''})"
        return words

    return LINK.sub(link, text)


def api() -> str:
    """The page of every public name, in the order of `fastpoly.__all__`: functions, classes, modules."""
    tree = ast.parse((ROOT / "fastpoly/__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(line.value)
        for line in tree.body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and line.targets[0].id == "__all__"
    )
    files = {path.stem for path in (ROOT / "fastpoly").iterdir()}
    modules = [name for name in names if name in files]
    classes = [name for name in names if name[0].isupper()]
    functions = [name for name in names if name not in classes and name not in modules]
    parts = ["# API", "Every public name, with its docstring."]
    for title, those in (("Functions", functions), ("Classes, errors and warnings", classes)):
        parts += [f"## {title}", *(f"::: fastpoly.{name}" for name in those)]
    parts += ["## Modules", *(f"::: fastpoly.{name}" for name in [*modules, "sklearn"])]
    return "\n\n".join(parts) + "\n"


def with_outputs(page: str, notebook: dict[str, Any]) -> str:
    """The page with what each cell of the executed notebook printed and drew below its block."""
    shown = iter([_outputs(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"])
    return re.sub(r"^```python\n.*?^```\n", lambda block: block[0] + next(shown), page, flags=re.MULTILINE | re.DOTALL)


def _outputs(cell: dict[str, Any]) -> str:
    made = ""
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            png = "".join(data["image/png"]).strip()
            made += f"\n![What the cell above draws](data:image/png;base64,{png})\n"
        elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            made += f"\n```output\n{text}\n```\n"
    return made
