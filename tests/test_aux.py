"""What a loss returns beside its number."""

import pytest
import torch

from fastpoly import descend

D = torch.float64
X = torch.linspace(-1, 1, 7, dtype=D)
START = torch.tensor([0.5, -0.3], dtype=D)
KEPT = torch.zeros((), dtype=D)


def loss(w, x):
    line = w[0] + w[1] * x
    KEPT.add_(line.detach().mean())
    parts = {"line": line, "largest": (line.argmax(), line.outer(w).argmin(1)), "kept": KEPT, "x": x}
    return (line - x.sin()).square().mean(), parts


def by_hand(steps):
    w, kept = START.clone(), []
    KEPT.zero_()
    for _ in range(steps):
        w.requires_grad_()
        value, parts = loss(w, X)
        kept.append([part.detach().clone() for part in (parts["line"], *parts["largest"], parts["kept"], parts["x"])])
        (grad,) = torch.autograd.grad(value, w)
        w = (w - 0.3 * grad).detach()
    return w, [torch.stack(column) for column in zip(*kept, strict=True)]


@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_it_is_kept_as_losses_are(backend, every):
    w, columns = by_hand(8)
    KEPT.zero_()
    run = descend(loss, START, X, learn_rate=0.3, steps=8, backend=backend, has_aux=True, trace_every=every)
    torch.testing.assert_close(run.params, w, rtol=1e-12, atol=1e-14)
    got, last = ([aux["line"], *aux["largest"], aux["kept"], aux["x"]] for aux in (run.aux, run.last_aux))
    for one, end, column in zip(got, last, columns, strict=True):
        torch.testing.assert_close(one, column[:0] if every is None else column[::every], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(end, column[-1], rtol=1e-12, atol=1e-14)


def test_with_all_that_a_descent_does_beside(tmp_path):
    def pair(w, x):
        return (w[0] * x - x.sin()).square().sum() + w[1] ** 2, (w * 2,)

    options = {"learn_rate": 0.1, "backend": "fused", "has_aux": True, "held_out": X[:3], "patience": 50}
    options |= {"until": lambda w, value: value < 1e-9, "average": "mean", "optimizer": "adam"}
    run = descend(pair, START, X, steps=9, save=tmp_path / "run.pt", **options)
    more = descend(pair, START, X, steps=12, save=tmp_path / "run.pt", **options)
    assert more.aux[0].shape == (12, 2)
    assert torch.equal(more.aux[0][:9], run.aux[0])
    torch.testing.assert_close(more.aux[0][0], 2 * START)
    assert torch.equal(more.last_aux[0], more.aux[0][-1])
    assert len(more.held_out) == 12


def test_no_step_has_no_aux():
    run = descend(lambda w: (w.sum() ** 2, w), START, learn_rate=0.1, steps=0, has_aux=True)
    assert run.last_aux is None
    assert run.aux.shape == (0, 2)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda w: w.sum(), r"wants to return \(number, aux\) with has_aux=True"),
        (lambda w: (w.sum(), 3.0), r"its aux: wants tensors"),
        (lambda w: (w.sum(), w * 1j), r"its aux: wants real numbers"),
    ],
    ids=["no pair", "a float", "complex"],
)
def test_what_is_no_aux_is_refused(returned, message):
    with pytest.raises(TypeError, match=message):
        descend(returned, START, learn_rate=0.1, steps=2, has_aux=True)
    with pytest.raises(TypeError, match=r"has_aux: "):
        descend(returned, START, learn_rate=0.1, steps=2, has_aux="yes")


def test_a_pair_without_has_aux_is_told_of_it():
    with pytest.raises(TypeError, match="has_aux=True"):
        descend(lambda w: (w.sum(), w), START, learn_rate=0.1, steps=2)
