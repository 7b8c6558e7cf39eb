"""Copies that the check before a training finds, and false alarms, on the real images of `D2L_DATA`.

`python -m benchmarks.likeness`: of each data set its crops, and round cores cut from them on white, as a tissue
microarray has them. All pairs of originals that are called copies are false alarms; each original is then compared
with nine copies of it. The cost is that of a look at one slide, and of comparing 1,000.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from napari_distill2label.core.events import drain
from napari_distill2label.slides.likeness import GreyPicture, grey_picture, same_pictures
from napari_distill2label.slides.preview import SIDE, SlidePreview, read_preview

from .pyramids import DATA

SETS = {
    "colon": "colon/**/*.bmp", "CoNSeP": "consep/**/img*.*[gp]", "GlaS": "glas/**/*[0-9].png", "breast": "breast/*.tif"
}  # fmt: skip


def _saved(image: Image.Image, quality: int = 40) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


def _darker(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * 0.8).astype(np.uint8))


T = Image.Transpose
COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned by 90°": lambda image: image.transpose(T.ROTATE_90), "by 180°": lambda image: image.transpose(T.ROTATE_180),
    "mirrored": lambda image: image.transpose(T.FLIP_LEFT_RIGHT), "both": lambda image: image.transpose(T.TRANSPOSE),
    "as JPEG": _saved, "as JPEG of quality 20": lambda image: _saved(image, 20), "half as large": _half,
    "darker": _darker, "turned, half as large, as JPEG": lambda image: _saved(_half(image.transpose(T.ROTATE_270))),
}  # fmt: skip


def core(image: Image.Image) -> Image.Image:
    """A round piece of tissue on white."""
    side = min(image.size)
    mask, out = Image.new("L", (side, side), 0), Image.new("RGB", (side * 6 // 5,) * 2, (243, 242, 244))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    out.paste(image.crop((0, 0, side, side)), (side // 10,) * 2, mask)
    return out


def of_image(image: Image.Image) -> GreyPicture | None:
    """The grey picture of an image, as of a slide."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return grey_picture(SlidePreview(np.asarray(small), (image.height, image.width)))


def measured(name: str, images: list[Image.Image]) -> str:
    """One line: false alarms, copies that are missed."""
    pictures = [of_image(image) for image in images]
    seen = [each for each in pictures if each is not None]
    alarms = drain(same_pictures(seen))
    missed = dict.fromkeys(COPIES, 0)
    for image, own in zip(images, pictures, strict=True):
        for what, change in COPIES.items():
            other = of_image(change(image))
            missed[what] += own is None or other is None or not drain(same_pictures([own, other]))
    pairs, copies = len(seen) * (len(seen) - 1) // 2, len(images) * len(COPIES)
    which = ", ".join(f"{what} {n}" for what, n in missed.items() if n)
    return (
        f"{name}: {len(images)} images, {len(images) - len(seen)} too empty; false alarms {len(alarms)} of {pairs:,} "
        f"pairs; copies missed {sum(missed.values())} of {copies}" + (f" ({which})" if which else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likeness", description=__doc__)
    parser.parse_args()
    everything: list[GreyPicture] = []
    for name, pattern in SETS.items():
        files: list[Path] = sorted(DATA.glob(pattern))
        if not files:
            print(f"{name}: not measured, {DATA} has none")
            continue
        images = [Image.open(file).convert("RGB") for file in files]
        for kind, own in (("crops", images), ("cores", [core(image) for image in images])):
            print(measured(f"{name}, {kind}", own), flush=True)
            everything += [each for image in own if (each := of_image(image))]
        begin = time.process_time()
        for file in files:
            read_preview(file)
        print(f"{name}: a look costs {1e3 * (time.process_time() - begin) / len(files):.1f} ms of a processor")
    if everything:
        thousand = (everything * (1000 // len(everything) + 1))[:1000]
        noise = np.random.default_rng(0)
        thousand = [
            GreyPicture(each.grey + noise.normal(0, 3, each.grey.shape).astype(np.float32), each.ratio)
            for each in thousand
        ]
        begin = time.process_time()
        drain(same_pictures(thousand))
        print(f"comparing 1,000: {time.process_time() - begin:.1f} s of a processor")


if __name__ == "__main__":
    main()
