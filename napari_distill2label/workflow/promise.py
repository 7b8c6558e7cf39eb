"""The threshold that a promise asks for, from negative slides that a model has learnt nothing from."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from ..core.errors import Distill2LabelError, SettingsError
from ..core.events import Event, ItemFailed
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.promise import Promise, make_promise
from ..store.bundle import Bundle
from ..store.cohort import Cohort, CohortSlide
from ..store.learnt import LearntSlides
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

    Slides of another label, and slides that the run was trained or validated on, are left out. A slide that cannot be
    read is reported and promises nothing.
    """
    rows = yield from _unseen(bundle, asked.negatives)
    found: dict[str, list[tuple[np.ndarray, float]]] = {}
    for row in rows:
        try:
            patch_map = yield from predictor.map(row, None)
        except Distill2LabelError as error:
            yield ItemFailed(row.slide_id, error)
            continue
        patches = patch_map.probability[patch_map.scored][:, 1:].max(-1)  # what `labels_of` compares
        slide = max(patch_map.bag_probability[1:])
        found.setdefault(row.case_id, []).append((patches, slide))
    promise = make_promise(found, asked.share, asked.risk)
    yield Notice(NoticeCode.PROMISE, {"promise": promise})
    return promise


def _unseen(bundle: Bundle, negatives: Cohort | None) -> Generator[Event, None, list[CohortSlide]]:
    """Return negative slides that the model has learnt nothing from; a `Notice` counts those that are left out."""
    negative = bundle.config.classes[0]
    folder = bundle.path.parent
    run = Run.open(folder) if Run.is_run(folder) else None
    if negatives is None:
        if run is None:
            raise SettingsError(
                "The model is of no run. Say which negative slides the promise rests on.",
                file=bundle.path,
                remedy=Remedy("set", "negatives"),
            )
        return [row for row in run.cohort.in_split("test") if row.label == negative]
    rows = [row for row in negatives.labelled if row.label == negative]
    if run is None:
        return rows
    learnt = LearntSlides.of(run)
    unseen = [row for row in rows if learnt.reason(row) is None]
    if len(unseen) < len(rows):
        yield Notice(NoticeCode.PROMISE_LEFT_OUT, {"n": len(rows) - len(unseen)})
    return unseen
