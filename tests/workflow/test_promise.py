"""A threshold with a promise: which slides it rests on, and what the labels then are."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow.commands.predict import find_model, predict
from napari_distill2label.workflow.promise import PromiseRequest, new_negatives


@pytest.fixture(scope="module")
def negatives(tmp_path_factory) -> Cohort:
    """Four negative slides that no run has seen, of three patients."""
    cohort = Cohort.read(write_cohort(tmp_path_factory.mktemp("new"), 8, seed=77, shape=(112, 128)))
    rows = [row for row in cohort if row.label == "normal"][:4]
    cases = ["a", "a", "b", "c"]
    return cohort.with_slides(
        replace(row, slide_id=f"new-{index}", case_id=case)
        for index, (row, case) in enumerate(zip(rows, cases, strict=True))
    )


def test_the_labels_keep_what_is_promised(trained, negatives):
    notices = []
    show = lambda event: notices.append(str(event)) if isinstance(event, Notice) else None  # noqa: E731
    maps = drain(predict(trained, negatives, threshold=PromiseRequest(0.2, risk=0.3, negatives=negatives)), show)
    assert any("4 negative slides of 3 patients" in line for line in notices)
    (threshold,) = {patch_map.threshold for patch_map in maps}
    called = [(patch_map.to_labels() > 1).sum() / patch_map.scored.sum() for patch_map in maps]
    worst = {"a": max(called[:2]), "b": called[2], "c": called[3]}
    assert sorted(worst.values())[:2] == [value for value in sorted(worst.values())[:2] if value <= 0.2]
    assert max(worst.values()) <= 0.2  # with three patients and a risk of .3, the highest threshold counts
    lower = np.nextafter(np.float32(threshold), np.float32(-1))
    assert max((m.to_labels(float(lower)) > 1).sum() / m.scored.sum() for m in maps) > 0.2


def test_a_class_is_the_same_in_another_spelling(negatives):
    spelled = negatives.with_slides(replace(row, label="Normal ") for row in negatives)
    assert len(drain(new_negatives(spelled, "normal", None))) == 4


def test_too_few_patients_and_no_slides_are_refused_with_what_to_do(trained, negatives, tmp_path):
    with pytest.raises(SettingsError, match="needs negative slides of 9 patients"):
        drain(predict(trained, negatives, threshold=PromiseRequest(0.05, negatives=negatives)))
    alone = tmp_path / "alone"
    shutil.copytree(trained / "student", alone)
    with pytest.raises(SettingsError, match="is of no run"):
        drain(predict(alone, negatives, threshold=PromiseRequest(0.05)))


def test_slides_that_were_learnt_from_promise_nothing(trained, negatives):
    cohort = Cohort.read(trained / "cohort.csv")
    notices = []
    show = lambda event: notices.append(str(event)) if isinstance(event, Notice) else None  # noqa: E731
    with pytest.raises(SettingsError, match="needs negative slides"):
        drain(predict(trained, negatives, threshold=PromiseRequest(0.05, negatives=cohort)), show)
    assert any("left out of the promise" in line for line in notices)


def test_without_a_threshold_the_labels_are_from_the_models_own(trained, negatives):
    bundle = find_model(trained)
    (patch_map, *_) = drain(predict(trained, negatives))
    assert bundle.config.calibration is not None
    assert patch_map.threshold == bundle.threshold == bundle.config.calibration.threshold
    assert find_model(trained, "teacher").threshold == 0.5
    assert patch_map.model["calibration"] == bundle.config.calibration.digest
