"""Shared by all tests: real data where it is, a synthetic cohort everywhere."""

import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported, and for the processes that tests start: their networks are so small that threads would
# only wait for one another, and sums are repeatable bit for bit only with the same number of them.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

# The same examples at every run, so that a failure of CI is one here too.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
# For `experiments`, `benchmarks` and `tests` themselves. Last, so that an installed package is what is tested.
sys.path.append(str(ROOT))
DEFAULT_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images (`D2L_DATA`). Tests that need it are skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("D2L_DATA", DEFAULT_DATA))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set D2L_DATA to the folder that holds colon/, breast/ and slides/")
    return folder


@pytest.fixture(scope="session")
def synthetic_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cohort.csv of a small synthetic cohort (with truth.csv and centres.csv beside it); do not write to its folder."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(tmp_path_factory.mktemp("cohort"), n_slides=12, seed=3, shape=(192, 192))


@pytest.fixture
def make_patch_map():
    """A finished patch map in memory whose probabilities are given, of a slide of `shape` px."""
    import numpy as np

    from napari_distill2label.core.geometry import PatchGrid, PatchPoints
    from napari_distill2label.core.settings import PatchSettings
    from napari_distill2label.core.slide_info import SlideInfo
    from napari_distill2label.store.maps.patch_map import PatchMap

    def make(
        shape, probability=None, classes=("normal", "tumour"), centres=None, mpp=None, multi_label=False,
        slide_id="slide", **grid,
    ):  # fmt: skip
        origin = grid.pop("origin", (0, 0))
        settings = PatchSettings(**grid)
        if centres is None:
            patches = PatchGrid.over(shape, settings, mpp, origin)
        else:
            patches = PatchPoints.at(np.asarray(centres), shape, settings, mpp)
        patch_map = PatchMap.create(
            None,
            patches,
            classes,
            SlideInfo(slide_id, None, mpp),
            model={"network": "student"},
            multi_label=multi_label,
        )
        if probability is None:
            positive = np.linspace(0, 1, int(np.prod(patches.shape))).reshape(patches.shape)
            probability = np.stack([1 - positive, positive], -1)
        for block in patches.blocks(50):
            values = probability[block.window][block.scored]
            patch_map.write(block, probability=values, logit=values, score=values[:, 1])
        patch_map.finish([0.5] * len(classes))
        return patch_map

    return make


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Make a folder on a disk with so many bytes left, in whole pages. It is a tmpfs, which root alone may mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("full disks were NOT tested: only root mounts a small one, on Linux")
    mounted = []

    def make(room: int) -> Path:
        folder = tmp_path_factory.mktemp("disk")
        size = (room // 4096 + 2) * 4096
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"full disks were NOT tested: no tmpfs can be mounted ({done.stderr.decode().strip()})")
        mounted.append(folder)
        (folder / "filling").write_bytes(bytes(size - room // 4096 * 4096))
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def write_scn() -> Callable[..., None]:
    """`write_scn(path, image, corner, canvas)` writes a Leica slide: see `_write_scn`."""
    return _write_scn


def _write_scn(path: Path, image, corner: tuple[int, int], canvas: tuple[int, int]) -> None:
    """A Leica slide at 0.25 µm/px, of two levels, whose scanned area lies at `corner` (y, x) of `canvas` (h, w)."""
    import numpy as np
    import tifffile

    nm, (height, width) = 250, image.shape[:2]

    def element(name: str, ifds: list[int], sizes: list[tuple[int, int]], view: tuple[int, ...], magnification: int):
        dimensions = "".join(
            f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{ifd}"/>'
            for r, (ifd, (h, w)) in enumerate(zip(ifds, sizes, strict=True))
        )
        return (
            f'<image name="{name}" uuid="urn:uuid:{name}"><creationDate>2020-01-01</creationDate><device model="m" '
            f'version="1"/><pixels sizeX="{sizes[0][1]}" sizeY="{sizes[0][0]}">{dimensions}</pixels><view sizeX='
            f'"{view[1]}" sizeY="{view[0]}" offsetX="{view[3]}" offsetY="{view[2]}"/><scanSettings><objectiveSettings>'
            f"<objective>{magnification}</objective></objectiveSettings><illuminationSettings><numericalAperture>0.2"
            "</numericalAperture><illuminationSource>brightfield</illuminationSource></illuminationSettings>"
            "</scanSettings></image>"
        )

    small = image[: height // 4 * 4, : width // 4 * 4].reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3))
    small = (small + 0.5).astype(np.uint8)
    whole = (canvas[0] * nm, canvas[1] * nm, 0, 0)
    area = (height * nm, width * nm, corner[0] * nm, corner[1] * nm)
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:x">'
        f'<collection name="c" uuid="urn:uuid:y" sizeX="{whole[1]}" sizeY="{whole[0]}"><barcode>x</barcode>'
        f"{element('macro', [0], [(128, 128)], whole, 1)}"
        f"{element('main', [1, 2], [image.shape[:2], small.shape[:2]], area, 40)}</collection></scn>"
    )
    how = {"photometric": "rgb", "tile": (64, 64), "compression": "adobe_deflate", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(image[:128, :128], description=xml, resolution=(10, 10), resolutionunit="CENTIMETER", **how)
        tiff.write(image, resolution=(40_000, 40_000), resolutionunit="CENTIMETER", **how)
        tiff.write(small, resolution=(10_000, 10_000), resolutionunit="CENTIMETER", **how)


@pytest.fixture(scope="session")
def qupath_features() -> Callable[..., list[dict[str, Any]]]:
    """`qupath_features(path, *kinds)` -> the features of a GeoJSON file, after a check of QuPath's rules."""
    return _qupath_features


QUPATH_KINDS = ("annotation", "detection", "tile", "cell", "tmaCore")
QUPATH_PROPERTIES = ("objectType", "name", "color", "classification", "isLocked", "measurements", "metadata")


def _qupath_features(path: Path, *kinds: str, more: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Check what QuPath 0.4 and later read (QuPathTypeAdapters, GsonTools). `more`: properties that it passes over."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    def check_colour(colour: Any) -> None:
        assert isinstance(colour, list)
        assert len(colour) == 3
        assert all(type(part) is int and 0 <= part <= 255 for part in colour)

    data = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    assert data["type"] == "FeatureCollection"
    assert data.keys() <= {"type", "features", "provenance"}
    for feature in data["features"]:
        assert feature.keys() <= {"type", "id", "geometry", "nucleusGeometry", "properties"}
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        properties = feature["properties"]
        assert properties.keys() <= {*QUPATH_PROPERTIES, *more}
        assert not properties.keys() & {"type", "isLabel", "object_type", "colorRGB"}  # the first would be misread
        assert properties["objectType"] in (kinds or QUPATH_KINDS)
        for key in ("geometry", "nucleusGeometry"):
            if key in feature:
                assert key == "geometry" or properties["objectType"] == "cell"
                _check_geometry(feature[key])
        if "classification" in properties:
            known = properties["classification"]
            assert known.keys() <= {"name", "names", "color"}
            assert ("name" in known) != ("names" in known)
            names = known.get("names", [known.get("name")])
            assert names
            assert all(isinstance(name, str) and name for name in names)
            check_colour(known.get("color", [0, 0, 0]))
        check_colour(properties.get("color", [0, 0, 0]))
        assert isinstance(properties.get("isLocked", False), bool)
        assert isinstance(properties.get("name", ""), str)
        measured, texts = properties.get("measurements", {}), properties.get("metadata", {})
        assert all(type(value) in (int, float) and math.isfinite(value) for value in measured.values())
        assert all(isinstance(text, str) for text in texts.values())
    assert len({feature["id"] for feature in data["features"]}) == len(data["features"])
    return data["features"]


def _check_geometry(geometry: dict[str, Any]) -> None:
    assert geometry["type"] in ("Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon")
    import shapely

    outline = shapely.geometry.shape(geometry)
    assert outline.is_valid
    assert not outline.is_empty
    assert not outline.has_z
    for polygon in shapely.get_parts(outline):
        if polygon.geom_type == "Polygon":
            rings = (polygon.exterior, *polygon.interiors)
            assert all(len(ring.coords) >= 4 and ring.coords[0] == ring.coords[-1] for ring in rings)
