"""Sequences of several lengths packed into one tensor, as torch.nn.utils.rnn does: which row is which step of which.

Packed are the first steps of all sequences, then the second steps of those that have one, and so on; longer sequences
stand before shorter ones. How many have each step is known when a loss is traced, so that packing and unpacking are
lookups at known places, and a layer goes through all sequences as if they were of one length (`recurrent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Steps:
    """Which sequences have which steps.

    Args:
        counts: how many sequences have each step.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = counts
        self.rows = [(time, one) for time, count in enumerate(counts) for one in range(count)]

    @classmethod
    def of(cls, batch_sizes: Any) -> Steps:
        """As torch tells them, in a tensor that does not change."""
        return cls([int(count) for count in batch_sizes])

    @property
    def width(self) -> int:
        """How many sequences there are."""
        return self.counts[0]

    def packed(self, padded: Any) -> Any:
        """(rows, ...): of (times, width, ...)."""
        places = [time * padded.shape[1] + one for time, one in self.rows]
        return padded.flatten(0, 1).index_select(0, torch.tensor(places, device=padded.device))

    def padded(self, packed: Any, value: float = 0.0, times: int | None = None) -> Any:
        """(times, width, ...): of (rows, ...), with a value where there is nothing."""
        places = {row: at for at, row in enumerate(self.rows)}
        size = len(self.counts) if times is None else times
        order = [places.get((time, one), len(places)) for time in range(size) for one in range(self.width)]
        whole = torch.cat([packed, torch.full_like(packed[:1], value)])
        found = whole.index_select(0, torch.tensor(order, device=packed.device))
        return found.reshape(size, self.width, *found.shape[1:])

    def are_there(self, device: Any) -> torch.Tensor:
        """(times, width, 1): has a sequence that step?"""
        counts = torch.tensor(self.counts, device=device)
        return (torch.arange(self.width, device=device) < counts[:, None])[..., None]


def pack(padded: Any, lengths: Any, batch_first: bool) -> Any:
    """(packed, how many sequences have each step), as torch has them."""
    padded = padded.transpose(0, 1) if batch_first else padded
    of = [int(length) for length in lengths]
    are_good = (
        of and len(of) == padded.shape[1] and of == sorted(of, reverse=True) and 0 < of[-1] <= of[0] <= len(padded)
    )
    if not are_good:
        return NotImplemented  # torch says what it wants
    counts = [sum(length > time for length in of) for time in range(of[0])]
    return Steps(counts).packed(padded), torch.tensor(counts)


def pad_packed(packed: Any, batch_sizes: Any, batch_first: bool, value: float, total: int) -> Any:
    """(padded, lengths), as torch has them."""
    steps = Steps.of(batch_sizes)
    if 0 < total < len(steps.counts):
        return NotImplemented
    padded = steps.padded(packed, value, total if total > 0 else None)
    lengths = [sum(count > one for count in steps.counts) for one in range(steps.width)]
    return padded.transpose(0, 1) if batch_first else padded, torch.tensor(lengths)
