"""What a recorded step computes from constants alone is computed once and for all.

A step that is replayed on a GPU pays for each of its operations in every step; and what it copies to the GPU in every
step (the post makes its exponents on the CPU) could not be captured at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .writes import written

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

_LIKE = {torch.ops.aten.ones_like.default, torch.ops.aten.zeros_like.default, torch.ops.aten.full_like.default}
"""They take a shape from their argument and no value; autograd begins with one of them."""


def hoisted(step: GraphModule, device: torch.device) -> GraphModule:
    """`step`, changed in place: its constant parts are attributes on `device`, and its inputs are not cloned in vain.

    What it returns may be one of its inputs or a view of one, and must be copied before they are overwritten.
    """
    graph = step.graph
    of_its_own = {maker for _, maker in written(graph)}
    _spare_clones(graph, of_its_own)
    values = _constants(step, of_its_own)
    for i, (node, value) in enumerate(values.items()):
        if isinstance(value, torch.Tensor) and any(user not in values for user in node.users):
            name = f"constant_{i}"
            # a number on the CPU would be copied by code that inductor makes, which cannot be captured
            step.register_buffer(name, value.detach().to(device), persistent=False)
            with graph.inserting_before(node):
                constant = graph.get_attr(name)
            constant.meta["val"] = value
            node.replace_all_uses_with(constant, delete_user_cb=lambda user: user not in values)
    graph.eliminate_dead_code()
    graph.lint()
    step.recompile()
    return step


def _constants(step: GraphModule, of_its_own: set[Node]) -> dict[Node, Any]:
    """The nodes that have the same value in every step, and their values; not those that the step writes to."""
    from torch.fx.node import map_arg

    values: dict[Node, Any] = {}
    with torch.no_grad():
        for node in step.graph.nodes:
            if node.op == "get_attr":
                values[node] = getattr(step, str(node.target))
            elif node.op == "call_function" and node not in of_its_own and not _draws(node):
                if node.target in _LIKE:
                    like = node.args[0].meta["val"]
                    given = torch.empty(like.shape, dtype=like.dtype, device=like.device)
                    values[node] = node.target(given, *node.args[1:], **node.kwargs)
                elif all(given in values for given in node.all_input_nodes):
                    args, kwargs = (map_arg(given, values.__getitem__) for given in (node.args, node.kwargs))
                    values[node] = node.target(*args, **kwargs)
    return values


def _spare_clones(graph: Graph, of_its_own: set[Node]) -> None:
    """Take the inputs themselves where the step does not write to their clones."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.clone.default and node.args[0].op == "placeholder" and node not in of_its_own:
            node.replace_all_uses_with(node.args[0])


def _draws(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
