"""Fresh processes that get a SIGINT at some moment of their first call: are they heard, and is anything spoiled?

python tests/interrupted.py 50          # so many moments for each call in CALLS, caches empty and filled
python tests/interrupted.py 50 fused    # of this call only
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

CALLS = {
    "fused": "descend(loss, torch.ones(2), (torch.linspace(-1, 1, 100),), learn_rate=0.01, steps=20, backend='fused')"
    ".params.tolist()",
    "adam": "descend(loss, torch.ones(2), (torch.linspace(-1, 1, 100),), learn_rate=0.01, steps=20, optimizer='adam')"
    ".params.tolist()",
    "compile": "descend(loss, torch.ones(2), (torch.linspace(-1, 1, 100),), learn_rate=0.01, steps=20, "
    "backend='compile', optimizer='adam').params.tolist()",
    "numba": "fit(x, np.sin(x), steps=200, learn_rate=1e-5, domain=None, backend='numba').weights.tolist()",
    "train": "train(x, np.sin(x), 200)['w'].tolist()",
    "train-autograd": "train(x, np.sin(x), 200, use_autograd=True)['w'].tolist()",
    "scan": "scan(lambda c, x: (c * 0.9 + x.sum(), c), torch.ones(2), (torch.linspace(-1, 1, 9),), length=9)[0]"
    ".tolist()",
    "scan-fused": "scan(lambda c, x: (c * 0.9 + x.sum(), c), torch.ones(2), (torch.linspace(-1, 1, 9),), length=9, "
    "backend='fused')[0].tolist()",
    "fit-many": "fit_many(x, np.stack([np.sin(x), np.cos(x)]), steps=200, learn_rate=1e-3, backend='numba')"
    ".weights.tolist()",
}

KINDS = os.environ.get("KINDS", "empty filled").split()

CHILD = """
import json, signal, sys, time
import numpy as np
from fastpoly import descend, fit, fit_many, scan, train
{imports}
x = np.linspace(0, 5, 100)
def loss(p, x):
    return ((x.sin() - p[0] * (-p[1] * x).exp()) ** 2).mean()
def call():
    return {call}
found = {{"heard": None}}
print("ready", flush=True)
sys.stdin.readline()
try:
    print("go", flush=True)
    started = time.monotonic()
    found["first"] = call()
    found["seconds"] = time.monotonic() - started
    time.sleep({rest})
except KeyboardInterrupt as error:
    found["heard"], found["kind"] = time.monotonic(), type(error).__name__
signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may still come, too late to interrupt anything
found["again"] = call()
print(json.dumps(found))
"""


def once(name, delay, cache, rest=0.0):
    """What the child found; `heard` in seconds after the signal, None if it came to its end before."""
    imports = "" if name in ("numba", "train", "train-autograd", "fit-many") else "import torch"
    code = CHILD.format(call=CALLS[name], imports=imports, rest=rest)
    environment = {**os.environ, "FASTPOLY_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache + "-inductor"}
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=environment) as child:
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "go\n"
        if delay is not None:
            time.sleep(delay)
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
        try:
            out, err = child.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            child.kill()
            return {"fault": "hangs"}
    if child.returncode != 0:
        return {"fault": f"exit {child.returncode}: {err.strip()[-600:]}"}
    found = json.loads(out.splitlines()[-1])
    if found["heard"] is not None:
        found["heard"] -= sent
    if "Exception ignored" in err:
        found["ignored"] = err.strip()[-600:]
    return found


def expected(name):
    """What the call gives in this process."""
    import numpy as np
    import torch

    import fastpoly

    def loss(p, x):
        return ((x.sin() - p[0] * (-p[1] * x).exp()) ** 2).mean()

    public = {name: getattr(fastpoly, name) for name in fastpoly.__all__}
    return eval(CALLS[name], {**public, "np": np, "torch": torch, "x": np.linspace(0, 5, 100), "loss": loss})


def judged(found, expected):
    """In a word: "right", "heard" or what is wrong."""
    if "fault" in found:
        return found["fault"]
    if found["again"] != expected:
        return f"afterwards {found['again']}, not {expected}"
    if found["heard"] is None:
        return "right" if found["first"] == expected else f"{found['first']}, not {expected}"
    return "heard"


def main(count, names):
    random.seed()
    for name in names:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                whole = once(name, None, folder + "/c")
                if kind == "filled":
                    whole = once(name, None, folder + "/c")
                outcomes, late = Counter(), []
                for i in range(count):
                    cache = folder + (f"/{i}" if kind == "empty" else "/c")
                    found = once(name, random.uniform(0, 1.1 * whole["seconds"]), cache)
                    outcomes[judged(found, whole["again"])] += 1
                    late.append(found.get("heard") or 0.0)
                    if "ignored" in found:
                        outcomes["ignored"] += 1
                        print(found["ignored"])
                late.sort()
                middle, most = late[len(late) // 2], late[-1]
                print(
                    f"{name}, {kind}: {dict(outcomes)}; s: call {whole['seconds']:.2f}, "
                    f"heard after {middle:.3f} (median), {late[int(0.9 * len(late))]:.3f} (90 %), {most:.3f} (most)",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or CALLS)
