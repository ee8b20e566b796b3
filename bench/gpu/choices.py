"""What backend="auto" takes for each larger loss, by the number of steps. The run is ended by Ctrl-C after a second."""

import os
import signal
import threading
import warnings
from contextlib import contextmanager

from fastpoly import Interrupted, descend

from . import card
from .book import NotMeasured
from .larger import NAMES, named
from .measure import on_gpu

STEPS = card.full((100, 10_000, 1_000_000), (4,))


def units():
    return {f"{name}, {steps:,} steps": lambda n=name, s=steps: of(n, s) for name in NAMES for steps in STEPS}


def of(name, steps):
    loss = named(name)
    params, data = on_gpu((loss.params, loss.data))
    with warnings.catch_warnings(), interrupted_after(1.0):
        warnings.simplefilter("ignore")
        try:
            result = descend(loss.loss, params, data, learn_rate=loss.rate, steps=steps, trace_every=None)
        except Interrupted as end:
            result = end.partial
        except KeyboardInterrupt:
            raise NotMeasured("it was still compiling after a second") from None
    yield {"kind": "choice", "model": name, "steps": steps, "took": result.backend}


@contextmanager
def interrupted_after(seconds):
    """As by Ctrl-C: a run that hears it keeps what it has."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
