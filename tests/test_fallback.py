"""Whatever breaks in the fuser or in a compiler, auto runs the loss, says so once, and how to make that an error."""

import importlib

import pytest
import torch

from fastpoly import descend

X = torch.linspace(-1, 1, 50, dtype=torch.float64)

STAGES = [
    ("fastpoly._fuse.traced", "trace"),
    ("fastpoly._fuse.traced", "ranges"),
    ("fastpoly._fuse.program", "Schedule"),
    ("fastpoly._fuse.program", "write"),
    ("fastpoly._fuse.program", "chain"),
    ("fastpoly._fuse.program", "compiled"),
    ("fastpoly._fuse.program.Run", "advance"),
    ("fastpoly._fuse.program.Run", "carried"),
    ("fastpoly._loops.fused", "FusedLoop"),
    ("fastpoly._choice.begin", "recall"),
    ("fastpoly._choice.costs", "fused"),
    ("fastpoly._choice.begin", "choose"),
]


def losses(k):
    """A loss that no other test has: texts of kernels are remembered."""
    return lambda p, x: ((p[0] * x + p[1] * (k + 2) - x.sin()) ** 2).mean()


@pytest.fixture(autouse=True)
def nothing_but_the_fused_loop_pays(monkeypatch):
    """So that auto wants it for few steps, too."""
    costs = importlib.import_module("fastpoly._choice.costs")
    monkeypatch.setattr(costs, "eager", lambda *_: costs.Cost(1e3, 1.0))
    monkeypatch.setattr(costs, "compiled", lambda *_: costs.Cost(1e4, 1.0))


def broken(*_, **__):
    raise RuntimeError("injected")


def of(path):
    """A module, or a class in it."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("path", "name"), STAGES, ids=lambda part: part.rsplit(".", 1)[-1])
def test_a_stage_that_breaks(monkeypatch, path, name):
    loss, start = losses(STAGES.index((path, name))), torch.ones(2, dtype=torch.float64)
    expected = descend(loss, start, X, learn_rate=1e-3, steps=50, backend="eager")
    monkeypatch.setattr(of(path), name, broken)
    with pytest.warns(RuntimeWarning, match=r"RuntimeError.*: injected.*simplefilter"):
        run = descend(loss, start, X, learn_rate=1e-3, steps=50)
    assert run.loss.tolist() == pytest.approx(expected.loss.tolist(), rel=1e-9)


def test_it_is_said_once_for_each_loss(monkeypatch, recwarn):
    monkeypatch.setattr(of("fastpoly._fuse.program"), "compiled", broken)
    loss, start = losses(100), torch.ones(2, dtype=torch.float64)
    for _ in range(3):
        descend(loss, start, X, learn_rate=1e-3, steps=50)
    assert len([told for told in recwarn if "injected" in str(told.message)]) == 1
    descend(lambda p, x: ((p[0] * x - p[1]) ** 2).sum() * 1.5, start, X, learn_rate=0.001, steps=2000)
    assert len([told for told in recwarn if "injected" in str(told.message)]) == 2


def test_the_callers_own_mistake_is_told_in_torchs_words():
    with pytest.raises(RuntimeError, match="size of tensor a"):
        descend(lambda p, x: ((p * x) ** 2).sum(), torch.ones(3), torch.ones(4), learn_rate=1e-3, steps=50)
    with pytest.raises(ZeroDivisionError):
        descend(lambda p: p.sum() / 0 * (1 // 0), torch.ones(3), learn_rate=1e-3, steps=50)


def test_a_progress_that_raises_is_not_taken_for_a_broken_backend():
    def progress(done, of):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        descend(losses(101), torch.ones(2, dtype=torch.float64), X, learn_rate=1e-3, steps=50, progress=progress)


def test_short_floats():
    """What the fuser does not take, and eager torch does."""
    with pytest.warns(RuntimeWarning, match="running with backend"):
        run = descend(lambda p: (p * p).sum(), torch.ones(3, dtype=torch.bfloat16), learn_rate=0.1, steps=3)
    assert run.loss.dtype == torch.bfloat16


def test_a_loss_that_changes_runs_as_torch_has_it():
    calls = []

    def loss(p):
        calls.append(1)
        return (p * p).sum() * len(calls)

    with pytest.warns(RuntimeWarning, match="does something else when it is called again"):
        run = descend(loss, torch.ones(2, dtype=torch.float64), learn_rate=0.001, steps=5000)
    assert run.backend in ("eager", "compile")
