from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import SlideError
from napari_distill2label.slides import open_slide


def write(path: Path, image: np.ndarray, axes: str, version: str = "0.5", unit: str | None = "micrometer", **extra):
    """Write two levels of (y, x, 3) pixels in the given order of axes, at 0.5 × 0.25 µm (y, x)."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for index, level in enumerate((image, image[::2, ::2])):
        shaped = np.moveaxis(level, -1, 0)[None, :, None]  # t, c, z, y, x
        order = ["tczyx".index(axis) for axis in axes]
        dropped = tuple(i for i in range(5) if i not in order)
        data = np.transpose(np.squeeze(shaped, dropped), [sorted(order).index(i) for i in order])
        array = group.create_array(f"s{index}", data=data, chunks=tuple(min(64, size) for size in data.shape))
        assert array.shape == data.shape
        scale = [{"y": 0.25, "x": 0.125}.get(axis, 1.0) * (2**index if axis in "yx" else 1) for axis in axes]
        datasets.append({"path": f"s{index}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": axis, "type": kinds.get(axis, "space"), **({"unit": unit} if unit and axis in "yx" else {})}
                 for axis in axes]  # fmt: skip
    whole = [{"type": "scale", "scale": [2.0] * len(axes)}]
    metadata = {"multiscales": [{"axes": described, "datasets": datasets, "coordinateTransformations": whole}], **extra}
    group.attrs.update({"ome": {"version": "0.5", **metadata}} if version == "0.5" else metadata)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "cyx", "yxc"])
def test_pixels_levels_and_mpp(tmp_path, pixels, axes, version):
    path = tmp_path / "Präparat 3.ome.zarr"
    write(path, pixels, axes, version)
    with open_slide(path) as slide:
        assert slide.name == "Präparat 3"
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert slide.downsamples == (1.0, 2.0)
        assert np.array_equal(slide.levels[0].compute(), pixels)
        assert np.array_equal(slide.read(1, 3, 4, 20, 30), pixels[::2, ::2][3:23, 4:34])


def test_without_a_unit_the_mpp_is_unknown(tmp_path, pixels):
    write(tmp_path / "a.zarr", pixels, "cyx", unit=None)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.mpp is None


def test_grey_is_repeated(tmp_path, pixels):
    write(tmp_path / "a.zarr", pixels[..., :1], "cyx")
    with open_slide(tmp_path / "a.zarr") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels[..., [0, 0, 0]])


def test_the_first_image_of_a_bioformats2raw_folder(tmp_path, pixels):
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write(tmp_path / "a.zarr" / "0", pixels, "tczyx", "0.4")
    with open_slide(tmp_path / "a.zarr") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_what_is_not_brightfield_is_said(tmp_path, pixels):
    write(tmp_path / "deep.zarr", pixels.astype(np.uint16), "cyx")
    with pytest.raises(SlideError, match=r"not an 8-bit RGB brightfield image .*uint16"):
        open_slide(tmp_path / "deep.zarr")
    write(
        tmp_path / "f.zarr", pixels, "cyx", omero={"channels": [{"color": c} for c in ("0000FF", "00FF00", "FF00FF")]}
    )
    with pytest.raises(SlideError, match=r"not an 8-bit RGB brightfield image .*FF00FF"):
        open_slide(tmp_path / "f.zarr")


def test_a_folder_that_is_no_image(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(SlideError, match="holds no OME-Zarr image"):
        open_slide(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(SlideError, match=r"b\.zarr: cannot be read"):
        open_slide(tmp_path / "b.zarr")
