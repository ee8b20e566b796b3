"""A forked child works like its parent: whatever threads the parent had, and wherever they were at the fork."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastpoly
import fastpoly_kernels

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def told(code, limit=120):
    """What a fresh process prints; Python 3.12 warns of every fork beside threads."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


IN_A_CHILD = """
import os, signal
def in_a_child(work):
    if (pid := os.fork()) == 0:
        signal.alarm(60)  # to hang is to die of it
        try:
            print(work(), flush=True)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child hangs"
"""

SHARED = (
    IN_A_CHILD
    + """
import torch
from fastpoly import descend
from fastpoly._fuse import program, traced
torch.set_num_threads(1)

def run(processors, samples):
    program.processors = lambda: processors
    traced._known.clear()
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)
    start = torch.ones(4, dtype=torch.float64)
    loss = lambda p, x: ((x.sin() - p[0] * torch.exp(-p[1] * x) * torch.sin(p[2] * x + p[3])) ** 2).mean()
    result = descend(loss, start, (x,), learn_rate=0.01, steps=3, backend="fused")
    return ("counter" in result.source, *result.params.tolist())

two, four = run(2, 60_000), run(4, 240_000)
print(two)
in_a_child(lambda: run(2, 60_000))
print(four)
in_a_child(lambda: (in_a_child(lambda: run(4, 240_000)), run(4, 240_000))[1])  # and a grandchild
"""
)


def test_threads_share_in_a_child_too_and_as_many_as_there_are_processors():
    """Two at first and four then: the pool has no size of its own."""
    two, child_of_two, *fours = told(SHARED)
    assert two.startswith("(True, ")
    assert child_of_two == two
    assert len(fours) == 3
    assert len(set(fours)) == 1
    assert fours[0].startswith("(True, ")


COMPILING = (
    IN_A_CHILD
    + """
import threading, time
import numpy as np
from fastpoly import fit
from fastpoly_kernels import store

store.load, begun = (lambda name: None), threading.Event()  # everything is compiled
save = store.save
store.save = lambda *whole: (begun.set(), time.sleep(0.3), save(*whole))  # at the end of a compilation
x = np.linspace(0, 1, 50)
def run(degree):
    return fit(x, np.sin(x), degree=degree, steps=20, learn_rate=0.1, backend="numba").weights.tolist()
threading.Thread(target=run, args=(2,)).start()
begun.wait()
in_a_child(lambda: run(3))
store.save = save
print(run(3))
"""
)


def test_a_fork_waits_for_a_compilation_in_another_thread():
    child, parent = told(COMPILING)
    assert child == parent


HELD = (
    IN_A_CHILD
    + """
import threading
from fastpoly_kernels import forking
forking.PATIENCE = 0.1
lock, held, done, dropped = forking.new_lock(), threading.Event(), threading.Event(), []
forking.in_child(lambda: dropped.append("dropped"))

def work():
    with forking.compiling, lock:
        held.set()
        done.wait()

thread = threading.Thread(target=work)
thread.start()
held.wait()
for _ in range(20):
    in_a_child(lambda: (lock.acquire(timeout=1), forking.compiling.acquire(timeout=1), dropped))
done.set()
thread.join()
print(lock.acquire(timeout=1), forking.compiling.acquire(timeout=1), dropped)
"""
)


def test_a_lock_that_another_thread_holds_is_free_in_the_child():
    """Twenty forks, each after a wait that ends in vain; nothing of it is left in the parent."""
    *children, parent = told(HELD)
    assert children == ["(True, True, ['dropped'])"] * 20
    assert parent == "True True []"


def test_the_compilers_own_lock_is_found():
    """It has a private name; a release without it would leave a child to wait for ever."""
    code = "import llvmlite.binding; from fastpoly_kernels import forking; print(*map(type, forking._compilers_lock()))"
    assert told(code) == ["<class '_thread.RLock'>"]


def test_every_lock_of_the_package_is_made_here():
    """One that is not is held for ever in a child."""
    for package in (fastpoly, fastpoly_kernels):
        for source in Path(package.__file__).parent.rglob("*.py"):
            if source.name != "forking.py":
                assert "threading.Lock()" not in source.read_text(), source
                assert "threading.RLock()" not in source.read_text(), source
