"""The peers on the post's problem that are not JAX: C, what torch itself has for a loop, and least squares.

Each is a function that makes a function of nothing, which takes all steps and returns the weights and every mse as
numpy arrays; a peer that is missing here raises `Missing` with the reason.
"""

import ctypes
import subprocess
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import results_file

from fastpoly._post import DEGREE, LEARN_RATE

DTYPES = {"double": np.float64, "single": np.float32}


class Missing(Exception):
    """What cannot be measured here, and why."""


# -- C
# ----------------------------------------------------------------------------------------


@cache
def c_library(precision):
    """loop.c, compiled on the spot, as ctypes sees it."""
    compiler = results_file.c_compiler()
    if compiler is None:
        raise Missing("no C compiler here")
    dtype, number = DTYPES[precision], {"double": ctypes.c_double, "single": ctypes.c_float}[precision]
    with TemporaryDirectory() as folder:
        library = Path(folder) / "loop.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", f"-DREAL={number.__name__[2:]}"]
        source = Path(__file__).with_name("loop.c")
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        train = ctypes.CDLL(str(library)).train
    array = np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS")
    train.argtypes = [array, array, ctypes.c_long, ctypes.c_long, number, array, array]
    train.restype = None
    return train


def c(x, y, precision, steps):
    """The loop of loop.c at -O3 -march=native -ffast-math."""
    train = c_library(precision)
    x, y = (samples.astype(DTYPES[precision]) for samples in (x, y))
    w, trace = np.zeros(DEGREE + 1, x.dtype), np.empty(steps, x.dtype)

    def run():
        w[:] = 0
        train(x, y, len(x), steps, LEARN_RATE, w, trace)
        return w, trace

    return run


# -- torch
# ----------------------------------------------------------------------------------------


def torch_step(x, y, precision):
    """(step, weights): step(w) -> (next w, mse), traced from torch's autograd, and the zeros to begin with.

    Traced first, since torch.compile takes 26 s to look through torch.func.grad inside of its own loops, and 5 s for
    the operations that come of it.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from fastpoly import reference

    x, y = (torch.from_numpy(samples.astype(DTYPES[precision])).reshape(-1, 1) for samples in (x, y))
    zeros = torch.zeros(DEGREE + 1, 1, dtype=x.dtype)
    powers = reference.dpoly_dw(x, zeros)

    def step(w):
        gradient, mse = torch.func.grad_and_value(lambda w: ((y - powers.mm(w)) ** 2).mean())(w)
        return w - LEARN_RATE * gradient, mse

    return make_fx(step)(zeros), zeros


def torch_compiled(function, *arguments):
    """`function` through torch.compile, called once; a function of nothing that returns its tensors.

    Raises:
        Missing: this torch cannot; the message is torch's.
    """
    import torch

    compiled = torch.compile(function, fullgraph=True, dynamic=False)

    def run():
        with torch.no_grad():
            return compiled(*arguments)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler uses what torch deprecates
        with refused():
            run()
    return run


@contextmanager
def refused():
    """Whatever torch's compiler raises, as `Missing`: not every release has it for everything, nor every machine."""
    try:
        yield
    except Exception as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise Missing(f"torch.compile does not take it: {type(error).__name__}: {said}"[:200]) from error


def torch_scan(x, y, precision, steps):
    """torch's prototype of a scan, compiled."""
    import torch

    try:
        from torch._higher_order_ops.scan import scan
    except ImportError as error:
        raise Missing("this torch has no scan") from error
    step, zeros = torch_step(x, y, precision)

    def whole(w, xs):
        return scan(lambda w, _: tuple(step(w)), w, xs)

    run = torch_compiled(whole, zeros, torch.zeros(steps, dtype=zeros.dtype))
    return lambda: tuple(tensor.numpy().ravel() for tensor in run())


def torch_while_loop(x, y, precision, steps):
    """torch's prototype of a while loop, compiled. It carries the last mse only: a carried trace would be copied whole
    in every step."""
    import torch

    try:
        from torch._higher_order_ops.while_loop import while_loop
    except ImportError as error:
        raise Missing("this torch has no while_loop") from error
    step, zeros = torch_step(x, y, precision)

    def going(i, *_):
        return i < steps

    def body(i, w, _):
        return (i + 1, *step(w))

    def whole(i, w, mse):
        return while_loop(going, body, (i, w, mse))

    run = torch_compiled(whole, torch.tensor(0), zeros, torch.zeros((), dtype=zeros.dtype))

    def last():
        _, w, mse = run()
        return w.numpy().ravel(), mse.numpy().reshape(1)

    return last


BLOCK = 8
"""Steps in a call of what torch.compile makes: see fastpoly/_loops/compiled.py, where it was measured."""


def torch_compile(model, steps):
    """BLOCK steps of a model of the zoo through torch.compile, called until `steps` are done; returns the last loss."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils import _pytree as tree

    start, structure = tree.tree_flatten(model.params)

    def step(leaves):
        params = tree.tree_unflatten(leaves, structure)
        gradients, loss = torch.func.grad_and_value(model.loss)(params, *model.data)
        return [w - model.learn_rate * g for w, g in zip(leaves, tree.tree_leaves(gradients), strict=True)], loss

    traced = make_fx(step)(start)

    def block(leaves):
        losses = []
        for _ in range(BLOCK):
            leaves, loss = traced(leaves)
            losses.append(loss)
        return leaves, torch.stack(losses)

    torch._dynamo.reset()  # it counts how often a function is compiled, and stops at 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(block, fullgraph=True, dynamic=False)
        with torch.no_grad(), refused():
            compiled(start)

    def run():
        leaves, losses = start, []
        with torch.no_grad():
            for _ in range(0, steps, BLOCK):
                leaves, some = compiled(leaves)
                losses.append(some)
        return losses[-1][-1]

    return run


# -- another method
# ----------------------------------------------------------------------------------------


def least_squares(x, y):
    """What many would use instead: numpy.polynomial's fit, the minimum itself, where no step leads."""
    return lambda: np.polynomial.polynomial.polyfit(x, y, DEGREE)
