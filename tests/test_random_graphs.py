"""Any loss, of any shapes: what the fuser makes of it is what torch computes. Hypothesis writes the losses."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fastpoly import descend

settings.register_profile("steady", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("steady")

SIZES = (1, 2, 3, 5, 17, 40, 100)
"""Scalars, axes that are written out one by one, one just too long for that, and two that fill registers or leave a
rest: 40 is five of 8 doubles, 100 is twelve and a half."""

MOST_ELEMENTS = 8_000
"""Of a value: two long axes and a short one."""


def numbers(shape, seed):
    """Anything between -1.5 and 1.5, without symmetries that would make a gradient zero but for rounding."""
    count = math.prod(shape)
    return (1.5 * torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + seed * 0.61)).reshape(shape)


@dataclass(frozen=True)
class Written:
    """A loss as text, and the shapes that it is for."""

    text: str
    params: tuple[tuple[int, ...], ...]
    data: tuple[tuple[int, ...], ...]

    def __repr__(self):
        return f"params {self.params}, data {self.data}\n{self.text}"

    def tensors(self):
        """Params and data."""
        shapes = enumerate((*self.params, *self.data))
        tensors = [numbers(shape, seed) for seed, shape in shapes]
        return tensors[: len(self.params)], tuple(tensors[len(self.params) :])

    def loss(self):
        """The function."""
        namespace = {"torch": torch, "F": torch.nn.functional, "numbers": numbers}
        exec(self.text, namespace)
        return namespace["loss"]


# -- a random loss, line by line. Values stay between about -5 and 5, so that no digits are lost on the way.
# ----------------------------------------------------------------------------------------

UNARY = (
    *("torch.sin({})", "torch.cos({})", "torch.tanh({})", "torch.sigmoid({})", "torch.erf({})", "F.softplus({})"),
    *("F.gelu({})", "F.silu({})", "torch.exp(-{}.square())", "torch.log1p({}.square())", "torch.sqrt(1 + {}.square())"),
    *("1 / (1 + {}.abs())", "0.3 * {} ** 2", "0.1 * {} ** 3", "(1.5 + torch.sin({})) ** 1.7", "F.elu({})", "2 - {}"),
    *("torch.atan({})", "torch.expm1(0.3 * {})", "(1.5 + torch.cos({})).rsqrt()", "F.hardtanh({}, -0.77, 0.81)"),
)
KINKED = ("torch.relu({})", "F.leaky_relu({}, 0.2)", "{}.abs()", "{}.clamp(-0.7, 0.9)")
"""Not where the kink could be hit by rounding: of numbers that the loss does not make equal or zero."""

BINARY = (
    *("{} + {}", "{} - 0.5 * {}", "0.5 * {} * {}", "{} / (1 + {}.square())", "torch.where({} > 0.123, {a}, {b})"),
    *("torch.lerp({}, {}, 0.3)", "torch.addcmul({a}, {a}, {b}, value=0.3)", "torch.maximum({}, {} + 0.0123)"),
)


class Writer:
    """Writes a loss by drawing one line after the other; runs every line at once, to know its shape."""

    def __init__(self, draw):
        self.draw = draw
        self.lines = []
        self.values = {}
        self.unused = []

    def add(self, name, value):
        self.values[name] = value
        self.unused.append(name)

    def write(self, text, *used):
        """A line that gives a new value, if that is not too large."""
        value = eval(text, {"torch": torch, "F": torch.nn.functional, "numbers": numbers}, self.values)
        if value.numel() > MOST_ELEMENTS or value.numel() == 0 or value.ndim > 4:
            return
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.unused = [other for other in self.unused if other not in used]
        self.add(name, value)

    def pick(self, names=None):
        """A value: rather one that nothing has used so far."""
        unused = [name for name in self.unused if names is None or name in names]
        if unused and self.draw(st.integers(0, 2)):
            return self.draw(st.sampled_from(unused))
        return self.draw(st.sampled_from(list(self.values if names is None else names)))

    def axis(self, value):
        return self.draw(st.integers(-value.ndim, value.ndim - 1))

    # -- kinds of lines

    def unary(self):
        name = self.pick()
        self.write(self.draw(st.sampled_from(UNARY)).format(name), name)

    def kinked(self):
        name = self.pick()
        value = self.values[name]
        noise = f"0.01 * numbers({tuple(value.shape)}, {len(self.lines) + 20})"
        self.write(self.draw(st.sampled_from(KINKED)).format(f"({name} + {noise})"), name)

    def binary(self):
        one = self.pick()
        shape = self.values[one].shape
        fitting = [name for name, value in self.values.items() if _broadcast(shape, value.shape)]
        other = self.pick(fitting)
        text = self.draw(st.sampled_from(BINARY))
        self.write(text.format(one, other, a=one, b=other), one, other)

    def outer(self):
        one, other = self.pick(), self.pick()
        if self.values[one].numel() * self.values[other].numel() <= MOST_ELEMENTS and self.values[other].ndim == 1:
            self.write(f"torch.sin({one}[..., None] * {other})", one, other)

    def product(self):
        one = self.pick([name for name, value in self.values.items() if value.ndim] or None)
        value = self.values[one]
        if not value.ndim:
            return
        fitting = [
            (name, text)
            for name, other in self.values.items()
            for text, axis in ((name, -2 if other.ndim > 1 else -1), (f"{name}.mT", -1))
            if 1 <= other.ndim <= 3 and (other.ndim > 1 or ".mT" not in text) and other.shape[axis] == value.shape[-1]
            if _broadcast(value.shape[:-2], other.shape[:-2])
        ]
        if not fitting:
            return
        other, text = self.draw(st.sampled_from(fitting))
        if value.shape[:-1].numel() * self.values[other].numel() // value.shape[-1] <= MOST_ELEMENTS:
            self.write(f"{one} @ {text} / {math.sqrt(value.shape[-1])!r}", one, other)

    def reduction(self):
        name = self.pick()
        value = self.values[name]
        axes = sorted(self.draw(st.sets(st.integers(0, value.ndim - 1), min_size=1)) if value.ndim else ())
        count = math.prod(value.shape[axis] for axis in axes)
        keep = self.draw(st.booleans())
        kinds = [
            f"{{}}.sum({{}}, keepdim={keep}) / {math.sqrt(count)!r}",
            f"{{}}.mean({{}}, keepdim={keep})",
            f"torch.logsumexp({{}}, {{}}, keepdim={keep})",
            f"{{}}.square().sum({{}}, keepdim={keep}).add(0.1).sqrt()",
            f"({{}} + 0.01 * numbers({tuple(value.shape)}, {len(self.lines) + 30})).amax({{}}, keepdim={keep})",
        ]
        if count > 1:
            kinds.append(f"{{}}.var({{}}, keepdim={keep})")
        if axes:
            self.write(self.draw(st.sampled_from(kinds)).format(name, tuple(axes)), name)

    def along(self):
        name = self.pick()
        value = self.values[name]
        if not value.ndim:
            return
        axis = self.axis(value)
        size = value.shape[axis]
        index = [self.draw(st.integers(-size, size - 1)) for _ in range(3)]
        kinds = [
            f"{name}.softmax({axis})",
            f"0.3 * {name}.log_softmax({axis})",
            f"{name}.flip({axis})",
            f"{name}.roll({index[0]}, {axis})",
            f"{name}.select({axis}, {index[0]})",
            f"{name}.unsqueeze({axis})",
            f"torch.cat([{name}, torch.sin({name})], {axis})",
            f"torch.stack([{name}, 2 * {name}.cos()], {axis})",
            f"F.normalize({name} + 2, dim={axis})",
        ]
        if size > 1:
            start = self.draw(st.integers(0, size - 1))
            step = self.draw(st.integers(1, 3))
            end = self.draw(st.integers(start + 1, size))
            front = ":, " * (axis % value.ndim)
            kinds += [
                f"{name}.diff(dim={axis})",
                f"{name}[{front}{start}:{end}:{step}]",
                f"{name}.narrow({axis}, {start}, {end - start})",
                f"torch.cat([{name}.narrow({axis}, {start}, {size - start}), {name}.narrow({axis}, 0, {end})], {axis})",
            ]
            kinds.append(f"sum(k * part for k, part in enumerate({name}.unbind({axis})[:3]))")
        if value.ndim < 3:
            kinds.append(f"{name}.index_select({axis}, torch.tensor({[i % size for i in index]}))")
        if size % 2 == 0:
            kinds.append(f"F.glu({name}, {axis})")
        if value.ndim > 1:
            kinds += [f"{name}.tril({index[0] % 3 - 1})", f"{name} * {name}.triu().mean(-1, keepdim=True)"]
        if value.shape[axis] == 1:
            kinds += [f"{name}.squeeze({axis})", f"{name}.expand({_with(value.shape, axis, 7)})"]
        self.write(self.draw(st.sampled_from(kinds)), name)

    def reshaped(self):
        """Two to four views, one of another: all of it is arithmetic of indices."""
        name = text = self.pick()
        value = self.values[name]
        for _ in range(self.draw(st.integers(2, 4))):
            text += self.draw(st.sampled_from(self.view(value)))
            value = eval(text, {"torch": torch}, self.values)
        self.write(text, name)

    def view(self, value):
        kinds = [".reshape(-1)", ".unsqueeze(0)"]
        sizes = [size for size in (2, 3, 4, 5, 8, 10, 17, 20) if value.numel() % size == 0]
        kinds += [text for size in sizes for text in (f".reshape({size}, -1)", f".reshape(-1, {size})")]
        if value.ndim:
            axis = self.axis(value)
            kinds += [f".flip({axis})"] * 4
            kinds += [f".roll(1, {axis})", f".narrow({axis}, 0, {-(-value.shape[axis] * 2 // 3)})"]
        if value.ndim > 1:
            kinds += [f".permute({tuple(self.draw(st.permutations(range(value.ndim))))})"] * 4 + [".mT"] * 2
        return kinds


def _broadcast(one, other):
    return all(a == b or 1 in (a, b) for a, b in zip(one[::-1], other[::-1], strict=False))


def _with(shape, axis, size):
    changed = list(shape)
    changed[axis] = size
    return ", ".join(map(str, changed))


KINDS = ("unary", "kinked", "binary", "binary", "outer", *("product",) * 2, "reduction", *("along",) * 3, "reshaped")


@st.composite
def losses(draw):
    """A loss of two to twelve lines over up to three params and two data tensors, with few sizes, so that many fit."""
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3))
    shapes = st.lists(st.sampled_from([1, *sizes, *sizes]), max_size=3).map(tuple)
    shapes = shapes.filter(lambda shape: math.prod(shape) <= MOST_ELEMENTS)
    params = tuple(draw(st.lists(shapes, min_size=1, max_size=3)))
    data = tuple(draw(st.lists(shapes, max_size=2)))
    writer = Writer(draw)
    for seed, shape in enumerate((*params, *data)):
        writer.add(f"p{seed}" if seed < len(params) else f"x{seed}", numbers(shape, seed))
    names = list(writer.values)
    for _ in range(draw(st.integers(2, 12))):
        getattr(writer, draw(st.sampled_from(KINDS)))()
    ends = [f"({n} * numbers({tuple(writer.values[n].shape)}, {i + 40})).mean()" for i, n in enumerate(writer.unused)]
    lines = [f"{', '.join(names[: len(params)])}, = params", *writer.lines, f"return {' + '.join(ends)}"]
    header = f"def loss({', '.join(['params', *names[len(params) :]])}):"
    return Written("\n    ".join([header, *lines]), params, data)


# -- what must hold
# ----------------------------------------------------------------------------------------


def eager(loss, params, data, rate, steps):
    """(params after the steps, the losses before them), by torch."""
    history = []
    for _ in range(steps):
        own = [param.detach().requires_grad_() for param in params]
        value = loss(own, *data)
        gradients = torch.autograd.grad(value, own, materialize_grads=True)
        history.append(value.detach())
        params = [param.detach() - rate * gradient for param, gradient in zip(own, gradients, strict=True)]
    return params, torch.stack(history)


ROUNDINGS = 1e-9
"""Of the largest gradient: ten lines of sums over up to 8,000 elements, in another order, leave 1e-12 or so where
digits cancel; a wrong sign, index or factor would be a billion times that."""


AS_DRAWN = (Phase.explicit, Phase.reuse, Phase.generate)
"""A loss that fails is shown as it was drawn: to shrink it would compile a thousand others, for minutes."""


@pytest.mark.slow
@settings(max_examples=40, phases=AS_DRAWN)
@given(losses())
def test_fused_equals_eager(written):
    check(written)


@settings(max_examples=8, phases=AS_DRAWN)
@given(losses())
def test_fused_equals_eager_in_a_few(written):
    check(written)


def check(written):
    params, data = written.tensors()
    loss = written.loss()
    if not loss([param.requires_grad_() for param in params], *data).requires_grad:
        return
    # One step at rate 1 moves the params by their gradient; three short ones go through the loop.
    for steps, rate in ((1, 1.0), (3, 1e-2)):
        wanted, losses = eager(loss, params, data, rate, steps)
        if not all(value.isfinite().all() for value in (losses, *wanted)):
            return  # some do explode
        run = descend(loss, [p.detach() for p in params], data, learn_rate=rate, steps=steps, backend="fused")
        scale = max(1e-3, *(float((w - p).detach().abs().max()) for w, p in zip(wanted, params, strict=True)))
        assert run.loss.tolist() == pytest.approx(losses.tolist(), rel=ROUNDINGS, abs=ROUNDINGS)
        for got, want in zip(run.params, wanted, strict=True):
            assert float((got - want).abs().max()) <= ROUNDINGS * scale
