"""How results lie in memory while a step is traced: as in eager torch, for it decides what is a view of what."""

import random
import warnings

import pytest
import test_elementwise
import test_operations
import test_torch_losses
import torch
from torch.utils import _pytree as tree

from fastpoly import descend, value_and_grad
from fastpoly._fuse import arguments
from fastpoly._fuse.trace import trace


def cases(table):
    """{names: function} of tables of tables of functions."""
    found = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found.update({f"{name}, {inner}": case for inner, case in cases(value).items()})
        elif callable(value):
            found[name] = value
    return found


MODULES = (test_elementwise, test_operations, test_torch_losses)
TABLES = [cases({k: v for k, v in vars(module).items() if k.isupper() and isinstance(v, dict)}) for module in MODULES]
CASES = {name: case for table in TABLES for name, case in table.items()}
SOME = ("ELEMENTWISE, arithmetic", "ELEMENTWISE, powers", "REDUCTIONS", "VIEWS, picked", "VIEWS, turned")

LAYOUTS = {
    "transposed": ((3, 4), lambda a: a.T),
    "permuted": ((4, 3, 3), lambda a: a.permute(2, 1, 0)),
    "a part": ((4, 6), lambda a: a[:, 1:4]),
    "repeated": ((4, 1), lambda a: a.expand(4, 3)),
}


def lies(value):
    parts = [part for part in tree.tree_leaves(value) if isinstance(part, torch.Tensor)]
    return [(tuple(part.shape), part.stride()) for part in parts], [part.double().sum() for part in parts]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("names", [SOME, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_as_in_eager_torch(layout, names):
    shape, laid_out = LAYOUTS[layout]
    a = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    found, off, count = [], {}, 0

    def kept(told):
        found.append(told[0])
        return told[1]

    for name, case in CASES.items():
        if names is not None and not name.startswith(names):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                want = lies(case(laid_out(a)))[0]
            except (RuntimeError, IndexError, ValueError, TypeError):
                continue  # a case of other shapes
            found.clear()
            trace(lambda leaves, case=case: kept(lies(case(laid_out(leaves[0])))), [a], {})
        count += 1
        if found[0] != want:
            off[name] = found[0], want
    assert off == {}
    assert count > 20


def test_a_write_beside_a_copy():
    """In one row, numbers that lie column by column are copied."""

    def loss(w, x):
        turned = x.T * w
        flat = turned.reshape(-1)
        turned += 1
        return (turned * flat.mean()).square().sum()

    start, x = torch.tensor(0.4, dtype=torch.float64), torch.linspace(0.1, 1, 12, dtype=torch.float64).reshape(3, 4)
    eager, fused = (descend(loss, start, x, learn_rate=1e-2, steps=4, backend=of) for of in ("eager", "fused"))
    assert torch.allclose(eager.loss, fused.loss, rtol=1e-12, atol=0)


def test_strides_of_operands_of_all_layouts():
    """Those that torch gives the result."""
    draw = random.Random(5)
    for _ in range(2_000):
        shape = [draw.randint(1, 4) for _ in range(draw.randint(1, 4))]
        one, other = drawn(shape, draw), drawn(shape, draw)
        want, got = one + other, torch.empty_strided(*strided(one, other))
        assert [(n, k) for n, k in zip(want.shape, want.stride(), strict=True) if n > 1] == [
            (n, k) for n, k in zip(got.shape, got.stride(), strict=True) if n > 1
        ]


def drawn(shape, draw):
    """A tensor that can be broadcast to a shape: permuted, a part of something larger, or repeated."""
    shape = [1 if draw.random() < 0.2 else size for size in shape]
    order = draw.sample(range(len(shape)), len(shape))
    whole = torch.zeros([shape[d] * draw.choice([1, 1, 2]) for d in order]).permute(
        *map(order.index, range(len(shape)))
    )
    for d, size in enumerate(shape):
        whole = whole.narrow(d, 0, size)
    return whole


def strided(*operands):
    shape = torch.broadcast_shapes(*(operand.shape for operand in operands))
    return shape, arguments.result_strides(shape, operands)


PARAMS = {
    "transposed": lambda a: a.T,
    "turned about": lambda a: a.permute(2, 0, 1),
    "with gaps": lambda a: a[:, ::2],
    "from behind": lambda a: a[..., 1:],
}


@pytest.mark.parametrize("backend", ["fused", "value_and_grad"])
@pytest.mark.parametrize("laid_out", PARAMS.values(), ids=PARAMS)
def test_params_lie_as_the_caller_has_them(laid_out, backend):
    """A view of them is one in eager torch, and a copy is one: only a view sees what is written."""
    whole = torch.rand(4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    start = laid_out(whole if laid_out is not PARAMS["transposed"] else whole[0])

    def loss(p):
        own = p * 1.0
        flat, columns = own.reshape(-1), own.transpose(0, 1).reshape(-1)
        own += 1.0
        return (flat * torch.arange(flat.numel())).sum() + (columns * own.reshape(-1)).square().sum()

    wanted = descend(loss, start, (), learn_rate=1e-5, steps=3, backend="eager")
    if backend == "fused":
        found = descend(loss, start, (), learn_rate=1e-5, steps=3, backend="fused")
        torch.testing.assert_close((found.loss, found.params), (wanted.loss, wanted.params), rtol=1e-12, atol=1e-14)
        assert found.params.stride() == wanted.params.stride()
    else:
        call = value_and_grad(loss, backend="fused")
        for params in (start.contiguous(), start, start.contiguous()):
            own = params.detach().requires_grad_()
            value = loss(own)
            found, gradient = call(params)
            torch.testing.assert_close(found, value.detach(), rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(gradient, torch.autograd.grad(value, own)[0], rtol=1e-12, atol=1e-14)
