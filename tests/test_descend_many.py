"""`descend_many`: each problem is `descend`'s, whatever lies beside it."""

import signal

import numpy as np
import pytest
import torch

import fastpoly
from fastpoly import descend, descend_many, optimizers

FEW, LONG = 40, 1500  # samples: problems share registers, or have them each for themselves


def decay(params, x, y):
    return ((y - params["a"] * torch.exp(-params["b"] * x)) ** 2).mean()


def problems(count, n=FEW, dtype=torch.float64):
    """(starts, x, y) of decays."""
    draws = torch.Generator().manual_seed(count)
    x = torch.linspace(0, 3, n, dtype=dtype)
    rates = 0.3 + torch.rand((count, 1), generator=draws, dtype=dtype)
    y = 2 * torch.exp(-rates * x) + 0.1 * torch.randn((count, n), generator=draws, dtype=dtype)
    return {"a": torch.ones((), dtype=dtype), "b": torch.linspace(0.2, 1.2, count, dtype=dtype)}, x, y


OWN_START = {"a": None, "b": 0}


@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam", optimizers.Lion()], ids=str)
def test_every_problem_is_descends(rule):
    params, x, y = problems(11)
    options = dict(learn_rate=0.01, steps=60, optimizer=rule, trace_every=7)
    many = descend_many(decay, params, (x, y), in_dims=(OWN_START, None, 0), **options)
    assert many.backend == "fused"
    for k in (0, 4, 10):
        one = descend(decay, {"a": params["a"], "b": params["b"][k]}, (x, y[k]), **options, backend="fused")
        for name in "ab":
            torch.testing.assert_close(many.params[name][k], one.params[name], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(many.loss[k], one.loss, rtol=1e-10, atol=1e-12)
        assert many.steps[k] == one.steps == 60


@pytest.mark.parametrize("n", [FEW, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_problem_has_the_same_bits_in_every_batch_and_with_any_threads(n, dtype, monkeypatch):
    params, x, y = problems(21, n, dtype)

    def run(which):
        some = {"a": params["a"], "b": params["b"][which]}
        found = descend_many(decay, some, (x, y[which]), in_dims=(OWN_START, None, 0), learn_rate=0.02, steps=40)
        return torch.stack([found.params["a"], found.params["b"]], 1)

    whole = run(slice(None))
    alone = torch.cat([run(slice(k, k + 1)) for k in (0, 8, 20)])
    assert torch.equal(whole[[0, 8, 20]], alone)
    assert torch.equal(whole[5:18], run(slice(5, 18)))
    monkeypatch.setattr("fastpoly._fuse.many.processors", lambda: 1)
    assert torch.equal(whole, run(slice(None)))


def test_a_problem_that_diverges_or_is_nan_leaves_the_others_alone():
    params, x, y = problems(19)
    options = dict(in_dims=(OWN_START, None, 0), learn_rate=0.05, steps=50, trace_every=1)
    well = descend_many(decay, params, (x, y), **options)
    spoilt = y.clone()
    spoilt[3, 7], spoilt[12] = torch.nan, 1e200
    with pytest.warns(fastpoly.DivergenceWarning, match=r"2 of 19 problems diverged, first problem 3 at step 0"):
        found = descend_many(decay, params, (x, spoilt), **options)
    others = [k for k in range(19) if k not in (3, 12)]
    assert torch.equal(found.params["b"][others], well.params["b"][others])
    assert torch.equal(found.loss[others], well.loss[others])
    assert found.diverged_at.tolist() == [{3: 0, 12: 0}.get(k, -1) for k in range(19)]
    assert found.loss[[3, 12]].isnan().all()
    assert found.steps.tolist() == [0 if k in (3, 12) else 50 for k in range(19)]
    assert "2 diverged" in repr(found)


def test_each_problem_ends_by_itself():
    params, x, y = problems(10)
    y = y - 0.1 * torch.arange(10)[:, None] * 0.01

    def near(_, loss):
        return loss < 0.02

    options = dict(learn_rate=0.1, steps=400, trace_every=1)
    many = descend_many(decay, params, (x, y), in_dims=(OWN_START, None, 0), until=near, **options)
    for k in range(10):
        one = descend(decay, {"a": params["a"], "b": params["b"][k]}, (x, y[k]), until=near, backend="fused", **options)
        assert many.steps[k] == one.steps
        assert bool(many.is_ended[k]) == (one.ended_by == "until")
        kept = many.loss[k][~many.loss[k].isnan()]
        torch.testing.assert_close(kept, one.loss, rtol=1e-10, atol=1e-12)
    assert len(set(many.steps.tolist())) > 1


def test_starts_of_their_own_on_the_same_data():
    draws = torch.Generator().manual_seed(1)
    starts = torch.rand((9, 2), generator=draws, dtype=torch.float64)

    def bowl(w, target):
        return ((w - target) ** 2).sum() + (w.prod() - 1) ** 2

    target = torch.tensor([0.5, 2.0], dtype=torch.float64)
    rates = torch.linspace(0.01, 0.1, 9)
    many = descend_many(bowl, starts, (target,), in_dims=(0, None), learn_rate=rates, steps=30, clip_norm=1.0)
    for k in (0, 8):
        one = descend(bowl, starts[k], (target,), learn_rate=rates[k].item(), steps=30, clip_norm=1.0, backend="fused")
        torch.testing.assert_close(many.params[k], one.params, rtol=1e-10, atol=0)


def test_problems_along_another_axis_and_projected():
    _, x, y = problems(7)

    def loss(w, x, y):
        return ((y - w[0] - w[1] * x) ** 2).mean()

    options = dict(learn_rate=0.05, steps=25, project=lambda w: w.clamp(max=0.5))
    start = torch.zeros(2, dtype=torch.float64)
    rows = descend_many(loss, start, (x, y), in_dims=(None, None, 0), **options)
    columns = descend_many(loss, start, (x, y.T.contiguous()), in_dims=(None, None, 1), **options)
    assert torch.equal(rows.params, columns.params)
    assert rows.params.max() == 0.5


def looked_up(w, place):
    table = torch.linspace(0, 1, 50, dtype=torch.float64)
    return ((w * table.gather(0, place.clamp(0, 49)) - 1) ** 2).sum()


def indexed(w, place):
    table = torch.linspace(0, 1, 50, dtype=torch.float64)
    return ((w * table[place.clamp(0, 49)] - 1) ** 2).sum()


@pytest.mark.parametrize("loss", [looked_up, indexed])
def test_places_of_their_own_are_looked_up_problem_by_problem(loss):
    """Lanes would read from different places: the kernel takes one problem at a time."""
    places = torch.arange(4)[:, None] * 7 + 3
    start = torch.ones((), dtype=torch.float64)
    many = descend_many(loss, start, (places,), in_dims=(None, 0), learn_rate=0.1, steps=20)
    assert many.backend == "fused"
    for k, place in enumerate(places):
        one = descend(loss, start, (place,), learn_rate=0.1, steps=20, backend="eager")
        torch.testing.assert_close(many.params[k], one.params, rtol=1e-10, atol=0)


def test_the_whole_of_what_cannot_be_fused_runs_in_torch_after_one_warning():
    def loss(w, a):
        return (w * float(torch.linalg.eigvals(a.reshape(2, 2)).abs().max()) - 1) ** 2

    a = torch.rand((3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.ones((), dtype=torch.float64)
    options = dict(learn_rate=0.1, steps=5)
    with pytest.warns(RuntimeWarning, match="one problem after the other"):
        many = descend_many(loss, start, (a,), in_dims=(None, 0), **options)
    eager = descend_many(loss, start, (a,), in_dims=(None, 0), backend="eager", **options)
    torch.testing.assert_close(many.params, eager.params, rtol=1e-12, atol=0)
    with pytest.raises(fastpoly.UnsupportedOperationError):
        descend_many(loss, start, (a,), in_dims=(None, 0), backend="fused", **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(in_dims=(None, None)), "one for each of params, data"),
        (dict(in_dims=(None, None, None)), "no argument has an axis of problems"),
        (dict(in_dims=(OWN_START, 0, 0)), "different numbers of problems: 5 in params, 40 in data"),
        (dict(in_dims=(OWN_START, None, 3)), "without an axis 3"),
        (dict(in_dims=({"a": 0}, None, 0)), "a structure like the argument's"),
        (dict(learn_rate=torch.ones(4)), "one for each of 5 problems, got 4"),
        (dict(learn_rate=0), "learn_rate"),
        (dict(backend="numba"), "backend: wants one of auto"),
        (dict(steps=-1), "steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_named(change, message):
    params, x, y = problems(5)
    options = {"in_dims": (OWN_START, None, 0), "learn_rate": 0.1, "steps": 3, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        descend_many(decay, params, (x, y), **options)


def test_an_optimizer_that_is_not_taken_is_named():
    params, x, y = problems(5)
    with pytest.raises(TypeError, match="optimizer: descend_many takes sgd"):
        descend_many(decay, params, (x, y), in_dims=(OWN_START, None, 0), learn_rate=0.1, steps=3, optimizer="rmsprop")


def test_progress_counts_problems():
    params, x, y = problems(33)
    seen = []
    descend_many(
        decay,
        params,
        (x, y),
        in_dims=(OWN_START, None, 0),
        learn_rate=0.1,
        steps=3,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert seen[-1] == (33, 33)
    assert np.diff([done for done, _ in seen]).min(initial=0) >= 0


def test_many_steps_are_counted_in_single_precision():
    """A float of 32 bits counts to 2**24."""
    steps = 2**24 + 7
    many = descend_many(
        lambda w, a: (w * a).sum(),
        torch.zeros(1),
        (torch.ones(2, 1),),
        in_dims=(None, 0),
        learn_rate=1e-9,
        steps=steps,
    )
    assert many.steps.tolist() == [steps, steps]


def test_ctrl_c_keeps_the_problems_that_were_done():
    params, x, y = problems(4000)
    options = dict(in_dims=(OWN_START, None, 0), learn_rate=0.05, trace_every=1000)
    seen = []

    def press(done, of):
        seen.append(done)
        if 0 < done < of and seen.count(-1) == 0:
            seen.append(-1)
            signal.raise_signal(signal.SIGINT)

    whole = descend_many(decay, params, (x, y), steps=4000, **options)
    with pytest.raises(fastpoly.Interrupted, match=r"of 4,000 problems") as stopped:
        descend_many(decay, params, (x, y), steps=4000, progress=press, **options)
    part = stopped.value.partial
    assert 0 < len(part) < 4000
    assert torch.equal(part.params["b"], whole.params["b"][: len(part)])
    assert torch.equal(part.loss, whole.loss[: len(part)])


def test_what_a_loss_draws_or_writes_beside_is_refused_by_name():
    _, x, y = problems(3)
    kept = torch.zeros(())

    def draws(w, x, y):
        return ((y - w * torch.nn.functional.dropout(x)) ** 2).mean()

    def writes(w, x, y):
        kept.add_(1)
        return ((y - w * x) ** 2).mean()

    start = torch.ones((), dtype=torch.float64)
    for loss, message in ((draws, "draws random numbers"), (writes, "writes to a tensor from outside the loss")):
        with pytest.raises(fastpoly.UnsupportedOperationError, match=message):
            descend_many(loss, start, (x, y), in_dims=(None, None, 0), learn_rate=0.1, steps=3, backend="fused")
