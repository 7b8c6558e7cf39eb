"""Do something a little later, once, however often it is asked for: with a window by a timer, without one at once."""

from collections.abc import Callable
from typing import Any


class Later:
    """`start` (again) puts `act` off by `interval` ms."""

    def __init__(self, act: Callable[[], None], interval: int) -> None:
        self._act, self._interval = act, interval
        self._timer: Any = None

    def start(self, threaded: bool) -> None:
        """Act later; without a window, whose event loop would call, now."""
        if not threaded:
            self._act()
            return
        if self._timer is None:
            from qtpy.QtCore import QTimer

            self._timer = QTimer(singleShot=True, interval=self._interval)
            self._timer.timeout.connect(self._act)
        self._timer.start()

    @property
    def waits(self) -> bool:
        """Has it been asked for, and not been done yet?"""
        return self._timer is not None and self._timer.isActive()

    def stop(self) -> None:
        """Do not act."""
        if self._timer is not None:
            self._timer.stop()
