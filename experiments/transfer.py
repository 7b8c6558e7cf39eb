"""Labels on slides nobody has seen: every network of a run on held-out folds and on another cohort.

All goes the way that a user goes: `train` on slide labels, a bundle, `predict`, figures at the threshold that the
bundle ships with. The ground truth is read when finished models are measured, and in the supervised ceiling, which is
given the same context at prediction.
"""

import io
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from napari_distill2label.core.bag import UNLABELLED, Bag
from napari_distill2label.core.calibration import finding_scores, sigmoid
from napari_distill2label.core.context import smooth_points
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.evaluation import Evaluation, SlideResult
from napari_distill2label.core.events import Event, ItemFailed, Progress, Task
from napari_distill2label.core.inputs import Encoder, Inputs
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import PatchSettings, Settings, SplitSettings, merged
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.mil.calibration import NEIGHBOURS
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.files.atomic import write_bytes
from napari_distill2label.store.maps.feature_map import FeatureOrigin
from napari_distill2label.store.run import Run
from napari_distill2label.store.splits import k_folds
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands import train as training_command
from napari_distill2label.workflow.commands.evaluate import evaluate_networks
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.feature_store import FeatureStore
from napari_distill2label.workflow.ground_truth import read_truth
from napari_distill2label.workflow.slide_reader import SlideReader

from .supervised import TRAINING, train_supervised
from .transfer_report import write_report

NAME = "transfer"
SETS = ("colon", "consep", "glas")
FOLDS = {"colon": 5, "consep": 5, "glas": 3}  # GlaS has six patients here
FOLD_SEED = 0  # one set of folds for all seeds: what differs between seeds is training alone
POINT_SETS = ("colon", "consep")  # whose truth, and centres, are nuclei
GLAND_PX = 96
ENCODER = "encoders/mobilenet_v2_imagenet.onnx"
KINDS = ("nucleus", "grid", "encoder")
METHODS = ("recommended", "paper")
CEILING = "supervised"
QUICK = {name: {"epochs": 1} for name in ("teacher", "oof", "student")}
QUICK_SLIDES = 6  # of each label


@dataclass(frozen=True)
class Cell:
    """One training: on all folds of a set but one, with patches of a kind, from one seed."""

    train: str
    patches: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.train}-{self.patches}-fold{self.fold}-seed{self.seed}"

    def settings(self, method: str, layers: Mapping[str, Any]) -> Settings:
        """Preset < method < the patches of this kind < `layers`."""
        size = {"encoder": GLAND_PX if self.train == "glas" else 64}.get(self.patches)
        grid = PatchSettings(
            **({"size_px": size} if size else {}), **({"border": "drop"} if self.patches == "grid" else {})
        )
        preset = "wsi" if self.patches == "encoder" else "colon"
        return build_settings(preset, method, merged({"seed": self.seed, "patches": grid.model_dump()}, layers))


@dataclass(frozen=True)
class Data:
    """The tables of a set, and what its patches are made of."""

    cohort: Cohort
    folder: Path
    patches: str
    encoder: Path | None
    features: Path | None

    @property
    def truth(self) -> Path:
        points = self.folder / "truth.csv"
        return points if points.exists() else self.folder / "truth"

    @property
    def centres(self) -> Path | None:
        nuclei = self.folder / "centres.csv"
        return nuclei if self.patches != "grid" and nuclei.exists() else None

    @property
    def inputs(self) -> Inputs:
        return Inputs(centres=self.centres, encoder=Encoder(self.encoder), features=self.features)


def transfer(
    data: PathLike,
    out: PathLike,
    *,
    train: str = "colon",
    test: Sequence[str] = (),
    patches: Sequence[str] = ("nucleus",),
    folds: int | None = None,
    seeds: int = 1,
    methods: Sequence[str] = ("recommended",),
    only: Sequence[str] = (),
    quick: bool = False,
) -> Generator[Event, None, Path]:
    """Train on development folds and measure on the held-out fold and on other sets; what `out` has is not done again.

    Parameters
    ----------
    data
        The folder that holds `colon/`, `consep/`, `glas/` and `encoders/`.
    out
        Gets the runs (`runs/`), what every network says of every patch (`cells/`), `transfer.csv` with a row for each
        set, network, seed and fold, and `transfer.md`, of all cells that it holds.
    train, test
        Of `SETS`: where a network is trained and its fold is held out, and which others are predicted.
    patches
        Of `KINDS`: 27 px around nuclei, 27 px on a grid, or features of a frozen MobileNet (64 px around nuclei; of
        GlaS 96 px on a grid).
    folds, seeds
        Folds of cases (None: 5, of GlaS 3), and trainings of each from another seed.
    methods
        "recommended", "paper": networks of which method. Plain MIL and the ceiling are trained with the first.
    only
        Names of cells to do ("colon-nucleus-fold0-seed0"), in this order; the others are left for later.
    quick
        A few slides, one fold, one seed, one epoch: shows that everything runs, and no more.

    Returns the path of `transfer.md`.
    """
    for name, asked, known in (
        ("set", (train, *test), SETS), ("patches", patches, KINDS), ("method", methods, METHODS),
    ):  # fmt: skip
        if unknown := [each for each in asked if each not in known]:
            raise SettingsError(f"experiment transfer: unknown {name} {unknown[0]!r}: choose of {', '.join(known)}")
    if "glas" in (train, *test) and (set(patches) != {"encoder"} or {train, *test} != {"glas"}):
        raise SettingsError(
            "experiment transfer: GlaS has areas of glands: it is trained with --patches encoder, alone"
        )
    data, out = Path(data), Path(out).absolute()
    folds = 2 if quick else folds or FOLDS[train]
    cells = [
        Cell(train, kind, fold, seed)
        for kind in patches
        for seed in range(1 if quick else seeds)
        for fold in range(1 if quick else folds)
    ]
    if only:
        named = {cell.name: cell for cell in cells}
        if unknown := [name for name in only if name not in named]:
            raise SettingsError(f"experiment transfer: there is no cell {unknown[0]!r}: choose of {', '.join(named)}")
        cells = [named[name] for name in only]
    layers = QUICK if quick else {}
    sets = {}
    for name in dict.fromkeys((train, *test)):
        sets[name] = yield from _cohort(name, data, out, quick)
    for done, cell in enumerate(cells):
        yield Progress(Task.RUN_EXPERIMENT, done, len(cells))
        own = {name: _data(name, cohort, cell.patches, data, out) for name, cohort in sets.items()}
        split = k_folds(own[train].cohort, folds, SplitSettings(), FOLD_SEED)[cell.fold]
        steps: dict[str, Callable[[], Generator[Event, None, _Measured]]] = {
            method: partial(_measure_method, cell, method, split, own, layers, out) for method in methods
        }
        if set(methods) & {"recommended"}:
            steps[CEILING] = partial(_measure_ceiling, cell, split, own, layers, out)
        for step, work in steps.items():
            path = out / "cells" / f"{cell.name}-{step}.npz"
            if not path.exists():
                measured = yield from work()
                write_bytes(path, measured.to_npz())
    yield Progress(Task.RUN_EXPERIMENT, len(cells), len(cells))
    if not any((out / "cells").glob("*.npz")):
        raise SettingsError(f"{out}: no cell could be done: there is nothing to show")
    return write_report(out)


def _cohort(name: str, data: Path, out: Path, quick: bool) -> Generator[Event, None, Cohort]:
    folder = out / "data" / name
    if not (folder / "cohort.csv").exists():
        yield from prepare_dataset(name, data / name, folder)
    cohort = Cohort.read(folder / "cohort.csv").with_classes()
    if quick:
        chosen = [[row for row in cohort if row.label == label][:QUICK_SLIDES] for label in cohort.classes]
        cohort = cohort.with_slides(row for rows in chosen for row in rows)
    return cohort


def _data(name: str, cohort: Cohort, patches: str, data: Path, out: Path) -> Data:
    frozen, centres = patches == "encoder", out / "data" / name / "centres.csv"
    if patches != "grid" and centres.exists():  # a slide without a nucleus has no patch
        known = read_points(centres)
        cohort = cohort.with_slides(row for row in cohort if row.slide_id in known)
    return Data(
        cohort,
        out / "data" / name,
        patches,
        data / ENCODER if frozen else None,
        out / "features" / name if frozen else None,
    )


# ---- one cell ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """What networks say of the patches of sets, by (set, network), and facts of the training."""

    about: dict[str, Any]
    evaluations: dict[tuple[str, str], Evaluation]

    def to_npz(self) -> bytes:
        arrays: dict[str, np.ndarray] = {"about": np.array(json.dumps(self.about))}
        for (name, network), own in self.evaluations.items():
            slides, key = own.slides, f"{name}/{network}"
            arrays |= {
                f"{key}/threshold": np.array(own.threshold),
                f"{key}/slide": np.array([slide.slide_id for slide in slides]),
                f"{key}/case": np.array([slide.case_id for slide in slides]),
                f"{key}/positive": np.array([slide.is_positive for slide in slides]),
                f"{key}/probability": np.array([slide.score for slide in slides]),
                f"{key}/unlikeness": np.array([np.nan if s.unlikeness is None else s.unlikeness for s in slides]),
                f"{key}/size": np.array([len(slide.truth) for slide in slides]),
                f"{key}/truth": np.concatenate([slide.truth for slide in slides]),
                f"{key}/score": np.concatenate([slide.patch_score for slide in slides]).astype(np.float32),
            }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()


def _measure_method(
    cell: Cell, method: str, split: Cohort, own: Mapping[str, Data], layers: Mapping[str, Any], out: Path
) -> Generator[Event, None, _Measured]:
    """Train plain MIL (with the recommended method), teacher and student, and let them predict every set."""
    folder = out / "runs" / (cell.name if method == METHODS[0] else f"{cell.name}-{method}")
    home, settings = own[cell.train], cell.settings(method, layers)
    is_new, clock = not Run.is_run(folder), process_time()
    run = yield from training_command.train(
        split, folder, settings, baseline=method == METHODS[0], inputs=home.inputs, resume=not is_new
    )
    about: dict[str, Any] = {
        "train": cell.train,
        "patches": cell.patches,
        "fold": cell.fold,
        "seed": cell.seed,
        "method": method,
    }
    # A run that is resumed has less to do than one from the start.
    about["seconds"] = process_time() - clock if is_new else None
    about["true_prior"] = yield from _true_prior(run, home)
    calibration = load_bundle(run.bundle("student")).config.calibration
    about["prior"] = calibration.findings[0].prior if calibration else None
    evaluations = {}
    for name, data in own.items():
        cohort = split if data is home else data.cohort
        found, _ = yield from failing(evaluate_networks(run, cohort, data.truth, inputs=data.inputs))
        for network, measured in found.items():
            evaluations[name, network if method == METHODS[0] else f"{method}-{network}"] = measured
    return _Measured(about, evaluations)


def failing(work: Generator[Event, None, Any]) -> Generator[Event, None, Any]:
    """Pass events on, but raise what fails of a slide: a figure without it would be another figure."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            return stop.value
        if isinstance(event, ItemFailed):
            raise event.error
        yield event


def bags_and_truth(
    run: Run, data: Data, rows: Sequence[CohortSlide]
) -> Generator[Event, None, list[tuple[Bag, np.ndarray]]]:
    """Return the bags of slides, cut as the run does, and the true class (K,) of their patches."""
    cohort, store = data.cohort.with_slides(replace(row, split=None) for row in rows), None
    if data.encoder is not None and data.features is not None:
        grid = run.config.settings.patches
        origin = FeatureOrigin(patch_px=grid.size_px, mpp=grid.mpp)  # as a training looks for them
        frozen = FrozenEncoder(data.encoder, "cpu")
        expected = frozen.identity.model_copy(update={"origin": origin})
        store = FeatureStore(data.features, data.features, frozen, expected)
    reader = SlideReader(run.config.settings.patches, data.inputs, store)
    known, complete, found = read_truth(data.truth), data.centres is None, []
    known.check(cohort.classes, [row.slide_id for row in rows], complete)
    for row in cohort:
        bag = yield from reader.bag(row, cohort)
        with open_slide(row.path, row.mpp) as slide:
            patches = yield from reader.place(row, slide)
        found.append((bag, known.known(row.slide_id, patches, cohort.classes, complete)[0]))
    return found


def _true_prior(run: Run, home: Data) -> Generator[Event, None, float]:
    """The true share of positive patches in the positive training slides: for the report, to compare with."""
    pairs = yield from bags_and_truth(run, home, run.cohort.in_split("train"))
    known = np.concatenate([true[true != UNLABELLED] for bag, true in pairs if bag.label != (0,)])
    return float((known > 0).mean())


def _measure_ceiling(
    cell: Cell, split: Cohort, own: Mapping[str, Data], layers: Mapping[str, Any], out: Path
) -> Generator[Event, None, _Measured]:
    """Train the student's network on the true class of every training patch; patches are scored in their context.

    What it says of slides is no figure of the report.
    """
    run, home = Run.open(out / "runs" / cell.name), own[cell.train]
    pairs = yield from bags_and_truth(run, home, run.cohort.in_split("train"))
    clock = process_time()
    shown = {bag.slide_id: np.maximum(true, 0) for bag, true in pairs}
    training = TRAINING.model_copy(update=layers.get("teacher", {}))
    trained = yield from train_supervised(
        [bag for bag, _ in pairs], shown, len(split.classes), run.config.settings, training
    )
    seconds = process_time() - clock
    evaluations = {}
    for name, data in own.items():
        rows = run.cohort.in_split("test") if data is home else tuple(data.cohort)
        results = []
        for row, (bag, true) in zip(rows, (yield from bags_and_truth(run, data, rows)), strict=True):
            logit = predict_bag(trained.model, bag).instance_logits.double().numpy()
            score = smooth_points(finding_scores(logit, multi_label=False), bag.coordinates, NEIGHBOURS)[:, 0]
            p, known = sigmoid(score), true != UNLABELLED
            results.append(
                SlideResult(bag.slide_id, row.case_id, bag.label != (0,), float(p.max()), true[known] > 0, p[known])
            )
            yield Progress(Task.PREDICT_BAGS, len(results), len(rows))
        evaluations[name, CEILING] = Evaluation(results)
    about = {"train": cell.train, "patches": cell.patches, "fold": cell.fold, "seed": cell.seed, "method": CEILING}
    return _Measured(about | {"seconds": seconds}, evaluations)
