"""Slides unlike the training slides are marked, wherever they are predicted."""

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.appearance import FEWEST_PATIENTS
from napari_distill2label.core.events import drain
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.slides.synthetic import write_cohort, write_image
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.train import train

CASES = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny):
    """A run on slides of 12 patients, by the paper's method: its networks are no matter here."""
    folder = tmp_path_factory.mktemp("many")
    cohort = Cohort.read(write_cohort(folder / "data", 2 * CASES, seed=11, shape=(81, 108)))
    settings = tiny(split={"valid": 0.0, "test": 0.0})
    return drain(train(cohort, folder / "run", settings))


@pytest.fixture(scope="module")
def stained(run, tmp_path_factory):
    """A slide like those of the run, as it is and with a stain twice as strong: paths."""
    folder = tmp_path_factory.mktemp("stain")
    table = write_cohort(folder, 1, seed=99, shape=(81, 108))
    (path,) = (row.path for row in Cohort.read(table))
    density = -np.log((tifffile.imread(path).astype(float) + 1) / 256)
    other = folder / "other.ome.tif"
    write_image(other, (256 * np.exp(-2 * density) - 1).clip(0, 255).astype(np.uint8))
    return path, other


def predicted(run, paths, out=None):
    events = []
    maps = drain(predict(run, [str(path) for path in paths], out), events.append)
    unlike = [event.item for event in events if isinstance(event, Notice) and event.code == NoticeCode.UNLIKE]
    return {patch_map.slide_id: patch_map for patch_map in maps}, unlike


def test_a_slide_of_another_stain_is_marked_and_one_of_the_same_is_not(run, stained, tmp_path):
    maps, unlike = predicted(run, stained, tmp_path / "out")
    own, other = maps.values()
    assert own.unlikeness < 1 < other.unlikeness
    assert unlike == [other.slide_id]
    again = PatchMap.open(other.path)
    assert again.unlikeness == other.unlikeness
    # A slide that is predicted already is marked again.
    assert predicted(run, stained, tmp_path / "out")[1] == unlike


def test_the_command_line_says_it(run, stained, tmp_path, cli):
    status, out, err = cli("predict", run.folder, *stained, "-o", tmp_path / "out", "--format", "csv")
    assert status == 0
    first, second = out.splitlines()[-2:]
    assert ", unlikeness 0." in first
    assert float(second.rpartition(" ")[2]) > 1
    assert "unlike the slides that this model was trained on" in err


def test_every_network_of_a_run_knows_how_its_slides_look(run):
    looks = [load_bundle(run.bundle(network)).config.appearance for network in run.models]
    assert looks[0] is not None
    assert looks == looks[:1] * len(looks)
    assert len(looks[0].distances) == 2 * CASES


def test_a_run_of_few_patients_marks_nothing(trained, slides):
    assert len({row.case_id for row in Cohort.read(trained / "cohort.csv")}) < FEWEST_PATIENTS
    maps, unlike = predicted(trained, slides[:1])
    assert unlike == []
    assert [patch_map.unlikeness for patch_map in maps.values()] == [None]
