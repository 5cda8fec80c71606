import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from lle_jax.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24, np.uint8)
before = faults()
for _ in range(10):
    np.ones(2**24, np.uint8)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's page faults are counted on Linux")
def test_freed_memory_is_kept():
    faults = {
        keep: int(subprocess.check_output([sys.executable, "-c", PROGRAM.format(keep=keep)]))
        for keep in (False, True)
    }
    assert faults[True] < 0.1 * faults[False]
