"""Kernels: from Python to machine code in two stages, and which machine code is taken for which call."""

import threading

import numpy as np
import pytest

from fastpoly_kernels import machine_code, processor, stage, store
from fastpoly_kernels.kernel import Kernel, device
from fastpoly_kernels.vectors import load, splat, total
from fastpoly_kernels.vectors import store as put

X = np.arange(1.0, 12.0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No kernel of these tests is stored for others: a key knows the sources of the package and no test's."""
    monkeypatch.setenv("FASTPOLY_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def compiled(monkeypatch):
    """The names of the kernels that were compiled."""
    names, staged = [], stage.staged

    def counted(function, kinds, symbol):
        names.append(function.__name__)
        return staged(function, kinds, symbol)

    monkeypatch.setattr(stage, "staged", counted)
    return names


# -- two stages


def test_a_loop_carries_what_it_assigns():
    def fibonacci(steps, a, b):
        for _ in range(steps):
            a, b = b, a + b
        return a, b

    kernel = Kernel(fibonacci, ("a", "b"))
    assert kernel(30, 0, 1) == (832040, 1346269)
    assert kernel(0, 0, 1) == (0, 1)
    assert kernel(3, 0.5, 0.25) == (1.0, 1.75)


def test_loops_stand_in_loops_and_numbers_become_variables():
    def triangle(steps):
        count = 0
        for i in range(2, steps, 3):
            for _ in range(i):
                count += 1
        return count

    for steps in (0, 2, 3, 20):
        assert Kernel(triangle, ("steps",))(steps) == sum(range(2, steps, 3))


def test_a_branch_assigns_or_not():
    def collatz(n, most):
        steps = 0
        for _ in range(most):
            if n == 1:
                return steps, n < 0
            odd = n % 2
            if odd > 0:
                n = n * 3 + 1
            else:
                n = (n - n % 2) * 1
                half = 0
                for _ in range(0, n, 2):
                    half += 1
                n = half
            steps += 1
        return steps, n > 0

    kernel = Kernel(collatz, ("n", bool))
    assert kernel(27, 1000) == (111, False)
    assert kernel(1, 1000) == (0, False)


def test_what_is_known_is_computed_when_it_is_compiled():
    def powers(x, weights):
        entries = weights
        if len(weights) == 3:
            for k in range(2):
                entries = tuple(entry * x + k for entry in entries)
        return entries

    kernel = Kernel(powers, ("weights",))
    assert kernel(2.0, (1.0, 2.0, 3.0)) == (5.0, 9.0, 13.0)
    assert kernel(2.0, (1.0, 2.0)) == (1.0, 2.0)


def test_floats_of_both_kinds_come_back_as_they_are():
    def third(x, one):
        return one / 3.0, x.to(one.format)

    single = Kernel(third, ("one", "one"))(X[2], np.float32(1))
    assert single == (float(np.float32(1) / np.float32(3)), 3.0)
    assert Kernel(third, ("one", "one"))(X[2], 1.0) == (1 / 3, 3.0)


def test_a_device_function_is_written_out_where_it_is_used():
    @device
    def sum_of(x, start):
        sums = splat(0.0, x)
        for i in range(start, x.size, x.lanes):
            sums += load(x, i)
        return total(sums)

    def summed(x, out):
        out[0] = sum_of(x, 0)
        out[1] = sum_of(out, 0) * 2.0

    out = np.zeros(processor.register_bits() // 64)
    Kernel(summed, ())(X[:8], out)
    assert out[:2].tolist() == [36.0, 72.0]


def test_vectors_and_rows():
    def shifted(table):
        for k in range(table.columns):
            table[1, k] = table[0, k] + 1.0
        put(table, (2, 0), load(table, (0, 0)) * 2.0)

    lanes = processor.register_bits() // 32
    table = np.arange(3 * lanes, dtype=np.float32).reshape(3, lanes)
    Kernel(shifted, ())(table)
    first = np.arange(lanes, dtype=np.float32)
    np.testing.assert_array_equal(table, [first, first + 1, first * 2])


def test_what_cannot_be_staged_is_an_error_where_it_stands():
    def waits(steps):
        while steps > 0:
            steps -= 1

    def decides(a):
        return 1 if a > 0 else 2

    def leaves_early(a):
        if a > 0:
            return 1
        return 2

    def calls(a):
        return device(leaves_early)(a)

    with pytest.raises(SyntaxError, match=r"test_kernels.py:\d+: no statement of kernels"):
        Kernel(waits, ())(3)
    with pytest.raises(TypeError, match="only the run knows whether this holds"):
        Kernel(decides, ("a",))(3)
    with pytest.raises(SyntaxError, match=r"test_kernels.py:\d+: a device function returns at its end"):
        Kernel(calls, ("a",))(3)


# -- which machine code


def doubled(x, scale):
    for i in range(x.size):
        x[i] = x[i] * 2.0
    return scale


def test_kinds_of_arguments_have_kernels_of_their_own(folder, compiled):
    kernel = Kernel(doubled, ("scale",))
    for dtype in (np.float64, np.float32):
        for scale in (1.5, np.float32(1.5), 3, (1.5,), (1.5, 2.5), (np.float32(1.5),)):
            for _ in range(2):
                x = X.astype(dtype)
                assert kernel(x, scale) == scale
                np.testing.assert_array_equal(x, 2 * X)
    assert len(kernel.kinds) == len(compiled) == len(list(folder.iterdir())) == 12
    assert Kernel(doubled, ("scale",))(X.copy(), 1.5) == 1.5  # from the disk
    assert len(compiled) == 12


@pytest.mark.parametrize("what", ["source", "version", "processor"])
def test_what_others_made_is_not_linked(folder, compiled, monkeypatch, what):
    Kernel(doubled, ("scale",))(X.copy(), 1)
    Kernel(doubled, ("scale",))(X.copy(), 1)
    assert len(compiled) == 1
    if what == "source":
        monkeypatch.setattr(machine_code, "package_stamp", lambda: "another")
    elif what == "version":
        monkeypatch.setattr("llvmlite.__version__", "0.0.1")
    else:
        monkeypatch.setattr(processor, "features", lambda: "+sse2")
    machine_code._maker.cache_clear()
    try:
        Kernel(doubled, ("scale",))(X.copy(), 1)
        assert len(compiled) == len(list(folder.iterdir())) == 2
    finally:
        machine_code._maker.cache_clear()


def test_a_damaged_object_is_made_anew(folder, compiled):
    for _ in range(2):
        x = X.copy()
        Kernel(doubled, ("scale",))(x, 1)
        np.testing.assert_array_equal(x, 2 * X)
        (file,) = folder.iterdir()
        whole = file.read_bytes()
        file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    assert len(compiled) == 2


def test_threads_that_come_at_the_same_time_compile_once(compiled):
    kernel, done = Kernel(doubled, ("scale",)), []
    together = threading.Barrier(8)

    def call():
        x = X.copy()
        together.wait()
        kernel(x, 1)
        done.append(x)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    np.testing.assert_array_equal(done, [2 * X] * 8)


def test_code_that_nobody_holds_is_freed_when_the_next_is_linked():
    kernel = Kernel(doubled, ("scale",))
    kernel(X.copy(), 1)
    freed = len(machine_code._dead)
    del kernel
    assert len(machine_code._dead) == freed + 1
    another = Kernel(doubled, ("scale",))
    another(X.copy(), 1)
    assert not machine_code._dead
    assert all(file.path.suffix == ".kernel" for file in store.stored())
