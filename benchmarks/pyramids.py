"""JPEG pyramids of any size, made of a real slide's own tiles, and the same picture in tiles of other codecs.

Level 0 repeats the compressed tiles of `slides/CMU-1-Small-Region.svs` (Aperio, 240 px, JPEG) as they are in the file,
so that they cost what a scanner's tiles cost to decode. Coarser levels are one period of the picture, shrunk,
compressed and repeated.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from platformdirs import user_cache_dir

DATA = Path(os.environ.get("D2L_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDER = Path(user_cache_dir("napari-distill2label", appauthor=False)) / "benchmarks"
MPP = 0.499
ROWS, COLS = 12, 8  # whole tiles of the slide, so many that two halvings are whole tiles again
_SMALLEST = 1024  # px
# By codec: its name in tifffile, and what packs a tile (side, side, 3).
CODECS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "jpeg2000": ("aperio_jp2000_rgb", lambda tile: bytes(imagecodecs.jpeg2k_encode(tile, level=40, codecformat="J2K"))),
    "deflate": ("adobe_deflate", lambda tile: bytes(imagecodecs.zlib_encode(tile.tobytes(), 6))),
}


def pyramid(side_px: int, folder: Path = FOLDER, data: Path = DATA) -> Path:
    """A tiled TIFF of `side_px` × `side_px` with levels of half the size down to 1024 px; made once and kept.

    `FileNotFoundError` where the real slide is missing.
    """
    return _made_once(Path(folder) / f"pyramid-{side_px}.tif", data, partial(_write, side_px))


def flat(side_px: int, codec: str, folder: Path = FOLDER, data: Path = DATA) -> Path:
    """A tiled TIFF of one level, of the same picture, packed as `codec`: "jpeg2000" (as Aperio does) or "deflate"."""
    return _made_once(Path(folder) / f"flat-{side_px}-{codec}.tif", data, partial(_write_flat, side_px, codec))


def _made_once(path: Path, data: Path, write: Callable[[Path, tifffile.TiffPage], None]) -> Path:
    """`path`, which `write` makes of the real slide's finest level if it is not there yet."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with tifffile.TiffFile(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        write(unfinished, slide.pages[0])
    unfinished.replace(path)
    return path


def _write_flat(side_px: int, codec: str, path: Path, page: tifffile.TiffPage) -> None:
    side, (compression, encode) = page.tilewidth, CODECS[codec]
    period = page.asarray()[: ROWS * side, : COLS * side]
    cuts = period.reshape(ROWS, side, COLS, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            repeated_tiles([encode(each) for each in cuts], (ROWS, COLS), -(-side_px // side)),
            shape=(side_px, side_px, 3),
            dtype=np.uint8,
            tile=(side, side),
            photometric="rgb",
            compression=compression,
            description=f"Aperio Image Library\n{side_px}x{side_px}|AppMag = 20|MPP = {MPP}",  # OpenSlide looks for it
            metadata=None,
        )


def _write(side_px: int, path: Path, page: tifffile.TiffPage) -> None:
    side = page.tilewidth
    across = page.shape[1] // side + 1
    tiles = [
        page.parent.filehandle.read_array("u1", page.databytecounts[i], page.dataoffsets[i]).tobytes()
        for i in (row * across + col for row in range(ROWS) for col in range(COLS))
    ]
    period = page.asarray()[: ROWS * side, : COLS * side]
    options = {"tile": (side, side), "photometric": "rgb", "compression": "jpeg", "dtype": np.uint8, "metadata": None}
    options["compressionargs"] = {"outcolorspace": "RGB"}  # Aperio's JPEGs hold R, G and B
    with tifffile.TiffWriter(path) as tiff:
        for level, level_px in enumerate(_sides(side_px)):
            if level:
                period = _halved(period, side)
                tiles = compressed(period, side)
            shape = (period.shape[0] // side, period.shape[1] // side)
            tiff.write(
                repeated_tiles(tiles, shape, -(-level_px // side)),
                shape=(level_px, level_px, 3),
                jpegtables=page.jpegtables if level == 0 else None,
                subfiletype=int(level > 0),
                resolution=(10_000 / MPP / 2**level,) * 2,
                resolutionunit="CENTIMETER",
                **options,
            )


def _sides(side_px: int) -> Iterator[int]:
    for level in itertools.count():
        yield side_px >> level
        if side_px >> level <= _SMALLEST:
            return


def _halved(period: np.ndarray, side: int) -> np.ndarray:
    """(h, w, 3) -> half as large, of whole tiles: what is no longer one is repeated first."""
    h, w = period.shape[0] // 2, period.shape[1] // 2
    half = (period.reshape(h, 2, w, 2, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)
    return np.tile(half, (1 if h % side == 0 else 2, 1 if w % side == 0 else 2, 1))


def compressed(period: np.ndarray, side: int) -> list[bytes]:
    """The JPEG tiles of `side` px of a picture, row by row."""
    return [
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(period[y : y + side, x : x + side]), level=80, colorspace="RGB", outcolorspace="RGB"
        )
        for y in range(0, period.shape[0], side)
        for x in range(0, period.shape[1], side)
    ]


def repeated_tiles(tiles: list[bytes], shape: tuple[int, int], count: int) -> Iterator[bytes]:
    """The tiles of a square of `count` × `count`, from those of one period of `shape` rows and columns."""
    for row in range(count):
        for col in range(count):
            yield tiles[row % shape[0] * shape[1] + col % shape[1]]
