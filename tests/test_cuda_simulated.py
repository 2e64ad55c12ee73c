"""Loops for GPUs in numba's simulator: indices, tails, barriers and trees give the bits of the CPU."""

import cuda_simulated
import pytest
from programs import run


@pytest.mark.parametrize("case", cuda_simulated.CASES)
def test_bits_of_the_cpu(case):
    run(cuda_simulated.__file__, case, NUMBA_ENABLE_CUDASIM="1")
