"""Classes: their names, their order and their colours. Class 0 is the negative one: what is *not* a finding.

Each class has one colour, the same in napari, in QuPath and in pictures. The negative class recedes in a grey-green;
positive classes take the colour-blind-safe hues of Okabe & Ito (2008), ordered by how well they stand out on the pinks
and purples of H&E.
"""

import colorsys
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from .errors import CohortError
from .messages import Remedy
from .text import quoted, shown

NEGATIVE_NAMES = ("0", "neg", "negative", "normal", "benign")
SEPARATOR = ";"  # between several classes present at once: "tumour;stroma"
MAX_CLASSES = 128  # labels of patches are one byte (0: not scored), corrections a signed one (−1: unknown)
NO_VALUE = frozenset(
    {"", "na", "n/a", "#n/a", "n.a.", "n.a", "<na>", "#na", "nan", "none", "null", "nil", "nd", "n/d", "-", "--", "---"}
    | {"–", "—", ".", "?", "??", "???", "unknown", "missing", "not available", "not applicable", "tbd"}
    | {"#null!", "#value!", "#ref!", "#name?", "#num!", "#div/0!"}
)  # texts of empty cells, from people and programs
_LONGEST_NO_VALUE = 40  # with spaces
_NUMBER = re.compile(r"[+-]?\d{1,30}(?:[.,]\d{1,30})?")


def split_label(label: str | None) -> tuple[str, ...]:
    """Return the classes of one cell of a cohort's `label` column: 'a;b' -> ('a', 'b'), () where there is no label."""
    return tuple(part.strip() for part in (label or "").split(SEPARATOR) if part.strip())


def is_no_value(text: str) -> bool:
    """Whether a cell has no value: empty, spaces, `NA`, `nan`, `None`, `-`, `?`, `unknown`… in any case."""
    if len(text) > _LONGEST_NO_VALUE:
        return False
    return (" ".join(text.lower().split()) if text.isascii() else spelling_key(text)) in NO_VALUE


@lru_cache(maxsize=4096)
def spelling_key(name: str) -> str:
    """Return a key that is equal for spellings of one name: `Tumor` and `tumor`, `0` and `0.0`, forms of an umlaut.

    Case, the form of Unicode, spaces, invisible characters and the notation of a number do not distinguish classes.
    """
    if name.isascii():
        key = name.lower()
    else:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        key = "".join(character for character in key if unicodedata.category(character) != "Cf")
    key = " ".join(key.split())
    if _NUMBER.fullmatch(key):
        number = Decimal(key.replace(",", ".")).normalize()
        key = format(number if number else Decimal(0), "f")
    return key


def common_spelling(names: Iterable[str] | Counter[str]) -> dict[str, str]:
    """Return the most common spelling of its class (the first of equals) for every spelling that occurs."""
    counts = Counter(names)
    chosen: dict[str, str] = {}
    for name, _ in counts.most_common():  # equals are in the order of their first occurrence
        chosen.setdefault(spelling_key(name), name)
    return {name: chosen[spelling_key(name)] for name in counts}


def respelled(label: str, spelling: Mapping[str, str]) -> str:
    """Return a label ('a;b') with the spelling of `spelling`; the label itself if nothing changes."""
    names = split_label(label)
    new = tuple(dict.fromkeys(spelling.get(name, name) for name in names))
    return label if new == names else SEPARATOR.join(new)


def near_spellings(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return pairs of classes whose names may be two spellings of one (tumor, tumour).

    They differ by one letter (added, left out or replaced) in a word of five or more, or by spaces and dashes.
    """
    keys = [spelling_key(name) for name in names]
    return tuple(
        (names[i], names[j]) for i in range(len(keys)) for j in range(i + 1, len(keys)) if _is_near(keys[i], keys[j])
    )


def _is_near(one: str, other: str) -> bool:
    one, other = (re.sub(r"[\s_\-./]+", "", key) for key in sorted((one, other), key=len))
    if one == other:
        return True
    if len(one) < 5 or len(other) - len(one) > 1:
        return False
    same = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))
    rest = other[same + 1 :]
    different = (other[same : same + 1], one[same : same + 1])
    if any(character.isdigit() for character in "".join(different)):  # grade1 and grade2 are two classes
        return False
    return rest in (one[same:], one[same + 1 :])


def order_classes(labels: Iterable[str], given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Order the class names that occur in `labels`, the negative one first.

    `given` is the order if it is set. Otherwise the negative class is the one whose name is in `NEGATIVE_NAMES` (case
    ignored), and the others follow in alphabetical order. The alphabet alone could make *normal* the finding, so this
    raises `CohortError` if there is neither. It also does for fewer than two classes or more than `MAX_CLASSES`, for a
    label that is not in `given`, and for a label with the negative class and another one. Spellings of one name
    (`spelling_key`) are one class with the name in `given`, or else the most common spelling.
    """
    labels = list(labels)
    spelling = common_spelling(name for label in labels for name in split_label(label))
    found = sorted(set(spelling.values()))
    classes = _ordered(found) if given is None else _as_given(found, given)
    if len(classes) > MAX_CLASSES:
        raise CohortError(
            f"{len(classes)} classes are more than the {MAX_CLASSES} that a model can have: "
            "is the column 'label' one of diagnoses?"
        )
    for label in dict.fromkeys(labels):
        class_indices(label, classes)
    return classes


def _ordered(found: Sequence[str]) -> tuple[str, ...]:
    if not found:
        raise CohortError("no slide has a label: fill the 'label' column for at least one slide of each class")
    if len(found) == 1:
        raise CohortError(
            f"every labelled slide is {quoted(found[0])}: training needs slides of at least two classes, "
            "one of them negative"
        )
    if len(found) > MAX_CLASSES:  # the caller refuses them; no sentence lists them all
        return tuple(found)
    negative = [name for name in found if spelling_key(name) in NEGATIVE_NAMES]
    if len(negative) != 1:
        raise CohortError(
            f"Which of {_listed(found)} is the negative class? Name it first.",
            remedy=Remedy("set", "classes", tuple(map(shown, found))),
        )
    return (negative[0], *(name for name in found if name != negative[0]))


def _as_given(found: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    classes = tuple(name.strip() for name in given if name.strip())
    if len({spelling_key(name) for name in classes}) != len(classes) or len(classes) < 2:
        raise CohortError(
            f"Two or more different names of classes are needed, the negative one first. "
            f"Given: {_listed(given) or 'none'}.",
            field="classes",
        )
    if nothing := [name for name in classes if is_no_value(name)]:
        raise CohortError(f"{nothing[0]!r} means 'no label' in a table of slides: give that class another name")
    known = {spelling_key(name) for name in classes}
    if unknown := [name for name in found if spelling_key(name) not in known]:
        raise CohortError(f"unknown label {quoted(unknown[0])}: the classes are {_listed(classes)}")
    return classes


def class_indices(label: str, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of the classes in a label, ascending.

    `CohortError` for a name that is not a class, for no name, and for the negative class beside another one.
    """
    known = {spelling_key(name): index for index, name in enumerate(classes)}
    try:
        indices = tuple(sorted({known[spelling_key(name)] for name in split_label(label)}))
    except KeyError:
        indices = ()
    if not indices:
        raise CohortError(f"unknown label {quoted(label)}: the classes are {_listed(classes)}")
    if indices[0] == 0 and len(indices) > 1:
        raise CohortError(
            f"label {quoted(label)}: {quoted(classes[0])} is the negative class, which means that there is no other; "
            "write one or the other"
        )
    return indices


def _listed(names: Iterable[str]) -> str:
    return ", ".join(shown(name, 40) for name in names)


RGB = tuple[int, int, int]

NEGATIVE: RGB = (128, 154, 136)
POSITIVE: tuple[RGB, ...] = (
    (213, 94, 0),  # vermillion
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
    (0, 158, 115),  # bluish green
    (86, 180, 233),  # sky blue
    (230, 159, 0),  # orange
    (204, 121, 167),  # reddish purple
)
GOLDEN_RATIO = 0.618033988749895  # steps of this size spread any number of hues evenly


def palette(n_classes: int) -> tuple[RGB, ...]:
    """Return 8-bit (r, g, b) of `n_classes` classes, the negative one first; distinct for dozens of classes."""
    positive = list(POSITIVE[: max(0, n_classes - 1)])
    for extra in range(n_classes - 1 - len(positive)):
        red, green, blue = colorsys.hsv_to_rgb((0.97 + extra * GOLDEN_RATIO) % 1, 0.75, 0.7)
        positive.append((round(255 * red), round(255 * green), round(255 * blue)))
    return (NEGATIVE, *positive)[:n_classes]


def colours_of(classes: Sequence[str], chosen: Mapping[str, RGB] | None = None) -> tuple[RGB, ...]:
    """Return the colour of each class: the one that the user chose for its name, else the palette's."""
    return tuple((chosen or {}).get(name, rgb) for name, rgb in zip(classes, palette(len(classes)), strict=True))
