"""The classes of a cohort: names, order and colours, every edit of them undoable. No viewer, no Qt."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from psygnal import Signal

from ...core.classes import RGB, SEPARATOR, colours_of, split_label
from ...core.errors import CohortError
from ...store.cohort import Cohort
from ..wording import in_the_window
from .history import UndoStack

CLASSES = ("normal", "tumour")  # until the user or a table says otherwise


@dataclass(frozen=True)
class Listed:
    """All that undo and redo move between: frozen values, so that a step costs two references."""

    cohort: Cohort
    colours: dict[str, RGB] = field(default_factory=dict)


class ClassList:
    """Slides and classes as one value, replaced by each edit.

    Attributes
    ----------
    cohort
        The slides and the classes, negative first. A frozen value: use the methods to change it.
    notices
        All that the user was told, oldest first.
    undo_stack
        Edits of slides, labels, classes, colours and µm/px, to be taken back and done again.
    """

    slides_changed = Signal()
    colours_changed = Signal()
    message = Signal(str)  # something the user should know

    def __init__(self) -> None:
        self.cohort = Cohort((), CLASSES)
        self.notices: list[str] = []
        self.undo_stack = UndoStack()
        self._colours: dict[str, RGB] = {}

    # ---- undo -----------------------------------------------------------------------------------------------------

    def undo(self) -> str | None:
        """Take the last edit back; return what it was."""
        return self.undo_stack.undo()

    def redo(self) -> str | None:
        """Do again what was undone last; return what it was."""
        return self.undo_stack.redo()

    def _edit(self, text: str, cohort: Cohort | None = None, colours: dict[str, RGB] | None = None) -> None:
        """Change slides, classes or colours, and remember how to take it back."""
        before = Listed(self.cohort, self._colours)
        after = Listed(before.cohort if cohort is None else cohort, before.colours if colours is None else colours)
        if after == before:
            return
        self._put(after)
        self.undo_stack.did(text, self._putting(after, before), self._putting(before, after))

    def _putting(self, now: Listed, then: Listed) -> Callable[[], None]:
        def put() -> None:
            self._put(then)
            self._followed(now.cohort, then.cohort)

        return put

    def _followed(self, before: Cohort, after: Cohort) -> None:
        """Undo or redo has put `after` in place of `before`. For whoever shows them."""

    def _put(self, listed: Listed) -> None:
        shades, cohort = self.colours, self.cohort
        self.cohort, self._colours = listed.cohort, listed.colours
        if cohort is not self.cohort:
            self.slides_changed.emit()
        if shades != self.colours:
            self.colours_changed.emit()

    # ---- classes --------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the negative one first."""
        return self.cohort.classes

    @classes.setter
    def classes(self, names: str | Sequence[str]) -> None:
        parts = names.split(",") if isinstance(names, str) else names
        classes = tuple(part.strip() for part in parts if part.strip())
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise CohortError("name two or more different classes, the negative one first: normal, tumour")
        for name in classes:
            _check_name(name)
        if classes != self.classes:
            self._edit(f"classes {', '.join(classes)}", replace(self.cohort, classes=classes))

    def add_class(self, name: str) -> None:
        """Add a finding at the end. `CohortError` if there is such a class."""
        name = self._free_name(name)
        self._edit(f"add class {name}", replace(self.cohort, classes=(*self.classes, name)))

    def rename_class(self, name: str, new: str) -> None:
        """Call a class by another name; the slides' labels and its colour follow."""
        self._check_class(name)
        if name == new.strip():
            return
        new = self._free_name(new)
        cohort = self._relabelled(lambda label: new if label == name else label)
        classes = tuple(new if each == name else each for each in self.classes)
        colours = {new if each == name else each: rgb for each, rgb in self._colours.items()}
        self._edit(f"rename {name} to {new}", replace(cohort, classes=classes), colours)

    def remove_class(self, name: str) -> None:
        """Take a class away; slides lose that label. `CohortError` if fewer than two would be left."""
        self._check_class(name)
        if len(self.classes) <= 2:
            raise CohortError("two classes are the fewest: the negative one, and what is looked for")
        kept = {each: rgb for each, rgb in zip(self.classes, self.colours, strict=True) if each != name}
        cohort = self._relabelled(lambda label: None if label == name else label)
        # Colours stay with their classes, though the palette would now give others.
        self._edit(f"remove class {name}", replace(cohort, classes=tuple(kept)), kept)

    def move_class(self, name: str, place: int) -> None:
        """Put a class at another place; the first is the negative one. Colours stay with their classes."""
        self._check_class(name)
        others = [each for each in self.classes if each != name]
        place = min(max(0, place), len(others))
        classes = (*others[:place], name, *others[place:])
        if classes != self.classes:
            kept = dict(zip(self.classes, self.colours, strict=True))
            self._edit(f"move class {name}", replace(self.cohort, classes=classes), kept)

    @property
    def colours(self) -> tuple[RGB, ...]:
        """8-bit (r, g, b) of each class, as chosen, else the palette's."""
        return colours_of(self.classes, self._colours)

    def set_colour(self, name: str, colour: RGB) -> None:
        """Show a class in another colour, wherever it is shown. `CohortError` if there is no such class."""
        self._check_class(name)
        red, green, blue = (min(255, max(0, int(part))) for part in colour)
        self._edit(f"colour of {name}", colours={**self._colours, name: (red, green, blue)})

    def _relabelled(self, change: Callable[[str], str | None]) -> Cohort:
        """The slides with each class of their labels changed; None takes it off."""

        def label_of(label: str | None) -> str | None:
            names = [changed for name in split_label(label or "") if (changed := change(name))]
            return SEPARATOR.join(dict.fromkeys(names)) or None

        rows = [replace(row, label=new) if (new := label_of(row.label)) != row.label else row for row in self.cohort]
        return self.cohort.with_slides(rows)

    def _free_name(self, name: str) -> str:
        name = _check_name(name.strip())
        if name in self.classes:
            raise CohortError(f"there is a class {name!r} already: give another name")
        return name

    def _check_class(self, name: str) -> None:
        if name not in self.classes:
            raise CohortError(f"there is no class {name!r}: the classes are {', '.join(self.classes)}")

    def _tell(self, text: str) -> None:
        text = in_the_window(text)
        self.notices.append(text)
        self.message.emit(text)


def _check_name(name: str) -> str:
    if not name:
        raise CohortError("a class needs a name")
    if any(mark in name for mark in (SEPARATOR, ",", "\n")):
        raise CohortError(f"{name!r}: a class's name holds no comma and no semicolon: these stand between names")
    return name


def counted(labels: Iterable[str | None]) -> dict[str | None, int]:
    """How many slides have each class (None: no label). A slide with several counts for each."""
    counts: dict[str | None, int] = {}
    for label, count in Counter(labels).items():  # a cohort has many slides and few labels
        for name in split_label(label or "") or (None,):
            counts[name] = counts.get(name, 0) + count
    return counts
