"""Memory beyond the answer (simulate) and beyond the input (mean_square): under 8 MB, in a process of its own."""

import subprocess
import sys

import pytest

LIMIT = 8 * 2**20

PROGRAM = """
import re, sys
from pathlib import Path
import torch, fastlam

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def growth(call):
    '''Peak of resident memory during the call, above what was resident before it.'''
    call(small=True)  # compile, start the threads
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status("VmRSS")
    answer = call(small=False)
    return status("VmHWM") - before

times = torch.arange(1, 257) / 256

def simulate(small):
    return fastlam.simulate(fastlam.Brownian(), times, 2048 if small else 65536, seed=1)

x = torch.randn(256, 2**17)
lam = torch.tensor(0.5, requires_grad=True)

def mean_square(small):
    fastlam.mean_square(x[:, :2048] if small else x, lam).sum().backward()

def mean_square_of_transpose(small):
    return fastlam.mean_square(x.T[:, :16] if small else x.T, lam)

def mean_square_of_rows(small):
    return fastlam.mean_square(x, lam, index=torch.arange(8 if small else 256).flip(0))

print(growth(locals()[sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for another way to read a process's peak of memory")
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("simulate", 256 * 65536 * 4),
        ("mean_square", 0),
        ("mean_square_of_transpose", 2**17 * 4),
        ("mean_square_of_rows", 0),
    ],
)
def test_growth(call, answer):
    output = subprocess.run([sys.executable, "-c", PROGRAM, call], capture_output=True, text=True, timeout=300)
    assert output.returncode == 0, output.stderr
    assert int(output.stdout) - answer < LIMIT
