"""`make bench-many`: many small problems at once, beside JAX's vmap, SciPy's loop and optimistix; and the peak.

Each pair is timed in turn, both warm, the answers held against each other first; a figure is a ratio of medians. The
other sides run as their authors show them. Curves are those of bench/many_models.py.

    python bench/many.py [--count 10000] [--n 100] [--steps 200] [--rounds 5] [--only descend fit peak]
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fma_peak import peak
from many_models import MODELS, Model

from fastpoly import curve_fit, descend_many

SCIPYS = 200
"""Curves that SciPy's loop is timed on."""

DTYPES = {"double": torch.float64, "single": torch.float32}


def in_turn(sides: list[Callable[[], Any]], rounds: int) -> list[float]:
    """The median seconds of each."""
    took: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, seconds in zip(sides, took, strict=True):
            started = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in took]


def mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan


# -- descents


def loss_of(model: Model, module: Any) -> Callable[..., Any]:
    """The mean square of one curve's residuals; params is (p,)."""
    count = len(model.truth)

    def loss(params: Any, x: Any, y: Any) -> Any:
        return ((y - model.f(module, x, *(params[k] for k in range(count)))) ** 2).mean()

    return loss


def jax_descents(model: Model, x: Any, y: Any, steps: int, dtype: Any) -> Callable[[], Any]:
    """lax.scan of the same steps, under vmap."""
    import jax
    import jax.numpy as jnp

    loss = loss_of(model, jnp)
    x, y, start = (jnp.asarray(values, dtype) for values in (x, y, model.start))

    def one(y: Any) -> Any:
        def step(params: Any, _: Any) -> Any:
            return params - model.rate * jax.grad(loss)(params, x, y), None

        return jax.lax.scan(step, start, None, length=steps)[0]

    run = jax.jit(jax.vmap(one))
    return lambda: jax.block_until_ready(run(y))


def descents(asked: argparse.Namespace) -> None:
    """Ours and JAX's."""
    print(f"\ndescend_many, {asked.count:,} problems of {asked.n} samples, {asked.steps} steps\n")
    print(f"{'model':20} {'precision':9} {'ours':>9} {'ns a sample and step':>21} {'JAX / ours':>11}")
    for precision, dtype in DTYPES.items():
        ratios = []
        for name, model in MODELS.items():
            x, y = model.curves(asked.count, asked.n)
            start, rows = torch.tensor(model.start, dtype=dtype), torch.from_numpy(y).to(dtype)
            options = dict(in_dims=(None, None, 0), learn_rate=model.rate, steps=asked.steps, backend="fused")
            data = torch.from_numpy(x).to(dtype), rows

            def ours(model=model, start=start, data=data, options=options):
                return descend_many(loss_of(model, torch), start, data, **options).params

            sides = [ours]
            if asked.jax:
                theirs = jax_descents(model, x, y, asked.steps, str(dtype).removeprefix("torch."))
                np.testing.assert_allclose(
                    np.asarray(theirs()), ours().numpy(), rtol=1e-7 if dtype.itemsize == 8 else 5e-3
                )
                sides.append(theirs)
            ours()
            seconds = in_turn(sides, asked.rounds)
            each = 1e9 * seconds[0] / asked.count / y.shape[1] / asked.steps
            ratios += [seconds[1] / seconds[0]] if asked.jax else []
            shown = f"{ratios[-1]:10.1f}x" if asked.jax else ""
            print(f"{name:20} {precision:9} {seconds[0] * 1e3:6.1f} ms {each:18.3f} ns {shown}", flush=True)
        if ratios:
            print(f"{'geometric mean':20} {precision:9} {'':9} {'':21} {mean(ratios):10.1f}x")


# -- fits


def scipys(model: Model, x: Any, y: Any) -> Callable[[], Any]:
    """A loop over scipy.optimize.curve_fit, with its defaults."""
    from scipy.optimize import curve_fit as fit

    def f(x: Any, *params: float) -> Any:
        return model.f(np, x, *params)

    return lambda: np.stack([fit(f, x, one, model.start)[0] for one in y[:SCIPYS]])


def optimistixs(model: Model, x: Any, y: Any) -> Callable[[], Any]:
    """optimistix's Levenberg-Marquardt under vmap, with curve_fit's tolerances."""
    import jax
    import jax.numpy as jnp
    import optimistix

    solver = optimistix.LevenbergMarquardt(rtol=1.49e-8, atol=1.49e-8)
    x, y, start = jnp.asarray(x), jnp.asarray(y), jnp.asarray(model.start)

    def one(y: Any) -> Any:
        def residuals(params: Any, _: Any) -> Any:
            return model.f(jnp, x, *params) - y

        return optimistix.least_squares(residuals, solver, start, throw=False, max_steps=400).value

    run = jax.jit(jax.vmap(one))
    return lambda: jax.block_until_ready(run(y))


def fits(asked: argparse.Namespace) -> None:
    """Ours, SciPy's and optimistix's."""
    has_optimistix = asked.jax and importlib.util.find_spec("optimistix") is not None
    print(f"\ncurve_fit, {asked.count:,} curves of {asked.n} samples, double\n")
    print(f"{'model':20} {'ours':>9} {'fits a second':>14} {'SciPy / ours':>13} {'optimistix / ours':>18}")
    of_scipy, of_optimistix = [], []
    for name, model in MODELS.items():
        x, y = model.curves(asked.count, asked.n)

        def f(x: Any, *params: Any, model: Model = model) -> Any:
            return model.f(torch, x, *params)

        def ours(f=f, x=x, y=y, model=model):
            return curve_fit(f, x, y, model.start)[0]

        sides = [ours, scipys(model, x, y)]
        wanted, found = sides[1](), ours()
        signs = np.sign(wanted / found[:SCIPYS])  # a width below 0 is as good
        np.testing.assert_allclose(found[:SCIPYS] * signs, wanted, rtol=1e-3, atol=1e-3)
        if has_optimistix:
            sides.append(optimistixs(model, x, y))
            np.testing.assert_allclose(np.abs(np.median(np.asarray(sides[2]()) - found, axis=0)), 0, atol=1e-3)
        seconds = in_turn(sides, asked.rounds)
        of_scipy.append(seconds[1] / SCIPYS * asked.count / seconds[0])
        shown = ""
        if has_optimistix:
            of_optimistix.append(seconds[2] / seconds[0])
            shown = f"{of_optimistix[-1]:16.1f} x"
        rate = asked.count / seconds[0] / 1e6
        print(f"{name:20} {seconds[0] * 1e3:6.1f} ms {rate:12.2f} M {of_scipy[-1]:11.0f} x {shown}", flush=True)
    print(
        f"geometric mean: SciPy / ours {mean(of_scipy):.0f}"
        + f", optimistix / ours {mean(of_optimistix):.0f}" * has_optimistix
    )


# -- the peak


def polynomial_at_the_peak(asked: argparse.Namespace) -> None:
    """Multiplications and additions a second, of those that the processors can do: 12 a sample and step at degree 4."""

    def loss(w: Any, x: Any, y: Any) -> Any:
        return ((y - (w[0] + x * (w[1] + x * (w[2] + x * (w[3] + x * w[4]))))) ** 2).mean()

    print(f"\nthe polynomial of degree 4, {asked.count:,} problems of {asked.n} samples, beside the fma peak\n")
    for precision, dtype in DTYPES.items():
        x = torch.linspace(-1, 1, asked.n, dtype=dtype)
        y = torch.randn((asked.count, asked.n), generator=torch.Generator().manual_seed(0), dtype=dtype)
        start = torch.zeros(5, dtype=dtype)

        def run(start=start, data=(x, y)):
            options = dict(in_dims=(None, None, 0), learn_rate=0.1, steps=asked.steps, backend="fused")
            return descend_many(loss, start, data, **options)

        run()
        of_peak: list[float] = []

        def measured(precision=precision, of_peak=of_peak):
            of_peak.append(peak(precision))

        seconds, _ = in_turn([run, measured], asked.rounds)
        rate, most = 12 * asked.count * asked.n * asked.steps / seconds, statistics.median(of_peak)
        print(
            f"{precision:9} {rate / 1e9:6.1f} of {most / 1e9:6.1f} G fma a second: {100 * rate / most:.0f} %",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["descend", "fit", "peak"])
    asked = parser.parse_args()
    asked.jax = importlib.util.find_spec("jax") is not None
    if asked.jax:
        import jax

        jax.config.update("jax_enable_x64", True)
    for name, table in (("descend", descents), ("fit", fits), ("peak", polynomial_at_the_peak)):
        if name in asked.only:
            table(asked)


if __name__ == "__main__":
    main()
