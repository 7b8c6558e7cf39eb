"""Reading every 256 px patch of a JPEG pyramid, finest level, and what others need for the same pixels.

`cut` is timed as prediction calls it: blocks of patches as uint8 arrays. Each other library is asked in the way its own
documentation shows for patches. "bare libjpeg-turbo" reads and decodes the file's tiles and does nothing else with
them, in as many threads as there are processors. The competitors take turns, after a round that brings the file into
memory. Seconds are those on the clock; on a machine that has other work, those of the processors say more.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from napari_distill2label.slides import open_slide
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.threads import usable_cpus

from .goals import Goal
from .pyramids import pyramid
from .rounds import in_turn, ratio

PATCH_PX = 256
ROWS = 8  # a call cuts ROWS × ROWS patches


def _corners(side_px: int) -> np.ndarray:
    """(n, 2) of all patches, blocks of ROWS × ROWS one after the other."""
    starts = np.arange(0, side_px - PATCH_PX + 1, PATCH_PX)
    corners = np.array(list(product(starts, starts)))
    block = corners // (ROWS * PATCH_PX)
    return corners[np.lexsort((block[:, 1], block[:, 0]))]


def _ours(path: Path, corners: np.ndarray) -> None:
    with open_slide(path) as slide:
        for start in range(0, len(corners), ROWS**2):
            cut(slide, corners[start : start + ROWS**2], PATCH_PX, PATCH_PX)


def _bare(path: Path, _: np.ndarray) -> None:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        segments, tables = list(zip(page.dataoffsets, page.databytecounts, strict=True)), page.jpegtables
    fd = os.open(path, os.O_RDONLY)

    def decode(some: list[tuple[int, int]]) -> None:
        for offset, count in some:
            imagecodecs.jpeg8_decode(os.pread(fd, count, offset), tables=tables, colorspace="RGB", outcolorspace="RGB")

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(decode, [segments[i :: usable_cpus()] for i in range(usable_cpus())]))
    os.close(fd)


def _openslide(path: Path, corners: np.ndarray) -> None:
    import openslide

    with openslide.OpenSlide(path) as slide:
        for y, x in corners.tolist():
            np.asarray(slide.read_region((x, y), 0, (PATCH_PX, PATCH_PX)))


def _tiffslide(path: Path, corners: np.ndarray) -> None:
    import tiffslide

    with tiffslide.TiffSlide(path) as slide:
        for y, x in corners.tolist():
            slide.read_region((x, y), 0, (PATCH_PX, PATCH_PX), as_array=True)


def _fastslide(path: Path, corners: np.ndarray) -> None:
    import fastslide

    slide = fastslide.FastSlide.from_file_path(path)

    def read(corner: list[int]) -> None:
        slide.read_region((corner[1], corner[0]), 0, (PATCH_PX, PATCH_PX)).numpy()

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(read, corners.tolist()))


def _libvips(path: Path, corners: np.ndarray) -> None:
    import pyvips

    image = pyvips.Image.new_from_file(str(path), access="random")
    region = pyvips.Region.new(image)
    for y, x in corners.tolist():
        np.frombuffer(region.fetch(x, y, PATCH_PX, PATCH_PX), np.uint8)


def _cucim(path: Path, corners: np.ndarray) -> None:
    from cucim import CuImage

    for patch in CuImage(str(path)).read_region(
        corners[:, ::-1].tolist(), (PATCH_PX, PATCH_PX), 0, num_workers=usable_cpus(), batch_size=16
    ):
        np.asarray(patch)


OTHERS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {
    "OpenSlide, a loop over read_region": ("openslide", _openslide),
    "tiffslide, a loop over read_region": ("tiffslide", _tiffslide),
    "fastslide, read_region in threads": ("fastslide", _fastslide),
    "libvips, a loop over fetch": ("pyvips", _libvips),
    "cuCIM on the CPU, one batched read_region": ("cucim", _cucim),
}

# Of the speed per second of a processor; by the clock two threads are compared with one.
GOALS = {
    "bare libjpeg-turbo": Goal(0.85, at_least=True),
    "OpenSlide, a loop over read_region": Goal(5, at_least=True),
}


def measure(quick: bool = False) -> Iterator[str]:
    """Yield a line per competitor, and one for each that is not installed."""
    side_px = 4096 if quick else 16384
    try:
        path = pyramid(side_px)
    except FileNotFoundError as error:
        yield f"reading: skipped, no real slide to build pyramids from: {error}"
        return
    corners = _corners(side_px)
    found = {name: work for name, (module, work) in OTHERS.items() if find_spec(module)}
    for name, (module, _) in OTHERS.items():
        if name not in found:
            yield f"{name}: skipped, {module} is not installed"

    spent: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[Path, np.ndarray], None]) -> Callable[[], float]:
        def competitor() -> float:
            start, processor = time.perf_counter(), time.process_time()
            work(path, corners)
            spent.setdefault(name, []).append(time.process_time() - processor)
            return time.perf_counter() - start

        return competitor

    competitors = {"ours": _ours, "bare libjpeg-turbo": _bare, **found}
    seconds = in_turn({name: timed(name, work) for name, work in competitors.items()}, rounds=3, warm_up=1)
    megabytes = len(corners) * PATCH_PX**2 * 3 / 1e6
    yield f"{len(corners)} patches of {PATCH_PX} px from {side_px} × {side_px} px, {usable_cpus()} processor(s):"
    for name, each in seconds.items():
        processor = megabytes / min(spent[name])
        yield f"  {name}: {megabytes / each.min():.0f} MB/s, {processor:.0f} per second of a processor"
    for name in competitors:
        if name != "ours":
            own, its = (np.array(spent[each][1:]) for each in ("ours", name))  # the first round warms up
            yield f"our speed / {name}, per second of a processor: {ratio(its, own, GOALS.get(name))}"
            yield f"our speed / {name}, by the clock: {ratio(seconds[name], seconds['ours'])}"
