"""The peer: CasADi writes C for a loss, its gradient and a step of descent; gcc compiles that within a loop in C."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np
import recurrent_models

LOOP = r"""
#include <stdlib.h>
typedef long long int casadi_int;
int f(const double **arg, double **res, casadi_int *iw, double *w, int mem);
int f_work(casadi_int *, casadi_int *, casadi_int *, casadi_int *);
void loop(double *p, const double *data, int size, int steps, double *trace) {
  casadi_int a, b, c, d;
  f_work(&a, &b, &c, &d);
  const double **arg = malloc(8 * (a + 4));
  double **res = malloc(8 * (b + 4)), *w = malloc(8 * (d + 8)), *next = malloc(8 * size);
  casadi_int *iw = malloc(8 * (c + 4));
  for (int i = 0; i < steps; i++) {
    arg[0] = p, arg[1] = data, res[0] = next, res[1] = trace + i;
    f(arg, res, iw, w, 0);
    for (int k = 0; k < size; k++) p[k] = next[k];
  }
}
"""


def garch(p, r, count):
    h, total = 1.0, 0
    for t in range(1, count + 1):
        h = p[0] + p[1] * r[t - 1] ** 2 + p[2] * h
        total = total + ca.log(h) + r[t] ** 2 / h
    return total / (count + 1)


def kalman(p, y, count):
    move = ca.vertcat(ca.horzcat(1, p[0]), ca.horzcat(0, p[1]))
    noise, error = ca.diag(p[2:4] ** 2), p[4] ** 2
    mean, spread, total = ca.SX.zeros(2), ca.SX.eye(2), 0
    for t in range(count):
        mean, spread = move @ mean, move @ spread @ move.T + noise
        off, scale = y[t] - mean[0], spread[0, 0] + error
        gain = spread[:, 0] / scale
        mean, spread = mean + gain * off, spread - gain @ gain.T * scale
        total = total + ca.log(scale) + off**2 / scale
    return total / count


def lotka_volterra(p, y, count):
    a, b, total = y[0], y[1], 0
    for t in range(1, count + 1):
        a, b = a + 0.01 * (p[0] * a - p[1] * a * b), b + 0.01 * (p[2] * a * b - p[3] * b)
        total = total + (a - y[2 * t]) ** 2 + (b - y[2 * t + 1]) ** 2
    return total / (count + 1)


LOSSES: dict[str, Callable[..., Any]] = {f.__name__: f for f in (garch, kalman, lotka_volterra)}


def descent(name: str, iterations: int, folder: Path) -> tuple[Callable[[int], np.ndarray], float]:
    """(a function of a number of steps that returns their losses, the seconds that writing and compiling took)."""
    model = recurrent_models.model(name, iterations)
    start, data = model.params.numpy(), model.data[0].numpy().ravel()
    started = time.perf_counter()
    p, d = ca.SX.sym("p", start.size), ca.SX.sym("d", data.size)
    loss = LOSSES[name](p, d, iterations)
    ca.Function("f", [p, d], [p - model.learn_rate * ca.gradient(loss, p), loss]).generate(
        "f.c", {"casadi_int": "long long int"}
    )
    shutil.move("f.c", folder / "f.c")  # it writes to the current folder only
    (folder / "loop.c").write_text(LOOP)
    flags = ["-O3", "-march=native", "-ffast-math", "-fPIC", "-shared"]
    subprocess.run(["gcc", *flags, "f.c", "loop.c", "-o", "all.so", "-lm"], cwd=folder, check=True)
    seconds = time.perf_counter() - started
    loop = ctypes.CDLL(str(folder / "all.so")).loop

    def run(steps: int) -> np.ndarray:
        own, trace = start.copy(), np.empty(steps)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (own, data, trace)]
        loop(pointers[0], pointers[1], own.size, steps, pointers[2])
        return trace

    return run, seconds
