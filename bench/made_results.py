"""Result files as bench/ writes them, small and made up: for tests of what reads them, and never for a document."""

import json


def timing(group, backend, seconds, precision="double", *, name=None, model="post", steps=200_000, **more):
    info = dict(
        kind="timing",
        name=name or f"{backend} {precision}",
        backend=backend,
        precision=precision,
        model=model,
        n=100,
        degree=4,
        batch=1,
        steps=steps,
        steps_run=steps,
        seconds=seconds,
        ns_per_step=1e9 * seconds / steps,
        deviation=3e-15,
        deviation_of="weights",
        to_fastest=None,
        published=None,
        memory_mib=None,
        device="Test CPU",
    )
    return benchmark(group, **{**info, **more})


def ratio(of, to, value, bar, *, at_most=False, source="docs/bars.md: promises", group="bars"):
    holds = value <= bar if at_most else value >= bar
    info = dict(of=of, to=to, ratio=value, bar=bar, at_most=at_most, holds=holds, seconds_of=value, seconds_to=1.0)
    return benchmark(group, kind="ratio", source=source, **info)


def limit(name, value, most, unit, *, source="docs/bars.md: features", group="bars", at_most=True):
    holds = value <= most if at_most else value >= most
    info = dict(name=name, value=value, limit=most, unit=unit, at_most=at_most, holds=holds)
    return benchmark(group, kind="limit", source=source, **info)


def benchmark(group, **info):
    return {"group": group, "name": "test_it", "stats": {"median": 0.5}, "extra_info": info}


def ladder():
    rungs = [
        rung("as posted", 400_000, None),
        rung("powers hoisted", 310_000, 90_000),
        rung("Horner", 330_000, -20_000, after="powers hoisted", kept=False),
        rung("no .data", 320_000, -10_000, after="powers hoisted"),
        rung("CUDA graph", None, None, not_measured="torch finds no CUDA GPU"),
        rung("fused", 46, 319_954, after="no .data"),
    ]
    parts = [("Python", 90_000), ("dispatcher", 120_000), ("backward engine", 150_000), ("rest", -1_000)]
    split = [{"part": part, "ns": ns, "from": "differences of rungs"} for part, ns in parts]
    return benchmark("ladder", kind="ladder", rungs=rungs, split=split, explained=1.02)


def rung(name, ns, removed, **more):
    said = dict(name=name, change="what changed", why="a reason & a remedy.", precision="single", steps=2000)
    return {**said, "ns_per_step": ns, "removed_ns": removed, "deviation": 1e-7, "kept": True, **more}


def post():
    published = {
        "numpy": ("mixed", 10.91, 7.4),
        "torch": ("single", 10.13, 19.7),
        "torch-autograd": ("single", 80.43, 42),
    }
    rows = [timing("post", b, now, p, published=then, deviation=3e-9) for b, (p, then, now) in published.items()]
    ours = [("numba", "double", 0.0159), ("fused-autograd", "single", 0.00986), ("gram", "mixed", 0.00226)]
    return [*rows, *(timing("post", b, s, p) for b, p, s in [*ours, ("spectral", "double", 0.000364)])]


def scale():
    """numba grows with n, gram less: they meet where 2e-3 + 1e-6 n is 1.6e-4 n."""
    sizes = [10**k for k in range(2, 6)]
    rows = [timing("scale", "numba", 1.6e-4 * n, n=n) for n in sizes]
    rows += [timing("scale", "gram", 3e-2 * (n / 100) ** 0.3, n=n, memory_mib=n / 1e4) for n in sizes]
    return rows + [timing("scale", "numba", 1.6e-2 * s / 200_000, steps=s) for s in (10**3, 10**6)]


def zoo():
    step = {"torch eager (from 300 steps)": 266_000, "torch.compile, 8 steps a call": 9_000, "JAX, unroll 8": 2_320}
    backends = ["torch-autograd", "compile", "JAX", "fused"]
    return [
        timing("zoo", backend, ns * 150_000e-9, "single", model="damped-sine", steps=150_000, name=name)
        for backend, (name, ns) in zip(backends, {**step, "descend, fused": 277}.items(), strict=True)
    ]


def bars():
    return [
        ratio("numba double", "C double", 1.05, 1.10, at_most=True),
        ratio("numpy loop", "train", 180, 250, source="docs/bars.md: promises"),
        limit("first descend of a process", 210.0, 300, "ms"),
    ]


def peers():
    return [
        timing("peers", "fused-autograd", 0.0098, "single", to_fastest=1.0),
        timing("peers", "JAX, unroll 8", 0.21, "single", name="JAX lax.scan, unroll 8 (20,000 steps)", to_fastest=21.4),
        timing("peers", "numpy.polynomial", 1e-4, "double", different_method=True),
    ]


def cold():
    rows = [("train()", "warm", 0.31), ("train()", "empty", 1.9), ("JAX", "warm", 1.4)]
    return [
        timing("cold", name, seconds, "single", name=f"{name}, {cache} caches", cache=cache)
        for name, cache, seconds in rows
    ]


def everything():
    return [*post(), *bars(), ladder(), *peers(), *zoo(), *scale(), *cold()]


NOT_MEASURED = [{"name": "Triton loop on an H200", "group": "bars", "reason": "no CUDA GPU here"}]


def content(
    benchmarks, *, device="Test CPU", date="2026-01-02T03:04:05", quick=False, not_measured=NOT_MEASURED, **more
):
    about = dict(
        device=device, cores=2, versions={"python": "3.11.7", "numpy": "2.4.6"}, quick=quick, date=date, **more
    )
    machine = {"cpu": {"brand_raw": "Test CPU"}}
    return {
        "machine_info": machine,
        "benchmarks": benchmarks,
        "fastpoly": {**about, "not_measured": list(not_measured)},
    }


def write(path, benchmarks, **about):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content(benchmarks, **about)))
    return path


def write_fidelity(path):
    row = dict(
        backend="numba", precision="double", problems=11, weights=3e-14, weights_bound=1e-9, mse=2e-15, mse_bound=1e-11
    )
    path.write_text(json.dumps({"fidelity": [row]}))
    return path
