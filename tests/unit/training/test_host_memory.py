"""Freed memory stays with the process, so that the next step meets no page fault."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from acclimate.training.host_memory import keep_freed_memory
if "keep" in sys.argv and not keep_freed_memory():
    sys.exit("another allocator")
def step():
    return torch.ones(20_000_000).sum()  # 80 MB
for _ in range(25):  # until the heap has found its shape
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(); step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True)
    if "another allocator" in done.stderr:
        pytest.skip("no glibc here")
    return int(done.stdout)


def test_a_large_tensor_of_the_next_step_meets_no_page_fault() -> None:
    assert faults("keep") < 100 < 1000 < faults()
