"""Write what changes often, in the background or at once: the newest state is what stays on the disk."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from ..runner.reader import BackgroundReader

Value = TypeVar("Value")


class LatestWriter(Generic[Value]):
    """Writes one thing's states, each of them as a whole, under a key of a `BackgroundReader`.

    Two writes never run at a time, and none ends after one that was asked for later. As with everything that is done
    in the background, `write` holds values and no part of the session.
    """

    def __init__(self, reader: BackgroundReader, key: Hashable) -> None:
        self._reader, self._key = reader, key
        self._turns = _Turns()
        self._changes = self._saved = 0  # changes there were, and those of them that are on the disk

    @property
    def unsaved(self) -> bool:
        """Has there been a change that is not on the disk?"""
        return self._saved < self._changes

    def change(self) -> None:
        """The state is another one now; whoever calls also asks for a write, in time."""
        self._changes += 1

    def clear(self) -> None:
        """There is nothing to write: whoever waits for an earlier write hears nothing of it."""
        self._reader.cancel(self._key)
        self._saved = self._changes

    def request(
        self, write: Callable[[], Value], done: Callable[[Value], None], failed: Callable[[Exception], None]
    ) -> None:
        """Write the state as it is now, in the background; a later request takes the place of this one."""
        changes = self._changes

        def written(value: Value | None) -> None:
            if value is not None:
                self._saved = changes
                done(value)

        self._reader.request(self._key, self._turns.task(write), written, failed)

    def flush(self, write: Callable[[], Value]) -> Value:
        """Write the state as it is now, at once, after a write that is under way. Raises what `write` raises."""
        self._reader.cancel(self._key)
        value = self._turns.task(write)()
        assert value is not None  # its turn is the last one
        self._saved = self._changes
        return value


@dataclass
class _Turns:
    """What the threads share: one of them writes at a time, and nothing older than what is there."""

    taken: int = 0
    written: int = 0
    lock: Lock = field(default_factory=Lock)

    def task(self, write: Callable[[], Value]) -> Callable[[], Value | None]:
        """`write` for any thread; None if something newer has been written before."""
        self.taken += 1
        turn = self.taken

        def run() -> Value | None:
            with self.lock:
                if turn < self.written:
                    return None
                value = write()
                self.written = turn
                return value

        return run
