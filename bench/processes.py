"""Code in a fresh interpreter, as a user's would be."""

import os
import subprocess
import sys


def output_of(code, **environment):
    """What it prints. `environment` is beside this process's own.

    Python may keep bytecode of fastpoly: pip writes that of what it installs, but none of an editable install.
    """
    environment = {**os.environ, **environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
