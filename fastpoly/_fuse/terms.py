"""What a sum adds up: its terms in chains, and the divisor that all of them have."""

from __future__ import annotations

import math

from .expressions import Expr
from .rules import COMBINE


def combined(kind: str, terms: list[Expr]) -> Expr:
    """The sum of the terms in two chains, which wait for each other only at the end."""
    if not terms:
        return Expr.of({"add": 0.0, "mul": 1.0, "maximum": -math.inf, "minimum": math.inf}[kind])
    if len(terms) >= 4:
        half = (len(terms) + 1) // 2
        return COMBINE[kind](_chain(kind, terms[:half]), _chain(kind, terms[half:]))
    return _chain(kind, terms)


def _chain(kind: str, terms: list[Expr]) -> Expr:
    result = terms[0]
    for term in terms[1:]:
        result = COMBINE[kind](result, term)
    return result


def divided(expr: Expr) -> tuple[Expr, Expr]:
    """(dividend, divisor) whose quotient it is; the divisor is the same in every turn of every loop."""
    if expr.op == "div" and not expr.args[1].axes:
        return expr.args
    if expr.op == "mul":
        # a quotient that is a factor itself is in nobody else's way; one deeper down may be needed anyway
        for one, other in sorted((expr.args, expr.args[::-1]), key=lambda sides: sides[0].op != "div"):
            dividend, divisor = divided(one)
            if divisor.number != 1:
                return dividend * other, divisor
    return expr, Expr.of(1.0)
