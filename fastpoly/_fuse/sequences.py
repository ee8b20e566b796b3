"""ctc_loss as the recursion over time that it is: of all ways to write a target down, the sum of their probabilities.

Graves et al., "Connectionist temporal classification", 2006, equations 5 to 8, in logarithms.
"""

from __future__ import annotations

import math
from typing import Any

import torch

NEVER = -1e30
"""The logarithm of a probability of 0: finite, so that differences of two are no NaN."""

REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}
"""What torch calls them in C++."""


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str | int = "mean",
    zero_infinity: bool = False,
) -> Any:
    """As torch.nn.functional's, and torch's own."""
    reduction = reduction if isinstance(reduction, str) else REDUCTIONS[reduction]
    is_one = log_probs.ndim == 2
    log_probs = log_probs[:, None] if is_one else log_probs
    times, count, _ = log_probs.shape
    device = log_probs.device
    lengths, long = (
        torch.as_tensor(of, device=device).reshape(-1).expand(count) for of in (input_lengths, target_lengths)
    )
    labels = _with_blanks(targets, long, count, blank)
    states = torch.arange(labels.shape[1], device=device)
    may_skip = torch.zeros_like(labels, dtype=torch.bool)
    may_skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    emitted = log_probs.gather(2, labels.expand(times, *labels.shape))
    alpha = torch.where((states < 2) & (states <= 2 * long[:, None]), emitted[0], NEVER)
    for time in range(1, times):
        one = torch.constant_pad_nd(alpha, [1, -1], NEVER)
        two = torch.where(may_skip, torch.constant_pad_nd(alpha, [2, -2], NEVER), NEVER)
        new = torch.logsumexp(torch.stack([alpha, one, two]), 0) + emitted[time]
        alpha = torch.where(time < lengths[:, None], new, alpha)
    ends = (states == 2 * long[:, None]) | (states == 2 * long[:, None] - 1)
    loss = -torch.logsumexp(torch.where(ends, alpha, NEVER), 1)
    # torch gives the gradient of the logits before a log_softmax: what this adds has no value
    is_read = (torch.arange(times, device=device)[:, None] < lengths)[..., None]
    own = torch.where(is_read, log_probs.exp(), 0.0).sum([0, 2])
    is_impossible = loss > -0.5 * NEVER
    loss = torch.where(is_impossible, 0.0 if zero_infinity else math.inf, loss + (own - own.detach()))
    if reduction == "mean":
        return (loss / long.clamp(min=1)).mean()
    return loss.sum() if reduction == "sum" else loss[0] if is_one else loss


def _with_blanks(targets: Any, long: torch.Tensor, count: int, blank: int) -> torch.Tensor:
    """(count, 2 longest + 1): the labels of each target with a blank before, between and after them."""
    if targets.ndim == 1 and int(long.sum()) == targets.numel() and count > 1:  # one after the other
        starts = long.cumsum(0) - long
        places = starts[:, None] + torch.arange(int(long.max()), device=long.device)
        targets = targets[places.clamp(max=max(targets.numel() - 1, 0))]
    targets = targets.reshape(count, -1)[:, : int(long.max())].long()
    labels = torch.full((count, 2 * targets.shape[1] + 1), blank, device=targets.device)
    labels[:, 1::2] = targets
    return labels
