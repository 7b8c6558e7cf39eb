"""What a person at a terminal sees: one bar per task, a line per epoch, notices, failures; nothing that steers it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from .core.events import EpochEnd, Event, ItemFailed, Notice, Progress
from .core.progress import title
from .core.text import LONGEST_MESSAGE, printable, shown

LAYOUT = "\n\r\t"  # ours: ends of lines, the progress bar, tables. Of text from outside they are escaped before


class ProgressBar:
    """Shows events on stderr; `failed` collects the items that could not be done. A context manager."""

    def __init__(self) -> None:
        self.failed: list[ItemFailed] = []
        self._bar: tqdm | None = None
        self._title = ""

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._line(f"note: {shown(event.message, LONGEST_MESSAGE)}")
        elif isinstance(event, ItemFailed):
            self.failed.append(event)
            self._line(f"failed: {shown(event.item)}: {event.error}")
        elif isinstance(event, EpochEnd):
            self._line(_epoch_line(event))
        elif isinstance(event, Progress):
            self._step(event)

    def _step(self, event: Progress) -> None:
        if title(event) != self._title or self._bar is None:
            self.close()
            self._title = title(event)
            # On a terminal the bar is wiped when its task ends; a log file gets no bars at all.
            self._bar = tqdm(
                desc=shown(self._title), total=event.total, unit=f" {event.task.unit}", leave=False, disable=None,
                file=sys.stderr,
            )  # fmt: skip
        self._bar.update(event.step - self._bar.n)

    @staticmethod
    def _line(text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _epoch_line(event: EpochEnd) -> str:
    numbers = " ".join(f"{name} {value:.3f}" for name, value in {**event.losses, **event.metrics}.items())
    return f"{event.network:>7} epoch {event.epoch}/{event.epochs}: {numbers}{' *' if event.best else ''}"


class PrintableStream:
    """A text stream that writes `printable` text, and else is the stream it is made of.

    A slide's id, a file's name, a label or a library's warning about them may hold escape sequences, which could
    clear a screen, rename a window, or type for the user.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text, keep=LAYOUT))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """For a block: what is printed is `printable`, and a letter that the terminal does not have ends no work."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # a notebook's has none, and none of the trouble
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = map(PrintableStream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
