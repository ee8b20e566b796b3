"""What pages of docs/ show is run as it stands, block after block."""

import re
from pathlib import Path

import numpy as np
import pytest

from fastpoly import curve_fit

PAGES = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_run(page):
    """The names that the blocks of a page define."""
    text = (PAGES / page).read_text()
    found = {}
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match[1], page, "exec"), found)
    return found


def test_training():
    pytest.importorskip("scipy")
    found = blocks_run("training.md")
    assert found["run"].ended_by in ("until", "patience", "steps")
    assert found["found"].success
    assert found["again"].steps == 3_000


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")
def test_many():
    found = blocks_run("many.md")
    assert found["found"].success.all()
    assert found["early"].is_ended.any()
    for name in ("of_residuals", "of_likelihood", "robust"):
        assert found[name].isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fastpoly.ConvergenceWarning")
def test_beyond():
    pytest.importorskip("dask.array")
    pytest.importorskip("xarray")
    found = blocks_run("beyond.md")
    assert found["run"].converged
    assert np.array_equal(found["popt"], curve_fit(found["decay"], found["t"], found["signals"], bounds=(0, 5))[0])
    assert found["done"].params["b"].shape == (1000,)
    assert found["rate"].shape == (20, 50)
    assert abs(found["rate"].mean().item() - found["popt"][:, 1].mean()) < 1e-6
    assert found["shared"].ended_by == "steps"
