"""Cases with one label for all their slides (`bag = case`): their bags in training, and their scores of maps."""

import csv
import io
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.bag import Bag, bag_of_case
from ..core.errors import SettingsError
from ..core.metrics import case_probability
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..store.cohort import Cohort, CohortSlide
from ..store.files.atomic import Writing, atomic_path, write_text
from ..store.maps.patch_map import PatchMap
from ..store.tables.csv_table import escape_formula

CASE_TABLE = "cases.csv"


def bags_of_cases(rows: Sequence[CohortSlide], bags: dict[str, Bag]) -> Generator[Notice, None, list[Bag]]:
    """Return one bag for each case, of the bags by slide id, which are taken out of `bags`.

    A case with a finding is left out with a notice if one of its slides is missing in `bags`: it may be the one that
    the label is of. A negative case has no finding in any slide, so that the others are enough.
    """
    found = []
    for case_id, slides in Cohort(tuple(rows)).by_case.items():
        own = [bags.pop(row.slide_id) for row in slides if row.slide_id in bags]
        if len(own) < len(slides) and own and own[0].label != (0,):
            missing = len(slides) - len(own)
            yield Notice(NoticeCode.CASE_INCOMPLETE, {"case": case_id, "n": missing, "total": len(slides)})
        elif own:
            found.append(bag_of_case(own) if len(own) > 1 else own[0])
    return found


@dataclass(frozen=True)
class CaseScore:
    """What the maps of its slides say of a case.

    `probability` (C,) is None if no map says anything of its slide; `slides` have a map, `missing` have none.
    """

    case_id: str
    probability: list[float] | None
    slides: tuple[str, ...]
    missing: tuple[str, ...] = field(default=())


def score_cases(rows: Sequence[CohortSlide], maps: Mapping[str, PatchMap]) -> list[CaseScore]:
    """Return the score of each case from the maps of its slides, by slide id (`core.metrics.case_probability`)."""
    found = []
    for case_id, slides in Cohort(tuple(rows)).by_case.items():
        there = [maps[row.slide_id] for row in slides if row.slide_id in maps]
        known = [own.bag_probability for own in there if own.bag_probability is not None]
        found.append(
            CaseScore(
                case_id,
                case_probability(known, there[0].multi_label) if known else None,
                tuple(own.slide_id for own in there),
                tuple(row.slide_id for row in slides if row.slide_id not in maps),
            )
        )
    return found


def case_table(folder: PathLike, files: Collection[Path] = ()) -> Path:
    """Return the path of the table of cases. `SettingsError` if it is the name of one of the other `files`."""
    path = Path(folder) / CASE_TABLE
    if path in files:
        raise SettingsError(f"The table of cases and a slide's table would both be {CASE_TABLE}: rename the slide.")
    return path


def write_cases(
    path: str | Path, cases: Sequence[CaseScore], classes: Sequence[str], writing: Writing = atomic_path
) -> Path:
    """Write a CSV with a row per case: its probability of each class, and which slides it rests on."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case_id", *(f"case_prob_{name}" for name in classes), "slides", "slides_failed", "slide_ids"])
    for own in cases:
        numbers = [""] * len(classes) if own.probability is None else [f"{value:.6g}" for value in own.probability]
        ids = escape_formula("; ".join(own.slides))
        table.writerow([escape_formula(own.case_id), *numbers, len(own.slides), len(own.missing), ids])
    return write_text(path, text.getvalue(), writing)
