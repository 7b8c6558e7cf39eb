"""Pixel by pixel: how closely maps follow the outlines of GlaS's malignant glands. The paper names it as future work.

Each pixel of a held-out image has the label of the cell of the map that it lies in: of a grid of patches side by side,
and of a dense map. The ceiling is the student's network, shown the true class of every patch, in the same context.
"""

import csv
import io
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from napari_distill2label.core.calibration import finding_scores, sigmoid
from napari_distill2label.core.context import smooth_grid
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.metrics import binary_metrics, positive_score
from napari_distill2label.core.paths import PathLike
from napari_distill2label.inference.classifier import PatchClassifier, open_classifier
from napari_distill2label.inference.dense import dense_grid
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.label_mask import read_label_mask
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.predict import predict

from .supervised import TRAINING, train_supervised
from .tables import markdown, short
from .transfer import CEILING, QUICK, Data, bags_and_truth, failing

SET = "glas"
MALIGNANT = 2  # in the masks of `prepare-dataset glas`
STRIDE = 16  # px of the model between positions of a dense map
NETWORKS = {"baseline": "plain MIL", "student": "recommended student", CEILING: "ceiling"}


@dataclass(frozen=True)
class Image:
    """What a network says of an image, pixel by pixel, at the threshold that it ships with.

    Attributes
    ----------
    stride
        Distance of the map's positions in pixels.
    hits, misses, false
        Pixels of the finding that are called and that are not, and other pixels that are called; of `pixels`.
    auroc
        Of the image's own pixels; None where all are of one class.
    """

    fold: int
    seed: int
    network: str
    stride: int
    slide: str
    positive: bool
    hits: int
    misses: int
    false: int
    pixels: int
    auroc: float | None


def pixels(
    data: PathLike, out: PathLike, *, only: Sequence[str] = (), quick: bool = False
) -> Generator[Event, None, Path]:
    """Compare maps of held-out GlaS images with the masks, pixel by pixel; what `out` has is not done again.

    Parameters
    ----------
    data
        The folder of `transfer --train glas`: its runs are used as they are.
    out
        Gets `pixels.csv`, with a row for each image, and `pixels.md`.
    only
        Names of trainings ("glas-encoder-fold0-seed0"); none: all that are there.
    quick
        One image of each label, a ceiling of one epoch.

    Returns the path of `pixels.md`.
    """
    data, out = Path(data).absolute(), Path(out)
    there = sorted(path.name for path in (data / "runs").glob(f"{SET}-encoder-fold*-seed*") if Run.is_run(path))
    if missing := [name for name in only or [f"{SET}-encoder-fold0-seed0"] if name not in there]:
        raise SettingsError(
            f"experiment pixels: {data} has no training {missing[0]!r}: run transfer --train glas first"
        )
    table = out / "pixels.csv"
    found = _read(table)
    names = list(only or there)
    for done, name in enumerate(names):
        yield Progress(Task.RUN_EXPERIMENT, done, len(names))
        fold, seed = (int(part[4:]) for part in name.split("-")[-2:])
        for network in NETWORKS:
            if not any((own.fold, own.seed, own.network) == (fold, seed, network) for own in found):
                found += yield from _measure(data, Run.open(data / "runs" / name), fold, seed, network, quick)
                _write(table, found)
    return write_text(out / "pixels.md", report(found))


def _measure(
    data: Path, run: Run, fold: int, seed: int, network: str, quick: bool
) -> Generator[Event, None, list[Image]]:
    """Return what a network says of each held-out image, from both maps."""
    rows = run.cohort.in_split("test")
    if quick:
        rows = [next(row for row in rows if row.label == label) for label in run.config.classes]
    measured = []
    if network == CEILING:
        ceiling = yield from _ceiling(run, data, quick)
        maps = {stride: [_of_ceiling(ceiling, row, stride) for row in rows] for stride in (None, STRIDE)}
    else:
        bundle, maps = load_bundle(run.bundle(network)), {}
        for stride in (None, STRIDE):
            predicted = yield from failing(predict(bundle, Cohort(tuple(rows)), dense_stride=stride))
            maps[stride] = [
                (own.patches, positive_score(own.probability, own.multi_label), bundle.threshold) for own in predicted
            ]
    for stride, of_images in maps.items():
        for row, (patches, score, threshold) in zip(rows, of_images, strict=True):
            truth = read_label_mask(data / "data" / SET / "truth" / f"{row.slide_id}.png").labels == MALIGNANT
            counted = count(truth, at_pixels(patches, score), threshold)
            place = stride or patches.stride, row.slide_id, bool(truth.any())
            measured.append(Image(fold, seed, network, *place, *counted))
    return measured


def at_pixels(patches: PatchGrid, values: np.ndarray) -> np.ndarray:
    """Return the value of each pixel's cell, (h, w), from `values` (rows, cols); 0 where no patch is scored."""
    axes = [np.arange(size) for size in patches.slide_shape]
    y, x = (
        patches.cells_at(np.stack([axis, axis], 1))[:, number].clip(0, patches.shape[number] - 1)
        for number, axis in enumerate(axes)
    )
    return np.nan_to_num(values[np.ix_(y, x)])


def count(truth: np.ndarray, score: np.ndarray, threshold: float) -> tuple[int, int, int, int, float | None]:
    """Return hits, misses, false calls, pixels and AUROC of an image: `truth` (h, w) bool, `score` (h, w)."""
    called = score >= threshold
    auroc = binary_metrics(truth.ravel(), score.ravel())["auroc"]
    return (
        int((called & truth).sum()), int((~called & truth).sum()), int((called & ~truth).sum()), truth.size, auroc
    )  # fmt: skip


# ---- the ceiling ---------------------------------------------------------------------------------------------------


def _ceiling(run: Run, data: Path, quick: bool) -> Generator[Event, None, PatchClassifier]:
    """Train the student's network on the true class of every training patch, as `transfer` does."""
    encoder = load_bundle(run.bundle("student")).config.encoder
    assert encoder is not None  # runs of features
    home = Data(run.cohort, data / "data" / SET, "encoder", Path(encoder.path), data / "features" / SET)
    pairs = yield from bags_and_truth(run, home, run.cohort.in_split("train"))
    shown = {bag.slide_id: np.maximum(true, 0) for bag, true in pairs}
    training = TRAINING.model_copy(update=QUICK["teacher"] if quick else {})
    bags = [bag for bag, _ in pairs]
    trained = yield from train_supervised(bags, shown, len(run.config.classes), run.config.settings, training)
    student = load_bundle(run.bundle("student"))
    return open_classifier(student._replace(model=trained.model))


def _of_ceiling(
    classifier: PatchClassifier, row: CohortSlide, stride: int | None
) -> tuple[PatchGrid, np.ndarray, float]:
    """Return patches, probabilities (rows, cols) in their context, and the threshold."""
    trained = classifier.bundle.config.patches
    with open_slide(row.path, row.mpp) as slide:
        grid = trained.model_copy(update={"mpp": classifier.bundle.config.mpp, "stride_px": stride})
        patches = (PatchGrid.over if stride is None else dense_grid)(slide.shape, grid, slide.mpp)
        logit = np.concatenate([
            classifier(cut(slide, corners, patches.side, patches.patch_px))["logit"]
            for corners in np.array_split(patches.corners, -(-len(patches.corners) // 64))
        ])  # fmt: skip
    score = finding_scores(logit.astype(float), multi_label=False).reshape(*patches.shape, -1)
    distance = 1 if stride is None else round(trained.size_px / stride)
    return patches, sigmoid(smooth_grid(score, distance))[..., 0], 0.5


# ---- the table -----------------------------------------------------------------------------------------------------


def report(images: Sequence[Image]) -> str:
    """Return the Markdown table: the mean over trainings of each figure, and its range."""
    kinds = sorted(
        {(own.network, own.stride) for own in images}, key=lambda kind: (-kind[1], list(NETWORKS).index(kind[0]))
    )
    header = ("network", "a label every", "trainings", "Dice", "IoU", "Dice of an image", "AUROC in an image", "called")
    rows = []
    for network, stride in kinds:
        if not (own := [image for image in images if (image.network, image.stride) == (network, stride)]):
            continue
        trainings = sorted({(image.fold, image.seed) for image in own})
        parts = [[image for image in own if (image.fold, image.seed) == each] for each in trainings]
        cells = [_spread([figure(part) for part in parts]) for figure in FIGURES]
        rows.append([NETWORKS[network], f"{stride} px", str(len(parts)), *cells])
    return markdown(header, rows)


def _dice(images: Sequence[Image]) -> float:
    """2 TP / (2 TP + FP + FN) of all pixels, which is F1."""
    hits, wrong = sum(own.hits for own in images), sum(own.misses + own.false for own in images)
    return 2 * hits / (2 * hits + wrong)


def _iou(images: Sequence[Image]) -> float:
    hits, wrong = sum(own.hits for own in images), sum(own.misses + own.false for own in images)
    return hits / (hits + wrong)


def _dice_of_an_image(images: Sequence[Image]) -> float:
    return float(np.mean([_dice([own]) for own in images if own.positive]))


def _auroc_in_an_image(images: Sequence[Image]) -> float:
    return float(np.mean([own.auroc for own in images if own.auroc is not None]))


def _called(images: Sequence[Image]) -> float:
    """The share of the pixels of benign images that is called."""
    benign = [own for own in images if not own.positive]
    return sum(own.false for own in benign) / sum(own.pixels for own in benign)


FIGURES: tuple[Callable[[Sequence[Image]], float], ...] = (
    _dice, _iou, _dice_of_an_image, _auroc_in_an_image, _called,
)  # fmt: skip


def _spread(values: Sequence[float]) -> str:
    text = short(float(np.mean(values)))
    return text if len(values) < 2 else f"{text} ({short(min(values))}–{short(max(values))})"


def _read(table: Path) -> list[Image]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [
            Image(
                int(row["fold"]), int(row["seed"]), row["network"], int(row["stride"]), row["slide"],
                row["positive"] == "True", int(row["hits"]), int(row["misses"]), int(row["false"]),
                int(row["pixels"]), float(row["auroc"]) if row["auroc"] else None,
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def _write(table: Path, images: Sequence[Image]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Image)], lineterminator="\n")
    writer.writeheader()
    for own in images:
        row = asdict(own)
        writer.writerow(row | {"auroc": "" if own.auroc is None else f"{own.auroc:.5f}"})
    write_text(table, text.getvalue())
