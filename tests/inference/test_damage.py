"""A slide damaged in part: what can be read is scored, what cannot is told apart from what was not asked for."""

import threading

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError, TileError
from napari_distill2label.core.events import Progress, Task
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.inference import engine
from napari_distill2label.inference.damage import score_readable, split_block
from napari_distill2label.inference.engine import PatchScorer
from napari_distill2label.slides.backends.protocol import ArrayLevel, Source
from napari_distill2label.slides.slide import Slide
from napari_distill2label.store.maps.patch_map import PatchMap

SHAPE = (120, 160)
WALK = Progress(Task.PREDICT)
BOXES = ((40, 64, 16, 16), (0, 0, 16, 16))  # (y, x, h, w) of tiles that cannot be decoded


class Damaged(ArrayLevel):
    """Pixels of which some tiles cannot be decoded: reading them raises what a file's reader raises."""

    def read(self, y, x, h, w):
        hit = [box for box in BOXES if y < box[0] + 16 and y + h > box[0] and x < box[1] + 16 and x + w > box[1]]
        if hit:
            raise TileError("tiles are damaged", hit)
        return super().read(y, x, h, w)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)


@pytest.fixture
def slide(pixels, tmp_path):
    return Slide.of(tmp_path / "damaged.tif", Source((Damaged(pixels),)))


def means(patches):
    mean = patches.mean((1, 2, 3), dtype=np.float64) / 255
    two = np.stack([1 - mean, mean], 1).astype(np.float32)
    return {"probability": two, "logit": two, "score": mean.astype(np.float32)}


def patches_of(kind):
    if kind == "points":
        return PatchPoints.at(
            np.random.default_rng(1).uniform(0, (119, 159), (150, 2)), SHAPE, PatchSettings(size_px=9)
        )
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=9, stride_px=5 if kind == "dense" else None))
    return grid.with_tissue(np.arange(grid.rows * grid.cols).reshape(grid.shape) % 3 > 0) if kind == "tissue" else grid


def unreadable(patches):
    """Which of the patches asked for are lost: does one, reflected at the border, need a pixel of a damaged tile?"""
    bad = np.zeros(SHAPE, bool)
    for y, x, h, w in BOXES:
        bad[y : y + h, x : x + w] = True
    padded = np.pad(bad, 9, mode="reflect")
    return np.array([padded[y + 9 : y + 18, x + 9 : x + 18].any() for y, x in patches.corners])


@pytest.mark.parametrize("kind", ["grid", "dense", "tissue", "points"])
@pytest.mark.parametrize("per_block", [16, 4096])
def test_only_the_patches_of_damaged_tiles_are_left_out(slide, pixels, monkeypatch, kind, per_block):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", per_block * 9**2)
    patches, whole = patches_of(kind), Slide.of(slide.path, Source((ArrayLevel(pixels),)))
    sink, expected = (PatchMap.create(None, patches, ("a", "b"), SlideInfo("s")) for _ in range(2))
    events = list(engine.score_slide(slide, sink, PatchScorer(means), WALK))
    list(engine.score_slide(whole, expected, PatchScorer(means), WALK))
    assert events[-1].step == events[-1].total
    lost = unreadable(patches)
    assert 0 < lost.sum() < len(lost) / 2
    np.testing.assert_array_equal(sink.failed[patches.scored], lost)
    np.testing.assert_array_equal(sink.scored[patches.scored], ~lost)
    np.testing.assert_allclose(sink.score[sink.scored], expected.score[sink.scored], atol=1e-6)
    assert sorted(sink.damaged_regions) == sorted(BOXES)
    sink.finish([0.5, 0.5])
    assert ((sink.to_labels() == 0) == (~patches.scored | sink.failed)).all()
    assert len(sink.table()) == int((~lost).sum())
    np.testing.assert_allclose(np.nansum(sink.attention), 1, atol=1e-5)
    assert sink.is_done(next(patches.blocks(10_000)))  # not tried again


def test_what_failed_is_kept_with_the_map(slide, tmp_path):
    patches = patches_of("grid")
    sink = PatchMap.create(tmp_path / "m.zarr", patches, ("a", "b"), SlideInfo("s"))
    list(engine.score_slide(slide, sink, PatchScorer(means), WALK))
    begun = PatchMap.open(tmp_path / "m.zarr")
    begun.finish([0.5, 0.5])
    again = PatchMap.open(tmp_path / "m.zarr")
    assert again.failed.any()
    np.testing.assert_array_equal(again.failed, sink.failed)
    assert again.damaged_regions == sink.damaged_regions
    assert again.is_complete


def test_a_block_without_a_patch_that_could_be_read_is_not_read_in_pieces():
    """A region larger than a tile, of thousands of patches: halving it down to each would take minutes."""
    calls = []

    def scorer(slide, patches, block):
        calls.append(len(block.corners))
        raise TileError("all of it", [(0, 0, 120, 160)])

    patches = patches_of("dense")
    result = score_readable(scorer, None, patches, next(patches.blocks(10_000)))
    assert result.damaged.all()
    assert result.arrays == {}
    assert len(calls) == 1


def test_a_slide_that_is_gone_is_no_damaged_tile(slide):
    """What was scored before is kept; the walk ends by the error."""
    reads, lock = [], threading.Lock()

    def vanishing(opened, patches, block):
        with lock:
            reads.append(block)
            if len(reads) > 5:
                raise SlideError("damaged.tif: no such file any more")
        return PatchScorer(means)(
            Slide.of(slide.path, Source((ArrayLevel(np.zeros((*SHAPE, 3), np.uint8)),))), patches, block
        )

    sink = PatchMap.create(None, patches_of("grid"), ("a", "b"), SlideInfo("s"))
    scorer = vanishing
    scorer.patches_per_block = 4
    with pytest.raises(SlideError, match="no such file any more"):
        list(engine.score_slide(slide, sink, scorer, WALK, threads=1))
    assert sink.scored.sum() >= 4
    assert not sink.failed.any()


@pytest.mark.parametrize("kind", ["grid", "tissue", "points"])
def test_halves_hold_each_patch_once_and_keep_its_place(kind):
    patches = patches_of(kind)
    block = next(patches.blocks(10_000))
    seen = np.zeros(patches.shape, int)
    for part, index in split_block(block):
        assert part.scored.shape == tuple(s.stop - s.start for s in part.window)
        np.testing.assert_array_equal(part.corners, block.corners[index])
        seen[part.window] += part.scored
    np.testing.assert_array_equal(seen, patches.scored.astype(int))
