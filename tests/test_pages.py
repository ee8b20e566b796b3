"""What README.md and the pages of docs/ show is run as it stands, block after block; of the post, fewer steps."""

import json
import re
import runpy
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from fastpoly import curve_fit
from fastpoly._post import PUBLISHED_SECONDS

PAGES = Path(__file__).parent.parent / "docs"
README = "../README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```pytb\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
"""A block, and the message that it must end with, if a block of pytb is below it. One of py is an excerpt, not run."""

LOOKED_AT = {"autograd.md", "beyond.md", "faq.md", "loops.md", "many.md", "post.md", "training.md"}
"""Pages with a test of their own below; all others are only run."""

NOTEBOOK = runpy.run_path(str(PAGES / "notebook.py"))
POST = (PAGES / "post.md").read_text(encoding="utf-8")


def blocks_run(page, but="no block has this", **replaced):
    """The names that the blocks of a page define, but for blocks with the words `but`; `replaced` are texts in it."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = {}
    for match in BLOCK.finditer(text):
        code, message = match.groups()
        if but in code:
            continue
        for old, new in replaced.items():
            code = code.replace(old, new)
        code = compile("\n" * text[: match.start(1)].count("\n") + code, str(PAGES / page), "exec")
        if message is None:
            exec(code, found)
        else:
            assert matches(message, raised(code, found)), message
    return found


def raised(code, found):
    """What a block raises or warns of, as "Class: message"."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exec(code, found)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return f"{warned[0].category.__name__}: {warned[0].message}" if warned else ""


def matches(message, told):
    """Is it the message, wherever its lines break? "…" stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in message.split("…")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), " ".join(told.split())) is not None


def test_a_message_is_compared():
    assert matches("ValueError: x is\n… wrong", "ValueError: x is 3 wrong")
    assert not matches("ValueError: x is\n… wrong", "ValueError: x was 3 wrong")
    assert not matches("ValueError: x", "ValueError: x; and more")


@pytest.mark.parametrize("page", sorted({page.name for page in PAGES.glob("*.md")} - LOOKED_AT))
def test_blocks_run(page):
    blocks_run(page)


def test_readme():
    found = blocks_run(README, but="loss_profile")
    assert found["result"]["w"].shape == (5, 1)
    assert found["run"].diverged_at is None
    assert found["popt"].shape == (1_000, 4)
    assert len((PAGES / README).read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, "autograd.md"])
def test_profiles(page):
    found = blocks_run(page)["found"]
    assert found.gain > 1


def test_training():
    pytest.importorskip("scipy")
    found = blocks_run("training.md")
    assert found["run"].ended_by in ("until", "patience", "steps")
    assert found["found"].success
    assert found["again"].steps == 3_000


def test_loops():
    found = blocks_run("loops.md")
    assert found["run"].steps == 20
    for (value, _), want in ((found["same"], found["value"]), (found["branched"], (found["start"] ** 2).sum())):
        assert value.item() == pytest.approx(want.item(), rel=1e-9)
    assert found["same"][1].tolist() == pytest.approx(found["p"].grad.tolist(), rel=1e-9)


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


def test_faq():
    assert blocks_run("faq.md")["calls"]


# -- the post, as a page and as a notebook


def test_the_post_with_few_steps(monkeypatch):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)  # other tests have theirs
    with matplotlib.rc_context():
        found = blocks_run("post.md", **{"steps = 200_000": "steps = 300"})
    assert found["steps"] == 300
    assert found["published"] == {name: PUBLISHED_SECONDS[name] for name in found["published"]}
    assert abs(found["exact"].weights - found["run"].params.ravel().numpy()).max() < 1e-12


def cells(content):
    return [(cell["cell_type"], "".join(cell["source"])) for cell in content["cells"]]


def test_the_notebook_is_the_page():
    page = NOTEBOOK["notebook"](POST)
    kept = json.loads((PAGES / "post.ipynb").read_text(encoding="utf-8"))
    assert cells(kept) == cells(page), "post.ipynb is of another docs/post.md: run `make notebook`"
    assert all(cell["execution_count"] for cell in kept["cells"] if cell["cell_type"] == "code")


@pytest.mark.slow
def test_the_notebook_runs():
    pytest.importorskip("nbclient")
    made = NOTEBOOK["executed"](NOTEBOOK["notebook"](POST))
    printed = "".join(output.get("text", "") for cell in made.cells for output in cell.get("outputs", []))
    assert "error 0.00790979, weights [ 0.31165126" in printed
