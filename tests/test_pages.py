"""What pages of docs/ show is run as it stands, block after block."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def of_training(found):
    assert found["run"].ended_by in ("until", "patience", "steps")
    assert found["found"].success
    assert found["again"].steps == 3_000


def of_loops(found):
    assert found["run"].steps == 20
    for (value, _), want in ((found["same"], found["value"]), (found["branched"], (found["start"] ** 2).sum())):
        assert value.item() == pytest.approx(want.item(), rel=1e-9)
    assert found["same"][1].tolist() == pytest.approx(found["p"].grad.tolist(), rel=1e-9)


def of_many(found):
    assert found["found"].success.all()
    assert found["early"].is_ended.any()
    for name in ("of_residuals", "of_likelihood", "robust"):
        assert found[name].isfinite().all()


@pytest.mark.filterwarnings("ignore:Covariance of the parameters could not be estimated")
@pytest.mark.filterwarnings("ignore:.* curves were not fitted")
@pytest.mark.parametrize(
    ("page", "holds"), [("training.md", of_training), ("loops.md", of_loops), ("many.md", of_many)]
)
def test_the_blocks_of_a_page(page, holds):
    pytest.importorskip("scipy")
    text = (PAGES / page).read_text()
    found = {}
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], page, "exec"), found)
    holds(found)
