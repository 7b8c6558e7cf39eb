"""Several classes at once: which kind of nucleus is this patch of, learnt from the kinds present in fields of tissue.

Every colon image is cut into 3 × 3 fields. A field is a bag of the patches centred on its nuclei, and its label names
the kinds among them; single patches of test fields show what was learnt. All fields of an image are in one fold.

Class 0, what is no finding, is `none`: a field with none of the four kinds. Every nucleus is of one of them and fields
without a nucleus have no patch, so no label says `none`; its sigmoid learns to stay low, and nothing is read from it.
Each network has one sigmoid per kind. The supervised ceiling is shown patches, which are of one kind each: a softmax.
"""

import io
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.metrics import binary_metrics
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import SPLITS, Cohort
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import COLON_KINDS, prepare_dataset

from .colon import FOLD_SEED, QUICK, few_slides
from .colon_claims import gain
from .colon_images import CUTS, Source
from .colon_report import by_fold
from .figures import COLOURS, new_figure, save
from .results import Key, Results, Row, rows_of
from .runner import Outcome, Trial, run_trials
from .supervised import TRAINING, train_supervised
from .tables import compared, markdown, short, spread
from .times import run_time
from .training import Trained, probabilities_of, train_models
from .variants import VARIANTS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME, PRESET, PATCHES = "fields", "colon", "nucleus"
CLASSES = ("none", *COLON_KINDS)
KINDS = range(1, len(CLASSES))  # indices of what can be found
ACROSS = 3  # fields along each side of an image
SEVERAL = {"patches": CUTS[PATCHES].model_dump(), "architecture": {"multi_label": True}}
SUPERVISED = "supervised"
ROWS = {row: tuple(VARIANTS[row].models.values()) for row in ("paper", "recommended")} | {SUPERVISED: (SUPERVISED,)}
PAIRS = (
    ("teacher", "mil"), ("student", "teacher"), ("student", "mil"), ("recommended", "student"),
    ("supervised", "recommended"),
)  # fmt: skip
SUMMARIES = {"auroc": "AUROC, mean of kinds", "accuracy": "accuracy", "f1": "F1, mean of kinds"}  # of single patches


def fields(
    data: PathLike,
    out: PathLike,
    *,
    folds: int = 5,
    seeds: int = 1,
    workers: int = 1,
    scheduler: str | None = None,
    quick: bool = False,
) -> Generator[Event, None, Path]:
    """Train both methods and the ceiling on every fold, and measure each kind; what `out` has is not done again.

    Parameters
    ----------
    data
        The folder that holds `Classification/` (colon), or a parent of it.
    out
        Gets `cohort.csv`, `centres.csv` and `truth.csv` of the images, `results.csv`, `times.csv`, `scores/`,
        `fields.png` and `fields.md`.
    folds, seeds
        Folds of images, the same as those of experiment colon, and trainings of each from another seed.
    workers, scheduler
        See `runner.run_trials`.
    quick
        Few images, two folds, one seed, one epoch: shows that everything runs, and no more.

    Returns the path of `fields.md`. `SettingsError` if no fold could be done.
    """
    out = Path(out).absolute()  # workers stand elsewhere
    cohort = Cohort.read((yield from prepare_dataset(PRESET, data, out))).with_classes()
    layers: dict[str, Any] = {}
    if quick:
        cohort, folds, seeds, layers = few_slides(cohort), 2, 1, QUICK
    splits = k_folds(cohort, folds, SplitSettings(), FOLD_SEED)
    taught = {
        row: VARIANTS[row].settings(PRESET, 0, SEVERAL, layers).model_dump(mode="json", exclude={"seed", "device"})
        for row in ROWS
        if row != SUPERVISED
    }
    about = {
        "experiment": NAME,
        "quick": quick,
        "folds": folds,
        "slides": sorted(slide.slide_id for slide in cohort),
        **taught,
        SUPERVISED: TRAINING.model_dump(mode="json"),
    }
    results = Results(out, about)
    trials = [
        _task(row, fold, seed, Source(split, PATCHES, out), layers)
        for seed in range(seeds)
        for fold, split in enumerate(splits)
        for row in ROWS
    ]
    yield from run_trials(trials, results, workers, scheduler)
    if not results.rows:
        raise SettingsError(f"{data}: no fold could be done, for the reasons given: there is nothing to show")
    return write_report(results.frame(), out)


# ---- images and their fields ---------------------------------------------------------------------------------------


def read_fields(source: Source) -> Generator[Event, None, tuple[dict[str, list[Bag]], dict[str, np.ndarray]]]:
    """The fields of every split, and the true kind (K,) of their patches by field."""
    bags, truth = {split: [] for split in SPLITS}, {}
    for slide, image in (yield from source.images()):
        field = field_of(image.patches.centres, image.patches.slide_shape)
        own, kinds = cut_fields(image.bag, field, image.true_kinds(CLASSES))
        bags[slide.split] += own
        truth |= kinds
    return bags, truth


def field_of(centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(n,) number of the field, 0 to 8 row by row, in which centres (n, 2) of an image of `shape` px (y, x) lie."""
    row, column = (ACROSS * centres // np.asarray(shape)).T
    return ACROSS * row + column


def cut_fields(bag: Bag, field: np.ndarray, kinds: np.ndarray) -> tuple[list[Bag], dict[str, np.ndarray]]:
    """The bag of an image -> bags of its fields, and the true kinds (K,) of their patches by field.

    `field` (K,) and `kinds` (K,) are of the image's patches. What a field's own bag tells is which kinds it has. The
    fields of an image count as slides of one patient.
    """
    bags, truth = [], {}
    for number in np.unique(field).tolist():
        here, name = field == number, f"{bag.slide_id}-field{number}"
        truth[name] = kinds[here]
        present = tuple(np.unique(truth[name]).tolist())
        case = bag.case_id or bag.slide_id
        bags.append(Bag(name, bag.instances[here], bag.coordinates[here], present, case_id=case))
    return bags, truth


# ---- one fold ------------------------------------------------------------------------------------------------------


def _task(row: str, fold: int, seed: int, source: Source, layers: Mapping[str, Any]) -> Trial:
    keys = tuple(Key(NAME, name, PATCHES, fold, seed) for name in ROWS[row])
    return Trial(f"fold {fold}, seed {seed}: {row}", keys, partial(_work, source, row, fold, seed, layers))


def _work(source: Source, row: str, fold: int, seed: int, layers: Mapping[str, Any]) -> Generator[Event, None, Outcome]:
    """Train one row's models on the fields of a fold's training images, and measure them on its test images."""
    bags, truth = yield from read_fields(source)
    if row == SUPERVISED:
        trained = yield from train_ceiling(bags["train"], truth, seed, layers)
    else:
        trained = yield from train_on_presence(bags["train"], bags["valid"], row, seed, layers)
    kinds = np.concatenate([truth[bag.slide_id] for bag in bags["test"]])
    outcome = Outcome()
    for name, own in trained.items():
        key = Key(NAME, name, PATCHES, fold, seed)
        of_field, of_patch = yield from probabilities_of_all(own, bags["test"])
        outcome.rows += measure_patches(key, kinds, of_patch)
        if row != SUPERVISED:  # how to sum up a field is nothing the ceiling has been shown
            outcome.rows += measure_fields(key, bags["test"], of_field)
        outcome.files[f"scores/{PATCHES}-{name}-{fold}-{seed}.npz"] = _scores(bags["test"], kinds, of_patch)
    return outcome


def train_on_presence(
    train: Sequence[Bag], valid: Sequence[Bag], row: str, seed: int, layers: Mapping[str, Any]
) -> Generator[Event, None, dict[str, Trained]]:
    """The models of a row of `VARIANTS`, by name, from the kinds present in fields alone."""
    variant = VARIANTS[row]
    settings = variant.settings(PRESET, seed, SEVERAL, layers)
    trained = yield from train_models(train, valid, len(CLASSES), settings, tuple(variant.models))
    return {name: trained[network] for network, name in variant.models.items()}


def train_ceiling(
    train: Sequence[Bag], truth: Mapping[str, np.ndarray], seed: int, layers: Mapping[str, Any]
) -> Generator[Event, None, dict[str, Trained]]:
    """The same network, shown the kind of every training patch."""
    settings = VARIANTS["paper"].settings(PRESET, seed, {"patches": SEVERAL["patches"]})
    training = TRAINING.model_copy(update=layers.get("teacher", {}))
    return {SUPERVISED: (yield from train_supervised(train, truth, len(CLASSES), settings, training))}


def probabilities_of_all(
    trained: Trained, bags: Sequence[Bag]
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """Probability of every class for B bags (B, C), and for their N patches (N, C), see `probabilities_of`."""
    of_bag, of_patch = [], []
    for done, bag in enumerate(bags, 1):
        slide, patches, _ = probabilities_of(trained, bag)
        of_bag.append(slide)
        of_patch.append(patches)
        yield Progress(Task.PREDICT_BAGS, done, len(bags))
    return np.stack(of_bag), np.concatenate(of_patch)


def measure_patches(key: Key, kinds: np.ndarray, probability: np.ndarray) -> list[Row]:
    """Rows of level `patch`: true kinds (N,) against probabilities (N, C).

    One kind against the others, and of the likeliest of the four its `accuracy` and, as `f1`, the mean F1 over kinds.
    """
    from sklearn.metrics import f1_score

    called = probability[:, 1:].argmax(1) + 1
    f1 = f1_score(kinds, called, labels=list(KINDS), average="macro", zero_division=0)
    rows = _by_kind(key, "patch", kinds[:, None] == np.arange(len(CLASSES)), probability)
    return rows + rows_of(key, "patch", {"accuracy": float((called == kinds).mean()), "f1": float(f1)}, "")


def measure_fields(key: Key, bags: Sequence[Bag], probability: np.ndarray) -> list[Row]:
    """Rows of level `slide`: presence of each kind against probabilities (B, C)."""
    return _by_kind(key, "slide", np.stack([bag.target(len(CLASSES)) for bag in bags]) > 0, probability)


def _by_kind(key: Key, level: str, present: np.ndarray, probability: np.ndarray) -> list[Row]:
    """`auroc_<kind>` and `prevalence_<kind>`; `auroc`, their mean over all four kinds where each has one; `n`."""
    each = {CLASSES[c]: binary_metrics(present[:, c], probability[:, c]) for c in KINDS}
    auroc = [own["auroc"] for own in each.values()]
    summary = {"auroc": None if None in auroc else float(np.mean(auroc)), "n": len(present)}
    by_kind = {f"{metric}_{kind}": own[metric] for metric in ("auroc", "prevalence") for kind, own in each.items()}
    return rows_of(key, level, by_kind | summary)


def _scores(bags: Sequence[Bag], kinds: np.ndarray, probability: np.ndarray) -> bytes:
    """Every test patch: field, top-left corner (y, x), true kind (index of `CLASSES`), probability of each class."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        field=np.concatenate([np.full(len(bag), bag.slide_id) for bag in bags]),
        corner=np.concatenate([bag.coordinates for bag in bags]),
        truth=kinds.astype(np.int8),
        probability=probability.astype(np.float32),
    )
    return file.getvalue()


# ---- all folds -----------------------------------------------------------------------------------------------------


def write_report(frame: "pd.DataFrame", out: Path) -> Path:
    """Write the tables and the figure of the rows there are; returns the path of `fields.md`."""
    # The same for all models of a fold; the ceiling alone has no rows of fields.
    n = frame[frame.metric == "n"].groupby(["level", "fold"]).value.first().groupby("level").sum()
    parts = (
        f"Four kinds of nuclei in 3 × 3 fields of the colon images: {n['slide']:.0f} fields with "
        f"{n['patch']:.0f} patches; folds (of images): {frame.fold.nunique()}, "
        f"seeds: {frame.seed.nunique()}. Means over folds of means over seeds ± standard deviation over folds.\n",
        run_time(out),
        "Single patches (level `patch`): AUROC of each kind against the others and its mean over kinds; accuracy "
        "and mean F1 of the likeliest kind.\n",
        _table(frame, "patch", SUMMARIES, "share of patches"),
        "Single patches, paired by fold and seed: mean difference with its 95 % t interval over folds.\n",
        _gains(frame),
        "Fields (level `slide`): AUROC of the presence of each kind.\n",
        _table(frame, "slide", {"auroc": "mean"}, "share of fields"),
    )
    draw_figure(frame, out)
    return write_text(out / "fields.md", "\n".join(filter(None, parts)))


def _models(frame: "pd.DataFrame") -> list[str]:
    """Those there are, in the order of `ROWS`, whichever was done first."""
    return [name for names in ROWS.values() for name in names if name in set(frame.model)]


def _table(frame: "pd.DataFrame", level: str, summaries: Mapping[str, str], share: str) -> str:
    """AUROC by kind and `summaries` (metric: title) of every model; last, how common each kind is."""
    columns = [*(f"auroc_{kind}" for kind in COLON_KINDS), *summaries]
    rows = [
        [model, *(spread(by_fold(frame, model, level, metric, "")) for metric in columns)]
        for model in _models(frame[frame.level == level])
    ]
    # The same for all models of a fold.
    common = frame[frame.level == level].groupby(["metric", "fold"]).value.mean()
    shares = [spread(common.get(f"prevalence_{kind}", ())) for kind in COLON_KINDS]
    return markdown(["", *COLON_KINDS, *summaries.values()], [*rows, [share, *shares, *("" for _ in summaries)]])


def _gains(frame: "pd.DataFrame") -> str:
    """What the first of each of `PAIRS` gains on the second, as far as both are there."""
    rows = []
    for one, other in PAIRS:
        if {one, other} <= set(frame.model):
            gains = (gain(frame, one, other, metric, threshold="") for metric in SUMMARIES)
            rows.append([f"{one} − {other}", *(compared(values)[0] for values in gains)])
    return markdown(["", *SUMMARIES.values()], rows)


def draw_figure(frame: "pd.DataFrame", out: Path, shown: str = "recommended") -> Path:
    """Left: AUROC of single patches by kind and model; right: what the model `shown` calls patches of each kind."""
    figure, (bars, matrix) = new_figure(2, width=5.2, height=4)
    models, places = _models(frame), np.arange(len(COLON_KINDS))
    width = 0.85 / len(models)
    for number, (model, colour) in enumerate(zip(models, COLOURS, strict=False)):
        values = [by_fold(frame, model, "patch", f"auroc_{kind}", "") for kind in COLON_KINDS]
        shift = (number - (len(models) - 1) / 2) * width
        spreads = [own.std() for own in values] if frame.fold.nunique() > 1 else None
        bars.bar(places + shift, [own.mean() for own in values], width, yerr=spreads, color=colour, label=model)
    bars.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
    bars.set_xticks(places, COLON_KINDS)
    bars.set(ylim=(0, 1), ylabel="AUROC of single patches", title="One kind against the others")
    figure.legend(*bars.get_legend_handles_labels(), frameon=False, ncols=len(models), loc="outside lower center")
    files = sorted((out / "scores").glob(f"{PATCHES}-{shown}-[0-9]*-[0-9]*.npz"))
    if files:
        _draw_confusion(matrix, confusion(files), shown)
    else:
        matrix.set_axis_off()
    return save(figure, out / "fields.png")


def confusion(files: Sequence[Path]) -> np.ndarray:
    """(4, 4) shares: of the patches of a row's kind, those called each column's; nan for a kind without a patch."""
    counts = np.zeros((len(COLON_KINDS), len(COLON_KINDS)))
    for path in files:
        with np.load(path, allow_pickle=False) as file:
            np.add.at(counts, (file["truth"] - 1, file["probability"][:, 1:].argmax(1)), 1)
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(1, keepdims=True)


def _draw_confusion(axis: "Axes", shares: np.ndarray, model: str) -> None:
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.5 else "black"
        axis.text(column, row, short(float(share), 2), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(COLON_KINDS)), COLON_KINDS, rotation=20)
    axis.set_yticks(range(len(COLON_KINDS)), COLON_KINDS)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="called", ylabel="true kind", title=f"What {model} calls single patches")
