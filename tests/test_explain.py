"""The program after each stage: `fastpoly explain`, and what FASTPOLY_DUMP writes."""

import os
import re
import subprocess
import sys

import pytest
import torch

from fastpoly._fuse.gpu_program import write_for_gpu
from fastpoly._fuse.stages import collected
from fastpoly._fuse.traced import traced

MODULE = """
import torch

params = torch.tensor([0.3, 0.2], dtype=torch.float64)
data = torch.linspace(0, 1, 40, dtype=torch.float64)


def loss(p, x):
    h = torch.zeros((), dtype=x.dtype)
    for t in range(40):
        h = torch.tanh(p[0] * h + p[1] * x[t])
    return (h - 1) ** 2
"""
STAGES = ["traced", "rerolled", "scheduled", "kernel", "python", "llvm", "optimised", "assembly"]


def run(folder, *words, **environment):
    (folder / "mine.py").write_text(MODULE)
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "80", "FASTPOLY_CACHE_DIR": str(folder), **environment}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return run(tmp_path_factory.mktemp("explained"), "-m", "fastpoly", "explain", "mine:loss", "--lines", "0")


def test_every_stage_has_a_page(told):
    assert told.returncode == 0, told.stderr
    assert re.findall(r"^(\w+): [\d,]+ lines", told.stdout, re.MULTILINE) == STAGES


def test_pages_say_what_they_should(told):
    pages = re.split(r"^\w+: [\d,]+ lines.*$", told.stdout, flags=re.MULTILINE)[1:]
    page = dict(zip(STAGES, pages, strict=True))
    assert page["traced"].count("= tanh(") == 40
    assert page["rerolled"].count("= tanh(") < 5
    assert "39 times" in page["rerolled"] or "40 times" in page["rerolled"]
    assert "mine.py:11" in page["rerolled"]  # the caller's line
    assert "iterations backwards" in page["scheduled"]
    assert "for step in" in page["kernel"]
    assert "def kernel(" in page["python"]
    assert "define i64 @" in page["llvm"]
    assert "ret" in page["assembly"]


def test_some_lines_of_one_stage(tmp_path):
    told = run(tmp_path, "-m", "fastpoly", "explain", "mine:loss", "--stage", "rerolled", "--lines", "3")
    assert re.findall(r"^(\w+): [\d,]+ lines", told.stdout, re.MULTILINE) == ["rerolled"]
    assert "lines more; --lines 0 shows all" in told.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine:loss", "--stage", "parsed"], "wants one of traced, rerolled"),
        (["mine:nothing"], "nothing"),
        (["nowhere:loss"], "nowhere"),
        (["mine:loss", "--lines", "-1"], "--lines"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, words, said):
    told = run(tmp_path, "-m", "fastpoly", "explain", *words)
    assert told.returncode != 0
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_program_of_a_gpu_has_its_pages():
    data = torch.linspace(0, 1, 300, dtype=torch.float64)

    def step(carried):
        return [carried[0] - 0.1 * torch.tanh(carried[0] * data).sum()]

    with collected() as stages:
        written = traced(step, [torch.zeros((), dtype=torch.float64)], {}, None, write_for_gpu)[0]
    pages = dict(stages)
    assert [*pages] == ["traced", "rerolled", "scheduled", "kernel", "triton"]
    assert "sum = add of" in pages["kernel"]
    assert pages["triton"] == written.text
    assert "tl.reduce(" in pages["triton"]


def test_every_program_is_written_where_it_is_asked_for(tmp_path):
    code = """
import mine, fastpoly
fastpoly.descend(mine.loss, mine.params, mine.data, learn_rate=0.1, steps=9, backend="fused")
"""
    told = run(tmp_path, "-c", code, FASTPOLY_DUMP=str(tmp_path / "dump"))
    assert told.returncode == 0, told.stderr
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert [re.sub(r"^\d+-001-\d-", "", name) for name in names] == [f"{stage}.txt" for stage in STAGES]
