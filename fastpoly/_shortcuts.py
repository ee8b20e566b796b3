"""A call of `value_and_grad` as it was made before, as a text of its own: no loop over what is always the same.

Such a call takes a few microseconds, of which a dictionary of kinds, loops over leaves and a tree of results would take
half. The text asks whether the arguments are of the kind that it was written for, and does what is to be done for
that kind, one statement after the other:

    def call(params, data):
        if not (type(params) in TENSORS and params.shape == S0 and params.dtype is D0 and ...):
            return None
        ...
        a0.value = params.data_ptr()
        copy0()
        if not kernel():
            return None
        n0 = copy_out0()
        ...
        return from_numpy(n0), from_numpy(n1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._torch_private import tree

if TYPE_CHECKING:
    from ._fuse.evaluation import Call, Evaluation
    from ._gradients import Kind

NUMBERS = (int, bool, str)

Shortcut = Callable[[Any, tuple[Any, ...]], "tuple[Any, Any] | None"]


def shortcut(kind: Kind) -> Shortcut | None:
    """A function of (params, data) that returns what a call of this kind does, or None if the call is of another kind,
    out of date or not finite; None if there is none for this kind, which has objects that are compared in other ways.
    """
    if kind.evaluation is None:
        return None
    call = kind.evaluation.lent()
    writer = _Writer(kind, kind.evaluation, call)
    found = writer.function() if call.is_plain and all(map(writer.asks, ("params", "data"), kind.given)) else None
    kind.evaluation.given_back(call)
    return found


class _Writer:
    """The text while it is written.

    Attributes:
        lines: of the function.
        leaves: the names of the arrays and tensors of floats, in their order.
        moves: the statements that hand them over.
    """

    def __init__(self, kind: Kind, evaluation: Evaluation, call: Call) -> None:
        self.kind = kind
        self.call = call
        self.lines: list[str] = []
        self.leaves: list[str] = []
        self.moves: list[str] = []
        self.objects: dict[str, Any] = {
            "TENSORS": frozenset((torch.Tensor, torch.nn.Parameter)),
            "ARRAY": np.ndarray,
            "from_numpy": torch.from_numpy,
            "kind": kind,
            "unflatten": tree.tree_unflatten,
            "lent": evaluation.lent,
            "given_back": evaluation.given_back,
            "is_up_to_date": kind.is_up_to_date,
        }

    def constant(self, value: Any) -> str:
        """The name of an object that the text needs."""
        name = f"C{len(self.objects)}"
        self.objects[name] = value
        return name

    def unless(self, test: str) -> None:
        """The call is of another kind unless this holds."""
        self.lines += [f"if not ({test}):", "    return None"]

    # -- what comes in

    def asks(self, name: str, like: Any) -> bool:
        """Ask whether a variable is of the same kind as a value; False if that cannot be asked here."""
        cls = type(like)
        if cls is list or cls is tuple or cls is dict:
            test = f"type({name}) is {cls.__name__} and len({name}) == {len(like)}"
            self.unless(test if cls is not dict else f"{test} and (*{name},) == {self.constant((*like,))}")
            names = [f"{name}_{at}" for at in range(len(like))]
            if names:
                self.lines.append(f"{', '.join(names)}, = {name}" + (".values()" if cls is dict else ""))
            return all(map(self.asks, names, like.values() if cls is dict else like))
        if cls is torch.Tensor or cls is torch.nn.Parameter:
            return self._asks_tensor(name, like)
        if cls is np.ndarray and like.dtype.char in "fd":
            same = f"{name}.shape == {self.constant(like.shape)} and {name}.dtype == {self.constant(like.dtype)}"
            self.unless(f"type({name}) is ARRAY and {same}")
            self.moves.append(f"p{len(self.leaves)}[...] = {name}")
            self.leaves.append(name)
            return True
        if cls in NUMBERS:
            self.unless(f"type({name}) is {cls.__name__} and {name} == {self.constant(like)}")
        elif cls is float:  # of which 0 is -0, and NaN is not NaN
            self.unless(f"type({name}) is float and repr({name}) == {self.constant(repr(like))}")
        else:
            return False
        return True

    def _asks_tensor(self, name: str, like: torch.Tensor) -> bool:
        at = len(self.leaves)
        if not (like.dtype.is_floating_point and like.is_cpu and like.is_contiguous()):
            return False
        if self.call.places[at][1] is None:
            return False
        same = f"{name}.dtype is {self.constant(like.dtype)} and {name}.shape == {self.constant(like.shape)}"
        plain = f"{name}.is_cpu and {name}.is_contiguous() and not {name}.is_neg()"
        self.unless(f"type({name}) in TENSORS and {same} and {plain}")
        self.moves += [f"a{at}.value = {name}.data_ptr()", f"copy{at}()"]
        self.leaves.append(name)
        return True

    # -- what comes out

    def function(self) -> Shortcut:
        """The function."""
        kind, count = self.kind, len(self.call.copies)
        self.unless("is_up_to_date()")
        slots = [f"p{at}, a{at}, copy{at}" for at in range(len(self.leaves))]
        self.lines += ["slot = lent()", f"kernel, {''.join(f'({part}), ' for part in slots)}copies = slot.parts"]
        self.lines += [f"{''.join(f'copy_out{at}, ' for at in range(count))} = copies", *self.moves]
        self.lines += ["if not kernel():", "    given_back(slot)", "    return None"]
        self.lines += [f"n{at} = copy_out{at}()" for at in range(count)]
        self.lines += ["given_back(slot)", "kind.calls = calls = kind.calls + 1", "if calls == kind.due:"]
        numpys = ", ".join(f"n{at}" for at in range(count))
        self.lines.append(f"    kind.check([{', '.join(self.leaves)}], [{numpys}])")
        made = [f"n{at}" if kind.is_numpy else f"from_numpy(n{at})" for at in range(count)]
        value = "float(n0)" if kind.is_numpy else made[0]
        grads = self._tree(kind.given[0], iter(made[1:]))
        if kind.of.has_aux:
            aux = self.constant(kind.aux)
            value = f"({value}, unflatten([{', '.join(made[1 + kind.count :])}], {aux}))"
        self.lines.append(f"return {value}, {grads}")
        text = "\n    ".join(["def call(params, data):", *self.lines])
        found: dict[str, Any] = {}
        exec(compile(text, f"<a call of {kind.of!r}>", "exec"), self.objects, found)
        return found["call"]  # type: ignore[no-any-return]

    def _tree(self, like: Any, leaves: Iterator[str]) -> str:
        """The params' structure with these."""
        cls = type(like)
        if cls is list:
            return f"[{', '.join(self._tree(part, leaves) for part in like)}]"
        if cls is tuple:
            return f"({''.join(self._tree(part, leaves) + ', ' for part in like)})"
        if cls is dict:
            pairs = (f"{self.constant(key)}: {self._tree(part, leaves)}" for key, part in like.items())
            return f"{{{', '.join(pairs)}}}"
        is_leaf = isinstance(like, (torch.Tensor, np.ndarray))
        return next(leaves) if is_leaf else self.constant(like)
