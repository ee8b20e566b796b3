"""What does not fit into memory is refused before it is begun, with the number of bytes."""

import pytest
import torch

from fastpoly import _memory, descend

X = torch.ones(2**20, dtype=torch.float64)


def test_what_a_kernel_reads_and_writes(monkeypatch):
    """Two arrays of a million samples, 16 MiB, where 10 MB are free; and not one of them is made."""
    monkeypatch.setattr(_memory, "SMALL_BYTES", 0)
    monkeypatch.setattr(_memory, "available_bytes", lambda: 10_000_000)
    monkeypatch.setattr("fastpoly._fuse.program.put", lambda *_: pytest.fail("begun"))
    message = (
        r"the kernel's arrays of 2,\d+,\d+ numbers take 0\.0 GB \([\d,]+ bytes\) and 0\.0 GB are free; "
        "choose fewer samples"
    )
    with pytest.raises(MemoryError, match=message):
        descend(
            lambda p, x, y: ((p * x - y) ** 2).mean(),
            torch.tensor(0.5, dtype=torch.float64),
            (X, 2 * X),
            learn_rate=0.1,
            steps=10,
            backend="fused",
        )
