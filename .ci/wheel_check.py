"""Fit the post's problem with the installed wheel, numpy and llvmlite alone."""

import importlib.util
import subprocess
import sys
from importlib.metadata import files

import numpy as np

import fastpoly

for absent in ("torch", "triton", "typer", "rich", "matplotlib", "numba", "sklearn", "pytest"):
    assert importlib.util.find_spec(absent) is None, f"{absent} is installed: this is no clean environment"

x = np.linspace(0, 5, 100).reshape(-1, 1)
y = np.sin(x)
result = fastpoly.train(x, y)
assert np.abs(result["w"].ravel() - [0.31165126, 0.37640169, 0.26351294, -0.21930896, 0.0283497]).max() < 2e-7
assert [f"{mse:.8f}" for mse in result["mseTrace"][-3:]] == ["0.00790985", "0.00790982", "0.00790979"]
assert abs(fastpoly.fit(x, y, 4, 200_000, 1e-5, domain=None).weights[2] - 0.26365935012822258) < 1e-9

reasons = {backend.name: backend.unavailable for backend in fastpoly.backends()}
assert reasons["numba"] is None
assert "pip install 'fastpoly[torch]'" in reasons["torch"]

command = subprocess.run([sys.executable, "-m", "fastpoly"], capture_output=True, text=True)
assert command.returncode == 2
assert command.stderr == "fastpoly: the command line needs typer; pip install 'fastpoly[cli]'\n"

shipped = {str(path) for path in files("fastpoly")}
assert {"fastpoly/py.typed", "fastpoly_kernels/py.typed"} <= shipped
assert not [path for path in shipped if path.startswith(("tests", "bench", "kernels"))]
print(f"the wheel of fastpoly {fastpoly.__version__} fits the post's problem in {result['seconds']:.3f} s")
