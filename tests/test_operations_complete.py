"""No operation of the fuser's tables is without a case; see `operation_cases`."""

import pytest
from test_elementwise import ELEMENTWISE, elementwise
from test_operations import (
    ALONG_ONE,
    PRODUCTS,
    REDUCTIONS,
    VIEWS,
    along_an_axis,
    of_everything,
    reductions,
    views,
    with_params,
)
from test_torch_losses import CONSTANTS, DERIVATIVES, LOSSES
from torch.utils import _pytree as tree

from fastpoly._fuse.operations import OPERATIONS
from fastpoly._fuse.trace import trace

pytestmark = pytest.mark.slow  # some two hundred kernels to compile: make test-all


# -- and none is forgotten
# ----------------------------------------------------------------------------------------

UNDER_ANOTHER_NAME = {"square"}
"""What this version of torch calls something else before the tracer sees it."""


def every_step():
    yield from (elementwise(kind) for kind in ELEMENTWISE)
    yield from (reductions(kind, "(4, 3)") for kind in REDUCTIONS)
    yield of_everything("(4, 3)")
    yield from (along_an_axis(kind, "(4, 3)") for kind in ALONG_ONE)
    yield from (with_params(cases) for cases in (*PRODUCTS.values(), *LOSSES.values(), CONSTANTS, DERIVATIVES))
    yield from (views(kind, "short") for kind in VIEWS)


def operations(step, carry):
    """The names of the operations in the graph of a step."""
    leaves, structure = tree.tree_flatten(carry)

    def flat(own):
        return tree.tree_leaves(step(tree.tree_unflatten(own, structure))[1])

    return {node.op for node in trace(flat, leaves, {}).nodes}


def test_no_operation_of_the_tables_is_forgotten():
    traced = set().union(*(operations(step, carry) for step, carry in every_step()))
    assert set(OPERATIONS) - traced == UNDER_ANOTHER_NAME
