"""Classes are ordered and class 0 is the negative one: what is *not* a finding."""

from collections.abc import Iterable, Sequence

from .errors import CohortError

NEGATIVE_NAMES = ("0", "neg", "negative", "normal", "benign")
SEPARATOR = ";"  # between several classes present at once: "tumour;stroma"


def split_label(text: str) -> tuple[str, ...]:
    """'a;b' -> ('a', 'b'): the classes named by one cell of a cohort's `label` column."""
    return tuple(part.strip() for part in text.split(SEPARATOR) if part.strip())


def order_classes(labels: Iterable[str], given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Order the class names that occur in `labels`, the negative one first.

    `given` (from `--classes normal,metastasis`) decides where it is set; otherwise the negative class is the one
    whose name is in `NEGATIVE_NAMES` (case ignored) and the rest follow in alphabetical order. Guessing from the
    alphabet alone would report *normal* as the finding, so without either this raises `CohortError`, as it does
    for fewer than two classes and for a label that is not in `given`.
    """
    found = sorted({name for label in labels for name in split_label(label)})
    if given is not None:
        classes = tuple(name.strip() for name in given if name.strip())
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise CohortError(f"--classes needs two or more different names, the negative one first; got {list(given)}")
        if unknown := [name for name in found if name not in classes]:
            raise CohortError(f"unknown label {unknown[0]!r}: the classes are {', '.join(classes)}")
        return classes
    if not found:
        raise CohortError("no slide has a label: fill the 'label' column for at least one slide of each class")
    if len(found) == 1:
        raise CohortError(
            f"every labelled slide is {found[0]!r}: training needs slides of at least two classes, one of them negative"
        )
    negative = [name for name in found if name.lower() in NEGATIVE_NAMES]
    if len(negative) != 1:
        raise CohortError(
            f"which of {', '.join(found)} is the negative class? Name it first, as in --classes {','.join(found)}"
        )
    return (negative[0], *(name for name in found if name != negative[0]))


def class_indices(label: str, classes: Sequence[str]) -> tuple[int, ...]:
    """Indices of the classes a label names, ascending; `CohortError` for a name that is no class, or no name."""
    try:
        if indices := tuple(sorted({classes.index(name) for name in split_label(label)})):
            return indices
        raise ValueError
    except ValueError:
        raise CohortError(f"unknown label {label!r}: the classes are {', '.join(classes)}") from None
