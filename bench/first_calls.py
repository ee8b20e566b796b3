"""`make bench-first-calls`: what a person waits for at a prompt, the first descent of every model of the zoo.

Each is a process of its own, with torch and fastpoly imported and the caches empty; JAX's has JAX imported, its backend
started, and no persistent cache. Both trace, compile and take 100 steps; the clock stands around that call. The best of
some rounds counts, taken in turn. The answers are held against each other.

    python bench/first_calls.py [--rounds 3] [--models horner gelu-network] [--dtypes float64]
"""

from __future__ import annotations

import argparse
import math
import sys

from fresh import ROOT, measured

STEPS = 100

OURS = """
import json, sys, time
import torch, zoo
from fastpoly import descend
torch.set_num_threads(1)
model = zoo.model({name!r}, torch.{dtype}, 100)
started = time.perf_counter()
run = descend(
    model.loss, model.params, model.data, learn_rate=model.learn_rate, steps={steps}, backend="fused", trace_every=99
)
seconds = time.perf_counter() - started
print(json.dumps([seconds, float(run.loss[-1])]))
"""

JAXS = """
import json, sys, time
import torch, jax_zoo, jax, jax.numpy as jnp
jax.block_until_ready(jnp.zeros(2) + 1)
started = time.perf_counter()
_, losses = jax_zoo.descent({name!r}, {precision!r}, {steps})()
seconds = time.perf_counter() - started
print(json.dumps([seconds, float(losses[99])]))
"""


def main() -> None:
    """Print a row for each model as it is done, and the geometric means."""
    import zoo

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(zoo.NAMES))
    parser.add_argument("--dtypes", nargs="*", default=["float64", "float32"])
    asked = parser.parse_args()
    measured(OURS.format(name="horner", dtype="float64", steps=STEPS))  # bytecode
    for dtype in asked.dtypes:
        ratios = []
        for name in asked.models:
            precision = "double" if dtype == "float64" else "single"
            codes = (
                OURS.format(name=name, dtype=dtype, steps=STEPS),
                JAXS.format(name=name, precision=precision, steps=STEPS),
            )
            rounds = [[measured(code) for code in codes] for _ in range(asked.rounds)]
            (ours, loss), (jaxs, theirs) = (min(side) for side in zip(*rounds, strict=True))
            assert math.isclose(loss, theirs, rel_tol=1e-9 if dtype == "float64" else 1e-4), (name, loss, theirs)
            ratios.append(jaxs / ours)
            print(f"{name:20s} {dtype}  {ours:8.3f} s  JAX {jaxs:8.3f} s  {jaxs / ours:6.2f}", flush=True)
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"JAX's first call / ours, {dtype}: geometric mean {mean:.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]
    main()
