"""The threshold that a promise asks for, from negative slides that a model has learnt nothing from."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.classes import spelling_key
from ..core.errors import Distill2LabelError, SettingsError
from ..core.events import Event, ItemFailed, Progress, Task
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.promise import Promise, make_promise
from ..store.bundle import Bundle
from ..store.cohort import Cohort, CohortSlide
from ..store.learnt import LearntSlides
from ..store.maps.patch_map import PatchMap
from ..store.run import Run
from .slide_predictor import SlidePredictor


@dataclass(frozen=True)
class PromiseRequest:
    """A threshold at which, with probability 1 − `risk`, at most `share` of a new negative slide's patches is called.

    Attributes
    ----------
    share, risk
        α and δ of `core.promise`.
    negatives
        The slides that the promise rests on: of known label, and not learnt from. None: those of the run's test split.
    """

    share: float
    risk: float = 0.1
    negatives: Cohort | None = None


def promised_threshold(
    predictor: SlidePredictor, bundle: Bundle, asked: PromiseRequest
) -> Generator[Event, None, Promise]:
    """Predict negative slides, in memory, and return the promise that they allow; a `Notice` says what it rests on.

    A slide that cannot be read is reported and promises nothing.
    """
    folder = bundle.path.parent
    run = Run.open(folder) if Run.is_run(folder) else None
    if asked.negatives is not None:
        rows = yield from new_negatives(asked.negatives, bundle.config.classes[0], run)
    elif run is not None:
        rows = [row for row in run.cohort.in_split("test") if row.label == bundle.config.classes[0]]
    else:
        raise SettingsError(
            "The model is of no run. Say which negative slides the promise rests on.",
            file=bundle.path,
            remedy=Remedy("set", "negatives"),
        )
    maps = []
    for row in rows:
        try:
            maps.append((row, (yield from predictor.map(row, None))))
        except Distill2LabelError as error:
            yield ItemFailed(row.slide_id, error)
    promise = promise_of_maps(maps, asked)
    yield Notice(NoticeCode.PROMISE, {"promise": promise})
    return promise


def promise_of_maps(maps: Sequence[tuple[CohortSlide, PatchMap]], asked: PromiseRequest) -> Promise:
    """Return the promise that predicted negative slides allow: slides that the model has not learnt from.

    `SettingsError` if there are too few, see `make_promise`.
    """
    by_patient: dict[str, list[tuple[np.ndarray, float]]] = {}
    for row, patch_map in maps:
        patches = patch_map.probability[patch_map.scored][:, 1:].max(-1)  # what `labels_of` compares
        if (slide := patch_map.bag_probability) is not None:  # else nothing is said of the slide, nor promised
            by_patient.setdefault(row.case_id, []).append((patches, max(slide[1:])))
    return make_promise(by_patient, asked.share, asked.risk)


def new_negatives(cohort: Cohort, negative: str, run: Run | None) -> Generator[Event, None, list[CohortSlide]]:
    """Return the slides with the negative label that a run has not learnt from; a `Notice` counts the others.

    `run` None: the model is of no run, and what it has learnt from is not known.
    """
    rows = [row for row in cohort.labelled if spelling_key(row.label or "") == spelling_key(negative)]
    if run is None:
        return rows
    learnt, unseen = LearntSlides.of(run), []
    for done, row in enumerate(rows):
        yield Progress(Task.COMPARE_WITH_TRAINING, done, len(rows))
        if learnt.reason(row) is None:
            unseen.append(row)
    if len(unseen) < len(rows):
        yield Notice(NoticeCode.PROMISE_LEFT_OUT, {"n": len(rows) - len(unseen)})
    return unseen
