"""Result files: what `make bench` wrote, read into rows.

Requirements: a file may lack any part, and a row any figure: older runs, other machines and `-k` leave things out. What
is no finite number is no figure. A file that is none of ours is refused in one line that names it.

The format is pytest-benchmark's JSON. What fastpoly knows of a benchmark stands in its `extra_info`, of the run under
the key "fastpoly". `fidelity.json` beside it is written by `pytest tests/test_fidelity.py --fidelity FILE`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

Record = Mapping[str, Any]

TIMINGS = ("post", "peers", "zoo", "scale", "cold", "ladder", "gpu")
"""The groups of what is shown for itself, "gpu" of parts of `make gpu`; the others are of ratios and limits."""

LARGEST = 1e300
"""What is beyond is no measurement; JSON has NaN, infinity and integers of any length."""

FOLDER = Path("bench/results")


@dataclass(frozen=True)
class Timing:
    """How long something took. `seconds` are for `steps` steps, of which `steps_run` truly ran."""

    group: str
    name: str
    backend: str
    precision: str
    model: str
    n: float | None
    degree: float | None
    batch: float | None
    steps: float | None
    steps_run: float | None
    seconds: float | None
    ns_per_step: float | None
    deviation: float | None
    deviation_of: str
    to_fastest: float | None
    published: float | None
    memory_mib: float | None
    different_method: bool
    axis: str  # of the group "scale": which size is varied
    cache: str  # of the group "cold": "warm" or "empty"
    device: str

    @property
    def on_gpu(self) -> bool:
        """Does this backend of fastpoly's run on a GPU?"""
        return self.backend.endswith("-gpu") or self.backend in ("cudagraph", "triton")


@dataclass(frozen=True)
class Bar:
    """A figure and what it is held to: a ratio of two times (`unit` is "×"), or any other value."""

    group: str
    name: str
    value: float | None
    limit: float | None
    at_most: bool
    unit: str
    holds: bool | None
    source: str
    seconds_of: float | None = None
    seconds_to: float | None = None


@dataclass(frozen=True)
class Rung:
    """One change to the autograd loop, and a step's time with it.

    `removed_ns` is what the change took off the step of the rung `after` it; "" is the one before. What was tried and
    not `kept` is none that later rungs build upon.
    """

    name: str
    change: str
    why: str
    after: str
    kept: bool
    not_measured: str
    ns_per_step: float | None
    removed_ns: float | None
    deviation: float | None
    precision: str
    steps: float | None


@dataclass(frozen=True)
class Part:
    """A part of the eager step's time, and which measurement it is from."""

    part: str
    ns: float | None
    source: str


@dataclass(frozen=True)
class NotMeasured:
    """What a run could not measure, and why."""

    name: str
    group: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One result file. `date` is for people; files are told apart by `written`, which knows the second.

    `partial` is a run that was cut before its end. `provenance` says how figures came to be that no command of this
    tree has written.
    """

    path: Path
    device: str
    processor: str
    cores: float | None
    date: str
    written: str
    quick: bool
    partial: bool
    provenance: str
    versions: Mapping[str, str]
    timings: tuple[Timing, ...]
    bars: tuple[Bar, ...]
    rungs: tuple[Rung, ...]
    split: tuple[Part, ...]
    explained: float | None  # what the rungs removed, and what was left, as a share of the first
    not_measured: tuple[NotMeasured, ...]

    @property
    def missing_bars(self) -> tuple[NotMeasured, ...]:
        """What was not measured and has a bar: whatever is in no group of timings."""
        return tuple(item for item in self.not_measured if item.group not in TIMINGS)

    def of(self, group: str) -> tuple[Timing, ...]:
        """The timings of one group."""
        return tuple(timing for timing in self.timings if timing.group == group)

    @property
    def on_gpu(self) -> bool:
        """Was a GPU measured? Then the device is not the processor, whose name it may have in short."""
        words = re.sub(r"\((R|TM|C)\)", " ", self.processor, flags=re.IGNORECASE).split()
        other = bool(words) and not set(self.device.split()) <= set(words)
        return other or any(timing.on_gpu for timing in self.timings)


@dataclass(frozen=True)
class Fidelity:
    """The largest deviation of a backend from the truth over some problems, and the bound that it promises."""

    backend: str
    precision: str
    problems: float | None
    weights: float | None
    weights_bound: float | None
    mse: float | None
    mse_bound: float | None


@dataclass(frozen=True)
class Results:
    """Everything that a report is made of."""

    runs: tuple[Run, ...]
    fidelity: tuple[Fidelity, ...]


def read(paths: Iterable[Path]) -> Results:
    """The result files `paths`, in their order.

    Raises:
        ValueError: one of them is no result file; the message is one line and names it.
        OSError: one cannot be read.
    """
    runs: list[Run] = []
    fidelity: list[Fidelity] = []
    for path in paths:
        content = _loaded(path)
        if "benchmarks" in content:
            runs.append(_run(path, content))
        elif "fidelity" in content:
            fidelity += [_fidelity(record) for record in _records(content["fidelity"])]
        else:
            raise ValueError(f"{path}: is no result file: it has neither benchmarks nor fidelity")
    return Results(tuple(runs), tuple(fidelity))


def newest(folder: Path = FOLDER, *, quick: bool = True) -> Results:
    """The newest run of each device in `folder`, CPUs first; of full runs alone if not `quick`. There may be none.

    One that was cut stands behind a whole one, and what no command of this tree has written behind both.

    Raises:
        ValueError: a file there is no result file.
        OSError: one cannot be read.
    """
    results = read(sorted(folder.glob("*.json")))
    by_device: dict[str, Run] = {}
    for run in sorted(results.runs, key=lambda run: (not run.provenance, not run.partial, run.written)):
        if quick or not run.quick:
            by_device[run.device] = run
    return Results(tuple(sorted(by_device.values(), key=lambda run: run.on_gpu)), results.fidelity)


def timing(group: str, info: Record, stats: Record = MappingProxyType({})) -> Timing:
    """One row, from a benchmark's `extra_info`; the median of `stats` stands in for seconds that are missing."""
    seconds = _positive(info, "seconds")
    return Timing(
        group=group,
        name=_text(info, "name") or _text(info, "backend"),
        backend=_text(info, "backend"),
        precision=_text(info, "precision"),
        model=_text(info, "model"),
        n=_number(info, "n"),
        degree=_number(info, "degree"),
        batch=_number(info, "batch"),
        steps=_number(info, "steps"),
        steps_run=_number(info, "steps_run"),
        seconds=_positive(stats, "median") if seconds is None else seconds,
        ns_per_step=_positive(info, "ns_per_step"),
        deviation=_number(info, "deviation"),
        deviation_of=_text(info, "deviation_of"),
        to_fastest=_number(info, "to_fastest"),
        published=_positive(info, "published"),
        memory_mib=_number(info, "memory_mib"),
        different_method=info.get("different_method") is True,
        axis=_text(info, "axis"),
        cache=_text(info, "cache"),
        device=_text(info, "device"),
    )


def _loaded(path: Path) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is no result file: it holds no object")
    return content


def _run(path: Path, content: Record) -> Run:
    about = _record(content.get("fastpoly"))
    machine, versions = _record(content.get("machine_info")), _record(about.get("versions"))
    processor = _text(_record(machine.get("cpu")), "brand_raw")
    timings: list[Timing] = []
    bars: list[Bar] = []
    rungs: list[Rung] = []
    split: list[Part] = []
    explained: float | None = None
    for benchmark in _records(content["benchmarks"]):
        info = _record(benchmark.get("extra_info"))
        group = _text(benchmark, "group")
        match info.get("kind"):
            case "timing":
                timings.append(timing(group, info, _record(benchmark.get("stats"))))
            case "ratio":
                bars.append(_ratio(group, info))
            case "limit":
                bars.append(_limit(group, info))
            case "ladder":
                explained = _number(info, "explained")
                rungs += [_rung(record) for record in _records(info.get("rungs"))]
                split += [
                    Part(_text(record, "part"), _number(record, "ns"), _text(record, "from"))
                    for record in _records(info.get("split"))
                ]
    return Run(
        path=path,
        device=_text(about, "device") or processor or path.stem,
        processor=processor,
        cores=_number(about, "cores"),
        date=(_text(about, "date") or _text(content, "datetime"))[:10],
        written=_text(content, "datetime") or _text(about, "date"),
        quick=about.get("quick") is True,
        partial=about.get("partial") is True,
        provenance=_text(about, "provenance"),
        versions={_printable(key): _text(versions, key) for key in versions},
        timings=tuple(timings),
        bars=tuple(bars),
        rungs=tuple(rungs),
        split=tuple(split),
        explained=explained,
        not_measured=tuple(
            NotMeasured(_text(record, "name"), _text(record, "group"), _text(record, "reason"))
            for record in _records(about.get("not_measured"))
        ),
    )


def _ratio(group: str, info: Record) -> Bar:
    return Bar(
        group=group,
        name=f"{_text(info, 'of')} / {_text(info, 'to')}",
        value=_number(info, "ratio"),
        limit=_number(info, "bar"),
        at_most=info.get("at_most") is True,
        unit="×",
        holds=_truth(info, "holds"),
        source=_text(info, "source"),
        seconds_of=_number(info, "seconds_of"),
        seconds_to=_number(info, "seconds_to"),
    )


def _limit(group: str, info: Record) -> Bar:
    return Bar(
        group=group,
        name=_text(info, "name"),
        value=_number(info, "value"),
        limit=_number(info, "limit"),
        at_most=info.get("at_most") is not False,
        unit=_text(info, "unit"),
        holds=_truth(info, "holds"),
        source=_text(info, "source"),
    )


def _rung(record: Record) -> Rung:
    return Rung(
        name=_text(record, "name"),
        change=_text(record, "change"),
        why=_text(record, "why"),
        after=_text(record, "after"),
        kept=record.get("kept") is not False,
        not_measured=_text(record, "not_measured"),
        ns_per_step=_positive(record, "ns_per_step"),
        removed_ns=_number(record, "removed_ns"),
        deviation=_number(record, "deviation"),
        precision=_text(record, "precision"),
        steps=_number(record, "steps"),
    )


def _fidelity(record: Record) -> Fidelity:
    return Fidelity(
        backend=_text(record, "backend"),
        precision=_text(record, "precision"),
        problems=_number(record, "problems"),
        weights=_number(record, "weights"),
        weights_bound=_number(record, "weights_bound"),
        mse=_number(record, "mse"),
        mse_bound=_number(record, "mse_bound"),
    )


def _record(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def _records(value: object) -> Sequence[Record]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return "" if value is None else _printable(value)


def _printable(value: object) -> str:
    """In one line, without what no page can hold: control characters, halves of surrogate pairs."""
    return "".join(letter for letter in " ".join(str(value).split()) if letter.isprintable())


def _number(record: Record, key: str) -> float | None:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return float(value)


def _positive(record: Record, key: str) -> float | None:
    value = _number(record, key)
    return value if value is not None and value > 0 else None


def _truth(record: Record, key: str) -> bool | None:
    value = record.get(key)
    return value if isinstance(value, bool) else None
