"""`make gpu`'s driver, on stages that do nothing: what is cut goes on, what dies dies alone, what changed is anew."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu import bars, digest, grid, result, stages, summary
from gpu.book import Book
from gpu.driver import Driver, Group
from gpu.process import Process, Stage

BENCH = Path(__file__).parent
WHERE = {"card": "Fake GPU", "torch": "2"}
MODULE = """
import ctypes, os, time, pathlib

def called(name):
    with open("calls.txt", "a") as file:
        file.write(name + "\\n")

def works(name, seconds=0.0):
    def unit():
        called(name)
        time.sleep(seconds)
        yield {"kind": "value", "value": 1}
    return unit

def dies():
    called("dies")
    os._exit(7)

def crashes():
    called("crashes")
    ctypes.string_at(0)

def fails():
    called("fails")
    raise ValueError("no such luck")

def poisons():
    called("poisons")
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def hangs():
    called("hangs")
    time.sleep(60)

def units():
    return {%s}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage(name, units, **more):
    """A stage whose module is written here; its units are code: 'a': works('a')."""
    Path(f"{name}.py").write_text(MODULE % units)
    return Stage(name, ("-m", "gpu.child", name, "--out", "{out}", "--done", "{done}"), **{"seconds": 30, **more})


def run(folder, groups, *, limit=60.0, of="1", earlier=(), least=0.1):
    """A run of the groups; the book."""
    book = Book(folder / "rows.jsonl", {s.name: of for group in groups for s in group.stages}, earlier)
    (folder / "stages").mkdir(exist_ok=True)
    Driver(book, folder / "stages", environment(folder), limit, folder, least=least).run(groups)
    return book


def environment(folder):
    """That finds the stages of `folder`, and no emulated card."""
    paths = [str(folder), *(str(BENCH.parent / part) for part in ("bench", "", "kernels", "tests"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FASTPOLY_EMULATED": "", "OUT": ""}


def calls():
    return Path("calls.txt").read_text().split() if Path("calls.txt").exists() else []


def test_what_dies_hangs_or_fails_costs_one_unit(folder):
    units = "'a': works('a'), 'dies': dies, 'b': works('b'), 'crashes': crashes, 'fails': fails, 'poisons': poisons, "
    units += "'hangs': hangs, 'c': works('c')"
    book = run(folder, [Group([stage("first", units, unit_seconds=1.5), stage("second", "'d': works('d')")])])
    assert book.ended("first") == {
        "a": "right",
        "dies": "crashed",
        "b": "right",
        "crashes": "crashed",
        "fails": "failed",
        "poisons": "failed",
        "hangs": "hung",
        "c": "right",
    }
    assert calls() == ["a", "dies", "b", "crashes", "fails", "poisons", "hangs", "c", "d"]
    assert book.whole("first")
    assert book.ended("second") == {"d": "right"}
    errors = {row["unit"]: row["error"] for row in book.failures()}
    assert errors["dies"] == "exit status 7"
    assert errors["crashes"] == "ended by signal 11"
    assert "no such luck" in errors["fails"]
    assert "no end within 1.5 s" in errors["hangs"]
    on_disk = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert on_disk == book.rows


def test_what_a_process_wrote_before_it_was_ended_is_kept(folder):
    one = stage("one", "'a': works('a'), 'b': works('b', 60)")
    book = Book(folder / "rows.jsonl", {"one": "1"})
    process = Process(one, book, folder, environment(folder), time.monotonic() + 60)
    until = time.monotonic() + 30
    while "b" not in calls() and time.monotonic() < until:
        time.sleep(0.05)
    process.end()  # without a poll since it began
    assert book.ended("one") == {"a": "right"}


def test_several_modules_share_a_process(folder):
    stage("one", "'a': works('a')")
    stage("two", "'a': works('b')")
    both = Stage("both", ("-m", "gpu.child", "one", "two", "--out", "{out}", "--done", "{done}"), 30)
    assert run(folder, [Group([both])]).ended("both") == {"one: a": "right", "two: a": "right"}
    assert calls() == ["a", "b"]


def test_every_stage_has_its_sources_and_an_order():
    names = [stage.name for group in stages.groups() for stage in group.stages]
    assert names[0] == "environment"
    assert names[-1] == "tests"
    assert names.index("checks_descend") < names.index("post") < names.index("sizes") < names.index("operations_0")
    for of in (stage for group in stages.groups() for stage in group.stages):
        assert {"fastpoly/_fuse/*.py", "kernels/fastpoly_kernels/*.py"} <= {*of.sources}
        own = [pattern for pattern in of.sources if pattern.startswith("bench/gpu/")]
        assert all((BENCH.parent / pattern).exists() for pattern in own), of.name
    timed = [group for group in stages.groups() if "post" in [stage.name for stage in group.stages]]
    assert [group.width for group in timed] == [1]  # nothing is timed beside anything


def test_a_stage_that_cannot_begin_ends_alone(folder):
    broken = Stage("broken", ("-c", "raise SystemExit('no such module')"), 10)
    absent = Stage("absent", ("-c", ""), 10, needs="tests/there_is_none.py")
    book = run(folder, [Group([broken, absent, stage("next", "'a': works('a')")])])
    (failure,) = book.failures()
    assert "exit status 1: no such module" in failure["error"]
    assert book.of("absent")[0]["reason"] == "tests/there_is_none.py is missing"
    assert book.ended("next") == {"a": "right"}
    assert not book.missing()


def test_a_second_run_goes_on_where_the_first_was_cut(folder):
    groups = [
        Group([stage("first", "'a': works('a'), 'b': works('b', 30), 'c': works('c')")]),
        Group([stage("last", "")]),
    ]
    book = run(folder, groups, limit=5.0)
    assert book.ended("first") == {"a": "right"}
    assert book.missing() == [("first", "b"), ("first", "c"), ("last", "")]
    files = result.Files(folder, "fake-gpu")
    assert result.write(book, files, WHERE).name == "fake-gpu-partial.json"
    told = json.loads(files.partial.read_text())["fastpoly"]
    assert told["partial"]
    missing = {row["name"]: row["reason"] for row in told["not_measured"] if row["group"] == "gpu"}
    assert missing.keys() == {"first", "last"}
    assert missing["first"].startswith("the time was over; 2 of it are left")

    stage("first", "'a': works('a'), 'b': works('b'), 'c': works('c')")
    (folder / "rows.jsonl").unlink()  # as on another machine: only the result file is left
    again = run(folder, groups, earlier=files.earlier(folder))
    assert calls() == ["a", "b", "b", "c"]
    assert again.ended("first") == {"a": "right", "b": "right", "c": "right"}
    assert [row["value"] for row in again.rows if row.get("kind") == "value"] == [1, 1, 1]
    assert result.write(again, files, WHERE).name == "fake-gpu.json"
    assert not files.partial.exists()
    assert not run(folder, groups, earlier=files.earlier(folder)).missing()
    assert calls() == ["a", "b", "b", "c"]


OPERATIONS = r"""
import json, os, sys, pathlib
out = pathlib.Path(sys.argv[1])
known = [json.loads(line)["op"] for line in out.read_text().splitlines()]
with out.open("a") as file:
    for op in "abc":
        if op not in known:
            print(json.dumps({"op": op, "class": "right"}), file=file, flush=True)
            open("calls.txt", "a").write(op + "\n")
            if op == "a":
                os._exit(11)
            if op == "b":
                os.abort()
os.abort() if "c" in known else None
"""


def test_operations_that_are_known_are_not_asked_again(folder):
    """As tests/operator_database.py has it: rows that stand in its file are done."""
    book = run(folder, [Group([Stage("ops", ("-c", OPERATIONS, "{out}"), 20)])])
    assert [row["op"] for row in book.rows if "op" in row] == calls() == ["a", "b", "c"]
    assert book.whole("ops")
    assert not book.failures()
    left = [row for row in book.rows if row.get("op") != "c" and not row.get("whole")]
    again = run(folder, [Group([Stage("ops", ("-c", OPERATIONS, "{out}"), 20)])], earlier=left)
    assert calls() == ["a", "b", "c", "c"]
    assert [row["op"] for row in again.rows if "op" in row] == ["a", "b", "c"]


def test_what_other_sources_gave_is_done_anew(folder):
    groups = [Group([stage("first", "'a': works('a')")])]
    book = run(folder, groups)
    run(folder, groups, earlier=book.rows)
    assert calls() == ["a"]
    changed = run(folder, groups, earlier=book.rows, of="2")
    assert calls() == ["a", "a"]
    assert {row["digest"] for row in changed.rows} == {"2"}


def test_a_digest_is_of_names_contents_and_versions(tmp_path):
    def now(**where):
        return digest.of(tmp_path, ["*.py"], WHERE | where)

    (tmp_path / "a.py").write_text("1")
    first = now()
    (tmp_path / "a.txt").write_text("not looked at")
    assert now() == first
    assert now(torch="3") != first
    (tmp_path / "a.py").write_text("2")
    second = now()
    assert second != first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert now() not in (first, second)


def test_stages_run_beside_each_other_where_they_may(folder):
    three = [stage(f"s{i}", f"'u{i}': works('u{i}', 1.0)") for i in range(3)]
    started = time.monotonic()
    book = run(folder, [Group(three, width=3)])
    alone = time.monotonic() - started
    assert all(book.whole(s.name) for s in three)
    started = time.monotonic()
    run(folder, [Group(three, width=1)])
    assert alone < time.monotonic() - started


DRIVEN = """
import sys
from pathlib import Path
from gpu import __main__ as made, stages, result
from gpu.driver import Group
from gpu.process import Stage
import results_file
command = lambda name: ("-m", "gpu.child", name, "--out", "{out}", "--done", "{done}")
stages.groups = lambda: [Group([Stage(name, command(name), 30, ()) for name in ("one", "two")])]
made.card.prepare = lambda: None
results_file.gpu = lambda: "Fake GPU"
results_file.FOLDER = Path("results")
sys.exit(made.main())
"""


def make_gpu(folder, *words, **more):
    """`python -m gpu` with the stages one and two of `folder` and a card that is none; more of its environment."""
    command, into = [sys.executable, "-c", DRIVEN, *words], {**environment(folder), **more}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=into)


def test_a_stopped_run_leaves_few_files_and_the_next_goes_on(folder):
    out, results = folder / "out", folder / "results"
    results.mkdir()
    stage("one", "'a': works('a'), 'b': works('b', 60)")
    stage("two", "'c': works('c')")
    process = make_gpu(folder, OUT=str(out))
    until = time.monotonic() + 30
    while "b" not in calls() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    assert "stopped; what was found is kept" in said
    assert "wrote fake-gpu-partial.json" in said
    files = {path.name for path in out.rglob("*")}
    assert files == {"fake-gpu-partial.json", "fake-gpu-rows.jsonl", "fake-gpu-log.txt"}
    assert len(files) <= 8

    (out / "fake-gpu-partial.json").rename(results / "fake-gpu-partial.json")  # committed, by whoever called it
    stage("one", "'a': works('a'), 'b': works('b')")
    said, _ = make_gpu(folder).communicate(timeout=60)
    assert calls() == ["a", "b", "b", "c"]
    assert "wrote fake-gpu.json" in said
    assert "no failures" in said
    assert not (results / "fake-gpu-partial.json").exists()


def test_a_limit_that_is_reached_ends_it_in_time(folder):
    stage("one", "'a': works('a'), 'b': works('b', 60)")
    stage("two", "'c': works('c')")
    started = time.monotonic()
    process = make_gpu(folder, "--limit", "11.5", OUT=str(folder))
    said, _ = process.communicate(timeout=30)
    assert time.monotonic() - started < 20
    assert "one: b: the time was over" in said
    assert "two: the time was over" in said
    assert (folder / "fake-gpu-partial.json").exists()


def test_the_end_of_the_output_is_short(folder):
    book = Book(folder / "rows.jsonl", {"losses": "1", "tests": "1"})
    for i in range(200):
        row = {
            "kind": "timing",
            "group": "zoo",
            "name": "triton " + "long " * 40,
            "backend": "triton",
            "model": f"m{i}",
        }
        row |= {"precision": "single", "n": 1, "steps": 1, "seconds": 1.0, "ns_per_step": 1e9}
        book.add("losses", {"unit": f"u{i}", **row, "fastest_round": 1.0, "slowest_round": 1.0, "rounds": 1})
        book.add("losses", {"unit": f"u{i}", "ended": "failed", "error": "two\nlines " * 50})
    lines = summary.lines(book, result.write(book, result.Files(folder, "c"), WHERE))
    assert len(lines) <= 100
    assert len("\n".join(lines)) < 12_000
    assert not any("\n" in line for line in lines)
    assert lines[0] == "bars"
    assert "failures: 200" in lines


def test_auto_is_held_against_each_backend_with_its_first_call():
    """A slow step that compiles at once is the best for few steps."""

    def timed(backend, first, step):
        return {"kind": "timing", "group": "zoo", "model": "m", "backend": backend, "precision": "single"} | {
            "stage": "sizes",
            "unit": backend,
            "seconds": 1.0,
            "first": first,
            "ns_per_step": step * 1e9,
        }

    def choice(steps, took):
        return {"kind": "choice", "stage": "choices", "unit": "u", "model": "m", "steps": steps, "took": took}

    rows = [timed("triton", 5.0, 1e-6), timed("eager", 0.1, 1e-3)]
    rows += [choice(100, "eager"), choice(100, "triton"), choice(1_000_000, "triton"), choice(100, "cudagraph")]
    assert [(c.best, c.good) for c in grid.choices(rows)] == [
        ("eager", True),
        ("eager", False),
        ("triton", True),
        ("eager", False),
    ]
    (bar,) = [bar for bar in bars.held(rows) if bar["name"].startswith("runs for which auto")]
    assert (bar["value"], bar["holds"]) == (2, False)


def test_a_result_file_quotes_no_folder_of_the_machine(folder):
    book = Book(folder / "rows.jsonl", {"post": "1"})
    error = f'File "{BENCH.parent}/fastpoly/_fit.py", and {folder}/x'
    book.add("post", {"unit": "u", "ended": "failed", "error": error})
    text = result.write(book, result.Files(folder, "c"), WHERE).read_text()
    assert "fastpoly/_fit.py" in text
    assert str(BENCH.parent) not in text
    assert str(folder) not in text


def test_bars_are_in_cycles_on_a_card_with_another_clock():
    def row(mhz, seconds):
        timing = {"kind": "timing", "group": "post", "name": "triton", "backend": "triton", "precision": "single"}
        return timing | {"stage": "post", "model": "post", "seconds": seconds, "ns_per_step": 1, "mhz": mhz}

    def first(mhz, seconds):
        return next(bar for bar in bars.held([row(mhz, seconds)]) if bar["name"].startswith("triton single, 200,000"))

    at_full, slower = first(1980.0, 0.027), first(1755.0, 0.027)
    assert (at_full["limit"], at_full["holds"]) == (26, False)
    assert slower["limit"] == pytest.approx(29.33, abs=0.01)
    assert slower["holds"]
    assert all(len(bar["source"].split()) > 3 for bar in bars.held([row(1980.0, 0.02)]))
