"""Calls of a loss and its gradient: each kind of call has a kernel, made when it comes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ._errors import BackendUnavailableError, UnsupportedOperationError
from ._fuse.evaluation import Evaluation
from ._guards import guards
from ._inside import inside
from ._shortcuts import Shortcut, shortcut
from ._steadiness import refuse_unsteady
from ._tensors import one_number, pair, refuse_no_floats, refuse_no_tensor, tensor_labels
from ._torch_private import tree, version
from ._warn import warn_once

REMEMBERED = 64
"""Kernels of a function: for shapes and numbers that were asked for last."""

CHECKED = 100
"""The first call of a kernel is compared with torch's own, and then those after this many, ten times as many, ..."""

TOLD = 10
"""Times that a loss is traced anew before that is said."""


class Gradients:
    """See `value_and_grad`.

    Calls differ by their *kind*: the structure, shapes and dtypes of what they are called with, and the values of what
    is no tensor of floats.
    """

    def __init__(self, loss: Callable[..., Any], has_aux: bool, backend: str) -> None:
        self.loss, self.has_aux, self.backend = loss, has_aux, backend
        self._kinds: OrderedDict[Any, Kind] = OrderedDict()
        self._outdated = 0
        self._shortcut: Shortcut | None = None  # of the kind that was called last

    def __call__(self, params: Any, *data: Any) -> tuple[Any, Any]:
        if self._shortcut is not None:
            found = self._shortcut(params, data)
            if found is not None:
                return found
        leaves: list[Any] = []
        key = _key(params, leaves), *[_key(part, leaves) for part in data]
        call = self._kinds.get(key)
        if call is None or not call.is_up_to_date():
            if call is not None:
                self._tell_of_another()
            call = self._kinds[key] = Kind(self, params, data, leaves)
            self._kinds.move_to_end(key)
            while len(self._kinds) > REMEMBERED:
                self._kinds.popitem(last=False)
        found = call(leaves, params)
        self._shortcut = call.shortcut
        return found

    @property
    def source(self) -> str | None:
        """The text of the kernel that was made last; None if there is none."""
        pages = [call.evaluation.page for call in self._kinds.values() if call.evaluation is not None]
        return pages[-1]() if pages else None

    def _tell_of_another(self) -> None:
        self._outdated += 1
        if self._outdated == TOLD:
            warn_once(
                f"value_and_grad: the loss was traced anew {TOLD} times, since what it reads beside its arguments was "
                "another each time: that takes milliseconds. Hand it over as data",
                RuntimeWarning,
                self.loss,
            )

    def __repr__(self) -> str:
        return f"<value_and_grad of {getattr(self.loss, '__name__', 'a loss')}>"


class Kind:
    """Calls of one kind.

    Attributes:
        shortcut: does what a call does, see `shortcut`; None before the first call, and if there is none.
    """

    def __init__(self, of: Gradients, params: Any, data: tuple[Any, ...], leaves: list[Any]) -> None:
        own: list[Any] = []
        _key(params, own)
        self.of, self.given = of, (params, data)  # what is known by its address stays where it is
        self.count = len(own)
        self.is_numpy = isinstance(leaves[0], np.ndarray) if leaves else False
        self.is_one = isinstance(params, (torch.Tensor, np.ndarray))
        self.aux: Any = None
        self.evaluation: Evaluation | None = None
        self.calls, self.due = 0, 1
        self.shortcut: Shortcut | None = None
        tensors = _tensors(leaves)
        refuse_no_floats(tensors[: self.count])
        self.guards = guards(of.loss)
        if of.backend == "fused" or (of.backend == "auto" and all(t.device.type == "cpu" for t in tensors)):
            try:
                self.evaluation = Evaluation(self.function, tensors, tensor_labels(data, ()))
            except (BackendUnavailableError, UnsupportedOperationError) as error:
                if of.backend == "fused":
                    raise
                warn_once(f"running with backend='eager', many times slower: {error}", RuntimeWarning, of.loss)
        read = self.evaluation.outside if self.evaluation is not None else []
        self.versions = [(tensor, version(tensor)) for tensor in read if not tensor.is_inference()]

    def is_up_to_date(self) -> bool:
        """Is all that the loss reads beside its arguments as it was?"""
        for tensor, before in self.versions:
            if version(tensor) != before:
                return False
        for guard in self.guards:  # noqa: SIM110  (a loop is faster than all())
            if not guard.holds():
                return False
        return True

    def function(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Value, gradients and what comes beside, of the tensors among the arguments."""
        own = [tensor.detach().requires_grad_() for tensor in tensors[: self.count]]
        rest = iter([*own, *tensors[self.count :]])
        params, data = (_filled(given, rest) for given in self.given)
        with torch.enable_grad(), inside():
            value = self.of.loss(params, *data)
            aux: list[Any] = []
            if self.of.has_aux:
                value, beside = pair(value, "loss: wants to return (number, aux) with has_aux=True")
                aux, self.aux = tree.tree_flatten(beside)
                for leaf in aux:
                    refuse_no_tensor(leaf, "loss: its aux")
            value = one_number(value)
        grads = torch.autograd.grad(value, own, materialize_grads=True)
        return [value.detach().reshape(()), *grads, *(leaf.detach() for leaf in aux)]

    def __call__(self, leaves: list[Any], params: Any) -> tuple[Any, Any]:
        results: Any = None
        if self.evaluation is not None:
            self.calls += 1
            results = self.evaluation(leaves)
            if results is not None:
                if self.calls == self.due:
                    self.check(leaves, results)
                if self.calls == 1:
                    self.shortcut = shortcut(self)
                if not self.is_numpy:
                    results = [torch.from_numpy(result) for result in results]
        if results is None:  # by torch, which raises what the loss raises
            results = self.function(_tensors(leaves))
            if self.is_numpy:
                results = [result.numpy() for result in results]
        value = float(results[0]) if self.is_numpy else results[0]
        grads = results[1] if self.is_one else _filled(params, iter(results[1 : 1 + self.count]))
        if self.of.has_aux:
            return (value, tree.tree_unflatten(results[1 + self.count :], self.aux)), grads
        return value, grads

    def check(self, leaves: list[Any], results: list[Any]) -> None:
        """Compare with torch's own."""
        tensors = [tensor.detach() for tensor in _tensors(leaves)]
        self.due = self.calls + max(CHECKED - 1, 9 * self.calls)
        refuse_unsteady(
            lambda inputs: [*inputs, *self.function(inputs)], tensors, tensors, list(map(torch.from_numpy, results))
        )


def _key(value: Any, leaves: list[Any]) -> Any:
    """What a call depends on beside the numbers in its tensors of floats, which are appended to `leaves`."""
    cls = type(value)
    if cls is torch.Tensor or isinstance(value, torch.Tensor):
        dtype = value.dtype
        if dtype.is_floating_point:
            leaves.append(value.detach() if value.requires_grad else value)
            if value.is_cpu and value.is_contiguous():
                return value.shape, dtype
            return value.shape, dtype, value.stride(), str(value.device)
        return value.shape, value.dtype, value.cpu().numpy().tobytes()
    if cls is np.ndarray and value.dtype.char in "fd":
        leaves.append(value)
        return "array", value.shape, value.dtype.char
    if cls is list or cls is tuple:
        return cls, *[_key(part, leaves) for part in value]
    if cls is dict:
        return dict, *value, *[_key(part, leaves) for part in value.values()]
    if cls in (int, float, bool, str, complex):
        return cls, repr(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    parts, structure = tree.tree_flatten(value)
    if len(parts) == 1 and parts[0] is value:
        return cls, id(value)
    return str(structure), *[_key(part, leaves) for part in parts]


def _filled(value: Any, leaves: Iterator[Any]) -> Any:
    """The same with the next of `leaves` for each tensor of floats in it."""
    cls = type(value)
    if cls is list or cls is tuple:
        return cls([_filled(part, leaves) for part in value])
    if cls is dict:
        return {key: _filled(part, leaves) for key, part in value.items()}
    if isinstance(value, torch.Tensor):
        return next(leaves) if value.is_floating_point() else value
    if isinstance(value, np.ndarray):
        return next(leaves) if cls is np.ndarray and value.dtype.char in "fd" else torch.as_tensor(value)
    parts, structure = tree.tree_flatten(value)
    if len(parts) == 1 and parts[0] is value:
        return value
    return tree.tree_unflatten([_filled(part, leaves) for part in parts], structure)


def _tensors(leaves: Sequence[Any]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(leaf)) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
