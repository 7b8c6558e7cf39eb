"""`estimate` does what `train` does, for a moment, and keeps nothing."""

from napari_distill2label.core.events import Progress
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.splits import with_splits
from napari_distill2label.workflow.estimate import estimate


def test_a_trial_measures_every_network(cohort_csv, tiny, collect):
    cohort = Cohort.read(cohort_csv)
    before = sorted(cohort_csv.parent.rglob("*"))
    events, timing = collect(estimate(cohort, tiny(), baseline=True))
    assert sorted(cohort_csv.parent.rglob("*")) == before
    assert {"mil", "teacher", "assistant-1", "student"} <= set(timing.epoch)
    split = with_splits(cohort.with_classes(), tiny().split, tiny().seed)
    assert timing.n_slides == len(split.in_split("train")) + len(split.in_split("valid"))
    assert all(seconds > 0 for seconds in (timing.reading, *timing.epoch.values()))
    assert any(event.phase == "measuring the student" for event in events if isinstance(event, Progress))


def test_a_trial_can_be_stopped(cohort_csv, tiny):
    work = estimate(Cohort.read(cohort_csv), tiny())
    next(work)
    work.close()
