"""What is freed is used again."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from kd3d_core.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_large_blocks_cost_no_new_pages():
    without = faults("default")
    if without < 100:
        pytest.skip("this machine's malloc keeps what is freed anyway")
    assert faults("keep") < without / 10
