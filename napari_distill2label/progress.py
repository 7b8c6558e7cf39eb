"""Events as a person at a terminal sees them: one bar per phase, a line per epoch, notices and failures."""

import sys
from types import TracebackType

from tqdm import tqdm

from .core.events import EpochEnd, Event, Failed, Notice, Progress


class ProgressBar:
    """Shows events on stderr; `failed` collects the items that could not be done. A context manager."""

    def __init__(self) -> None:
        self.failed: list[Failed] = []
        self._bar: tqdm | None = None
        self._phase = ""

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._line(f"note: {event.message}")
        elif isinstance(event, Failed):
            self.failed.append(event)
            self._line(f"failed: {event.item}: {event.reason}")
        elif isinstance(event, EpochEnd):
            self._line(_epoch_line(event))
        elif isinstance(event, Progress):
            self._step(event)

    def _step(self, event: Progress) -> None:
        if event.phase != self._phase or self._bar is None:
            self.close()
            self._phase = event.phase
            # On a terminal the bar is wiped when its phase ends; a log file gets no bars at all.
            self._bar = tqdm(desc=event.phase, total=event.total, leave=False, disable=None, file=sys.stderr)
        self._bar.update(event.done - self._bar.n)

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
    return f"{event.phase:>7} epoch {event.done}/{event.total}: {numbers}{' *' if event.best else ''}"
