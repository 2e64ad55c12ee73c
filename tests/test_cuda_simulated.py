"""Loops for GPUs in numba's simulator: indices, tails, barriers and trees give the bits of the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_simulated import CASES

PROGRAM = Path(__file__).with_name("cuda_simulated.py")


@pytest.mark.parametrize("case", CASES)
def test_bits_of_the_cpu(case):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run([sys.executable, PROGRAM, case], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
