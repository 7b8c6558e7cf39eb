"""The walk over a slide: every scored patch once, blocks that are done not again."""

import numpy as np
import pytest
import torch

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import Progress, Task
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.inference import engine
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.inference.engine import PatchScorer
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.synthetic import draw_slide, write_image
from napari_distill2label.store.maps.patch_map import PatchMap

SHAPE = (100, 120)
WALK = Progress(Task.PREDICT)


@pytest.fixture
def slide(tmp_path):
    write_image(tmp_path / "s.png", draw_slide(1, True, SHAPE).image)
    with open_slide(tmp_path / "s.png") as opened:
        yield opened


@pytest.fixture
def network():
    """The mean of each patch as its probability; remembers how many patches it was shown. Not for many threads."""

    class Mean:
        def __init__(self):
            self.shown = []

        def __call__(self, patches):
            assert patches.dtype == np.uint8
            assert patches.shape[1] == 3
            self.shown.append(len(patches))
            mean = patches.mean((1, 2, 3), dtype=np.float64) / 255
            two = np.stack([1 - mean, mean], 1).astype(np.float32)
            return {"probability": two, "logit": two, "score": mean.astype(np.float32)}

    return Mean()


def patches_of(kind):
    if kind == "points":
        centres = np.random.default_rng(0).uniform(0, 99, (23, 2))
        return PatchPoints.at(centres, SHAPE, PatchSettings(size_px=15))
    grid = PatchGrid.over(SHAPE, PatchSettings(size_px=15, stride_px={"grid": None, "dense": 6, "tissue": None}[kind]))
    return grid.with_tissue(np.arange(grid.rows * grid.cols).reshape(grid.shape) % 3 == 0) if kind == "tissue" else grid


@pytest.mark.parametrize("kind", ["grid", "dense", "tissue", "points"])
@pytest.mark.parametrize("per_block", [1, 7, 10_000])
def test_every_patch_is_scored_once_whatever_the_blocks(slide, network, kind, per_block, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", per_block * 15**2)
    patches = patches_of(kind)
    sink = PatchMap.create(None, patches, ("a", "b"), SlideInfo("s"))
    events = list(engine.score_slide(slide, sink, PatchScorer(network, at_once=1), WALK))
    n = int(patches.scored.sum())
    assert sum(network.shown) == n
    assert max(network.shown) <= 2 * per_block
    assert (sink.scored == patches.scored).all()
    assert [event.total for event in events] == [n] * len(events)
    counts = [event.step for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == n
    assert events[-1].task is Task.PREDICT
    expected = cut(slide, patches.corners, 15, 15).mean((1, 2, 3), dtype=np.float64) / 255
    np.testing.assert_allclose(sink.score[patches.scored], expected, atol=1e-6)


def test_done_blocks_are_not_read_again(slide, network, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 4 * 15**2)
    sink = PatchMap.create(None, patches_of("grid"), ("a", "b"), SlideInfo("s"))
    work = engine.score_slide(slide, sink, PatchScorer(network, at_once=1), WALK, threads=1)
    while next(work).step < 8:
        pass
    work.close()
    begun = int(sink.scored.sum())
    assert 8 <= begun < sink.patches.scored.sum()
    assert sum(network.shown) == begun  # what was begun is kept too
    events = list(engine.score_slide(slide, sink, PatchScorer(network, at_once=1), WALK))
    assert sum(network.shown) == sink.scored.sum() == events[-1].total
    assert events[0].step == 4  # what is skipped counts as done


def test_a_slide_that_ends_early_is_an_error(slide, network):
    sink = PatchMap.create(None, patches_of("grid"), ("a", "b"), SlideInfo("s"))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        list(engine.score_slide(slide, sink, PatchScorer(network, at_once=1), WALK))
    assert not sink.scored.any()


@pytest.mark.parametrize(("patch_px", "per_block"), [(224, 64), (27, 4096), (2048, 1)])
def test_a_gpu_gets_whole_blocks_at_once(patch_px, per_block):
    patches = PatchGrid.over((4096, 4096), PatchSettings(size_px=patch_px))
    scorer = PatchScorer.on_accelerator(lambda shown: {}, patch_px)
    assert engine.patches_per_block(scorer, patches) == per_block <= scorer.batch


@pytest.mark.parametrize(
    ("said", "error", "shown"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", MemoryError, "out of memory with 4 patches of 15 px"),
        ("could not create a primitive", RuntimeError, "^could not create a primitive$"),
    ],
)
def test_an_encoder_that_runs_out_of_memory_is_shown_fewer_patches(slide, tmp_path, said, error, shown):
    """A small program, as TorchScript, that says what torch says; a GPU takes all patches of a block at once."""

    class SmallMemory(torch.nn.Module):
        said: str

        def __init__(self):
            super().__init__()
            self.said = said

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            if len(patches) > 3:
                raise RuntimeError(self.said)
            return patches.mean((2, 3))

    path = tmp_path / "e.pt"
    torch.jit.script(SmallMemory()).save(path)
    path.with_suffix(".json").write_text('{"name": "e", "patch_px": 15, "features": 3}')
    encoder = FrozenEncoder(path, "cpu", trusted=True)
    patches = patches_of("grid")
    with pytest.raises(error, match=shown):
        encoder(cut(slide, patches.corners[:4], 15, 15))
    scorer = PatchScorer.on_accelerator(encoder, 15)
    found = scorer(slide, patches, next(patches.blocks(9)))["features"]
    assert scorer.batch <= 3
    shown = cut(slide, next(patches.blocks(9)).corners, 15, 15)
    np.testing.assert_allclose(found, shown.mean((2, 3)) / 255, atol=1e-5)
