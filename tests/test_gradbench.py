"""GradBench's problems: fused, and right; and the tool that speaks its protocol."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradbench.problems import PROBLEMS
from gradbench.tool import EVALS, READ, answer
from torch.utils import _pytree as tree

from fastpoly import value_and_grad

SMALL = {
    "lse": (250,),
    "llsq": (16, 12),
    "det": (4,),
    "gmm": (40, 3, 4),
    "kmeans": (3, 50, 4),
    "ode": (40, 12),
    "lstm": (2, 12),
    "ba": (13,),
    "ht": (20,),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_fused_and_right(name):
    problem = PROBLEMS[name]
    params, data = problem.inputs(*SMALL.get(name, ()))
    found, wanted = (
        tree.tree_leaves(value_and_grad(problem.loss, has_aux=problem.has_aux, backend=backend)(params, *data))
        for backend in ("fused", "eager")
    )
    for got, want in zip(found, wanted, strict=True):
        scale = float(want.abs().max()) or 1.0
        torch.testing.assert_close(got / scale, want / scale, rtol=1e-9, atol=1e-9)


INPUTS = {
    "hello": 3.0,
    "lse": {"x": [0.1, 0.5, 2.0]},
    "llsq": {"x": [0.1, 0.2, -0.3], "n": 5},
    "det": {"A": [2.0, 1.0, 0.5, 3.0], "ell": 2},
    "gmm": {
        "alpha": [0.1, 0.2],
        "mu": [[0.0, 1.0], [1.0, 0.0]],
        "q": [[0.1, 0.2], [0.3, 0.4]],
        "l": [[0.5], [0.6]],
        "x": [[0.3, 0.4], [0.5, 0.1], [0.9, 0.8]],
        "gamma": 1.0,
        "m": 0,
    },
    "kmeans": {"points": [[0.0, 0.1], [1.0, 0.9], [0.2, 0.1]], "centroids": [[0.0, 0.0], [1.0, 1.0]]},
    "ode": {"x": [0.1, 0.2, 0.3], "s": 3},
    "lstm": {
        "main_params": [[0.1] * 8, [0.2] * 8],
        "extra_params": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]],
        "state": [[0.0, 0.1], [0.2, 0.3]],
        "sequence": [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]],
    },
}


@pytest.mark.parametrize(("module", "function"), EVALS)
def test_the_tool_answers_what_torch_does(module, function):
    message = {"id": 3, "kind": "evaluate", "module": module, "function": function, "input": INPUTS[module]}
    response = answer(message)
    assert response["success"], response
    assert len(response["timings"]) == 1
    problem = PROBLEMS[module]
    params, data = READ[module](INPUTS[module])
    result = value_and_grad(problem.loss, has_aux=problem.has_aux, backend="eager")(params, *data)
    which, told = EVALS[module, function]
    wanted = tree.tree_leaves(told(result[which]))
    assert tree.tree_leaves(response["output"]) == pytest.approx(wanted, rel=1e-10, abs=1e-12)


def test_the_tool_as_a_process():
    messages = [
        {"id": 0, "kind": "start", "eval": "hello"},
        {"id": 1, "kind": "define", "module": "hello"},
        {"id": 2, "kind": "evaluate", "module": "hello", "function": "double", "input": 3.0},
        {"id": 3, "kind": "define", "module": "nothing"},
        {"id": 4, "kind": "evaluate", "module": "lse", "function": "primal", "input": {"y": []}},
        {"id": 5, "kind": "analysis", "of": 2, "valid": True},
    ]
    tool = Path(__file__).parent / "gradbench" / "tool.py"
    process = subprocess.run(
        [sys.executable, str(tool)],
        input="".join(json.dumps(message) + "\n" for message in messages),
        capture_output=True,
        text=True,
        check=True,
    )
    responses = [json.loads(line) for line in process.stdout.splitlines()]
    assert [response["id"] for response in responses] == [0, 1, 2, 3, 4, 5]
    assert responses[0]["tool"] == "fastpoly"
    assert responses[1]["success"]
    assert responses[2]["output"] == 6.0
    assert not responses[3]["success"]
    assert not responses[4]["success"]
    assert "KeyError" in responses[4]["error"]
