"""Programs of tests, each in a Python of its own."""

import os
import subprocess
import sys


def run(program, *arguments, **variables):
    """Run a program with these variables in its environment: it must exit with 0."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))} | variables
    command = [sys.executable, program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
