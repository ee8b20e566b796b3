"""Random losses, new ones every day: `make fuzz` looks at more of them. See `fuzzer`."""

import time

import pytest
from fuzzer import new_seed
from fuzzer_check import check
from fuzzer_workers import Worker
from fuzzer_writer import write

SECONDS = {"fused": 4, "interpreted": 4}
"""Of one core, by backend, with the second or two that a process takes to begin."""


@pytest.mark.parametrize("backend", SECONDS)
def test_new_losses(backend):
    """What a seed gives is found in a process of its own, which is killed when the time is over."""
    seed, end = new_seed(), time.monotonic() + SECONDS[backend]
    worker = Worker(backend, limit=60)
    while (found := worker.ask(seed, until=end)) is not None:
        if found["outcome"].isupper():
            worker.end()
            pytest.fail(f"seed {seed}: {found['outcome']}: {found['why']}\n\n{write(seed).script}")
        seed += 1
    worker.end()


def test_a_seed_is_a_loss():
    assert write(17).script == write(17).script
    assert write(17).script != write(18).script


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_runs_by_itself(seed):
    outcome, why = check(write(seed), f"<loss {seed}>", "eager")
    assert outcome in ("ok", "skip"), why


def test_another_number_is_found(monkeypatch):
    """A compiler that takes sin for cos."""
    from fuzzer_prelude import PRELUDE
    from fuzzer_writer import Loss

    from fastpoly._fuse.operations import OPERATIONS, function

    monkeypatch.setitem(OPERATIONS, "sin", function("cos"))
    text = PRELUDE.replace("{dtype}", "float64")
    text += "params, data = num((3,), 0), ()\n\n\ndef loss(w):\n    return torch.sin(w).sum()\n"
    loss = Loss(text, "learn_rate=1.0, steps=1", (), 12_000, None, "float64")
    outcome, _ = check(loss, "<wrong>", "fused")
    assert outcome == "MISMATCH"


def test_a_worker_that_dies_or_hangs_is_a_finding(monkeypatch):
    worker = Worker("fused", limit=60)
    assert worker.ask(0)["outcome"] in ("ok", "refused", "skip", "rounding")
    worker.process.kill()
    assert worker.ask(1) == {"seed": 1, "outcome": "CRASH", "why": "exit -9"}
    worker.limit = 0.0
    assert worker.ask(2)["outcome"] == "HANG"
    worker.end()
