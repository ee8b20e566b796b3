"""How many registers of samples one turn of the loops takes: one, two or four.

More of them share what is the same for all samples, and fill the time in which one would wait for its own results: an
addition or a product takes four cycles, an elementary function a hundred, and two instructions can begin in each. But
sums then take as many registers more, and the samples must not leave much of the last turn empty.
"""

from __future__ import annotations

from .plan import LONG_TURN
from .schedule import Schedule

TURN = 36
"""Operations on a register of samples from which four pay, where four can be; see `registers_at_a_time`."""

SHORT_TURN = 25
"""Operations up to which two pay, where four can be: what keeps a sum waiting then is the one before."""

WRITTEN_OUT = 16
"""Registers of samples up to which LLVM writes out the whole loop by itself, if its turns are no longer than that."""

FEW_SUMS = 12
"""Beyond, two registers are slower than one: most sums lie in memory, and every turn moves them there and back."""

EMPTY = 6
"""At most one register in so many may be filled with no samples, in the last turn."""


def registers_at_a_time(schedule: Schedule) -> int:
    """How many registers of samples are fastest, for a schedule that takes one at a time.

    The constants are from trials with the kernels of the zoo's models at n = 100 and 1,000: on Zen 5 with the 32
    registers of AVX-512, on Zen 3 with the 16 of AVX2, where four were no faster than two.
    """
    width = schedule.lanes
    most = schedule.available // 8  # 4 of 32, 2 of 16: each also holds some sums, and what is the same for all samples
    sums = max((len(schedule.shared([nest])) for nest in schedule.nests), default=0)
    plain = [nest for nest in schedule.nests if not nest.is_jammed]
    filled = max(-(-schedule.samples // width), 1)  # of no samples at all: any number is as good
    turn = schedule.cycles_of(plain) / filled
    if sums > FEW_SUMS:
        return 1
    if turn < LONG_TURN and (most < 4 or plain != schedule.nests):
        return 1
    if turn < LONG_TURN and (turn < TURN or filled < WRITTEN_OUT):
        most = 2 if turn <= SHORT_TURN and len(plain) == 1 else 1
    most = min(most, filled)
    return next(
        count for count in (4, 2, 1) if count <= most and _empty(schedule.samples, width, count) * EMPTY <= filled
    )


def _empty(samples: int, width: int, count: int) -> int:
    """How many registers have no samples in them if `count` are taken at a time."""
    rest = samples % (width * count)
    taken = 0 if rest == 0 else 1 if rest <= width else count  # see `nests`: the rest may be one register
    return samples // (width * count) * count + taken - -(-samples // width)
