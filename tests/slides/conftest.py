"""Pixels and small slides that the tests of this room write themselves."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.slides import Slide, open_slide


@pytest.fixture
def pixels() -> np.ndarray:
    """(130, 170, 3) uint8 noise: no two places alike."""
    return np.random.default_rng(0).integers(0, 256, (130, 170, 3), np.uint8)


@pytest.fixture
def make_slide(tmp_path: Path) -> Iterator[Callable[..., Slide]]:
    """Write pixels to a PNG and open it."""
    opened = []

    def make(image: np.ndarray, mpp: float | None = None) -> Slide:
        path = tmp_path / f"slide{len(opened)}.png"
        Image.fromarray(image).save(path, compress_level=1)
        opened.append(open_slide(path, mpp))
        return opened[-1]

    yield make
    for slide in opened:
        slide.close()


@pytest.fixture
def without_openslide():
    """`without_openslide(path)` -> what `open_slide` says of a file in a process that has no OpenSlide."""

    def said(path):
        code = (
            "import sys; sys.modules['openslide'] = None\n"
            "from napari_distill2label.slides import open_slide\n"
            "from napari_distill2label.core.errors import SlideError\n"
            "try: open_slide(sys.argv[1])\n"
            "except SlideError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return said
