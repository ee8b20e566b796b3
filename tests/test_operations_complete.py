"""No operation of the fuser's tables is without a case; see `operation_cases`."""

import pytest
import torch
from operation_cases import values
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

ELSEWHERE = {"fastpoly::uniform", "fastpoly::uniform_double", "rounded"}
"""What has tests of its own: `test_draws`, and `test_mixed_dtypes`."""


IN_TURNS = {
    "solve": lambda a: torch.linalg.solve(a, a[:, :2]),
    "cholesky": lambda a: torch.cholesky_solve(a, torch.linalg.cholesky(a)),
    "qr": lambda a: torch.linalg.qr(a)[0],
    "eigh": lambda a: torch.linalg.eigvalsh(a),
    "svd": lambda a: torch.linalg.svdvals(a),
    "sort": lambda a: a.flatten().sort().values,
    "put": lambda a: torch.zeros_like(a).flatten().scatter(0, a.flatten().argsort(), a.flatten()),
    "put_add": lambda a: a.flatten().scatter_add(0, a.flatten().argsort(), a.flatten()),
}
"""Large enough for loops of their own."""


def every_step():
    yield from (elementwise(kind) for kind in ELEMENTWISE)
    yield from (reductions(kind, "(4, 3)") for kind in REDUCTIONS)
    yield of_everything("(4, 3)")
    yield from (along_an_axis(kind, "(4, 3)") for kind in ALONG_ONE)
    yield from (with_params(cases) for cases in (*PRODUCTS.values(), *LOSSES.values(), CONSTANTS, DERIVATIVES))
    yield from (views(kind, "short") for kind in VIEWS)
    yield values(IN_TURNS), 3 * torch.eye(9, dtype=torch.float64)


def operations(step, carry):
    """The names of the operations in the graph of a step."""
    leaves, structure = tree.tree_flatten(carry)

    def flat(own):
        return tree.tree_leaves(step(tree.tree_unflatten(own, structure))[1])

    return {node.op for node in trace(flat, leaves, {}).nodes}


def test_no_operation_of_the_tables_is_forgotten():
    traced = set().union(*(operations(step, carry) for step, carry in every_step()))
    assert set(OPERATIONS) - traced == UNDER_ANOTHER_NAME | ELSEWHERE
