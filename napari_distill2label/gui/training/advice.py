"""What stands against a training, and what is allowed but unwise, in plain words. Pure functions: no Qt, no files."""

from collections.abc import Mapping

from ...core.errors import CohortError
from ...core.settings import Settings
from ...slides.scale import common_mpp
from ...store.cohort import MIN_NEGATIVE_FRACTION, Cohort
from ...store.splits import with_splits
from ..wording import in_the_window

FEW_VALID = 4  # validation slides below which a loss or an AUROC is mostly chance
FEW_TRAIN = 10
NAMED = 3  # slides named in a line; the others are counted

Scales = Mapping[str, float | None]  # slide id -> µm/px, None where the file does not say


def blocker(cohort: Cohort, settings: Settings) -> str | None:
    """Why this cohort cannot be trained on with these settings, beyond what `why_not_train` says; None if it can."""
    return _split(cohort, settings)[1]


def unwise(cohort: Cohort, settings: Settings, scales: Scales | None = None, baseline: bool = False) -> list[str]:
    """What the user should think about before training, a sentence each, the gravest first. Nothing forbids it.

    Parameters
    ----------
    cohort
        With its classes. Splits it lacks are dealt as `train` would.
    scales
        µm/px of the slides whose files have been looked at.
    """
    split, wrong = _split(cohort, settings)
    if wrong is not None or split is None:
        return []
    lines = [*_negatives(split), *_training(split), *_validation(split, settings), *_scales(split, settings, scales)]
    return [*lines, *_unlabelled(cohort)]


def _split(cohort: Cohort, settings: Settings) -> tuple[Cohort | None, str | None]:
    try:
        return with_splits(cohort, settings.split, settings.seed), None
    except CohortError as error:
        return None, _as_sentence(in_the_window(str(error)))


def _as_sentence(text: str) -> str:
    text = text[:1].upper() + text[1:] if text[:1].isascii() else text
    return text if text.endswith(".") else f"{text}."


def _negatives(cohort: Cohort) -> list[str]:
    train = cohort.in_split("train")
    negative = sum(cohort.indices(row) == (0,) for row in train)
    if negative >= max(2, MIN_NEGATIVE_FRACTION * len(train)):
        return []
    return [
        f"Only {_slides(negative)} of {len(train)} to train on {'is' if negative == 1 else 'are'} "
        f"‘{cohort.classes[0]}’. Add more: they show what is not a finding."
    ]


def _training(cohort: Cohort) -> list[str]:
    train = cohort.in_split("train")
    if len(train) >= FEW_TRAIN:
        return []
    return [f"There are only {_slides(len(train))} to train on. Expect rough results below {FEW_TRAIN}."]


def _validation(cohort: Cohort, settings: Settings) -> list[str]:
    valid = cohort.in_split("valid")
    kinds = {cohort.indices(row) == (0,) for row in valid}
    if not valid:
        return [
            "No slide is held out for validation: nothing will show when training should stop. "
            "Give some slides the split ‘valid’."
        ]
    what = "pick the best epoch" if settings.teacher.keep_epoch == "best" else "judge the training"
    if len(kinds) < 2:
        only = "positive" if False in kinds else "negative"
        return [
            f"All validation slides ({len(valid)}) are {only}: there is no AUROC, and their loss, used to {what}, "
            "says little."
        ]
    if len(valid) < FEW_VALID:
        one = "checks" if len(valid) == 1 else "check"
        return [f"Only {_slides(len(valid))} {one} the training. The curves are unreliable."]
    return []


def _scales(cohort: Cohort, settings: Settings, scales: Scales | None) -> list[str]:
    rows = [*cohort.in_split("train"), *cohort.in_split("valid")]
    told = {row.slide_id: row.mpp for row in rows if row.mpp is not None}
    known = {row.slide_id: (scales or {}).get(row.slide_id) for row in rows if row.slide_id in (scales or {})} | told
    missing = [slide_id for slide_id, mpp in known.items() if mpp is None]
    found = [mpp for mpp in known.values() if mpp is not None]
    say = "Say it in the slide table"
    if missing and settings.patches.mpp is not None:
        return [
            f"{_named(missing)} {_have(missing)} no µm/px, and patches are to be cut at "
            f"{settings.patches.mpp:g} µm/px: "
            f"training will stop. {say}."
        ]
    if missing and found:
        return [
            f"{_named(missing)} {_have(missing)} no µm/px, the others do. {say}, or patches will show areas of "
            "different size."
        ]
    if missing:
        return [
            "No slide says how large its pixels are (µm/px). That is fine if all were scanned alike; "
            f"else {_lower(say)}."
        ]
    if settings.patches.mpp is None and len(found) > 1 and common_mpp([(mpp, mpp) for mpp in found]) is None:
        return [
            f"Slides differ in scale ({min(found):.3g} to {max(found):.3g} µm/px). Set ‘Patch scale’ so that all "
            "patches show the same area."
        ]
    return []


def _unlabelled(cohort: Cohort) -> list[str]:
    without = len(cohort) - len(cohort.labelled)
    return (
        [
            f"{_slides(without)} {'has' if without == 1 else 'have'} no label. "
            f"{'It is' if without == 1 else 'They are'} not used for training but can be predicted."
        ]
        if without
        else []
    )


def _slides(count: int) -> str:
    return f"{count} slide" if count == 1 else f"{count} slides"


def _have(ids: list[str]) -> str:
    return "has" if len(ids) == 1 else "have"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _named(ids: list[str]) -> str:
    rest = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + rest
