"""What can be done with the classes of a cohort: names, order and colours, every edit of them undoable. No Qt."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ...core.classes import RGB, SEPARATOR, split_label
from ...core.errors import CohortError
from ...store.cohort import Cohort
from ..project.project import Project


class ClassActions:
    """Edits of the classes."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def set_classes(self, names: str | Sequence[str]) -> None:
        """Name the classes, the negative one first: a list, or text with commas."""
        parts = names.split(",") if isinstance(names, str) else names
        classes = tuple(part.strip() for part in parts if part.strip())
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise CohortError("name two or more different classes, the negative one first: normal, tumour")
        for name in classes:
            _check_name(name)
        if classes != self._project.classes:
            self._project.edit(f"classes {', '.join(classes)}", replace(self._project.cohort, classes=classes))

    def add_class(self, name: str) -> None:
        """Add a finding at the end. `CohortError` if there is such a class."""
        name = self._free_name(name)
        self._project.edit(f"add class {name}", replace(self._project.cohort, classes=(*self._project.classes, name)))

    def rename_class(self, name: str, new: str) -> None:
        """Call a class by another name; the slides' labels and its colour follow."""
        self._check_class(name)
        if name == new.strip():
            return
        new = self._free_name(new)
        cohort = self._relabelled(lambda label: new if label == name else label)
        classes = tuple(new if each == name else each for each in self._project.classes)
        colours = {new if each == name else each: rgb for each, rgb in self._project.chosen_colours.items()}
        self._project.edit(f"rename {name} to {new}", replace(cohort, classes=classes), colours)

    def remove_class(self, name: str) -> None:
        """Take a class away; slides lose that label. `CohortError` if fewer than two would be left."""
        self._check_class(name)
        if len(self._project.classes) <= 2:
            raise CohortError("two classes are the fewest: the negative one, and what is looked for")
        kept = {
            each: rgb for each, rgb in zip(self._project.classes, self._project.colours, strict=True) if each != name
        }
        cohort = self._relabelled(lambda label: None if label == name else label)
        # Colours stay with their classes, though the palette would now give others.
        self._project.edit(f"remove class {name}", replace(cohort, classes=tuple(kept)), kept)

    def move_class(self, name: str, place: int) -> None:
        """Put a class at another place; the first is the negative one. Colours stay with their classes."""
        self._check_class(name)
        others = [each for each in self._project.classes if each != name]
        place = min(max(0, place), len(others))
        classes = (*others[:place], name, *others[place:])
        if classes != self._project.classes:
            kept = dict(zip(self._project.classes, self._project.colours, strict=True))
            self._project.edit(f"move class {name}", replace(self._project.cohort, classes=classes), kept)

    def set_colour(self, name: str, colour: RGB) -> None:
        """Show a class in another colour, wherever it is shown. `CohortError` if there is no such class."""
        self._check_class(name)
        red, green, blue = (min(255, max(0, int(part))) for part in colour)
        self._project.edit(f"colour of {name}", colours={**self._project.chosen_colours, name: (red, green, blue)})

    def _relabelled(self, change: Callable[[str], str | None]) -> Cohort:
        """The slides with each class of their labels changed; None takes it off."""

        def label_of(label: str | None) -> str | None:
            names = [changed for name in split_label(label or "") if (changed := change(name))]
            return SEPARATOR.join(dict.fromkeys(names)) or None

        rows = [
            replace(row, label=new) if (new := label_of(row.label)) != row.label else row
            for row in self._project.cohort
        ]
        return self._project.cohort.with_slides(rows)

    def _free_name(self, name: str) -> str:
        name = _check_name(name.strip())
        if name in self._project.classes:
            raise CohortError(f"there is a class {name!r} already: give another name")
        return name

    def _check_class(self, name: str) -> None:
        if name not in self._project.classes:
            raise CohortError(f"there is no class {name!r}: the classes are {', '.join(self._project.classes)}")


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
