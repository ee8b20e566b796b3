"""Sums of products as chains of fused multiply-adds.

`y - (x1 * w1 + ... + x5 * w5)` as it stands is the sum in two chains, their sum, and a subtraction: 7 instructions. As
`y - x1 * w1 - ... - x5 * w5` it is 5, and its result comes as early. (The post's loop in single, 16 samples to a
register: 12 % less time a step.)
"""

from __future__ import annotations

from collections import Counter

from .expressions import Expr, in_order
from .plan import Nest, Store
from .schedule import Schedule

LONGEST = 8
"""Products in one chain: each waits four cycles for the one before."""

Term = tuple[int, Expr]
"""A sign, 1 or -1, and what has it."""


def chain(schedule: Schedule) -> None:
    """Write the sums that a schedule's nests take as chains."""
    for nest in schedule.nests:
        _Chains(schedule, nest).write()
    for recurrence in schedule.recurrences:
        chain(recurrence.iteration)


class _Chains:
    """The expressions of one nest."""

    def __init__(self, schedule: Schedule, nest: Nest) -> None:
        self.origin = schedule.origin
        self.nest = nest
        self.stored = {root.value for root in nest.roots if isinstance(root, Store)}
        self.exprs = in_order((root.value for root in nest.roots), self._operands)
        self.users = Counter(operand for expr in self.exprs for operand in self._operands(expr))
        self.users.update(root.value for root in nest.roots)
        self.inner = {o for expr in self.exprs for o in expr.operands if self._continues(expr, o)}
        self.new: dict[Expr, Expr] = {}

    def write(self) -> None:
        """Replace the values of the nest's roots."""
        for expr in self.exprs:
            self.new[expr] = new = self._rewritten(expr)
            if new is not expr and expr in self.origin:
                self.origin.setdefault(new, self.origin[expr])
        for root in self.nest.roots:
            root.value = self.new[root.value]

    def _operands(self, expr: Expr) -> tuple[Expr, ...]:
        """What it is computed from; what the nest stores itself is at hand."""
        if expr.op == "kept":
            return expr.args[:1] if expr.args[0] in self.stored else ()
        return expr.operands

    def _continues(self, expr: Expr, operand: Expr) -> bool:
        """Is `operand` a part of the sum `expr` and of nothing else, and computed in the same loop?"""
        both_sums = expr.op in ("add", "sub") and operand.op in ("add", "sub")
        return both_sums and self.users[operand] == 1 and operand.axes == expr.axes

    def _rewritten(self, expr: Expr) -> Expr:
        if expr.op in ("add", "sub") and expr not in self.inner:
            terms = self._terms(expr)
            products = [term for term in terms if term[1].op == "mul" and term[1].axes == expr.axes]
            others = [term for term in terms if term not in products]
            # what cancels must do so where it stands: x * y - x * y + z is z, and z + x * y - x * y is not
            is_plain = len(terms) == len({part for _, part in terms})
            if len(products) > 1 and is_plain and any(sign > 0 for sign, _ in others):
                return self._chained(sorted(others, reverse=True, key=lambda term: term[0]), products)
        if expr.op == "kept":
            return Expr("kept", self.new[expr.args[0]], expr.args[1]) if expr.args[0] in self.stored else expr
        if all(self.new[operand] is operand for operand in expr.operands):
            return expr
        args = (self.new[argument] if isinstance(argument, Expr) else argument for argument in expr.args)
        return Expr(expr.op, *args, is_bool=expr.is_bool)

    def _terms(self, expr: Expr) -> list[Term]:
        """What a sum consists of, in its order."""
        found: list[Term] = []
        stack = [(1, expr)]
        while stack:
            sign, part = stack.pop()
            if part is expr or part in self.inner:
                left, right = part.args
                stack += [(-sign if part.op == "sub" else sign, right), (sign, left)]
            elif part.op == "mul" and part.args[0].number == -1:
                found.append((-sign, part.args[1]))
            else:
                found.append((sign, part))
        return found

    def _chained(self, others: list[Term], products: list[Term]) -> Expr:
        """The sum of the others, and of the products from there on; in several chains if there are many products."""
        count = -(-len(products) // LONGEST)
        length = -(-len(products) // count)
        result = self._sum([*others, *products[:length]])
        for start in range(length, len(products), length):
            part = products[start : start + length]
            sign = part[0][0]
            result = Expr("add" if sign > 0 else "sub", result, self._sum([(s * sign, e) for s, e in part]))
        return result

    def _sum(self, terms: list[Term]) -> Expr:
        """One after the other; the first one's sign is 1."""
        result = self.new[terms[0][1]]
        for sign, term in terms[1:]:
            new = self.new[term]
            if result.number is not None and new.number is not None:
                result = Expr.of(result.number + sign * new.number)
            else:
                result = Expr("add" if sign > 0 else "sub", result, new)
        return result
