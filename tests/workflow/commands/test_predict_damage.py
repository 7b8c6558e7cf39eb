"""`predict` of what is damaged, vanishes, or finds no room: one plain line each, nothing lost, the rest goes on."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import ItemDone, ItemFailed, ItemStarted, Progress, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.inference import engine
from napari_distill2label.slides.synthetic import draw_slide
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.slide_predictor import check_patches


@pytest.fixture
def tiled(tmp_path):
    """`tiled("name", side)` -> a slide of JPEG tiles of 128 px at 0.5 µm/px."""

    def make(name, side_px=540):
        path = tmp_path / f"{name}.tif"
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                draw_slide(5, True, (side_px, side_px)).image, tile=(128, 128), photometric="rgb",
                compression="jpeg", resolution=(20_000, 20_000), resolutionunit="CENTIMETER",
            )  # fmt: skip
        return path

    return make


def spoil_tile(path, index):
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[index], tiff.pages[0].databytecounts[index]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\0" * count)


def test_a_damaged_tile_leaves_out_its_patches_alone(trained, tiled, slides, tmp_path, cli, table):
    path = tiled("damaged")
    (whole,) = drain(predict(trained, [path]))
    spoil_tile(path, 6)  # of 5 × 5: level-0 x 128 to 256, y 128 to 256
    for _ in range(2):  # the second time the map is there, and still says so
        status, said, err = cli("predict", trained, path, slides[0], "-o", tmp_path / "out")
        assert status == 1
        assert [line.split(":")[0] for line in said.splitlines()] == ["damaged", "slide_000"]
        assert "damaged at level-0 x=128, y=128, 128 × 128 px: 36 of 400 patches cannot be read" in err
        assert "Traceback" not in err
    kept = PatchMap.open(trained / "predictions" / "damaged.student.zarr")
    rows, cols = np.nonzero(kept.failed)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (4, 9, 4, 9)  # patches of 27 px that touch the tile
    assert kept.failed.sum() == 36
    assert (kept.to_labels()[kept.failed] == 0).all()
    assert (kept.to_labels()[~kept.failed] > 0).all()
    # Probabilities next to the damage have a smaller context; a logit is of the patch alone.
    np.testing.assert_allclose(kept.logit[~kept.failed], whole.logit[~kept.failed], atol=1e-5)
    assert len(table(tmp_path / "out" / "damaged.csv")) == 364
    with tifffile.TiffFile(tmp_path / "out" / "damaged.ome.tif") as mask:
        labels = mask.series[0].levels[0].asarray()
    assert not labels[110:270, 110:270].any()
    assert labels[:100].all()


def test_a_slide_that_vanishes_goes_on_when_it_is_back(trained, tiled, slides, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 4 * 27**2)
    path = tiled("net drive")
    (expected,) = drain(predict(trained, [path]))
    work, events = predict(trained, [path, slides[0]], tmp_path / "out", formats=["csv"]), []
    for event in work:
        events.append(event)
        if isinstance(event, Progress) and event.step >= 40 and path.exists():
            path.rename(tmp_path / "elsewhere.tif")
    (failed,) = [event for event in events if isinstance(event, ItemFailed)]
    assert failed.item == "net drive"
    assert str(path) in str(failed.error)
    assert [event.item for event in events if isinstance(event, ItemDone)] == ["slide_000"]
    begun = PatchMap.open(trained / "predictions" / "net drive.student.zarr")
    assert 40 <= begun.scored.sum() < 400
    assert not begun.failed.any()  # gone is not damaged
    (tmp_path / "elsewhere.tif").rename(path)
    (resumed,) = drain(predict(trained, [path], tmp_path / "out", formats=["csv"]))
    np.testing.assert_array_equal(resumed.probability, expected.probability)


@pytest.mark.parametrize(
    ("side_px", "room"), [(1100, 8_000), pytest.param(540, 25_000, marks=pytest.mark.long)], ids=["map", "table"]
)
def test_no_room_on_the_disk(trained, tiled, slides, tmp_path, side_px, room):
    """No file may grow beyond `room`: of the first slide a chunk of the map does, or its table; of the second none."""
    arguments = ["predict", trained, tiled("large", side_px), slides[0], "-o", tmp_path / "out", "--format", "csv"]
    command = [sys.executable, "-m", "napari_distill2label.cli", *map(str, arguments)]

    def start(**limits):
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **limits)

    full = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    listed = full.stderr[full.stderr.index("1 failed. The others are done.") :].splitlines()[1:]
    assert len(listed) == 1
    assert listed[0].startswith("  large: ")
    assert "no room left" in listed[0]
    assert [path.name for path in (tmp_path / "out").glob("[!.]*.csv")] == ["slide_000.csv"]
    kept = PatchMap.open(trained / "predictions" / "large.student.zarr")  # what is there is whole
    assert kept.is_complete == (side_px == 540)
    assert start().returncode == 0
    assert (tmp_path / "out" / "large.csv").is_file()
    assert PatchMap.open(trained / "predictions" / "large.student.zarr").is_complete


def spoil_array(patch_map, name):
    """Alter a byte of an array on the disk."""
    chunk = next(file for file in sorted((patch_map / name / "c").rglob("*")) if file.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0xFF
    chunk.write_bytes(data)


@pytest.mark.parametrize("name", ["probability", "logit", "attention", "contribution"])
def test_a_finished_map_that_is_damaged_is_made_anew(trained, slides, tmp_path, cli, name):
    asked = ["predict", trained, *slides[:2], "-o", tmp_path / "out", "--format", "csv"]
    assert cli(*asked)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")}
    spoil_array(trained / "predictions" / "slide_000.student.zarr", name)
    status, said, err = cli(*asked)
    assert status == 0, err
    assert [line.split(":")[0] for line in said.splitlines()] == ["slide_000", "slide_001"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")} == before


def test_a_map_that_is_damaged_while_it_is_made_fails_alone_and_is_made_anew(trained, slides, tmp_path):
    begun, events = [], []
    for event in predict(trained, slides[:2], tmp_path / "out", formats=["csv"]):
        events.append(event)
        if isinstance(event, ItemStarted):
            begun.append(event.result)
        if len(begun) == 1 and isinstance(event, Progress) and 0 < event.step == event.total:
            spoil_array(begun[0].path, "logit")  # what is not made of others at the end
    (failed,) = [event for event in events if isinstance(event, ItemFailed)]
    assert failed.item == "slide_000"
    assert "'logit' is damaged" in str(failed.error)
    assert [event.item for event in events if isinstance(event, ItemDone)] == ["slide_001"]
    (anew,) = drain(predict(trained, slides[:1], tmp_path / "out", formats=["csv"]))
    (whole,) = drain(predict(trained, slides[:1]))
    np.testing.assert_array_equal(anew.probability, whole.probability)


def test_closing_stops_within_a_second_and_keeps_what_is_done(trained, tiled, monkeypatch, tmp_path):
    import time

    monkeypatch.setattr(engine, "BLOCK_PIXELS", 4 * 27**2)
    work = predict(trained, [tiled("large", 1100)], tmp_path / "out", formats=["csv"])
    while not (isinstance(event := next(work), Progress) and event.step >= 100):
        pass
    start = time.monotonic()
    work.close()
    assert time.monotonic() - start < 1 + engine.PATIENCE  # a block being computed is waited for, not longer
    assert 100 <= PatchMap.open(trained / "predictions" / "large.student.zarr").scored.sum() < 1681


def test_fluorescence_is_predicted_only_if_allowed(trained, data_dir, tmp_path, cli):
    slide = data_dir / "slides" / "hamamatsu_test3-DAPI-2-387.ndpi"
    rest = ["predict", trained, slide, "-o", tmp_path / "out", "--format", "csv,png"]
    status, said, err = cli(*rest)
    assert (status, said) == (1, "")
    assert "not" in err
    assert "brightfield" in err
    assert "--allow-non-brightfield" in err
    status, said, err = cli(*rest, "--allow-non-brightfield")
    assert status == 0, err
    assert said.startswith("hamamatsu_test3-DAPI-2-387: normal ")
    assert sorted(file.suffix for file in (tmp_path / "out").glob("[!.]*")) == [".csv", ".json", ".png"]


def test_a_patch_of_too_few_pixels_cannot_have_the_model_s_scale(tmp_path, slides):
    from napari_distill2label.slides.registry import open_slide

    with open_slide(slides[0], 0.5) as slide:
        check_patches(slide, PatchGrid.over(slide.shape, PatchSettings(size_px=4, mpp=0.5), slide.mpp))
        with pytest.raises(SlideError, match="larger patches"):  # 4.56 px would be right, and 5 are 10 % more
            check_patches(slide, PatchGrid.over(slide.shape, PatchSettings(size_px=4, mpp=0.57), slide.mpp))


def test_a_map_that_does_not_fit_on_the_disk_is_one_line_and_goes_on(trained, slides, tmp_path, small_disk, cli):
    """As far as it has come the map is whole: the same command goes on from there."""
    import shutil
    import subprocess

    shutil.copytree(trained / "student", tmp_path / "model")
    folder = small_disk(20_000)
    asked = ["predict", tmp_path / "model", *slides[:2], "-o", folder, "--format", "csv"]
    status, _, err = cli(*asked)
    assert status == 1
    assert "no room left" in err
    (folder / "filling").unlink()
    assert subprocess.run(["mount", "-o", "remount,size=64m", folder]).returncode == 0
    status, _, err = cli(*asked)
    assert (status, err) == (0, "")
    assert not list(folder.rglob("*.partial"))
