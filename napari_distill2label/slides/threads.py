"""One pool of threads that decodes all slides. Codecs release the interpreter's lock."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")

_here = threading.local()


def usable_cpus() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cpus(), "slides", initializer=lambda: setattr(_here, "inside", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has no threads to wait for


@contextmanager
def without_pool() -> Iterator[None]:
    """Let `for_each` work in this thread: nobody may wait for the pool with a lock that the pool may wait for."""
    before, _here.inside = getattr(_here, "inside", False), True
    try:
        yield
    finally:
        _here.inside = before


def for_each(work: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Call `work` on every item, in threads; the first exception is raised once all running calls have ended.

    Inside the pool it works in the calling thread: threads of a pool that wait for the same pool wait for ever.
    """
    if len(items) < 2 or usable_cpus() == 1 or getattr(_here, "inside", False):
        for item in items:
            work(item)
        return
    left = deque(items)

    def take() -> None:
        while True:
            try:
                item = left.popleft()
            except IndexError:
                return
            work(item)

    futures = [_pool().submit(take) for _ in range(min(usable_cpus(), len(items)))]
    try:
        for future in futures:
            future.result()
    finally:
        left.clear()
        for future in futures:
            future.exception() if not future.cancel() else None
