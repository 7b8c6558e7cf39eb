"""Masks of unknown origin: read, or refused in one line."""

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.slides import tiled_labels
from napari_distill2label.slides.label_mask import is_label_mask, read_label_mask, reduction


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [("0.5", "µm", 0.5), ("250", "nm", 0.25), ("0", "µm", None), ("x", "µm", None),
     ("1", "pixel", None), ("-1", "µm", None)],
)  # fmt: skip
def test_any_text_for_a_scale_is_read(tmp_path, labels, size, unit, mpp):
    path = tmp_path / "a.ome.tif"
    sizes = {f"PhysicalSize{axis}{part}": value for axis in "XY" for part, value in (("", size), ("Unit", unit))}
    tifffile.imwrite(path, labels, metadata={"axes": "YX", **sizes})
    mask = read_label_mask(path)
    assert mask.mpp == (mpp and pytest.approx((mpp, mpp)))
    assert np.array_equal(mask.labels, labels)


def test_masks_with_a_palette_are_their_numbers(tmp_path, labels):
    image = Image.fromarray(labels, "P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_label_mask(tmp_path / "a.png").labels, labels)


def test_a_mask_that_does_not_fit_into_memory_is_said_before_it_is_read(tmp_path, labels, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", labels)
    Image.fromarray(labels).save(tmp_path / "a.png")
    monkeypatch.setattr(tiled_labels, "_MEMORY_SHARE", 1e-12)
    for name in ("a.tif", "a.png"):
        with pytest.raises(CohortError, match=rf"{name}: this mask cannot be read \(its 0 GB do not fit into memory"):
            _ = read_label_mask(tmp_path / name).labels
    assert np.array_equal(read_label_mask(tmp_path / "a.tif").pixels.read(5, 6, 7, 8), labels[5:12, 6:14])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        b"II*\0\x08\0\0\0\x01\0",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage",
        b"\0" * 999,
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.ome.tif"])
def test_what_is_no_picture_is_one_plain_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert not is_label_mask(tmp_path / name)
    with pytest.raises(CohortError, match=rf"{name}: this mask cannot be read \(.+\)") as error:
        read_label_mask(tmp_path / name)
    assert "\n" not in str(error.value)


def test_ome_xml_that_never_ends(tmp_path, labels):
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        + "<a>" * 10**6
        + "</OME>"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", labels, description=xml, metadata=None)
    with pytest.raises(CohortError, match=r"nested more than 100 levels deep"):
        read_label_mask(tmp_path / "a.ome.tif")


def test_an_error_without_words_is_named_by_its_kind(tmp_path, labels, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    tifffile.imwrite(tmp_path / "a.tif", labels)
    monkeypatch.setattr(tifffile, "TiffFile", fail)
    with pytest.raises(CohortError, match=r"a\.tif: this mask cannot be read \(MemoryError\)"):
        read_label_mask(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1000, 1603), (1, 1)),
        ((500, 802), (2, 2)),  # rounded up
        ((500, 801), (2, 2)),  # or down
        ((62, 100), (16, 16)),
        ((100, 160), (10, 10)),
        ((300, 481), (1000 / 300, 1603 / 481)),  # as another program scales it
        ((999, 1603), None),
        ((1001, 1604), None),
        ((500, 900), None),
        ((2000, 3206), None),
    ],
)
def test_how_far_a_mask_is_reduced(shape, expected):
    assert reduction(shape, (1000, 1603)) == (expected and pytest.approx(expected))


class TestOMEZarr:
    @pytest.fixture(params=[3, 2])
    def folder(self, request, tmp_path, labels):
        group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=request.param)
        group.create_array("0", data=labels[None], chunks=(1, 16, 16))
        ngff = {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": [{"name": "z", "type": "space"}]
                    + [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "yx"],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [1, 500, 250]},
                                {"type": "translation", "translation": [0, 3000, 0]},
                            ],
                        }
                    ],
                }
            ],
            "image-label": {
                "colors": [{"label-value": 1, "rgba": [1, 2, 3, 255]}],
                "properties": [{"label-value": 1, "name": "gland"}, {"label-value": 2, "area": 3}],
            },
        }
        group.attrs.update({"ome": ngff} if request.param == 3 else ngff)
        return tmp_path / "a.ome.zarr"

    def test_labels_scale_place_names_and_colours(self, folder, labels):
        mask = read_label_mask(folder)
        assert np.array_equal(mask.labels, labels)
        assert mask.mpp == pytest.approx((0.5, 0.25))
        assert mask.position == (3, 0)
        assert (mask.classes, mask.colours) == ({1: "gland"}, {1: (1, 2, 3)})
        assert not is_label_mask(folder)

    def test_what_is_no_label_image_is_one_line(self, folder, tmp_path):
        group = zarr.open_group(folder, mode="r+")
        group.create_array("1", data=np.zeros((2, 4, 4), np.uint8))
        text = next(file for file in (folder / "zarr.json", folder / ".zattrs") if file.exists())
        text.write_text(text.read_text().replace('"path": "0"', '"path": "1"').replace('"path":"0"', '"path":"1"'))
        with pytest.raises(CohortError, match=r"a\.ome\.zarr: this mask cannot be read \(its axes are zyx"):
            read_label_mask(folder)
        zarr.open_group(tmp_path / "b.zarr", mode="w")
        with pytest.raises(CohortError, match=r"b\.zarr: this mask cannot be read \(holds no OME-Zarr image"):
            read_label_mask(tmp_path / "b.zarr")
