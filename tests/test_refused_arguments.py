"""Arguments that cannot be meant are refused in words, before anything runs."""

import re

import numpy as np
import pytest
import torch
from small_loss import INF, NAN, W, X, run

from fastpoly import (
    UnsupportedOperationError,
    descend_module,
    optimizers,
    scan,
)

# -- arguments
# ----------------------------------------------------------------------------------------

MODULE = torch.nn.Linear(1, 1).double()
FROZEN = torch.nn.Linear(1, 1).double().requires_grad_(False)


def of_module(module, x):
    return module(x[:, None]).square().mean()


def of_descend(**options):
    return lambda: run(**options)


def of_function(function):
    return lambda: run(optimizer=function)


def of_scan(**options):
    defaults = dict(step=lambda c, x: (0.5 * c, c.sum()), carry=W, data=(X,), length=3, backend="fused")
    return lambda: scan(**{**defaults, **options})


def plain(params, grads, state):
    return params - 0.1 * grads, state


BAD = {
    # what is wrong: (the call, error, message)
    "loss none": (of_descend(loss=None), TypeError, "loss: wants a function, got None"),
    "loss too few": (of_descend(loss=lambda w: w.sum()), TypeError, "takes 1 positional argument but 2 were given"),
    "loss a number": (of_descend(loss=lambda w, x: 1.0), TypeError, "loss: its result: wants tensors, got 1.0 (float)"),
    "loss nothing": (of_descend(loss=lambda w, x: None), TypeError, "loss: its result: wants tensors, got None"),
    "loss a pair": (
        of_descend(loss=lambda w, x: (w.sum(), 1)),
        TypeError,
        "got a tuple; has_aux=True takes a pair of it",
    ),
    "loss a vector": (
        of_descend(loss=lambda w, x: w * w),
        ValueError,
        "loss: wants to return one number, got shape (3,); take its mean or sum",
    ),
    "loss of data": (
        of_descend(loss=lambda w, x: x.sum()),
        ValueError,
        "loss: its result does not depend on the param",
    ),
    "loss detached": (of_descend(loss=lambda w, x: w.sum().detach()), ValueError, "does not depend on the params"),
    "loss an integer": (of_descend(loss=lambda w, x: (w > 0).sum()), ValueError, "does not depend on the params"),
    "params none": (of_descend(params=None), TypeError, "params: wants tensors, got None (NoneType)"),
    "params empty": (of_descend(params=[]), ValueError, "params: has no tensors"),
    "params a number": (of_descend(params=1.0), TypeError, "params: wants tensors, got 1.0 (float)"),
    "params an array": (of_descend(params=np.ones(2)), TypeError, "params: wants tensors, got array([1., 1.]) (ndarr"),
    "params a text in a dict": (
        of_descend(params={"a": W, "b": "x"}),
        TypeError,
        "params: wants tensors, got 'x' (str",
    ),
    "params integers": (
        of_descend(params=torch.ones(3).long()),
        TypeError,
        "params: wants tensors of floats, got torch",
    ),
    "params complex": (of_descend(params=W + 0j), TypeError, "params: wants tensors of floats, got torch.complex128"),
    "params NaN": (of_descend(params=NAN * W), ValueError, "params: want finite numbers, got NaN or infinity"),
    "params of two dtypes": (
        of_descend(params=[W, W.float()]),
        ValueError,
        "params: want one dtype, got torch.float32 and torch.float64",
    ),
    "params sparse": (
        of_descend(params=W.to_sparse()),
        TypeError,
        "params: wants dense tensors with values, got layout",
    ),
    "params meta": (of_descend(params=W.to("meta")), TypeError, "params: wants dense tensors with values, got layout"),
    "params half": (
        of_descend(params=W.half(), data=(X.half(),)),
        UnsupportedOperationError,
        "torch.float16",
    ),
    "data missing": (of_descend(data=()), TypeError, "missing 1 required positional argument: 'x'"),
    "learn_rate zero": (of_descend(learn_rate=0), ValueError, "learn_rate: wants a positive finite number, got 0.0"),
    "learn_rate negative": (
        of_descend(learn_rate=-1),
        ValueError,
        "learn_rate: wants a positive finite number, got -1",
    ),
    "learn_rate NaN": (of_descend(learn_rate=NAN), ValueError, "learn_rate: wants a positive finite number, got nan"),
    "learn_rate infinite": (
        of_descend(learn_rate=INF),
        ValueError,
        "learn_rate: wants a positive finite number, got in",
    ),
    "learn_rate text": (
        of_descend(learn_rate="1"),
        TypeError,
        "learn_rate: wants a positive finite number, got '1' (st",
    ),
    "learn_rate bool": (of_descend(learn_rate=True), TypeError, "learn_rate: wants a positive finite number, got True"),
    "learn_rate several": (
        of_descend(learn_rate=torch.ones(2, 2)),
        TypeError,
        "learn_rate: wants a positive finite number, got Tensor",
    ),
    "steps negative": (of_descend(steps=-1), ValueError, "steps: wants an integer >= 0, got -1"),
    "steps a float": (of_descend(steps=1e3), TypeError, "steps: wants an integer >= 0, got 1000.0 (float)"),
    "steps bool": (of_descend(steps=True), TypeError, "steps: wants an integer >= 0, got True"),
    "steps none": (of_descend(steps=None), TypeError, "steps: wants an integer >= 0, got None"),
    "steps beyond int64": (of_descend(steps=2**63), ValueError, "steps: wants at most 9223372036854775807"),
    "trace beyond memory": (of_descend(steps=10**13), MemoryError, "trace_every"),
    "trace_every zero": (of_descend(trace_every=0), ValueError, "trace_every: wants an integer >= 1, got 0"),
    "trace_every a float": (
        of_descend(trace_every=0.5),
        TypeError,
        "trace_every: wants an integer >= 1, got 0.5 (float",
    ),
    "backend unknown": (
        of_descend(backend="gpu"),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager, go",
    ),
    "backend none": (
        of_descend(backend=None),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager, got N",
    ),
    "progress a number": (
        of_descend(progress=1),
        TypeError,
        "progress: wants True, False or a function (done, of), go",
    ),
    "optimizer unknown": (
        of_descend(optimizer="sparseadam"),
        ValueError,
        "optimizer: wants one of sgd, momentum, nesterov, adam, adamw, lion, adabelief, adadelta, adafactor, adagrad",
    ),
    "optimizer none": (
        of_descend(optimizer=None),
        TypeError,
        "optimizer: wants a name, an object or a function, got No",
    ),
    "optimizer a class": (
        of_descend(optimizer=optimizers.Adam),
        TypeError,
        "optimizer: wants an object, got the class; write Adam()",
    ),
    "optimizer of torch": (
        of_descend(optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)),
        ValueError,
        "optimizer: wants to hold the tensors of params and no others; there are 1 of the params it does not hold",
    ),
    "optimizer no pair": (
        of_function(lambda p, g, s: p),
        TypeError,
        "optimizer: wants to return (params, state), got T",
    ),
    "optimizer nothing": (
        of_function(lambda p, g, s: None),
        TypeError,
        "optimizer: wants to return (params, state), go",
    ),
    "optimizer another structure": (
        of_function(lambda p, g, s: ([p], s)),
        ValueError,
        "optimizer: returns params of another structure",
    ),
    "optimizer another shape": (of_function(lambda p, g, s: (p[:1], s)), ValueError, "optimizer: "),
    "optimizer's state a number": (
        of_function(lambda p, g, s: (p - g, 1)),
        TypeError,
        "optimizer: its state: wants tensors, got 1 (int)",
    ),
    "optimizer's state changes": (
        of_function(lambda p, g, s: (p - g, g if s is None else [s, g])),
        ValueError,
        "optimizer: its state changes its structure",
    ),
    "state too short": (of_descend(optimizer="adam", state=[W]), ValueError, "state: "),
    "state of another shape": (of_descend(optimizer="momentum", state=[X]), ValueError, "state: "),
    "state too long": (of_descend(state=[W]), ValueError, "state: "),
    "state of text": (of_descend(optimizer="adam", state="abc"), TypeError, "state: wants tensors, got 'abc' (str)"),
    "momentum negative": (
        lambda: optimizers.SGD(momentum=-1),
        ValueError,
        "momentum: wants a finite number >= 0, got -",
    ),
    "momentum text": (lambda: optimizers.SGD(momentum="a"), TypeError, "momentum: wants a finite number >= 0, got 'a'"),
    "dampening NaN": (lambda: optimizers.SGD(0.9, dampening=NAN), ValueError, "dampening: wants a finite number"),
    "nesterov alone": (
        lambda: optimizers.SGD(nesterov=True),
        ValueError,
        "nesterov: wants a momentum > 0 and no dampening",
    ),
    "weight_decay infinite": (
        lambda: optimizers.SGD(weight_decay=INF),
        ValueError,
        "weight_decay: wants a finite number >= 0, got inf",
    ),
    "betas too large": (
        lambda: optimizers.Adam(betas=(1, 0.9)),
        ValueError,
        "betas: want two numbers from 0 up to 1, got (1, 0.9)",
    ),
    "betas three": (
        lambda: optimizers.Adam(betas=(0.9, 0.9, 0.9)),
        ValueError,
        "betas: want two numbers from 0 up to 1",
    ),
    "betas one": (
        lambda: optimizers.Adam(betas=0.9),
        (TypeError, ValueError),
        "betas: want two numbers from 0 up to 1",
    ),
    "eps negative": (lambda: optimizers.AdamW(eps=-1), ValueError, "eps: wants a finite number >= 0, got -1"),
    "module none": (
        lambda: descend_module(None, of_module, (X,), learn_rate=0.1, steps=1),
        TypeError,
        "module: wants a torch.nn.Module, got NoneType",
    ),
    "module frozen": (
        lambda: descend_module(FROZEN, of_module, (X,), learn_rate=0.1, steps=1),
        ValueError,
        "module: has no parameters that require a gradient",
    ),
    "option unknown": (
        lambda: descend_module(MODULE, of_module, (X,), learn_rate=0.1, steps=1, momentum=0.9),
        TypeError,
        "unexpected keyword argument 'momentum'",
    ),
    "step none": (of_scan(step=None), TypeError, "step: wants a function, got None"),
    "step no pair": (of_scan(step=lambda c, x: c), TypeError, "step: wants to return (carry, output), got Tensor"),
    "step another shape": (
        of_scan(step=lambda c, x: (c[:1], c)),
        ValueError,
        "step: leaf 0 of the carry was (3,) torch.float64 and comes back (1,) torch.float64",
    ),
    "step another dtype": (of_scan(step=lambda c, x: (c.float(), c)), ValueError, "comes back (3,) torch.float32"),
    "step another structure": (
        of_scan(step=lambda c, x: ([c], c)),
        ValueError,
        "step: returns a carry of another structure",
    ),
    "step's output a number": (
        of_scan(step=lambda c, x: (c, 1.0)),
        TypeError,
        "step: an output: wants tensors, got 1.0",
    ),
    "carry integers": (
        of_scan(carry=torch.ones(3).long()),
        ValueError,
        "step: leaf 0 of the carry was (3,) torch.int64 and comes back (3,) torch.float32",
    ),
    "carry none": (of_scan(carry=None), TypeError, "carry: wants tensors, got None"),
    "carry empty": (of_scan(carry=(), step=lambda c, x: ((), x.sum())), ValueError, "carry: has no tensors"),
    "length negative": (of_scan(length=-1), ValueError, "length: wants an integer >= 0, got -1"),
    "length a float": (of_scan(length=3.0), TypeError, "length: wants an integer >= 0, got 3.0 (float)"),
    "outputs beyond memory": (of_scan(length=10**13), MemoryError, "length"),
    "scan's backend unknown": (
        of_scan(backend="jax"),
        ValueError,
        "backend: wants auto or one of fused, triton, cudagraph, compile, eager",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_arguments(wrong):
    call, error, message = BAD[wrong]
    with pytest.raises(error, match=re.escape(message)):
        call()
