"""Slides that no run has learnt from, predicted in a session."""

from dataclasses import replace
from pathlib import Path

import pytest

from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort

from ..conftest import open_cohort


def unseen_cohort(folder: Path, n_slides: int) -> Cohort:
    """Drawn slides, the last half negative, each of a patient of its own."""
    cohort = Cohort.read(write_cohort(folder, n_slides, seed=9, shape=(135, 162)))
    rows = [replace(row, slide_id=f"new_{row.slide_id}", case_id=f"new {row.slide_id}") for row in cohort]
    return cohort.with_slides(rows).with_classes()


@pytest.fixture
def predicted(session, run_folder, new_slides):
    """The session with a run, and the `new_slides` of the test predicted."""
    session.load_model(run_folder)
    open_cohort(session, new_slides)
    session.predict()
    return session
