"""The instructions of two operands: what each is in Python and in LLVM, for expressions, kernels and pages alike."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple


class Instruction(NamedTuple):
    """What there is to know of an instruction.

    Attributes:
        sign: Python's.
        strength: how strongly that binds.
        known: what it makes of operands that are known.
        floats: LLVM's for floats; "" if it takes none.
        others: LLVM's for indices, of nothing below 0, or for truths.
    """

    sign: str
    strength: int
    known: Callable[[Any, Any], Any]
    floats: str = ""
    others: str = ""


INSTRUCTIONS = {
    "add": Instruction("+", 5, operator.add, "fadd contract", "add nsw"),
    "sub": Instruction("-", 5, operator.sub, "fsub contract", "sub nsw"),
    "mul": Instruction("*", 6, operator.mul, "fmul contract", "mul nsw"),
    "div": Instruction("/", 6, operator.truediv, "fdiv contract"),
    "floordiv": Instruction("//", 6, operator.floordiv, "", "sdiv"),
    "mod": Instruction("%", 6, operator.mod, "", "srem"),
    "lt": Instruction("<", 1, operator.lt, "fcmp olt", "icmp slt"),
    "le": Instruction("<=", 1, operator.le, "fcmp ole", "icmp sle"),
    "gt": Instruction(">", 1, operator.gt, "fcmp ogt", "icmp sgt"),
    "ge": Instruction(">=", 1, operator.ge, "fcmp oge", "icmp sge"),
    "eq": Instruction("==", 1, operator.eq, "fcmp oeq", "icmp eq"),
    "ne": Instruction("!=", 1, operator.ne, "fcmp une", "icmp ne"),  # NaN differs from all
    "and": Instruction("&", 4, operator.and_, "", "and"),
    "or": Instruction("|", 2, operator.or_, "", "or"),
    "xor": Instruction("^", 3, operator.xor, "", "xor"),
}

COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
