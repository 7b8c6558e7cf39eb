"""`demo`: the whole job on a synthetic cohort, through the same code and settings path as real slides."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from ..core.events import Event
from ..core.metrics import Metrics
from ..core.presets import build_settings
from ..slides.synthetic import write_cohort
from ..store.cohort import Cohort
from ..store.files import write_json
from ..store.run import Run
from .bags import PathLike
from .evaluate import evaluate, metrics_table
from .predict import predict
from .train import train

N_SLIDES = 48
SHAPE = (256, 256)  # px
OVERRIDES = {  # a smaller network, larger steps: under two minutes on two cores
    "grid": {"tissue": "white"},
    "model": {"hidden": 128, "attention": 64},
    "teacher": {"epochs": 20, "learning_rate": 1e-3, "noise": 0.3},
    # 7 of 100 patches of a positive slide are tumour: what the teacher never attended to is told by negative slides.
    "student": {"epochs": 24, "learning_rate": 1e-3, "gamma_n": 0.5},
    "split": {"test": 0.3},
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo left, and how well its three models did on the test slides."""

    run: Run
    files: tuple[Path, ...]
    metrics: dict[str, dict[str, Metrics]]
    seconds: float

    def report(self) -> str:
        """For people: the metrics, and where to look."""
        picture = next(path for path in self.files if path.suffix == ".png")
        return (
            f"{metrics_table(self.metrics)}\n\n"
            f"Labels over a slide: {picture}\nAll files: {picture.parent}\nThe run: {self.run.folder}\n"
            f"In the window: distill2label gui {self.run.folder}\n"
            f"{self.seconds:.0f} s. Synthetic slides; for research use only."
        )


def demo(out: PathLike = "demo", *, seed: int = 0) -> Generator[Event, None, DemoResult]:
    """Draw a cohort, train plain MIL, teacher and student on its slide labels, and label the test slides.

    Leaves `out/cohort` (slides, cohort.csv, truth.csv), `out/run` (a run), `out/labels` (masks, GeoJSON, tables and
    pictures of the test slides) and `out/metrics.json`. The truth is used for the metrics alone.
    """
    start = time.monotonic()
    out = Path(out)
    cohort = Cohort.read(write_cohort(out / "cohort", n_slides=N_SLIDES, seed=seed, shape=SHAPE))
    settings = build_settings("colon", "paper", OVERRIDES | {"seed": seed})
    # A demo that was stopped, or is asked for again, goes on from what it has.
    run = yield from train(cohort, out / "run", settings, baseline=True, resume=Run.is_run(out / "run"))
    metrics = yield from evaluate(run, cohort, out / "cohort" / "truth.csv")
    write_json(out / "metrics.json", metrics)
    tested = run.cohort.with_slides(run.cohort.in_split("test"))
    yield from predict(run, tested, out / "labels")
    files = tuple(sorted(path for path in (out / "labels").iterdir() if path.is_file()))
    return DemoResult(run, files, metrics, time.monotonic() - start)
