"""A descent whose samples are shared out over processes: the bits of all are the same, and the numbers those of one."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

import ranks  # noqa: E402
import torch.distributed as dist  # noqa: E402

from fastpoly import GroupError, descend  # noqa: E402

WRONG = ("other params", "other steps", "cannot begin")
QUICK = ("sgd", "adam", "until", "callback")


def together(folder, size, *names):
    """What each rank found, of so many processes."""
    file = folder / "ranks"
    command = [sys.executable, "-W", "error", str(Path(ranks.__file__))]
    processes = [
        subprocess.Popen([*command, str(rank), str(size), str(file), *names], stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    told = [process.communicate(timeout=120)[1] for process in processes]
    files = [Path(f"{file}.{rank}") for rank in range(size)]
    assert any(one.exists() for one in files), told
    return [pickle.loads(one.read_bytes()) if one.exists() else None for one in files]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return together(tmp_path_factory.mktemp("quick"), 2, *QUICK, *WRONG)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return together(tmp_path_factory.mktemp("slow"), 2, *(name for name in ranks.CASES if name not in QUICK), "module")


def refuse_other_bits(runs):
    for run in runs[1:]:
        for name in ("a", "b"):
            assert torch.equal(run.params[name], runs[0].params[name])
        assert torch.equal(run.loss, runs[0].loss)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in ranks.CASES]
)
def test_all_have_the_same_bits_and_those_of_one_process_nearly(request, name):
    runs = [found[name] for found in request.getfixturevalue("quick" if name in QUICK else "slow")]
    refuse_other_bits(runs)
    alone = ranks.run(name, (ranks.X, ranks.Y))
    assert [(run.steps, run.ended_by) for run in runs] == [(alone.steps, alone.ended_by)] * 2
    assert runs[0].backend == ("eager" if name == "eager" else "fused")
    assert len(runs[0].loss) == len(alone.loss)
    torch.testing.assert_close(runs[0].loss, alone.loss, rtol=1e-12, atol=1e-12)
    for key in ("a", "b"):
        torch.testing.assert_close(runs[0].params[key], alone.params[key], rtol=1e-12, atol=1e-12)
        if name == "adam":
            torch.testing.assert_close(runs[0].averaged[key], alone.averaged[key], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_a_module(slow):
    run = ranks.run("sgd", (ranks.X, ranks.Y))
    for weight, bias in (found["module"] for found in slow):
        torch.testing.assert_close(weight[0], run.params["b"], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(bias[0], run.params["a"], rtol=1e-12, atol=1e-12)


def test_who_means_another_run_is_told(quick):
    for found in quick:
        for name, argument in zip(WRONG, ("params", "steps"), strict=False):
            kind, text, *_ = found[name]
            assert kind == "ValueError"
            assert text.startswith(f"{argument}: ranks 0 and 1 differ;")
    kind, text, *_ = quick[0]["cannot begin"]
    assert kind == "GroupError"
    assert "rank 1 cannot begin" in text
    assert "missing" in text
    assert quick[1]["cannot begin"][0] == "AttributeError"


@pytest.mark.slow
def test_a_process_without_samples(tmp_path):
    names = ("sgd", "adam", "sum")
    found = together(tmp_path, 3, *names)
    for name in names:
        refuse_other_bits([one[name] for one in found])
        alone = ranks.run(name, (ranks.X, ranks.Y))
        torch.testing.assert_close(found[1][name].params["b"], alone.params["b"], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path):
    (told, seconds), *others = (found and found["killed"] for found in together(tmp_path, 2, "killed"))
    kind, text, params, steps = told
    assert (kind, others, steps) == ("GroupError", [None], 30)
    assert "rank 0 of 2 has lost another" in text
    assert seconds < 20
    alone = descend(ranks.mean, ranks.start(), (ranks.X, ranks.Y), learn_rate=0.1, steps=30)
    torch.testing.assert_close(params["b"], alone.params["b"], rtol=1e-12, atol=1e-12)


# -- arguments, in a group of one
# ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_a_group_of_one(alone):
    run = ranks.run("sgd", (ranks.X, ranks.Y), group=alone)
    other = ranks.run("sgd", (ranks.X, ranks.Y))
    torch.testing.assert_close(run.params, other.params, rtol=1e-12, atol=1e-12)
    assert "1 processes" in run.reason
    assert run.source
    counted = ranks.run("sgd", (ranks.X, ranks.Y), group=alone, count=5)  # who counts alone counts as much as all
    assert torch.equal(counted.params["b"], run.params["b"])


REFUSED = {
    "group: wants a process group": {"group": 1},
    "reduction": {"reduction": "max"},
    "count: wants an integer": {"count": -1},
    "count: wants how many samples .* 1000, 1001": {"data": (ranks.X, ranks.Y[1:])},
    "count: no process": {"count": 0},
    "backend": {"backend": "compile"},
    "save": {"save": "run"},
    "held_out": {"held_out": (ranks.X, ranks.Y), "patience": 3},
    "has_aux": {"has_aux": True},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize(("text", "options"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_meant(alone, text, options):
    options = {"group": alone, "data": (ranks.X, ranks.Y), "learn_rate": 0.1, "steps": 3, **options}
    with pytest.raises((TypeError, ValueError), match=text):
        descend(ranks.mean, ranks.start(), **options)


def test_without_a_group():
    with pytest.raises(ValueError, match="init_process_group"):
        descend(ranks.mean, ranks.start(), (ranks.X, ranks.Y), learn_rate=0.1, steps=3, group=1)


def test_what_cannot_be_fused_runs_eagerly_and_says_so(alone):
    def eigen(w, x, y):
        return ranks.mean(w, x, y) + 0 * torch.linalg.eigvals(w["b"] * torch.eye(2).double()).real.sum()

    with pytest.warns(RuntimeWarning, match="backend='eager', many times slower"):
        run = descend(eigen, ranks.start(), (ranks.X, ranks.Y), learn_rate=0.1, steps=3, group=alone)
    assert run.backend == "eager"
    assert "eig" in run.reason


def test_an_error_of_a_group_has_what_was_done():
    assert (GroupError("text").params, GroupError("text").steps) == (None, 0)
