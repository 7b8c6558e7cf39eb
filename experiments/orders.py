"""In which order patches are best corrected: what 5 to 100 corrected patches are worth on slides nobody has seen.

The slides are those of a `transfer` experiment, with their features. The networks are those of the live loop, which
train in seconds after every correction, as in the window. Patches of positive training slides are corrected by the
ground truth, as a person would; those of negative slides are known to be negative. After 5, 10, 20, 50 and 100 the
networks are trained anew, and what they say chooses the next. The held-out fold is measured.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.evaluation import Evaluation, SlideResult, draw_cases, interval
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.presets import live_settings
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.maps.patch_map_view import PatchMapView
from napari_distill2label.store.splits import k_folds
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.ground_truth import read_truth
from napari_distill2label.workflow.live import LiveFeatures, live, read_features

from .tables import markdown, short
from .transfer import FOLD_SEED, FOLDS, SETS
from .transfer_report import SETS as NAMES_OF_SETS
from .transfer_report import seed_of

COUNTS = (0, 5, 10, 20, 50, 100)
DRAWS = 500
RANDOM = "random"
FIGURES = ("f1", "auroc", "ece")
THRESHOLD = 0.5


def _uncertain(patch_map: PatchMap) -> np.ndarray:
    return PatchMapView(patch_map).uncertainty(THRESHOLD)


def _telling(patch_map: PatchMap) -> np.ndarray:
    """The effect on the slide's score: the finding's contribution against the negative class's."""
    contribution = patch_map.contribution
    return np.asarray(np.abs(contribution[..., 1] - contribution[..., 0]))


ORDERS: Mapping[str, Callable[[PatchMap], np.ndarray] | None] = {
    "uncertain first": _uncertain,
    RANDOM: None,
    "telling first": _telling,
}


@dataclass(frozen=True)
class Simulated:
    """What the held-out slides look like after some corrections in one order."""

    set: str
    fold: int
    seed: int
    order: str
    corrected: int
    evaluation: Evaluation


def orders(
    data: PathLike, out: PathLike, *, folds: int | None = None, seeds: int = 1, quick: bool = False
) -> Generator[Event, None, Path]:
    """Simulate corrections in every order.

    Parameters
    ----------
    data
        The folder of a `transfer` experiment with features.
    out
        Gets `orders.csv`, a row for each fold, seed, order and number of corrections, and `orders.md`.
    folds, seeds
        Folds of cases of each set (None: as `transfer` has), and trainings of each.
    quick
        One fold, two numbers of corrections.

    Returns the path of `orders.md`.
    """
    data = Path(data)
    sets = [name for name in SETS if (data / "features" / name).is_dir() and (data / "data" / name).is_dir()]
    if not sets:
        raise SettingsError(f"{data}: holds no features of an experiment 'transfer'")
    counts = COUNTS[:2] if quick else COUNTS
    found: list[Simulated] = []
    for name in sets:
        cohort, features, truth = yield from _read(data, name)
        splits = k_folds(cohort, folds or FOLDS[name], SplitSettings(), FOLD_SEED)
        for fold, split in enumerate(splits[:1] if quick else splits):
            for seed in range(seeds):
                begun = yield from _Simulation.begin(name, split, fold, seed, features, truth)
                for order in ORDERS:
                    yield Progress(Task.RUN_EXPERIMENT, len(found), item=f"{name} fold {fold} seed {seed} {order}")
                    found += yield from begun.run(order, counts)
    return _write(found, Path(out))


def _read(data: Path, name: str) -> Generator[Event, None, tuple[Cohort, LiveFeatures, dict[str, np.ndarray]]]:
    """Return the slides with features, these, and the true class (K,) of their patches."""
    folder = data / "data" / name
    cohort = Cohort.read(folder / "cohort.csv").with_classes()
    nuclei = folder / "centres.csv"
    if nuclei.exists():  # a slide without a nucleus has no patch
        there = read_points(nuclei)
        cohort = cohort.with_slides(row for row in cohort if row.slide_id in there)
    features = yield from read_features(cohort, data / "features" / name)
    points = folder / "truth.csv"
    known = read_truth(points if points.exists() else folder / "truth")
    truth = {
        slide_id: known.known(slide_id, slide.patches, cohort.classes, not nuclei.exists())[0][slide.readable]
        for slide_id, slide in features.slides.items()
    }
    return cohort.with_slides(row for row in cohort if row.slide_id in features.slides), features, truth


@dataclass(frozen=True)
class _Simulation:
    """One training without corrections, from which every order goes on."""

    set: str
    split: Cohort
    fold: int
    seed: int
    features: LiveFeatures
    truth: Mapping[str, np.ndarray]
    maps: Mapping[str, PatchMap]

    @classmethod
    def begin(
        cls, name: str, split: Cohort, fold: int, seed: int, features: LiveFeatures, truth: Mapping[str, np.ndarray]
    ) -> Generator[Event, None, "_Simulation"]:
        result = yield from live(features, split, live_settings(seed))
        return cls(name, split, fold, seed, features, truth, {own.slide_id: own for own in result.maps})

    def run(self, order: str, counts: Sequence[int]) -> Generator[Event, None, list[Simulated]]:
        """Correct in one order; the first of `counts` is 0."""
        split, maps = self.split, self.maps
        rows = [row for row in split.labelled if row.split != "test" and split.indices(row) != (0,)]
        told = {
            row.slide_id: np.full(self.features.slides[row.slide_id].patches.shape, UNLABELLED, np.int8) for row in rows
        }
        random, found = np.random.default_rng((self.seed, self.fold)), []
        for count in counts:
            if count:
                correct(told, maps, count, ORDERS[order], self.features, self.truth, random)
                result = yield from live(self.features, split, live_settings(self.seed), told)
                maps = {own.slide_id: own for own in result.maps}
            results = [
                _result(maps[row.slide_id], row.case_id, split.indices(row) != (0,), self.truth[row.slide_id])
                for row in split.in_split("test")
            ]
            evaluation = Evaluation(results, THRESHOLD)
            found.append(Simulated(self.set, self.fold, self.seed, order, count, evaluation))
        return found


def correct(
    told: Mapping[str, np.ndarray],
    maps: Mapping[str, PatchMap],
    count: int,
    rank: Callable[[PatchMap], np.ndarray] | None,
    features: LiveFeatures,
    truth: Mapping[str, np.ndarray],
    random: np.random.Generator,
) -> None:
    """Correct patches of all slides together until `count` are, the highest ranks first."""
    places: list[tuple[str, int]] = []
    values = []
    for slide_id, known in told.items():
        slide = features.slides[slide_id]
        flat = np.flatnonzero(slide.patches.scored.ravel())[slide.readable]
        own = np.zeros(known.shape) if rank is None else rank(maps[slide_id])
        free = (known.ravel()[flat] == UNLABELLED) & (truth[slide_id] != UNLABELLED)
        places += [(slide_id, index) for index in np.flatnonzero(free).tolist()]
        values.append(own.ravel()[flat][free])
    value = np.concatenate(values)
    done = sum(int((known != UNLABELLED).sum()) for known in told.values())
    shuffled = random.permutation(len(value))  # of equals, and all of `rank` None, any
    for index in shuffled[np.argsort(-value[shuffled], kind="stable")][: count - done]:
        slide_id, patch = places[index]
        slide = features.slides[slide_id]
        flat = np.flatnonzero(slide.patches.scored.ravel())[slide.readable]
        told[slide_id].ravel()[flat[patch]] = truth[slide_id][patch]


def _result(patch_map: PatchMap, case_id: str, is_positive: bool, true: np.ndarray) -> SlideResult:
    score = patch_map.probability[patch_map.scored][:, 1]
    known = true != UNLABELLED
    slide = 0.0 if patch_map.bag_probability is None else patch_map.bag_probability[1]
    return SlideResult(patch_map.slide_id, case_id, is_positive, slide, true[known] > 0, score[known])


# ---- the report ------------------------------------------------------------------------------------------------------


def _write(found: Sequence[Simulated], out: Path) -> Path:
    import pandas as pd

    rows = [
        {"set": own.set, "fold": own.fold, "seed": own.seed, "order": own.order, "corrected": own.corrected}
        | {name: own.evaluation.metrics()["patch"][name] for name in FIGURES}
        for own in found
    ]
    frame = pd.DataFrame(rows)
    write_text(out / "orders.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    drawn = [_drawn(own.evaluation) for own in found]
    parts = []
    for name, table in frame.groupby("set", sort=False):
        own = [pair for pair in zip(found, drawn, strict=True) if pair[0].set == name]
        lines = []
        for (order, corrected), cells in table.groupby(["order", "corrected"], sort=False):
            gains = [_difference(own, str(order), int(corrected), figure) for figure in ("f1", "auroc")]
            means = [short(float(cells[figure].mean())) for figure in FIGURES]
            lines.append([str(order), str(corrected), *means, *gains])
        n_folds, n_seeds = table.fold.nunique(), table.seed.nunique()
        trained = "one training" if n_seeds == 1 else f"{n_seeds} trainings"
        head = ("order", "corrected", "F1", "AUROC", "ECE", "F1: minus none", "AUROC: minus none")
        parts.append(
            f"## {NAMES_OF_SETS[str(name)]}\n\n{n_folds} folds of cases, {trained} of each; differences with 95 % "
            f"intervals (pairs; cases are drawn with replacement).\n\n{markdown(head, lines)}"
        )
    return write_text(out / "orders.md", "\n".join(parts))


def _drawn(evaluation: Evaluation) -> Mapping[str, np.ndarray]:
    """Return the figures of patches: of all cases, then of `DRAWS` draws of them, the same for the same cases."""
    cases = evaluation.cases
    weights = np.concatenate([np.ones((1, len(cases))), draw_cases(len(cases), DRAWS, seed_of(cases))])
    return evaluation.figures(weights)["patch"]


def _difference(
    found: Sequence[tuple[Simulated, Mapping[str, np.ndarray]]], order: str, corrected: int, figure: str
) -> str:
    """Return the mean over folds and seeds of what so many corrections gain, and its interval over cases."""
    if not corrected:
        return "–"
    own = {(each.fold, each.seed, each.corrected): drawn[figure] for each, drawn in found if each.order == order}
    cells = dict.fromkeys((fold, seed) for fold, seed, _ in own)
    gains = [own[fold, seed, corrected] - own[fold, seed, 0] for fold, seed in cells]
    mean, limits = float(np.mean([gain[0] for gain in gains])), interval(np.mean([gain[1:] for gain in gains], 0))
    text = f"{'+' if mean >= 0 else ''}{short(mean)}"
    return text if limits is None else f"{text} [{short(limits[0])}, {short(limits[1])}]"
