"""What becomes of freed memory, counted by the system in a process of its own."""

import platform
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by other rules"),
]
PROGRAM = """
import resource, torch
from halfface_pipeline.inference.speed import keep_freed_memory, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 * 2**20)  # 64 MiB, 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

blocks = [torch.ones(2**14) for _ in range(4096)]  # 64 KiB each, too small to be mapped alone: 256 MiB
blocks = blocks[::64]
before = resident()
return_freed_memory()
print(before - resident())

print(faults())
keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_freed_memory_is_given_back_or_used_again_without_asking_the_system():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    mebibytes, before, after = map(int, done.stdout.split())
    assert mebibytes > 200
    assert before > 60_000
    assert after < 100
