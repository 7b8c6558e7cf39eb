"""Training on features of whole slides: bags of 100,000 instances × 1280 features, in memory that does not grow.

python -m benchmarks.features [--bags 4] [--instances 100000] [--stage baseline|teacher|oof|student] trains one
network on drawn features that lie on disk as the cache keeps them, and reports seconds per epoch and the most memory
the process ever held. Pages of mapped files are counted in it, although the system may take them back at any time; what
is held without them is reported apart.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.mil.device import choose_device, compute_dtype
from napari_distill2label.mil.memory import retain_freed_memory
from napari_distill2label.mil.pipeline import BASELINE_WEIGHTS, Stage, TrainingPipeline
from napari_distill2label.mil.training import TrainingState, fit
from napari_distill2label.store.maps.feature_map import FeatureMap

FEATURES = 1280
POSITIVE = 0.1  # share of the instances of positive bags that differ


def draw(path: Path, number: int, instances: int) -> Bag:
    """A bag of drawn features, as the cache keeps it."""
    cols = int(np.ceil(instances**0.5))
    grid = PatchGrid.over((cols * 256,) * 2, PatchSettings(size_px=256))
    grid = grid.with_tissue(np.arange(cols * cols).reshape(cols, cols) < instances)
    features = FeatureMap.open_or_create(path, grid, FEATURES, {})
    rng = np.random.default_rng(number)
    for block in features.patches.blocks(4096):
        drawn = rng.gamma(0.5, 1, (len(block.corners), FEATURES)).astype(np.float32)
        if number % 2:
            drawn[rng.random(len(drawn)) < POSITIVE, :64] *= 1.5
        features.write(block, drawn)
    return Bag(path.name, features.instances(), features.patches.corners, (number % 2,))


def memory() -> dict[str, float]:
    """GiB of this process: `peak` ever held, `own` now, without pages of files."""
    status = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE))
    return {"peak": int(status["VmHWM"]) / 2**20, "own": int(status["RssAnon"]) / 2**20}


def measure(bags: int, instances: int, network: str, epochs: int = 2) -> Iterator[str]:
    retain_freed_memory()  # as the command line does
    overrides = {name: {"epochs": epochs} for name in ("teacher", "oof", "student")}
    settings, device = build_settings("wsi", overrides=overrides), choose_device("auto")
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:  # /tmp may be memory
        made = [draw(Path(folder) / f"{number}.zarr", number, instances) for number in range(bags)]
        size = sum(bag.instances.nbytes for bag in made) / 2**30
        yield f"{bags} bags of {instances} × {FEATURES} features: {size:.2f} GiB"
        stage = stage_of(network, TrainingPipeline(made, (), 2, settings, device))
        stage.model.dtype = compute_dtype("auto", device)
        start, own = time.perf_counter(), 0.0
        for item in fit(stage.model, stage.loss_function, stage.training_bags, (), stage.settings):
            own = max(own, memory()["own"])
            if isinstance(item, TrainingState):
                seconds, start = time.perf_counter() - start, time.perf_counter()
                loss, peak = item.history[-1]["loss"], memory()["peak"]
                yield (
                    f"{network}: epoch {item.epoch}: {seconds:.0f} s, loss {loss:.3f}, peak {peak:.2f} GiB; "
                    f"without mapped files {own:.2f} GiB between steps"
                )


def stage_of(network: str, pipeline: TrainingPipeline) -> Stage:
    settings = pipeline.settings
    if network == "baseline":
        return pipeline.make_bag_stage("baseline", settings.teacher.model_copy(update=BASELINE_WEIGHTS))
    teacher = pipeline.make_bag_stage("teacher", settings.teacher)
    if network == "teacher":
        return teacher
    if network == "oof":
        return next(item for item in pipeline.oof_targets(()) if isinstance(item, Stage))
    # What an untrained teacher says costs as much to learn as what a trained one says.
    own = settings.model_copy(update={"student": settings.student.model_copy(update={"gamma_oof": 0.0})})
    pipeline.settings = own
    return next(item for item in pipeline.student_stages(teacher.model) if isinstance(item, Stage))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--bags", type=int, default=4)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--stage", choices=("baseline", "teacher", "oof", "student"), default="teacher")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    print(f"{choose_device('auto')}, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    for line in measure(options.bags, options.instances, options.stage, options.epochs):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
