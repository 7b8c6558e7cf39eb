"""What a slide costs as a cohort grows: table, splits, plan, guarded names, features, evaluation, summary.

`python -m benchmarks.growth [--sizes 10,100,1000,10000]`. Every slide is the same small file under names of its own.
A line gives, for each step, seconds of a processor per slide at each size, and by how much more a slide costs in the
largest cohort than in the smaller ones at best (1: flat). Each size is a process of its own, so that memory is its own.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .goals import Goal, figure

SIZES = (10, 100, 1000, 10_000)
FLAT = Goal(1.5)  # of the largest cohort's cost per slide to the least of the others
SAMPLE = 200  # slides whose features are opened, in a folder of all


@contextlib.contextmanager
def measured(seconds: dict[str, float], step: str, slides: int) -> Iterator[None]:
    """Seconds of a processor per slide."""
    start = time.process_time()
    yield
    seconds[step] = (time.process_time() - start) / slides


def draw(folder: Path, count: int) -> Path:
    """A table of so many slides, which share one file on disk."""
    from PIL import Image

    first = folder / "slide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(first)
    (folder / "slides").mkdir()
    lines = ["slide_id,path,label,case_id,mpp"]
    for number in range(count):
        name = f"S-{number:05d}"
        os.link(first, folder / "slides" / f"{name}.png")
        lines.append(f"{name},slides/{name}.png,{('normal', 'tumour')[number % 2]},case-{number // 2},0.5")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.csv"


def child(count: int) -> None:
    """Measure one size, and print a JSON of seconds per slide by step."""
    from napari_distill2label.core.evaluation import Evaluation, SlideResult
    from napari_distill2label.core.geometry import PatchGrid
    from napari_distill2label.core.inputs import Inputs
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.core.settings import PatchSettings
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.store.files.outputs import Outputs
    from napari_distill2label.store.maps.feature_map import FeatureMap
    from napari_distill2label.store.run import Run
    from napari_distill2label.store.run_summary import summarise
    from napari_distill2label.workflow.feature_store import FeatureStore
    from napari_distill2label.workflow.plan import TrainingRequest, new_plan

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = draw(folder, count)
        with measured(seconds, "table", count):
            cohort = Cohort.read(table)
        with measured(seconds, "save the table", count):
            cohort.write(folder / "again.csv")
        with measured(seconds, "find by id", count):
            assert all(cohort[row.slide_id] is row for row in cohort)
        with measured(seconds, "plan", count):
            plan = new_plan(folder / "run", cohort, build_settings(), TrainingRequest(inputs=Inputs()))
        with measured(seconds, "start a run", count):
            plan.start("signature", 0)
        with measured(seconds, "summary", count):
            summarise(folder / "run")
            assert len(Run.open(folder / "run").cohort) == count
        with measured(seconds, "claim names", count), Outputs(overwrite=False, doing="measuring") as outputs:
            outputs.claim(folder / "out" / f"{row.slide_id}.csv" for row in cohort)
            for row in cohort.slides[:SAMPLE]:
                with outputs.writing(folder / "out" / f"{row.slide_id}.csv") as temporary:
                    temporary.write_text("x")
        grid = PatchGrid.over((64, 64), PatchSettings(size_px=16))
        (folder / "features").mkdir()
        first = FeatureMap.open_or_create(folder / "features" / f"{cohort.slides[0].slide_id}.zarr", grid, 8, {})
        for block in grid.blocks(100):
            first.write(block, np.ones((len(block.corners), 8), np.float32))
        for row in cohort.slides[1:]:
            place = folder / "features" / f"{row.slide_id}.zarr"
            for path in first.path.rglob("*"):
                other = place / path.relative_to(first.path)
                if path.is_file():
                    other.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, other)
        some = cohort.slides[:: max(1, count // SAMPLE)]
        with measured(seconds, "open features", len(some)):
            store = FeatureStore(folder / "features", folder / "features")
            for row in some:
                store.load(row.slide_id, None)
        rng = np.random.default_rng(0)
        results = [
            SlideResult(
                row.slide_id,
                row.case_id,
                row.label == "tumour",
                rng.random(),
                rng.random(20) > 0.5,
                rng.random(20),
                None,
            )
            for row in cohort
        ]
        with measured(seconds, "evaluation", count):
            Evaluation(results, 0.5).report()
    seconds["memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(seconds))


def measure(sizes: tuple[int, ...]) -> Iterator[str]:
    """A line for each step."""
    found = {}
    for count in sizes:
        code = f"from benchmarks.growth import child; child({count})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[count] = json.loads(done.stdout)
    for step in found[sizes[0]]:
        values = [found[count][step] for count in sizes]
        if step.startswith("memory"):
            yield f"{step}: " + ", ".join(f"{value:.0f} at {count}" for count, value in zip(sizes, values, strict=True))
        else:
            shown = ", ".join(f"{1e3 * value:.3f} at {count}" for count, value in zip(sizes, values, strict=True))
            yield figure(f"{step}: ms per slide {shown}; largest / best of the others", [values[-1] / min(values[:-1])],
                         goal=FLAT)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="A,B")
    options = parser.parse_args()
    for line in measure(tuple(map(int, options.sizes.split(",")))):
        print(line, flush=True)


if __name__ == "__main__":
    main()
