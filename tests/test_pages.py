"""What pages of docs/ show is run as it stands, block after block."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["training.md"])
def test_the_blocks_of_a_page(page):
    pytest.importorskip("scipy")
    text = (PAGES / page).read_text()
    found = {}
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], page, "exec"), found)
    assert found["run"].ended_by in ("until", "patience", "steps")
    assert found["found"].success
    assert found["again"].steps == 3_000
