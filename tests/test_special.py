"""Special functions over all of their range, against scipy's; their gradients are in `test_elementwise`."""

import numpy as np
import pytest
import torch
from operation_cases import values
from scipy import special

from fastpoly import scan

RANGES = {
    "i0": (torch.i0, special.i0, np.linspace(-50, 50, 1001)),
    "i0e": (torch.special.i0e, special.i0e, np.linspace(-500, 500, 1001)),
    "i1": (torch.special.i1, special.i1, np.linspace(-50, 50, 1001)),
    "i1e": (torch.special.i1e, special.i1e, np.linspace(-500, 500, 1001)),
    "digamma": (torch.digamma, special.digamma, np.linspace(0.01, 60, 1001)),
    "digamma of negative numbers": (torch.digamma, special.digamma, np.linspace(-20, -0.01, 1000) + 0.003),
    "erfinv": (torch.erfinv, special.erfinv, np.linspace(-0.99, 0.99, 1001)),
    "ndtri": (torch.special.ndtri, special.ndtri, np.linspace(0.001, 0.999, 999)),
    "ndtri of small numbers": (torch.special.ndtri, special.ndtri, np.logspace(-300, -1, 1000)),
    "polygamma": (lambda x: torch.polygamma(3, x), lambda x: special.polygamma(3, x), np.linspace(0.01, 60, 1001)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RANGES)
def test_values(name):
    function, wanted, x = RANGES[name]
    (got,) = scan(values({name: function}), torch.from_numpy(x), (), 1, backend="fused")[1][name]
    want = wanted(x)
    # near a zero of the function what rounds is the argument
    assert (np.abs(got[0].numpy() - want) / np.maximum(np.abs(want), 1)).max() < 2e-14
