"""Keeps the memory that a training step frees."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets glibc keep freed blocks of any size for the next allocation, in the whole process.

    XLA on CPU allocates the intermediate arrays of a step anew at each step. glibc returns blocks
    of that size to the kernel when they are freed, and the kernel clears every page of the next:
    a fifth of the processor time of the main job's steps. With another C library nothing is done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
