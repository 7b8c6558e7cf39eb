"""Calls that other threads leave for the thread of the window: the one place of the package where a thread meets Qt.

A thread never emits a signal, neither Qt's nor psygnal's, and never touches a widget or a layer: it leaves a function
here, and the window's own event loop calls it. The mailbox is made in the window's thread and lives as long as the
process, so that no thread can post to an object that is being deleted.
"""

import threading
from collections.abc import Callable
from functools import wraps
from queue import Empty, SimpleQueue
from typing import Any

_mailbox: Any = None


def mailbox() -> Any:
    """The one mailbox; `call(function)` runs the function in the window's thread, from any thread.

    The first call must come from the window's thread.
    """
    global _mailbox
    if _mailbox is None:
        assert threading.current_thread() is threading.main_thread()
        _mailbox = _made()
    return _mailbox


def in_gui_thread(function: Callable[..., Any]) -> Callable[..., None]:
    """The same function, called at once in the window's thread, and later there when another thread calls."""
    box = mailbox()

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            function(*args, **kwargs)
        else:
            box.call(lambda: function(*args, **kwargs))

    return call


def is_alive(slot: Callable[..., Any]) -> bool:
    """Can it be called? Not a method of a widget that Qt has deleted."""
    from qtpy.compat import isalive
    from qtpy.QtCore import QObject

    owner = getattr(slot, "__self__", None)
    return not isinstance(owner, QObject) or isalive(owner)


def _made() -> Any:
    from qtpy.QtCore import QCoreApplication, QEvent, QObject

    wake = QEvent.Type(QEvent.registerEventType())

    class Mailbox(QObject):
        """Only `QCoreApplication.postEvent` is called by other threads, which Qt allows for all of them."""

        def __init__(self) -> None:
            super().__init__()
            self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

        def call(self, function: Callable[[], Any]) -> None:
            """Run `function` in the window's thread, after what was asked for before."""
            self._calls.put(function)
            if QCoreApplication.instance() is not None:  # else the application has ended, and nobody waits
                QCoreApplication.postEvent(self, QEvent(wake))

        def event(self, event: Any) -> bool:
            if event.type() != wake:
                return super().event(event)
            try:
                function = self._calls.get_nowait()  # one for each wake: they are called in their order
            except Empty:
                return True
            function()
            return True

    return Mailbox()
