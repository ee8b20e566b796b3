"""Random torch losses, fused and eager: see `fuzzer_check` for what may come of one.

    python tests/fuzzer.py 0 5000                 # the seeds 0 to 4999; findings as they come, a summary at the end
    python tests/fuzzer.py --show 17              # the loss of a seed, as a script that runs by itself
    python tests/fuzzer.py --seconds 3600         # new seeds, from the date on, for an hour
    python tests/fuzzer.py --backend interpreted  # the same kernels, as Python: ten times as many losses in a minute
    python tests/fuzzer.py 0 50 --backend triton  # the kernels of a GPU, interpreted

One seed is one loss for as long as `fuzzer_lines` and `fuzzer_writer` stay as they are: keep the script of a finding.
"""

import argparse
import json
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from fuzzer_workers import Worker


def new_seed():
    """A seed that no other run began with: the time in tenths of a second."""
    return int(datetime.now().timestamp() * 10)


def run(seeds, backend, limit, out):
    """Check the losses of seeds and print what is wrong; the counts of the outcomes."""
    worker, counts, refused = Worker(backend, limit), Counter(), Counter()
    for seed in seeds:
        found = worker.ask(seed)
        counts[found["outcome"]] += 1
        if found["outcome"] == "refused":
            refused[found["why"].split(" cannot be ")[0].split(" in ")[0][:40]] += 1
        if found["outcome"].isupper() or found["why"].startswith("of the fuzzer"):
            print(json.dumps(found), flush=True)
        if out:
            print(json.dumps(found), file=out, flush=True)
    worker.end()
    print(f"{dict(counts)}; refused most: {refused.most_common(12)}")
    return counts


def until(seeds, end):
    """The seeds, as long as there is time."""
    for seed in seeds:
        if time.monotonic() > end:
            return
        yield seed


def main():
    """The command line; exits with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", nargs="?", type=int)
    parser.add_argument("last", nargs="?", type=int)
    parser.add_argument("--show", type=int, metavar="SEED")
    parser.add_argument("--backend", default="fused", choices=["fused", "interpreted", "triton", "compile"])
    parser.add_argument("--out", type=Path, help="a line of JSON for each seed is added to this file")
    parser.add_argument("--limit", type=float, default=180, help="seconds for a seed")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args()
    if options.show is not None:
        from fuzzer_writer import write

        print(write(options.show).script)
        return
    first = new_seed() if options.first is None else options.first
    last = first + 10**9 if options.last is None else options.last
    print(f"from seed {first}", flush=True)
    seeds = until(range(first, last), time.monotonic() + options.seconds)
    out = options.out.open("a") if options.out else None
    counts = run(seeds, options.backend, options.limit, out)
    sys.exit(any(outcome.isupper() for outcome in counts))


if __name__ == "__main__":
    main()
