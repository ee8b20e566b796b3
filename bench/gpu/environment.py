"""Where this runs: the card, its driver and clocks, the compilers that are there."""

import os
import shutil

from . import card


def units():
    return {"card": of_card, "compilers": compilers}


def of_card():
    import torch

    told = card.asked("driver_version", "clocks.sm", "clocks.max.sm", "power.limit", "memory.total")
    yield {"kind": "card", "name": torch.cuda.get_device_name(), "cuda": torch.version.cuda, **told}


def compilers():
    found = {name: shutil.which(name) is not None for name in ("gcc", "g++", "make", "nvcc")}
    yield {"kind": "machine", "cores": len(os.sched_getaffinity(0)), **found}
