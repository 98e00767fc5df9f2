"""Memory that stays with the process: seen in the page faults that no longer happen."""

import platform
import subprocess
import sys

import pytest

from rheobase.training.heap import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from rheobase.training.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(1 << 24)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults()
keep_freed_memory()
faults()
print(fresh, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is nothing to be told")
def test_the_next_step_finds_the_memory_of_the_last() -> None:
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120)
    fresh, kept = map(int, found.stdout.split())
    assert kept < fresh / 10


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
