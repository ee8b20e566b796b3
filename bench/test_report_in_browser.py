"""The report in a real browser: nothing is asked of any network, nothing is complained of, nothing sticks out."""

import json
import re
import shutil
import subprocess

import made_results as made
import pytest
from report.page import page
from report.results import read

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

QUIET = [
    "--headless",
    "--no-sandbox",  # it does not start for root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever it asks for is noted, and nothing leaves
    "--allow-file-access-from-files",  # so that one page can measure another in a frame
]


@pytest.fixture
def browse(tmp_path):
    """browse(file, *options): what chromium printed, what the console said, and what the page asked a network for."""

    def run(file, *options):
        log = tmp_path / "net.json"
        words = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]
        words += ["--enable-logging=stderr", "--v=0", *options, file.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        console = re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr)
        return done.stdout, console, requests_of_pages(log)

    return run


def requests_of_pages(log):
    """The addresses that chromium's log of its network says a page asked for, and not the browser itself."""
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [event for event in asked if "url" in event and event.get("initiator", "not an origin") != "not an origin"]
    return [event["url"] for event in asked if not event["url"].startswith(("file:", "data:"))]


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(read([made.write(tmp_path / "cpu.json", made.everything())])), encoding="utf-8")
    return path


def test_a_page_that_misbehaves_is_noticed(browse, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://example.invalid/a.png'><script>console.error('complaint')</script>")
    _, console, urls = browse(bad, "--dump-dom")
    assert any("complaint" in line for line in console)
    assert any("example.invalid" in url for url in urls)


def test_no_complaint_and_no_request(browse, report):
    printed, console, urls = browse(report, "--dump-dom")
    assert "What was not measured" in printed
    assert console == []
    assert urls == []


@pytest.mark.parametrize("width", [360, 390, 768, 1200])
def test_nothing_sticks_out(browse, report, tmp_path, width):
    """The page is no wider than its window; wide tables scroll in frames of their own."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe src='{report.name}' style='width:{width}px;height:800px;border:0'></iframe><pre></pre><script>"
        "onload = () => { const page = document.querySelector('iframe').contentDocument; const wide = []\n"
        "for (const node of page.querySelectorAll('main, header, section, p, li, svg, .scroll, nav a'))\n"
        "  if (node.getBoundingClientRect().right > page.documentElement.clientWidth) wide.push(node.tagName)\n"
        "document.querySelector('pre').textContent = 'measured ' + JSON.stringify(\n"
        "  [page.documentElement.scrollWidth, page.documentElement.clientWidth, wide]) }</script>"
    )
    printed, _, _ = browse(frame, "--dump-dom")
    scroll, client, wide = json.loads(re.search(r"measured (.*)</pre>", printed)[1])
    assert client > width - 20  # but for a scroll bar
    assert scroll == client
    assert wide == []


def test_it_prints(browse, report, tmp_path):
    pdf = tmp_path / "report.pdf"
    browse(report, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", content)) >= 2
