"""`make bench-recurrences`: losses with a loop over time, ours, JAX's lax.scan, CasADi's C; first calls and steps.

Each is a process of its own, with torch and fastpoly (JAX, CasADi) imported and the caches empty. The clock of a first
call stands around tracing, compiling and 100 steps; a step is the best of some rounds after it. The answers are held
against each other. "compile" is what ours takes beside tracing and finding the loops.

    python bench/recurrences.py [--models garch kalman] [--iterations 10 100 1000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import math

from fresh import measured

STEPS = 100

OURS = """
import json, time
import torch, recurrent_models
from fastpoly import descend
from fastpoly._fuse import traced
torch.set_num_threads(1)
model = recurrent_models.model({name!r}, {iterations})
graph, traced_for = traced._graph, []
def timed(*args):
    began = time.perf_counter()
    result = graph(*args)
    traced_for.append(time.perf_counter() - began)
    return result
traced._graph = timed
def run(steps):
    return descend(model.loss, model.params, model.data, learn_rate=model.learn_rate, steps=steps, backend="fused")
started = time.perf_counter()
losses = run({steps}).loss
first = time.perf_counter() - started
def took(steps):
    started = time.perf_counter()
    run(steps)
    return time.perf_counter() - started
base, more, longer = min(took({steps}) for _ in range({rounds})), {more}, 0
while longer < max(0.3, 2 * base):  # each traces anew
    more *= 2
    longer = took({steps} + more) - base
step = min(longer, *(took({steps} + more) - base for _ in range({rounds}))) / more
print(json.dumps(dict(first=first, step=step, loss=float(losses[-1]), compile=first - traced_for[0])))
"""

JAXS = """
import json, time
import jax, jax.numpy as jnp, jax_recurrent
jax.block_until_ready(jnp.zeros(2) + 1)
started = time.perf_counter()
losses = jax_recurrent.descent({name!r}, {iterations}, {steps})()
first = time.perf_counter() - started
run = jax_recurrent.descent({name!r}, {iterations}, {jax_steps})
run()
took = []
for _ in range({rounds}):
    started = time.perf_counter()
    run()
    took.append(time.perf_counter() - started)
print(json.dumps(dict(first=first, step=min(took) / {jax_steps}, loss=float(losses[-1]))))
"""

CASADIS = """
import json, pathlib, tempfile, time
import casadi_recurrent
with tempfile.TemporaryDirectory() as folder:
    run, first = casadi_recurrent.descent({name!r}, {iterations}, pathlib.Path(folder))
losses = run({steps})
took = []
for _ in range({rounds}):
    started = time.perf_counter()
    run({more})
    took.append(time.perf_counter() - started)
print(json.dumps(dict(first=first, step=min(took) / {more}, loss=float(losses[-1]))))
"""

PYTENSORS = """
import json, time
import pytensor_recurrent
started = time.perf_counter()
run = pytensor_recurrent.descent({iterations})
first = time.perf_counter() - started
losses = run({steps})
started = time.perf_counter()
run(1000)
print(json.dumps(dict(first=first, step=(time.perf_counter() - started) / 1000, loss=float(losses[-1]))))
"""

MODELS = ("garch", "kalman", "hmm", "rnn", "lotka_volterra", "residual_mlp")
IN_CASADI = ("garch", "kalman", "lotka_volterra")
AGREEMENT = 1e-9
"""Of losses after some steps, relative: their sums are in different orders."""


def mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def main() -> None:
    """Print a row for each model and number of iterations, and the ratios together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--iterations", nargs="*", type=int, default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-casadi", action="store_true")
    parser.add_argument("--pytensor", action="store_true", help="PyTensor's scan, too, of garch")
    asked = parser.parse_args()
    heads = f"{'loss':15} {'time steps':>10} {'first call':>10} {'compile':>8} {'a step':>9}"
    print(f"{heads}   JAX: first, step    CasADi: first, step")
    first, step, peer = [], [], []
    for name in asked.models:
        compiled = {}
        for iterations in asked.iterations:
            if name == "residual_mlp" and iterations > 100:
                continue
            more = max(200, 200_000 // iterations)
            fields = dict(name=name, iterations=iterations, steps=STEPS, more=more, rounds=asked.rounds)
            fields["jax_steps"] = max(20, more // 20)
            ours, jaxs = measured(OURS.format(**fields)), measured(JAXS.format(**fields))
            sides = [ours, jaxs]
            if name in IN_CASADI and not asked.no_casadi:
                sides.append(measured(CASADIS.format(**fields)))
            if name == "garch" and asked.pytensor:
                sides.append(measured(PYTENSORS.format(**fields)))
                times = sides[-1]["step"] / ours["step"]
                print(f"{'':15} PyTensor: first {sides[-1]['first']:.1f} s, a step {times:.0f} x")
            for side in sides[1:]:
                off = abs(side["loss"] - ours["loss"]) / abs(ours["loss"])
                assert off <= AGREEMENT, f"{name}, {iterations}: {side['loss']} for {ours['loss']}"
            compiled[iterations] = ours["compile"]
            first.append(jaxs["first"] / ours["first"])
            step.append(jaxs["step"] / ours["step"])
            theirs = ""
            if name in IN_CASADI and not asked.no_casadi:
                peer.append(sides[2]["step"] / ours["step"])
                theirs = f"{sides[2]['first']:6.2f} s {sides[2]['step'] * 1e6:8.2f} us {peer[-1]:5.2f} x"
            own = f"{ours['first']:8.2f} s {ours['compile']:6.2f} s {ours['step'] * 1e6:6.2f} us"
            jax = f"{jaxs['first']:5.2f} s {first[-1]:5.2f} x {jaxs['step'] * 1e6:8.2f} us {step[-1]:5.1f} x"
            print(f"{name:15} {iterations:10,} {own}   {jax}   {theirs}", flush=True)
        if len(compiled) > 1:
            low, high = min(compiled), max(compiled)
            print(f"{'':15} compiling {high:,} time steps takes {compiled[high] / compiled[low]:.2f} times {low:,}'s")
    for what, ratios in (("first call", first), ("a step", step)):
        print(f"JAX / ours, {what}: {mean(ratios):.2f} in the geometric mean, least {min(ratios):.2f}")
    if peer:
        print(f"CasADi's C / ours, a step: {mean(peer):.2f}, least {min(peer):.2f}")


if __name__ == "__main__":
    main()
