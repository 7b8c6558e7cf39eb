"""Reading every 256 px patch of a JPEG pyramid, finest level, and what others need for the same pixels.

And of JPEG 2000 and deflate tiles, beside OpenSlide.

`cut` is timed as prediction calls it: blocks of patches as uint8 arrays. Each other library is asked in the way its own
documentation shows for patches. "The bare decoder" (libjpeg-turbo, OpenJPEG, libdeflate) reads and decodes the file's
tiles and does nothing else with them, in as many threads as there are processors. The competitors take turns, after a
round that brings the file into memory. Seconds are those on the clock; on a machine that has other work, those of the
processors say more.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from .pyramids import CODECS, flat, pyramid
from .rounds import in_turn, ratio

BARE, OPENSLIDE = "the bare decoder", "OpenSlide, a loop over read_region"
Reader = Callable[[Path, np.ndarray], None]
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
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        decode = _decoder_of(page)
    fd = os.open(path, os.O_RDONLY)

    def decode_all(some: list[tuple[int, int]]) -> None:
        for offset, count in some:
            decode(os.pread(fd, count, offset))

    with ThreadPoolExecutor(usable_cpus()) as pool:
        list(pool.map(decode_all, [segments[i :: usable_cpus()] for i in range(usable_cpus())]))
    os.close(fd)


def _decoder_of(page: tifffile.TiffPage) -> Callable[[bytes], object]:
    """What turns a tile of the page into pixels, with no more around it than it needs."""
    if page.compression == tifffile.COMPRESSION.JPEG:
        return partial(imagecodecs.jpeg8_decode, tables=page.jpegtables, colorspace="RGB", outcolorspace="RGB")
    if page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE:
        return partial(imagecodecs.deflate_decode, out=page.tilewidth * page.tilelength * 3)
    return imagecodecs.jpeg2k_decode


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


OTHERS: dict[str, tuple[str, Reader]] = {
    OPENSLIDE: ("openslide", _openslide),
    "tiffslide, a loop over read_region": ("tiffslide", _tiffslide),
    "fastslide, read_region in threads": ("fastslide", _fastslide),
    "libvips, a loop over fetch": ("pyvips", _libvips),
    "cuCIM on the CPU, one batched read_region": ("cucim", _cucim),
}

# Of the speed per second of a processor; by the clock two threads are compared with one.
GOALS = {BARE: Goal(0.85, at_least=True), OPENSLIDE: Goal(5, at_least=True)}


def measure(quick: bool = False) -> Iterator[str]:
    """Yield a line per competitor, and one for each that is not installed."""
    side_px, flat_px = (4096, 2048) if quick else (16384, 4096)
    try:
        path = pyramid(side_px)
    except FileNotFoundError as error:
        yield f"reading: skipped, no real slide to build pyramids from: {error}"
        return
    found = {name: work for name, (module, work) in OTHERS.items() if find_spec(module)}
    for name, (module, _) in OTHERS.items():
        if name not in found:
            yield f"{name}: skipped, {module} is not installed"
    yield from compare("jpeg", path, side_px, found, GOALS)
    few = {name: work for name, work in found.items() if name == OPENSLIDE}
    for codec in CODECS:
        yield from compare(codec, flat(flat_px, codec), flat_px, few, {})


def compare(
    codec: str, path: Path, side_px: int, others: Mapping[str, Reader], goals: Mapping[str, Goal]
) -> Iterator[str]:
    """Yield the speeds of reading all patches of a slide, and ours against each."""
    corners, spent = _corners(side_px), dict[str, list[float]]()

    def timed(name: str, work: Reader) -> Callable[[], float]:
        def competitor() -> float:
            start, processor = time.perf_counter(), time.process_time()
            work(path, corners)
            spent.setdefault(name, []).append(time.process_time() - processor)
            return time.perf_counter() - start

        return competitor

    competitors = {"ours": _ours, BARE: _bare, **others}
    seconds = in_turn({name: timed(name, work) for name, work in competitors.items()}, rounds=3, warm_up=1)
    megabytes = len(corners) * PATCH_PX**2 * 3 / 1e6
    yield f"{codec}: {len(corners)} patches of {PATCH_PX} px from {side_px}² px, {usable_cpus()} processor(s):"
    for name, each in seconds.items():
        processor = megabytes / min(spent[name])
        yield f"  {name}: {megabytes / each.min():.0f} MB/s, {processor:.0f} per second of a processor"
    for name in competitors:
        if name != "ours":
            own, its = (np.array(spent[each][1:]) for each in ("ours", name))  # the first round warms up
            yield f"{codec}: our speed / {name}, per second of a processor: {ratio(its, own, goals.get(name))}"
            yield f"{codec}: our speed / {name}, by the clock: {ratio(seconds[name], seconds['ours'])}"
