"""Samples in dask arrays: read in parts, and summed up by one map-reduce over blocks.

Blocks begin at multiples of a number that does not depend on the arrays' own chunks, and the reduction is exact or a
tree that is the same whatever the chunks are, so that a fit has the bits that it has of a file of the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._arrays import Array, is_dask, is_masked_array, vector
from .._domain import Domain, Mapped, mapped
from .._monitor import unheard
from .chunks import own

AT_ONCE = 2**22
"""Samples that anybody may ask for in one piece: 32 MiB."""

ARITY = 64
"""Results that are merged in one task: a power of 2. Few merges cost less: most results come from other workers."""

STRETCHES = 8
"""Places from which some samples are taken: as many chunks are read, and not all."""


class Chunked:
    """Samples in a dask array, (n,): as much of an array as those who read them in parts ask for.

    Attributes:
        given: the dask array.
        name: what the caller calls it.
        domain: the interval that is mapped to [-1, 1] when samples are read, or None.
    """

    ndim = 1
    flags = SimpleNamespace(c_contiguous=False, writeable=True)

    def __init__(self, given: Any, name: str, domain: Domain | None = None) -> None:
        self.given, self.name, self.domain = given, name, domain
        self.dtype = given.dtype if domain is None else np.dtype(np.float64)
        self.shape, self.size = given.shape, given.size

    def __len__(self) -> int:
        return int(self.size)

    @property
    def lazy(self) -> Any:
        """The samples as they are computed with, a dask array."""
        return mapped(self.given, self.domain)

    def __getitem__(self, part: Any) -> Any:
        wanted = self.lazy[part]
        if wanted.size > AT_ONCE:
            raise ValueError(
                f"{self.name}: a loop over {wanted.size:,} samples wants them in memory, which these dask arrays are "
                f"not: powers or a learn rate leave float64. Scale x or y, lower the degree, or pass "
                f"{self.name}.compute()"
            )
        with unheard():
            return wanted.compute()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def mapped(self, domain: Domain | None) -> Chunked:
        """The same, in the mapped variable."""
        return Chunked(self.given, self.name, domain)

    def mean_square(self, y: Chunked, weights: list[float]) -> float:
        """Of the residuals of y from a polynomial in these, by one pass; its last digits depend on the chunks."""
        x = self.lazy
        values = x * 0.0
        for weight in weights[::-1]:
            values = values * x + weight
        with unheard():
            return float(((y.lazy - values) ** 2).mean().compute())

    def refuse_nonfinite(self, name: str) -> None:
        """Raise ValueError for the first that is NaN or infinite, by one pass."""
        import dask.array as da

        with unheard():
            at = int(da.argmin(da.isfinite(self.lazy)).compute())
        value = self[at]
        if not np.isfinite(value):
            raise ValueError(f"{name}: wants finite numbers, got {name}[{at}] = {value}; leave such samples out")

    def ends(self) -> tuple[Any, Any]:
        """The least and the largest, NaN if one is, by one pass."""
        (found,) = _in_a_tree([self.given], _ends_of, _ends_of_all)
        return tuple(found)


def checked_pair(x: Any, y: Any, small: int, sigma: Any, sample_weight: Any, nan_policy: Any) -> tuple[Any, Any]:
    """x and y, of which one is a dask array at least: both as numpy arrays if they are few, else as `Chunked`.

    Raises:
        TypeError, ValueError: they cannot be meant, or what is wanted needs the samples in memory.
    """
    import dask.array as da

    for value, name in ((sigma, "sigma"), (sample_weight, "sample_weight")):
        if value is not None:
            raise ValueError(f"{name}: is not known to fits of dask arrays; pass x.compute() and y.compute()")
    if nan_policy != "raise":
        way = "keep = ~(da.isnan(x) | da.isnan(y)), then x[keep].compute_chunk_sizes() and so y"
        raise ValueError(f"nan_policy: 'omit' is not known to fits of dask arrays; {way}")
    found = []
    for value, name in ((x, "x"), (y, "y")):
        array = value if is_dask(value) else da.from_array(vector(value, name), chunks="auto")
        if is_masked_array(array._meta):
            raise ValueError(f"{name}: has masked entries; da.ma.filled({name}, np.nan), and leave these samples out")
        if any(np.isnan(size) for size in array.shape):
            raise ValueError(f"{name}: has chunks of unknown size; {name}.compute_chunk_sizes() finds out")
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1 or not array.size:
            way = f"choose one column, {name}[:, 0]; fit_many(x, y.T) fits each column of y"
            raise ValueError(f"{name}: wants a vector or one column, got shape {tuple(array.shape)}; {way}")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name}: wants real numbers, got dtype {array.dtype}; convert it with .astype(float)")
        found.append(array)
    if len(found[0]) != len(found[1]):
        got = f"got {len(found[0])} and {len(found[1])}; cut the longer one, or look at what selected them"
        raise ValueError(f"x and y: want the same number of samples, {got}")
    if len(found[0]) <= small:
        with unheard():
            return tuple(own(np.asarray(one)) for one in da.compute(*found))  # type: ignore[return-value]
    return Chunked(found[0], "x"), Chunked(found[1], "y")


def spread(x: Chunked, y: Chunked, count: int) -> tuple[Array, Array]:
    """About so many samples, in memory: stretches of neighbours from end to end, so that few chunks are read."""
    import dask
    import dask.array as da

    length = max(1, min(count, len(x)) // STRETCHES)
    starts = np.linspace(0, len(x) - length, STRETCHES).astype(int).tolist()
    parts = (da.concatenate([one.given[start : start + length] for start in starts]) for one in (x, y))
    with unheard():
        at, values = dask.compute(*parts)
    return mapped(at, x.domain), mapped(values, y.domain)


def reduced(
    arrays: Sequence[Chunked], block: int, of_blocks: Callable[..., Any], merge: Callable[[list[Any]], Any]
) -> Any:
    """merge(...) of of_blocks(part of each array) over all parts, in a tree of pairs, by dask.

    A part is so many blocks as a power of 2, about as large as the arrays' own chunks, and begins at a multiple of its
    length. `merge` takes ARITY results or fewer. So a tree of pairs is the same whatever the parts are: `of_blocks`
    and `merge` do some levels of it each.
    """
    size = block
    largest = max(max(array.given.chunks[0]) for array in arrays)
    while size * 2 <= largest:
        size *= 2
    pieces = [array.given.rechunk(size) for array in arrays]
    work = partial(_of_samples, of_blocks, [array.domain for array in arrays])
    return own(_in_a_tree(pieces, work, partial(_merged, merge)))


def _in_a_tree(arrays: Sequence[Any], work: Callable[..., Any], join: Callable[[list[Any]], Any]) -> Any:
    """join(...) of work(chunk of each dask array) over all chunks, ARITY results at a time; the chunks must be alike.

    `work` is a blockwise operation, so that dask makes one task of it and of what makes its chunks: samples are read
    where they are wanted, x beside y, and nothing but results is ever kept, sent or spilled.
    """
    import dask
    import dask.array as da

    chunks = [of for array in arrays for of in (array, "i")]
    alike = {"dtype": object, "meta": np.empty(0, object), "align_arrays": False, "adjust_chunks": {"i": lambda _: 1}}
    found = list(da.blockwise(work, "i", *chunks, **alike).to_delayed())
    join = dask.delayed(join, pure=True)
    while len(found) > 1:
        found = [join(found[i : i + ARITY]) for i in range(0, len(found), ARITY)]
    with unheard():
        return found[0].compute()


def _of_samples(of_blocks: Callable[..., Any], domains: Sequence[Domain | None], *pieces: Array) -> Any:
    """What it makes of samples that are mapped when they are read, as those of a file are."""
    read = [np.require(piece, requirements=["ALIGNED"]) for piece in pieces]  # see `own`; these are only read
    return of_blocks(*(x if domain is None else Mapped(x, domain) for x, domain in zip(read, domains, strict=True)))


def _merged(merge: Callable[[list[Any]], Any], found: list[Array]) -> Any:
    return merge([own(one) for one in found])


def _ends_of(x: Array) -> Array:
    """(1, 2): the least and the largest, of its dtype; (0, 2) of no samples."""
    return np.array([[x.min(), x.max()]] if x.size else [], x.dtype).reshape(-1, 2)


def _ends_of_all(found: list[Array]) -> Array:
    """(1, 2), of some of those."""
    return _ends_of(np.concatenate(found))
