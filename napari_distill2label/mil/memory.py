"""The memory of a process that trains. No torch: a program calls it before it imports anything large."""

import ctypes
import sys


def retain_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether it can.

    Every training step allocates and frees the same tens of megabytes. glibc gets each large block from the system and
    returns it when it is freed, so every step waits for thousands of pages to be mapped and zeroed again. After this
    call large blocks come from the heap, which only grows: the process keeps its largest size. Allocators other than
    glibc's (macOS, Windows, musl) are not changed.

    The whole process is changed, until it ends. So programs of our own call this (the command line, the benchmarks, the
    experiments), and the window if its user asks for it; the library never does.
    """
    M_TRIM_THRESHOLD, M_MMAP_MAX, INT_MAX = -1, -4, 2**31 - 1  # malloc.h
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, INT_MAX))
