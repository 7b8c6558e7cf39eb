"""A GPU: does it compute what the processor does, does a training step wait for it, and how fast is the work on it?

`python -m benchmarks.gpu` takes less than ten minutes on a GPU and prints the table for docs/benchmarks.md. `--device
cpu --short` shows in a minute that it runs. Slides and encoder are drawn: no data are needed. The window's part (live
loop, gaps) needs a screen or xvfb-run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from torch import Tensor, nn

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import drain
from napari_distill2label.core.inputs import Compute, Encoder, Inputs
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import OutOfFoldSettings
from napari_distill2label.mil.device import choose_device, compute_dtype
from napari_distill2label.mil.losses import InheritedLabelLoss, Loss, StudentLoss, TeacherLoss
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.mil.model import MILModel
from napari_distill2label.mil.training import make_optimiser, predict_bag
from napari_distill2label.mil.training_bags import BagBatch, TrainingBag
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.synthetic import write_cohort
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow.commands.extract_features import extract_features
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.train import train
from napari_distill2label.workflow.stopwatch import device_name

from .goals import Goal, figure
from .pyramids import compressed, repeated_tiles

PATCH_PX, ENCODER_PX, TILE_PX, MPP = 27, 224, 256, 0.5
FOLDS = 5


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    bag: int  # patches
    drawn: int  # slides; a cohort repeats them
    slides: int
    side_px: int  # of a slide of the cohort
    large_px: int  # of the slide that is predicted and encoded; whole tiles
    width: int  # of the encoder
    depth: int
    overrides: dict[str, Any]
    window: bool


FULL = Size(324, 16, 80, 500, 16_384, 768, 12, {}, True)
ONE_EPOCH = {part: {"epochs": 1} for part in ("teacher", "oof", "student")}
SHORT = Size(12, 4, 8, 128, 1024, 8, 1, ONE_EPOCH, False)


# ---- the same numbers ----------------------------------------------------------------------------------------------


def agreement(device: torch.device, size: Size) -> Iterator[str]:
    """How far logits and gradients of one network on one bag are from those of the processor in float32."""
    bag = random_bag(size.bag)
    logits, gradient = _answer(bag, torch.device("cpu"), torch.float32)
    goals = {"float32": Goal(1e-2), str(compute_dtype("auto", device)).removeprefix("torch."): None}
    for name, goal in goals.items():
        found, own = _answer(bag, device, getattr(torch, name))
        yield figure(f"logits, {name}, largest difference from the processor's", [_apart(found, logits)], "", goal)
        yield figure(f"gradient, {name}, relative difference", [_apart(own, gradient)], "", goal)


def random_bag(patches: int, label: int = 1) -> Bag:
    pixels = np.random.default_rng(label).integers(0, 256, (patches, 3, PATCH_PX, PATCH_PX), np.uint8)
    return Bag(f"bag{label}", pixels, np.zeros((patches, 2), np.int64), (label,))


def model_on(device: torch.device, dtype: torch.dtype) -> MILModel:
    torch.manual_seed(0)
    model = MILModel(build_settings("colon", "paper").architecture, 2, (3, PATCH_PX, PATCH_PX)).to(device)
    model.mean.fill_(0.5)
    model.std.fill_(0.3)
    model.dtype = dtype
    return model


def _answer(bag: Bag, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits of all patches and the gradient of the bag's first logit, on the processor."""
    model = model_on(device, dtype).eval()
    output = model(torch.from_numpy(bag.instances))
    output.bag_logits[0, 0].backward()
    gradient = torch.cat([own.grad.flatten() for own in model.parameters() if own.grad is not None])
    return output.instance_logits.detach().cpu(), gradient.cpu()


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


# ---- steps that wait for nothing -------------------------------------------------------------------------------------


def steps(device: torch.device, size: Size) -> Iterator[str]:
    """Milliseconds of a step of each network, and whether it makes the processor wait for a GPU."""
    settings = build_settings("colon", "paper")
    dtype = compute_dtype("auto", device)
    bag = TrainingBag.of(random_bag(size.bag), 2, predict_bag(model_on(device, dtype), random_bag(size.bag)))
    bag = replace(bag, oof_targets=bag.teacher_targets and bag.teacher_targets.instance_logits)
    losses: dict[str, Loss] = {
        "teacher": TeacherLoss(settings.teacher),
        "out-of-fold classifier": InheritedLabelLoss(OutOfFoldSettings(rotate_flip=True, stain_jitter=0.15)),
        "student": StudentLoss(settings.student.model_copy(update={"gamma_oof": 1.0, "gamma_n": 1.0})),
    }
    for name, loss_function in losses.items():
        model = model_on(device, dtype).train()
        optimiser = make_optimiser(model, settings.teacher)
        step = partial(_step, model, loss_function, bag, optimiser)
        for _ in range(3):
            step()
        yield figure(f"{name}: a step on {size.bag} patches", [1000 * _seconds(step, device, 10)], "ms")
        if device.type == "cuda":
            yield f"{name}: a step waits for the GPU: {_waits(step) or 'no'}"


def _step(model: MILModel, loss_function: Loss, bag: TrainingBag, optimiser: torch.optim.Optimizer) -> None:
    terms = loss_function(model, BagBatch.of([bag], model.device))
    optimiser.zero_grad(set_to_none=True)
    torch.stack([loss_function.weights[name] * term for name, term in terms.items()]).sum().backward()
    optimiser.step()


def _waits(step: Callable[[], None]) -> str:
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return f"yes ({str(error).splitlines()[0]})"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def _seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds on the clock of one of `times` runs, the GPU's last one included."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - began) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# ---- whole work ------------------------------------------------------------------------------------------------------


def work(device: torch.device, size: Size, folder: Path) -> Iterator[str]:
    """Train by both methods, predict a slide, and compute its features."""
    cohort = repeated(Cohort.read(write_cohort(folder / "drawn", size.drawn, shape=(size.side_px,) * 2)), size.slides)
    runs = {}
    for method, baseline in (("paper", True), ("recommended", False)):
        settings = build_settings("colon", method, {**size.overrides, "device": str(device)})
        seconds, runs[method] = timed(train(cohort, folder / method, settings, baseline=baseline))
        rows = "three rows of Table I (plain MIL, teacher, student)" if baseline else "method recommended"
        yield figure(f"{rows}, one fold, {len(cohort)} slides of {size.side_px} px", [seconds], "s")
        if baseline:
            yield figure(f"{FOLDS} folds of that", [FOLDS * seconds], "s", Goal(180, "s"))
    slide = large_slide(folder / "large.tif", cohort.slides[1].path, size.large_px)
    compute = Compute(device=str(device))
    seconds, (found,) = timed(predict(runs["recommended"], [slide], folder / "labels", compute=compute))
    patches = int(found.scored.sum())
    yield figure(f"predicting {size.large_px:,}² px, {patches:,} patches", [patches / seconds], "patches a second")
    yield from encoding(device, size, slide, folder)


def timed(events: Generator[Any, None, Any]) -> tuple[float, Any]:
    """Seconds on the clock, and the result."""
    began = time.perf_counter()
    result = drain(events)
    return time.perf_counter() - began, result


def repeated(cohort: Cohort, count: int) -> Cohort:
    """A cohort of `count` slides: those of a small one, under other names."""
    rows = [
        replace(row, slide_id=f"{row.slide_id}-{number}", case_id=f"case-{number}-{row.slide_id}")
        for number in range(-(-count // len(cohort)))
        for row in cohort
    ]
    return cohort.with_slides(rows[:count])


def large_slide(path: Path, of: Path, side_px: int) -> Path:
    """A tiled TIFF of `side_px`² px that repeats the JPEG tiles of a drawn slide."""
    with open_slide(of) as slide:
        pixels = slide.read(0, 0, 0, *slide.shape)
    pixels = np.tile(pixels, (-(-TILE_PX // pixels.shape[0]), -(-TILE_PX // pixels.shape[1]), 1))[:TILE_PX, :TILE_PX]
    tiles = repeated_tiles(compressed(pixels, TILE_PX), (1, 1), side_px // TILE_PX)
    tifffile.imwrite(
        path, tiles, shape=(side_px, side_px, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX), photometric="rgb",
        compression="jpeg", compressionargs={"outcolorspace": "RGB"}, metadata=None,
        resolution=(10_000 / MPP,) * 2, resolutionunit="CENTIMETER",
    )  # fmt: skip
    return path


def encoding(device: torch.device, size: Size, slide: Path, folder: Path) -> Iterator[str]:
    """Features of a slide, and what the encoder does by itself with patches that are on the device already."""
    network = encoder(size.width, size.depth).to(device)
    batch = torch.rand(min(64, (size.large_px // ENCODER_PX) ** 2), 3, ENCODER_PX, ENCODER_PX, device=device)
    with torch.inference_mode():
        network(batch)
        bare = len(batch) / _seconds(partial(network, batch), device, 10 if device.type == "cuda" else 1)
    path = folder / "encoder.pt"
    torch.jit.trace(network.cpu(), torch.rand(2, 3, ENCODER_PX, ENCODER_PX)).save(path)
    about = {"name": "drawn", "patch_px": ENCODER_PX, "mpp": MPP, "features": size.width}
    path.with_suffix(".json").write_text(json.dumps(about), "utf-8")
    cohort = Cohort((CohortSlide("large", slide, None, "large"),), ())
    grid = build_settings("wsi").patches.model_copy(update={"tissue": "none", "size_px": ENCODER_PX, "mpp": MPP})
    inputs = Inputs(encoder=Encoder(path, trusted=True))
    seconds, _ = timed(
        extract_features(cohort, folder / "features", grid, inputs=inputs, compute=Compute(device=str(device)))
    )
    patches = len(FeatureMap.open(folder / "features" / "large.zarr"))
    yield figure(f"features of {patches:,} patches of {ENCODER_PX} px", [patches / seconds], "patches a second")
    yield figure("the encoder alone, patches on the device", [bare], "patches a second")
    yield figure("features / the encoder alone", [patches / seconds / bare], "", Goal(0.9, at_least=True))


def encoder(width: int, depth: int) -> nn.Module:
    """A network with the work of a vision transformer: `depth` layers on 14 × 14 places. Its weights are random."""
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.GELU())]
    return nn.Sequential(nn.Conv2d(3, width, 16, 16), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def window() -> Iterator[str]:
    """The live loop and the window's gaps, by their own scripts."""
    screen = [] if os.environ.get("DISPLAY") or sys.platform != "linux" else ["xvfb-run", "-a"]
    for script in (("live", "--rounds", "3"), ("window", "--seconds", "5", "--rounds", "2")):
        if screen and shutil.which(screen[0]) is None:
            yield f"{script[0]}: not measured: there is no screen"
            continue
        command = [*screen, sys.executable, "-m", f"benchmarks.{script[0]}", *script[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        yield from done.stdout.splitlines()
        if done.returncode:
            yield f"{script[0]}: not measured: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}"


def measure(device_wanted: str = "auto", short: bool = False) -> Iterator[str]:
    """Yield all of it, line by line."""
    retain_freed_memory()
    device, size = choose_device(device_wanted), SHORT if short else FULL
    yield f"{device_name(device)}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    yield from agreement(device, size)
    yield from steps(device, size)
    with tempfile.TemporaryDirectory() as folder:
        yield from work(device, size, Path(folder))
    if size.window:
        yield from window()


def as_row(line: str) -> str:
    """A line as a row of the table: what, figure, goal and verdict."""
    what, _, rest = line.partition(": ")
    value, _, goal = rest.partition(", goal ")
    return f"| {what} | {value} | {goal} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="auto", help="as for training")
    parser.add_argument("--short", action="store_true", help="only shows that it runs")
    options = parser.parse_args()
    about, *lines = (print(line, flush=True) or line for line in measure(options.device, options.short))
    print(f"\n{about}\n\n| | measured | goal |\n|---|---|---|", *map(as_row, lines), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
