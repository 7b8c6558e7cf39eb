"""What a person at a terminal sees: one bar per task, a line per epoch, notices and failures."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from ..core.events import EpochEnd, Event, ItemFailed, Progress
from ..core.messages import Messages, python_messages
from ..core.notices import Notice
from ..core.progress import title
from ..core.text import printable, shown

if TYPE_CHECKING:
    from tqdm import tqdm

LAYOUT = "\n\r\t"  # kept in our own text: line ends, the progress bar, tables. In text from outside they are escaped


class ProgressBar:
    """A context manager that shows events on stderr, in the words of `messages`. `failed` collects failed items."""

    def __init__(self, messages: Messages = python_messages) -> None:
        self.messages = messages
        self.failed: list[ItemFailed] = []
        self._bar: tqdm[NoReturn] | None = None
        self._title = ""

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._line(f"note: {self.messages.notice(event)}")
        elif isinstance(event, ItemFailed):
            self.failed.append(event)
            self._line(f"failed: {self.messages.failure(event)}")
        elif isinstance(event, EpochEnd):
            self._line(_epoch_line(event))
        elif isinstance(event, Progress):
            self._step(event)

    def _step(self, event: Progress) -> None:
        if title(event) != self._title or self._bar is None:
            self.close()
            self._title = title(event)
            # On a terminal the bar is removed when its task ends. A log file gets no bars.
            self._bar = _bar_class()(
                desc=shown(self._title), total=event.total, unit=f" {event.task.unit}", leave=False, disable=None,
                file=sys.stderr,
            )  # fmt: skip
        self._bar.update(event.step - self._bar.n)

    @staticmethod
    def _line(text: str) -> None:
        _bar_class().write(text, file=sys.stderr)

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


def _bar_class() -> "type[tqdm[NoReturn]]":
    """Return tqdm's class. tqdm looks its version up as it is imported, which takes longer than our whole parser."""
    from tqdm import tqdm

    return tqdm


def _epoch_line(event: EpochEnd) -> str:
    numbers = " ".join(f"{name} {value:.3f}" for name, value in {**event.losses, **event.metrics}.items())
    return f"{event.network:>7} epoch {event.epoch}/{event.epochs}: {numbers}{' *' if event.best else ''}"


class PrintableStream:
    """A text stream that writes `printable` text. All else is passed to the stream that it wraps.

    A slide id, a file name, a label or a warning of a library about them may hold escape sequences. These could clear
    the screen, rename the window, or type for the user.
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
    """Make what a block prints `printable`. A character that the terminal lacks does not end the work."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # a notebook's stream has none, and needs none
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = map(PrintableStream, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
