"""Steps that the processes of a group take together: each differentiates the loss of its own samples.

A step is a call of one kernel for the loss and its gradients, one sum over all processes of these in one flat tensor,
and a call of another kernel for the update, which is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .._errors import UnsupportedOperationError
from .._fuse.evaluation import Evaluation
from .._shared_training import SharedTraining, flattened
from .._steadiness import refuse_unsteady

Function = Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]


class SharedLoop:
    """See `fastpoly._loops.Loop`.

    Attributes:
        taken: how many steps were taken.
    """

    source: Callable[[], str] | None = None
    step_seconds = 1e-4

    def __init__(self, training: SharedTraining, inputs: Sequence[torch.Tensor]) -> None:
        self.training, self.taken = training, 0
        self.state: list[Any] = [tensor.detach().clone() for tensor in inputs]
        self._read = training.read_by_the_loss()
        self._gradients: Evaluation | None = None
        self._update: Function | Evaluation = training.update
        self._flat: torch.Tensor | None = None  # what kernels write to and read

    def fuse(self, names: dict[int, str]) -> None:
        """Make both functions kernels.

        Raises:
            UnsupportedOperationError: they cannot be; or a kernel does something else than torch.
        """
        training, wanted = self.training, [self.state[at] for at in self._read]
        if wanted[0].device.type != "cpu":
            raise UnsupportedOperationError("a group's steps are fused on the CPU only; backend='eager' runs on others")
        parts = [wanted[0].new_zeros(()), *(torch.zeros_like(leaf) for leaf in training.start)]
        flat = flattened(parts)
        if training.group.count:
            gradients = Evaluation(training.own_gradients, wanted, names)
            _refuse_another(gradients, training.own_gradients, wanted)
            self._gradients, self.source = gradients, gradients.page
            array, at, self._views = flat.numpy(), 0, []
            for part in parts:
                self._views.append(array[at : at + part.numel()].reshape(part.shape))
                at += part.numel()
        given = [*self.state, torch.ones_like(flat)]
        update = Evaluation(training.update, given, names)
        _refuse_another(update, training.update, given)
        self._update, self._flat = update, flat

    def _own(self) -> torch.Tensor:
        """This process's part of the loss and of its gradients."""
        wanted = [self.state[at] for at in self._read]
        if self._flat is None:
            return flattened(self.training.own_gradients(wanted))
        if self._gradients is None:
            return self._flat.zero_()
        results = self._gradients(wanted)
        if results is None:  # what is not finite ends the run of all
            return self._flat.fill_(torch.nan)
        for view, result in zip(self._views, results, strict=True):
            view[...] = result
        return self._flat

    def advance(self, steps: int, every: int, wait: int) -> tuple[int, list[torch.Tensor]]:
        kept: list[torch.Tensor] = []
        taken = 0
        while taken < steps:
            found = self._update([*self.state, self.training.group.summed(self._own())])
            if found is None or (isinstance(found[0], torch.Tensor) and not bool(found[0].isfinite())):
                break
            if wait == 0:
                kept.append(torch.as_tensor(found[0]).clone())  # and not the memory beside it
                wait = every
            wait -= 1
            self.state = list(found[1:])
            taken += 1
            self.taken += 1
        return taken, [torch.stack(kept) if kept else self.training.start[0].new_empty(0)]

    def carried(self) -> list[torch.Tensor]:
        return [torch.as_tensor(leaf).clone() for leaf in self.state]


def _refuse_another(kernel: Evaluation, function: Function, inputs: list[torch.Tensor]) -> None:
    """Refuse a kernel that does something else than its function, called again."""
    results = kernel(inputs)
    if results is None:
        return
    refuse_unsteady(
        lambda given: [*given, *function(given)], inputs, inputs, [torch.from_numpy(result) for result in results]
    )


def begin(
    training: SharedTraining, inputs: Sequence[torch.Tensor], names: dict[int, str], backend: str
) -> tuple[str, SharedLoop, str | None]:
    """The backend's name, its loop, and why it is not the fused one where "auto" was asked for.

    All processes take the same one, for the same bits, or none begins.

    Raises:
        UnsupportedOperationError: with "fused", the loss cannot be. GroupError: another process cannot begin.
    """
    loop, refused = SharedLoop(training, inputs), None
    error: Exception | None = None
    if backend != "eager":
        try:
            loop.fuse(names)
        except UnsupportedOperationError as raised:
            refused, error = str(raised), raised if backend == "fused" else None
        except Exception as raised:
            error = raised
    training.group.refuse_failed(error)  # before anybody waits for the first step of one that has none
    if not training.group.any(refused is not None, inputs[0]):
        return "eager" if backend == "eager" else "fused", loop, None
    return "eager", SharedLoop(training, inputs), refused or "another process cannot fuse it"
