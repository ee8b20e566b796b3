"""The command `fastpoly`, also as `python -m fastpoly`."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, or say what it takes to have one."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules are loaded: the commands answer Ctrl-C themselves
        print("fastpoly: interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    for library in ("typer", "rich"):  # rich is imported by the commands that draw tables, and not before
        if find_spec(library) is None:
            print(f"fastpoly: the command line needs {library}; pip install 'fastpoly[cli]'", file=sys.stderr)
            sys.exit(2)
    gc.disable()  # nothing of what is imported is garbage, and to look for it takes a twentieth of the start
    from ._cli.app import app, keep_only

    keep_only("".join(sys.argv[1:2]))
    app()


if __name__ == "__main__":
    main()
