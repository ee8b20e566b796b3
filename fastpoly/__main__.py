"""The command `fastpoly`, also as `python -m fastpoly`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it takes to have one."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules are loaded: the commands answer Ctrl-C themselves
        print("fastpoly: interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    try:
        from ._cli.app import app
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("typer", "rich"):
            raise
        print(f"fastpoly: the command line needs {library}; pip install 'fastpoly[cli]'", file=sys.stderr)
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
