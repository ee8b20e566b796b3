"""A process of a group that descends on its share of the samples: python ranks.py RANK SIZE FILE CASE... prints what it
found, pickled, into FILE with its rank behind."""

import datetime
import os
import pickle
import sys
import time
import warnings

import numpy as np
import torch
import torch.distributed as dist

from fastpoly import descend, descend_module

SHARES = {1: [0, 1001], 2: [0, 300, 1001], 3: [0, 300, 300, 1001]}
"""Where the samples of each rank begin, by the size of the group; one of three has none."""

draws = torch.Generator().manual_seed(0)
X = torch.rand(1001, dtype=torch.float64, generator=draws)
Y = 2 + 3 * X + 0.1 * torch.randn(1001, dtype=torch.float64, generator=draws)


def mean(w, x, y):
    return ((y - w["a"] - w["b"] * x) ** 2).mean()


def whole(w, x, y):
    return ((y - w["a"] - w["b"] * x) ** 2).sum()


def weighted(w, x, y, factor):
    return mean(w, x, y) * factor


def start():
    return {"a": torch.zeros((), dtype=torch.float64), "b": torch.zeros(1, dtype=torch.float64)}


CASES = {
    "sgd": {},
    "eager": {"backend": "eager"},
    "adam": {"optimizer": "adam", "clip_norm": 0.5, "average": "mean"},
    "torch's": {"optimizer": "rmsprop", "trace_every": 7},
    "sum": {"loss": whole, "reduction": "sum", "learn_rate": 1e-4},
    "until": {"until": lambda _, value: value < 0.05, "project": lambda w: {**w, "a": w["a"].clamp(max=1.9)}},
    "rates": {"learn_rate": np.linspace(0.1, 0.01, 100)},
    "xs": {"loss": weighted, "xs": torch.linspace(0.5, 1.5, 10, dtype=torch.float64), "cycle": True},
    "callback": {"callback": lambda step, _, value: step == 40 and dist_rank() == 0, "callback_every": 20},
    "diverges": {"learn_rate": 1e3},
}


def dist_rank():
    return dist.get_rank() if dist.is_initialized() else 0


def run(name, data, **group):
    options = {"learn_rate": 0.1, "steps": 100, "loss": mean, **CASES[name], **group}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return descend(options.pop("loss"), start(), data, **options)


def said(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "params", None), getattr(error, "steps", None)
    return None


def case(name, data, group):
    rank = dist_rank()
    if name in CASES:
        return run(name, data, group=group)
    if name == "module":
        module = torch.nn.Linear(1, 1, dtype=torch.float64)
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
        columns = tuple(values[:, None] for values in data)
        squares = lambda module, x, y: ((module(x) - y) ** 2).mean()  # noqa: E731
        descend_module(module, squares, columns, learn_rate=0.1, steps=100, group=group)
        return [parameter.detach() for parameter in module.parameters()]
    if name == "other params":
        moved = {key: value + rank for key, value in start().items()}
        return said(lambda: descend(mean, moved, data, learn_rate=0.1, steps=5, group=group))
    if name == "other steps":
        return said(lambda: descend(mean, start(), data, learn_rate=0.1, steps=5 + rank, group=group))
    if name == "cannot begin":
        broken = (lambda w, x, y: w["a"].missing) if rank else mean
        return said(lambda: descend(broken, start(), data, learn_rate=0.1, steps=5, group=group))
    assert name == "killed"

    def die(step, params, value):
        if rank:
            os._exit(9)

    began = time.perf_counter()
    found = said(
        lambda: descend(mean, start(), data, learn_rate=0.1, steps=90, group=group, callback=die, callback_every=30)
    )
    return found, time.perf_counter() - began


if __name__ == "__main__":
    rank, size, file, *names = sys.argv[1:]
    rank, size = int(rank), int(size)
    timeout = datetime.timedelta(seconds=30)
    dist.init_process_group("gloo", init_method=f"file://{file}.store", rank=rank, world_size=size, timeout=timeout)
    share = slice(*SHARES[size][rank : rank + 2])
    found = {name: case(name, (X[share], Y[share]), dist.group.WORLD) for name in names}
    with open(f"{file}.{rank}", "wb") as out:  # noqa: PTH123
        pickle.dump(found, out)
    os._exit(0)  # a rank that was lost is waited for at the end
