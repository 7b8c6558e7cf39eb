"""What earlier versions saved is read today: `tests/saved_formats/make.py` made an example of each version."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.events import drain
from napari_distill2label.slides.label_mask import read_label_mask
from napari_distill2label.slides.regions import tissue_from_geojson
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.corrections import read as read_corrections
from napari_distill2label.store.files.outputs import Outputs
from napari_distill2label.store.files.own_groups import is_own_group
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.store.maps.hdf5_places import read_places
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.project_file import project_file_of, read_project_file
from napari_distill2label.store.run import Run
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.corrections import Corrections

SAVED = sorted((Path(__file__).parents[1] / "saved_formats").glob("v*"))
SLIDE = "slide_009"
CLASSES = ("normal", "tumour")


@pytest.fixture(params=SAVED, ids=lambda path: path.name)
def saved(request, tmp_path):
    return Path(shutil.copytree(request.param, tmp_path / "saved"))


@pytest.fixture
def kept(saved):
    return PatchMap.open(saved / "run" / "predictions" / f"{SLIDE}.student.zarr")


def test_there_is_an_example():
    assert SAVED


def test_a_run_predicts_what_it_predicted(saved, kept):
    run = Run.open(saved / "run")
    assert set(run.models) == {"teacher", "student"}
    assert [load_bundle(run.bundle(network), "cpu").config.classes for network in run.models] == [CLASSES, CLASSES]
    (again,) = drain(predict(run.bundle("student"), [saved / "slides" / f"{SLIDE}.ome.tif"]))
    kept.check()
    np.testing.assert_allclose(again.probability, kept.probability, atol=1e-4)
    np.testing.assert_array_equal(again.to_labels(), kept.to_labels())
    assert again.threshold == kept.threshold


@pytest.mark.parametrize("name", [f"{SLIDE}.csv", f"{SLIDE}.geojson", f"{SLIDE}.ome.tif", f"{SLIDE}.ome.zarr"])
def test_labels_come_back(saved, kept, name):
    found = Corrections(saved / "labels" / name).of(SLIDE, kept.patches, CLASSES)
    np.testing.assert_array_equal(found, kept.to_labels()[kept.patches.scored].astype(int) - 1)
    if not name.endswith(("csv", "geojson")):
        assert read_label_mask(saved / "labels" / name).classes[2] == "tumour"


def test_files_are_known_as_ours(saved):
    assert Outputs().standing(saved / "labels" / f"{SLIDE}.geojson", exactly=True) == "ours"
    for group in ("labels/slide_009.ome.zarr", "features/slide_009.zarr", "run/predictions/slide_009.student.zarr"):
        assert is_own_group(saved / group, exactly=True)


def test_corrections_truth_and_centres(saved):
    (found,) = read_corrections(saved / "corrections.csv").values()
    assert found.labels.tolist() == ["tumour", "normal"]
    assert len(read_points(saved / "truth.csv", labelled=True)[SLIDE])
    assert len(read_points(saved / "centres.csv")[SLIDE])


def test_features_and_places(saved, kept):
    features = FeatureMap.open(saved / "features" / f"{SLIDE}.zarr")
    assert features.instances()[1].tolist() == [3, 4, 5]
    pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")
    places = read_places(saved / "places" / f"{SLIDE}_patches.h5").patches
    np.testing.assert_array_equal(places.corners, features.patches.corners)
    assert tissue_from_geojson(saved / "tissue" / f"{SLIDE}.geojson", kept.patches).any()


def test_a_project(saved):
    found = read_project_file(project_file_of(saved / "cohort.csv"))
    assert (found.classes, found.colours["tumour"], found.threshold) == (CLASSES, (200, 30, 40), 0.6)
    assert found.model_path(saved) == saved / "run"
    assert found.files(saved)[SLIDE] == saved / "tissue" / f"{SLIDE}.geojson"
    choices = found.choices(saved)
    assert (choices.preset, choices.settings) == ("colon", {"teacher": {"epochs": 3}})
    assert len(found.cohort(saved).slides) == 10


def test_an_example_that_differs_is_seen(saved, kept):
    labels = kept.to_labels()[kept.patches.scored].astype(int) - 1
    assert UNLABELLED not in labels
    path = saved / "labels" / f"{SLIDE}.geojson"
    path.write_text(path.read_text("utf-8").replace('"name":"tumour"', '"name":"normal"'), "utf-8")
    found = Corrections(path).of(SLIDE, kept.patches, CLASSES)
    assert (found == labels).all() == ((labels == 1).sum() == 0)
