"""`fit_many` of problems in a dask array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .._arrays import Array, is_dask, numbers
from .._backends import CLOSED, choose_many
from .._batch import BatchProblem, in_rows, rows_of_problems
from .._domain import mapped
from .._minima import VALUES, Minima
from .._minimum import MOST
from .._monitor import unheard
from .._plan import is_auto, most_of_a_loop
from .._problem import PRECISIONS
from .chunks import by_chunks, chunks_of, refuse_lengths


@dataclass(frozen=True, eq=False, repr=False)
class LazyBatch:
    """What `fit_many` makes of a dask array of problems: lazy arrays, in its chunks of problems.

    `dask.compute(batch)[0]` is the same with numpy arrays, all computed in one go.

    Attributes:
        weights: (batch, degree + 1), as those of a FitBatch.
        mse: (batch, rows), NaN from where a problem diverged.
        diverged_at: (batch,), a step, or -1 for a problem that did not diverge.
        final_mse, least_squares_mse: (batch,), the mse of the weights, and the least that any weights have.
        converged: (batch,), as of a FitResult.
        learn_rate: one for all problems, or (batch,).
        domain: None, one interval for all problems, or (batch, 2).
        steps, precision, trace_every: as of a FitResult.
    """

    weights: Any
    mse: Any
    diverged_at: Any
    final_mse: Any
    least_squares_mse: Any
    converged: Any
    learn_rate: Any
    domain: Any
    steps: int
    precision: str
    trace_every: int | None

    @property
    def degree(self) -> int:
        """Of the polynomials."""
        return int(self.weights.shape[1]) - 1

    def __len__(self) -> int:
        return int(self.weights.shape[0])

    def predict(self, x: Any) -> Any:
        """Every polynomial at x, (batch, *x.shape), lazy where the weights are; x as `fit_many` was given it."""
        at = np.asarray(numbers(x, "x"), np.float64)
        own = [] if self.domain is None or isinstance(self.domain, tuple) else [self.domain]
        values = partial(_values, at, None if own else self.domain)
        if not is_dask(self.weights):
            return values(self.weights, *own)[0]
        return by_chunks(values, [self.weights, *own], self.weights.chunks[0], [(at.shape, np.float64)])[0]

    def __repr__(self) -> str:
        how = f"in {self.weights.numblocks[0]:,} chunks, lazy" if is_dask(self.weights) else "in memory"
        return f"LazyBatch({len(self):,} polynomials of degree {self.degree}, {self.steps:,} steps; {how})"


def _values(at: Array, domain: Any, weights: Array, domains: Array | None = None) -> list[Array]:
    """Polynomials at `at`."""
    flat = at.reshape(1, -1)
    places = mapped(flat, domain) if domains is None else mapped(np.repeat(flat, len(weights), 0), domains)
    found = np.zeros((len(weights), at.size))
    for weight in weights.T.astype(np.float64)[::-1]:
        found = found * places + weight[:, None]
    return [found.reshape(len(weights), *at.shape)]


def fit_many(
    x: Any, y: Any, degree: Any, steps: Any, learn_rate: Any, *, problems: Any, progress: Any, **options: Any
) -> LazyBatch:
    """As `fastpoly.fit_many`, which has checked nothing yet."""
    if progress:
        raise ValueError("progress: nobody waits here for dask's chunks; dask.diagnostics.ProgressBar shows them")
    if y.ndim != 2:
        raise ValueError(f"y: of dask wants (batch, n), a row for each problem, got {y.shape}; fit(x, y) is one fit")
    own_x = x.ndim == 2 and x.shape[1] != 1 if is_dask(x) else in_rows(x)
    y = rows_of_problems(y, problems, own_x)
    if not own_x and is_dask(x):
        with unheard():
            x = x.compute()
    start = options["initial_weights"]
    given = {"x": x if own_x else None, "learn_rate": learn_rate if np.ndim(learn_rate) else None}
    given["initial_weights"] = start if start is not None and np.ndim(start) == 2 else None
    rows = {"y": y, **{name: one for name, one in given.items() if one is not None}}
    count, chunks = chunks_of([y])
    refuse_lengths(count, rows)
    auto_steps, auto_rate = is_auto(steps, "steps"), is_auto(learn_rate, "learn_rate")
    if auto_rate and not auto_steps and not own_x:
        way = "give a number, or leave steps to 'auto'"
        raise ValueError(f"learn_rate: 'auto' with a number of steps looks at all problems of one x together; {way}")
    shared = {"x": x, "degree": degree, "steps": steps, "learn_rate": learn_rate, **options}
    shared = {name: one for name, one in shared.items() if name not in rows}
    one = _checked({**shared, "y": np.zeros((1, y.shape[1])), **_stand_ins(rows)})
    choose_many(options["backend"], one)  # refuses what there is not
    work = _whole_portions(chunks, y.shape[1]) if not own_x and options["precision"] == "double" else chunks
    if auto_rate and not own_x:
        shared["learn_rate"] = float(Minima.of(one).rates(None)[0])
    if auto_steps:
        (enough,) = by_chunks(partial(_steps, tuple(rows), shared), list(rows.values()), work, [((), np.int64)])
        with unheard():
            shared["steps"] = int(enough.max().compute())
    steps = int(shared["steps"])
    m, storage = one.degree + 1, PRECISIONS[one.precision][1]
    kept = 0 if one.trace_every is None else -(-steps // one.trace_every)
    kinds: list[Any] = [((m,), storage), ((kept,), storage), ((), np.int64), ((), np.float64), ((2,), np.float64)]
    fitted = partial(_fitted, tuple(rows), shared, auto_rate and auto_steps)
    weights, mse, diverged_at, rates, domains = by_chunks(fitted, list(rows.values()), work, kinds)
    told = partial(_quality, ("weights", *rows), shared)
    quality = by_chunks(told, [weights, *rows.values()], work, [((), np.float64), ((), np.float64), ((), bool)])
    asked = (weights, mse, diverged_at, *quality, rates, domains)
    *arrays, rates, domains = (part.rechunk({0: chunks}) for part in asked)
    rate = rates if own_x or "learn_rate" in rows else float(shared["learn_rate"])
    domain = domains if isinstance(one.domain, np.ndarray) else one.domain
    return LazyBatch(*arrays, rate, domain, steps, one.precision, one.trace_every)  # type: ignore[call-arg]


def _stand_ins(rows: dict[str, Any]) -> dict[str, Any]:
    """For one problem's rows, to check everything else with."""
    places = {name: np.linspace(-1.0, 1.0, one.shape[1])[None] for name, one in rows.items() if name == "x"}
    return places | {name: None if name == "initial_weights" else 1.0 for name in rows if name not in ("x", "y")}


def _whole_portions(chunks: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Chunks that begin where `fit_many` begins a new matrix product: its roundings depend on the size of that."""
    portion, count = max(1, VALUES // n), sum(chunks)
    size = portion * max(1, round(max(chunks) / portion))
    return tuple(min(size, count - first) for first in range(0, count, size))


def _checked(given: dict[str, Any]) -> BatchProblem:
    """The problem; steps and learn rates that are to be chosen are 0 and 1."""
    given = {name: one for name, one in given.items() if name != "backend"}
    steps = 0 if isinstance(given["steps"], str) else given["steps"]
    rate = 1.0 if isinstance(given["learn_rate"], str) else given["learn_rate"]
    return BatchProblem.checked(**{**given, "steps": steps, "learn_rate": rate})


def _steps(names: Sequence[str], shared: dict[str, Any], *rows: Array) -> list[Array]:
    """How many steps bring all problems of a chunk near their minima, for each of them."""
    given = {**shared, **dict(zip(names, rows, strict=True))}
    problem = _checked(given)
    name, _ = choose_many(given["backend"], problem)
    minima = Minima.of(problem)
    rates = minima.rates(None) if isinstance(given["learn_rate"], str) else problem.learn_rates
    most = MOST if (name, problem.precision) in CLOSED else most_of_a_loop(problem.y.shape[1], problem.degree)
    return [np.full(problem.batch, minima.steps(rates, most))]


def _fitted(names: Sequence[str], shared: dict[str, Any], own_rates: bool, *rows: Array) -> list[Array]:
    """What a chunk of problems gets: weights, mse, diverged_at, learn rates and domains.

    own_rates: are the learn rates to be chosen, as those that suit any number of steps?
    """
    from .._fit_many import fit_many as of_arrays

    given = {**shared, **dict(zip(names, rows, strict=True))}
    if own_rates and isinstance(given["learn_rate"], str):
        given["learn_rate"] = Minima.of(_checked(given)).rates(None)
    batch = of_arrays(**given, problems="rows")
    count = len(batch)
    diverged_at = np.full(count, -1) if batch.diverged_at is None else batch.diverged_at
    rates = np.broadcast_to(batch.learn_rate, count)
    domain = np.nan if batch.domain is None else np.asarray(batch.domain, np.float64)
    return [batch.weights, batch.mse, diverged_at, rates, np.broadcast_to(domain, (count, 2))]


def _quality(names: Sequence[str], shared: dict[str, Any], weights: Array, *rows: Array) -> list[Array]:
    """final_mse, least_squares_mse and converged of a chunk."""
    problem = _checked({**shared, **dict(zip(names[1:], rows, strict=True))})
    minima = Minima.of(problem)
    excess = minima.excess(weights.astype(np.float64))
    return [(minima.least + excess) / minima.n, minima.least / minima.n, excess <= minima.useful]
