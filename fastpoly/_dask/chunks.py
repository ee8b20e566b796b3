"""A function of many problems, applied to chunks of them when somebody asks for what it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .._arrays import Array, is_dask, is_tensor

Kind = tuple[tuple[int, ...], Any]
"""The shape of what a problem has, and its dtype."""


def chunks_of(rows: Iterable[Any]) -> tuple[int, tuple[int, ...]]:
    """How many problems there are, and how many in each chunk, by the first dask array."""
    lazy = next(one for one in rows if is_dask(one))
    if any(np.isnan(size) for size in lazy.shape):
        raise ValueError("chunks: are of unknown size; .compute_chunk_sizes() finds out")
    if not len(lazy):
        raise ValueError("chunks: there are no problems: the axis has no rows; pass one at least")
    return len(lazy), tuple(size for size in lazy.chunks[0] if size)


def by_chunks(
    function: Callable[..., Sequence[Array]], rows: Sequence[Any], chunks: tuple[int, ...], outputs: Sequence[Kind]
) -> list[Any]:
    """function(*chunks of the rows) for each chunk of problems: a lazy array for each of its results.

    Args:
        function: takes arrays with the problems first, returns as many arrays as there are outputs. It is pickled, with
            all that it holds.
        rows: arrays of dask, numpy or torch.
        chunks: how many problems are in each.
        outputs: what a problem gets.
    """
    import dask.array as da

    counted = da.arange(sum(chunks), chunks=(chunks,))
    given = [_in_rows(one, chunks) for one in rows]
    letters = (f"d{i}" for i in range(2**20))
    takes = ["(" + ",".join(next(letters) for _ in one.shape[1:]) + ")" for one in (counted, *given)]
    lengths = [{next(letters): size for size in shape} for shape, _ in outputs]
    made = da.apply_gufunc(
        partial(_of_a_chunk, function),
        ",".join(takes) + "->" + ",".join("(" + ",".join(one) + ")" for one in lengths),
        counted,
        *given,
        output_dtypes=[np.dtype(dtype) for _, dtype in outputs],
        output_sizes={name: size for one in lengths for name, size in one.items()},
    )
    return [made] if len(outputs) == 1 else list(made)


def _in_rows(rows: Any, chunks: tuple[int, ...]) -> Any:
    """What problems have each for themselves as a dask array with these chunks of problems."""
    import dask.array as da

    if is_dask(rows):
        return rows.rechunk((chunks, *((size,) for size in rows.shape[1:])))
    array = rows.detach().cpu().numpy() if is_tensor(rows) else np.asarray(rows)
    return da.from_array(array, chunks=(chunks, *((size,) for size in array.shape[1:])))


def _of_a_chunk(function: Callable[..., Sequence[Array]], counted: Array, *rows: Array) -> Any:
    """The function of a chunk; what it raises says of which problems."""
    try:
        found = tuple(function(*map(own, rows)))
    except (TypeError, ValueError) as error:
        raise type(error)(f"problems {counted[0]} to {counted[-1]}, counted from 0 here: {error}") from error
    return found[0] if len(found) == 1 else found


def own(rows: Array) -> Array:
    """An array that may have come from another process, as one made here.

    Such arrays cannot be written to, of which torch warns, and may lie at odd addresses, where numpy computes in other
    ways, so that last digits differ.
    """
    return np.require(rows, requirements=["ALIGNED", "WRITEABLE"])


def refuse_lengths(count: int, rows: dict[str, Any]) -> None:
    """Raise ValueError unless each of these has a row for each problem."""
    for name, one in rows.items():
        if len(one) != count:
            raise ValueError(f"{name}: wants a row for each of {count:,} problems, got {len(one):,}; look at .T")
