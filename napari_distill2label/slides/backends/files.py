"""Files that are open only while they are read. A file that is gone or has changed is noticed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def file_stamp(path: str | os.PathLike[str] | int) -> tuple[int, ...]:
    """Return size and time of change of a file, which identify it; an empty tuple for a folder."""
    status = os.stat(path)
    return () if os.path.isdir(path) else (status.st_size, status.st_mtime_ns)


class SharedFile:
    """Bytes of a file for any number of threads.

    The first reader opens the file and the last one closes it. So the user can move the file of a slide that is shown,
    and thousands of slides can be used at once.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._stamp = path, file_stamp(path)
        self._lock, self._readers, self._fd = threading.Lock(), 0, -1

    def probe(self) -> None:
        """Raise `OSError` if the file is gone or has been replaced."""
        if file_stamp(self.path) != self._stamp:
            raise OSError("it has changed since it was opened")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the file open for the calls of `at` inside."""
        with self._lock:
            if self._readers == 0:
                self.probe()
                self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    os.close(self._fd)

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, inside `reading`. `EOFError` if the file ends before."""
        if hasattr(os, "pread"):
            data = os.pread(self._fd, count, offset)
        else:  # Windows: the position belongs to the file, not to the call
            with self._lock:
                os.lseek(self._fd, offset, os.SEEK_SET)
                data = os.read(self._fd, count)
        if len(data) < count:
            raise EOFError("the file ends here")
        return data
