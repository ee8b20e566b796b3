"""`python -m gpu`, which `make gpu` calls: what is missing here, what is done already, and then the driver."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

from . import card, digest, result, stages, summary
from .book import Book
from .driver import Driver

ROOT = Path(__file__).parents[2]
LIMIT = 335.0
"""Seconds: a machine with a GPU is lent for minutes at a time."""

NEEDED = ("numpy", "llvmlite", "torch", "triton", "pytest")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make gpu", description=__doc__)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for everything; LIMIT= of make")
    limit = parser.parse_args().limit
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        print(f"make gpu: {', '.join(missing)} missing from {sys.executable}; pip install {' '.join(missing)}")
        return 1
    if card.EMULATED and importlib.util.find_spec("emulated_cuda") is None:
        print("make gpu: FASTPOLY_EMULATED is set, and tests/emulated_cuda.py is missing")
        return 1
    card.prepare()
    import results_file

    name = results_file.gpu()
    if name is None:
        print("make gpu: torch finds no CUDA GPU here; nothing was run, and nothing is measured")
        return 0
    with tempfile.TemporaryDirectory(prefix="fastpoly-gpu-") as folder:
        into = _results_folder(Path(folder))
        return _run(name, into, Path(folder) / "stages", limit)


def _results_folder(temporary: Path) -> Path:
    """Where results go: nowhere that stays, if they mean nothing; into $OUT, which comes back from a lent machine."""
    import results_file

    if card.EMULATED:
        return temporary
    into = Path(os.environ.get("OUT") or results_file.FOLDER)
    into.mkdir(parents=True, exist_ok=True)
    return into


def _run(name: str, into: Path, folder: Path, limit: float) -> int:
    """Everything that is not done yet. The exit status: did something fail?"""
    import results_file

    (folder / "triton").mkdir(parents=True)
    files = result.Files(into, results_file.slug(name))
    groups = stages.groups()
    where = result.where(name)
    of = {s.name: digest.of(ROOT, s.sources, where) for group in groups for s in group.stages}
    earlier = [] if card.EMULATED else files.earlier(results_file.FOLDER)
    book = Book(files.rows, of, earlier)
    print(f"make gpu: {name}, at most {limit:g} s; {book.kept} rows hold from earlier runs", flush=True)

    def write() -> None:
        result.write(book, files, where)

    driver = Driver(book, folder, _environment(folder), limit, ROOT, after=write)
    signal.signal(signal.SIGTERM, _stop)
    try:
        driver.run(groups)
    except KeyboardInterrupt:
        print("stopped; what was found is kept")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        written = result.write(book, files, where)
        files.log.write_bytes(b"".join(_logs(folder)))
    print("\n".join(summary.lines(book, written)))
    if card.EMULATED:
        print("on an emulated card: none of these figures means anything, and none is kept")
    return int(bool(book.failures()))


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _environment(folder: Path) -> dict[str, str]:
    """Of the stages: this tree alone, caches that begin empty and end with the run."""
    paths = (ROOT, ROOT / "kernels", ROOT / "tests", ROOT / "bench", *filter(None, [os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONUNBUFFERED": "1",
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take most of the memory, torch's too
    }


def _logs(folder: Path) -> list[bytes]:
    """What the stages printed, each under its name, the last part of each."""
    texts = sorted(folder.glob("*.txt"), key=lambda file: file.stat().st_mtime)
    return [
        f"== {file.stem}\n".encode() + file.read_bytes()[-100_000:] + b"\n" for file in texts if file.stat().st_size
    ]


if __name__ == "__main__":
    sys.exit(main())
