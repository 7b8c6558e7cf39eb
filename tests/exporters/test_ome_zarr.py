"""Labels as OME-Zarr, as other programs find them: the specification's models, zarr alone, and dask."""

import json
import shutil

import numpy as np
import pydantic_zarr.v2
import pytest
import zarr
from ome_zarr_models import v04, v05

from napari_distill2label.core.errors import OutputError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters import ome_zarr
from napari_distill2label.exporters.formats import write
from napari_distill2label.exporters.mask import Mask, pyramid_steps
from napari_distill2label.exporters.ome_zarr import LabelMetadata, write_label_zarr
from napari_distill2label.store.files.outputs import Outputs

NAMES = {0: "not scored", 1: "normal", 2: 'Tumör "x"\n'}
COLOURS = {1: (1, 2, 3), 2: (250, 20, 3)}
VERSIONS = ("0.5", "0.4")


# pydantic 2.14 does not find the types that ome-zarr-models 1.6 names
for incomplete in (v04.Image, v04.ImageLabel):
    incomplete.model_rebuild(_types_namespace=vars(pydantic_zarr.v2))


def opened(path, version):
    """The image of the specification's own models, which read every array's metadata."""
    group = zarr.open_group(path, mode="r", zarr_format=3 if version == "0.5" else 2)
    return group, (v05 if version == "0.5" else v04).ImageLabel.from_zarr(group)


def grid_of(shape, patch, stride, origin=(0, 0)):
    return PatchGrid.over(shape, PatchSettings(size_px=patch, stride_px=stride), origin=origin)


@pytest.fixture(params=["grid", "overlapping", "gaps", "points"])
def mask(request):
    rng = np.random.default_rng(0)
    shape = (2500, 1700)
    if request.param == "points":
        patches = PatchPoints.at(rng.uniform(0, 1690, (60, 2)), shape, PatchSettings(size_px=51))
    else:
        side, stride, origin = {"grid": (64, 64, (0, 0)), "overlapping": (27, 20, (5, -3)), "gaps": (30, 41, (7, 2))}[
            request.param
        ]
        patches = grid_of(shape, side, stride, origin)
    return Mask(rng.integers(0, 3, patches.shape).astype(np.uint8), patches)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_pixel_of_every_level(tmp_path, monkeypatch, mask, version):
    monkeypatch.setattr(ome_zarr, "SHARD", 2)  # several shards, and some that reach over the border
    path = drain(write_label_zarr(tmp_path / "a.ome.zarr", mask, LabelMetadata(NAMES, COLOURS), version))
    group, _ = opened(path, version)
    whole = mask.region(0, 0, *mask.shape)
    for number, step in enumerate(pyramid_steps(mask.shape)):
        level = group[str(number)]
        ys, xs = (
            np.minimum(np.arange(size) * step + step // 2, full - 1)
            for size, full in zip(level.shape, mask.shape, strict=True)
        )
        np.testing.assert_array_equal(level[:], whole[np.ix_(ys, xs)])
        np.testing.assert_array_equal(level[600:1100, 500:530], whole[np.ix_(ys, xs)][600:1100, 500:530])
    assert group["0"].shape == mask.shape
    assert str(len(pyramid_steps(mask.shape))) not in group


@pytest.mark.parametrize("version", VERSIONS)
def test_the_metadata_are_those_of_the_specification(tmp_path, version):
    patches = grid_of((2500, 1700), 64, 64)
    metadata = LabelMetadata(NAMES, COLOURS, {1: 7, 2: 9}, (0.5, 0.25), title="S 1", about={"provenance": {"a": 1}})
    mask = Mask(np.ones(patches.shape, np.uint8), patches)
    path = drain(write_label_zarr(tmp_path / "a.ome.zarr", mask, metadata, version))
    group, model = opened(path, version)
    attributes = model.ome_attributes if version == "0.5" else model.attributes
    (multiscale,) = attributes.multiscales
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        ("y", "space", "micrometer"), ("x", "space", "micrometer"),
    ]  # fmt: skip
    first, _, third = multiscale.datasets
    (scale,) = first.coordinateTransformations
    assert list(scale.scale) == [0.5, 0.25]
    scale, moved = third.coordinateTransformations
    assert (list(scale.scale), list(moved.translation)) == ([2, 1], [0.75, 0.375])  # the middle of 4 px is 1.5 px in
    label = attributes.image_label
    assert {colour.label_value: tuple(colour.rgba) for colour in label.colors} == {
        0: (0, 0, 0, 0), 1: (1, 2, 3, 255), 2: (250, 20, 3, 255),
    }  # fmt: skip
    said = json.loads((path / ("zarr.json" if version == "0.5" else ".zattrs")).read_text("utf-8"))
    ngff = said["attributes"]["ome"] if version == "0.5" else said
    assert ngff["image-label"]["properties"] == [
        {"label-value": 0, "class": "not scored"},
        {"label-value": 1, "class": "normal", "patches": 7},
        {"label-value": 2, "class": NAMES[2], "patches": 9},
    ]
    assert group.attrs["napari-distill2label"]["provenance"] == {"a": 1}
    assert group["0"].metadata.zarr_format == (3 if version == "0.5" else 2)


def test_without_a_scale_no_unit_is_claimed(tmp_path):
    patches = grid_of((60, 90), 30, 30)
    path = drain(write_label_zarr(tmp_path / "a.ome.zarr", Mask(np.ones((2, 3), np.uint8), patches), LabelMetadata({})))
    (multiscale,) = opened(path, "0.5")[1].ome_attributes.multiscales
    assert [axis.unit for axis in multiscale.axes] == [None, None]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_scored_takes_no_space(tmp_path, version):
    patches = grid_of((20_000, 20_000), 100, 100)
    mask = Mask(np.zeros(patches.shape, np.uint8), patches)
    path = drain(write_label_zarr(tmp_path / "a.ome.zarr", mask, LabelMetadata(NAMES), version))
    assert {file.name for file in path.rglob("*") if file.is_file()} <= {"zarr.json", ".zattrs", ".zgroup", ".zarray"}
    assert not opened(path, version)[0]["3"][:].any()


def test_an_export_names_model_slide_and_day(tmp_path, new_map):
    patch_map = new_map(
        grid_of((60, 90), 30, 30), slide=SlideInfo("S-1", mpp=(0.5, 0.5)), model={"weights_sha256": "ab"}
    )
    (path,) = write(patch_map, tmp_path, ["ome-zarr"], colours={"tumour": (9, 8, 7)})
    group, model = opened(path, "0.5")
    about = group.attrs["napari-distill2label"]["provenance"]
    assert (about["slide_id"], about["weights_sha256"], about["date"]) == ("S-1", "ab", patch_map.date)
    assert {c.label_value: tuple(c.rgba) for c in model.ome_attributes.image_label.colors}[2] == (9, 8, 7, 255)
    assert dict(np.ndenumerate(group["0"][::30, ::30])) == dict(np.ndenumerate(patch_map.to_labels()))
    assert [entry["patches"] for entry in group.attrs["ome"]["image-label"]["properties"][1:]] == [3, 3]


def test_of_several_findings_each_has_a_folder(tmp_path, new_map):
    patch_map = new_map(grid_of((60, 90), 30, 30), classes=("normal", "a", "b"), multi_label=True)
    paths = write(patch_map, tmp_path, ["zarr"])
    assert [path.name for path in paths] == ["slide 1_a.ome.zarr", "slide 1_b.ome.zarr"]
    assert {c.label_value for c in opened(paths[1], "0.5")[1].ome_attributes.image_label.colors} == {0, 1, 3}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_that_somebody_changed_is_never_replaced(tmp_path, new_map, version):
    patch_map, form = new_map(grid_of((600, 900), 30, 30)), {"0.5": "ome-zarr", "0.4": "ome-zarr-0.4"}[version]

    def export():
        with Outputs(overwrite=True) as outputs:
            return write(patch_map, tmp_path, [form], writing=outputs.writing)

    (path,) = export()
    assert export() == [path]  # ours, unchanged
    group = zarr.open_group(path, mode="r+")
    group["0"][10:40, 10:40] = 2  # a correction, of the same size
    before = group["0"][:]
    with pytest.raises(OutputError, match="changed since"):
        export()
    np.testing.assert_array_equal(group["0"][:], before)
    shutil.rmtree(path)
    export()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="changed since"):
        export()


def test_closing_it_leaves_nothing(tmp_path):
    patches = grid_of((20_000, 20_000), 100, 100)
    work = write_label_zarr(tmp_path / "a.ome.zarr", Mask(np.ones(patches.shape, np.uint8), patches), LabelMetadata({}))
    events = [next(work) for _ in range(5)]
    assert [event.step for event in events] == sorted({event.step for event in events})
    work.close()
    assert list(tmp_path.iterdir()) == []
