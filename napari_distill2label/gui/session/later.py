"""Do something a little later, once, however often it is asked for: with a window by a timer, without one at once."""

from collections.abc import Callable
from typing import Any


class Later:
    """`start` (again) puts `act` off by `interval` ms."""

    def __init__(self, act: Callable[[], None], interval: int) -> None:
        self._act, self._interval = act, interval
        self._timer: Any = None

    def start(self, threaded: bool, interval: int | None = None) -> None:
        """Act later, in `interval` ms if given; without a window, whose event loop would call, now."""
        if not threaded:
            self._act()
            return
        if self._timer is None:
            from qtpy.QtCore import QTimer

            self._timer = QTimer(singleShot=True)
            self._timer.timeout.connect(self._act)
        self._timer.start(self._interval if interval is None else interval)

    @property
    def waits(self) -> bool:
        """Has it been asked for, and not been done yet?"""
        try:
            return self._timer is not None and self._timer.isActive()
        except RuntimeError:  # Qt is gone already: the application is ending
            return False

    def stop(self) -> None:
        """Do not act."""
        if self.waits:
            self._timer.stop()
