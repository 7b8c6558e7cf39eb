"""Notices: what the user should know and may act on while the work goes on. A code and values; the sentences are here.

The sentences name no option, box or parameter: `Notice.remedy` says what can be done, and each interface words that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import partial
from typing import Any

from .messages import Remedy, python_messages
from .text import count_of, list_briefly, quoted, shown

NAMED = 3  # names in a sentence; the others are counted


class NoticeCode(StrEnum):
    """What a notice says."""

    # How a slide is read.
    MPP_IMPLAUSIBLE = auto()
    MPP_NO_NUMBER = auto()
    MPP_OVERRIDDEN = auto()
    MPP_MISSING = auto()
    PIXELS_NOT_SQUARE = auto()
    NOT_BRIGHTFIELD = auto()
    TRANSPARENT = auto()
    OPACITY_CHANNEL = auto()
    CMYK = auto()
    AS_STORED = auto()
    SEVERAL_IMAGES = auto()
    SCANNED_AREA = auto()
    YCBCR = auto()
    PALETTE_8_BIT = auto()
    CHUNKS_MISSING = auto()
    INK = auto()
    NO_TISSUE = auto()
    PATCHES_UNREADABLE = auto()
    # Tables of slides.
    ENCODING_GUESSED = auto()
    CELLS_EMPTY = auto()
    LABEL_SPELLINGS = auto()
    CASE_SPELLINGS = auto()
    CLASSES_ALIKE = auto()
    CASES_FROM_BARCODES = auto()
    IDS_MADE_DISTINCT = auto()
    PATIENT_DIVIDED = auto()
    IDS_BEGIN_ALIKE = auto()
    IDS_ALIKE = auto()
    SAME_FILES = auto()
    SAME_FILE_TWO_LABELS = auto()
    SAME_PICTURES = auto()
    SAME_PICTURE_TWO_LABELS = auto()
    ROWS_MATCHED_LOOSELY = auto()
    ROWS_UNMATCHED = auto()
    REGIONS_EXIST = auto()
    LEFT_OUT = auto()
    PATCHES_LABELLED = auto()
    # Features.
    FEATURES_REPLACED = auto()
    FEATURES_UNSIGNED = auto()
    FEATURES_OF_CANVAS = auto()
    FEATURES_OUTSIDE = auto()
    SLIDES_WITHOUT_FEATURES = auto()
    # Advice before a training.
    UNLABELLED = auto()
    FEW_NEGATIVE = auto()
    FEW_TRAINING = auto()
    NO_VALIDATION = auto()
    ONE_SIDED_VALIDATION = auto()
    FEW_VALIDATION = auto()
    SCALES_DIFFER = auto()
    SCALES_UNKNOWN = auto()
    # A training.
    CASE_INCOMPLETE = auto()
    CASE_NOT_SCORED = auto()
    SUBSAMPLED = auto()
    ONE_FOLD = auto()
    FEW_FOLDS = auto()
    NOT_CALIBRATED = auto()
    AT_CHANCE = auto()
    LABELS_DOUBTED = auto()
    STUCK = auto()
    CHECKPOINT_LOST = auto()
    TEACHERS_CHANGED = auto()
    BUNDLE_REMADE = auto()
    # A prediction.
    OPEN_SCHEDULER = auto()
    NO_WORKERS = auto()
    FOLDER_READ_ONLY = auto()
    PROMISE = auto()
    PROMISE_LEFT_OUT = auto()
    UNLIKE = auto()
    # Ground truth and corrections.
    MARKS_USED = auto()
    MARKS_OUTSIDE = auto()
    MARKS_OFF_PATCHES = auto()
    MARKS_TOO_SMALL = auto()
    MARKS_WITHOUT_CLASS = auto()
    MARKS_WITHOUT_PLACE = auto()
    MARKS_IGNORED = auto()
    MARKS_OF_OTHER_LABELS = auto()
    MARKS_MISPLACED = auto()
    MASK_VALUES = auto()
    TRUTH_MISSING = auto()
    CORRECTIONS_USED = auto()
    REGIONS_USED = auto()
    TRAINED_ON = auto()
    TRAINED_ON_LEFT_OUT = auto()
    SAME_ID_OTHER_PATIENT = auto()
    TRAINING_UNSIGNED = auto()
    # Data sets.
    POINTS_MOVED = auto()
    DATASET_NOTE = auto()


@dataclass(frozen=True)
class Notice:
    """Something that the user should know and may act on; the work goes on.

    Attributes
    ----------
    values
        What the sentence is filled with, by name.
    item
        The slide that it is about; None if it is about several or none.
    """

    code: NoticeCode
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    item: str | None = None

    def about(self, item: str) -> "Notice":
        """Return the notice about this slide."""
        return replace(self, item=item)

    @property
    def sentence(self) -> str:
        """What the notice says, without what can be done."""
        return SENTENCES[self.code](**self.values)

    @property
    def remedy(self) -> Remedy | None:
        """What can be done. None if nothing, or if the sentence itself says it."""
        make = REMEDIES.get(self.code)
        return None if make is None else make(**self.values)

    def __str__(self) -> str:
        return python_messages.notice(self)


def mpp_in_words(mpp: tuple[float, float]) -> str:
    """Return µm/px (y, x) as one number if both are equal."""
    return f"{mpp[0]:.4g}" if math.isclose(*mpp, rel_tol=1e-3) else f"{mpp[0]:.4g} × {mpp[1]:.4g} (y × x)"


def _has(n: int) -> str:
    return "has" if n == 1 else "have"


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _some(names: Sequence[str]) -> str:
    """List the first names, quoted, and the number of the others."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(quoted(name) for name in names[:NAMED]) + more


def _groups(groups: Sequence[Sequence[str]]) -> str:
    """The ids of slides that are the same, group by group."""
    more = f"; and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    return "; ".join(" = ".join(map(quoted, group[:NAMED])) for group in groups[:NAMED]) + f"{more}."


def _two_labels(things: str, n: int, one: str, one_label: str, other: str, other_label: str) -> str:
    return (
        f"{n} of these {things} {_has(n)} two labels, as {quoted(one)} ({shown(one_label)}) and {quoted(other)} "
        f"({shown(other_label)}). Correct one, or delete a row."
    )


def _mpp_missing(slides: Sequence[str], mpp: float, stops: bool = False) -> str:
    end = " Training will stop." if stops else ""
    return (
        f"{count_of(len(slides), 'slide')} {_has(len(slides))} no pixel size, and patches are cut at {mpp:.3g} µm/px: "
        f"{list_briefly(slides)}.{end}"
    )


def _not_square(mpp: tuple[float, float]) -> str:
    longer = max(mpp) / min(mpp) - 1
    axis = "y" if mpp[0] > mpp[1] else "x"
    return (
        f"The pixels are {mpp_in_words(mpp)} µm, not square. Patches are squares of pixels, so they are {longer:.0%} "
        f"longer in µm along {axis}."
    )


def _several_images(n: int, chosen: int, size: str, others: bool) -> str:
    more = " Others of about the same size are not read." if others else ""
    return f"The file holds {n} images. The largest, number {chosen} ({size}), is the slide.{more}"


def _few_negative(n: int, total: int, name: str) -> str:
    return (
        f"Only {count_of(n, 'slide')} of {total} to train on {_is(n)} ‘{shown(name)}’ (negative). Add more: they show "
        "what is not a finding."
    )


def _unlabelled(n: int) -> str:
    it = "It is" if n == 1 else "They are"
    return f"{count_of(n, 'slide')} {_has(n)} no label. {it} not used for training but can be predicted."


def _one_sided(n: int, positive: bool, best: bool) -> str:
    what = "pick the best epoch" if best else "judge the training"
    return (
        f"All validation slides ({n}) are {'positive' if positive else 'negative'}: there is no AUROC, and their loss, "
        f"used to {what}, says little."
    )


def _at_chance(network: str, loss: float, chance_loss: float) -> str:
    return (
        f"The {network} is no better than chance on its own training slides (loss {loss:.3f}; {chance_loss:.3f} "
        "without looking at them). It has learnt next to nothing. Check the labels."
    )


def _cells_empty(file: object, column: str, cells: Mapping[str, int]) -> str:
    what = {"label": "no label", "case_id": "no case", "mpp": "no µm/px", "split": "no split"}[column]
    return f"{file}: {sum(cells.values())} cells are read as {what}: {_examples(cells)}."


def _examples(counts: Mapping[str, int]) -> str:
    """Return the first texts with their counts: "'NA' (5), '-' (2) and 3 others"."""
    some = ", ".join(f"{quoted(text)} ({n})" for text, n in list(counts.items())[:NAMED])
    return some if len(counts) <= NAMED else f"{some} and {len(counts) - NAMED} others"


def _marks(n: int, what: str, thing: str = "mark") -> str:
    return f"{count_of(n, thing)} of the ground truth {what}"


def _corrections_used(patches: int, slides: int, unused: Sequence[str], marks: str) -> str:
    source = f" (from {marks})" if marks else ""
    said = f"The corrections label {count_of(patches, 'patch')} of {count_of(slides, 'slide')}{source}."
    return f"{said} Not used: {'; '.join(unused)}." if unused else said


def trained_on(reasons: Mapping[str, Sequence[str]]) -> str:
    """Return why slides count as trained on, from the ids by reason."""
    return "; ".join(_WHY[why].format(n=len(ids), ids=list_briefly(ids)) for why, ids in reasons.items() if ids)


_WHY = {
    "own": "{n} of its training split",
    "file": "{n} with the file of a training slide under another id: {ids}",
    "patient": "{n} of a patient of a training slide: {ids}",
    "id": "{n} with the id of a training slide, and not known to be of another patient: {ids}",
}

_DATASETS = {
    "crops": (
        "The images are crops of about ten slides of nine patients that the set does not name. Splits by image, the "
        "paper's included, can share a patient."
    ),
    "no_cell_truth": "No complete ground truth per cell is public for this set. There is no truth.csv.",
}

C = NoticeCode
SENTENCES: dict[NoticeCode, Callable[..., str]] = {
    C.MPP_IMPLAUSIBLE: lambda mpp, low, high, guess: (
        f"The file says {mpp_in_words(mpp)} µm/px, which is outside {low:g}–{high:g} and cannot be a slide's{guess}. "
        "The pixel size is treated as unknown."
    ),
    C.MPP_NO_NUMBER: lambda mpp: (
        "The pixel size that the file states is "
        f"{'no number' if mpp is None else f'{mpp_in_words(mpp)} µm/px, which no pixel has'}. It is treated as unknown."
    ),
    C.MPP_OVERRIDDEN: lambda given, file: (
        f"The pixel size is {mpp_in_words(given)} µm/px, as given. The file says {mpp_in_words(file)}."
    ),
    C.MPP_MISSING: _mpp_missing,
    C.PIXELS_NOT_SQUARE: _not_square,
    C.NOT_BRIGHTFIELD: lambda kind: f"This is not a brightfield image: {kind}. It is opened because you asked for it.",
    C.TRANSPARENT: lambda: "The file says that it is transparent everywhere. It is shown as if it were opaque.",
    C.OPACITY_CHANNEL: lambda: "The fourth channel is taken for opacity. What is transparent lies on white.",
    C.CMYK: lambda: (
        "The image is stored as inks (CMYK). It is converted to RGB by the plain formula, without a profile."
    ),
    C.AS_STORED: lambda orientation, by: (
        f"The file asks to be rotated or mirrored (orientation {orientation} of {by}). It is shown as stored."
    ),
    C.SEVERAL_IMAGES: _several_images,
    C.SCANNED_AREA: lambda area, canvas, corner: (
        f"The scanned area is {area[1]} × {area[0]} px of a canvas of {canvas[1]} × {canvas[0]} px. Positions count "
        f"from the corner of the area (x={corner[1]}, y={corner[0]} of the canvas), as QuPath's do."
    ),
    C.YCBCR: lambda: (
        "The image is stored as brightness and two colour differences (Y, Cb, Cr). It is converted to RGB."
    ),
    C.PALETTE_8_BIT: lambda: "The values of the colour table are 8-bit, where TIFF has 16. They are used as 8-bit.",
    C.CHUNKS_MISSING: lambda missing: (
        f"Chunks are missing ({', '.join(missing)}), left out by the writer or lost. Such a place is filled from a "
        "finer level, is blank where the other levels are, and else counts as damaged."
    ),
    C.INK: lambda fraction: f"{fraction:.1%} of the slide look like blue, green or black ink. Leave out such places.",
    C.NO_TISSUE: lambda method: f"The tissue method {method!r} finds no tissue. Paint it on the layer.",
    C.PATCHES_UNREADABLE: lambda n, total: f"{n} of {total} patches cannot be read. They are left out.",
    C.ENCODING_GUESSED: lambda file: (
        f"{file}: The table is not in UTF-8. It is read as Windows-1252. Check letters such as ä and é."
    ),
    C.CELLS_EMPTY: _cells_empty,
    C.LABEL_SPELLINGS: lambda file, name, spellings: (
        f"{file}: labels spelled differently are one class {quoted(name)}: {_examples(spellings)}."
    ),
    C.CASE_SPELLINGS: lambda file, n, spellings: (
        f"{file}: {n} cases have case_ids that differ only in spelling, as "
        f"{' and '.join(map(quoted, spellings[:NAMED]))}."
    ),
    C.CLASSES_ALIKE: lambda file, one, other: (
        f"{file}: the classes {quoted(one)} and {quoted(other)} are spelled nearly alike. If they are one, give all "
        "their slides the same label."
    ),
    C.CASES_FROM_BARCODES: lambda file, slides, patients: (
        f"{file}: {slides} slides have no case_id. Their TCGA barcodes name {patients} patients, which are used as "
        "cases."
    ),
    C.IDS_MADE_DISTINCT: lambda names: (
        f"{count_of(len(names), 'slide')} {'shares its' if len(names) == 1 else 'share their'} file name with another "
        f"one and {_is(len(names))} called {_some(names).replace(chr(39), '')}."
    ),
    C.PATIENT_DIVIDED: lambda n, patient: (
        f"{count_of(n, 'patient')} by TCGA barcode {_has(n)} slides of several case_ids, as {quoted(patient)}. A split "
        "may divide them. Give all slides of a patient one case_id."
    ),
    C.IDS_BEGIN_ALIKE: lambda slides, groups, beginning: (
        f"The ids of {slides} slides begin alike in {groups} groups, as {quoted(beginning + '…')}. If these are "
        "patients, write them into the column 'case_id', or a split may divide them."
    ),
    C.IDS_ALIKE: lambda n, one, other: (
        f"{count_of(n, 'pair')} of ids {'differs' if n == 1 else 'differ'} only in case or the form of Unicode, as "
        f"{quoted(one)} and {quoted(other)}. They are different slides here."
    ),
    C.SAME_FILES: lambda groups: (
        f"{count_of(len(groups), 'file')} {_is(len(groups))} listed under more than one id; each counts as one case: "
        + _groups(groups)
    ),
    C.SAME_FILE_TWO_LABELS: partial(_two_labels, "files"),
    C.SAME_PICTURES: lambda groups: (
        f"{count_of(len(groups), 'picture')} {_is(len(groups))} shown by more than one slide, perhaps turned, mirrored "
        "or saved again; the slides of each count as one case: " + _groups(groups)
    ),
    C.SAME_PICTURE_TWO_LABELS: partial(_two_labels, "pictures"),
    C.ROWS_MATCHED_LOOSELY: lambda names, matched: (
        f"{len(names)} of {matched} slides were found under a name written differently: "
        + ", ".join(f"{quoted(name)} as {quoted(slide)}" for name, slide in list(names.items())[:NAMED])
        + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        + "."
    ),
    C.ROWS_UNMATCHED: lambda names: (
        f"{count_of(len(names), 'row')} {'names' if len(names) == 1 else 'name'} no slide that is here, or more than "
        f"one: {_some(names)}."
    ),
    C.LEFT_OUT: lambda form, what: (
        f"The format {form} cannot hold {list_briefly([f'{name} ({n})' for name, n in what.items()])}: left out."
    ),
    C.PATCHES_LABELLED: lambda patches, without, marks: (
        f"{', '.join(f'{n} {name}' for name, n in patches.items()) or 'No'} patches are labelled"
        f"{f' (from {marks})' if marks else ''}. {count_of(without, 'patch')} without a mark {_is(without)} left out."
    ),
    C.REGIONS_EXIST: lambda file: f"{file} exists already and is kept.",
    C.FEATURES_REPLACED: lambda folder: (
        f"The features in {folder} were of other patches, another file or another encoder. They are computed again."
    ),
    C.FEATURES_UNSIGNED: lambda folder, said, expected: (
        f"{folder}: the files {'do not name their encoder' if said is None else f'name {said!r} as their encoder'}. "
        f"They are taken to be of {expected!r}."
    ),
    C.FEATURES_OF_CANVAS: lambda: (
        "The slide is not here. Positions count from the corner of the whole canvas, as in the file of features, also "
        "where only a part of it was scanned."
    ),
    C.FEATURES_OUTSIDE: lambda n, total, file: (
        f"{n} of {total} patches of {file} lie outside the scanned area of the slide. They are left out."
    ),
    C.SLIDES_WITHOUT_FEATURES: lambda n, total, first: (
        f"{n} of {total} slides have no features that can be read. Live training leaves them out. The first: {first}"
    ),
    C.UNLABELLED: _unlabelled,
    C.FEW_NEGATIVE: _few_negative,
    C.FEW_TRAINING: lambda n, few: (
        f"There are only {count_of(n, 'slide')} to train on. Expect rough results below {few}."
    ),
    C.NO_VALIDATION: lambda: (
        "No slide is held out for validation: nothing will show when training should stop. The last epoch is kept. "
        "Give some slides the split ‘valid’."
    ),
    C.ONE_SIDED_VALIDATION: _one_sided,
    C.FEW_VALIDATION: lambda n: (
        f"Only {count_of(n, 'slide')} {'checks' if n == 1 else 'check'} the training. The curves are unreliable."
    ),
    C.SCALES_DIFFER: lambda low=None, high=None: (
        "The slides differ in pixel size"
        f"{f' ({low:.3g} to {high:.3g} µm/px)' if low else ', or some have none'}. Their patches show areas of "
        "different size."
    ),
    C.SCALES_UNKNOWN: lambda slides, all_slides: (
        "No slide has a pixel size. This is fine if all were scanned alike."
        if all_slides
        else f"{count_of(len(slides), 'slide')} {_has(len(slides))} no pixel size, but others do: "
        f"{list_briefly(slides)}. Patches will show areas of different size."
    ),
    C.CASE_INCOMPLETE: lambda case, n, total: (
        f"Case {quoted(case)} is left out: {n} of its {total} slides could not be read, and its label may be of "
        f"{'that one' if n == 1 else 'one of these'}."
    ),
    C.CASE_NOT_SCORED: lambda case, n, total: (
        f"Case {quoted(case)} does not count as a case: {n} of its {total} slides could not be predicted, and its "
        f"finding may be in {'that one' if n == 1 else 'one of these'}. The patches of the others count."
    ),
    C.SUBSAMPLED: lambda network, n, total, limit, largest: (
        f"{n} of {total} training slides have more than {limit} patches (at most {largest}). Every epoch of the "
        f"{network} trains on {limit} of them, drawn again."
    ),
    C.ONE_FOLD: lambda: (
        "All slides of a class are of one patient. One out-of-fold classifier learns from all slides and scores them "
        "too."
    ),
    C.FEW_FOLDS: lambda folds, found: (
        f"A class has too few patients for {folds} out-of-fold classifiers. There are {found}."
    ),
    C.NOT_CALIBRATED: lambda: "Scores are not calibrated: there are more than two classes, of which a slide has one.",
    C.AT_CHANCE: _at_chance,
    C.LABELS_DOUBTED: lambda names: (
        f"{count_of(len(names), 'training slide')} {_has(len(names))} a label that classifiers which have not seen the "
        "slide contradict strongly: "
        + ", ".join(
            f"{quoted(name)} ({', '.join(f'P({shown(finding)}) {p:.2f}' for finding, p in doubted.items())})"
            for name, doubted in list(names.items())[:NAMED]
        )
        + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        + ". Look at these slides again."
    ),
    C.STUCK: lambda network, epochs, loss, chance_loss, learning_rate: (
        f"The {network} still says the same of every slide after {epochs} epochs (loss {loss:.3f}, "
        f"{chance_loss:.3f} at chance). Training starts again with other weights and a learning rate of "
        f"{learning_rate:g}."
    ),
    C.CHECKPOINT_LOST: lambda problem, network: f"{problem} The {network} is trained again.",
    C.TEACHERS_CHANGED: lambda network: (
        f"The networks that the {network} learns from have changed. It is trained again."
    ),
    C.BUNDLE_REMADE: lambda problem: f"{problem.rstrip('.')}. The model is written again from its checkpoint.",
    C.OPEN_SCHEDULER: lambda scheduler: (
        f"The scheduler {scheduler} asks for no certificate. Whoever reaches it can run code in its workers and here. "
        "Use one of tls://… unless its network is your own."
    ),
    C.NO_WORKERS: lambda scheduler: f"The scheduler {scheduler} has no workers yet. The prediction waits for some.",
    C.FOLDER_READ_ONLY: lambda folder, reason, elsewhere: (
        f"{folder}: cannot be written to ({reason}). Patch maps are kept "
        f"{'in memory only' if elsewhere is None else f'in {elsewhere}'}."
    ),
    C.PROMISE: lambda promise: f"{promise}",
    C.PROMISE_LEFT_OUT: lambda n: (
        f"{count_of(n, 'negative slide')} {_is(n)} left out of the promise, because the run was trained on "
        f"{'it' if n == 1 else 'them'}."
    ),
    C.UNLIKE: lambda times: (
        f"The slide is unlike the slides that this model was trained on ({times:.1f} times the distance that 9 of 10 "
        "slides like them keep). Its labels may be worth less."
    ),
    C.MARKS_USED: lambda patches, marks: (
        f"The ground truth labels {', '.join(f'{n} {name}' for name, n in patches.items())} patches"
        f"{f' (from {marks})' if marks else ''}."
    ),
    C.MARKS_OUTSIDE: lambda n: (
        f"{_marks(n, 'lies' if n == 1 else 'lie')} outside of the slide. Level-0 pixels are needed, x before y."
    ),
    C.MARKS_OFF_PATCHES: lambda n: f"{_marks(n, 'lies' if n == 1 else 'lie')} on no patch that is analysed.",
    C.MARKS_TOO_SMALL: lambda n: (
        f"{_marks(n, 'covers' if n == 1 else 'cover', 'area')} too small a share of every patch that "
        f"{'it touches' if n == 1 else 'they touch'}, and {'labels' if n == 1 else 'label'} none."
    ),
    C.MARKS_WITHOUT_CLASS: lambda n: f"{_marks(n, _has(n))} no class. {'It is' if n == 1 else 'They are'} not counted.",
    C.MARKS_WITHOUT_PLACE: lambda n: (
        f"{_marks(n, _has(n), 'object')} no point and no area. {'It is' if n == 1 else 'They are'} not counted."
    ),
    C.MARKS_IGNORED: lambda n: (
        f"{_marks(n, _is(n))} of a class that QuPath ignores. {'It is' if n == 1 else 'They are'} not counted."
    ),
    C.MARKS_OF_OTHER_LABELS: lambda labels, negative: (
        f"{_marks(sum(labels.values()), _has(sum(labels.values())))} a label that is no class of the model "
        f"({list_briefly(f'{label[:40]} {n}' for label, n in labels.items())}). "
        f"{'It is' if sum(labels.values()) == 1 else 'They are'} not counted."
    ),
    C.MARKS_MISPLACED: lambda cause: f"The ground truth: {cause}",
    C.MASK_VALUES: lambda values: f"The masks of the ground truth are read as {list_briefly(values)}.",
    C.TRUTH_MISSING: lambda slides, total: (
        f"The ground truth has no entry for {len(slides)} of {total} slides ({list_briefly(slides)}). Their patches do "
        "not count."
    ),
    C.CORRECTIONS_USED: _corrections_used,
    C.REGIONS_USED: lambda n, slides, empty: (
        f"{count_of(n, 'region')} of {count_of(slides, 'slide')} {_is(n)} trained with."
        + (f" {count_of(empty, 'region')} {_is(empty)} left out: no patch lies in them far enough." if empty else "")
    ),
    C.TRAINED_ON: lambda n, total, reasons: (
        f"{n} of {total} slides were trained on ({trained_on(reasons)}). Their metrics are too good."
    ),
    C.TRAINED_ON_LEFT_OUT: lambda n, total, reasons: (
        f"{n} of {total} slides are left out, because the run was trained on them ({trained_on(reasons)})."
    ),
    C.SAME_ID_OTHER_PATIENT: lambda slides: (
        f"{count_of(len(slides), 'slide')} {_has(len(slides))} the id of a training slide, but another file of another "
        f"patient ({list_briefly(slides)}). {'It counts' if len(slides) == 1 else 'They count'} as new."
    ),
    C.TRAINING_UNSIGNED: lambda n, total: (
        f"{n} of {total} training slides are known by id and patient alone. A copy of one under another id counts as "
        "new."
    ),
    C.POINTS_MOVED: lambda n: f"{n} nuclei are marked just outside their image. They are moved onto its border.",
    C.DATASET_NOTE: lambda note: _DATASETS[note],
}


def _set_mpp(**_: object) -> Remedy:
    return Remedy("set", "cohort.mpp", alternative=Remedy("set", "inputs.mpp"))


REMEDIES: dict[NoticeCode, Callable[..., Remedy | None]] = {
    C.MPP_IMPLAUSIBLE: _set_mpp,
    C.MPP_NO_NUMBER: _set_mpp,
    C.MPP_MISSING: _set_mpp,
    C.SCALES_UNKNOWN: lambda all_slides, **_: None if all_slides else Remedy("set", "cohort.mpp"),
    C.SCALES_DIFFER: lambda **_: Remedy("set", "patches.mpp"),
    C.REGIONS_EXIST: lambda **_: Remedy("set", "overwrite", True),
    C.SUBSAMPLED: lambda network, **_: Remedy("set", f"{network}.max_patches_per_bag"),
    C.AT_CHANCE: lambda network, **_: Remedy(
        "set", f"{_settings_of(network)}.epochs", alternative=Remedy("set", f"{_settings_of(network)}.learning_rate")
    ),
    C.MARKS_TOO_SMALL: lambda **_: Remedy("set", "inputs.coverage"),
    C.MASK_VALUES: lambda **_: Remedy("set", "inputs.label_map"),
    C.MARKS_OF_OTHER_LABELS: lambda labels, negative: Remedy(
        "set", "inputs.label_map", {next(iter(labels))[:40]: negative},
        alternative=Remedy("clear", "inputs.label_map", {next(iter(labels))[:40]: ""}),
    ),
}  # fmt: skip


def _settings_of(network: str) -> str:
    return "student" if network == "student" else "teacher"
