"""The line of the caller's code that an operation comes from, in the backward pass too."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

from .._errors import UnsupportedOperationError
from .._torch_private import differentiated, sequence_number
from .graph import Where

NOT_THE_CALLER = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1] / "_"), "<frozen")
"""Files that start so are torch's, our own or Python's: a line there is not what the caller wrote."""


def place(where: Where | None) -> str:
    """Where an operation was asked for, to go on in a message with."""
    return f" in {where} ({where.text})" if where else ""


def kept_outside(where: Where | None) -> UnsupportedOperationError:
    """The refusal of a loss that keeps a tensor for later."""
    return UnsupportedOperationError(
        f"the loss keeps a tensor{place(where)} in a variable outside: it would be filled once and not in every step. "
        "Way out: compute it from the result, or backend='eager'"
    )


class Callers:
    """Lines by where Python stands, each looked up once: with its place in the byte code a function has one line."""

    def __init__(self) -> None:
        self._is_theirs: dict[int, bool] = {}  # by the ids of code
        self._codes: list[CodeType] = []  # that have these ids
        self._lines: dict[tuple[int, int], tuple[Where, Where]] = {}
        self._same: dict[Where, tuple[Where, Where]] = {}
        self._of_forward: dict[int, tuple[Where, Where]] = {}  # by autograd's sequence number

    def line(self) -> Where | None:
        """The caller's line; in the backward pass the one whose gradient is being computed."""
        number = differentiated()
        if number is not None:
            found = self._of_forward.get(number)
            return None if found is None else found[1]
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            code = id(frame.f_code)
            is_theirs = self._is_theirs.get(code)
            if is_theirs is None:
                is_theirs = self._is_theirs[code] = not frame.f_code.co_filename.startswith(NOT_THE_CALLER)
                self._codes.append(frame.f_code)
            if is_theirs:
                pair = self._lines.get((code, frame.f_lasti))
                if pair is None:
                    file, number = frame.f_code.co_filename, frame.f_lineno
                    pair = Where(file, number), Where(file, number, gradient=True)
                    pair = self._lines[code, frame.f_lasti] = self._same.setdefault(pair[0], pair)
                self._of_forward[sequence_number()] = pair
                return pair[0]
            frame = frame.f_back
        return None
