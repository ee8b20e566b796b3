"""Files of samples for tests of what reads them.

tests/files/ has one file of each kind, most of them the same 20 samples of 1 + 2 x - x^3.
"""

from pathlib import Path

import numpy as np
import pytest

from fastpoly._cli.reading import Wanted, read_samples

FILES = Path(__file__).parent / "files"
EXACT = np.linspace(-1, 1, 20)
X, Y = np.round(EXACT, 4), np.round(1 + 2 * EXACT - EXACT**3, 4)
ROWS = [f"{x:.4f},{y:.4f}" for x, y in zip(X, Y, strict=True)]


def read(file, **wanted):
    return read_samples(FILES / file, Wanted(**wanted))


def holds(samples, x=X, y=Y):
    """The samples are these, to the last bit."""
    np.testing.assert_array_equal(samples.x.values, x)
    np.testing.assert_array_equal(samples.ys[0].values, y)
    return True


def said(samples):
    return "; ".join(samples.said)


def refusal(file, **wanted):
    with pytest.raises((ValueError, OSError)) as refused:
        read_samples(file if isinstance(file, Path) else FILES / file, Wanted(**wanted))
    told = str(refused.value)
    assert "\n" not in told
    assert "pickle=" not in told
    assert "Errno" not in told
    return told
