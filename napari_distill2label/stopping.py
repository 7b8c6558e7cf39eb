"""A command that the system asks to stop (a batch queue, a container, a closed terminal) ends like one after Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last on Windows alone, which lacks SIGHUP
SAME = 0.3  # s within which a signal is the same request: `timeout` and some batch systems send theirs twice


class Stopped(KeyboardInterrupt):
    """Raised in the main thread when a signal asks the command to stop.

    Attributes
    ----------
    exit_status
        What a shell reports of a program that a signal ends: 128 + its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


class Stopping:
    """What to do about signals: the first one unwinds the work, so that it cleans up; another one kills at once."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number, time.monotonic()
            raise Stopped(number)
        if time.monotonic() - self._first[1] > SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def check(self) -> None:
        """Raise `Stopped` if a signal has come and the work goes on: Python drops what is raised in a finaliser."""
        if self._first is not None:
            raise Stopped(self._first[0])


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Within the block, a signal that asks this process to stop raises `Stopped`.

    For programs of our own: a library leaves the signals of its host alone. Outside the main thread, where Python
    handles no signals, nothing is done, nor about those that the caller ignores (`nohup`).
    """
    stopping, former = Stopping(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                former[number] = signal.signal(number, stopping.on_signal)
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
