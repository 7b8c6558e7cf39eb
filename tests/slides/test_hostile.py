"""Files that are damaged, lie or mean harm: one plain line, at once, and little memory; no traceback, no hang.

Those that are altered at random are in `python -m torture --only lie`.
"""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import CohortError, SlideError, TileError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.annotations import read_objects
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.project_file import read_project_file

linux = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is limited through Linux's /proc")


def open_in_child(files: list[Path]) -> None:
    """Fails unless every file is opened, or refused in one line that names it, within the child's limits."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.slides.hostile_child", *map(str, files)],
        capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line for line in lines if line[0] != "fine"] == []
    assert len(lines) == len(files), f"ended at {files[len(lines)]}: {done.stderr[-2000:]}"


# ---- TIFF: built by hand, since no library writes them --------------------------------------------------------------


def write_tiff(path: Path, tags: dict[int, tuple[int, tuple[int, ...] | bytes]], data: bytes = b"", after: int = 0):
    """One page with these tags: (kind, values); kind 3 is 16-bit, 4 is 32-bit, 2 is text. `after`: where the next is.

    Values of tags 273 and 324 (offsets) count from where `data` begins.
    """
    begin = 8 + 2 + 12 * len(tags) + 4
    extra, entries = b"", []
    sizes = {tag: (len(v) if kind == 2 else len(v) * (2 if kind == 3 else 4)) for tag, (kind, v) in tags.items()}
    data_at = begin + sum(size for size in sizes.values() if size > 4)
    for tag, (kind, values) in sorted(tags.items()):
        if tag in (273, 324):
            values = tuple(value + data_at for value in values)
        packed = values if kind == 2 else struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            entries.append(struct.pack("<HHII", tag, kind, len(values), begin + len(extra)))
            extra += packed
        else:
            entries.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", after)
    path.write_bytes(head + extra + data)


def rgb(width: int, height: int, **more: tuple[int, tuple[int, ...] | bytes]) -> dict:
    tags = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (8, 8, 8)),
        259: (3, (8,)),
        262: (3, (2,)),
        277: (3, (3,)),
    }
    return tags | {int(tag.removeprefix("t")): value for tag, value in more.items()}


def test_a_tiff_that_claims_a_million_by_a_million_px(tmp_path):
    tiles = (10**6 // 65_520 + 1) ** 2  # as few as can be, all of them empty, or all the same
    data = zlib.compress(bytes(65_520))
    for name, tags in {
        "strip": rgb(10**6, 10**6, t273=(4, (0,)), t278=(4, (10**6,)), t279=(4, (len(data),))),
        "strips": rgb(10**6, 10**6, t273=(4, (0,) * 10**4), t278=(4, (100,)), t279=(4, (len(data),) * 10**4)),
        "empty": rgb(
            10**6, 10**6, t322=(4, (65_520,)), t323=(4, (65_520,)), t324=(4, (0,) * tiles), t325=(4, (0,) * tiles)
        ),
        "same": rgb(
            10**6, 10**6, t322=(4, (4096,)), t323=(4, (4096,)), t324=(4, (0,) * 245**2), t325=(4, (9,) * 245**2)
        ),
    }.items():
        write_tiff(tmp_path / f"{name}.tif", tags, data)
        with pytest.raises(
            SlideError, match=rf"{name}\.tif: (stored in pieces of|claims 1000000 × 1000000 px in a file)"
        ):
            open_slide(tmp_path / f"{name}.tif")


@pytest.mark.slow
def test_a_tile_that_unpacks_to_gigabytes_is_a_damaged_tile(tmp_path):
    bomb = zlib.compress(bytes(300_000_000), 9)
    tags = rgb(128, 128, t322=(3, (128,)), t323=(3, (128,)), t324=(4, (0,)), t325=(4, (len(bomb),)))
    write_tiff(tmp_path / "a.tif", tags, bomb)
    with open_slide(tmp_path / "a.tif") as slide, pytest.raises(TileError, match=r"a\.tif: damaged"):
        slide.read(0, 0, 0, 8, 8)
    open_in_child([tmp_path / "a.tif"])


@pytest.mark.parametrize("codec", ["jpeg2000", "webp", "png", "jpeg"])
@pytest.mark.slow
def test_a_tile_whose_own_header_says_that_it_is_huge_is_a_damaged_tile(tmp_path, codec):
    white = np.full((9000, 9000, 3), 255, np.uint8)
    encode = {
        "jpeg2000": (34712, lambda: imagecodecs.jpeg2k_encode(white, level=50, codecformat="j2k")),
        "webp": (50001, lambda: imagecodecs.webp_encode(white, level=10)),
        "png": (34933, lambda: imagecodecs.png_encode(white)),
        "jpeg": (7, lambda: imagecodecs.jpeg8_encode(white, level=10)),
    }[codec]
    bomb = encode[1]()
    tags = rgb(128, 128, t322=(3, (128,)), t323=(3, (128,)), t324=(4, (0,)), t325=(4, (len(bomb),)))
    write_tiff(tmp_path / "a.tif", tags | {259: (3, (encode[0],))}, bomb)
    with (
        open_slide(tmp_path / "a.tif") as slide,
        pytest.raises(TileError, match=r"a\.tif: damaged.*(it claims 81000000 px|shape)"),
    ):
        slide.read(0, 0, 0, 8, 8)


@pytest.mark.parametrize("n", [1, 2, 150, 30_000])
def test_pages_in_a_circle_and_without_end(tmp_path, n):
    entry = struct.pack("<HHII", 256, 4, 1, 9)
    size = 2 + len(entry) + 4
    pages = [struct.pack("<H", 1) + entry + struct.pack("<I", 8 + size * ((i + 1) % n)) for i in range(n)]
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(pages))
    with pytest.raises(
        SlideError, match=r"a\.tif: (damaged, its chain of pages runs in a circle|holds more than 20000)"
    ):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("width", "height", "tile"), [(0, 0, (16, 16)), (64, 0, (16, 16)), (64, 64, (0, 16)), (64, 64, (2**31, 2**31))]
)
def test_sizes_that_cannot_be(tmp_path, width, height, tile):
    tags = rgb(width, height, t322=(4, (tile[1],)), t323=(4, (tile[0],)), t324=(4, (0,)), t325=(4, (4,)))
    write_tiff(tmp_path / "a.tif", tags, b"data")
    with pytest.raises(SlideError, match=r"a\.tif: "):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize("n", [1, 15, 17])
def test_tiles_that_are_too_few_or_too_many(tmp_path, n):
    data = zlib.compress(bytes(16 * 16 * 3))
    tags = rgb(64, 64, t322=(3, (16,)), t323=(3, (16,)), t324=(4, (0,) * n), t325=(4, (len(data),) * n))
    write_tiff(tmp_path / "a.tif", tags, data)
    with pytest.raises(SlideError, match=rf"a\.tif: damaged, {n} of 16 tiles are said where to find"):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("<a>" * 10**6, "nested more than 100 levels deep"),
        ("<a>" * 10**6 + "</a>" * 10**6, "nested more than 100 levels deep"),
        ("<a/>" * 10**6, "more than 500000 elements"),
        ('<Pixels SizeC="99999" SizeZ="99999" SizeT="99999"/>', "claims to hold"),
        ('<Image><Pixels><TiffData PlaneCount="999999999"/></Pixels></Image>', "claims to hold 999999999 planes"),
        ("<BinaryOnly MetadataFile='/etc/passwd' UUID='a'/>", "in other files"),
    ],
)
def test_ome_xml_that_never_ends(tmp_path, inside, said):
    path = tmp_path / "a.ome.tif"
    xml = f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{inside}</OME>'
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", description=xml, metadata=None)
    with pytest.raises(SlideError, match=rf"a\.ome\.tif: .*{said}"):
        open_slide(path)
    open_in_child([path])


def test_xml_that_defines_entities(tmp_path):
    path = tmp_path / "a.ome.tif"
    xml = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><OME>&b;</OME>'
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", description=xml, metadata=None)
    with pytest.raises(SlideError, match=r"a\.ome\.tif: .*defines entities of its own"):
        open_slide(path)


# ---- others ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(10**6, 10**6, 3), (10**11, 64, 3), (64, 10**11, 3)])
def test_a_folder_that_claims_what_no_glass_has(tmp_path, shape):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", data=np.zeros((64, 64, 3), np.uint8), chunks=(64, 64, 3))
    group.create_array("1", shape=shape, dtype="u1", chunks=(64, 64, 3))
    group.attrs["multiscales"] = [{"axes": list("yxc"), "datasets": [{"path": "0"}, {"path": "1"}]}]
    with pytest.raises(SlideError, match=rf"a\.zarr: claims {shape[1]} × {shape[0]} px: damaged, or not a slide"):
        open_slide(tmp_path / "a.zarr")


def test_json_that_is_nested_without_end(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.attrs["multiscales"] = []
    (tmp_path / "a.zarr" / ".zattrs").write_text('{"multiscales":' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(SlideError, match=r"a\.zarr: cannot be read"):
        open_slide(tmp_path / "a.zarr")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "svs", "ndpi", "jp2", "bmp", "mrxs", "dcm", "scn"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        b"\0" * 5000,
        b"II*\0",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_at_all(tmp_path, suffix, data):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    with pytest.raises(SlideError, match=rf"a\.{suffix}: ") as error:
        open_slide(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3, 1)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jp2", "zarr"])
def test_pictures_of_one_pixel(tmp_path, suffix, size):
    path, image = tmp_path / f"a.{suffix}", np.full((*size, 3), (10, 90, 200), np.uint8)
    if suffix == "zarr":
        group = zarr.create_group(path, zarr_format=2)
        group.create_array("0", data=image)
        group.attrs["multiscales"] = [{"axes": list("yxc"), "datasets": [{"path": "0"}]}]
    elif suffix == "tif":
        tifffile.imwrite(path, image, photometric="rgb")
    else:
        Image.fromarray(image).save(path, **({"irreversible": False} if suffix == "jp2" else {}))
    with open_slide(path) as slide:
        assert slide.shape == size
        assert np.array_equal(slide.read(0, 0, 0, *size), image)


# ---- what is no file ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device without an end")
@pytest.mark.parametrize("name", ["a.geojson", "a.xml", "a.d2l.json", "a.csv"])
def test_a_link_to_a_device_is_no_file(tmp_path, name):
    path = tmp_path / name
    path.symlink_to("/dev/zero")
    with pytest.raises(CohortError, match=f"{name}: .*it is a device, not a file"):
        {".json": read_project_file, ".csv": Cohort.read}.get(path.suffix, read_objects)(path)
