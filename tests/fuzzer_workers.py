"""Losses in processes of their own: one that dies or hangs is a finding, and the next seed goes on in another."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

FRESH = 150
"""Seeds after which a process is replaced: compiled code stays in its memory."""


class Worker:
    """A process that checks the losses of seeds.

    Args:
        backend: what is compared with eager.
        limit: seconds for a seed.
    """

    def __init__(self, backend, limit):
        self.backend, self.limit = backend, limit
        self.process, self.asked = None, 0

    def ask(self, seed, until=float("inf")):
        """What was found; None if there is no answer by the time `until`, of `time.monotonic`."""
        if self.process is None or self.asked >= FRESH:
            self.end()
            self._start()
        self.asked += 1
        with contextlib.suppress(BrokenPipeError):  # it has died; it is told below
            print(seed, file=self.process.stdin, flush=True)
        end = time.monotonic() + self.limit
        while True:
            left = min(end, until) - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, left))
            if not ready:
                self.process.kill()
                self.end()
                if end > until:
                    return None
                outcome = "skip" if self.backend in ("interpreted", "triton") else "HANG"  # Python may be slow
                return {"seed": seed, "outcome": outcome, "why": f"more than {self.limit:.0f} s"}
            line = self.process.stdout.readline()
            if not line:
                code = self.process.wait()
                self.end()
                return {"seed": seed, "outcome": "CRASH", "why": f"exit {code}"}
            if line.startswith("{"):
                return json.loads(line)

    def _start(self):
        command = [sys.executable, Path(__file__), self.backend]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self.asked = 0

    def end(self):
        """Let the process end."""
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        self.process = None


def work(backend):
    """What a worker does: a line with a seed comes in, one with what was found goes out."""
    if backend == "triton":
        import interpreted_gpu  # noqa: F401  (before anything else imports triton)
    import plans
    import pytest
    from fuzzer_check import check
    from fuzzer_writer import write

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a loss prints is no answer
    plans.watch(pytest.MonkeyPatch())
    if backend == "interpreted":
        import interpreted_cpu

        interpreted_cpu.install(pytest.MonkeyPatch())
        backend = "fused"
    for line in sys.stdin:
        seed, started = int(line), time.perf_counter()
        found = {"seed": seed}
        try:
            written = write(seed)
            outcome, why = check(written, f"<loss {seed}>", backend)
            found |= {"outcome": outcome, "why": why, "kinds": written.kinds, "dtype": written.dtype}
        except Exception as error:
            found |= {"outcome": "skip", "why": f"of the fuzzer: {type(error).__name__}: {error}"[:400]}
        found["seconds"] = round(time.perf_counter() - started, 2)
        print(json.dumps(found), file=answers)


if __name__ == "__main__":
    work(sys.argv[1])
