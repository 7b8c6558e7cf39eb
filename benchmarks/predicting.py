"""Predicting a slide: against WSInfer's command line with the same network; memory, cost per patch, workers.

`python -m benchmarks.predicting`; `--quick` for small slides. Every measurement is a process of its own, whose peak
memory the system tells. The slides are pyramids of a real slide's JPEG tiles; the network has random weights, which
cost what trained ones do. For WSInfer, `D2L_WSINFER` names the Python of an environment that has it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_distill2label.core.events import Progress, Task, drain
from napari_distill2label.core.inputs import Compute
from napari_distill2label.core.presets import build_settings
from napari_distill2label.mil.model import MILModel
from napari_distill2label.store.bundle import save_bundle
from napari_distill2label.workflow.commands.export_model import export_model
from napari_distill2label.workflow.commands.predict import predict

from .goals import Goal, figure
from .pyramids import MPP, pyramid
from .rounds import in_turn, ratio

PATCH_PX = 27
APART_PX = 108  # a patch in 16: all tiles of a large slide are read, in minutes instead of hours
WSINFER_SIDES = (4096, 8192)  # px: of a small slide much is the start of two processes
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """What a process took: seconds of its own count (else of the clock), the most memory it had, what it printed."""

    seconds: float
    peak_mb: float
    said: str


def run(command: Sequence[object], **environment: str) -> Run:
    """A process from its start to its end. `RuntimeError` with its last words if it fails."""
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=subprocess.STDOUT, env=known)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{command[:4]}: {text[-2000:]}")
    return Run(seconds, usage.ru_maxrss / 1024, text)


def colon_model(seed: int = 0) -> MILModel:
    """The colon network with random weights."""
    torch.manual_seed(seed)
    model = MILModel(build_settings("colon", "paper").architecture, 2, (3, PATCH_PX, PATCH_PX)).eval()
    model.mean.fill_(0.75)
    model.std.fill_(0.2)
    return model


def bundle_of(
    model: MILModel, folder: Path, stride_px: int | None = None, tissue: str = "none", calibration: object = None
) -> Path:
    """A bundle of `model` that looks at a patch every `stride_px` (None: at all of them) of the tissue."""
    settings = build_settings("colon", "recommended")
    grid = settings.patches.model_copy(update={"stride_px": stride_px, "mpp": MPP, "tissue": tissue})
    about = {
        "network": "student",
        "classes": ("normal", "tumour"),
        "patches": grid,
        "training": settings.student,
        "mpp": MPP,
        "calibration": calibration,
    }
    return save_bundle(folder, model, about, {})


def against_wsinfer(folder: Path, side_px: int, rounds: int) -> Iterator[str]:
    """Both command lines on one slide, from the start of the process to the last file."""
    python = os.environ.get("D2L_WSINFER")
    if not python:
        yield "WSInfer: NOT measured. Set D2L_WSINFER to the Python of an environment with wsinfer 0.6.1"
        return
    model = colon_model()
    # WSInfer looks for tissue too, by rules of its own: the numbers of patches differ, and are printed.
    bundle = bundle_of(model, folder / "bundle", tissue="otsu")
    theirs = drain(export_model(bundle, folder / "wsinfer", "wsinfer")).files[0].parent
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    (folder / "slides" / "slide.tif").symlink_to(pyramid(side_px))
    seen = {"ours": [], "WSInfer": []}

    def ours() -> float:
        out = folder / f"ours-{time.time_ns()}"
        command = [sys.executable, "-m", "napari_distill2label.cli", "predict", bundle, folder / "slides" / "slide.tif"]
        done = run([*command, "-o", out, "--format", "csv,geojson"])
        seen["ours"].append((_rows(out / "slide.csv"), done.peak_mb))
        return done.seconds / seen["ours"][-1][0]

    def wsinfer() -> float:
        out = folder / f"wsinfer-{time.time_ns()}"
        command = [python, ROOT / "benchmarks" / "wsinfer_offline.py", "run", "-i", folder / "slides", "-o", out]
        model_files = ["-c", theirs / "config.json", "-p", theirs / "torchscript_model.pt"]
        done = run([*command, *model_files, "-b", 512, "-n", 1], CUDA_VISIBLE_DEVICES="")
        seen["WSInfer"].append((_rows(next(out.glob("model-outputs-csv/*.csv"))), done.peak_mb))
        return done.seconds / seen["WSInfer"][-1][0]

    seconds = in_turn({"ours": ours, "WSInfer": wsinfer}, rounds=rounds, warm_up=0)
    for name, each in seconds.items():
        patches, peak = seen[name][-1]
        whole = np.median(each) * patches
        yield f"{name}: {patches} patches in {whole:.0f} s, {patches / whole:.0f}/s in all, at most {peak:.0f} MB"
    line = ratio(seconds["WSInfer"], seconds["ours"], Goal(4, at_least=True))
    yield f"WSInfer / ours, time per patch of the whole command: {line}"


def _rows(table: Path) -> int:
    with table.open() as lines:
        return sum(1 for _ in lines) - 1


def as_slides_grow(folder: Path, sides: Sequence[int]) -> Iterator[str]:
    """Peak memory and time per patch; every 16th patch."""
    bundle, runs = bundle_of(colon_model(), folder / "apart", APART_PX), {}
    for side in sides:
        done = run(
            [sys.executable, "-m", "benchmarks.predicting", "--one", bundle, pyramid(side), folder / f"of-{side}"]
        )
        told = json.loads(done.said.splitlines()[-1])
        runs[side] = done.peak_mb, told["seconds"] / told["patches"], told["seconds"]
        yield (
            f"{side} px: {told['patches']} patches in {told['seconds']:.0f} s, {runs[side][1] * 1e6:.0f} µs each, "
            f"at most {done.peak_mb:.0f} MB"
        )
    few, many = min(sides), max(sides)
    yield figure(f"time per patch, {many} px / {few} px", [runs[many][1] / runs[few][1]], goal=Goal(1.1))
    more = runs[many][0] - runs[max(16_384, few)][0]
    yield figure(f"memory, {many} px − {max(16_384, few)} px", [more], "MB", Goal(200, "MB"))


def on_workers(folder: Path, side_px: int, counts: Sequence[int] = (1, 2, 4)) -> Iterator[str]:
    """The same slide on one, two, four processes of `--workers`, from the first block to the last."""
    bundle = bundle_of(colon_model(), folder / "workers", APART_PX)
    seconds = {}
    for count in counts:
        flags = ["--workers", count]
        command = [
            sys.executable,
            "-m",
            "benchmarks.predicting",
            "--one",
            bundle,
            pyramid(side_px),
            folder / f"by-{count}",
        ]
        seconds[count] = json.loads(run([*command, *flags]).said.splitlines()[-1])["seconds"]
        yield f"{count} worker(s): {seconds[count]:.1f} s, {seconds[counts[0]] / seconds[count]:.2f} times one's speed"


def one(bundle: Path, slide: Path, out: Path, workers: int | None) -> None:
    """Predict, and print what the walk took as JSON: `seconds` from the first block on, `patches`."""
    start, patches = None, 0
    for event in predict(bundle, [slide], out, formats=["csv"], compute=Compute(workers=workers)):
        if isinstance(event, Progress) and event.task is Task.PREDICT:
            patches = event.total
            start = start or time.perf_counter()
            ended = time.perf_counter()
    print(json.dumps({"seconds": ended - start, "patches": patches}))


def measure(quick: bool = False) -> Iterator[str]:
    """Yield all of it, line by line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in (2048,) if quick else WSINFER_SIDES:
            yield from against_wsinfer(folder / f"wsinfer-{side}", side, rounds=1 if quick else 3)
        yield from as_slides_grow(folder, (2048, 4096) if quick else (4096, 16_384, 65_536))
        yield from on_workers(folder, 4096 if quick else 16_384)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predicting", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("wsinfer", "sizes", "workers"))
    parser.add_argument("--sides", type=int, nargs="+", default=(4096, 16_384, 65_536), help="px, of --only sizes")
    parser.add_argument("--one", type=Path, nargs=3, metavar=("BUNDLE", "SLIDE", "OUT"), help="used by the others")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    if options.one:
        one(*options.one, options.workers)
        return
    with tempfile.TemporaryDirectory() as name:
        only = {
            "wsinfer": lambda: (
                line for side in WSINFER_SIDES for line in against_wsinfer(Path(name) / f"{side}", side, 3)
            ),
            "sizes": lambda: as_slides_grow(Path(name), options.sides),
            "workers": lambda: on_workers(Path(name), 16_384),
        }
        for line in only[options.only]() if options.only else measure(options.quick):
            print(line, flush=True)


if __name__ == "__main__":
    main()
