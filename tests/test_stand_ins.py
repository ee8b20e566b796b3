"""The first trace of a process imports neither torch's compiler nor sympy, and leaves both as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys

import pytest
import torch
from fastpoly import descend
before = {{"torch._dynamo", "sympy"}} & set(sys.modules)

def loss(p, x):
    h = torch.nn.functional.softplus(torch.nn.functional.linear(x, *p))
    return torch.nn.functional.mse_loss(torch.nn.functional.gelu(h), x[:, :1]) + h.var(unbiased=False)

start = [torch.ones(1, 2), torch.ones(1)]
run = descend(loss, start, torch.ones(8, 2), learn_rate=0.01, steps=3, backend="fused")
print(sorted(({{"torch._dynamo", "sympy"}} & set(sys.modules)) - before))
{more}
"""


def printed(more=""):
    code = CODE.format(more=more)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_nothing_is_imported():
    assert printed() == ["[]"]


@pytest.mark.slow
def test_torchs_compiler_works_afterwards():
    more = """
import sympy
print(sympy.Symbol("x") + 1)
print(torch.compile(lambda a: torch.nn.functional.gelu(a) + 1, backend="eager")(torch.zeros(2)).tolist())
import torch._dynamo
print(torch._dynamo.disable is not None, torch._dynamo.__file__.endswith("__init__.py"))
again = descend(loss, start, torch.ones(8, 2), learn_rate=0.01, steps=3, backend="fused")
print(again.loss.tolist() == run.loss.tolist())
"""
    assert printed(more) == ["[]", "x + 1", "[1.0, 1.0]", "True True", "True"]


def test_a_stand_in_gives_way():
    more = """
from fastpoly._fuse.stand_ins import stand_ins
with stand_ins():
    import sympy
    print(type(sympy).__name__)
    from sympy.core import Symbol  # wants the package
    print(Symbol("y"), type(sys.modules["sympy"]).__name__)
    with stand_ins():
        import torch._dynamo
        print(torch._dynamo.is_compiling())
print(type(sys.modules["torch._dynamo"]).__name__)
"""
    assert printed(more) == ["[]", "_StandIn", "y module", "False", "module"]


@pytest.mark.parametrize("name", ["factors", "filled", "quantiles"])
def test_nor_do_the_losses_of_others(name):
    """What is looked up, written into and sorted."""
    code = f"""
import sys
from loop_models import model
from fastpoly import descend
one = model({name!r}, small=True)
descend(one.loss, one.params, one.data, learn_rate=one.learn_rate, steps=3, backend="fused")
print(sorted({{"torch._dynamo", "sympy"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1] / "bench",
    )
    assert done.stdout == "[]\n"
