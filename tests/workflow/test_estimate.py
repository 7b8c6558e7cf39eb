"""`estimate` does what `train` does, for a moment, and keeps nothing."""

import json

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


def test_a_trial_looks_at_the_tissue_that_training_will(cohort_csv, tiny, collect, tmp_path):
    cohort = Cohort.read(cohort_csv)
    ring = [[0, 0], [60, 0], [60, 60], [0, 60], [0, 0]]
    for row in cohort:
        region = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        (tmp_path / f"{row.slide_id}.geojson").write_text(json.dumps(region))
    whole, part = (collect(estimate(cohort, tiny(), tissue=tissue))[1] for tissue in (None, tmp_path))
    assert part.n_slides == whole.n_slides
    assert 0 < part.n_patches < whole.n_patches


def test_a_trial_can_be_stopped(cohort_csv, tiny):
    work = estimate(Cohort.read(cohort_csv), tiny())
    next(work)
    work.close()
