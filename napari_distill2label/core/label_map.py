"""The meaning of the labels in a ground truth or in corrections: which are classes of the model."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher

from .bag import UNLABELLED
from .errors import CohortError, SettingsError
from .messages import Remedy
from .text import SHOWN, list_briefly, shown

OTHERS = "*"  # in a label map: every other label that is not a class
DERIVED = ":"  # separates the parts of a derived class of QuPath: "Tumor: Positive"
COVERAGE = 0.5  # share of a patch that an area must cover to label it
NEAR = 0.8  # similarity from which one name counts as a misspelling of another


def parse_label_map(texts: Iterable[str]) -> dict[str, str]:
    """`["Tumor=tumour", "artefact="]` -> `{"Tumor": "tumour", "artefact": ""}`. `SettingsError` for anything else."""
    result: dict[str, str] = {}
    for text in texts:
        label, equals, name = (part.strip() for part in text.rpartition("="))
        if not equals or not label:
            raise SettingsError(
                f"{shown(text)!r} does not say which class a label is. Write LABEL=CLASS, or LABEL= to leave it out.",
                remedy=Remedy("set", "inputs.label_map", {"Tumor": "tumour"}),
            )
        result[label] = name
    return result


def class_of_labels(
    labels: Iterable[str], classes: Sequence[str], label_map: Mapping[str, str] | None, source: object
) -> dict[str, int]:
    """The index in `classes` of each label; `UNLABELLED` for those that are no class. See `check_label_map`.

    `label_map` comes first: label -> class, or -> '' to leave the label out; its key `*` stands for every other label
    that is no class. A label derived from another ("Tumor: Positive") is what that one is: of its class, or left out.

    Raises
    ------
    CohortError
        The map names no class of `classes`. Or a label is nearly the name of a class ("Tumor" and "tumour"): that line
        begins with `source`, the file that the labels are from.
    """
    labels = sorted(set(labels))
    given = dict(label_map or {})
    check_mapped_classes(given, classes)
    found = {label: _index(label, classes, given) for label in labels}
    slips = {
        label: name
        for label in labels
        if found[label] == UNLABELLED
        and not {*_bases(label), OTHERS} & given.keys()
        and (name := _near(label, classes))
    }
    if slips:
        names = list_briefly(map(repr, slips))
        label, nearly = ("label", "is nearly a class") if len(slips) == 1 else ("labels", "are nearly classes")
        some = dict([*slips.items()][:SHOWN])
        raise CohortError(
            f"unknown {label} {names}, which {nearly} of the model ({', '.join(classes)}). Say what is meant.",
            file=source,
            remedy=Remedy(
                "set", "inputs.label_map", some, Remedy("clear", "inputs.label_map", dict.fromkeys(some, ""))
            ),
        )
    return found


def check_label_map(given: Mapping[str, str], labels: Iterable[str], classes: Sequence[str], source: object) -> None:
    """`CohortError` if a label map names a class that the model has not, or a label that the file has not."""
    check_mapped_classes(given, classes)
    labels = sorted(set(labels))
    there = {OTHERS, *(base for label in labels for base in _bases(label))}
    for label, name in given.items():
        if label not in there:
            raise CohortError(
                f"There is no label {label!r} to map to {name!r}. The labels are {list_briefly(labels)}.",
                file=source,
                field="inputs.label_map",
            )


def is_left_out(label: str, label_map: Mapping[str, str]) -> bool:
    """Does a label map say that a label that is no class, or what it is derived from, is to be left out?"""
    said = next((base for base in (*_bases(label), OTHERS) if base in label_map), None)
    return said is not None and not label_map[said]


def check_mapped_classes(given: Mapping[str, str], classes: Sequence[str]) -> None:
    """`CohortError` if a label map names a class that the model has not."""
    for label, name in given.items():
        if name and name not in classes:
            raise CohortError(
                f"The label {label!r} is mapped to {name!r}, which is no class of the model. They are "
                f"{', '.join(classes)}.",
                field="inputs.label_map",
            )


def _index(label: str, classes: Sequence[str], given: Mapping[str, str]) -> int:
    for base in _bases(label):
        if base in given:
            return classes.index(given[base]) if given[base] else UNLABELLED
        if base in classes:
            return classes.index(base)
    if label and given.get(OTHERS):
        return classes.index(given[OTHERS])
    return UNLABELLED


def _bases(label: str) -> list[str]:
    """A label and what it is derived from: 'Tumor: Positive: 2+' -> itself, 'Tumor: Positive', 'Tumor'."""
    parts = label.split(DERIVED)
    return [label, *(DERIVED.join(parts[:end]).strip() for end in range(len(parts) - 1, 0, -1))]


def _near(label: str, classes: Sequence[str]) -> str | None:
    """Return the class with a name similar to a label, or None. 'grade 1' is not similar to 'grade 2'."""
    text = _plain(label)
    best, likeness = None, NEAR
    for name in classes:
        other = _plain(name)
        if re.findall(r"\d+", text) == re.findall(r"\d+", other):
            ratio = 1.0 if text == other else SequenceMatcher(None, text, other).ratio()
            if text and ratio >= likeness:
                best, likeness = name, ratio
    return best


def _plain(text: str) -> str:
    """Return a name without case, accents, spaces and hyphens; for a derived class its base."""
    text = unicodedata.normalize("NFKD", text.partition(DERIVED)[0]).casefold()
    return "".join(letter for letter in text if letter.isalnum())
