"""Images in the published layout of CRCHistoPhenotypes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from experiments.training import trained_here
from napari_distill2label.workflow.commands.prepare_dataset import COLON_KINDS


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
