"""The product speaks of itself alone: what a bar or a bound is for stands in a sentence, not in a number of a plan."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPOKEN = re.compile(r"\bDESIGN\b(?!\.)|(?<!numba )\b[Ii]ssues? #?\d|\bshared/[A-Z]")
KINDS = {".py", ".md", ".json", ".toml", ".yml", ".cff", ".ipynb", ".html", ".js", ".css", ""}


def test_nothing_speaks_of_plans_and_issues():
    told = []
    files = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "Makefile", "pyproject.toml", "mkdocs.yml")
    for name in ("fastpoly", "kernels", "tests", "bench", "docs", *files):
        start = ROOT / name
        for path in [start] if start.is_file() else start.rglob("*"):
            if path.suffix in KINDS and path.is_file() and path != Path(__file__):
                told += [f"{path.relative_to(ROOT)}: {line[:100]}" for line in spoken(path.read_text(encoding="utf-8"))]
    assert not told, "\n".join(told)


def spoken(text):
    if not any(word in text for word in ("DESIGN", "ssue", "shared/")):  # results are long, and have none of them
        return []
    return [line for line in text.splitlines() if SPOKEN.search(line)]
