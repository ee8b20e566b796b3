"""The peers of the benchmarks compute what fastpoly computes."""

import ast
from pathlib import Path

JAX = Path(__file__).parents[1] / "bench" / "jax_zoo.py"


def test_jax_multiplies_matrices_in_float32():
    """On a GPU its default for float32 is TF32, which has three digits, and is faster for that."""
    calls = [node for node in ast.walk(ast.parse(JAX.read_text())) if isinstance(node, ast.Call)]
    updates = [[ast.unparse(part) for part in c.args] for c in calls if ast.unparse(c.func) == "jax.config.update"]
    assert ["'jax_default_matmul_precision'", "'highest'"] in updates
