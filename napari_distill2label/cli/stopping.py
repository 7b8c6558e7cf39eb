"""Signals: a command that a batch queue, a container or a closed terminal stops ends as after Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last on Windows alone, which lacks SIGHUP
SAME = 0.3  # s within which a second signal is the same request: `timeout` and some batch systems send two


class Stopped(KeyboardInterrupt):
    """Raised in the main thread when a signal asks the command to stop.

    Attributes
    ----------
    exit_status
        The exit status that a shell reports for a program ended by a signal: 128 + its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


class Stopping:
    """The handler of signals: the first one unwinds the work, so that it cleans up; a second one kills at once."""

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
        """Raise `Stopped` if a signal has come but the work continues: Python drops errors raised in a finaliser."""
        if self._first is not None:
            raise Stopped(self._first[0])


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Raise `Stopped` within the block when a signal asks this process to stop.

    This is for our own programs: a library does not change the signals of its host. Nothing is done outside the main
    thread, where Python handles no signals, nor about signals that the caller ignores (`nohup`).
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
