"""The command `fastpoly` in a process, or in this one."""

import os
import subprocess
import sys

from typer.testing import CliRunner, Result

from fastpoly._cli.app import app

PNG = b"\x89PNG\r\n\x1a\n"


def in_a_process(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastpoly", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def told_in_a_line(run, *parts):
    """The run failed as a mistake should: status 2, one line, no traceback."""
    status = run.exit_code if isinstance(run, Result) else run.returncode
    assert status == 2, run.stderr
    assert run.stderr.startswith("fastpoly: ")
    assert run.stderr.count("\n") == 1, run.stderr
    for part in parts:
        assert part in run.stderr
    return True


def interrupted_in_a_line(run, told):
    """The run ended as Ctrl-C should end it: status 130, one line, no traceback."""
    assert run.exit_code == 130, run.stderr
    assert run.stderr == f"fastpoly: {told}\n"
    return True


def invoke(*words):
    """The command in this process, which is quicker."""
    return CliRunner().invoke(app, [str(word) for word in words])
