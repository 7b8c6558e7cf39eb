"""What corrections are for: another student that knows them. No Qt; mixed into `Review`."""

from typing import TYPE_CHECKING

from ...core.errors import CohortError, Distill2LabelError, SettingsError
from ...core.settings import Settings
from ...store.cohort import Cohort
from ...store.splits import with_splits
from .corrections import KeptCorrections

if TYPE_CHECKING:
    from ...store.run import Run
    from ..runner.jobs import Job
    from ..session import Session

NOT_LEARNT = "their slides have no label, or are kept for validation or test"


class Retraining(KeptCorrections):
    """Corrections that a training takes as known."""

    def __init__(self, session: "Session") -> None:
        super().__init__(session)
        self._dealt: tuple[Cohort, Settings] | None = None  # what `_learnt`, the slides to be trained on, is of
        self._learnt: frozenset[str] = frozenset()

    def why_not_retrain(self) -> str | None:
        """What is missing for a training with corrections; None when it can start."""
        if not len(self):
            return "Correct some patches first."
        if not self.session.settings.student.gamma_corrections:
            return "The settings ignore corrections: give ‘γk: your corrections’ of the student a weight, in step 2."
        if (reason := self.session.why_not_train()) is not None:
            return reason
        if self.not_learnt() == len(self):
            return f"No correction would count: {NOT_LEARNT}. Correct patches of another slide."
        return None

    def not_learnt(self) -> int:
        """How many corrected patches a training would pass over: of slides that are not in its training split."""
        cohort, settings = now = self.session.cohort, self.session.settings
        if self._dealt is None or self._dealt[0] is not cohort or self._dealt[1] != settings:
            self._dealt, self._learnt = now, _trained_on(*now)
        return sum(count for slide_id, count in self.slides.items() if slide_id not in self._learnt)

    def retrain(self, *, wait: bool = True) -> "Run | Job":
        """Train a student (and its teacher) that takes the corrections as known; they are named in bundle and card."""
        if reason := self.why_not_retrain():
            raise SettingsError(reason)
        try:
            path = self.save()
        except OSError as error:
            raise Distill2LabelError(f"the corrections could not be written: {error}") from None
        return self.session.train(corrections=path, wait=wait)


def _trained_on(cohort: Cohort, settings: Settings) -> frozenset[str]:
    """Ids of the slides that a training would learn from."""
    try:
        dealt = with_splits(cohort, settings.split, settings.seed)
    except CohortError:  # no training at all: `why_not_train` says why
        return frozenset(row.slide_id for row in cohort.labelled)
    return frozenset(row.slide_id for row in dealt.in_split("train"))
