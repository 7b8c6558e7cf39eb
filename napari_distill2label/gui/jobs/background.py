"""Short reading beside the window: thumbnails, opening a slide, patches of a gallery. Long work is a `Job` instead.

What is asked for in the GUI thread is done in a few threads, and its result is handed over in the GUI thread again,
unless it has been asked for anew, forgotten, or the window has closed meanwhile. What somebody waits for (opening a
slide, reading a table) has a thread of its own: it is never behind a page of thumbnails. Without a window everything
happens at once, in the calling thread.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from ...core.errors import Distill2LabelError

Value = TypeVar("Value")
THREADS = 2  # reading waits for the disk; decoding must leave the window a core
PATIENCE = 0.02  # s that `fetch` just waits: most tables are read by then, and nothing can happen in between


class StoppedReadingError(Distill2LabelError):
    """The window was closed while something was read."""


class Background:
    """Reads things for one session. `ask`, `fetch` and `forget` are called in the GUI thread only."""

    def __init__(self, threaded: Callable[[], bool]) -> None:
        self._threaded = threaded
        self._pools: dict[bool, ThreadPoolExecutor] = {}
        self._relay: Any = None
        self._wanted: dict[Hashable, Future] = {}
        self._loops: list[Any] = []  # event loops of `fetch`, innermost last
        self._closed = False

    def ask(
        self,
        key: Hashable,
        read: Callable[[], Value],
        done: Callable[[Value], None],
        failed: Callable[[Exception], None] = lambda error: None,
        *,
        urgent: bool = False,
    ) -> None:
        """Do `read()` elsewhere, then `done(value)` or `failed(error)` here. The last to ask under a key wins.

        What is `urgent` does not wait for what is not.
        """
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
        future = self._wanted[key] = self._submit(read, urgent)
        own, relay = weakref.ref(self), self._relay

        def finished(future: Future) -> None:
            relay.call(lambda: (alive := own()) and alive._hand_over(key, future, done, failed))

        future.add_done_callback(finished)

    def fetch(self, read: Callable[[], Value]) -> Value:
        """Do `read()` elsewhere and return its value; raise what it raises. The window stays alive meanwhile.

        `StoppedReadingError` if it is closed before the end.
        """
        if not self._threaded():
            return read()
        if self._closed:
            raise StoppedReadingError("the window is closed")
        future = self._submit(read, urgent=True)
        wait([future], PATIENCE)
        if not future.done():
            from qtpy.QtCore import QEventLoop

            loop, relay = QEventLoop(), self._relay
            self._loops.append(loop)
            future.add_done_callback(lambda future: relay.call(loop.quit))
            while not (future.done() or self._closed):
                loop.exec()  # an inner loop that ends may end this one too early
            self._loops.remove(loop)
        if not future.done() or future.cancelled():
            raise StoppedReadingError("the window was closed meanwhile")
        return future.result()

    def forget(self, key: Hashable) -> None:
        """Nobody wants this any more: it is not begun, or its result is dropped."""
        future = self._wanted.pop(key, None)
        if future is not None:
            future.cancel()

    def wants(self, key: Hashable) -> bool:
        """Is this being read?"""
        return key in self._wanted

    @property
    def busy(self) -> bool:
        """Is something still being read?"""
        return bool(self._wanted)

    def shutdown(self) -> None:
        """Begin nothing more and drop what comes. Idempotent; does not wait."""
        self._closed = True
        self._wanted.clear()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._pools.clear()
        for loop in self._loops:
            loop.quit()

    def _submit(self, read: Callable[[], Value], urgent: bool) -> "Future[Value]":
        if self._relay is None:
            self._relay = _relay()
        if urgent not in self._pools:
            name = "d2l-opening" if urgent else "d2l-reading"
            self._pools[urgent] = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        return self._pools[urgent].submit(read)

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
