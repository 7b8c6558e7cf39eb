"""Undo and redo of what a user does to the session. No Qt: panels and the console share one stack."""

from collections.abc import Callable
from dataclasses import dataclass

from psygnal import Signal

DEPTH = 200  # edits kept; each holds two references, to the state before and after

Change = Callable[[], object]


@dataclass(frozen=True)
class Edit:
    """Something that was done: how to take it back, how to do it again, and its name in the menu."""

    text: str
    undo: Change
    redo: Change


class History:
    """The edits of a session, oldest first. An edit is recorded after it was done."""

    changed = Signal()

    def __init__(self) -> None:
        self._done: list[Edit] = []
        self._undone: list[Edit] = []
        self._busy = False

    def push(self, text: str, undo: Change, redo: Change) -> None:
        """Record an edit. What had been undone can no longer be redone. Edits made by undo or redo are not recorded."""
        if self._busy:
            return
        self._done = [*self._done[1 - DEPTH :], Edit(text, undo, redo)]
        self._undone.clear()
        self.changed.emit()

    @property
    def is_moving(self) -> bool:
        """Is something being undone or done again?"""
        return self._busy

    @property
    def undo_text(self) -> str | None:
        """What `undo` would take back; None when there is nothing."""
        return self._done[-1].text if self._done else None

    @property
    def redo_text(self) -> str | None:
        """What `redo` would do again; None when there is nothing."""
        return self._undone[-1].text if self._undone else None

    def undo(self) -> str | None:
        """Take the last edit back; return its text, or None when there is nothing to undo."""
        return self._move(self._done, self._undone, lambda edit: edit.undo())

    def redo(self) -> str | None:
        """Do again what was undone last; return its text, or None when there is nothing to redo."""
        return self._move(self._undone, self._done, lambda edit: edit.redo())

    def clear(self) -> None:
        """Forget everything: other slides are there now."""
        self._done.clear()
        self._undone.clear()
        self.changed.emit()

    def _move(self, source: list[Edit], target: list[Edit], change: Callable[[Edit], object]) -> str | None:
        if not source:
            return None
        edit = source.pop()
        self._busy = True
        try:
            change(edit)
            target.append(edit)
        finally:
            self._busy = False
            self.changed.emit()
        return edit.text
