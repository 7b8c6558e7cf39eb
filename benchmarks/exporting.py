"""Exporting many patches: time of a processor, memory and size, and how often as fast as the plain way.

`python -m benchmarks.exporting [--side N] [--rounds N] [--kind regions] [--conversions]`. A map of N × N patches of 256
px, three labels, in regions as tissue has them or drawn at random for every patch. It lies on the disk, and each export
is a process of its own that opens it.
The plain way writes the mask with tifffile from whole tiles of pixels, GeoJSON from a dictionary and `uuid.uuid5` per
patch, the table with pandas.
`--conversions`: the exported files turned into one another by `convert`, in place of the exports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.drawn_labels import draw_labels
from napari_distill2label.exporters.formats import FORMATS, iter_write
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.ome_tiff import write_mask
from napari_distill2label.slides.annotations import iter_objects
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.convert import convert

from .goals import Goal, figure

CLASSES = ("normal", "tumour", "necrosis")
KINDS = ("regions", "random")
PX = 256
SECONDS = {"ome-tiff": Goal(20, "s"), "geojson": Goal(6, "s"), "csv": None}  # of a million patches
SIZES = {"ome-tiff": Goal(60, "MB")}
MEMORY = Goal(500, "MB")
OTHERS = (
    "regions",
    "probability",
    "parquet",
    "mask-png",
    "ome-zarr",
    "ome-zarr-0.4",
    "png",
    "report",
)  # formats without a plain way to compare with; all but merged regions of labels in regions alone
CONVERSIONS = (
    ("csv", "geojson"),
    ("parquet", "csv"),
    ("geojson", "parquet"),
    ("geojson", "places"),
    ("geojson", "ome-tiff"),
    ("regions", "geojson"),
)


def patch_map(path: Path, side: int, kind: str) -> PatchMap:
    """A finished map."""
    from scipy import ndimage

    grid = PatchGrid.over((PX * side, PX * side), PatchSettings(size_px=PX))
    noise = np.random.default_rng(0).standard_normal((*grid.shape, len(CLASSES))).astype(np.float32)
    if kind == "regions":
        noise = ndimage.gaussian_filter(noise, (6, 6, 0))
        noise /= noise.std()
    probability = np.exp(2 * noise)
    probability /= probability.sum(-1, keepdims=True)
    made = PatchMap.create(path, grid, CLASSES, SlideInfo("slide", mpp=(0.25, 0.25)))
    for block in grid.blocks(100_000):
        here = probability[block.window][block.scored]
        made.write(block, here, np.log(here), here[:, 1])
    made.finish([0.2, 0.5, 0.3])
    return made


def ours(made: PatchMap, folder: Path, name: str) -> Path:
    return drain(iter_write(made, folder, [name]))[0]


def plain(made: PatchMap, folder: Path, name: str) -> Path:
    path = folder / f"plain{FORMATS[name].suffix}"
    return {"ome-tiff": plain_mask, "geojson": plain_geojson, "csv": plain_table}[name](made, path)


def plain_mask(made: PatchMap, path: Path) -> Path:
    import tifffile

    mask = Mask(made.to_labels(), made.patches)
    steps = [1]
    while max(mask.shape) / steps[-1] >= 1024:
        steps.append(2 * steps[-1])

    def tiles(shape: tuple[int, int], step: int) -> Iterator[np.ndarray]:
        for top in range(0, shape[0], 512):
            for left in range(0, shape[1], 512):
                yield mask.at(*((np.arange(start, start + 512)) * step + step // 2 for start in (top, left)))

    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for step in steps:
            shape = tuple(-(-size // step) for size in mask.shape)
            extra = {"subifds": len(steps) - 1} if step == 1 else {"subfiletype": 1}
            tiff.write(
                tiles(shape, step), shape=shape, dtype=np.uint8, tile=(512, 512), compression="adobe_deflate",
                maxworkers=2, **extra,
            )  # fmt: skip
    return path


def plain_geojson(made: PatchMap, path: Path) -> Path:
    table = made.table()
    names = [*(f"prob_{name}" for name in CLASSES), "attention"]
    values = table[names].to_numpy(np.float64).tolist()
    boxes = table[["minx", "miny", "width", "height"]].to_numpy().tolist()
    features = []
    for row, (x, y, w, h) in enumerate(boxes):
        corners = [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"slide/{row}/{x},{y},{w},{h}")),
                "geometry": {"type": "Polygon", "coordinates": [corners]},
                "properties": {
                    "objectType": "tile",
                    "classification": {"name": table["label"][row]},
                    "measurements": dict(zip(names, values[row], strict=True)),
                },
            }
        )
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return path


def plain_table(made: PatchMap, path: Path) -> Path:
    made.table().to_csv(path, index=False, float_format="%.6g")
    return path


def peak_memory() -> float:
    """MB that this process has had at most. `getrusage` would count its parent's, too (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


WAYS: dict[str, Callable[[PatchMap, Path, str], Path]] = {"ours": ours, "plain": plain}


def child(way: str, name: str, path: str) -> None:
    """Export a map, and print seconds of a processor and of the clock, MB on disk, MB of memory and what it added."""
    made = PatchMap.open(path)
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        start, began = time.process_time(), time.perf_counter()
        written = WAYS[way](made, Path(folder), name)
        taken = time.process_time() - start, time.perf_counter() - began
        size = sum(file.stat().st_size for file in (written, *written.rglob("*")) if file.is_file())
    peak = peak_memory()
    print(json.dumps([*taken, size / 1e6, peak, peak - before]))


def convert_child(source: str, to: str, side: int) -> None:
    """Convert an exported file once, and print as `child` does. Areas are drawn without a slide of that size."""
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        start, began = time.process_time(), time.perf_counter()
        if to == "ome-tiff":
            path = Path(folder) / "a.ome.tif"
            with draw_labels((PX * side, PX * side)) as drawn:
                drain(drawn.add(iter_objects(source)))
                drain(write_mask(path, drawn, drawn.names))
        else:
            (path,) = drain(convert(source, folder, to, allow_loss=True))
        taken = time.process_time() - start, time.perf_counter() - began
        size = path.stat().st_size
    peak = peak_memory()
    print(json.dumps([*taken, size / 1e6, peak, peak - before]))


def measure_conversions(side: int) -> Iterator[str]:
    """A line for each pair of formats."""
    yield f"{side * side} patches, {side * PX} px"
    with tempfile.TemporaryDirectory() as folder:
        made = patch_map(Path(folder) / "map.zarr", side, "regions")
        files = {name: ours(made, Path(folder) / name, name) for name in dict.fromkeys(name for name, _ in CONVERSIONS)}
        for name, to in CONVERSIONS:
            code = (
                f"from benchmarks.exporting import convert_child; convert_child({str(files[name])!r}, {to!r}, {side})"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            seconds, clock, size, peak, _ = json.loads(done.stdout)
            what = f"{name} to {to}, {clock:.0f} s of the clock, {size:.0f} MB"
            yield figure(what, np.array([seconds]), "s of a processor")
            yield figure(f"{name} to {to}, memory", np.array([peak]), "MB", MEMORY if side == 1000 else None)


def once(way: str, name: str, path: Path) -> np.ndarray:
    code = f"from benchmarks.exporting import child; child({way!r}, {name!r}, {str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


def measure(side: int, rounds: int, ways: tuple[str, ...], only: str | None = None) -> Iterator[str]:
    """Lines for each kind of map and format."""
    yield f"{side * side} patches, {side * PX} px"
    for kind in KINDS if only is None else (only,):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "map.zarr"
            patch_map(path, side, kind)
            for name in (*SECONDS, "regions") if kind == "random" else (*SECONDS, *OTHERS):
                yield from measure_format(path, name, kind, rounds, ways, side == 1000)


def measure_format(
    path: Path, name: str, kind: str, rounds: int, ways: tuple[str, ...], is_million: bool
) -> Iterator[str]:
    compared = ways if name in SECONDS else ("ours",)
    found = {way: np.array([once(way, name, path) for _ in range(rounds)]) for way in compared}
    seconds, clock, sizes, peaks, more = found["ours"].T
    what = f"{name}, {kind}"
    yield figure(f"{what}, {np.median(clock):.1f} s of the clock", seconds, "s of a processor",
                 SECONDS.get(name) if is_million else None)  # fmt: skip
    yield figure(f"{what}, size", sizes, "MB", SIZES.get(name) if is_million else None)
    yield figure(f"{what}, memory (+{np.median(more):.0f})", peaks, "MB", MEMORY if is_million else None)
    if "plain" in compared:
        yield figure(f"{what}, plain way / ours, seconds", found["plain"][:, 0] / seconds)
        yield figure(f"{what}, plain way / ours, size", found["plain"][:, 2] / sizes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exporting", description=__doc__)
    parser.add_argument("--side", type=int, default=1000, help="patches along a side of the map")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ours", action="store_true", help="leave the plain way out: it takes minutes")
    parser.add_argument("--kind", choices=KINDS, help="of maps; default: both")
    parser.add_argument("--conversions", action="store_true", help="measure `convert` in place of the exports")
    options = parser.parse_args()
    if options.conversions:
        for line in measure_conversions(options.side):
            print(line, flush=True)
        return
    for line in measure(options.side, options.rounds, ("ours",) if options.ours else tuple(WAYS), options.kind):
        print(line, flush=True)


if __name__ == "__main__":
    main()
