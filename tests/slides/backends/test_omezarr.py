import json
import subprocess
import sys
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
from napari_distill2label.core.notices import Notice, NoticeCode
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


@pytest.mark.slow
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


def rewrite(path: Path, change) -> None:
    """Change the metadata of an image of version 0.5."""
    group = zarr.open_group(path)
    ome = dict(group.attrs["ome"])
    change(ome)
    group.attrs["ome"] = ome


def test_levels_may_be_listed_in_any_order(tmp_path, pixels):
    path = tmp_path / "a.zarr"
    write(path, pixels, "yxc")
    rewrite(path, lambda ome: ome["multiscales"][0]["datasets"].reverse())
    with open_slide(path) as slide:
        assert (slide.shape, slide.downsamples) == (pixels.shape[:2], (1.0, 2.0))
        assert slide.mpp == pytest.approx((0.5, 0.25))
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


@pytest.mark.parametrize("colors", [("#FF0000", "#00FF00", "#0000FF"), ("ff0000", "00ff00", "0000ff"),
                                    ("#ff0000ff", "#00ff00ff", "#0000ffff"), ("", None, "")])  # fmt: skip
def test_red_green_and_blue_in_every_spelling(tmp_path, pixels, colors):
    write(tmp_path / "a.zarr", pixels, "cyx", omero={"channels": [{"color": color} for color in colors]})
    with open_slide(tmp_path / "a.zarr") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)


def test_what_is_transparent_lies_on_white(tmp_path, pixels):
    opacity = np.random.default_rng(3).integers(0, 256, pixels.shape[:2], np.uint8)
    opacity[:40], opacity[40:80] = 0, 255
    write(tmp_path / "a.zarr", np.dstack([pixels, opacity]), "cyx")
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.notices[0] == Notice(NoticeCode.OPACITY_CHANNEL)
        shown = slide.read(0, 0, 0, *slide.shape)
    share = opacity[..., None] / 255
    assert (shown[:40] == 255).all()
    assert np.array_equal(shown[40:80], pixels[40:80])
    assert np.abs(shown - (pixels * share + 255 * (1 - share))).max() <= 1


def as_others_write(path: Path, image: np.ndarray, **how) -> None:
    """One level in zarr's format 2, as wsic and tifffile write it."""
    group = zarr.create_group(path, zarr_format=2, overwrite=True)
    group.create_array("0", shape=image.shape, chunks=(64, 64, 3), dtype="u1", **how)[...] = image
    group.attrs["multiscales"] = [{"version": "0.4", "axes": list("yxc"), "datasets": [{"path": "0"}]}]


@pytest.mark.parametrize(
    ("codec", "options", "far"),
    [("Jpeg", {"level": 95}, 12), ("Jpeg2k", {"level": 0}, 0), ("Webp", {"lossless": True}, 0), ("Png", {}, 0),
     ("Jpegxl", {"lossless": True}, 0), ("Zstd", {}, 0)],
)  # fmt: skip
def test_chunks_packed_by_imagecodecs(tmp_path, codec, options, far):
    import imagecodecs.numcodecs

    y, x = np.mgrid[:128, :192]
    image = np.stack([x, y, 200 - x], axis=-1).astype(np.uint8)
    path = tmp_path / "a.zarr"
    as_others_write(path, image, compressors=getattr(imagecodecs.numcodecs, codec)(**options))
    code = (  # in a process that has not registered the codec, as this one may have
        "import sys, numpy as np; from napari_distill2label.slides import open_slide\n"
        "slide = open_slide(sys.argv[1]); np.save(sys.argv[2], slide.read(0, 0, 0, *slide.shape))"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "a.npy"], check=True, timeout=120)
    assert np.abs(np.load(tmp_path / "a.npy").astype(int) - image).max() <= far


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        ({"compressor": {"id": "pickle", "protocol": 4}}, "pickle"),
        ({"filters": [{"id": "shuffle", "elementsize": 1}, {"id": "pickle", "protocol": 4}]}, "pickle"),
        ({"compressor": {"id": "base64"}}, "its pixels are packed by 'base64', which is not known to be harmless"),
    ],
)
def test_no_codec_runs_what_is_in_a_chunk(tmp_path, pixels, packed, said):
    path = tmp_path / "a.zarr"
    as_others_write(path, pixels, compressors=None)
    described = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(described | packed))
    ran = tmp_path / "ran"
    for chunk in (path / "0").glob("[0-9]*"):
        chunk.write_bytes(b"cos\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR.")
    with pytest.raises(SlideError, match=rf"a\.zarr: .*{said}"):
        open_slide(path)
    assert not ran.exists()


def test_of_a_bioformats2raw_folder_the_largest_image_that_is_no_label(tmp_path, pixels):
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    large = np.tile(pixels, (2, 2, 1))
    for index, (image, name) in enumerate(((large, "label image"), (pixels[:60], ""), (pixels, ""))):
        write(tmp_path / "a.zarr" / str(index), image, "tczyx", "0.4")
        group = zarr.open_group(tmp_path / "a.zarr" / str(index))
        group.attrs["multiscales"] = [group.attrs["multiscales"][0] | {"name": name}]
    with open_slide(tmp_path / "a.zarr") as slide:
        assert np.array_equal(slide.read(0, 0, 0, *slide.shape), pixels)
        assert str(slide.notices[0]).startswith("The file holds 3 images. The largest, number 3 (")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ome: ome["multiscales"][0].update(datasets=[]), "cannot be read"),
        (lambda ome: ome["multiscales"][0].update(datasets=[{"path": "nowhere"}]), "cannot be read"),
        (lambda ome: ome["multiscales"][0].update(axes=list("yx")), "name 2 axes and its arrays have 3"),
        (lambda ome: ome["multiscales"][0].update(axes=5), "cannot be read"),
        (lambda ome: ome.update(multiscales={"a": 1}), "cannot be read"),
        (lambda ome: ome.update(omero=[1]), "cannot be read"),
    ],
)
def test_metadata_that_fit_no_pixels_are_one_plain_line(tmp_path, pixels, change, said):
    path = tmp_path / "a.zarr"
    write(path, pixels, "yxc")
    rewrite(path, change)
    with pytest.raises(SlideError, match=rf"a\.zarr: .*{said}") as error:
        open_slide(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("scale", "mpp"), [([1, 1], None), (["a", 1, 1], None), (["0,25", "2.5e-1", 1], (0.5, 0.5)), ([0, 0, 1], None)]
)
def test_any_scale_opens(tmp_path, pixels, scale, mpp):
    path = tmp_path / "a.zarr"
    write(path, pixels, "yxc")
    steps = [{"type": "scale", "scale": scale}]
    rewrite(path, lambda ome: ome["multiscales"][0]["datasets"][0].update(coordinateTransformations=steps))
    with open_slide(path) as slide:
        assert slide.mpp == mpp
    with open_slide(path, mpp=0.25) as slide:
        assert slide.mpp == (0.25, 0.25)


def test_chunks_that_fill_the_memory_are_refused(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", shape=(50_000, 50_000, 3), chunks=(50_000, 50_000, 3), dtype="u1")
    group.attrs["multiscales"] = [{"version": "0.4", "axes": list("yxc"), "datasets": [{"path": "0"}]}]
    with pytest.raises(SlideError, match=r"a\.zarr: stored in chunks of 7\.5 GB: write it again in smaller ones"):
        open_slide(tmp_path / "a.zarr")
