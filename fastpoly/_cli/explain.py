"""`fastpoly explain`: a loss on its way to machine code, one page a stage."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from rich.console import Console

from .._descend import descend
from .._tensors import need_torch
from .load import load_loss

EXPLAINED = 1e-3
"""The learn rate where the module has none: nothing of what is shown depends on it."""


def explain_loss(name: str, only: Sequence[str], lines: int | None, console: Console) -> None:
    """Compile a loss anew and show the program after each stage.

    Args:
        name: module:function; see `load_loss`.
        only: the stages to show; all if empty.
        lines: the most to show of each; None for all.

    Raises:
        ValueError: there is no such stage.
        UnsupportedOperationError: the loss cannot be fused; the message says why.
    """
    need_torch()
    from .._fuse.stages import STAGES, collected

    unknown = [stage for stage in only if stage not in STAGES]
    if unknown:
        raise ValueError(f"--stage: wants one of {', '.join(STAGES)}, got {unknown[0]!r}")
    own = load_loss(name)
    before = os.environ.get("FASTPOLY_CACHE_DIR")
    with tempfile.TemporaryDirectory() as empty, collected() as found:
        os.environ["FASTPOLY_CACHE_DIR"] = empty  # what is compiled already has no stages
        try:
            descend(own.loss, own.params, own.data, learn_rate=own.learn_rate or EXPLAINED, steps=1, backend="fused")
        finally:
            if before is None:
                del os.environ["FASTPOLY_CACHE_DIR"]
            else:
                os.environ["FASTPOLY_CACHE_DIR"] = before
    for stage, text in found:
        if only and stage not in only:
            continue
        written = text.rstrip("\n").splitlines()
        console.rule(f"{stage}: {len(written):,} lines", align="left")
        console.print(f"{STAGES[stage]}\n", style="italic", highlight=False)
        for line in written[:lines]:
            console.out(line, highlight=False)
        if lines is not None and len(written) > lines:
            console.print(f"... {len(written) - lines:,} lines more; --lines 0 shows all", highlight=False)
        console.print()
