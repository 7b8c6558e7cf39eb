"""MNIST digits from their published files, and the bags of the paper's Figure 2 drawn from them."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import CohortError

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
IMAGES_MAGIC, LABELS_MAGIC = 0x0803, 0x0801  # idx: two zero bytes, the type (8: uint8), the number of axes
LARGEST = 2**28  # bytes of a file that are looked at; MNIST has 47 million
SIDE = 28
FINDING = 9  # a bag is positive if this digit is in it
SIZE_VARIANCE = 5.0  # of the number of instances, N(K, 5)


@dataclass(frozen=True, eq=False)
class Digits:
    """Images (n, 28, 28) uint8, white on black, and the digit each shows (n,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def find_digits(data: Path) -> Path:
    """The folder of the four MNIST files: `data`, or the first one below it. `CohortError` if there is none."""
    first = FILES["train"][0]
    if not data.is_dir():
        raise CohortError(f"{data}: no such folder")
    found = [data / first] if (data / first).exists() else sorted(data.rglob(first))
    if not found:
        raise CohortError(f"{data}: holds no {first}; name the folder of the four MNIST files, or a parent of it")
    return found[0].parent


def read_digits(folder: Path, part: str) -> Digits:
    """The digits of `part`, "train" or "test". `CohortError` if a file is missing or damaged."""
    images_name, labels_name = FILES[part]
    images = read_idx(folder / images_name, IMAGES_MAGIC)
    labels = read_idx(folder / labels_name, LABELS_MAGIC)
    if images.shape[1:] != (SIDE, SIDE):
        raise CohortError(
            f"{folder / images_name}: its images are {images.shape[1]} × {images.shape[2]} px, not {SIDE} × {SIDE}"
        )
    if len(images) != len(labels):
        raise CohortError(
            f"{folder / images_name}: {len(images)} images, but {len(labels)} labels in {labels_name}: get both again"
        )
    if not len(labels) or labels.max() > 9:
        raise CohortError(f"{folder / labels_name}: its labels are not the digits 0 to 9: get the file again")
    return Digits(images, labels)


def read_idx(path: Path, magic: int) -> np.ndarray:
    """A gzipped idx file: `magic` and one length per axis as big-endian uint32, then the values, uint8.

    The number of axes is the last byte of `magic`. `CohortError` if the file is missing or anything else than that.
    """
    axes = magic & 0xFF
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            if len(header) != 4 + 4 * axes or int.from_bytes(header[:4], "big") != magic:
                raise CohortError(f"{path}: is no idx file of {axes} axes of bytes: get the file again")
            shape = struct.unpack_from(f">{axes}I", header, 4)
            count = math.prod(shape)
            values = file.read(min(count, LARGEST) + 1)
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file; the MNIST set has four, get the missing one") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CohortError(f"{path}: cannot be read ({error}): get the file again") from None
    if len(values) != count:
        much = "more" if len(values) > count else "less"
        raise CohortError(f"{path}: holds {much} than the {shape} values it announces: get the file again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def draw_bags(digits: Digits, count: int, mean_size: int, seed: tuple[int, ...]) -> list[Bag]:
    """`count` bags of digits, half of them positive (one fewer where `count` is odd): balanced by construction.

    For every bag the label is decided first; then its size K, the integer closest to a draw from N(`mean_size`, 5)
    and at least 1, the same for both labels; then K images uniformly and with replacement, all K again until a 9 is
    among them or not, as the label says. So the digits of a bag are uniform given its label: the number of nines in a
    positive bag is Binomial(K, share of nines) given that it is not 0, mostly one or two.
    """
    nines = digits.labels == FINDING
    if not 0 < nines.sum() < len(nines):
        raise CohortError(f"bags of both labels need images of the digit {FINDING} and of others")
    rng = np.random.default_rng(seed)
    bags = []
    for number in range(count):
        positive = number % 2
        size = max(1, round(rng.normal(mean_size, SIZE_VARIANCE**0.5)))
        chosen = rng.integers(len(nines), size=size)
        while nines[chosen].any() != positive:
            chosen = rng.integers(len(nines), size=size)
        coordinates = np.zeros((size, 2), np.int64)  # digits lie nowhere
        bags.append(Bag(f"bag{number}", digits.images[chosen][:, None], coordinates, (positive,)))
    return bags
