"""Networks by the names that the window shows."""

import pytest

from napari_distill2label.core.events import EpochEnd, Progress, Task
from napari_distill2label.core.network_names import in_words
from napari_distill2label.gui.runner.jobs import Job


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("oof-12", "helper model 12"),
        ("baseline", "baseline"),
        ("student", "student"),
        ("oof-x", "oof-x"),
    ],
)
def test_in_words(name, expected):
    assert in_words(name) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (EpochEnd("oof-2", 1, 5, {}, {}, best=True), "helper model 2: epoch 1 of 5"),
        (Progress(Task.TRAIN, 1, 2, "oof-2", 1, 5), "helper model 2: epoch 1 of 5"),
        (Progress(Task.COMPUTE_TARGETS, 1, 2, "teacher"), "Teacher scores the slides"),
        (Progress(Task.PREDICT, 1, 2, "oof-2"), "predicting oof-2"),  # a slide
    ],
)
def test_what_a_job_does(event, expected):
    job = Job("train", "Training")
    job._take(event)
    assert job.phase == expected
