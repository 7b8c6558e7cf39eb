import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.cutting import cut


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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A web server of the test's folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_over_http(tmp_path, pixels, server, version):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install -e '.[slides]'")
    write(tmp_path / "a.ome.zarr", pixels, "cyx", version)
    url = f"http://127.0.0.1:{server.server_port}/a.ome.zarr"
    with open_slide(url) as slide:
        assert (slide.name, slide.path, slide.shape) == ("a", url, pixels.shape[:2])
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert np.array_equal(slide.levels[0].compute(), pixels)
        assert np.array_equal(slide.read(1, 3, 4, 20, 30), pixels[::2, ::2][3:23, 4:34])
        patches = cut(slide, np.array([(5, 9), (60, 100)]), 32, 32)
        assert np.array_equal(patches[1].transpose(1, 2, 0), pixels[60:92, 100:132])
        server.shutdown()
        server.server_close()
        with pytest.raises(SlideError, match="can no longer be read") as error:
            slide.read(0, 64, 64, 20, 20)
        assert not isinstance(error.value, TileError)


def test_a_url_that_answers_nothing(tmp_path, server):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install -e '.[slides]'")
    with pytest.raises(SlideError, match=r"b\.ome\.zarr: no OME-Zarr folder is there: check the URL"):
        open_slide(f"http://127.0.0.1:{server.server_port}/b.ome.zarr")


def test_s3_says_what_to_install():
    if find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(SlideError, match=r"s3://bucket/a\.zarr: reading it over the network needs: pip install s3fs"):
        open_slide("s3://bucket/a.zarr")


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
