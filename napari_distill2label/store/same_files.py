"""Slides that are one file or one picture under several ids: their patches would be used for training and testing."""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..core.errors import CohortError
from ..core.notices import Notice, NoticeCode
from ..core.paths import is_url
from ..core.text import quoted, shown
from .cohort import Cohort, CohortSlide

ENDS = 1 << 16  # bytes at the beginning and the end of a file that are compared first
WHOLE = 1 << 26  # up to so many bytes files are compared whole, larger ones in `PLACES`
PLACES = 64


def same_files(slides: Iterable[CohortSlide]) -> list[tuple[CohortSlide, ...]]:
    """Groups of two or more slides that are one file: the same place, links to one, or copies.

    Only files of equal size are opened. Up to `WHOLE` bytes they are compared whole, larger ones at both ends and
    at `PLACES` places between. Folders and URLs are the same where their place is. What cannot be read is like nothing.
    """
    groups: dict[Hashable, list[CohortSlide]] = defaultdict(list)
    for slide in slides:
        groups[_place(slide.path)].append(slide)
    places = list(groups.values())
    sizes: dict[int, list[list[CohortSlide]]] = defaultdict(list)
    for group in places:
        if size := _size(group[0].path):
            sizes[size].append(group)
    copies = [group for size, there in sizes.items() if len(there) > 1 for group in _equal_files(there, size)]
    merged = {id(group) for copy in copies for group in copy}
    found = [tuple(slide for group in copy for slide in group) for copy in copies]
    return [*found, *(tuple(group) for group in places if len(group) > 1 and id(group) not in merged)]


def with_files_in_one_case(cohort: Cohort) -> Cohort:
    """The cohort with slides that are one file (`same_files`) in one case, so that no split divides them.

    A notice says which. `CohortError` where the table has them in different splits.
    """
    return _in_one_case(cohort, same_files(cohort.labelled), _FILES)


def with_pictures_in_one_case(cohort: Cohort, groups: Sequence[tuple[CohortSlide, ...]]) -> Cohort:
    """The same for groups of slides that show the same picture."""
    return _in_one_case(cohort, groups, _PICTURES)


@dataclass(frozen=True)
class _Alike:
    """What slides have in common, in notices and in the error about the first of them."""

    codes: tuple[NoticeCode, NoticeCode]  # that there are some; that they have two labels
    are: Callable[[CohortSlide], str]


_FILES = _Alike(
    (NoticeCode.SAME_FILES, NoticeCode.SAME_FILE_TWO_LABELS), lambda one: f"are the same file, {shown(one.path, 300)}"
)
_PICTURES = _Alike(
    (NoticeCode.SAME_PICTURES, NoticeCode.SAME_PICTURE_TWO_LABELS),
    lambda one: "show the same picture, perhaps turned, mirrored or saved again",
)


def _in_one_case(cohort: Cohort, groups: Sequence[tuple[CohortSlide, ...]], alike: _Alike) -> Cohort:
    if not groups:
        return cohort
    case_of = {slide.case_id: slide.case_id for slide in cohort}
    for group in groups:
        splits = {slide.split: slide for slide in group if slide.split}
        if len(splits) > 1:
            one, other = list(splits.values())[:2]
            raise CohortError(
                f"slides {quoted(one.slide_id)} ({one.split}) and {quoted(other.slide_id)} ({other.split}) "
                f"{alike.are(one)}: delete one row, or put both in one split"
            )
        first = _representative(case_of, group[0].case_id)
        for slide in group:
            case_of[_representative(case_of, slide.case_id)] = first
    joined = cohort.with_slides(replace(slide, case_id=_representative(case_of, slide.case_id)) for slide in cohort)
    return replace(joined, notices=(*cohort.notices, *_notices(groups, alike)))


def _representative(case_of: dict[str, str], case: str) -> str:
    while case_of[case] != case:
        case = case_of[case]
    return case


def _notices(groups: Sequence[tuple[CohortSlide, ...]], alike: _Alike) -> Iterable[Notice]:
    yield Notice(alike.codes[0], {"groups": [[slide.slide_id for slide in group] for group in groups]})
    differing = [group for group in groups if len({slide.label for slide in group}) > 1]
    if differing:
        one, other = _two_with_other_labels(differing[0])
        values = {
            "n": len(differing), "one": one.slide_id, "one_label": one.label, "other": other.slide_id,
            "other_label": other.label,
        }  # fmt: skip
        yield Notice(alike.codes[1], values)


def _two_with_other_labels(group: Sequence[CohortSlide]) -> tuple[CohortSlide, CohortSlide]:
    return group[0], next(slide for slide in group if slide.label != group[0].label)


# ---- what is one file ----------------------------------------------------------------------------------------------


def _place(path: Path | str) -> Hashable:
    """Return a key that is equal for two names of one file."""
    if is_url(path):
        return path
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return os.path.normcase(path)
    number = (status.st_dev, status.st_ino)
    return number if all(number) else os.path.normcase(os.path.realpath(path))  # some file systems number nothing


def _size(path: Path | str) -> int:
    """Return the size of a file in bytes; 0 if it is no file."""
    if is_url(path):
        return 0
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _equal_files(groups: Sequence[list[CohortSlide]], size: int) -> list[list[list[CohortSlide]]]:
    """Group files of equal content: compare their ends first, and the rest where these are equal."""
    alike = [list(groups)]
    for digest in (_digest_of_ends, _digest_of_all):
        alike = [part for some in alike for part in _group_by_digest(some, partial(digest, size=size)) if len(part) > 1]
    return alike


def _group_by_digest(
    groups: Sequence[list[CohortSlide]], digest: Callable[[Path | str], bytes]
) -> Iterable[list[list[CohortSlide]]]:
    parts: dict[bytes, list[list[CohortSlide]]] = defaultdict(list)
    for group in groups:
        try:
            parts[digest(group[0].path)].append(group)
        except OSError:
            continue
    return parts.values()


def _digest_of_ends(path: Path | str, size: int) -> bytes:
    return _digest(path, {0, max(0, size - ENDS)})


def _digest_of_all(path: Path | str, size: int) -> bytes:
    if size <= WHOLE:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    return _digest(path, {place * (size - ENDS) // (PLACES - 1) for place in range(PLACES)})


def _digest(path: Path | str, places: Iterable[int]) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for place in sorted(places):
            file.seek(place)
            digest.update(file.read(ENDS))
    return digest.digest()
