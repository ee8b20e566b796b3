"""Writes a random loss, one line after the other, and runs each line at once: only what torch takes is kept.

One seed, one loss. What it is written of stands in `fuzzer_lines`.
"""

import contextlib
import math
import random
from dataclasses import dataclass

import torch
from fuzzer_lines import KINDS, RARELY
from fuzzer_options import options, wanted
from fuzzer_prelude import END, PRELUDE

LONG = (15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 511, 512, 513, 4095, 4096, 4097)
"""One below, at and above what registers and blocks of them hold."""

SHORT = (1, 1, 2, 3, 4, 5, 7, 8, 9)

MOST = 70_000
"""Elements of a value."""

LARGEST = 30
"""Beyond, digits cancel, and what differs is rounding."""

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

ODD = (
    "beta",
    "beta_0",
    "beta_0_1",
    "w",
    "w_1",
    "j0",
    "k1",
    "i",
    "float",
    "int",
    "step",
    "steps",
    "out",
    "carry",
    "scratch",
)
ODD += (
    "data",
    "math",
    "there",
    "block",
    "row",
    "value",
    "value_1",
    "sum",
    "sum_1",
    "mean",
    "load",
    "c1",
    "next",
    "_",
    "exp",
)
ODD += (
    "room",
    "counter",
    "thread",
    "lambda_",
    "W",
    "kernel",
    "first",
    "last",
    "end",
    "np",
    "range_",
    "True_",
    "add",
    "data_1",
)
"""Names of the kernel's own, and names that its numbering may make."""

NEEDED = dict.fromkeys(
    "mn", ("{a} > 0.1", "{a} > 0.1", "{a}.detach() < 0.3", "clean({a}) != 0", "{a} > 100", "{a} < 100")
)
NEEDED |= dict.fromkeys(
    "ef", ("({a} > 0.1).long()", "({a} > 0.3) + 1", "({a} < 0.3).to(torch.uint8)", "({a}.detach() * 0 + 3).long()")
)
"""What is written first where a line wants a mask, or whole numbers, and there are none."""


@dataclass(frozen=True)
class Loss:
    """A loss as a script that runs by itself.

    Attributes:
        text: defines `loss`, `params` and `data`.
        options: of `descend`, as text.
        kinds: of its lines.
        cycles: what a thread must have to do; few make threads share small losses, too.
        split: None, or after how many steps the run is taken up again.
        dtype: of its floats.
    """

    text: str
    options: str
    kinds: tuple[str, ...]
    cycles: int
    split: int | None
    dtype: str

    @property
    def script(self):
        """All of it, with a comparison at its end."""
        return self.text + END.format(options=self.options, cycles=self.cycles)


def write(seed):
    """The loss of a seed."""
    return _Writer(seed).write()


class _Writer:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.dtype = "float32" if self.r.random() < 0.25 else "float64"
        self.prelude = PRELUDE.replace("{dtype}", self.dtype)
        self.scope = {}
        exec(self.prelude, self.scope)
        self.D = self.scope["D"]
        self.setup, self.lines, self.kinds = [], [], []
        self.floats, self.masks, self.whole, self.others = [], [], [], []
        self.unused = []
        self.count = 0
        self.wanted = wanted(self.r)

    def write(self):
        r = self.r
        torch.manual_seed(r.randrange(2**30))  # of what lines draw while they are written
        self._choose_sizes()
        self._params()
        self._data()
        self._beside()
        self._begin()
        kinds = [kind for kind, (_, often, _) in KINDS.items() for _ in range(often)]
        wanted, made = r.randint(1, 9), 0
        for _ in range(30):
            if made < wanted:
                kind = r.choice(kinds)
                made += any(self._line(kind) for _ in range(8))
        value = " + ".join(self._ends()) or f"{self.names[0]}.sum()"
        aux = [r.choice([*self.floats, *self.masks, *self.kept]) for _ in range(self.wanted.aux)]
        self.lines.append(f"return {value}" + (f", ({', '.join(aux)},)" if aux else ""))
        head = f"def loss({', '.join(['params', *self.data, *self.slices])}):"
        data = "".join(f"{name}, " for name in self.data)
        parts = [
            *self.setup,
            f"params = {self._packed()}",
            f"data = ({data})",
            f"buffers = [{', '.join(self.kept)}]",
            "\n",
            head,
            *["    " + line for line in self.lines],
        ]
        steps, asked = options(r, self.wanted)
        goes_on = not (self.slices or self.kept or self.wanted.aux or "draws" in self.kinds)
        split = r.randint(1, steps - 1) if steps > 1 and goes_on and r.random() < 0.2 else None
        cycles = 50 if r.random() < 0.4 else 12_000
        return Loss(self.prelude + "\n".join(parts), asked, tuple(self.kinds), cycles, split, self.dtype)

    # -- what it is given

    def _choose_sizes(self):
        r = self.r
        self.long = r.choice(LONG) if r.random() < 0.7 else r.choice(SHORT)
        self.short = [r.choice(SHORT) for _ in range(2)]

    def _shape(self, most=3):
        r = self.r
        while True:
            sizes = [self.long, *self.short, 1]
            shape = tuple(r.choice(sizes) for _ in range(min(most, r.choice((0, 1, 1, 1, 2, 2, 3)))))
            if math.prod(shape) <= 20_000 and shape.count(self.long) <= 1 + (self.long < 130):
                return shape

    def _name(self, stem, taken):
        if self.r.random() < 0.3:
            name = self.r.choice(ODD)
            if name not in taken and name != "sum":  # losses call it
                return name
        return f"{stem}{len(taken)}"

    def _params(self):
        r = self.r
        self.names = []
        for i in range(r.choice((1, 1, 2, 2, 3))):
            shape, last = self._shape(2), self.names[-1] if self.names else None
            kinds = (
                [f"num({shape}, {i})"] * 14
                + [f"(num({shape}, {i}) * 2).round() / 2"]
                + [
                    f"num({(*shape, 2)}, {i})[..., 0]",
                    f"num((1,), {i})[0].expand({shape})",
                ]
            )
            kinds.append(f"num({shape[::-1]}, {i}).permute({tuple(range(len(shape)))[::-1]})")
            if last:
                kinds += [last, f"{last}.reshape(-1)[:1]"]  # the same tensor twice, and a view of another
            self._give(self._name("p", self.names), r.choice(kinds), self.names)
        containers = (
            ("list", "tuple", "dict", "odd", "nested") if len(self.names) > 1 else ("tensor", "list", "dict", "odd")
        )
        self.container = r.choice(containers)
        self.keys = r.sample([*ODD, 0, 1, "0", "ﬁ", "x²", "a b", "p.q", "beta.0", "", "é"], len(self.names))

    def _data(self):
        r = self.r
        self.data = []
        for i in range(r.choice((0, 1, 1, 2, 2, 3))):
            shape, seed = self._shape(), i + 10
            if r.random() < 0.6 and math.prod(shape) < self.long:
                shape = (self.long,)
            rest = ", ".join(map(str, (*shape[1:], "")))
            kinds = [f"num({shape}, {seed})"] * 12
            kinds += [f"num((1,), {seed})[0].expand({shape})", f"torch.ones({shape}, dtype=D)", r.choice(self.names)]
            kinds += [f"(num({shape}, {seed}) * 2).round() / 2", f"num({shape}, {seed}, torch.bfloat16)"]
            kinds += [f"num({shape}, {seed}) > {level}" for level in (0.1, 0.1, 2, -2)]
            kinds += [f"(num({shape}, {seed}) * {scale}).to({dtype})" for scale in (5, 90) for dtype in WHOLE[1:]]
            kinds += [f"(num({shape}, {seed}) * 100).abs().to(torch.uint8)"] * 2
            kinds += [f"num({shape}, {seed}, torch.float32)", f"num({shape}, {seed}, torch.float64)"]
            if shape:
                kinds += [f"num(({shape[0] * 2}, {rest}), {seed})[::2]", f"num(({shape[0]}, {rest}), {seed}).flip(0)"]
                kinds += [f"num((0, {rest}), {seed})"] * 2
                kinds += [
                    f"num((0, {rest}), {seed}) > 0",
                    f"torch.arange({shape[0]})",
                    f"torch.zeros(0, {rest} dtype=torch.long)",
                ]
            if self.data:
                last = self.data[-1]
                kinds += [r.choice(self.data), f"{last}.reshape(-1)[1:]", f"{last}.mT", f"{last}[None]"]
            self._give(self._name("d", [*self.data, *self.names]), r.choice(kinds), self.data)
        self.closure = None
        if r.random() < 0.15:
            self.closure = "closed"
            self.setup.append(f"closed = num({self._shape(2)}, 60).requires_grad_()")
            exec(self.setup[-1], self.scope)

    def _beside(self):
        """Slices of `xs`, and tensors that lines may write to."""
        self.slices, self.kept = [], []
        if self.wanted.slices:
            self._give("xs0", f"num({(self.r.randint(1, 5), *self._shape(2))}, 70)", self.slices)
            self.slices = ["batch"]
            self.scope["batch"] = self.scope["xs0"][0]
        for i in range(self.wanted.kept):
            self._give(f"kept{i}", f"num({self._shape(2)}, {80 + i})", self.kept)

    def _give(self, name, text, names):
        with contextlib.suppress(Exception):
            exec(f"{name} = {text}", self.scope)
            self.setup.append(f"{name} = {text}")
            names.append(name)

    def _packed(self):
        names, pairs = self.names, zip(self.keys, self.names, strict=True)
        return {
            "tensor": names[0],
            "list": f"[{', '.join(names)}]",
            "tuple": f"({', '.join(names)},)",
            "dict": "{" + ", ".join(f"'{name}': {name}" for name in names) + "}",
            "odd": "{" + ", ".join(f"{key!r}: {name}" for key, name in pairs) + "}",
            "nested": f"{{'a': {names[0]}, 'b': [{', '.join(names[1:])}]}}",
        }[self.container]

    def _begin(self):
        names = self.names
        self.lines.append(
            {
                "tensor": f"{names[0]} = params",
                "list": f"{', '.join(names)}, = params",
                "tuple": f"{', '.join(names)}, = params",
                "dict": "; ".join(f"{name} = params['{name}']" for name in names),
                "odd": "; ".join(f"{name} = params[{key!r}]" for key, name in zip(self.keys, names, strict=True)),
                "nested": f"{names[0]} = params['a']; {', '.join(names[1:])}, = params['b']",
            }[self.container]
        )
        for name in names:
            self.scope[name] = self.scope[name].detach().clone().requires_grad_()
        for name in (*names, *self.data, *self.slices, *self.kept):
            self._add(name, self.scope[name])

    def _add(self, name, value):
        kind = {self.D: self.floats, torch.bool: self.masks}.get(
            value.dtype, self.whole if value.dtype in WHOLE else self.others
        )
        kind.append(name)
        if kind is not self.others:
            self.unused.append(name)

    # -- lines

    def _line(self, kind):
        """Write a line of a kind; was it possible?"""
        table, _, result = KINDS[kind]
        template = self.r.choice(table)
        if any(word in template for word in RARELY) and self.r.random() < 0.9:
            return False
        if kind == "setitem" and self.r.random() < 0.5:
            return False
        self.count += 1
        new = f"v{self.count}"
        text, used = self._filled(template, new)
        if text is None:
            return False
        if "\n" not in text and not text.startswith(new):
            text = f"{new} = {text}"
        before = dict(self.scope)
        try:
            exec(text, self.scope)
            kept = self._is_good(self.scope[new], result)
        except Exception:
            kept = False
        if not kept:
            self.scope = before
            return False
        self.lines.extend(text.splitlines())
        self.unused = [name for name in self.unused if name not in used]
        self._add(new, self.scope[new])
        self.kinds.append(kind)
        return True

    def _is_good(self, value, result):
        wanted = {"float": (self.D,), "mask": (torch.bool,), "whole": WHOLE}[result]
        if value.numel() > MOST or value.ndim > 5 or value.dtype not in wanted:
            return False
        if result != "float" or not value.numel():
            return True
        return bool(value.detach().isfinite().all()) and float(value.detach().abs().max()) < LARGEST

    def _pick(self, names):
        fresh = [name for name in self.unused if name in names]
        return self.r.choice(fresh if fresh and self.r.random() < 0.7 else names)

    def _filled(self, template, new):
        """The template with its holes filled, and the names that are used; (None, ()) if there is nothing for one."""
        r = self.r
        a = self._pick(self.floats)
        value = self.scope[a]
        holes = {"a": a, "t": new, "k": r.randint(2, 6), "step": r.randint(1, 4), "keep": r.choice((True, False))}
        shape = tuple(value.shape)
        fits = {
            "bs": self.floats,
            "mn": self.masks,
            "ef": self.whole,
            "o": self.others,
            "c": [self.closure] if self.closure else [],
            "z": self.kept,
        }
        any_shape = "@" in template or "torch." in template or "reshape(-1)" in template
        for keys, names in fits.items():
            for key in keys:
                if f"{{{key}}}" not in template:
                    continue
                into = key == "s"
                found = [n for n in names if self._fits(self.scope[n].shape, shape, into)]
                if key == "b" and any_shape and r.random() < 0.5:
                    found = names
                if key in "cz":
                    found = names
                if not found and key in NEEDED:
                    found = self._needed(key, a)
                if not found:
                    return None, ()
                holes[key] = self._pick(found)
        used = [str(name) for name in holes.values()]
        d = r.randrange(max(value.ndim, 1))
        size = shape[d] if shape else 1
        i, j = (self._place(size) for _ in range(2))
        lo, hi = sorted((i, j))
        axes = tuple(r.sample(range(value.ndim), r.randint(1, value.ndim))) if value.ndim else ()
        axes = tuple(x - value.ndim for x in axes) if r.random() < 0.3 else axes
        holes |= {"d": d, "dd": r.choice((d, d - max(value.ndim, 1))), "size": size, "count": max(value.numel(), 1)}
        holes |= {"i": i, "j": j, "lo": lo, "hi": hi, "axes": axes, "front": ":, " * d, "shape": shape}
        holes |= {
            "to1": _with(shape, d, 1),
            "to3": _with(shape, d, 3),
            "along": tuple(n if x == d else 1 for x, n in enumerate(shape)),
        }
        holes["cut"] = tuple(r.randint(0, n) if r.random() < 0.5 else n for n in shape)
        holes["order"] = tuple(r.sample(range(value.ndim), value.ndim))
        holes["root"] = repr(math.sqrt(max(shape[-1] if shape else 1, 1)))
        text = template
        for key, hole in holes.items():
            text = text.replace(f"{{{key}}}", str(hole))
        return text, used

    def _needed(self, key, a):
        """A mask or whole numbers, as names of one or none: what a line wants and there is none of."""
        self.count += 1
        name, text = f"v{self.count}", self.r.choice(NEEDED[key]).replace("{a}", a)
        exec(f"{name} = {text}", self.scope)
        self.lines.append(f"{name} = {text}")
        self._add(name, self.scope[name])
        return [name]

    def _place(self, size):
        r = self.r
        return max(0, r.choice((0, size - 1, size - 2, r.randrange(max(size, 1)), size // 2)))

    @staticmethod
    def _fits(one, other, into):
        if into and len(one) > len(other):
            return False
        pairs = zip(one[::-1], other[::-1], strict=False)
        return all(a == b or a == 1 or (b == 1 and not into) for a, b in pairs)

    def _ends(self):
        """All that is left over, as numbers: every element counts, in its own way."""
        if not any(self.scope[name].requires_grad for name in self.unused):
            yield f"({self.names[0]} + 0.1).square().sum() * 0.1"
        for k, name in enumerate(self.unused):
            value = self.scope[name]
            shape = tuple(value.shape)
            weights = f"num({shape}, {k + 40})"
            if not value.numel():
                yield f"{name}.to(D).sum()"
            elif value.dtype == torch.bool:
                yield f"({name} * {weights}).mean()"
            elif value.dtype != self.D:
                yield f"(torch.tanh({name}.to(D) * 0.01) * {weights}).mean()"
            else:
                squares = (f"({name} - 0.3).square().mean()", f"{name}.square().sum() / {value.numel()}")
                yield self.r.choice(
                    (f"({name} * {weights}).mean()",) * 3 + (*squares, f"F.mse_loss({name}, {weights})")
                )


def _with(shape, d, size):
    return tuple(size if x == d else n for x, n in enumerate(shape))
