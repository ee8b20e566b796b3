"""What must hold for a random loss: the numbers of eager torch, or a refusal by name.

    ok        the numbers of eager
    refused   UnsupportedOperationError
    rounding  other numbers, by no more than eager's own move when the params move by a few roundings
    unclear   other numbers, which in double precision and by plain descent are eager's: a rounding that the loss makes
              much of, most likely; for a person to look at
    skip      the loss makes no sense: torch refuses it, or it is not finite from the start
    MISMATCH  other numbers: found here, or by fastpoly's own comparison of a step
    ERROR     another exception than torch's own, or a plan that is out of order (see `plans`)

and from `fuzzer_workers`, CRASH and HANG.
"""

import linecache
import re
import traceback
import warnings
from dataclasses import dataclass, replace

import torch
from torch.utils import _pytree as tree

from fastpoly import UnsupportedOperationError, descend
from fastpoly._fuse import program
from fastpoly._torch_private import RoundedOtherwise

TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
"""Of the largest change of a param, or of the loss: far above what another order of sums makes."""

OF_ADAM = 1000
"""Times as much for optimizers that divide gradients by their size, which is rounding where a gradient is zero."""

NUDGE = {"float64": 1e-11, "float32": 1e-5}
ROUNDING = {"float64": 1e-16, "float32": 6e-8}
MOVED = 1000
"""A result may be off by so many times what a rounding of the params makes of it: every operation rounds."""

TRIALS = 4
"""Of roundings drawn at random."""

AGAIN = "something else when it is called again"
"""What fastpoly says when its loop gives other numbers than the loss. The losses here do not change between calls."""


@dataclass(frozen=True)
class Ran:
    """What came of a run, and what it has left in the tensors that the loss writes to."""

    result: object
    kept: list

    @property
    def numbers(self):
        """Losses, params, and all else that is to be compared."""
        of = self.result
        beside = [leaf for leaf in tree.tree_leaves((of.aux, of.last_aux)) if leaf is not None]
        return [of.loss, *tree.tree_leaves(of.params), *beside, *self.kept]


@dataclass(frozen=True)
class Case:
    """A loss with all that `descend` takes, and the tensors in it; `buffers` are those that it may write to."""

    loss: object
    params: object
    data: tuple
    options: dict
    dtype: str
    buffers: list
    first: list

    @property
    def tensors(self):
        """Params, then data."""
        return [*tree.tree_leaves(self.params), *self.data]

    def descend(self, backend, **changed):
        """What came of it, from the same tensors every time."""
        self.begin_anew()
        arguments = {"params": self.params, "data": self.data, **self.options, **changed}
        result = descend(self.loss, backend=backend, **arguments)
        return Ran(result, [buffer.clone() for buffer in self.buffers])

    def begin_anew(self):
        """The tensors that the loss writes to are as they were."""
        for buffer, before in zip(self.buffers, self.first, strict=True):
            buffer.copy_(before)

    def value(self):
        """That of the loss, as torch has it."""
        params = tree.tree_map(lambda p: p.detach().clone().requires_grad_(), self.params)
        last = [self.options["xs"][0]] if "xs" in self.options else []
        value = self.loss(params, *self.data, *last)
        return value[0] if "has_aux" in self.options else value


def check(written, name, backend):
    """(outcome, why) of a loss."""
    warnings.simplefilter("ignore")
    case = _case(written, name)
    try:
        value = case.value()
        if not value.requires_grad:
            return "skip", "no param has anything to do with it"
        want = case.descend("eager")
    except Exception as error:
        return "skip", _told(error)
    before = [tensor.clone() for tensor in case.tensors]
    program.CYCLES = written.cycles
    try:
        got = case.descend(backend)
        parts = None if written.split is None else _in_two(case, backend, written.split)
    except UnsupportedOperationError as error:
        if AGAIN not in str(error):
            return "refused", str(error)[:400]
        if _is_nothing(str(error), case.dtype):
            return "rounding", str(error)[:400]
        return ("unclear" if _is_right_in_double(written, name, backend) else "MISMATCH"), str(error)[:400]
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        return "ERROR", f"{_told(error)} ({at.name}, line {at.lineno})"
    if not all(_same(one, other) for one, other in zip(before, case.tensors, strict=True)):
        return "MISMATCH", "the caller's tensors were written to"
    if parts is not None and not all(_same(*pair) for pair in zip(parts, got.numbers, strict=True)):
        return "MISMATCH", f"a run in two parts, of {written.split} steps and the rest, gives other bits"
    one, other = want.result, got.result
    if (one.steps, one.diverged_at) != (other.steps, other.diverged_at):
        steps = f"{other.steps} steps, diverged at {other.diverged_at}"
        return "MISMATCH", f"{steps}; eager: {one.steps} steps, diverged at {one.diverged_at}"
    outcome, why = _compared(case, backend, want, got)
    if outcome == "MISMATCH" and _is_right_in_double(written, name, backend):
        return "unclear", why
    return outcome, why


def _is_nothing(said, dtype):
    """Are both losses that were noticed to differ nothing but roundings, of numbers of about 1 as all here are?

    So is the divergence of a distribution from itself, say. The run is refused then, and `auto` falls back.
    """
    numbers = re.search(r": (\S+) for (\S+): it depends", said)
    return numbers is not None and max(abs(float(n)) for n in numbers.groups()) < 100 * ROUNDING[dtype]


def _is_right_in_double(written, name, backend):
    """Are the numbers eager's in float64 and by plain descent, if they are not in float32 or by another optimizer?

    Adam, say, makes a step of a gradient that is nothing but roundings.
    """
    text = written.text.replace("D = torch.float32", "D = torch.float64")
    options = re.sub(r"optimizer=[^,]*,", "optimizer='sgd',", written.options)
    if (text, options) == (written.text, written.options):
        return False
    plain = _case(replace(written, text=text, options=options, dtype="float64"), f"{name} in double")
    try:
        return _compared(plain, backend, plain.descend("eager"), plain.descend(backend))[0] in ("ok", "rounding")
    except Exception:
        return False


def _case(written, name):
    linecache.cache[name] = (len(written.text), None, written.text.splitlines(True), name)
    scope = {}
    exec(compile(written.text, name, "exec"), scope)
    options, buffers = eval(f"dict({written.options})", scope), scope.get("buffers", [])
    first = [buffer.clone() for buffer in buffers]
    return Case(scope["loss"], scope["params"], scope["data"], options, written.dtype, buffers, first)


def _told(error):
    return f"{type(error).__name__}: {error}"[:400]


def _same(one, other):
    """The same numbers, NaN included?"""
    return one.shape == other.shape and one.dtype == other.dtype and bool(((one == other) | (one != one)).all())


def _in_two(case, backend, split):
    """The numbers of a run that is taken up again after `split` steps; None if it leaves the floats before."""
    every = case.options.get("trace_every", 1)
    first = case.descend(backend, steps=split).result
    if not all(bool(leaf.isfinite().all()) for leaf in tree.tree_leaves(first.params)):
        return None
    rest = case.options["steps"] - split
    second = case.descend(backend, params=first.params, state=first.state, steps=rest, trace_every=every and 1).result
    kept = second.loss if every is None else second.loss[-split % every :: every]
    return [torch.cat([first.loss, kept]), *tree.tree_leaves(second.params)]


def _compared(case, backend, want, got):
    """The outcome for two results."""
    starts = tree.tree_leaves(case.params)
    ends = tree.tree_leaves(want.result.params)
    scale = max([1e-3, *(_most(w - p) for w, p in zip(ends, starts, strict=True))])
    adaptive = case.options.get("optimizer") in ("adam", "adamw")
    outcome = "ok", ""
    for i, (one, other) in enumerate(zip(want.numbers, got.numbers, strict=True)):
        is_param = 0 < i <= len(starts)
        what = f"param {i - 1}" if is_param else f"aux or buffer {i - 1 - len(starts)}" if i else "loss"
        if one.shape != other.shape or one.dtype != other.dtype:
            return "MISMATCH", f"{what}: {other.dtype} {tuple(other.shape)}, eager {one.dtype} {tuple(one.shape)}"
        if not torch.equal(one.isnan(), other.isnan()):
            return "MISMATCH", f"{what}: NaN at {int(other.isnan().sum())} places, eager at {int(one.isnan().sum())}"
        off = _most(one.double() - other.double())
        room = scale if is_param else max(1.0, _most(one))
        if not off <= TOLERANCE[case.dtype] * room * (OF_ADAM if adaptive and i else 1):
            if off > _by_rounding(case, i):
                return "MISMATCH", f"{what}: off by {off:.2e} of {room:.2e}"
            outcome = "rounding", f"{what}: off by {off:.2e} of {room:.2e}"
    return outcome


def _most(difference):
    return float(difference.double().abs().nan_to_num(0, 0, 0).max()) if difference.numel() else 0.0


def _by_rounding(case, i):
    """How far off a result may be: by how far eager's own moves if its params move by roundings.

    A small move is taken for the slope; and at a kink, as where equal numbers have a deviation of 0, for what it is,
    also if every operation finds what it takes a little off.
    """
    slope = _moved(case, i, NUDGE[case.dtype]) * ROUNDING[case.dtype] / NUDGE[case.dtype]
    return max(MOVED * slope, 10 * _moved(case, i, 4 * ROUNDING[case.dtype]), 10 * _moved_inside(case, i))


def _moved_inside(case, i):
    """How far eager's own result moves if every operation finds what it takes a rounding or two off."""
    base, worst = case.descend("eager").numbers[i].double(), 0.0
    for seed in range(TRIALS):
        with RoundedOtherwise(seed, ROUNDING[case.dtype]):
            there = case.descend("eager").numbers[i].double()
        if there.shape == base.shape:
            worst = max(worst, _most(there - base))
    return worst


def _moved(case, i, nudge):
    """How far eager's own result moves if its params move by so much, relative and absolute."""
    base, worst = case.descend("eager").numbers[i].double(), 0.0
    for seed in range(TRIALS):
        torch.manual_seed(seed)
        moved = tree.tree_map(
            lambda p: (
                p * (1 + nudge * torch.randn(p.shape, dtype=p.dtype)) + nudge * torch.randn(p.shape, dtype=p.dtype)
            ),
            case.params,
        )
        there = case.descend("eager", params=moved).numbers[i].double()
        if there.shape == base.shape:
            worst = max(worst, _most(there - base))
    return worst
