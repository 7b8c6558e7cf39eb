"""Copies of a slide are found in other clothes, and slides of one kind are no copies."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from napari_distill2label.core.events import drain
from napari_distill2label.slides.likeness import grey_picture, same_pictures
from napari_distill2label.slides.preview import SlidePreview, read_preview


def tissue(seed: int, shape=(300, 420)) -> np.ndarray:
    """(h, w, 3) uint8 with structure of all sizes, as tissue has."""
    rng, total = np.random.default_rng(seed), np.zeros(shape)
    for side in (4, 9, 25, 80):
        coarse = Image.fromarray(rng.normal(0, 1, (side, side)).astype(np.float32))
        total += np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))
    grey = 150 + 40 * total / total.std()
    return np.clip(grey[..., None] * (1.05, 0.75, 0.95), 0, 255).astype(np.uint8)


def core(image: np.ndarray, hole: float = 0.0) -> np.ndarray:
    """A round piece of it on white."""
    mask = Image.new("L", image.shape[1::-1], 0)
    height, width = image.shape[:2]
    ImageDraw.Draw(mask).ellipse((20, 20, width - 20, height - 20), fill=255)
    return np.where(np.asarray(mask)[..., None] > 0, image, np.uint8(243))


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def half(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).reduce(2))


CLOTHES = {
    "as it is": lambda image: image,
    "turned": np.rot90,
    "upside down": lambda image: np.rot90(image, 2),
    "turned to the right": lambda image: np.rot90(image, 3),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored and turned": lambda image: np.rot90(image[:, ::-1]),
    "saved anew": as_jpeg,
    "smaller": half,
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "all at once": lambda image: as_jpeg(half(np.ascontiguousarray(np.rot90(image)[::-1]))),
}


@pytest.fixture
def pictures(tmp_path: Path):
    """What is seen of pictures that lie in files."""

    def make(images):
        found = []
        for number, image in enumerate(images):
            path = tmp_path / f"{number}.png"
            Image.fromarray(np.ascontiguousarray(image)).save(path)
            found.append(grey_picture(read_preview(path)))
        return found

    return make


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("cut", [lambda image: image, core], ids=["crop", "core"])
def test_a_copy_is_found_among_others(pictures, clothes, cut):
    images = [cut(tissue(seed)) for seed in range(5)]
    assert drain(same_pictures(pictures([*images, CLOTHES[clothes](images[2])]))) == [(2, 5)]


def test_round_cores_on_white_are_no_copies(pictures):
    assert drain(same_pictures(pictures([core(tissue(seed, (300, 300))) for seed in range(30)]))) == []


def test_a_square_is_no_copy_of_a_strip(pictures):
    image = tissue(0)
    assert drain(same_pictures(pictures([image, image[:, ::2]]))) == []


def test_empty_pictures_have_no_look(pictures):
    white = np.full((100, 100, 3), 240, np.uint8)
    noise = np.random.default_rng(0).integers(238, 242, (100, 100, 3)).astype(np.uint8)
    assert pictures([white, noise]) == [None, None]
    assert grey_picture(SlidePreview()) is None


def test_every_pair_of_many_is_found_once(pictures, monkeypatch):
    monkeypatch.setattr("napari_distill2label.slides.likeness.BLOCK", 3)
    images = [tissue(seed, (64, 64)) for seed in range(8)]
    both = pictures([*images, *(np.rot90(image) for image in images)])
    assert drain(same_pictures(both)) == [(number, number + 8) for number in range(8)]
