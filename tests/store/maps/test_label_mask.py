"""Masks of unknown origin: read, or refused in one line."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.maps import label_mask
from napari_distill2label.store.maps.label_mask import is_label_mask, read_label_mask


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
    monkeypatch.setattr(label_mask, "_MEMORY_SHARE", 1e-12)
    with pytest.raises(CohortError, match=r"a\.tif: this mask cannot be read \(its 0 GB do not fit into memory"):
        read_label_mask(tmp_path / "a.tif")


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
