"""Short reading beside the window: thumbnails, opening a slide, patches of a gallery. Long work is a `Job` instead.

What is asked for in the GUI thread is done in a few threads, and its result is handed over in the GUI thread again,
unless it has been asked for anew, forgotten, or the window has closed meanwhile. Without a window everything happens
at once, in the calling thread.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value")
THREADS = 2  # reading waits for the disk; decoding must leave the window a core


class Background:
    """Reads things for one session. `ask` and `forget` are called in the GUI thread only."""

    def __init__(self, threaded: Callable[[], bool]) -> None:
        self._threaded = threaded
        self._pool: ThreadPoolExecutor | None = None
        self._relay: Any = None
        self._wanted: dict[Hashable, Future] = {}
        self._closed = False

    def ask(
        self,
        key: Hashable,
        read: Callable[[], Value],
        done: Callable[[Value], None],
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """Do `read()` elsewhere, then `done(value)` or `failed(error)` here. The last to ask under a key wins."""
        if self._closed:
            return
        self.forget(key)
        if not self._threaded():
            try:
                value = read()
            except Exception as error:  # noqa: BLE001 - handed over, whatever it is
                failed(error)
            else:
                done(value)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="d2l-reading")
            self._relay = _relay()
        future = self._pool.submit(read)
        self._wanted[key] = future
        own, relay = weakref.ref(self), self._relay

        def finished(future: Future) -> None:
            relay.call(lambda: (alive := own()) and alive._hand_over(key, future, done, failed))

        future.add_done_callback(finished)

    def forget(self, key: Hashable) -> None:
        """Nobody wants this any more: it is not begun, or its result is dropped."""
        future = self._wanted.pop(key, None)
        if future is not None:
            future.cancel()

    @property
    def busy(self) -> bool:
        """Is something still being read?"""
        return bool(self._wanted)

    def shutdown(self) -> None:
        """Begin nothing more and drop what comes. Idempotent; does not wait."""
        self._closed = True
        self._wanted.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _hand_over(
        self, key: Hashable, future: Future, done: Callable[[Any], None], failed: Callable[[Exception], None]
    ) -> None:
        if self._closed or self._wanted.get(key) is not future:
            return
        del self._wanted[key]
        error = future.exception()
        if error is None:
            done(future.result())
        elif isinstance(error, Exception):
            failed(error)


def _relay() -> Any:
    """An object of the GUI thread whose `call(function)` runs the function there, from any thread."""
    from qtpy.QtCore import QObject, Qt, Signal

    assert threading.current_thread() is threading.main_thread()

    class Relay(QObject):
        asked = Signal(object)

        def __init__(self) -> None:
            super().__init__()
            self.asked.connect(self._run, Qt.ConnectionType.QueuedConnection)

        def _run(self, function: Callable[[], Any]) -> None:
            function()

        def call(self, function: Callable[[], Any]) -> None:
            try:
                self.asked.emit(function)
            except RuntimeError:  # Qt is gone already: the application is ending
                return

    return Relay()
