"""What `scan` in a loss takes: `python bench/written_loops.py`.

First the processor's seconds until the first value and gradient are there, with an empty cache and in a process of its
own, for 10 steps and for 100,000; then the microseconds of a call beside those of the same loop in Python, which is
traced step by step and rolled up again.
"""

import os
import subprocess
import sys
import tempfile
import time

import torch

from fastpoly import scan, value_and_grad

D = torch.float64


def garch(p, r):
    def step(h, x):
        h = p[0] + p[1] * x**2 + p[2] * h
        return h, h

    _, h = scan(step, r.var(), xs=r[:-1])
    return (torch.log(h) + r[1:] ** 2 / h).mean()


def garch_of_python(p, r):
    h, total = r.var(), 0.0
    for t in range(1, len(r)):
        h = p[0] + p[1] * r[t - 1] ** 2 + p[2] * h
        total = total + torch.log(h) + r[t] ** 2 / h
    return total / (len(r) - 1)


def rnn(p, x):
    _, hs = scan(lambda h, x: ((h := torch.tanh(p["h"] @ h + p["x"] @ x)), h), x.new_zeros(len(p["h"])), xs=x)
    return (hs**2).mean()


def rnn_of_python(p, x):
    h, hs = x.new_zeros(len(p["h"])), []
    for row in x:
        h = torch.tanh(p["h"] @ h + p["x"] @ row)
        hs.append(h)
    return (torch.stack(hs) ** 2).mean()


def problem(name, steps):
    torch.manual_seed(0)
    if name == "garch":
        return torch.tensor([0.05, 0.1, 0.8], dtype=D), torch.randn(steps + 1, dtype=D)
    weights = {"h": torch.randn(16, 16, dtype=D) * 0.2, "x": torch.randn(16, 3, dtype=D) * 0.3}
    return weights, torch.randn(steps, 3, dtype=D)


LOSSES = {"garch": (garch, garch_of_python), "rnn": (rnn, rnn_of_python)}


def first_call(name, steps):
    """In a process of its own."""
    given = problem(name, steps)
    began = time.process_time()
    value_and_grad(LOSSES[name][0], backend="fused")(*given)
    print(time.process_time() - began)


def seconds_of_a_first_call(name, steps):
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, name, str(steps)]
        found = subprocess.run(
            command, env=os.environ | {"FASTPOLY_CACHE_DIR": cache}, check=True, capture_output=True, text=True
        )
    return float(found.stdout)


def seconds_of_a_call(function, given):
    began = time.perf_counter()
    calls = 0
    while time.perf_counter() - began < 0.05:
        function(*given)
        calls += 1
    return (time.perf_counter() - began) / calls


if __name__ == "__main__":
    if len(sys.argv) > 1:
        first_call(sys.argv[1], int(sys.argv[2]))
        sys.exit()
    for name in LOSSES:
        few, many = (min(seconds_of_a_first_call(name, steps) for _ in range(3)) for steps in (10, 100_000))
        print(
            f"{name:6} first call: 10 steps {few:.2f} s, 100,000 steps {many:.2f} s: {many / few:.2f} times", flush=True
        )
    for name, losses in LOSSES.items():
        for steps in (100, 1_000):
            given = problem(name, steps)
            functions = [value_and_grad(loss, backend="fused") for loss in losses]
            rounds = [[seconds_of_a_call(function, given) for function in functions] for _ in range(6)]
            ours, of_python = (min(column) for column in zip(*rounds, strict=True))
            print(
                f"{name:6} {steps:5,} steps: scan {ours * 1e6:7.1f} us, in Python {of_python * 1e6:7.1f} us: "
                f"{ours / of_python:.2f} times",
                flush=True,
            )
