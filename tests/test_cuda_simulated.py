"""Loops for GPUs in numba's simulator: indices, tails, barriers and trees give the bits of the CPU; so do launches."""

import os
import subprocess
import sys
from pathlib import Path

import cuda_launched
import cuda_simulated
import pytest

PROGRAMS = [(program.__file__, case) for program in (cuda_simulated, cuda_launched) for case in program.CASES]


@pytest.mark.parametrize(("program", "case"), PROGRAMS, ids=[f"{Path(file).stem}-{case}" for file, case in PROGRAMS])
def test_bits_of_the_cpu(program, case):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run([sys.executable, program, case], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
