"""Whole numbers that a step counts up and does nothing else with, as BatchNorm does: no kernel need carry them.

Requirements: they are exact after any number of steps, whatever floats a kernel computes with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from .arguments import leaves
from .graph import Graph, Node
from .scan import every

Counts = Mapping[int, int]
"""By how much an input grows in each step, by its place among the inputs."""


def take_counters(graph: Graph) -> None:
    """Leave such numbers as they are, in a graph, and note in its `counts` by how much they would grow."""
    read = leaves(*(node.args for node in every(graph.nodes)), graph.outputs)
    uses = Counter(part for part in read if isinstance(part, Node))
    for place, (node, then) in enumerate(zip(graph.inputs, graph.outputs, strict=False)):
        if then.op not in ("add", "sub") or then.dtype != torch.int64 or then.args[0] is not node:
            continue
        by, times = then.args[1], then.args[2]
        if type(by) is int and type(times) is int and uses[node] == uses[then] == 1:
            graph.counts[place] = by * times if then.op == "add" else -by * times
            graph.outputs[place] = node
            graph.nodes.remove(then)


class Counted:
    """The counters of a run.

    Args:
        counts: how they grow.
        inputs: all that the run begins with.
    """

    def __init__(self, counts: Counts, inputs: Sequence[torch.Tensor]) -> None:
        self._counts = counts
        self._starts = {place: inputs[place].detach().clone() for place in counts}
        self.steps = 0

    def put(self, carried: list[torch.Tensor]) -> list[torch.Tensor]:
        """All that is carried, with the counters as they are after so many `steps`."""
        for place, start in self._starts.items():
            carried[place] = start + self._counts[place] * self.steps
        return carried
