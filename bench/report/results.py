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
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

Record = Mapping[str, Any]

TIMINGS = ("post", "peers", "zoo", "scale", "cold", "ladder", "gpu")
"""The groups of what is shown for itself, "gpu" of parts of `make gpu`; the others are of ratios and limits."""

LARGEST = 1e300
"""What is beyond is no measurement; JSON has NaN, infinity and integers of any length."""

FOLDER = Path("bench/results")

Positive = float | None
"""A figure that is above zero, or none."""


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
    seconds: Positive
    ns_per_step: Positive
    deviation: float | None
    deviation_of: str
    to_fastest: float | None
    published: Positive
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
    seconds_of: float | None
    seconds_to: float | None


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
    ns_per_step: Positive
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
            fidelity += [_read(Fidelity, record) for record in _records(content["fidelity"])]
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
    return _read(
        Timing,
        info,
        group=group,
        name=_text(info.get("name")) or _text(info.get("backend")),
        seconds=_positive(stats.get("median")) if _positive(info.get("seconds")) is None else info.get("seconds"),
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
    processor = _text(_record(machine.get("cpu")).get("brand_raw"))
    timings: list[Timing] = []
    bars: list[Bar] = []
    rungs: list[Rung] = []
    split: list[Part] = []
    explained: float | None = None
    for benchmark in _records(content["benchmarks"]):
        info = _record(benchmark.get("extra_info"))
        group = _text(benchmark.get("group"))
        match info.get("kind"):
            case "timing":
                timings.append(timing(group, info, _record(benchmark.get("stats"))))
            case "ratio":
                name = f"{_text(info.get('of'))} / {_text(info.get('to'))}"
                value, limit = info.get("ratio"), info.get("bar")
                bars.append(_read(Bar, info, group=group, name=name, value=value, limit=limit, unit="×"))
            case "limit":
                at_most = info.get("at_most") is not False
                bars.append(_read(Bar, info, group=group, at_most=at_most))
            case "ladder":
                explained = _number(info.get("explained"))
                rungs += [_read(Rung, rung, kept=rung.get("kept") is not False) for rung in _records(info.get("rungs"))]
                split += [_read(Part, part, source=part.get("from")) for part in _records(info.get("split"))]
    return Run(
        path=path,
        device=_text(about.get("device")) or processor or path.stem,
        processor=processor,
        cores=_number(about.get("cores")),
        date=_text(about.get("date") or content.get("datetime"))[:10],
        written=_text(content.get("datetime") or about.get("date")),
        quick=about.get("quick") is True,
        partial=about.get("partial") is True,
        provenance=_text(about.get("provenance")),
        versions={_text(key): _text(value) for key, value in versions.items()},
        timings=tuple(timings),
        bars=tuple(bars),
        rungs=tuple(rungs),
        split=tuple(split),
        explained=explained,
        not_measured=tuple(_read(NotMeasured, record) for record in _records(about.get("not_measured"))),
    )


def _read(kind: Any, record: Record, **known: Any) -> Any:
    """A row of the record's values, or of those `known` better, each read as its annotation says."""
    return kind(**{f.name: READ[f.type](known.get(f.name, record.get(f.name))) for f in fields(kind)})


def _record(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def _records(value: object) -> Sequence[Record]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """In one line, without what no page can hold: control characters, halves of surrogate pairs."""
    words = "" if value is None else " ".join(str(value).split())
    return "".join(letter for letter in words if letter.isprintable())


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return float(value)


def _positive(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


READ = {
    "str": _text,
    "bool": lambda value: value is True,
    "bool | None": lambda value: value if isinstance(value, bool) else None,
    "float | None": _number,
    "Positive": _positive,
}
