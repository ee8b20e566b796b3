"""README.md and docs/ say what bench/results/ say, and their blocks are safe to print over."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import made_results as made
import pytest
import readme
from report.results import Results, newest, read

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "bench" / "readme.py"


@pytest.fixture
def folder(tmp_path):
    """A folder with a README of every block, a page of one, and results in bench/results."""
    blocks = ("machine", "then", "post", "loss", "fidelity", "ladder", "peers", "bars")
    text = "".join(f"About {name}.\n\n<!-- results: {name} -->\n<!-- end -->\n\n" for name in blocks)
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("<!-- results: then -->\n<!-- end -->\n", encoding="utf-8")
    (tmp_path / "docs" / "other.md").write_text("No block.\n", encoding="utf-8")
    made.write(tmp_path / "bench" / "results" / "cpu.json", made.everything())
    made.write_fidelity(tmp_path / "bench" / "results" / "fidelity.json")
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """run(*words): the script in `folder`; its exit status and what it said of mistakes."""
    monkeypatch.chdir(folder)

    def main(*words):
        status = readme.main(words)
        return status, capsys.readouterr().err

    return main


def test_what_is_printed_holds_until_a_result_changes(folder, run):
    status, told = run("--check")
    assert status == 1
    assert told.startswith("README.md: block machine differs from bench/results; block then differs")
    assert told.endswith("docs/page.md: block then differs from bench/results: run `make readme`\n")
    assert run()[0] == 0
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert run("--check") == (0, "")
    assert run()[0] == 0
    assert (folder / "README.md").read_text(encoding="utf-8") == text

    made.write(folder / "bench" / "results" / "cpu.json", [*made.everything(), *made.cold()])
    assert run("--check") == (0, "")  # cold starts are not in the README
    changed = [*made.everything(), made.timing("peers", "C", 0.015)]
    made.write(folder / "bench" / "results" / "cpu.json", changed)
    assert run("--check") == (1, "README.md: block peers differs from bench/results: run `make readme`\n")


def test_the_blocks_say_what_was_measured(folder, run):
    assert run()[0] == 0
    text = (folder / "README.md").read_text(encoding="utf-8")
    for line in (
        "| **spectral** | double | 364 µs | 20,330× |  | 3e-15 |",
        "| torch-autograd | single | 42.0 s | 0.18× | 80.4 s | 3e-9 |",
        "| torch eager (from 300 steps) | 39.9 s | 266 µs |",
        "| **descend, fused** | 41.5 ms | 277 ns |",
        "| numpy loop / train | 180× | ≥ 250× | **falls short** |",
        "| JAX lax.scan, unroll 8 (20,000 steps) | single | 210 ms | 1.05 µs | 21.4× | 3e-15 |  |",
        "| fused | 46.0 ns | 320 µs | a reason & a remedy. |",
        "| Horner (aside) | 330 µs | −20.0 µs | a reason & a remedy. |",
        "| numba | double | 3e-14 | 1e-9 | 2e-15 | 1e-11 | 11 |",
        "Measured on Test CPU (2 cores), 2026-01-02: python 3.11.7, numpy 2.4.6. Not yet measured on a GPU.",
        "With those of single features, 2 of 3 bars hold; `make report` shows all.",
        "![Seconds for 200,000 steps of every backend](docs/pictures/seconds.svg)",
        "| torch-autograd | 80.4 s | 42.0 s | 9.86 ms | **fused-autograd, single** |",
        "| the fastest of all |  |  | 364 µs | **spectral, double** |",
    ):
        assert line in text
    assert "About peers.\n\n<!-- results: peers -->" in text  # what stands around stays
    page = (folder / "docs" / "page.md").read_text(encoding="utf-8")
    assert "of fastpoly's](pictures/then.svg)\n\n| the post's loop |" in page
    for picture in ("then", "seconds", "ladder"):
        svg = (folder / "docs" / "pictures" / f"{picture}.svg").read_text(encoding="utf-8")
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg"}
    (folder / "docs" / "pictures" / "ladder.svg").unlink()
    assert run("--check") == (1, "README.md: docs/pictures/ladder.svg is missing: run `make readme`\n")


def test_a_gpu_has_a_table_of_its_own(folder):
    gpu = [made.timing("post", "triton", 0.019, "single")]
    made.write(folder / "bench" / "results" / "gpu.json", gpu, device="NVIDIA H100")
    made.write(folder / "bench" / "results" / "quick.json", made.post(), device="Other CPU", quick=True)
    text = readme.filled((folder / "README.md").read_text(), newest(folder / "bench" / "results", quick=False))
    assert "Not yet measured on a GPU" not in text
    assert "On Test CPU (2 cores):\n\n![Seconds for 200,000 steps of every backend]" in text
    assert "On NVIDIA H100 (a GPU, beside it 2 cores of Test CPU):\n\n| backend | precision | now |" in text
    assert "Other CPU" not in text


def test_whose_figures_are_from_elsewhere_is_said_over_each_table(folder):
    gpu = [made.timing("post", "triton", 0.019, "single"), made.limit("a", 1, 2, "ms")]
    by_hand = "measured by hand; will be replaced"
    made.write(folder / "bench" / "results" / "gpu.json", gpu, device="NVIDIA H100", provenance=by_hand)
    text = readme.filled((folder / "README.md").read_text(), newest(folder / "bench" / "results", quick=False))
    assert text.count("On NVIDIA H100 (a GPU, beside it 2 cores of Test CPU), measured by hand:\n\n|") == 2
    assert "2026-01-02: python 3.11.7, numpy 2.4.6; measured by hand; will be replaced." in text


def test_without_results_every_block_says_so(folder):
    text = readme.filled((folder / "README.md").read_text(), Results((), ()))
    assert text.count("Not measured yet: `make bench` measures") == 7
    assert "Not yet measured on a GPU." in text


@pytest.mark.parametrize(
    "text",
    [
        "<!-- results: post -->\nno end\n",
        "<!-- end -->\n",
        "<!-- results: post -->\n<!-- results: bars -->\n<!-- end -->\n",
        "<!-- results: other -->\n<!-- end -->\n",
        "<!-- results: post --> <!-- end -->\n",
    ],
)
def test_markers_that_make_no_block_are_refused(text):
    with pytest.raises(ValueError, match=r"markers in README\.md"):
        readme.filled(text, Results((), ()))


def test_a_name_can_neither_end_a_cell_nor_a_block(folder):
    hostile = "a|b\n<!-- end -->\n`c` **d** <script>[e](f)\\"
    made.write(folder / "bench" / "results" / "cpu.json", [made.timing("peers", "x", 1, name=hostile)])
    results = newest(folder / "bench" / "results")
    text = readme.filled((folder / "README.md").read_text(), results)
    assert readme.filled(text, results) == text
    (row,) = [line for line in text.splitlines() if "script" in line]
    assert row.startswith(r"| a\|b &lt;!-- end --&gt; \`c\` \*\*d\*\* &lt;script&gt;\[e\](f)\\ | double |")


def test_to_compare_takes_numpy_alone(folder):
    code = (
        f"import sys, runpy; sys.argv = ['readme.py', '--check']; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as end: print(end.code, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    status, *modules = done.stdout.split()
    assert status == "1"
    assert not {"torch", "matplotlib", "numba", "typer", "rich", "pandas"} & set(modules)


def test_fidelity_is_written_for_the_report(tmp_path):
    file = tmp_path / "fidelity.json"
    only = ["-k", "exact_json and spectral and post", "--fidelity", file]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *only, "tests/test_fidelity.py"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (row,) = read([file]).fidelity
    assert (row.backend, row.precision, row.weights_bound, row.mse_bound) == ("spectral", "double", 1e-10, 1e-11)
    assert 0 < row.weights <= 1e-10
    assert row.problems >= 1
