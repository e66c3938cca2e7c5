"""What becomes of the memory that tensors free: kept for the next step, or given back to the system.

Both are settings of glibc; other C libraries are left as they are.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """From now on, what is freed stays with the process, for work that takes the same sizes again and again.

    Without it, glibc gives large blocks back and gets them again page by page, each one zeroed: 12,000 page faults a
    training step of `configs/demo.yaml`, half the time of a feature network. The process stays as large as it has
    once been, or until `return_freed_memory`.
    """
    if _is_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Gives back at once what is free, where glibc keeps it because small blocks still in use lie between."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
