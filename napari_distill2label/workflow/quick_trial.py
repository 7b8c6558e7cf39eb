"""A quick trial: a small training on a few slides, to see the whole way before a long one.

Its run predicts, is listed and can be loaded like any other; `RunConfig.quick_trial` says what it is.
"""

from itertools import chain, zip_longest
from typing import Any, Literal

from ..core.settings import Settings, merged, validated
from ..store.cohort import Cohort, CohortSlide

MOST_SLIDES = 16
# Under a minute for a few dozen crops on two cores.
EPOCHS = {"teacher": 4, "oof": 2, "student": 4}
MOST_PATCHES = 200  # of a bag in an epoch
LEARNING_RATE = 5e-4  # at least: so few steps must be larger


def trial_settings(settings: Settings) -> Settings:
    """The same method with few epochs, few patches per bag, and no slide held out for a test.

    The student sees patches as they lie: the answers for all eight orientations, which it learns otherwise, take longer
    than its own training here.
    """
    changes: dict[str, Any] = {"split": {"test": 0.0}, "teacher": {"n_subsets": 1}, "student": {"rotate_flip": False}}
    for part, most in EPOCHS.items():
        own = getattr(settings, part)
        few = {
            "epochs": min(most, own.epochs),
            "max_patches_per_bag": min(MOST_PATCHES, own.max_patches_per_bag),
            "learning_rate": max(LEARNING_RATE, own.learning_rate),
        }
        changes = merged(changes, {part: few})
    return validated(Settings, merged(settings.model_dump(), changes))


def trial_slides(cohort: Cohort, bag: Literal["slide", "case"] = "slide") -> Cohort:
    """At most `MOST_SLIDES` labelled slides, as many of each label as there are; none that is held out.

    If a label is of a case (`bag`), at most `MOST_SLIDES` cases, with all their slides.
    """
    labels: dict[str, str] = {}
    for row in cohort.labelled:
        if row.split != "test":
            labels.setdefault(_unit(row, bag), row.label or "")
    by_label: dict[str, list[str]] = {}
    for unit, label in labels.items():
        by_label.setdefault(label, []).append(unit)
    in_turn = [unit for unit in chain(*zip_longest(*by_label.values())) if unit is not None]
    chosen = set(in_turn[:MOST_SLIDES])
    return cohort.with_slides(row for row in cohort if _unit(row, bag) in chosen)


def _unit(row: CohortSlide, bag: str) -> str:
    return row.case_id if bag == "case" else row.slide_id
