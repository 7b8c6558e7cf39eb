"""One label flipped: the run says so. Trained on features, with the method that is recommended."""

import numpy as np
import pytest

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow.commands.train import train

GRID = PatchGrid.over((5 * 27, 5 * 27), PatchSettings(size_px=27))
SLIDES = 24


@pytest.fixture
def folder(tmp_path):
    """Features of slides of which every other one has a finding in a third of its patches."""
    rng = np.random.default_rng(0)
    for number in range(SLIDES):
        found = FeatureMap.open_or_create(tmp_path / "features" / f"s{number}.zarr", GRID, 8, {"encoder": "e"})
        for block in GRID.blocks(1000):
            values = rng.normal(size=(len(block.corners), 8)).astype(np.float32)
            if number % 2:
                values[::3, :4] += 4
            found.write(block, values)
    return tmp_path / "features"


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [None, 4, 7])
def test_the_slide_is_named(folder, tmp_path, wrong):
    labels = [number % 2 != (number == wrong) for number in range(SLIDES)]
    rows = [
        CohortSlide(f"s{n}", folder / f"s{n}.tif", ("normal", "tumour")[label], f"s{n}", None, "train")
        for n, label in enumerate(labels)
    ]
    settings = build_settings(
        "wsi",
        "recommended",
        {
            "architecture": {"hidden_dim": 16, "attention_dim": 8}, "device": "cpu",
            "teacher": {"epochs": 2}, "oof": {"epochs": 12, "learning_rate": 0.01}, "student": {"epochs": 2},
        },
    )  # fmt: skip
    events = []
    work = train(Cohort(tuple(rows), ("normal", "tumour")), tmp_path / "run", settings, inputs=Inputs(features=folder))
    drain(work, events.append)
    said = [event for event in events if isinstance(event, Notice) and event.code is NoticeCode.LABELS_DOUBTED]
    if wrong is None:
        assert said == []
    else:
        (notice,) = said
        assert list(notice.values["names"]) == [f"s{wrong}"]
