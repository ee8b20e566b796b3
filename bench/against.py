"""`make bench-against REV=...`: a step of every model of the zoo, in this tree and in another commit of it.

Each side is a process of its own, with its own tree and caches; they take turns, model by model and round by round, so
that whatever else the machine does falls on both. Of each side's rounds the best counts. What a call takes beside its
steps (tracing) is taken off by a call of no steps. The losses, and what is asserted of them, are this tree's.

    python bench/against.py HEAD~1 [--rounds 7] [--n 100] [--models horner gelu] [--dtypes float64]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 0.06
"""Of steps in a round: 600 times what a clock and a call are off by."""


# -- a side


def side() -> None:
    """Answer on standard output what is asked on standard input, a line of JSON each."""
    import torch
    import zoo

    from fastpoly import descend

    torch.set_num_threads(1)
    runs: dict[tuple[str, str, int], object] = {}

    def made(name: str, dtype: str, n: int) -> object:
        model = zoo.model(name, getattr(torch, dtype), n)

        def run(steps: int) -> object:
            return descend(
                model.loss,
                model.params,
                model.data,
                learn_rate=model.learn_rate,
                steps=steps,
                trace_every=None,
                backend="fused",
            )

        return run

    for line in sys.stdin:
        asked = json.loads(line)
        key = asked["model"], asked["dtype"], asked["n"]
        if key not in runs:
            runs[key] = made(*key)
        run = runs[key]
        started = time.perf_counter()
        result = run(asked["steps"])
        seconds = time.perf_counter() - started
        leaves = torch.utils._pytree.tree_leaves(result.params)
        print(json.dumps([seconds, [float(leaf.double().abs().sum()) for leaf in leaves]]), flush=True)


class Side:
    """One of the two trees, running."""

    def __init__(self, tree: Path, cache: Path) -> None:
        path = os.pathsep.join(map(str, (tree, tree / "kernels", ROOT / "tests")))
        environment = {**os.environ, "PYTHONPATH": path, "FASTPOLY_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--side"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, model: str, dtype: str, n: int, steps: int) -> tuple[float, list[float]]:
        """Seconds, and a sum of each parameter."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"model": model, "dtype": dtype, "n": n, "steps": steps}) + "\n")
        self.process.stdin.flush()
        seconds, sums = json.loads(self.process.stdout.readline())
        return seconds, sums


# -- both


def compared(sides: tuple[Side, Side], model: str, dtype: str, n: int, rounds: int) -> tuple[float, float]:
    """The seconds of a step, in the other tree and in this one."""
    steps = 200
    sums = [side.ask(model, dtype, n, steps)[1] for side in sides]
    for one, other in zip(*sums, strict=True):
        assert math.isclose(one, other, rel_tol=1e-9 if dtype == "float64" else 1e-3), (model, dtype, sums)
    while min(min(side.ask(model, dtype, n, steps)[0] for _ in range(3)) for side in sides) < SECONDS:
        steps *= 4  # the quickest of some calls: what else the machine does makes none of them quicker
    taken: tuple[list[float], list[float]] = ([], [])
    empty: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, seconds, nothing in zip(sides, taken, empty, strict=True):
            seconds.append(side.ask(model, dtype, n, steps)[0])
            nothing.append(side.ask(model, dtype, n, 0)[0])
    other, this = ((min(s) - min(e)) / steps for s, e in zip(taken, empty, strict=True))
    return other, this


def geometric_mean(ratios: list[float]) -> float:
    """Of ratios."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main() -> int:
    """Print a row for each model and dtype, and the means."""
    sys.path.insert(0, str(ROOT / "tests"))
    import zoo

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rev", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n", type=int, default=100, help="samples")
    parser.add_argument("--models", nargs="+", default=list(zoo.NAMES))
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", tree, asked.rev], cwd=ROOT, check=True)
        try:
            sides = Side(tree, Path(folder) / "other"), Side(ROOT, Path(folder) / "this")
            means = []
            for dtype in asked.dtypes:
                ratios = {}
                for model in asked.models:
                    other, this = compared(sides, model, dtype, asked.n, asked.rounds)
                    ratios[model] = other / this
                    print(
                        f"{model:20} {dtype}  {1e9 * other:10.1f} ns  {1e9 * this:10.1f} ns  {other / this:6.3f}",
                        flush=True,
                    )
                means.append(f"{dtype}: {geometric_mean(list(ratios.values())):.3f}, least {min(ratios.values()):.3f}")
            print(f"{asked.rev} / this tree, n = {asked.n}, geometric mean {'; '.join(means)}")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--side"]:
        side()
    else:
        sys.exit(main())
