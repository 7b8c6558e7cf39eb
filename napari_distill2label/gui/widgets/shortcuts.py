"""Every keyboard shortcut of the window, in one table: it is bound from here, and shown by the "?" from here.

They are Qt shortcuts of the dock widget, which work while it is open; napari's own keymaps are left alone. None is one
of napari's (a test compares them), nor a plain letter or digit, which napari's layers use; but plain digits label while
the table of slides has the keyboard, and Ctrl+S, which is a key of napari's menu, saves the table of slides while the
panel has it. On the canvas both keep what napari does with them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from ...core.errors import Distill2LabelError, SettingsError
from ..messages import message_of
from ..plain_text import DECIMALS
from ..session import Session

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

WINDOW, PANEL, TABLE = "anywhere in the window", "in the panel", "in the table of slides"
# Bound to the panel here, and to our layers in `canvas.canvas_input`: napari uses these keys in layers of labels.
PANEL_AND_CANVAS = "in the panel, and on the canvas while a layer of the slide is selected"
STEP = 0.01  # of the threshold, per key press
DIGITS = tuple(range(1, 10))


@dataclass(frozen=True)
class Shortcut:
    """One row of the table.

    Attributes
    ----------
    keys
        As Qt spells them ("Alt+1"); several of one row call the same action with `arguments`, one each.
    scope
        Where it works: `WINDOW`, `PANEL`, `TABLE` or `PANEL_AND_CANVAS`.
    action
        A method of `Actions`, or one reached from its `session` and panels by attribute path.
    """

    keys: tuple[str, ...]
    description: str
    scope: str
    group: str
    action: str
    arguments: tuple[Any, ...] = ()
    is_of_menu: bool = False  # a key of napari's menu too: in the panel it is taken before that sees it

    @property
    def calls(self) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """Each key with what the action is called with."""
        return tuple((key, self.arguments[index : index + 1]) for index, key in enumerate(self.keys))


SHORTCUTS = (
    Shortcut(("Alt+Right",), "Show the next slide of the list", WINDOW, "Slides", "show_by", (1,)),
    Shortcut(("Alt+Left",), "Show the previous slide of the list", WINDOW, "Slides", "show_by", (-1,)),
    Shortcut(
        tuple(f"Alt+{digit}" for digit in DIGITS),
        "Label the selected slides with class 1 … 9",
        WINDOW, "Slides", "label", DIGITS,
    ),
    Shortcut(("Alt+0",), "Take the label off the selected slides", WINDOW, "Slides", "label", (0,)),
    Shortcut(
        tuple(f"{digit}" for digit in DIGITS),
        "Label the selected slides with class 1 … 9",
        TABLE, "Slides", "label", DIGITS,
    ),
    Shortcut(("0",), "Take the label off the selected slides", TABLE, "Slides", "label", (0,)),
    Shortcut(("Backspace",), "Take the label off the selected slides", TABLE, "Slides", "label", (0,)),
    Shortcut(("Del",), "Take the selected slides off the list", TABLE, "Slides", "slides.label_bar.remove_slides"),
    Shortcut(
        ("Ctrl+S",), "Save the table of slides and labels", PANEL, "Slides", "slides.save_cohort", is_of_menu=True
    ),
    Shortcut(
        ("Ctrl+Z",), "Undo the last change of labels, corrections, classes or scale",
        PANEL_AND_CANVAS, "Slides", "session.undo",
    ),
    Shortcut(("Ctrl+Shift+Z",), "Do again what was undone", PANEL_AND_CANVAS, "Slides", "session.redo"),
    Shortcut(("Alt+PgUp",), "Raise the threshold by 0.01", WINDOW, "Prediction", "threshold_by", (STEP,)),
    Shortcut(("Alt+PgDown",), "Lower the threshold by 0.01", WINDOW, "Prediction", "threshold_by", (-STEP,)),
    Shortcut(
        ("Alt+B",), "Hide the prediction, show it again (blink)", WINDOW, "Prediction",
        "session.display.toggle_overlays",
    ),
    Shortcut(("Alt+N",), "Go to the next uncertain patch", WINDOW, "Corrections", "session.next_uncertain"),
    Shortcut(
        tuple(f"Ctrl+{digit}" for digit in DIGITS),
        "Correct the patch under the pointer, else the framed one, to class 1 … 9, and go on to the next uncertain one",
        WINDOW, "Corrections", "correct", DIGITS,
    ),
    Shortcut(("Ctrl+D",), "Drop the correction of that patch", WINDOW, "Corrections", "correct", (0,)),
    Shortcut(("F1",), "Show these shortcuts", WINDOW, "Help", "help"),
)  # fmt: skip


class Actions:
    """What the shortcuts do. `panels` are by name: slides, train, predict, review, export."""

    def __init__(self, session: Session, panels: dict[str, Any], show_help: Callable[[], object]) -> None:
        self.session, self.help = session, show_help
        self._panels = panels

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_panels"][name]
        except KeyError:
            raise AttributeError(name) from None

    def label(self, number: int) -> None:
        """Label the selected slides, those of the highlighted rows, with class `number`; 0 takes the label off."""
        if not self.session.selected:
            raise SettingsError("select slides in the table first")
        several = self.session.settings.architecture.multi_label
        self.session.slide_actions.give_label(self.session.selected, self._class(number), several)

    def correct(self, number: int) -> None:
        """Give the patch under the pointer, else the framed one, class `number`, and go on; 0 drops its correction.

        The framed patch of a random sample gets a label of the sample instead.
        """
        if number and self.session.sample_actions.is_sampling():
            self.session.sample_actions.label_with(number)
            return
        if not self.session.answer(self._class(number)):
            raise SettingsError("No patch chosen: press Alt+N or point at one.")

    def show_by(self, steps: int) -> None:
        """Show the slide so many rows further down, as the table has them."""
        if not len(self.session.cohort):
            raise SettingsError("there are no slides yet: add some first")
        table = resolve(self, "slides.table")
        self.session.show_by(steps, *((table.visible_ids(), table.source.all_ids) if table else ()))

    def threshold_by(self, change: float) -> None:
        self.session.set_threshold(round(min(1.0, max(0.0, self.session.threshold + change)), DECIMALS))

    def _class(self, number: int) -> str | None:
        classes = self.session.classes
        if number > len(classes):
            raise SettingsError(f"there is no class {number}: the classes are {', '.join(classes)}")
        return classes[number - 1] if number else None


def resolve(actions: Actions, path: str) -> Any:
    """The method or part at an attribute path; None where there is none (yet)."""
    try:
        return reduce(getattr, path.split("."), actions)
    except AttributeError:
        return None


def bind(widget: "QWidget", actions: Actions, report: Callable[[str], object]) -> list[Any]:
    """Bind the table to a widget; errors meant for people go to `report`. Returns the `QShortcut`s."""
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QKeySequence, QShortcut

    contexts = {
        WINDOW: Qt.ShortcutContext.WindowShortcut,
        PANEL: Qt.ShortcutContext.WidgetWithChildrenShortcut,
        PANEL_AND_CANVAS: Qt.ShortcutContext.WidgetWithChildrenShortcut,
        TABLE: Qt.ShortcutContext.WidgetShortcut,  # not while a cell is edited
    }
    table, taken, bound = resolve(actions, "slides.table"), {}, []
    for row in SHORTCUTS:
        for key, arguments in row.calls:
            slot = _slot(actions, row, arguments, report)
            if row.is_of_menu:
                taken[key] = slot
                continue
            if row.scope == TABLE and table is None:
                continue
            made = QShortcut(QKeySequence(key), table if row.scope == TABLE else widget)
            made.setContext(contexts[row.scope])
            made.activated.connect(slot)
            made.activatedAmbiguously.connect(slot)  # two widgets on one viewer: Qt asks each in turn
            bound.append(made)
    return [*bound, _take_keys(widget, taken)]


def _take_keys(widget: "QWidget", slots: dict[str, Callable[[], None]]) -> Any:
    """Let a widget and what is inside it take keys before napari's menu does: two shortcuts of one key would be none.

    Qt asks first whether the widget with the keyboard, or one around it, wants a key for itself; if so it is no
    shortcut any more but a key that is pressed.
    """
    from qtpy.QtCore import QEvent, QObject
    from qtpy.QtGui import QKeyEvent, QKeySequence

    class Taker(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if not isinstance(event, QKeyEvent) or event.type() == QEvent.Type.KeyRelease:
                return False
            slot = by_key.get(QKeySequence(event.keyCombination()).toString())
            if slot is None:
                return False
            event.accept()
            if event.type() == QEvent.Type.KeyPress and not event.isAutoRepeat():
                slot()
            return True

    by_key = {QKeySequence(key).toString(): slot for key, slot in slots.items()}
    taker = Taker(widget)
    widget.installEventFilter(taker)
    return taker


def _slot(
    actions: Actions, row: Shortcut, arguments: tuple[Any, ...], report: Callable[[str], object]
) -> Callable[[], None]:
    def slot() -> None:
        action = resolve(actions, row.action)
        if action is None:
            report(f"{row.description}: not available here")
            return
        try:
            action(*arguments)
        except (Distill2LabelError, OSError) as error:
            report(message_of(error))

    return slot
