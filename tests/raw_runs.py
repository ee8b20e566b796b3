"""`fit` and `fit_many` as the post runs: powers of x itself, 200,000 steps at 1e-5 unless told otherwise."""

import inspect
import types

import fastpoly


def with_defaults(function, **changed):
    """The same function with other defaults. No frame comes between it and its caller, whom warnings name."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: changed.get(p.name, p.default) for p in parameters}
    kinds = {p.name: p.kind for p in parameters}
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    positional = [n for n, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    copy.__defaults__ = tuple(defaults[n] for n in positional if defaults[n] is not inspect.Parameter.empty)
    copy.__kwdefaults__ = {n: defaults[n] for n, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    return copy


POSTS = {"steps": 200_000, "learn_rate": 1e-5, "domain": None}

fit = with_defaults(fastpoly.fit, **POSTS)
fit_many = with_defaults(fastpoly.fit_many, **POSTS, problems="rows")
