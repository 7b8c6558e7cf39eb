"""Write one small example of all that this version saves, from a drawn cohort: python tests/saved_formats/make.py

Run it once for each released version, before its formats change, and keep what it writes: `test_saved_formats` loads
the examples of every version, so that a change that can read them no longer is seen.
"""

import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from napari_distill2label.cli.main import main
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.store.maps.hdf5_places import write_places
from napari_distill2label.store.project_file import SavedChoices, project_file_of, to_project_file, write_project_file

HERE = Path(__file__).parent
TINY = ["--architecture.hidden_dim=8", "--architecture.attention_dim=4", "--teacher.epochs=1", "--oof.epochs=1",
        "--student.epochs=1", "--device=cpu"]  # fmt: skip
SLIDE = "slide_009"
CLASSES = ("normal", "tumour")


def make(folder: Path) -> None:
    """Write the examples into a new folder."""
    with tempfile.TemporaryDirectory(prefix="saved-formats-") as name:
        place = Path(name)
        write_cohort(place, 10, seed=3, shape=(112, 128))
        run, out = place / "run", place / "labels"
        _call("train", place / "cohort.csv", "-o", run, *TINY)
        slide = next((place / "slides").glob(f"{SLIDE}.*"))
        _call("predict", run, slide, "-o", out, "--format", "csv,geojson,ome-tiff,ome-zarr")
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        _call("segment-tissue", slide, "-o", place / "tissue")
        _write_features(place)
        (place / "corrections.csv").write_text(f"slide_id,x,y,label\n{SLIDE},13,13,tumour\n{SLIDE},40,13,normal\n")
        _write_project(place)
        shutil.copytree(place, folder, ignore=_only(slide.name))


def _call(*arguments: object) -> None:
    if status := main([str(argument) for argument in arguments]):
        raise SystemExit(status)


def _write_features(place: Path) -> None:
    grid = PatchGrid.over((112, 128), PatchSettings(size_px=27))
    features = FeatureMap.open_or_create(place / "features" / f"{SLIDE}.zarr", grid, 3, {"encoder": "e"})
    for block in grid.blocks(1000):
        features.write(block, np.arange(3 * len(block.corners), dtype=np.float32).reshape(-1, 3))
    write_places(place / "places" / f"{SLIDE}_patches.h5", grid, SLIDE)


def _write_project(place: Path) -> None:
    cohort = Cohort.read(place / "cohort.csv")
    saved = to_project_file(
        place, classes=CLASSES, slides=cohort.slides, colours={"tumour": (200, 30, 40)}, threshold=0.6,
        signature=None, corrections=place / "corrections.csv", tissue={SLIDE: place / "tissue" / f"{SLIDE}.geojson"},
        use_tissue=True, choices=SavedChoices("colon", "recommended", {"teacher": {"epochs": 3}}),
        model=place / "run", network="student",
    )  # fmt: skip
    write_project_file(project_file_of(place / "cohort.csv"), saved.model_copy(update={"saved_at": datetime.now(UTC)}))


def _only(slide: str):
    """Leave out the other slides, and what is no format: locks and records."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if (Path(folder).name == "slides" and name != slide) or name.endswith(".lock")}

    return ignored


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / f"v{version('napari-distill2label')}")
