"""The paper's Table I and Figures 3 and 4: instance labels of the colon images, by cross-validation.

Both readings of "27 × 27 patches" are measured: an 18 × 18 grid (`grid`), and patches centred on the nuclei
(`nucleus`). Truth is held against finished models here, and reaches training only in the supervised ceiling.
"""

import io
from collections.abc import Generator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_distill2label.core.bag import UNLABELLED, Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event
from napari_distill2label.core.metrics import binary_metrics, mean_metrics
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.presets import STAIN
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.mil.pu_learning import threshold_from_slide_labels
from napari_distill2label.store.cohort import SPLITS, Cohort
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset

from .colon_images import CUTS, Source
from .colon_report import write_report
from .results import Key, Results, Row, rows_of
from .runner import Outcome, Trial, run_trials
from .supervised import TRAINING, train_supervised
from .training import Answers, Trained, answers_of, train_models
from .variants import VARIANTS

NAME = "colon"
FOLD_SEED = 0  # one set of folds for all seeds: what differs between seeds is training alone
SUPERVISED = {
    "supervised": TRAINING,
    "supervised-augmented": TRAINING.model_copy(update={"rotate_flip": True, "stain_jitter": STAIN}),
}
ROWS = (*VARIANTS, *SUPERVISED)
MAIN = ("paper", "recommended", "supervised")
QUICK = {"teacher": {"epochs": 1}, "oof": {"epochs": 1}, "student": {"epochs": 1}}
PROTOCOL = 4  # of measuring; another number where the same network would get other rows
QUICK_SLIDES = 6  # of each label


def colon(
    data: PathLike,
    out: PathLike,
    *,
    folds: int = 5,
    seeds: int = 1,
    patches: Sequence[str] = tuple(CUTS),
    rows: Sequence[str] = MAIN,
    workers: int = 1,
    scheduler: str | None = None,
    quick: bool = False,
) -> Generator[Event, None, Path]:
    """Train and measure every row on every fold; what `out` already has is not done again.

    Parameters
    ----------
    data
        The folder that holds `Classification/`, or a parent of it.
    out
        Gets `cohort.csv`, `results.csv`, `times.csv`, `scores/` and `history/`, the figures, and `colon.md`.
    folds, seeds
        Folds of slides, and trainings of each from another seed.
    patches
        Of `CUTS`.
    rows
        Of `ROWS`; more can be added to the same folder later.
    workers, scheduler
        See `runner.run_trials`.
    quick
        Few slides, two folds, one seed, one epoch: shows that everything runs, and no more.

    Returns the path of `colon.md`.
    """
    for name, asked, known in (("patches", patches, CUTS), ("rows", rows, ROWS)):
        if unknown := [each for each in asked if each not in known]:
            raise SettingsError(f"experiment colon: unknown {name} {unknown[0]!r}: choose of {', '.join(known)}")
    out = Path(out).absolute()  # workers stand elsewhere
    cohort = Cohort.read((yield from prepare_dataset(NAME, data, out))).with_classes()
    layers: dict[str, Any] = {}
    if quick:
        cohort, folds, seeds, layers = few_slides(cohort), 2, 1, QUICK
    splits = k_folds(cohort, folds, SplitSettings(), FOLD_SEED)
    about = {
        "experiment": NAME,
        "quick": quick,
        "folds": folds,
        "slides": sorted(slide.slide_id for slide in cohort),
        "protocol": PROTOCOL,
        **{row: _settings(row, layers) for row in ROWS},
    }
    results = Results(out, about)
    trials = [
        _task(row, kind, fold, seed, split, layers, out)
        for kind in patches
        for seed in range(seeds)
        for fold, split in enumerate(splits)
        for row in rows  # last, so that rows of one fold find in memory what they share
    ]
    yield from run_trials(trials, results, workers, scheduler)
    if not results.rows:
        raise SettingsError(f"{data}: no fold could be done, for the reasons given: there is nothing to show")
    return write_report(results.frame(), out, len(cohort))


def _settings(row: str, layers: dict[str, Any]) -> dict[str, Any]:
    """What decides the numbers of a row, as JSON values."""
    settings = SUPERVISED[row] if row in SUPERVISED else VARIANTS[row].settings(NAME, 0, layers)
    return settings.model_dump(mode="json", exclude={"seed", "device"})


def few_slides(cohort: Cohort, each: int = QUICK_SLIDES) -> Cohort:
    """The first slides of every label."""
    chosen = [[slide for slide in cohort if slide.label == label][:each] for label in cohort.classes]
    return cohort.with_slides(slide for slides in chosen for slide in slides)


def _task(row: str, kind: str, fold: int, seed: int, split: Cohort, layers: dict[str, Any], out: Path) -> Trial:
    names = VARIANTS[row].names if row in VARIANTS else (row,)
    source = Source(split, kind, out)
    return Trial(
        f"{kind}, fold {fold}, seed {seed}: {row}",
        tuple(Key(NAME, name, kind, fold, seed) for name in names),
        partial(_work, source, row, fold, seed, layers),
    )


# ---- one fold ------------------------------------------------------------------------------------------------------


def read_bags(source: Source) -> Generator[Event, None, tuple[dict[str, list[Bag]], dict[str, np.ndarray]]]:
    """Bags by split, and the true class (K,) of their patches by slide id, `UNLABELLED` where it is not known."""
    images = yield from source.images()
    bags = {split: [image.bag for slide, image in images if slide.split == split] for split in SPLITS}
    return bags, {slide.slide_id: image.true_classes(source.split.classes) for slide, image in images}


def _work(source: Source, row: str, fold: int, seed: int, layers: dict[str, Any]) -> Generator[Event, None, Outcome]:
    """Train one row's models on a fold's training slides, and measure them on its test slides."""
    bags, truth = yield from read_bags(source)
    n_classes = len(source.split.classes)
    grid = {"patches": CUTS[source.kind].model_dump()}
    if row in SUPERVISED:
        settings = VARIANTS["paper"].settings(NAME, seed, grid)
        training = SUPERVISED[row].model_copy(update=layers.get("teacher", {}))
        shown = {name: np.maximum(known, 0) for name, known in truth.items()}  # patches without a nucleus: negative
        trained = {row: (yield from train_supervised(bags["train"], shown, n_classes, settings, training))}
        measured, attention = {row: row}, {}
    else:
        variant = VARIANTS[row]
        settings = variant.settings(NAME, seed, grid, layers)
        trained = yield from train_models(bags["train"], bags["valid"], n_classes, settings, tuple(variant.models))
        measured, attention = variant.models, variant.attention
    outcome = Outcome()
    for network, name in measured.items():
        key = Key(NAME, name, source.kind, fold, seed)
        outcome.files[f"history/{source.kind}-{name}-{fold}-{seed}.csv"] = _history(trained[network])
        answers = {}
        for split in SPLITS:
            answers[split] = yield from answers_of(trained[network], bags[split])
        outcome.files[f"scores/{source.kind}-{name}-{fold}-{seed}.npz"] = _scores(answers, bags, truth)
        test, threshold = answers["test"], _threshold(trained[network], answers, bags)
        outcome.rows += _measure(key, test, bags["test"], truth, threshold, source.kind)
        outcome.rows.append(Row(*astuple(key), "slides", "threshold", "bags", threshold))
        state = trained[network].state
        if (loss := state.history[state.best_epoch - 1]["valid_loss"]) is not None:
            outcome.rows.append(Row(*astuple(key), "valid", "loss", "", loss))
        if network in attention:
            drawn = replace(test, instance=[_rescaled(weights) for weights in test.attention])
            key = replace(key, model=attention[network])
            outcome.rows += _measure(key, drawn, bags["test"], truth, None, source.kind)
    return outcome


def _threshold(trained: Trained, answers: Mapping[str, Answers], bags: Mapping[str, Sequence[Bag]]) -> float:
    """The one that a calibrated network ships with.

    Else chosen from the labels of training and validation slides: eight of the latter alone choose a poor one.
    """
    if trained.calibration is not None:
        return trained.calibration.threshold
    known = ("train", "valid")
    positive = [np.full(len(bag), bag.label != (0,)) for split in known for bag in bags[split]]
    scores = [score for split in known for score in answers[split].instance]
    return threshold_from_slide_labels(np.concatenate(scores), np.concatenate(positive))


def _rescaled(weights: np.ndarray) -> np.ndarray:
    """Attention as it is drawn over a slide: from 0 for its least to 1 for its most attended patch."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if high > low else np.ones_like(weights)


def _measure(
    key: Key,
    answers: Answers,
    bags: Sequence[Bag],
    truth: Mapping[str, np.ndarray],
    threshold: float | None,
    kind: str,
) -> list[Row]:
    """Rows of all levels, at 0.5 and, for patches, at the `threshold` chosen on bags."""
    positive = np.array([bag.label != (0,) for bag in bags])
    known = [truth[bag.slide_id] for bag in bags]
    pairs = [(np.maximum(true, 0) > 0, score) for true, score in zip(known, answers.instance, strict=True)]
    levels = {"patch": pairs, "patch_positive_slides": [pairs[index] for index in np.flatnonzero(positive)]}
    if kind == "grid":
        levels["patch_nuclei"] = [
            (true[true != UNLABELLED] > 0, score[true != UNLABELLED])
            for true, score in zip(known, answers.instance, strict=True)
        ]
    # Attention says nothing of the bag that its network does not say, and the ceiling's has not been trained.
    of_bags = threshold is not None and key.model not in SUPERVISED
    rows = rows_of(key, "slide", binary_metrics(positive, answers.bag)) if of_bags else []
    for level, chosen in levels.items():
        if not chosen:  # a fold without a positive slide
            continue
        pooled = [np.concatenate(parts) for parts in zip(*chosen, strict=True)]
        rows += rows_of(key, level, binary_metrics(*pooled))
        if threshold is not None:
            rows += rows_of(key, level, binary_metrics(*pooled, threshold), "bags")
    return rows + rows_of(key, "patch_mean_over_slides", mean_metrics(binary_metrics(*pair) for pair in pairs))


def _history(trained: Trained) -> bytes:
    import pandas as pd

    return pd.DataFrame(trained.state.history).to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def _scores(
    answers: Mapping[str, Answers], bags: Mapping[str, Sequence[Bag]], truth: Mapping[str, np.ndarray]
) -> bytes:
    """Every patch: split, slide, top-left corner (y, x), score, true class (`UNLABELLED`: no nucleus)."""
    every = [(split, bag) for split in SPLITS for bag in bags[split]]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        split=np.concatenate([np.full(len(bag), split) for split, bag in every]),
        slide=np.concatenate([np.full(len(bag), bag.slide_id) for _, bag in every]),
        corner=np.concatenate([bag.coordinates for _, bag in every]),
        score=np.concatenate([score for split in SPLITS for score in answers[split].instance]).astype(np.float32),
        truth=np.concatenate([truth[bag.slide_id] for _, bag in every]).astype(np.int8),
    )
    return file.getvalue()
