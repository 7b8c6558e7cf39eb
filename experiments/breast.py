"""The paper's Table II: plain MIL, teacher and student on the breast images (UCSB), five folds grouped by case.

The set has a label per image and no complete truth per cell. What is measured is therefore the images (level `slide`);
scores of single patches are held against the label of their image, and named so: `patch_against_image_label`.
"""

from collections.abc import Generator, Sequence
from dataclasses import astuple, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task, drain
from napari_distill2label.core.metrics import binary_metrics
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, Settings
from napari_distill2label.store.cohort import SPLITS, Cohort, CohortSlide
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.slide_reader import SlideReader

from .breast_report import IMAGE_SCORE, VALID, VERSUS_IMAGE, write_report
from .results import Key, Results, Row, rows_of
from .runner import Trial, run_trials
from .training import Trained, answers_of, train_models
from .variants import NETWORKS

NAME = "breast"
TOGETHER = (("mil",), ("teacher", "student"))  # a student needs its teacher; plain MIL needs nobody
FOLD_SEED = 0  # one set of folds for all seeds: what differs between seeds is training alone
QUICK = {"teacher": {"epochs": 1}, "student": {"epochs": 1}}
QUICK_CASES = 6


def breast(
    data: PathLike,
    out: PathLike,
    *,
    folds: int = 5,
    seeds: int = 1,
    workers: int = 1,
    scheduler: str | None = None,
    quick: bool = False,
) -> Generator[Event, None, Path]:
    """Train and measure the three models on every fold; what `out` already has is not done again.

    Parameters
    ----------
    data
        The folder that holds the `.tif` files, or a parent of it.
    out
        Gets `cohort.csv`, `results.csv`, `times.csv`, `scores.csv` (the bag score of every test image), `breast.png`,
        `breast.md`.
    folds, seeds
        Folds of cases, and trainings of each from another seed.
    workers, scheduler
        See `runner.run_trials`.
    quick
        Two images of each of six cases, two folds, one seed, one epoch: shows that everything runs, and no more.

    Returns the path of `breast.md`.
    """
    out = Path(out)
    settings = build_settings("breast", "paper", QUICK if quick else None)
    cohort = Cohort.read((yield from prepare_dataset(NAME, data, out))).with_classes()
    if quick:
        cohort, folds, seeds = few_images(cohort), 2, 1
    splits = k_folds(cohort, folds, settings.split, FOLD_SEED)
    about = {
        "experiment": NAME,
        "quick": quick,
        "folds": folds,
        "slides": sorted(slide.slide_id for slide in cohort),
        "settings": settings.model_dump(mode="json", exclude={"seed", "device"}),
    }
    results = Results(out, about)
    yield from run_trials(_tasks(splits, settings, seeds), results, workers, scheduler)
    if not results.rows:
        raise SettingsError(f"{data}: no fold could be done, for the reasons given: there is nothing to show")
    return write_report(results.frame(), splits, settings, out)


def few_images(cohort: Cohort, cases: int = QUICK_CASES) -> Cohort:
    """The first image of each label of the first cases that have all labels."""
    first: dict[str, dict[str, CohortSlide]] = {}
    for slide in cohort:
        first.setdefault(slide.case_id, {}).setdefault(slide.label, slide)
    complete = [labels for labels in first.values() if len(labels) == len(cohort.classes)]
    return cohort.with_slides(slide for labels in complete[:cases] for slide in labels.values())


def _tasks(splits: Sequence[Cohort], settings: Settings, seeds: int) -> list[Trial]:
    return [
        Trial(
            f"fold {fold}, seed {seed}: {' and '.join(models)}",
            tuple(Key(NAME, model, "grid", fold, seed) for model in models),
            partial(_work, split, settings.model_copy(update={"seed": seed}), models, fold),
        )
        for seed in range(seeds)
        for fold, split in enumerate(splits)
        for models in TOGETHER
    ]


# ---- one fold ------------------------------------------------------------------------------------------------------


def _work(cohort: Cohort, settings: Settings, models: tuple[str, ...], fold: int) -> Generator[Event, None, list[Row]]:
    """Train `models` on the training images of a fold and measure them on its test images."""
    bags = {split: [] for split in SPLITS}
    for done, slide in enumerate(cohort.labelled, 1):
        bags[slide.split].append(_bag(replace(slide, split=None), cohort.classes, settings.patches))
        yield Progress(Task.READ_SLIDES, done, len(cohort.labelled))
    trained = yield from train_models(
        bags["train"], bags["valid"], len(cohort.classes), settings, [NETWORKS[row] for row in models]
    )
    rows = []
    for row in models:
        key = Key(NAME, row, "grid", fold, settings.seed)
        rows += yield from _measure(key, trained[NETWORKS[row]], bags["valid"], bags["test"])
    return rows


@cache
def _bag(slide: CohortSlide, classes: tuple[str, ...], grid: PatchSettings) -> Bag:
    """The bag of an image, read once per process; no truth but the image's label is in it."""
    # What is said while reading (that the files' 72 dpi are no scale) would be said by every trial, and changes
    # nothing: patches are cut in pixels.
    return drain(SlideReader(grid).bag(slide, Cohort((slide,), classes)))


def _measure(key: Key, trained: Trained, valid: list[Bag], test: list[Bag]) -> Generator[Event, None, list[Row]]:
    """Rows of one model: what validation chose, images, patches against the label of their image, image scores."""
    answers = yield from answers_of(trained, test)
    threshold = bag_threshold(_positive(valid), (yield from answers_of(trained, valid)).bag)
    epoch = trained.state.best_epoch
    chosen = {"epoch": epoch, "threshold": threshold, "loss": trained.state.history[epoch - 1]["valid_loss"]}
    truth = _positive(test)
    bag_score = np.round(answers.bag, 6)  # as results.csv keeps them, so that tables made from it anew are the same
    levels = {
        "slide": (truth, bag_score),
        VERSUS_IMAGE: (np.repeat(truth, [len(bag) for bag in test]), np.concatenate(answers.instance)),
    }
    rows = [Row(*astuple(key), VALID, name, "", float(value)) for name, value in chosen.items() if value is not None]
    for level, (true, score) in levels.items():
        rows += rows_of(key, level, binary_metrics(true, score))
        rows += rows_of(key, level, binary_metrics(true, score, threshold), "bags")
    scores = zip(test, bag_score, strict=True)
    return rows + [Row(*astuple(key), IMAGE_SCORE, bag.slide_id, "", float(score)) for bag, score in scores]


def _positive(bags: Sequence[Bag]) -> np.ndarray:
    return np.array([bag.label != (0,) for bag in bags], bool)


def bag_threshold(truth: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the largest Youden's J = sensitivity + specificity − 1 on the validation images.

    Of 0.5 and the middles between neighbouring scores; among equals the nearest to 0.5, which also stays where the
    images are all of one label.
    """
    if truth.all() or not truth.any():
        return 0.5
    distinct = np.unique(score)
    candidates = np.append((distinct[1:] + distinct[:-1]) / 2, 0.5)
    called = score >= candidates[:, None]
    youden = called[:, truth].mean(1) - called[:, ~truth].mean(1)
    best = candidates[np.isclose(youden, youden.max())]
    return float(best[np.abs(best - 0.5).argmin()])
