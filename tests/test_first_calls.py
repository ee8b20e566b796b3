"""Ctrl-C before the first step: while modules are imported, a loss is traced, a kernel is compiled."""

import gc
import signal
import sys
import threading
import time

import interrupted
import pytest

from fastpoly._garbage import uncollected
from fastpoly._monitor import Monitor
from fastpoly._preparing import preparing
from fastpoly_kernels.aside import aside, waiting


def press():
    signal.raise_signal(signal.SIGINT)


def wait():
    """As Python code does that is computing; a single call of time.sleep would not look at signals of other threads."""
    for _ in range(100):
        time.sleep(0.02)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(text): the name of a module that stands in a file."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def of(text):
        names.append(f"module_of_the_test_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return names[-1]

    yield of
    for name in names:
        sys.modules.pop(name, None)


# -- imports
# ----------------------------------------------------------------------------------------

PRESSED = "import signal\nsignal.raise_signal(signal.SIGINT)\nwhole = True\n"


def test_an_import_comes_to_its_end_and_then_ctrl_c_is_raised(module):
    inner = module(PRESSED)
    outer = module(f"import time\nimport {inner}\ntime.sleep(0.05)\n{PRESSED}")
    with pytest.raises(KeyboardInterrupt), preparing():
        __import__(outer)
    assert sys.modules[inner].whole
    assert sys.modules[outer].whole
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_raised_after_the_import_and_not_at_the_end_of_the_block(module):
    with pytest.raises(KeyboardInterrupt), preparing():
        __import__(module(PRESSED))
        wait()
        raise AssertionError("not raised")


def test_outside_of_imports_it_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), preparing():
        press()
        raise AssertionError("not raised")


def test_a_block_that_is_itself_part_of_an_import_is_no_import(module):
    """A script that is imported: what it runs is what is being prepared."""
    name = module(
        "import signal\nfrom fastpoly._preparing import preparing\nwith preparing():\n"
        "    signal.raise_signal(signal.SIGINT)\n    raise AssertionError('not raised')\n"
    )
    with pytest.raises(KeyboardInterrupt):
        __import__(name)


def test_what_a_weak_reference_swallows_is_raised_again(capsys):
    class Pressing:
        def __del__(self):
            press()

    with pytest.raises(KeyboardInterrupt), preparing():
        Pressing()
        wait()
        raise AssertionError("not raised")
    assert capsys.readouterr().err == ""


def test_what_is_swallowed_last_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), preparing():
        try:  # noqa: SIM105
            press()
        except KeyboardInterrupt:
            pass


def test_nothing_comes_after_the_block(module):
    name = module(PRESSED)
    with pytest.raises(KeyboardInterrupt), preparing():
        __import__(name)
    time.sleep(0.1)  # the second try would come now


def test_a_handler_of_the_callers_own_stays_in_charge_of_imports_too():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with preparing():
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_a_monitor_hears_again_afterwards():
    monitor = Monitor()
    with monitor.listening():
        with pytest.raises(KeyboardInterrupt), preparing():
            press()
        assert not monitor.interrupted
        press()
        assert monitor.interrupted


# -- compilers
# ----------------------------------------------------------------------------------------


def test_what_runs_aside_gives_its_result_or_its_exception():
    assert aside(lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 / 0)


def test_ctrl_c_ends_the_wait_and_not_what_runs():
    ended, pressed = threading.Event(), []

    def compile_slowly():
        time.sleep(0.1)
        pressed.append(time.monotonic())
        press()
        time.sleep(1)
        ended.set()

    for hears in (True, False):  # with a Monitor, or with Python's own handler
        ended.clear()
        monitor = Monitor()
        with pytest.raises(KeyboardInterrupt):
            if hears:
                with monitor.listening():
                    aside(compile_slowly)
            else:
                aside(compile_slowly)
        assert time.monotonic() - pressed[-1] < 0.5  # promised: 0.2 s; the rest is for a busy machine
        assert not ended.is_set()
        assert not waiting()
        assert ended.wait(10)


def test_other_threads_need_no_other():
    found = []
    thread = threading.Thread(target=lambda: found.append(aside(threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread]


# -- garbage
# ----------------------------------------------------------------------------------------


def test_no_garbage_is_looked_for_while_much_is_made():
    searches, before = [], gc.get_threshold()
    gc.callbacks.append(heard := lambda phase, _: searches.append(phase))
    gc.set_threshold(10)
    try:
        with uncollected():
            searches.clear()
            made = [[] for _ in range(1000)]
            assert not searches
        assert gc.isenabled()
        made += [[] for _ in range(1000)]
        assert searches
        gc.disable()
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(heard)
        gc.enable()


# -- whole processes
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "delay"), [("numba", 0.09), ("fused", 0.12)])  # s; while they compile, mostly
def test_a_first_call_that_was_interrupted_can_be_made_again(name, delay, tmp_path):
    found = interrupted.once(name, delay, str(tmp_path))
    assert interrupted.judged(found, interrupted.expected(name)) in ("right", "heard"), found


@pytest.mark.slow
@pytest.mark.parametrize("name", interrupted.CALLS)
def test_first_calls_that_were_interrupted_can_be_made_again(name, tmp_path):
    whole = interrupted.once(name, None, f"{tmp_path}/c")
    for part in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9):
        found = interrupted.once(name, part * whole["seconds"], f"{tmp_path}/{part}")
        assert interrupted.judged(found, whole["again"]) in ("right", "heard"), (part, found)
