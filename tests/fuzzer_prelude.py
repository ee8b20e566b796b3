"""What a random loss begins and ends with, as text: functions that its lines call, and a comparison with eager."""

PRELUDE = """\
import torch, torch.nn.functional as F

D = torch.{dtype}


def num(shape, seed, dtype=D):
    count = 1
    for size in shape:
        count *= size
    numbers = 1.3 * torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + seed * 0.61 + 0.1)
    return numbers.reshape(shape).to(dtype)


def picked(a, *shape):
    # some elements of a, in this shape, each several times if there are few
    count = 1
    for size in shape:
        count *= size
    return a.reshape(-1)[torch.arange(count) * 3 % a.numel()].reshape(shape)


def clean(a):
    # what is nothing but roundings is 0, as it may be in one order of a sum and not in another
    return a * (a.abs() > 1e-6)


def matrix(a, n):
    # one that can be inverted
    return 2 * torch.eye(n, dtype=D) + 0.4 * torch.tanh(picked(a, n, n)) / n


def project(params):
    return torch.utils._pytree.tree_map(lambda p: p.clamp(-1.2, 1.2), params)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return 0.1 * a**3

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * 0.3 * a**2


class Flip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return a * 1.0

    @staticmethod
    def backward(ctx, g):
        return -0.5 * g


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, lo, hi):
        ctx.save_for_backward(a)
        ctx.bounds = lo, hi
        return a.clamp(lo, hi)

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * (a > ctx.bounds[0]) * (a < ctx.bounds[1]), None, None


"""

END = """

if __name__ == "__main__":
    from fastpoly import descend, optimizers
    from fastpoly._fuse import program

    program.CYCLES = {cycles}
    for backend in ("eager", "fused"):
        result = descend(loss, params, data, backend=backend, {options})
        print(backend, result.loss.tolist(), result.params)
"""
