"""Constant linear maps, learnt from torch's operation: the matrices that they are, and no larger than need be."""

import pytest
import torch
import torch.nn.functional as F

from fastpoly import descend
from fastpoly._fuse.linear_maps import SHORT, LinearMap, map_of

SIZES = [SHORT - 1, SHORT + 1, 500]

OPERATIONS = {
    "itself": lambda a: a,
    "reflected": lambda a: F.pad(a, (200, 17), mode="reflect"),
    "replicated": lambda a: F.pad(a, (3, 90), mode="replicate"),
    "nearest": lambda a: F.interpolate(a[None], 777, mode="nearest")[0],
    "nearest of fewer": lambda a: F.interpolate(a[None], 60, mode="nearest-exact")[0],
    "linear": lambda a: F.interpolate(a[None], 999, mode="linear")[0],
    "linear with corners": lambda a: F.interpolate(a[None], 350, mode="linear", align_corners=True)[0],
    "cubic": lambda a: F.interpolate(a[None, :, None], (1, 800), mode="bicubic")[0, :, 0],
    "fewer, of all": lambda a: F.interpolate(a[None, :, None], (1, 40), mode="bicubic", antialias=True)[0, :, 0],
    "averages": lambda a: F.avg_pool1d(a[None], 37, 5, 3)[0],
    "averages of parts": lambda a: F.adaptive_avg_pool1d(a[None], 31)[0],
    "of nothing": lambda a: 0.0 * a[:, :5],
    "of all": lambda a: a.cumsum(1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_map_is_the_operations_matrix(operation, size, dtype):
    matrix = operation(torch.eye(size, dtype=dtype)).t()
    found = map_of(matrix, size, operation)
    assert found.matrix().shape == matrix.shape
    torch.testing.assert_close(found.matrix(), matrix, rtol=0, atol=1e-15 if dtype == torch.float64 else 1e-6)
    assert torch.equal(found.matrix() != 0, matrix != 0)
    assert torch.equal(found.turned().matrix(), found.matrix().t())
    assert found.is_identity() == (matrix.shape == (size, size) and torch.equal(matrix, torch.eye(size, dtype=dtype)))
    assert torch.equal(LinearMap.of_matrix(matrix).matrix(), matrix)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "linear"])
def test_long_vectors(mode):
    """Whose unit vectors would be 80 GB."""
    start = torch.sin(torch.arange(100_000, dtype=torch.float64)).reshape(1, 1, -1)

    def loss(p):
        q = F.interpolate(p, scale_factor=1.5, mode=mode) if mode == "linear" else F.pad(p, (5, 7), mode=mode)
        return (q[..., 1:] - q[..., :-1]).square().sum()

    found, wanted = (descend(loss, start, (), learn_rate=0.1, steps=2, backend=name) for name in ("fused", "eager"))
    torch.testing.assert_close((found.params, found.loss), (wanted.params, wanted.loss), rtol=1e-12, atol=1e-12)
