"""What `descend` is asked for beside a random loss: an optimizer, slices, clipping, aux, tensors that it writes to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """What a loss is to have beside its params and data.

    Attributes:
        slices: does it take one of `xs` last?
        aux: how many of its values it returns beside its number.
        kept: how many tensors there are that it may write to.
    """

    slices: bool
    aux: int
    kept: int


def wanted(r):
    """Mostly nothing."""
    return Wanted(r.random() < 0.15, r.choice((0, 0, 0, 0, 1, 2)), r.choice((0, 0, 0, 1, 2)))


def options(r, of):
    """(steps, the options as text)."""
    beside = "".join(
        [
            ", xs=xs0, cycle=True" if of.slices else "",
            ", has_aux=True" if of.aux else "",
            r.choice(("", "", "", "", ", clip_norm=0.3", ", clip_value=0.05")),
            r.choice(("", "", "", "", "", ", project=project")),
        ]
    )
    if r.random() < 0.35:
        return 1, f"learn_rate=1.0, steps=1, seed=1{beside}"
    steps = r.choice((2, 3, 4, 7))
    optimizer = r.choice(("'sgd'",) * 4 + ("'momentum'", "'nesterov'", "'adam'", "'adamw'"))
    every = r.choice((1, 1, 2, 3, None))
    return steps, f"learn_rate=0.02, steps={steps}, optimizer={optimizer}, trace_every={every}, seed=1{beside}"
