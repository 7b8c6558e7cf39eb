"""Shared by all tests: real data where it is, a synthetic cohort everywhere."""

import os
from pathlib import Path

# Before torch is imported, and for the processes that tests start: their networks are so small that threads would
# only wait for one another, and sums are repeatable bit for bit only with the same number of them.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images (`D2L_DATA`). Tests that need it are skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("D2L_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set D2L_DATA to the folder that holds colon/, breast/ and slides/")
    return folder


@pytest.fixture(scope="session")
def synthetic_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of a small synthetic cohort (with truth.csv and centres.csv beside it); do not write to its folder."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(tmp_path_factory.mktemp("cohort"), n_slides=12, seed=3, shape=(192, 192))
