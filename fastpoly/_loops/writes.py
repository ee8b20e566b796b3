"""Which tensors the operations of a recorded step write to."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.fx import Graph, Node


def written(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Each operation that writes, and the node that made the tensor to which it does, or of which that is a view."""
    from torch.fx import Node
    from torch.utils import _pytree as tree

    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        for i, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
                yield from ((node, _maker(leaf)) for leaf in tree.tree_leaves(given) if isinstance(leaf, Node))


def _maker(node: Node) -> Node:
    while _is_view(node):
        node = node.all_input_nodes[0]
    return node


def _is_view(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if node.target in (operator.getitem, torch.ops.aten._unsafe_view.default):
        return True
    schema: Any = getattr(node.target, "_schema", None)
    return schema is not None and any(returned.alias_info for returned in schema.returns)
