"""Dense maps: the fully convolutional network against cutting every patch, from the slide's pixels to the answers.

Both answer the same patches of a drawn slide with the same weights in float32, in this process, with the same threads:
the one by `DenseScorer`, the other by `cut` and `MILModel` in batches of 256 patches (the fastest of 32 to 1024).
What they say is compared too.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from napari_distill2label.core.geometry import Block, PatchGrid
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, StudentSettings
from napari_distill2label.inference.dense import CUT_AT_ONCE, DenseScorer, dense_grid
from napari_distill2label.mil.dense import linear
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.mil.model import MILModel
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.slide import Slide
from napari_distill2label.slides.synthetic import draw_slide
from napari_distill2label.store.bundle import Bundle, load_bundle, save_bundle

from .goals import Goal
from .rounds import in_turn, ratio, timed

SHAPE = (640, 640)
CUT = 8 * CUT_AT_ONCE  # patches of a block that are cut; cutting all of them takes as long for each
# preset, stride in pixels of the model, the slide's µm/px where the model's is 0.5 (None: not resampled)
CASES = (
    ("colon", 1, None),
    ("colon", 4, None),
    ("colon", 9, None),
    ("colon", 4, 0.2527),
    ("breast", 1, None),
    ("breast", 4, None),
)


def _bundle(folder: Path, preset: str) -> Bundle:
    """An untrained network: what it says is of no interest, only how long that takes and how equal it is."""
    torch.manual_seed(0)
    settings = build_settings(preset, "paper")
    model = MILModel(settings.architecture, 2, (3, settings.patches.size_px, settings.patches.size_px))
    nn.init.normal_(model.head.weight, std=3.0)  # logits that spread by about 1, as a trained network's
    model.mean.fill_(0.7)
    model.std.fill_(0.2)
    about = {"network": "student", "classes": ("a", "b"), "patches": settings.patches, "training": StudentSettings()}
    return load_bundle(save_bundle(folder / preset, model, about, {}))


def _cutter(model: MILModel, slide: Slide, patches: PatchGrid, block: Block) -> Callable[[], np.ndarray]:
    def work() -> np.ndarray:
        logits = []
        for start in range(0, min(CUT, len(block.corners)), CUT_AT_ONCE):
            corners = block.corners[start : start + CUT_AT_ONCE]
            with torch.inference_mode():
                answer = model(torch.from_numpy(cut(slide, corners, patches.side, patches.patch_px)))
            logits.append(answer.instance_logits.numpy())
        return np.concatenate(logits)

    return work


def _products(quick: bool) -> Iterator[str]:
    """A fully connected layer by torch's own product, and as the convolution that dense maps take."""
    layer, x = nn.Linear(1200, 512), torch.randn(4096, 1200)

    @torch.inference_mode()
    def plain() -> torch.Tensor:
        return F.linear(x, layer.weight, layer.bias)

    @torch.inference_mode()
    def convolution() -> torch.Tensor:
        return linear(x, layer)

    seconds = in_turn({"plain": timed(plain), "convolution": timed(convolution)}, 5 if quick else 20, warm_up=2)
    line = ratio(seconds["plain"], seconds["convolution"])
    yield f"a layer of 1200 → 512 for 4096 patches, torch's linear / as a convolution: {line}"


def measure(quick: bool = False) -> Iterator[str]:
    """Yield a line per network and stride."""
    retain_freed_memory()  # for both
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(draw_slide(1, True, SHAPE).image).save(folder / "slide.png")
        for preset, stride, mpp in CASES:
            bundle = _bundle(folder / f"{stride} {mpp}", preset)
            with open_slide(folder / "slide.png", mpp) as slide:
                yield _against_cutting(bundle, slide, preset, stride, quick)
    yield from _products(quick)


def _against_cutting(bundle: Bundle, slide: Slide, preset: str, stride: int, quick: bool) -> str:
    side = bundle.config.patches.size_px
    mpp = None if slide.mpp is None else 0.5
    patches = dense_grid(slide.shape, PatchSettings(size_px=side, stride_px=stride, mpp=mpp), slide.mpp)
    # As large a block as the engine takes; quick: a quarter.
    per_block = DenseScorer.patches_per_block // (4 if quick else 1)
    block = next(patches.blocks(per_block))
    scorer, cutter = DenseScorer(bundle), _cutter(bundle.model, slide, patches, block)
    n, n_cut = len(block.corners), min(CUT, len(block.corners))
    difference = np.abs(scorer(slide, patches, block)["logit"][:n_cut] - cutter()).max()
    competitors = {"dense": timed(lambda: scorer(slide, patches, block)), "cut": timed(cutter)}
    seconds = in_turn(competitors, rounds=3 if quick else 9, warm_up=1)
    each_cut, each_dense = seconds["cut"] / n_cut, seconds["dense"] / n
    goal = Goal(3, at_least=True) if stride in (1, scorer.network.stride) else None
    where = "" if slide.mpp is None else f", resampled from {slide.mpp[0]:g} to 0.5 µm/px"
    return (
        f"{preset}, stride {stride}{where}: cutting / dense, per patch, {ratio(each_cut, each_dense, goal)}; "
        f"{1e6 * np.median(each_cut):.1f} / {1e6 * np.median(each_dense):.1f} µs; "
        f"largest difference of {n_cut} logits {difference:.0e}"
    )
