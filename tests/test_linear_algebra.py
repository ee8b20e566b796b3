"""Linear algebra of small matrices: values and gradients of LAPACK's and torch's, alone, in batches and in loops."""

import pytest
import torch
from operation_cases import off, values, values_and_gradients
from torch import linalg

from fastpoly import UnsupportedOperationError, descend, descend_many
from fastpoly._fuse import factorizations, own_operations
from fastpoly._fuse.trace import trace

BACKENDS = ("eager", "fused")
SLOW = pytest.mark.slow
SHAPES = [(4, 4), pytest.param((3, 4, 4), marks=SLOW)]


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def regular(a):
    """A matrix that is far from a singular one; rows are exchanged when it is eliminated."""
    return a + 3 * torch.eye(a.shape[-1], dtype=a.dtype).flip(0)


def definite(a):
    return a @ a.mT + 2 * torch.eye(a.shape[-1], dtype=a.dtype)


def column(a):
    return a[..., :2] + 1


SOLVING = {
    "solve": lambda a: linalg.solve(regular(a), column(a)),
    "solve from the right": lambda a: linalg.solve(regular(a), column(a).mT, left=False),
    "solve for a vector": lambda a: linalg.solve(regular(a), a[..., 0, None])[..., 0],
    "inv": lambda a: linalg.inv(regular(a)),
    "inv of transposed": lambda a: linalg.inv(regular(a).mT),
    "det": lambda a: linalg.det(regular(a)),
    "det of transposed": lambda a: linalg.det(regular(a).mT),
    "slogdet": lambda a: linalg.slogdet(regular(a))[1],
    "logdet": lambda a: torch.logdet(definite(a)),
    "matrix_power": lambda a: linalg.matrix_power(regular(a), -2),
    "solve_triangular": lambda a: linalg.solve_triangular(regular(a.flip(-1)), column(a), upper=True),
    "of a lower triangle": lambda a: linalg.solve_triangular(
        a.flip(-1), column(a).mT, upper=False, left=False, unitriangular=True
    ),
}

FACTORS = {
    "cholesky": lambda a: linalg.cholesky(definite(a)),
    "cholesky, upper": lambda a: linalg.cholesky(definite(a), upper=True),
    "cholesky_inverse": lambda a: torch.cholesky_inverse(linalg.cholesky(definite(a))),
    "cholesky_solve": lambda a: torch.cholesky_solve(column(a), linalg.cholesky(definite(a))),
    "lu_factor": lambda a: linalg.lu_factor(regular(a))[0],
    "lu": lambda a: linalg.lu(regular(a)),
    "lu_solve": lambda a: linalg.lu_solve(*linalg.lu_factor(regular(a)), column(a), adjoint=True),
}

REFLECTED = {
    "both": lambda a: tuple(linalg.qr(a)),
    "of few columns": lambda a: tuple(linalg.qr(a[..., :3])),
    "of few rows": lambda a: tuple(linalg.qr(a[..., :3, :])),
    "by its reflectors": lambda a: linalg.householder_product(a, a[..., 0].sigmoid() / a.shape[-1]),
}
"""Of Q and R."""

SPECTRA = {
    "eigvalsh": lambda a: linalg.eigvalsh(a + a.mT),
    "svdvals": linalg.svdvals,
    "nuclear norm": lambda a: linalg.matrix_norm(a, "nuc"),
    "spectral norm": lambda a: linalg.matrix_norm(a, 2),
    "pinv": lambda a: linalg.pinv(a[..., :3]),
    "matrix_exp": lambda a: linalg.matrix_exp(0.5 * a),
    "cond": lambda a: linalg.cond(regular(a)),
}

VALUES = {
    "qr": lambda a: linalg.qr(a)[0],
    "r": lambda a: linalg.qr(a[..., :3], mode="r")[1],
    "complete q": lambda a: linalg.qr(a[..., :2], mode="complete")[0],
    "geqrf": lambda a: torch.cat([part.flatten() for part in torch.geqrf(a)]),
    "householder_product": lambda a: linalg.householder_product(a, a[..., 0].sigmoid()),
    "ormqr": lambda a: torch.ormqr(a, a[..., 0].sigmoid(), column(a), transpose=True),
    "ormqr from the right": lambda a: torch.ormqr(a, a[..., 0].sigmoid(), column(a).mT, left=False),
    "eigenvectors": lambda a: linalg.eigh(a + a.mT)[1].abs(),
    "singular vectors": lambda a: linalg.svd(a)[0].abs(),
    "all left singular vectors": lambda a: linalg.svd(a[..., :3])[0][..., :3].abs(),
    "right singular vectors": lambda a: linalg.svd(a, full_matrices=False)[2].abs(),
    "lstsq": lambda a: linalg.lstsq(a[..., :3], column(a))[0],
    "residuals": lambda a: linalg.lstsq(a[..., :3], column(a), driver="gelsd")[1],
}
"""Whose gradients write to parts of tensors, or need not be asked for once more."""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "kind",
    [SOLVING, FACTORS, REFLECTED, pytest.param(SPECTRA, marks=SLOW)],
    ids=["solving", "factors", "reflected", "spectra"],
)
def test_values_and_gradients(kind, shape):
    assert off(values_and_gradients(kind), numbers(*shape)) == {}


@SLOW
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)], ids=str)
def test_values(shape):
    for name, case in VALUES.items():
        assert off(values({name: case}), numbers(*shape)) == {}


@SLOW
def test_larger_ones():
    """Rows and columns are loops."""
    cases = {name: (SOLVING | SPECTRA)[name] for name in ("solve", "det", "eigvalsh")}
    assert off(values_and_gradients(cases), numbers(12, 12)) == {}


@SLOW
def test_of_lower_rank():
    """Singular values of 0, and vectors at right angles to the others nevertheless."""
    thin = numbers(5, 2)
    cases = {
        "pinv": lambda a: linalg.pinv(a @ thin.mT),
        "lstsq": lambda a: linalg.lstsq(a @ thin.mT, a)[0],
        "singular values": lambda a: linalg.svdvals(a @ thin.mT),
        "right angles": lambda a: (lambda u: u.mT @ u)(linalg.svd(a @ thin.mT)[0]),
        "of zeros": lambda a: linalg.svd(0 * (a @ thin.mT))[1],
    }
    assert off(values(cases), numbers(5, 2, seed=1)) == {}


@pytest.mark.parametrize("case", [pytest.param("ones and more", marks=SLOW), "graded", "twice the same"])
def test_spectra_that_are_hard(case):
    a = numbers(6, 6)
    a = {
        "ones and more": 1 + 1e-6 * (a + a.mT),
        "graded": (a @ a.mT) * torch.logspace(0, -7, 6).double() * torch.logspace(0, -7, 6).double()[:, None],
        "twice the same": torch.block_diag(a[:3, :3] + a[:3, :3].mT, a[:3, :3] + a[:3, :3].mT),
    }[case]
    cases = {
        "eigvalsh": linalg.eigvalsh,
        "back": lambda a: (lambda w, v: (v * w) @ v.mT)(*linalg.eigh(a)),
        "right angles": lambda a: (lambda v: v.mT @ v)(linalg.eigh(a)[1]),
        "svdvals": linalg.svdvals,
    }
    assert off(values(cases), a) == {}


def test_exponentials_of_large_matrices():
    """They are halved until their series is short, and squared as often."""
    turning = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    cases = {"matrix_exp": lambda a: linalg.matrix_exp(a * turning) + linalg.matrix_exp(-1e-9 * a.abs() * turning)}
    assert off(values_and_gradients(cases), torch.tensor(300.0, dtype=torch.float64)) == {}


def test_a_large_one_is_refused_by_name():
    with pytest.raises(UnsupportedOperationError, match=r"linalg_matrix_exp .*its matrix is 40 x 40"):
        descend(lambda p: linalg.matrix_exp(p[0]).sum(), [numbers(40, 40)], learn_rate=0.1, steps=2, backend="fused")


def test_a_gpu_has_no_loops(monkeypatch):
    """Its kernels have matrices written out alone, row by row."""
    monkeypatch.setattr(own_operations, "DEVICES", frozenset())
    assert off(values({"q": lambda a: linalg.qr(a)[0], "s": linalg.svdvals}), numbers(9, 3)) == {}
    for operation, said in ((linalg.qr, r"linalg_qr .*is 40 x 40"), (linalg.eigh, "linalg_eigh .*more than 16 rows")):
        with pytest.raises(UnsupportedOperationError, match=said):
            descend(lambda p, of=operation: of(p)[1].sum(), numbers(40, 40), learn_rate=0.1, steps=2, backend="fused")


# -- in loops of their own
# ----------------------------------------------------------------------------------------------------


@pytest.fixture
def loops(monkeypatch):
    """For matrices of all sizes."""
    monkeypatch.setattr(factorizations.in_loops, "__defaults__", (1,))
    monkeypatch.setattr(factorizations, "EXCHANGED", 1)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((7, 7), torch.float64),
        ((2, 9, 9), torch.float32),
        pytest.param((2, 1, 17, 17), torch.float64, marks=SLOW),
        pytest.param((45, 45), torch.float64, marks=SLOW),
        pytest.param((3, 70, 70), torch.float64, marks=SLOW),
    ],
    ids=str,
)
def test_loops(shape, dtype):
    """Rows that fill no register, one, or several."""
    cases = SOLVING | FACTORS | REFLECTED
    if dtype == torch.float32 or shape[-1] > 20:  # determinants of these sizes are beyond comparing
        cases = {name: case for name, case in cases.items() if "det" not in name and name != "matrix_power"}
    assert off(values_and_gradients(cases), numbers(*shape).to(dtype)) == {}


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 5), torch.float64), pytest.param((2, 9, 9), torch.float32, marks=SLOW), ((45, 45), torch.float64)],
    ids=str,
)
def test_spectra_in_loops(shape, dtype):
    cases = {name: case for name, case in SPECTRA.items() if name not in ("matrix_exp", "cond")} | {
        "function of a matrix": lambda a: (lambda w, v: (v * w.sin()[..., None, :]) @ v.mT)(*linalg.eigh(a + a.mT)),
        "of few rows": lambda a: linalg.svdvals(a[..., :3, :]),
    }
    vectors = ("eigenvectors", "singular vectors", "all left singular vectors", "right singular vectors", "lstsq")
    assert off(values_and_gradients(cases), numbers(*shape).to(dtype)) == {}
    assert off(values({name: VALUES[name] for name in vectors}), numbers(*shape).to(dtype)) == {}


@pytest.mark.usefixtures("loops")
def test_spectra_in_loops_that_are_hard():
    """Zeros, equal values, far smaller ones, of lower rank, and what is diagonal already."""
    a, thin = numbers(12, 12), numbers(12, 3)
    hard = {
        "zeros": 0 * a,
        "ones and more": 1 + 1e-6 * (a + a.mT),
        "graded": (a @ a.mT) * torch.logspace(0, -7, 12).double() * torch.logspace(0, -7, 12).double()[:, None],
        "twice the same": torch.block_diag(a[:6, :6] + a[:6, :6].mT, a[:6, :6] + a[:6, :6].mT),
        "of lower rank": thin @ thin.mT,
        "exchanging": torch.eye(12, dtype=torch.float64).flip(0),
        "diagonal": torch.diag(a[0]),
        "large and small": 1e150 * (a + a.mT),
    }
    cases = {
        "eigvalsh": linalg.eigvalsh,
        "back": lambda a: (lambda w, v: (v * w) @ v.mT)(*linalg.eigh(a)),
        "right angles": lambda a: (lambda v: v.mT @ v)(linalg.eigh(a)[1]),
        "svdvals": linalg.svdvals,
        "back again": lambda a: (lambda u, s, v: (u * s) @ v)(*linalg.svd(a)),
        "left ones at right angles": lambda a: (lambda u: u.mT @ u)(linalg.svd(a)[0]),
    }
    for name, a in hard.items():
        assert (name, off(values(cases), a)) == (name, {})
    thin = numbers(50, 2)
    lower = {
        "pinv": linalg.pinv,
        "pinv of a symmetric one": lambda a: linalg.pinv(a @ a.mT, hermitian=True),
        "lstsq": lambda a: linalg.lstsq(a, a[:, :2])[0],
    }
    assert off(values(lower), thin @ numbers(2, 50, seed=1)) == {}


@pytest.mark.usefixtures("loops")
def test_reflectors():
    """With what LAPACK keeps of them, and of matrices whose columns have nothing below the diagonal."""
    cases = {name: VALUES[name] for name in ("r", "complete q", "geqrf", "ormqr", "ormqr from the right")}
    assert off(values(cases), numbers(2, 9, 9)) == {}
    assert off(values(cases), numbers(9, 9).triu()) == {}


@pytest.mark.usefixtures("loops")
def test_rows_that_are_exchanged():
    """The largest of a column comes first, and the first of those that are equal."""
    a = torch.tensor([[0.0, 1, 2], [-2, 1, 1], [2, 0, 3]], dtype=torch.float64)
    cases = {"lu": lambda a: linalg.lu_factor(a)[0], "from the right": lambda a: linalg.solve(a, a[:2] + 1, left=False)}
    assert off(values(cases), torch.block_diag(a, a.flip(0), a.mT + 1)) == {}


@pytest.mark.usefixtures("loops")
def test_a_triangle_is_all_that_is_read():
    def lower(a):
        return torch.where(torch.ones_like(a).tril() > 0, a, torch.nan)

    cases = {
        "cholesky": lambda a: linalg.cholesky(lower(a)),
        "a column": lambda a: linalg.solve_triangular(lower(a), a[:, :1], upper=False),
        "rows": lambda a: linalg.solve_triangular(lower(a).mT, a, upper=True),
    }
    assert off(values(cases), definite(numbers(12, 12))) == {}


def test_in_a_loop_over_time():
    """A filter that solves with its covariance at every step."""
    one = torch.eye(9, dtype=torch.float64)

    def loss(w, y):
        mean, cov, total = torch.zeros(9, dtype=y.dtype), one, 0.0
        for row in y:
            lower, off = linalg.cholesky(cov + w[0].exp() * one), row - mean
            gain = torch.cholesky_solve(cov, lower)
            total = total + off @ off + lower.diagonal().log().sum()
            mean, cov = 0.9 * (mean + gain @ off), 0.8 * (cov - gain @ cov) + w[1].exp() * one
        return total

    start = torch.tensor([0.1, -0.2], dtype=torch.float64)
    eager, fused = (descend(loss, start, numbers(8, 9), learn_rate=1e-4, steps=5, backend=b) for b in BACKENDS)
    assert torch.allclose(eager.params, fused.params, rtol=1e-9, atol=0)


@pytest.mark.parametrize("log_det", [linalg.slogdet, lambda a: (0, 2 * linalg.cholesky(a).diagonal().log().sum())])
def test_many_problems(log_det):
    """Each in a lane; where they exchange rows, one after the other."""

    def loss(w, x, y):
        cov = w[0].exp() * torch.exp(-((x[:, None] - x) ** 2)) + w[1].exp() * torch.eye(10, dtype=x.dtype)
        white = linalg.solve_triangular(linalg.cholesky(cov), y[:, None], upper=False)
        return white.square().sum() + log_det(cov)[1]

    start, x, y = numbers(5, 2), numbers(10, seed=1), numbers(5, 10, seed=2)
    many = descend_many(loss, start, (x, y), in_dims=(0, None, 0), learn_rate=1e-3, steps=6)
    for at in range(5):
        alone = descend(loss, start[at], (x, y[at]), learn_rate=1e-3, steps=6, backend="fused")
        assert torch.allclose(many.params[at], alone.params, rtol=1e-10, atol=0)


def test_what_is_not_definite_ends_the_run():
    """Eager torch refuses it for its value: the kernel stops there, and torch says so."""
    start = [torch.tensor([1.0, 0.5], dtype=torch.float64)]
    for backend in ("eager", "fused"):
        with pytest.raises(linalg.LinAlgError, match="not positive-definite"):
            descend(lambda p: linalg.cholesky(torch.diag(p[0])).sum(), start, learn_rate=1.0, steps=4, backend=backend)


def test_small_constants_of_another_dtype():
    """A gradient of det's chooses between constants that torch makes in float32: they are as good in float64."""
    cases = {"det": lambda a: linalg.det(a), "where": lambda a: torch.where(a > 0, 0.5, 0.25) * a}
    assert off(values_and_gradients(cases), numbers(3, 3)) == {}


ALL = SOLVING | FACTORS | REFLECTED | SPECTRA | VALUES


@pytest.mark.parametrize("size", [3, pytest.param(10, marks=SLOW)])
@pytest.mark.parametrize("shape", [(), (2,)], ids=str)
def test_what_lies_in_memory_as_in_eager_torch(shape, size):
    """It decides what is a view: whoever writes to one changes the other."""
    a, found = numbers(*shape, size, size) + 2 * torch.eye(size), []
    cases = ALL if size == 3 else SOLVING | FACTORS | REFLECTED

    def note(a):
        results = (case(a) for case in cases.values())
        parts = [part for of in results for part in (of if isinstance(of, (tuple, list)) else (of,))]
        found.append([(part.shape, part.stride()) for part in parts])
        return a, [part.sum() for part in parts]

    note(a)
    trace(lambda leaves: note(*leaves)[1], [a], {})
    eager, fused = found
    assert eager == fused


@pytest.mark.parametrize("size", [3, 9])
def test_a_write_beside_a_copy(size):
    """What `solve` gives lies column by column: in one row of numbers it is a copy."""

    def loss(w, x):
        found = linalg.solve(x + w * torch.eye(size, dtype=x.dtype), x[:, :2]) * 1.0
        flat = found.reshape(-1)
        found += w
        return (found * flat.mean()).square().sum()

    start, x = torch.tensor(4.0, dtype=torch.float64), numbers(size, size)
    eager, fused = (descend(loss, start, x, learn_rate=1e-3, steps=4, backend=backend) for backend in BACKENDS)
    assert torch.allclose(eager.loss, fused.loss, rtol=1e-12, atol=0)
