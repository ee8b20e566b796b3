"""torch.nn's RNN, LSTM and GRU, and their cells, as the loops over time that they are.

Which operations torch makes of them depends on the device: on a GPU kernels of cuDNN's or its own, on the CPU writes
into parts of tensors. These are the formulas of torch.nn's documentation, on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from .packed import Steps

State = tuple[Any, ...]
"""What is handed on from one time to the next: (h,), or (h, c)."""

Step = Callable[[Any, State, Any, Any], State]
"""From what comes of the input, the state, and the weight and bias of h, to the next state."""


def _rnn(activation: Callable[[Any], Any]) -> Step:
    return lambda x, state, weight, bias: (activation(x + functional.linear(state[0], weight, bias)),)


def _gru(x: Any, state: State, weight: Any, bias: Any) -> State:
    (h,) = state
    of_x, of_h = x.chunk(3, -1), functional.linear(h, weight, bias).chunk(3, -1)
    reset, update = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
    new = torch.tanh(of_x[2] + reset * of_h[2])
    return ((h - new) * update + new,)


def _lstm(x: Any, state: State, weight: Any, bias: Any) -> State:
    h, c = state
    enter, forget, cell, leave = (x + functional.linear(h, weight, bias)).chunk(4, -1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
    return torch.sigmoid(leave) * torch.tanh(c), c


STEPS: dict[str, Step] = {"rnn_tanh": _rnn(torch.tanh), "rnn_relu": _rnn(torch.relu), "gru": _gru, "lstm": _lstm}


def is_packed(args: Sequence[Any]) -> bool:
    """Is it called with sequences of several lengths, packed into one? Then how many have each step comes second."""
    return not isinstance(args[3], bool)


def weights_of(args: Sequence[Any]) -> Any:
    """Of what a layer is called with."""
    return args[3] if is_packed(args) else args[2]


def called(name: str, *args: Any) -> tuple[Any, ...]:
    """As torch's operation of that name: the outputs of the last layer, and the last states of all."""
    if not is_packed(args):
        return layers(name, *args)
    x, batch_sizes, state, weights, has_biases, *options = args
    count, dropout, is_training, is_bidirectional = options
    steps, how = Steps.of(batch_sizes), (has_biases, count, dropout, is_training, is_bidirectional, False)
    found, *last = layers(name, steps.padded(x), state, weights, *how, steps)
    return steps.packed(found), *last


def layers(
    name: str,
    x: Any,
    state: Any,
    weights: Sequence[Any],
    has_biases: bool,
    count: int,
    dropout: float,
    is_training: bool,
    is_bidirectional: bool,
    is_batch_first: bool,
    steps: Steps | None = None,
) -> tuple[Any, ...]:
    """See `called`; `steps`: which sequences have which steps, if not all have all."""
    there = None if steps is None else steps.are_there(x.device)
    initial = state if name == "lstm" else (state,)
    directions = 1 + is_bidirectional
    each = len(weights) // (count * directions)
    x = x.transpose(0, 1) if is_batch_first else x
    last: list[State] = []
    for layer in range(count):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = iter(weights[number * each : (number + 1) * each])
            begin = tuple(part[number] for part in initial)
            output, end = _along(STEPS[name], x, begin, own, has_biases, bool(direction), there)
            outputs.append(output)
            last.append(end)
        x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        if dropout and is_training and layer < count - 1:
            x = torch.dropout(x, dropout, True) if steps is None else _dropped(x, steps, dropout)
    x = x.transpose(0, 1) if is_batch_first else x
    return (x, *(torch.stack(parts) for parts in zip(*last, strict=True)))


def _dropped(x: Any, steps: Steps, dropout: float) -> Any:
    """Of what there is, as torch draws it."""
    return steps.padded(torch.dropout(steps.packed(x), dropout, True))


def _along(
    step: Step,
    x: Any,
    state: State,
    weights: Iterator[Any],
    has_biases: bool,
    backwards: bool,
    there: torch.Tensor | None,
) -> tuple[Any, State]:
    """One layer in one direction: its outputs at all times, and its last state.

    A sequence that is not `there` at some time, beyond its end, keeps the state that it has.
    """
    of_x, of_h = next(weights), next(weights)
    bias_of_x, bias_of_h = (next(weights), next(weights)) if has_biases else (None, None)
    projection = next(weights, None)
    moved, outputs = functional.linear(x, of_x, bias_of_x), []
    times = range(x.shape[0])
    for time in reversed(times) if backwards else times:
        new = step(moved[time], state, of_h, bias_of_h)
        if projection is not None:
            new = (functional.linear(new[0], projection), *new[1:])
        if there is not None:
            new = tuple(torch.where(there[time], one, old) for one, old in zip(new, state, strict=True))
        state = new
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def cell(name: str, x: Any, state: Any, of_x: Any, of_h: Any, bias_of_x: Any = None, bias_of_h: Any = None) -> Any:
    """As torch's cell of that name."""
    begin = tuple(state) if name == "lstm" else (state,)
    end = STEPS[name](functional.linear(x, of_x, bias_of_x), begin, of_h, bias_of_h)
    return end if name == "lstm" else end[0]
