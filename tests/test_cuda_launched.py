"""Public functions with arrays on a GPU: what they launch, run as it is compiled, gives the bits of the CPU."""

import cuda_launched
import pytest
from programs import run


@pytest.mark.parametrize("case", cuda_launched.CASES)
def test_bits_of_the_cpu(case):
    run(cuda_launched.__file__, case)
