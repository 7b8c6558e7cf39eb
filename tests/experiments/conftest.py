"""Images in the published layout of CRCHistoPhenotypes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from experiments.training import trained_here
from napari_distill2label.workflow.commands.prepare_dataset import COLON_KINDS

SIDE, COUNT, EMPTY = 135, 12, 4  # px: 5 × 5 patches; images, and the number of the one without a nucleus


@pytest.fixture(autouse=True)
def nothing_remembered():
    """What a test trains is trained, and not taken from a test before."""
    trained_here.forget()


@pytest.fixture(scope="session")
def publish():
    """`publish(root, number, pixels, nuclei)`: an image with its nuclei, (x, y) from 0, by kind; none if left out."""

    def write(root: Path, number: int, pixels: np.ndarray, nuclei: dict[str, np.ndarray]) -> None:
        folder = root / "Classification" / f"img{number}"
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / f"img{number}.bmp")
        for kind in COLON_KINDS:
            points = np.reshape(nuclei.get(kind, ()), (-1, 2))
            savemat(folder / f"img{number}_{kind}.mat", {"detection": points + 1.0})  # MATLAB counts from 1

    return write


@pytest.fixture(scope="session")
def publish_set(publish):
    """`publish_set(root, random, first)`: `COUNT` images, every other with dark epithelial nuclei."""

    def write(root: Path, random: np.random.Generator, first: int = 1) -> None:
        for number in range(first, first + COUNT):
            pixels, nuclei = random.integers(150, 255, (SIDE, SIDE, 3), dtype=np.uint8), {}
            if number != EMPTY:
                nuclei["fibroblast"] = random.uniform(14, SIDE - 14, (12, 2))
            if number % 2:
                nuclei["epithelial"] = random.uniform(14, SIDE - 14, (10, 2))
                for x, y in nuclei["epithelial"].astype(int):
                    pixels[y - 5 : y + 5, x - 5 : x + 5] //= 3
            publish(root, number, pixels, nuclei)

    return write
