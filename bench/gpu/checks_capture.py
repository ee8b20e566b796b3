"""A capture that fails, in a process of its own: up to torch 2.12 the allocator is left in the state of capturing."""

import torch

from fastpoly import UnsupportedOperationError, descend
from fastpoly._loops import capture

from . import card
from .book import NotMeasured


def units():
    return {"a capture that fails, and the next loop": fails}


def fails():
    if card.EMULATED:
        raise NotMeasured("the emulated card captures nothing")
    x = torch.tensor([1.0, -1.0, 2.0], device="cuda")
    try:
        capture.CudaCapture(x.device)(lambda: x.sum().item())
    except UnsupportedOperationError as error:
        print(error)
    else:
        raise AssertionError("it was captured")
    result = descend(lambda w: (w**2).sum(), x, learn_rate=0.1, steps=50, backend="cudagraph")
    assert result.loss[-1] < 1e-3 * result.loss[0], "the loop that followed did not descend"
    torch.rand(3, device="cuda")
