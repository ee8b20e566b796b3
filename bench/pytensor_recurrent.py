"""The peer: GARCH's likelihood by PyTensor's scan and its numba linker, a step of descent as one compiled function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
import pytensor.tensor as pt
import recurrent_models


def descent(iterations: int) -> Callable[[int], np.ndarray]:
    """A function of a number of steps that returns their losses. Making it compiles."""
    model = recurrent_models.model("garch", iterations)
    start, data = model.params.numpy(), model.data[0].numpy()
    p, r = pt.vector("p"), pt.vector("r")

    def step(before, now, h, total, p):
        h = p[0] + p[1] * before**2 + p[2] * h
        return h, total + pt.log(h) + now**2 / h

    begin = [pt.constant(1.0, dtype="float64"), pt.constant(0.0, dtype="float64")]
    _, totals = pytensor.scan(
        step, sequences=[r[:-1], r[1:]], outputs_info=begin, non_sequences=[p], return_updates=False
    )
    loss = totals[-1] / (iterations + 1)
    after = p - model.learn_rate * pytensor.grad(loss, p)
    take = pytensor.function([p, r], [after, loss], mode="NUMBA")

    def run(steps: int) -> np.ndarray:
        own, losses = start, np.empty(steps)
        for k in range(steps):
            own, losses[k] = take(own, data)
        return losses

    run(1)
    return run
