"""What tracing a loss with a loop in Python takes: `python bench/tracing.py [steps]` prints microseconds a node."""

import sys
import time

import recurrent_models
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from fastpoly._fuse.trace import trace


def step_of(loss, data, structure):
    """As `descend` makes it."""

    def step(tensors):
        own = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            value = loss(tree_unflatten(own, structure), *data)
            gradients = torch.autograd.grad(value, own)
        return [*(p.detach() - 0.01 * d for p, d in zip(own, gradients, strict=True)), value.detach()]

    return step


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for name in ("garch", "lotka_volterra", "kalman", "hmm", "rnn"):
        model = recurrent_models.model(name, steps)
        start, structure = tree_flatten(model.params)
        step = step_of(model.loss, model.data, structure)
        seconds = []
        for _ in range(3):
            began = time.process_time()
            graph = trace(step, start, {})
            seconds.append(time.process_time() - began)
        nodes, least = len(graph.nodes), min(seconds)
        print(f"{name:15} {nodes:7,} nodes {least:6.2f} s {least / nodes * 1e6:5.1f} us a node", flush=True)
