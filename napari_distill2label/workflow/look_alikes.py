"""Slides that show the same picture, looked for before a training: copies that are not the same file."""

from collections import defaultdict
from collections.abc import Generator, Sequence

from ..core.events import Progress, Task
from ..core.paths import is_url
from ..slides.likeness import GreyPicture, grey_picture, same_pictures
from ..slides.preview import read_preview
from ..slides.threads import for_each, usable_cpus
from ..store.cohort import CohortSlide
from ..store.same_files import same_files


def look_alikes(rows: Sequence[CohortSlide]) -> Generator[Progress, None, list[tuple[CohortSlide, ...]]]:
    """Return groups of two or more slides that show the same, also turned, mirrored, smaller or saved again.

    A slide is judged by its smallest level. One that cannot be read, lies on a server or is very large without small
    levels is like nothing. Of slides that are one file, the first alone is looked at.
    """
    again = {slide.slide_id for group in same_files(rows) for slide in group[1:]}
    rows = [row for row in rows if row.slide_id not in again and not is_url(row.path)]
    pictures: dict[int, GreyPicture] = {}

    def look(number: int) -> None:
        if found := grey_picture(read_preview(rows[number].path)):
            pictures[number] = found

    at_once = usable_cpus()
    for start in range(0, len(rows), at_once):
        yield Progress(Task.COMPARE_SLIDES, start, len(rows))
        for_each(look, range(start, min(start + at_once, len(rows))))
    numbers = sorted(pictures)
    comparing = same_pictures([pictures[number] for number in numbers])
    while True:
        try:
            next(comparing)
        except StopIteration as stop:
            pairs: list[tuple[int, int]] = stop.value
            break
        yield Progress(Task.COMPARE_SLIDES, len(rows), len(rows))
    return [tuple(rows[numbers[each]] for each in group) for group in _groups(pairs)]


def _groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Join pairs that share a number."""
    first: dict[int, int] = {}
    for one, other in pairs:  # in order
        low, high = sorted((first.setdefault(one, one), first.setdefault(other, other)))
        first = {number: low if group == high else group for number, group in first.items()}
    groups = defaultdict(list)
    for number in sorted(first):
        groups[first[number]].append(number)
    return list(groups.values())
