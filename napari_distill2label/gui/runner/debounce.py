"""Do something a little later, once, however often it is asked for: with a window by a timer, without one at once."""

import weakref
from collections.abc import Callable
from inspect import ismethod
from typing import Any


class Debounce:
    """`start` (again) puts `act` off by `interval` ms; without a window, whose event loop would call, it acts at once.

    A method does not keep its owner alive.
    """

    def __init__(self, act: Callable[[], None], interval: int, has_window: bool = True) -> None:
        self._act = weakref.WeakMethod(act) if ismethod(act) else lambda: act
        self._interval, self._has_window = interval, has_window
        self._timer: Any = None

    def start(self, interval: int | None = None) -> None:
        """Act later, in `interval` ms if given."""
        if not self._has_window:
            self._fire()
            return
        if self._timer is None:
            from qtpy.QtCore import QTimer

            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.timeout.connect(self._fire)
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

    def _fire(self) -> None:
        if (act := self._act()) is not None:
            act()
