"""`demo`: draw a cohort, train, evaluate and predict, through the same code and settings as for real slides."""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.events import Event
from ...core.paths import PathLike
from ...core.presets import build_settings
from ...exporters.evaluation import files_of_evaluation, write_evaluation
from ...exporters.formats import DEFAULT_FORMATS, files_of_map, names_of_files
from ...slides.synthetic import write_cohort
from ...store.cohort import Cohort
from ...store.files.atomic import scratch_folder
from ...store.files.outputs import Outputs
from ...store.run import Run
from .evaluate import evaluate, metrics_table
from .predict import predict
from .train import train

N_SLIDES = 48
# px: one nest of tumour in a positive slide, a seventh of its patches. In slides of 256 px it is a fourteenth, and for
# some thirty epochs nothing tells a teacher where to look: it says the same of every slide, at a loss of ln 2.
SHAPE = (192, 192)
OVERRIDES = {  # a smaller network, larger steps: one to two minutes
    "patches": {"tissue": "white"},
    "architecture": {"hidden_dim": 128, "attention_dim": 64},
    "teacher": {"epochs": 28, "learning_rate": 1e-3, "noise_ratio": 0.3},
    # Most patches of a positive slide are normal: what the teacher never attended to is told by negative slides.
    "student": {"epochs": 24, "learning_rate": 1e-3, "gamma_n": 0.5},
    "split": {"test": 0.3},
}


@dataclass(frozen=True)
class DemoResult:
    """The files of the demo, and the metrics of its three networks on the test slides."""

    run: Run
    files: tuple[Path, ...]
    metrics: dict[str, dict[str, Any]]
    seconds: float

    def report(self) -> str:
        """Return the metrics and the places of the files as text."""
        picture = next(path for path in self.files if path.suffix == ".png")
        return (
            f"{metrics_table(self.metrics)}\n\n"
            f"Labels over a slide: {picture}\nAll files: {picture.parent}\nThe run: {self.run.folder}\n"
            f"In the window: distill2label gui {self.run.folder}\n"
            f"{self.seconds:.0f} s. Synthetic slides; for research use only."
        )


def demo(out: PathLike = "demo", *, seed: int = 0, overwrite: bool = False) -> Generator[Event, None, DemoResult]:
    """Draw a cohort, train baseline, teacher and student on its slide labels, and label the test slides.

    Write `out/cohort` (slides, cohort.csv, truth.csv), `out/run` (a run), `out/labels` (masks, GeoJSON, tables and
    pictures of the test slides) and `out/metrics.json`. The ground truth is used for the metrics alone. Files that
    the demo did not write are replaced only with `overwrite`.
    """
    start = time.monotonic()
    out = Path(out)
    with Outputs((), overwrite, "running the demo") as outputs:
        return (yield from _demo(out, seed, outputs, start))


def _demo(out: Path, seed: int, outputs: Outputs, start: float) -> Generator[Event, None, DemoResult]:
    outputs.claim(files_of_evaluation(out / "metrics.json"))
    cohort = Cohort.read(_draw(out / "cohort", seed, outputs))
    names = names_of_files({row.slide_id: (row.slide_id, ()) for row in cohort}, DEFAULT_FORMATS)
    outputs.check(
        file for row in cohort for file in files_of_map(out / "labels", DEFAULT_FORMATS, names[row.slide_id])
    )  # before minutes of training
    settings = build_settings("colon", "paper", OVERRIDES | {"seed": seed})
    # A demo that was stopped, or is run again, resumes.
    there = Run.is_run(out / "run")
    run = yield from train(
        cohort, out / "run", settings, baseline=True, resume=there, overwrite=outputs.overwrite and not there
    )
    metrics = yield from evaluate(run, cohort, out / "cohort" / "truth.csv")
    write_evaluation(out / "metrics.json", metrics, outputs.writing)
    tested = run.cohort.with_slides(run.cohort.in_split("test"))
    yield from predict(run, tested, out / "labels", overwrite=outputs.overwrite)
    written = (files_of_map(out / "labels", DEFAULT_FORMATS, names[row.slide_id], beside=False) for row in tested)
    files = tuple(sorted(file for files in written for file in files))
    return DemoResult(run, files, metrics, time.monotonic() - start)


def _draw(folder: Path, seed: int, outputs: Outputs) -> Path:
    """Draw the cohort into a temporary folder, then move it to `folder`: nothing of others is replaced."""
    with scratch_folder(folder) as drawn:
        write_cohort(drawn, n_slides=N_SLIDES, seed=seed, shape=SHAPE)
        files = [path.relative_to(drawn) for path in sorted(drawn.rglob("*")) if path.is_file()]
        outputs.claim(folder / file for file in files)
        for file in files:
            with outputs.writing(folder / file) as temporary:
                os.replace(drawn / file, temporary)
    return folder / "cohort.csv"
