"""Whole files of every kind that the program reads, to be altered. Made in a child: zarr starts threads."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo

from .vendors import write_dicom, write_mirax
from .world import World

ASAP = """<?xml version="1.0"?>
<ASAP_Annotations><Annotations>
  <Annotation Name="a" Type="Polygon" PartOfGroup="tumour" Color="#F4FA58"><Coordinates>
   <Coordinate Order="1" X="40" Y="0"/><Coordinate Order="0" X="0" Y="0"/>
   <Coordinate Order="2" X="40" Y="20"/><Coordinate Order="3" X="0" Y="20"/></Coordinates></Annotation>
  <Annotation Name="p" Type="PointSet" PartOfGroup="normal" Color="#0"><Coordinates>
   <Coordinate Order="0" X="5" Y="35"/><Coordinate Order="1" X="15" Y="35"/></Coordinates></Annotation>
 </Annotations></ASAP_Annotations>"""
IMAGESCOPE = """<Annotations MicronsPerPixel="0.499">
 <Annotation Id="1" Name="" ReadOnly="0" LineColor="65280" Visible="1" Type="4"><Regions>
  <Region Id="1" Type="0" Text="tumour" NegativeROA="0"><Vertices>
   <Vertex X="0" Y="0" Z="0"/><Vertex X="40" Y="0" Z="0"/>
   <Vertex X="40" Y="20" Z="0"/><Vertex X="0" Y="20" Z="0"/></Vertices></Region>
 </Regions></Annotation></Annotations>"""


def geojson() -> str:
    """Outlines and points of QuPath."""
    square = [[[0, 0], [40, 0], [40, 30], [0, 30], [0, 0]]]
    shapes = [
        {"type": "Polygon", "coordinates": square},
        {"type": "MultiPoint", "coordinates": [[3, 4], [30, 40]]},
        {"type": "Point", "coordinates": [9.5, 9.5]},
    ]
    about = {"objectType": "annotation", "classification": {"name": "tumour", "color": [200, 0, 0]}}
    features = [{"type": "Feature", "id": str(n), "geometry": s, "properties": about} for n, s in enumerate(shapes)]
    return json.dumps({"type": "FeatureCollection", "features": features})


def patches_of(kind: str) -> PatchGrid | PatchPoints:
    """A grid over tissue, or 40 points."""
    if kind == "points":
        return PatchPoints.at(np.random.default_rng(0).uniform(0, 99, (40, 2)), (100, 120), PatchSettings(size_px=15))
    grid = PatchGrid.over((100, 120), PatchSettings(size_px=15, stride_px=10))
    return grid.with_tissue(np.arange(grid.rows * grid.cols).reshape(grid.shape) % 3 > 0)


def write_features(path: Path, kind: str) -> None:
    """Features as Zarr."""
    from napari_distill2label.store.maps.feature_map import FeatureMap

    about = {"slide": "1-2", "encoder": "ab", "description": "cd"}
    features = FeatureMap.open_or_create(path, patches_of(kind), 6, about)
    for block in features.patches.blocks(16):
        features.write(block, np.random.default_rng(1).normal(size=(len(block.corners), 6)).astype(np.float32))


def write_map(path: Path, kind: str) -> None:
    """A prediction."""
    from napari_distill2label.store.maps.patch_map import PatchMap

    patches = patches_of(kind)
    patch_map = PatchMap.create(path, patches, ("a", "b"), SlideInfo("s", None, (0.5, 0.5)), model={"pooling": "x"})
    for block in patches.blocks(16):
        probability = np.random.default_rng(2).dirichlet((1, 1), len(block.corners))
        patch_map.write(block, probability, np.log(probability), probability[:, 0])
    patch_map.finish([0.4, 0.6])


def write_h5(path: Path, kind: str, packed: bool = False) -> None:
    """Features as HDF5, as this program writes them, or packed in chunks as CLAM and TRIDENT do."""
    import h5py

    from napari_distill2label.store.maps.feature_map import EncoderIdentity, FeatureMap
    from napari_distill2label.store.maps.hdf5 import write_hdf5

    made = path.with_suffix(".zarr")
    write_features(made, kind)
    encoder = EncoderIdentity(name="e", path="/e.onnx", sha256="ab", description_sha256="cd")
    write_hdf5(path, FeatureMap.open(made), "s", encoder, (0.5, 0.5), "1-2")
    shutil.rmtree(made)
    if packed:
        with h5py.File(path, "a") as file:
            for name in ("features", "coords"):
                values, about = file[name][...], dict(file[name].attrs)
                del file[name], about["layout" if name == "coords" else "slide_signature"]
                file.create_dataset(name, data=values, chunks=(16, values.shape[1]), compression="gzip", shuffle=True)
                file[name].attrs.update(about)


def write_slides(folder: Path) -> None:
    """Slides and pictures of every kind that can be made here."""
    import tifffile
    import zarr
    from PIL import Image

    y, x = np.mgrid[:200, :260]
    image = np.stack([x * 0.9, y, 255 - x * 0.5], axis=-1).astype(np.uint8)
    for name in ("a.png", "a.bmp", "a.jpg", "a.jp2"):
        Image.fromarray(image).save(folder / name)
    Image.fromarray(image).quantize(9).save(folder / "palette.png", transparency=3)
    Image.fromarray(image).convert("CMYK").save(folder / "inks.jpg")
    tiles = {"photometric": "rgb", "tile": (64, 64)}
    for name, options in {
        "lzw.tif": tiles | {"compression": "lzw"},
        "jpeg.tif": tiles | {"compression": "jpeg"},
        "j2k.tif": tiles | {"compression": "jpeg2000"},
        "zstd.tif": tiles | {"compression": "zstd", "bigtiff": True},
        "strips.tif": {"photometric": "rgb", "rowsperstrip": 20, "compression": "adobe_deflate", "predictor": True},
        "plain.tif": {"photometric": "rgb"},
        "imagej.tif": {"photometric": "rgb", "imagej": True, "metadata": {"unit": "um"}},
    }.items():
        tifffile.imwrite(folder / name, image, **options)
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as tiff:
        tiff.write(image, subifds=1, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, **tiles)
        tiff.write(image[::2, ::2], subfiletype=1, **tiles)
    with tifffile.TiffWriter(folder / "a.svs") as tiff:
        for level, more in ((image, "|MPP = 0.5"), (image[::4, ::4], "\r\nlabel 9x9"), (image[::2, ::2], "")):
            tiff.write(level, compression="jpeg", description=f"Aperio Image Library v11{more}", metadata=None, **tiles)
    for name in ("mirax", "dicom"):
        (folder / name).mkdir()
    write_mirax(folder / "mirax" / "a.mrxs", image[:128, :256])
    write_dicom(folder / "dicom" / "a.dcm", image[:192, :256])
    shutil.copy(folder / "jpeg.tif", folder / "a.ndpi")
    shutil.copy(folder / "jpeg.tif", folder / "a.scn")
    for version in (2, 3):
        group = zarr.create_group(folder / f"v{version}.zarr", zarr_format=version)
        for factor in (1, 2):
            group.create_array(str(factor), data=image[::factor, ::factor], chunks=(64, 64, 3))
        about: Any = {"multiscales": [{"axes": list("yxc"), "datasets": [{"path": "1"}, {"path": "2"}]}]}
        group.attrs.update({"ome": about} if version == 3 else about)


def make(world: World, folder: Path) -> None:
    """All of them, a folder for each reader."""
    from .writers import save_corrections, save_project

    for name in ("cohort", "truth", "corrections", "project", "run", "checkpoint", "bundle", "encoder", "annotations"):
        (folder / name).mkdir(parents=True)
    for name in ("slides", "hdf5", "maps", "features", "mask", "record"):
        (folder / name).mkdir()
    shutil.copy(world.cohort, folder / "cohort" / "cohort.csv")
    shutil.copy(world.truth, folder / "truth" / "truth.csv")
    save_corrections(folder / "corrections", "tumour")
    save_project(world, folder / "project", 0.5)
    shutil.copytree(world.run, folder / "run" / "run", ignore=shutil.ignore_patterns("predictions"))
    shutil.copy(world.run / "checkpoints" / "teacher.safetensors", folder / "checkpoint")
    shutil.copytree(world.run / "student", folder / "bundle" / "student")
    for file in (world.encoder, world.encoder.with_suffix(".json")):
        (folder / "encoder" / "e").mkdir(exist_ok=True)
        shutil.copy(file, folder / "encoder" / "e")
    (folder / "annotations" / "q.geojson").write_text(geojson(), "utf-8")
    (folder / "annotations" / "asap.xml").write_text(ASAP, "utf-8")
    (folder / "annotations" / "scope.xml").write_text(IMAGESCOPE, "utf-8")
    write_slides(folder / "slides")
    for kind in ("tissue", "points"):
        write_h5(folder / "hdf5" / f"{kind}.h5", kind)
        write_h5(folder / "hdf5" / f"{kind}-packed.h5", kind, packed=True)
        write_map(folder / "maps" / f"{kind}.zarr", kind)
        write_features(folder / "features" / f"{kind}.zarr", kind)
    predicted = world.folder / "predicted"
    for mask in predicted.glob("*.ome.tif"):
        shutil.copy(mask, folder / "mask")
    shutil.copytree(predicted, folder / "record" / "predicted")
