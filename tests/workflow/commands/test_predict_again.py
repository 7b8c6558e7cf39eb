"""Predicting again: what is kept goes on where it stopped, and what no longer holds is made anew."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from napari_distill2label.core.errors import SettingsError, SlideError
from napari_distill2label.core.events import ItemFailed, Progress, drain
from napari_distill2label.inference import engine
from napari_distill2label.slides.synthetic import write_image
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.predict import predict


@pytest.fixture
def count_patches(monkeypatch):
    """Numbers of patches that the network is shown, call by call; blocks hold one patch."""
    from napari_distill2label.inference.classifier import PatchClassifier

    counts, ask = [], PatchClassifier.__call__
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 27**2)
    monkeypatch.setattr(
        PatchClassifier, "__call__", lambda self, patches: counts.append(len(patches)) or ask(self, patches)
    )
    return counts


def test_an_interrupted_prediction_goes_on(trained, slides, tmp_path, collect, count_patches):
    expected = collect(predict(trained, slides[1:2]))[1][0]
    del count_patches[:]
    work = predict(trained, slides[1:2], tmp_path / "out", formats=["csv"])
    for event in work:
        if isinstance(event, Progress) and event.step >= 8:
            break
    work.close()
    begun = PatchMap.open(trained / "predictions" / "slide_001.student.zarr")
    assert not begun.is_complete
    assert 8 <= int(begun.scored.sum()) == sum(count_patches) < 20
    assert not (tmp_path / "out").exists()
    (resumed,) = collect(predict(trained, slides[1:2], tmp_path / "out", formats=["csv"]))[1]
    assert sum(count_patches) == 20
    np.testing.assert_array_equal(resumed.probability, expected.probability)
    np.testing.assert_array_equal(resumed.attention, expected.attention)
    assert resumed.bag_probability == expected.bag_probability
    collect(predict(trained, slides[1:2], tmp_path / "out", formats=["csv"]))
    assert sum(count_patches) == 20  # a finished one is only written again


@pytest.mark.parametrize("change", ["slide", "weights", "grid", "damage"])
def test_a_prediction_of_something_else_is_made_anew(
    trained, shared_run, slides, tmp_path, collect, count_patches, change
):
    slide = tmp_path / slides[0].name
    shutil.copy(slides[0], slide)
    collect(predict(trained, [slide], tmp_path / "out", formats=["csv"]))
    kept, extra = trained / "predictions" / "slide_000.student.zarr", {}
    if change == "slide":
        write_image(slide, tifffile.imread(slides[1]))
    elif change == "weights":
        from napari_distill2label.workflow.commands.train import train

        (trained / "checkpoints" / "student.safetensors").unlink()
        settings = json.loads((trained / "settings.json").read_text())
        settings["settings"]["student"]["learning_rate"] = 0.01
        del settings["sha256"]  # as somebody does who changes it on purpose
        (trained / "settings.json").write_text(json.dumps(settings))
        drain(train(Cohort.read(trained / "cohort.csv"), trained, resume=True))
    elif change == "grid":
        extra["dense_stride"] = 20
    else:
        (kept / "zarr.json").write_text("{")
    del count_patches[:]
    (patch_map,) = collect(predict(trained, [slide], tmp_path / "out", formats=["csv"], **extra))[1]
    # A dense map is made without cutting a patch, unless its patches share too little.
    assert sum(count_patches) == (0 if change == "grid" else patch_map.patches.scored.sum())
    assert PatchMap.open(kept).is_complete
    assert PatchMap.open(kept).patches.stride == (20 if change == "grid" else 27)


def test_a_damaged_part_of_a_kept_map_is_no_silent_hole(trained, slides, tmp_path, cli):
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out", "--format", "csv"]
    assert cli(*rest)[0] == 0
    whole = (tmp_path / "out" / "slide_000.csv").read_bytes()
    kept = trained / "predictions" / "slide_000.student.zarr"
    group = zarr.open_group(kept, mode="r+")
    group["probability"][0] = np.nan
    status, _, err = cli(*rest)
    assert status == 0, err
    assert (tmp_path / "out" / "slide_000.csv").read_bytes() == whole
    assert np.isfinite(PatchMap.open(kept).probability).all()


def test_memory_only_in_python(trained, slides, collect):
    with pytest.raises(SettingsError):
        drain(predict(trained, slides[:1], formats=["doc"]))
    events, maps = collect(predict(trained, slides[:2]))
    assert len(maps) == 2
    assert all(patch_map.path is None and patch_map.is_complete for patch_map in maps)
    assert not any(isinstance(event, ItemFailed) for event in events)
    assert SlideError.exit_status == 1


def test_two_slides_of_one_name_keep_a_map_each(trained, slides, tmp_path, cli):
    other = tmp_path / "elsewhere" / slides[0].name
    other.parent.mkdir()
    other.write_bytes(slides[1].read_bytes())
    for slide in (slides[0], other):
        assert cli("predict", trained, slide, "-o", tmp_path / "out", "--format", "csv")[0] == 0
    maps = [PatchMap.open(path) for path in sorted((trained / "predictions").iterdir())]
    assert {each.slide.path for each in maps} == {str(slides[0]), str(other)}
    assert len({each.slide_id for each in maps}) == 1
