"""What is read at places that the data name: a register at a time where the places lie in a row."""

import interpreted_cpu
import pytest
import torch
from operation_cases import numbers, off, values_and_gradients

from fastpoly import descend, descend_many
from fastpoly._fuse.program import write_for_cpu
from fastpoly._fuse.traced import traced

ROWS = 23
SIZES = [3, 16, 37, 200]


def places(*shape, below=ROWS):
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(7))


def lookups(size, dtype=torch.float64):
    """Cases of a tensor (ROWS, 3)."""
    at, other = places(size), places(size, 3)
    uneven = numbers(size, 3, seed=3).to(dtype)
    return {
        "rows": lambda a: a[at],
        "a column": lambda a: a[at, 1] * uneven[:, 0],
        "of a column": lambda a: a[:, 2].exp()[at].sin(),
        "from the end": lambda a: a[at - ROWS, 0],
        "of both signs": lambda a: a[torch.where(at % 2 == 0, at - ROWS, at), 0],
        "a part of the places": lambda a: a[at[1:], 0] * a[at[:-1], 1],
        "backwards": lambda a: a[at.flip(0), 0] * uneven[:, 1],
        "every second": lambda a: a[at[::2], 0],
        "two of them": lambda a: (a[at, 0] - a[other[:, 1], 0]).square(),
        "a table of places": lambda a: a[:, 1][other] * uneven,
        "its columns": lambda a: a[:, 1][other.T] * uneven.T,
        "gather": lambda a: a.gather(0, other),
        "gather along the other": lambda a: a.T.gather(1, other.T),
        "sums": lambda a: a[:, 0][other].sum(1).exp() + a[:, 0][other].sum(),
        "of what is summed": lambda a: torch.zeros(ROWS, dtype=a.dtype).index_add(0, at, a[at, 0].exp()),
        "the same for all": lambda a: a[:1].expand(ROWS, 3)[at],
    }


@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size):
    assert off(values_and_gradients(lookups(size)), numbers(ROWS, 3)) == {}


@pytest.mark.parametrize("size", SIZES)
def test_single_precision(size):
    assert off(values_and_gradients(lookups(size, torch.float32)), numbers(ROWS, 3).float()) == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nothing_is_read_outside_of_a_tensor(monkeypatch, dtype):
    """Also in the lanes that a register has too many."""
    interpreted_cpu.install(monkeypatch)
    for size in SIZES:
        for name, case in lookups(size, dtype).items():
            loss = lambda a, case=case: (case(a) ** 2).mean()  # noqa: E731
            start = 0.1 * numbers(ROWS, 3, dtype=dtype)
            runs = [descend(loss, start, learn_rate=1e-2, steps=3, backend=way) for way in ("eager", "fused")]
            bound = 1e-12 if dtype == torch.float64 else 1e-5
            assert torch.allclose(runs[0].loss, runs[1].loss, rtol=bound), name


@pytest.mark.parametrize("size", [37, 200])
def test_registers_are_filled(size):
    at = places(size)
    written = traced(lambda p: [p[0] + p[0][at].exp().sum()], [numbers(ROWS)], {}, None, write_for_cpu)[0]
    assert "whole(" in written.text
    assert "int(" not in written.text


@pytest.mark.parametrize("size", [3, 37, 200])
def test_many_problems(size):
    """Each in a lane, or with samples in the lanes."""
    cases = lookups(size)
    loss = lambda a: sum((case(a) ** 2).mean() for case in cases.values())  # noqa: E731
    starts = numbers(4, ROWS, 3)
    many = descend_many(loss, starts, (), in_dims=(0,), learn_rate=1e-4, steps=4)
    for start, found in zip(starts, many.params, strict=True):
        want = descend(loss, start, learn_rate=1e-4, steps=4, backend="eager")
        assert torch.allclose(found, want.params, rtol=1e-10, atol=1e-12)


def embeddings(count=80):
    """Losses of rows that are looked up, as recommenders and models of words have them."""
    draws = torch.Generator().manual_seed(5)
    user, item = torch.randint(0, 30, (count,), generator=draws), torch.randint(0, 20, (count,), generator=draws)
    rating = torch.randn(count, generator=draws, dtype=torch.float64)

    def factors(w):
        return ((w["users"][user] * w["items"][item]).sum(1) - rating).square().mean()

    def with_biases(w):
        means = w["users"].mean(1)[user] + w["items"].sum(1)[item]
        return ((w["users"][user] * w["items"][item]).sum(1) + means - rating).square().mean() + w["users"].pow(
            4
        ).mean()

    def words(w):
        near = torch.nn.functional.embedding(user, w["users"]) * torch.nn.functional.embedding(item, w["items"])
        return -torch.nn.functional.logsigmoid(rating.sign() * near.sum(-1)).mean()

    def triplets(w):
        anchor, near, far = w["users"][user], w["users"][user.flip(0)], w["items"][item]
        return torch.relu((anchor - near).square().sum(1) - (anchor - far).square().sum(1) + 1).mean()

    def translations(w):
        return (w["users"][user] + w["items"][item][:, :1] - w["users"][user.roll(1)].tanh()).norm(dim=1).mean()

    def attention(w):
        scores = (w["users"][user].view(8, count // 8, -1) * w["items"][item[:8]][:, None]).sum(-1).softmax(1)
        return (scores[..., None] * w["users"][user].view(8, count // 8, -1)).sum(1).square().mean()

    return [factors, with_biases, words, triplets, translations, attention]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("width", [1, 5, 8, 37])
@pytest.mark.parametrize("loss", embeddings(1000), ids=lambda loss: loss.__name__)
def test_rows_of_embeddings(loss, width, dtype):
    start = {"users": numbers(30, width, seed=1).to(dtype), "items": numbers(20, width, seed=2).to(dtype)}
    found, wanted = (descend(loss, start, (), learn_rate=0.05, steps=3, backend=name) for name in ("fused", "eager"))
    bound = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-14}
    torch.testing.assert_close((found.params, found.loss), (wanted.params, wanted.loss), **bound)


def test_registers_run_along_the_axis_that_takes_the_fewest_cycles():
    loss = embeddings(1000)[0]
    for width, along in ((4, "carry[0 + 1 * whole("), (8, "load(carry, i + 8 * int(")):
        start = {"users": numbers(30, width, seed=1), "items": numbers(20, width, seed=2)}
        assert along in descend(loss, start, (), learn_rate=0.05, steps=1, backend="fused").source


def language_model(w, tokens, then):
    """A layer of attention and one of neurons."""
    h = w["words"][tokens]
    q, k, v = h @ w["q"], h @ w["k"], h @ w["v"]
    seen = ((q @ k.transpose(1, 2)) / 5).masked_fill(torch.ones(12, 12, dtype=torch.bool).triu(1), -1e9)
    h = h + seen.softmax(-1) @ v
    h = h + torch.relu(h @ w["inner"]) @ w["outer"]
    return torch.nn.functional.cross_entropy((h @ w["words"].T).flatten(0, 1), then.flatten())


def bags_of_words(w, tokens, then):
    return torch.nn.functional.cross_entropy(w["words"][tokens].mean(1) @ w["inner"][:, :4], then[:, 0] % 4)


def pairs(w, tokens, then):
    h = torch.cat([w["words"][tokens[:, 0]], w["words"][then[:, 1]] @ w["q"]], 1)
    return (torch.tanh(h[:, :24] @ w["inner"]) @ w["outer"]).square().mean() + (h[:, 24:] * h[:, :24]).sum(1).mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("loss", [language_model, bags_of_words, pairs], ids=lambda loss: loss.__name__)
def test_embeddings_and_layers(loss, dtype):
    """Axes of words, tokens, sequences and widths, of which registers run along one."""
    shapes = {"words": (30, 24), "q": (24, 24), "k": (24, 24), "v": (24, 24), "inner": (24, 40), "outer": (40, 24)}
    start = {name: 0.3 * numbers(*shape, seed=i).to(dtype) for i, (name, shape) in enumerate(shapes.items())}
    data = places(40, 12, below=30), places(40, 12, below=30).flip(0)
    found, wanted = (descend(loss, start, data, learn_rate=0.05, steps=3, backend=name) for name in ("fused", "eager"))
    bound = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-14}
    torch.testing.assert_close((found.params, found.loss), (wanted.params, wanted.loss), **bound)
