"""What is imported when, and how the kernels' disk cache behaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastpoly

HEAVY = ["torch", "numba", "llvmlite", "triton", "matplotlib", "typer", "rich", "pandas", "scipy", "sklearn", "dask"]
FIT = (
    "import numpy as np; from fastpoly import fit; x = np.linspace(0, 5, 100)\n"
    "print(fit(x, np.sin(x), {}, 10_000, backend='numba').weights.tobytes().hex())"
)


def python(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout.strip()


def test_import_loads_numpy_and_nothing_heavy():
    loaded = python("import sys, fastpoly; print(*sys.modules)").split()
    assert "numpy" in loaded
    assert not set(HEAVY) & set(loaded)


NUMPY_USERS = {
    "train": "train([0, 1, 2], [0, 1, 4], 10)",
    "numba": "fit([0, 1, 2], [0, 1, 4], 2, backend='numba', precision='single')",
    "gram": "fit([0, 1, 2], [0, 1, 4], 2, backend='gram')",
    "gram, mixed": "fit([0, 1, 2], [0, 1, 4], 2, backend='gram', precision='mixed')",
    "fit_many": "fit_many([0, 1, 2], [[0, 1, 4], [1, 2, 3]], 2, backend='numba')",
}


@pytest.mark.parametrize("call", NUMPY_USERS.values(), ids=NUMPY_USERS)
def test_a_numpy_user_loads_numpy_and_what_links(call, tmp_path):
    """And what compiles only when there is something to compile."""
    code = f"import sys; from fastpoly import fit, fit_many, train; {call}; print(*sys.modules)"
    first, second = (set(python(code, FASTPOLY_CACHE_DIR=str(tmp_path)).split()) for _ in range(2))
    assert not {"numba", "torch", "matplotlib", "typer", "rich"} & first
    assert "llvmlite.binding" in second
    assert {"fastpoly_kernels.stage", "ast"} <= first
    assert "fastpoly_kernels.stage" not in second


def test_a_traced_loss_needs_no_numba():
    code = "import sys; from fastpoly import fit; fit([0, 1, 2], [0, 1, 4], 2, backend='fused-autograd'); "
    loaded = set(python(code + "print(*sys.modules)").split())
    assert {"torch", "llvmlite.binding"} <= loaded
    assert "numba" not in loaded


def test_the_closed_form_is_numpy_alone():
    code = "import sys; from fastpoly import fit; fit([0, 1, 2], [0, 1, 4], 2); print(*sys.modules)"
    assert not {"llvmlite", "torch"} & set(python(code).split())


def test_what_can_run_here_is_told_without_loading_it():
    loaded = python("import sys, fastpoly; fastpoly.backends(); print(*sys.modules)").split()
    assert not {"triton", "torch._dynamo", "torch._inductor", "jax"} & set(loaded)


def test_kernels_know_nothing_of_the_floor_above():
    loaded = python("import sys, fastpoly_kernels.descent; print(*sys.modules)").split()
    assert not [name for name in loaded if name == "fastpoly" or name.startswith("fastpoly.")]


def test_every_public_name_is_there_and_documented():
    for name in fastpoly.__all__:
        assert getattr(fastpoly, name).__doc__, name


def test_types_are_shipped():
    import fastpoly_kernels

    for package in (fastpoly, fastpoly_kernels):
        assert (Path(package.__file__).parent / "py.typed").exists()


# -- the cache of compiled kernels
# ----------------------------------------------------------------------------------------


def cached(folder):
    return sorted(path.relative_to(folder) for path in Path(folder).rglob("*.kernel"))


COUNTED = (
    "from fastpoly_kernels import machine_code, store\n"
    "linked, saved, link, save = [], [], machine_code.linked, store.save\n"
    "machine_code.linked = lambda *whole: linked.append(whole) or link(*whole)\n"
    "store.save = lambda *whole: saved.append(whole) or save(*whole)\n"
)


def hits(folder, degree=4):
    """Run a fit in a fresh process; how many kernels it loaded, and compiled, and the weights."""
    code = COUNTED + FIT.format(degree) + "\nprint(len(linked) - len(saved), len(saved))"
    weights, counts = python(code, FASTPOLY_CACHE_DIR=str(folder)).split("\n")
    loaded, compiled = map(int, counts.split())
    return loaded, compiled, weights


def test_the_second_process_compiles_nothing(tmp_path):
    loaded, compiled, weights = hits(tmp_path)
    assert (loaded, compiled) == (0, 1)
    assert hits(tmp_path) == (1, 0, weights)


def test_a_loaded_kernel_and_a_compiled_one_live_together(tmp_path):
    hits(tmp_path, degree=4)
    code = COUNTED + FIT.format(4) + "\n" + FIT.format(5) + "\nprint(len(linked), len(saved))"
    assert python(code, FASTPOLY_CACHE_DIR=str(tmp_path)).split("\n")[2] == "2 1"


def test_a_change_in_any_kernel_file_makes_the_cache_stale(tmp_path):
    hits(tmp_path)
    code = "from fastpoly_kernels import machine_code; machine_code.package_stamp = lambda: 'changed'\n" + FIT.format(4)
    python(code, FASTPOLY_CACHE_DIR=str(tmp_path))
    assert len(cached(tmp_path)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda code: code[:-100], id="cut"),
        pytest.param(lambda code: b"", id="emptied", marks=pytest.mark.slow),
        pytest.param(lambda code: b"garbage", id="overwritten", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cache_is_compiled_over(tmp_path, damage):
    weights = hits(tmp_path)[2]
    (file,) = tmp_path.rglob("*.kernel")
    file.write_bytes(damage(file.read_bytes()))
    assert hits(tmp_path)[1:] == (1, weights)
    assert hits(tmp_path) == (1, 0, weights)  # and repaired


def test_without_a_writable_folder_kernels_are_compiled_in_memory(tmp_path):
    # a plain file where a folder must be: not writable for anyone, root included
    blocked = tmp_path / "file"
    blocked.write_text("")
    expected = python(FIT.format(4))
    environment = dict(FASTPOLY_CACHE_DIR=str(blocked), XDG_CACHE_HOME=str(blocked), HOME=str(blocked))
    assert python(FIT.format(4), **environment) == expected


def test_a_cache_that_becomes_unwritable_does_no_harm(tmp_path):
    code = (
        "import fastpoly_kernels.descent, os, shutil\n"
        f"shutil.rmtree({str(tmp_path)!r}); open({str(tmp_path)!r}, 'w').close()\n" + FIT.format(4)
    )
    assert python(code, FASTPOLY_CACHE_DIR=str(tmp_path)) == python(FIT.format(4))


def test_nothing_is_written_into_the_package(tmp_path):
    import fastpoly_kernels

    hits(tmp_path)
    assert cached(tmp_path)
    assert not cached(Path(fastpoly_kernels.__file__).parent)
