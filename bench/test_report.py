"""The report: every section from every kind of result, nothing lost, nothing fetched, nothing taken for markup."""

import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import made_results as made
import pytest
from report import figures, tables
from report.__main__ import main
from report.charts import apart
from report.curves import Curve, crossovers, curves
from report.page import page
from report.results import newest, read
from report.svg import PALETTE

SECTIONS = ["post", "bars", "ladder", "split", "peers", "zoo", "scale", "fidelity", "cold", "machine", "missing"]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page taken apart: its tags, text and attributes. Tags that do not match end the test."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        if words.strip():
            self.words.append(" ".join(words.split()))

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, name):
        return [value for key, value in self.attributes if key == name]


def results_of(tmp_path, *contents, fidelity=True):
    """Results as read from a file for each list of benchmarks."""
    paths = [made.write(tmp_path / f"run{i}.json", benchmarks) for i, benchmarks in enumerate(contents)]
    return read([*paths, *([made.write_fidelity(tmp_path / "fidelity.json")] if fidelity else [])])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of everything."""
    return page(results_of(tmp_path_factory.mktemp("whole"), made.everything()))


def test_every_section_is_there_in_order_and_linked(whole):
    parsed = Page(whole)
    assert [name for name in parsed.all("id") if name in SECTIONS] == SECTIONS
    assert re.findall(r'<a href="(.*?)"', whole) == [f"#{name}" for name in SECTIONS]
    assert parsed.tags.count("svg") == 6  # post, ladder, split; time by samples and steps, memory by samples


def test_it_fetches_nothing_and_runs_nothing(whole):
    parsed = Page(whole)
    assert "script" not in parsed.tags
    assert "src" not in dict(parsed.attributes)
    assert all(link.startswith("#") or link == "data:," for link in parsed.all("href"))
    assert not re.search(r"https?:|//|@import|url\((?!#)", whole)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_what_the_first_screen_says(whole):
    header = Page(re.search(r"<header>.*</header>", whole, re.DOTALL)[0]).text
    assert "4,260×" in header  # 42 s of eager autograd, 9.86 ms of ours
    assert "3,274×" in header  # 7.4 s of numpy, 2.26 ms of gram, the fastest in mixed
    for words in ("80.4 s", "42.0 s", "9.86 ms", "2 of 3", "1 falls short; 1 could not be measured here", "3e-15"):
        assert words in header
    assert "quick" not in header


def test_a_bar_says_whether_it_holds(whole):
    rows = re.findall(r"(?s)<tr>.*?</tr>", re.search(r'(?s)id="bars">.*?</section>', whole)[0])[1:]
    said = [" | ".join(Page(row).words) for row in rows]
    assert said == [
        "numba double / C double | 1.05× | ≤ 1.1× | holds | docs/bars.md: promises",
        "numpy loop / train | 180× | ≥ 250× | falls short | docs/bars.md: promises",
        "first descend of a process | 210 ms | ≤ 300 ms | holds | docs/bars.md: features",
        "Triton loop on an H200 | – | not measured: no CUDA GPU here",
    ]


def test_a_limit_may_be_the_least_and_a_count_has_no_digits(tmp_path):
    rows = [made.limit("of the peak", 19.04, 50, "%", at_most=False), made.limit("checks that fail", 8.0, 0, "")]
    (run,) = results_of(tmp_path, rows).runs
    said = [[cell.text for cell in row[:4]] for row in tables.bars(run).rows[:2]]
    assert said == [["of the peak", "19.0 %", "≥ 50 %", "falls short"], ["checks that fail", "8", "≤ 0", "falls short"]]


def test_of_a_card_the_whole_run_is_shown_or_else_what_there_is_of_one(tmp_path):
    card = {"device": "NVIDIA H100"}
    rows = [made.timing("post", "triton", 0.019, "single")]
    made.write(tmp_path / "by-hand.json", rows, **card, provenance="by hand", date="2026-01-09")
    assert newest(tmp_path).runs[0].provenance == "by hand"
    made.write(tmp_path / "partial.json", rows, **card, partial=True, date="2026-01-08")
    assert newest(tmp_path).runs[0].partial
    assert "cut before its end, some figures are missing" in page(newest(tmp_path), pictures=False)
    made.write(tmp_path / "whole.json", rows, **card, date="2026-01-07")
    assert newest(tmp_path).runs[0].path.name == "whole.json"


def test_losses_and_cold_starts_are_compared_in_columns(tmp_path):
    (run,) = results_of(tmp_path, made.everything()).runs
    zoo, cold = tables.zoo(run), tables.cold(run)
    names = [column.title for column in zoo.columns[2:]]
    assert names == ["torch eager", "torch.compile", "JAX", "descend", "fastest peer / ours"]
    assert [cell.text for cell in zoo.rows[0][2:]] == ["266 µs", "9.00 µs", "2.32 µs", "277 ns", "8.38×"]
    assert [cell.tone for cell in zoo.rows[0][2:6]] == ["", "", "", "ours"]
    assert [column.title for column in cold.columns[2:]] == ["warm caches", "empty caches"]
    assert [[cell.text for cell in row] for row in cold.rows] == [
        ["train()", "single", "310 ms", "1.90 s"],
        ["JAX", "single", "1.40 s", "–"],
    ]


def test_pictures_take_the_colours_of_the_page_and_ids_are_single(whole):
    assert not [name for name, colour in PALETTE.items() if colour in whole]
    names = Page(whole).all("id")
    assert len(names) == len(set(names))
    for name in re.findall(r"url\(#(.*?)\)", whole):
        assert name in names


def test_two_machines_stand_under_their_names(tmp_path):
    gpu = [made.timing("post", "triton", 0.019, "single", device="NVIDIA H100"), made.ratio("a", "b", 2, 1)]
    paths = [made.write(tmp_path / "cpu.json", made.everything())]
    paths.append(made.write(tmp_path / "gpu.json", gpu, device="NVIDIA H100", not_measured=[]))
    parsed = Page(page(read(paths)))
    assert parsed.words.count("On NVIDIA H100 (a GPU, beside it 2 cores of Test CPU)") == 3  # post, bars, machine
    assert parsed.words.count("On Test CPU (2 cores)") > 3
    names = parsed.all("id")
    assert len(names) == len(set(names))
    assert "anything on a GPU" not in parsed.text
    assert "3 of 4" in parsed.text


PARTS = {
    "nothing": [],
    "only the post": made.post(),
    "only bars": made.bars(),
    "only the ladder": [made.ladder()],
    "only peers": made.peers(),
    "only the zoo": made.zoo(),
    "only scaling": made.scale(),
    "only cold starts": made.cold(),
    "no ladder, no peers": [*made.post(), *made.bars(), *made.zoo()],
    "only a GPU": [made.timing("post", "fused-autograd-gpu", 0.02, "single"), made.timing("scale", "triton", 1, n=10)],
    "unknown kinds": [made.benchmark("post", kind="other"), made.benchmark("post"), {"group": None}],
}


@pytest.mark.parametrize("benchmarks", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("pictures", [True, False])
def test_whatever_is_missing_is_said(tmp_path, benchmarks, pictures):
    parsed = Page(page(results_of(tmp_path, benchmarks, fidelity=False), pictures=pictures))
    shown = set(parsed.all("id")) & set(SECTIONS)
    assert {"machine", "missing"} <= shown
    assert "How true it is" in parsed.text  # in the list of what there is nothing for
    for section, title in (("ladder", "What makes autograd faster"), ("peers", "Against the peers")):
        assert title in parsed.text  # as a heading or in that list
        assert (section in shown) == any(row.get("group") == section for row in benchmarks)


def repr_of_few(value):
    return repr(value)[:9]


@pytest.mark.parametrize("nothing", [None, float("nan"), 10**400, "text", True, [], {}], ids=repr_of_few)
def test_a_figure_that_is_none_is_a_dash(tmp_path, nothing):
    rows = made.everything()
    for row in rows[::2]:  # of each table some rows, for a column of dashes is left out
        info = row["extra_info"]
        for record in (info, *info.get("rungs", ()), *info.get("split", ())):
            record.update({key: nothing for key, value in record.items() if isinstance(value, (int, float))})
        row["stats"] = {"median": nothing}
    parsed = Page(page(results_of(tmp_path, rows)))
    assert "nan" not in parsed.text
    assert "–" in parsed.words


HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>&amp;$x^{_\\frac]]><!--漢"
UNPRINTABLE = "\x00\x1b\ud800\u202e"


def test_text_in_results_is_never_markup(tmp_path, whole):
    def spoil(value, key=""):
        if isinstance(value, dict):
            return {name: spoil(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [spoil(item, key) for item in value]
        return (
            value + HOSTILE + UNPRINTABLE
            if isinstance(value, str) and key not in ("kind", "group", "axis", "model")
            else value
        )

    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(spoil(made.content(made.everything()))))
    parsed = Page(page(read([path])))
    assert set(parsed.tags) <= set(Page(whole).tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert any(HOSTILE in words for words in parsed.words)
    assert all(letter.isprintable() or letter.isspace() for letter in parsed.text)
    table = tables.post(read([path]).runs[0])
    assert HOSTILE in table.rows[0][0].text


# -- reading


def test_the_newest_run_of_each_device_counts(tmp_path):
    made.write(tmp_path / "a.json", made.post(), date="2026-01-01")
    made.write(tmp_path / "b.json", made.bars(), date="2026-01-02")
    made.write(tmp_path / "quick.json", made.cold(), date="2026-01-03", quick=True)
    triton = [made.timing("post", "triton", 0.02, "single")]
    made.write(tmp_path / "gpu.json", triton, device="A GPU", date="2025-01-01")
    made.write_fidelity(tmp_path / "fidelity.json")
    found = newest(tmp_path)
    assert [run.path.name for run in found.runs] == ["quick.json", "gpu.json"]  # CPUs first
    assert [run.path.name for run in newest(tmp_path, quick=False).runs] == ["b.json", "gpu.json"]
    assert len(found.fidelity) == 1
    assert "quick run" in page(found, pictures=False)


@pytest.mark.parametrize(("device", "gpu"), [("Test CPU", False), ("Test", False), ("NVIDIA H100", True)])
def test_a_gpu_is_a_device_that_is_not_the_processor(tmp_path, device, gpu):
    (run,) = read([made.write(tmp_path / "bars.json", made.bars(), device=device)]).runs
    assert run.on_gpu == gpu


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run(*words): the command in an empty folder; its exit status, what it said and what of mistakes."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: (main(list(map(str, words))), *capsys.readouterr())


def test_without_results_it_says_what_makes_them(tmp_path, run):
    status, _, told = run()
    assert status == 2
    assert told.startswith("report: no benchmark results in bench/results: `make bench-quick`")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"[1]", "holds no object"),
        (b'{"rows": []}', "neither benchmarks nor fidelity"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 100_000, "is not JSON"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_result_file_is_told_in_a_line(tmp_path, run, content, reason):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content)
    status, _, told = run(path)
    assert status == 2
    assert told.count("\n") == 1
    assert "other.json" in told
    assert reason in told
    assert not (tmp_path / "report.html").exists()


def test_it_never_overwrites_what_it_reads(tmp_path, run):
    path = made.write(tmp_path / "cpu.json", made.bars())
    before = path.read_bytes()
    status, _, told = run(path, "--out", path)
    assert status == 2
    assert "would overwrite" in told
    assert path.read_bytes() == before


def test_the_command_finds_results_and_writes_the_page(tmp_path, run):
    made.write(tmp_path / "bench" / "results" / "cpu.json", made.everything())
    assert run() == (0, "wrote report.html\n", "")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == page(newest())
    assert run("bench/results/cpu.json", "--out", "deep/er/page.html")[0] == 0
    assert (tmp_path / "deep" / "er" / "page.html").read_text(encoding="utf-8") == written


def test_without_matplotlib_the_tables_still_come(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    made.write(tmp_path / "cpu.json", made.everything())
    status, said, _ = run("cpu.json")
    assert status == 0
    assert "no pictures: pictures need matplotlib; pip install 'fastpoly[plot]'" in said
    parsed = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "svg" not in parsed.tags
    assert "numba grows as the power 1.0" in parsed.text


# -- curves


def timings(tmp_path, benchmarks):
    return read([made.write(tmp_path / "scale.json", benchmarks)]).runs[0].of("scale")


def test_curves_are_of_what_varies_alone(tmp_path):
    found = timings(tmp_path, made.scale())
    assert [(c.name, c.sizes) for c in curves(found, "n")] == [
        ("numba", (100, 1e3, 1e4, 1e5)),
        ("gram", (100, 1e3, 1e4, 1e5)),
    ]
    assert [c.sizes for c in curves(found, "steps")] == [(1e3, 2e5, 1e6)]  # at 100 samples
    assert [c.name for c in curves(found, "n", "memory_mib")] == ["gram"]
    assert curves(found, "degree") == []


def test_an_axis_says_what_varies(tmp_path):
    rows = [made.timing("scale", "numba", n / 1e3, n=n, steps=10**6 // n, axis="n") for n in (100, 1000, 10_000)]
    found = timings(tmp_path, rows)
    assert [c.sizes for c in curves(found, "n")] == [(100, 1e3, 1e4)]
    assert curves(found, "steps") == []


def curve(name, *values, sizes=(1, 10, 100)):
    return Curve(name, "double", True, name, sizes, values)


def test_a_slope_is_the_power_of_the_last_decade():
    assert curve("square", 5, 1, 100).slope == pytest.approx(2)
    assert curve("two points", 3, 6, sizes=(50, 100)).slope == pytest.approx(1)


def test_precisions_are_told_apart_where_there_are_several(tmp_path):
    rows = [made.timing("scale", "numba", n, precision, n=n) for n in (1, 10) for precision in ("double", "single")]
    assert {c.name for c in curves(timings(tmp_path, rows), "n")} == {"numba double", "numba single"}


def test_crossovers_are_where_the_fastest_changes():
    flat, linear, square = curve("flat", 30, 30, 30), curve("linear", 2, 20, 200), curve("square", 1, 100, 10_000)
    found = crossovers([flat, linear, square])
    assert [(c.before, c.after) for c in found] == [("square", "linear"), ("linear", "flat")]
    assert [c.size for c in found] == pytest.approx([2, 15])
    assert [c.value for c in found] == pytest.approx([4, 30])
    assert crossovers([flat]) == crossovers([]) == []
    assert crossovers([curve("below", 1, 1, 1), flat]) == []


def test_noise_and_what_was_not_measured_overtake_nobody():
    noisy = [curve("a", 10, 11, 10), curve("b", 11, 10, 11)]
    assert crossovers(noisy) == []
    late = curve("late", 1, 1, sizes=(50, 100))
    assert [c.after for c in crossovers([curve("flat", 30, 30, 30), late])] == []
    ended = curve("ended", 1, 2, sizes=(1, 10))
    assert crossovers([ended, curve("slower", 5, 50, 500)]) == []


def test_labels_move_apart_and_no_further():
    assert apart([0, 10, 20], 5) == pytest.approx([0, 10, 20])
    assert apart([0, 1, 2, 50], 4) == pytest.approx([-3, 1, 5, 50])
    moved = apart([0, 0, 0, 3, 3.5, 9], 2)
    assert all(b - a >= 2 - 1e-9 for a, b in pairwise(moved))
    assert apart([], 1) == []


# -- numbers


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (233.13, "233 s"),
        (1234.5, "1,234 s"),
        (80.43, "80.4 s"),
        (1, "1.00 s"),
        (0.9999, "1.00 s"),
        (0.00986, "9.86 ms"),
        (3.64e-4, "364 µs"),
        (46e-9, "46.0 ns"),
        (-9e-5, "−90.0 µs"),
        (0, "0 ns"),
        (None, "–"),
    ],
)
def test_seconds_have_three_digits_and_a_unit(value, said):
    assert figures.seconds(value) == said


def test_ratios_counts_and_deviations():
    assert [figures.times(v) for v in (0.376, 1.0451, 12.34, 4566.4, None)] == [
        "0.38×",
        "1.05×",
        "12.3×",
        "4,566×",
        "–",
    ]
    assert [figures.count(v) for v in (100, 200_000, 1e6, 1e8, 3e8, None)] == [
        "100",
        "200,000",
        "10⁶",
        "10⁸",
        "300,000,000",
        "–",
    ]
    assert [figures.deviation(v) for v in (3.2e-15, 2e-7, 0, None)] == ["3e-15", "2e-7", "0", "–"]
    assert [figures.tick(v) for v in (1e-3, 10, 1e-7)] == ["1 ms", "10 s", "100 ns"]
