"""torch's own database of operators, asked of fastpoly: does it fuse them, and does it get them right?

    PYTHONPATH=.:kernels:tests python tests/operator_database.py --backend triton --shard 3/15 --out FILE

Every entry of torch's `op_db` that has a gradient gives some of its sample inputs. Tensors of a sample that require a
gradient are the params. The loss is a number that depends on every element of every output in its own way: the sum of
u * out + v * out ** 2 with fixed random u and v. Three steps of gradient descent, of which the first moves no param by
more than STEP, are taken by torch's autograd on the CPU and by `fastpoly.descend`. A sample is

    right     every loss agrees, relative to the sum of the magnitudes of its terms, and every param, relative to how
              far it moved (see `Case.deviation`)
    refused   UnsupportedOperationError says what cannot be fused
    wrong     it ends with other numbers, and nothing said so
    crash     anything else was raised
    slow      it took longer than asked

and an operator is the worst of its samples: wrong, crash, slow; or partly, where some are right and others refused; or
skipped, where eager torch gives nothing to compare with.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import signal
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import interpreted_cpu
import numpy as np
import pytest
import torch
import torchs_lists
from torch.utils import _pytree as tree

import fastpoly
from fastpoly._fuse import schedule
from fastpoly._torch_private import RoundedOtherwise

STEPS = 3
SEED = 5
"""Of what is drawn at random."""
STEP = 1e-3
LARGEST = 4_000
"""Elements of all tensors of a sample; where all samples have more, one of up to ten times this."""

TRIED = 24
"""Samples that eager torch is asked for, until as many as are wanted can be used."""

UNENDING = ("polygamma", "special.polygamma")
"""What eager torch does not end with at some samples, at far negative numbers, in ENDS seconds or ever."""

ENDS = 3.0

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}
"""Roundings leave 1e-12 and 1e-5 where digits cancel; a wrong sign, index or factor is off by about 1."""


def operators():
    """What is asked, in torch's order. Imports torch's tests, some seconds: before there is an emulated device."""
    return [op for op in torchs_lists.operators() if op.supports_autograd and op.supports_dtype(torch.float64, "cpu")]


def name_of(op):
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


# -- a sample
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How operators are asked for.

    Attributes:
        linear: the loss is the sum of u * out alone: then what enters a gradient is the same in every step.
        in_place: the operator's form that writes to its first argument, a copy of which it is given.
    """

    linear: bool = False
    in_place: bool = False


FUNCTIONS = Form()


def _in_form(op, form):
    if not form.in_place:
        return op.get_op()
    operation = op.get_inplace()
    if operation is None:
        raise Unusable("has no form in place")
    return lambda first, *args, **kwargs: operation(first.clone(), *args, **kwargs)


class Unusable(Exception):
    """Eager torch gives nothing to compare with."""


class Case:
    """A sample as a loss of its params.

    Raises:
        Unusable: there is nothing to compare with.
    """

    def __init__(self, op, sample, dtype, largest, form):
        self.function, self.form = _in_form(op, form), form
        self.process = sample.output_process_fn_grad or (lambda out: out)
        given, self.structure = tree.tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
        tensors = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
        if any(tensor.layout != torch.strided for tensor in tensors):
            raise Unusable("not dense")
        if any(tensor.numel() == 0 for tensor in tensors):
            raise Unusable("empty tensor")
        if sum(tensor.numel() for tensor in tensors) > largest:
            raise Unusable("large")
        self.params, self.given, self.places = [], [], {}
        for place, leaf in enumerate(given):
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad and leaf.dtype == dtype:
                same = [earlier for earlier in self.places if given[earlier] is leaf]
                self.places[place] = self.places[same[0]] if same else len(self.params)
                if not same:
                    self.params.append(leaf.detach())
            self.given.append(leaf.detach() if isinstance(leaf, torch.Tensor) else leaf)
        if not self.params:
            raise Unusable("no float params")
        words = [described(sample.input), *map(described, sample.args)]
        self.text = ", ".join([*words, *(f"{key}={described(value)}" for key, value in sample.kwargs.items())])
        self._look()

    def outputs(self, params):
        """The float tensors among what the operator returns."""
        leaves = [params[self.places[i]] if i in self.places else leaf for i, leaf in enumerate(self.given)]
        first, args, kwargs = tree.tree_unflatten(leaves, self.structure)
        found = tree.tree_leaves(self.process(self.function(first, *args, **kwargs)))
        found = [out for out in found if isinstance(out, torch.Tensor)]
        found = [torch.view_as_real(out.resolve_conj()) if out.is_complex() else out for out in found]
        return [out for out in found if out.is_floating_point()]

    def loss(self, params):
        """The number that is descended."""
        pairs = zip(self.outputs(params), self.weights, strict=True)
        return sum((u * out).sum() + (v * out * out).sum() for out, (u, v) in pairs)

    def _look(self):
        """What eager torch makes of it, and whether that can be compared with."""
        outs = self.outputs([param.clone().requires_grad_() for param in self.params])
        if not any(out.requires_grad for out in outs):
            raise Unusable("no differentiable float output")
        if any(out.layout != torch.strided for out in outs):
            raise Unusable("output not dense")
        generator = torch.Generator().manual_seed(1)
        pairs = [[torch.rand(out.shape, generator=generator, dtype=out.dtype) + 0.5 for _ in "uv"] for out in outs]
        self.weights = [(u, v * (0.0 if self.form.linear else 0.3)) for u, v in pairs]
        self.rate = 1.0
        after = self.eager(1, check=False)[1]
        most = max(float((a - b).abs().max()) for a, b in zip(after, self.params, strict=True))
        if not math.isfinite(most):
            raise Unusable("gradient not finite")
        self.rate = min(max(STEP / most, 1e-12), 1e6) if most else STEP
        self.trace, self.after, self.scales = self.eager(STEPS)
        self.is_random = self.deviation(*self.eager(STEPS)[:2]) > 1e-11

    def eager(self, steps, check=True):
        """(losses, params, magnitudes of the losses' terms) by torch's autograd."""
        params, trace, scales = [param.clone() for param in self.params], [], []
        for _ in range(steps):
            own = [param.detach().requires_grad_() for param in params]
            value = self.loss(own)
            gradients = torch.autograd.grad(value, own, allow_unused=True)
            trace.append(float(value.detach()))
            with torch.no_grad():
                terms = zip(self.outputs(params), self.weights, strict=True)
                scales.append(sum(float((u * o).abs().sum() + (v * o * o).abs().sum()) for o, (u, v) in terms))
            pairs = zip(params, gradients, strict=True)
            params = [param if gradient is None else param - self.rate * gradient for param, gradient in pairs]
            if check and not (math.isfinite(trace[-1]) and all(bool(param.isfinite().all()) for param in params)):
                raise Unusable("loss, gradient or params not finite")
        return trace, params, scales

    def deviation(self, trace, after):
        """How far losses and params are from eager torch's, in multiples of what they are measured by; or infinite."""
        if len(trace) != STEPS:
            return math.inf
        found = [
            abs(got - want) / max(scale, 1e-300)
            for got, want, scale in zip(trace, self.trace, self.scales, strict=True)
        ]
        moves = [float((end - start).abs().max()) for end, start in zip(self.after, self.params, strict=True)]
        rounding = 1e-6 if self.params[0].element_size() == 8 else 3e-3  # times the tolerance: some ulps of a param
        for got, want, start, move in zip(after, self.after, self.params, moves, strict=True):
            if got.shape != want.shape or got.dtype != want.dtype:
                return math.inf
            measure = max(move, 1e-3 * max(moves), rounding * float(start.abs().max()), 1e-300)
            found.append(float((got - want).abs().max()) / measure)
        return max(value if math.isfinite(value) else math.inf for value in found)

    def noise(self):
        """The deviation of eager torch from itself when it rounds otherwise: as large as its own numbers are unsure.

        When the weights change in their last place, or every operation finds what it takes a rounding or two off, as
        where a gradient is nothing but rounding errors, that of x / |x|. And with digits more or fewer, for what one
        operation does inside, as the squarings of `matrix_exp`: float32 beside all in float64; float64 beside all in
        float32, of which as many roundings are lost, so that it counts by the ratio of the two. That ratio is 2e-9:
        nothing wrong by 1e-7 passes for a rounding, whatever becomes of it in float32.
        """
        wide = self.params[0].dtype == torch.float64
        other = self._in_dtype(torch.float32 if wide else torch.float64)
        ratio = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        worst = ratio * min(other, 1.0) if wide else other
        exact, eps = self.weights, torch.finfo(self.params[0].dtype).eps
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            self.weights = [
                tuple(w * (1 + eps * torch.randint(-1, 2, w.shape, generator=generator).to(w.dtype)) for w in pair)
                for pair in exact
            ]
            worst = max(worst, self.deviation(*self.eager(STEPS, check=False)[:2]))
            self.weights = exact
            with RoundedOtherwise(seed, eps):
                there = self.eager(STEPS, check=False)[:2]
            moved = self.deviation(*there)
            worst = max(worst, moved if math.isfinite(moved) else 0.0)  # as beside the end of a domain, acos(1)
        return worst

    def _in_dtype(self, dtype):
        """The deviation of what eager torch gives in this one; 0 where it takes none but its own."""
        kept = self.params, self.given, self.weights
        dtypes = [param.dtype for param in self.params]
        try:
            self.params, self.given, self.weights = tree.tree_map_only(
                torch.Tensor, lambda t: t.to(dtype) if t.dtype == kept[0][0].dtype else t, kept
            )
            trace, after, _ = self.eager(STEPS, check=False)
        except Exception:
            return 0.0
        finally:
            self.params, self.given, self.weights = kept
        return self.deviation(trace, [param.to(dtype) for param, dtype in zip(after, dtypes, strict=True)])

    @contextmanager
    def on(self, device):
        """The data lie on `device` as long as this lasts. Yields the params there."""
        kept = self.given, self.weights
        self.given, self.weights, params = tree.tree_map_only(
            torch.Tensor, lambda t: t.to(device), (*kept, self.params)
        )
        try:
            yield [param.clone() for param in params]
        finally:
            self.given, self.weights = kept


def described(value):
    """An argument in a few characters; * for what is a param."""
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind}{list(value.shape)}{'*' if value.requires_grad else ''}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    return repr(value)[:60]


def cases(op, dtype, samples, form):
    """Up to so many usable samples, spread over those that torch has: (cases, why others are not used)."""
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(0)
    given = list(itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=True), 200))
    wanted = min(samples, len(given))
    spread = [round(i * (len(given) - 1) / max(wanted - 1, 1)) for i in range(wanted)]
    order = [*dict.fromkeys([*spread, *random.Random(0).sample(range(len(given)), len(given))])][: max(TRIED, samples)]
    found, why = [], {}
    for largest, most in ((LARGEST, samples), (10 * LARGEST, 1)):
        for number in order:
            if len(found) >= most:
                break
            try:
                if op.name in UNENDING and not _ends(
                    lambda n=number, most=largest: Case(op, given[n], dtype, most, form)
                ):
                    raise Unusable("eager torch does not end")
                found.append(Case(op, given[number], dtype, largest, form))
            except Unusable as reason:
                why[str(reason)] = why.get(str(reason), 0) + 1
            except Exception as error:  # eager torch itself does not differentiate it
                why[f"eager torch: {type(error).__name__}: {error}"[:200]] = 1
    return found, why


def _ends(function):
    """Does it end, in any way? It is called in a process of its own: what torch does inside hears of no alarm."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            function()
        os._exit(0)
    end = time.monotonic() + ENDS
    try:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        child = None
        return True
    finally:
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


# -- what fastpoly makes of it
# ----------------------------------------------------------------------------------------


def run(ops, backend, dtype="float64", samples=2, seconds=30.0, form=FUNCTIONS):
    """Yield a row for each operator: {"op", "class", "samples": [{"class", "inputs", "seconds", ...}], "unusable"}.

    Args:
        ops: of `operators()`.
        backend: "fused" on the CPU, "triton" on a GPU or the emulated device.
        dtype: of the params.
        samples: how many of an operator's, at most.
        seconds: for one sample, with compiling; where there are alarms, that is not on Windows, in the main thread.
        form: of operators and losses.
    """
    for op in ops:
        name, started = name_of(op), time.perf_counter()
        try:
            with alarm(seconds), quiet():
                found, why = cases(op, getattr(torch, dtype), samples, form)
        except (Exception, OutOfTime) as error:
            found, why = [], {f"samples: {type(error).__name__}: {error}"[:200]: 1}
        rows = [{"inputs": case.text, **tried(case, backend, dtype, seconds)} for case in found]
        rows, unusable = [r for r in rows if r["class"] != "skipped"], [r for r in rows if r["class"] == "skipped"]
        why |= {row["message"]: 1 for row in unusable}
        took = round(time.perf_counter() - started, 2)
        yield {"op": name, "class": of_all(rows), "seconds": took, "samples": rows, "unusable": why}


def tried(case, backend, dtype, seconds):
    """One sample's outcome."""
    started = time.perf_counter()
    device = "cpu" if backend == "fused" else "cuda"
    with case.on(device) as params, quiet():
        try:
            with alarm(seconds):
                run = fastpoly.descend(case.loss, params, learn_rate=case.rate, steps=STEPS, backend=backend, seed=SEED)
                got = run.loss.tolist(), [param.cpu() for param in run.params]
            outcome = compared(case, *got, TOLERANCE[dtype])
        except fastpoly.UnsupportedOperationError as error:
            wrong = "please report" in str(error) and not case.is_random  # it ran, and was found to be wrong
            outcome = {"class": "wrong" if wrong else "refused", "message": str(error)[:400]}
        except OutOfTime:
            outcome = {"class": "slow", "message": f"more than {seconds} s"}
        except Exception as error:
            message = f"{type(error).__name__}: {error}"[:400]
            theirs = torchs_own_error(case, params) if type(error) is not AssertionError else None
            outcome = {"class": "skipped" if theirs == message else "crash", "message": message}
    torch.manual_seed(0)
    return {**outcome, "seconds": round(time.perf_counter() - started, 2)}


def compared(case, trace, after, tolerance):
    """What the numbers are worth."""
    if case.is_random:  # as torch's operations give it, by the numbers that `descend` draws
        with case.on("cpu") as params:
            eager = fastpoly.descend(case.loss, params, learn_rate=case.rate, steps=STEPS, backend="eager", seed=SEED)
        case.trace, case.after = eager.loss.tolist(), eager.params
    off = case.deviation(trace, after)
    if off <= tolerance:
        return {"class": "right", "deviation": off}
    with case.on("cpu"):
        noise = case.noise()
    if off <= 10 * noise:
        return {"class": "right", "deviation": off, "message": "rounding errors only"}
    return {"class": "wrong", "deviation": off, "message": f"losses {trace}, eager torch has {case.trace}"}


def torchs_own_error(case, params):
    """What eager torch says to the same loss on the same device, if it does not take it either."""
    try:
        case.loss([param.detach().requires_grad_() for param in params]).backward()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:400]
    return None


def of_all(rows):
    """An operator's class, of its samples'."""
    found = {row["class"] for row in rows}
    for worst in ("wrong", "crash", "slow"):
        if worst in found:
            return worst
    return "partly" if len(found) == 2 else found.pop() if found else "skipped"


class OutOfTime(BaseException):
    """Nothing that catches exceptions catches this one."""


@contextmanager
def alarm(seconds):
    """Raise OutOfTime in what takes longer."""

    def late(*_):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- as a program
# ----------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("fused", "triton"), default="fused")
    parser.add_argument("--dtype", choices=sorted(TOLERANCE), default="float64")
    parser.add_argument("--samples", type=int, default=2, help="of each operator")
    parser.add_argument("--seconds", type=float, default=30, help="for one sample")
    parser.add_argument("--shard", default="0/1", help="K/N: every Nth operator from the Kth on")
    parser.add_argument("--out", type=Path, required=True, help="a row of JSON for each operator; those there are kept")
    parser.add_argument("--linear", action="store_true", help="losses that are sums of outputs")
    parser.add_argument("--in-place", action="store_true", help="operators that write to their first argument")
    parser.add_argument("--loops", action="store_true", help="a loop for every axis, as large tensors have")
    parser.add_argument("--interpreted", action="store_true", help="fused kernels as Python: quick, for small tensors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.loops:
        schedule.unrolled_up_to = lambda graph, samples, most_sums: 1 if samples > 4 else samples
    if options.interpreted:
        interpreted_cpu.install(pytest.MonkeyPatch())
    form = Form(options.linear, options.in_place)
    first, of = map(int, options.shard.split("/"))
    device = device_for(options.backend)
    known = options.out.read_text().splitlines() if options.out.exists() else []
    known = {json.loads(line)["op"] for line in known}
    ops = [op for op in operators()[first::of] if name_of(op) not in known]
    begun = options.out.with_suffix(".begun")
    with device, options.out.open("a") as out:

        def write(row):
            out.write(json.dumps(row) + "\n")
            out.flush()
            os.fsync(out.fileno())

        if ops and begun.exists() and begun.read_text() == name_of(ops[0]):  # it ended the process before this one
            died = {"class": "crash", "message": "the process died", "inputs": ""}
            write({"op": name_of(ops.pop(0)), "class": "crash", "samples": [died], "unusable": {}})
        for op in ops:
            begun.write_text(name_of(op))
            (row,) = run([op], options.backend, options.dtype, options.samples, options.seconds, form)
            write(row)
            if "CUDA error" in json.dumps(row):  # the process has lost its device: the rest in another one
                os.execv(sys.executable, [sys.executable, *sys.argv])
    begun.unlink(missing_ok=True)


def device_for(backend):
    """A context with the device that a backend wants."""
    if backend == "fused" or torch.cuda.is_available():
        return nullcontext()
    import emulated_cuda

    return emulated_cuda.installed()


if __name__ == "__main__":
    main()
