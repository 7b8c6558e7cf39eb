"""Short reading in the background: thumbnails, opening a slide, patches of a gallery. Long work is a `Job` instead.

What is asked for in the GUI thread is done in a few threads, and its result is handed over in the GUI thread again,
unless it has been asked for again, forgotten, or the window has closed meanwhile. What somebody waits for has threads
of its own: opening a slide is never behind a page of thumbnails, and reading a table is behind neither. Without a
window everything happens at once, in the calling thread.

A thread knows what to read, and nothing else: who asked, and what is done with the answer, stays in the GUI thread
(`gui_thread` carries a token across). So `read` must hold no widget, no layer and no session: a thread that drops the
last reference to one would delete it.
"""

import itertools
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ...core.errors import Distill2LabelError
from .gui_thread import is_alive, mailbox

Value = TypeVar("Value")
Lane = Literal["reading", "opening", "fetching"]
THREADS = 2  # of each lane: reading waits for the disk; decoding must leave the window a core
PATIENCE = 0.02  # s that `wait_for` just waits: most tables are read by then, and nothing can happen in between


class StoppedReadingError(Distill2LabelError):
    """The window was closed while something was read."""


@dataclass(eq=False)
class _Request:
    """What was asked for and is not handed over yet. Only the GUI thread sees it."""

    future: Future[Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    dropped: Callable[[Any], None]


class BackgroundReader:
    """Reads things for one session. `request`, `wait_for` and `cancel` are called in the GUI thread only."""

    def __init__(self, threaded: Callable[[], bool]) -> None:
        self._threaded = threaded
        self._pools: dict[Lane, ThreadPoolExecutor] = {}
        self._tokens = itertools.count()
        self._requests: dict[int, _Request] = {}  # by token, until their reading has ended
        self._wanted: dict[Hashable, int] = {}  # token of the last request of each key
        self._loops: list[Any] = []  # event loops of `wait_for`, innermost last
        self._closed = False

    def request(
        self,
        key: Hashable,
        read: Callable[[], Value],
        done: Callable[[Value], None],
        failed: Callable[[Exception], None] = lambda error: None,
        *,
        dropped: Callable[[Value], None] = lambda value: None,
        urgent: bool = False,
    ) -> None:
        """Do `read()` elsewhere, then `done(value)` or `failed(error)` here. The last to ask under a key wins.

        A value that nobody wants any more is `dropped`: here too, where it can be closed. What is `urgent` does not
        wait for what is not.
        """
        if self._closed:
            return
        self.cancel(key)
        if not self._threaded():
            try:
                value = read()
            except Exception as error:  # noqa: BLE001 - handed over, whatever it is
                failed(error)
            else:
                done(value)
            return
        future = self._submit(read, "opening" if urgent else "reading")
        token = self._wanted[key] = next(self._tokens)
        self._requests[token] = _Request(future, done, failed, dropped)
        own, box = weakref.ref(self), mailbox()
        future.add_done_callback(lambda future: box.call(lambda: _hand_over(own, key, token)))

    def wait_for(self, read: Callable[[], Value]) -> Value:
        """Do `read()` elsewhere and return its value; raise what it raises. The window stays alive meanwhile.

        `StoppedReadingError` if it is closed before the end.
        """
        if not self._threaded():
            return read()
        if self._closed:
            raise StoppedReadingError("the window is closed")
        future = self._submit(read, "fetching")
        wait([future], PATIENCE)
        if not future.done():
            from qtpy.QtCore import QEventLoop

            loop, box = QEventLoop(), mailbox()
            self._loops.append(loop)
            future.add_done_callback(lambda future: box.call(self._wake))
            while not (future.done() or self._closed):
                loop.exec()  # an inner loop that ends may end this one too early
            self._loops.remove(loop)
        if not future.done() or future.cancelled():
            raise StoppedReadingError("the window was closed meanwhile")
        return future.result()

    def cancel(self, key: Hashable) -> None:
        """Nobody wants this any more: it is not begun, or its result is dropped."""
        request = self._requests.get(self._wanted.pop(key, -1))
        if request is not None:
            request.future.cancel()

    def cancel_all(self, kind: str) -> None:
        """Nobody wants what was asked for under the keys (`kind`, …) any more."""
        for key in [key for key in self._wanted if isinstance(key, tuple) and key[0] == kind]:
            self.cancel(key)

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
        self._wake()

    def _wake(self) -> None:
        for loop in self._loops:
            loop.quit()

    def _submit(self, read: Callable[[], Value], lane: Lane) -> "Future[Value]":
        mailbox()  # made here, in the GUI thread
        if lane not in self._pools:
            self._pools[lane] = ThreadPoolExecutor(THREADS, thread_name_prefix=f"d2l-{lane}")
        return self._pools[lane].submit(read)

    def _take(self, key: Hashable, token: int) -> None:
        """A reading has ended, or was not begun."""
        request = self._requests.pop(token)
        wanted = not self._closed and self._wanted.get(key) == token
        if wanted:
            del self._wanted[key]
        if request.future.cancelled():
            return
        error = request.future.exception()
        wanted = wanted and is_alive(request.done)  # a widget may go before its session is shut down
        if error is None:
            (request.done if wanted else request.dropped)(request.future.result())
        elif wanted and isinstance(error, Exception):
            request.failed(error)


def _hand_over(own: "weakref.ref[BackgroundReader]", key: Hashable, token: int) -> None:
    if (alive := own()) is not None:
        alive._take(key, token)
