"""Tables and figure of the breast experiment, from `results.csv`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from napari_distill2label.core.metrics import binary_metrics
from napari_distill2label.core.settings import Settings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files.atomic import write_text

from .figures import COLOURS, new_figure, save
from .tables import markdown, short, spread
from .times import run_time

if TYPE_CHECKING:
    import pandas as pd

MODELS = {"mil": "MIL", "teacher": "Teacher", "student": "Student"}
VERSUS_IMAGE = "patch_against_image_label"
IMAGE_SCORE = "image_score"  # rows of this level: the bag score of one image, whose name stands as the metric
VALID = "valid"  # rows of this level: what the fold's validation images chose
METRICS = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC", "auprc": "AUPRC", "ece": "ECE"}
# Thiagarajan 2019, Table II, averages over its five folds: accuracy, F1, AUROC of single patches.
PUBLISHED = {"mil": (0.27, 0.26, 0.60), "teacher": (0.59, 0.56, 0.71), "student": (0.64, 0.60, 0.75)}
DRAWS = 10_000  # of the bootstrap over cases


def scores_of(frame: "pd.DataFrame", cohort: Cohort) -> "pd.DataFrame":
    """`scores.csv`: model, fold, seed, slide_id, case_id, truth (0, 1), score; each image once per model and seed."""
    scores = frame[frame.level == IMAGE_SCORE].rename(columns={"metric": "slide_id", "value": "score"})
    slides = {slide.slide_id: slide for slide in cohort}
    scores["case_id"] = [slides[name].case_id for name in scores.slide_id]
    scores["truth"] = [int(cohort.indices(slides[name]) != (0,)) for name in scores.slide_id]
    # A seed that lacks a fold would be compared with others on other images.
    images = scores.groupby(["model", "seed"]).slide_id.transform("size")
    scores = scores[images == images.max()]
    return scores[["model", "fold", "seed", "slide_id", "case_id", "truth", "score"]].reset_index(drop=True)


def auroc_of_cases(scores: "pd.DataFrame", counts: np.ndarray) -> np.ndarray:
    """AUROC of the pooled images of one model, mean over its seeds, if case c counted `counts[:, c]` times.

    `counts` is (draws, cases), cases in sorted order -> (draws,); nan where a draw lacks a label.
    """
    cases = sorted(set(scores.case_id))
    pairs = np.zeros((len(cases), len(cases)))  # won by the positive images of a row's over a column's negative ones
    of_label = np.zeros((2, len(cases)))
    for _, own in scores.groupby("seed"):
        member = own.case_id.to_numpy() == np.array(cases)[:, None]
        truth, score = own.truth.to_numpy(bool), own.score.to_numpy()
        won = (score[truth, None] > score[~truth]) + 0.5 * (score[truth, None] == score[~truth])
        pairs += member[:, truth] @ won @ member[:, ~truth].T
        of_label += member[:, ~truth].sum(1), member[:, truth].sum(1)
    seeds = scores.seed.nunique()
    negative, positive = (counts @ of_label.T / seeds).T
    with np.errstate(invalid="ignore"):
        return np.einsum("dc,ce,de->d", counts, pairs / seeds, counts) / (negative * positive)


def write_report(frame: "pd.DataFrame", splits: Sequence[Cohort], settings: Settings, out: Path) -> Path:
    """Write scores.csv, the figure and the tables of all rows there are; returns the path of the tables."""
    scores = scores_of(frame, splits[0])
    write_text(out / "scores.csv", scores.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    _figure(scores, out / "breast.png")
    parts = (
        _setting(frame, splits, settings),
        run_time(out),
        _of_images(frame, scores, splits[0]),
        _of_patches(frame),
        _published(),
    )
    return write_text(out / "breast.md", "\n".join(filter(None, parts)))


def _setting(frame: "pd.DataFrame", splits: Sequence[Cohort], settings: Settings) -> str:
    cohort, seeds = splits[0], frame.seed.nunique()
    lacking = len(MODELS) * len(splits) * seeds - len(frame[["model", "fold", "seed"]].drop_duplicates())
    chosen = frame[(frame.level == VALID) & (frame.metric == "epoch")].groupby(["fold", "model"]).value
    epochs = {key: "/".join(f"{value:.0f}" for value in own) for key, own in chosen}
    rows = []
    for fold, split in enumerate(splits):
        valid = " ".join(_cases(split, "valid"))
        rows.append([
            str(fold), str(len(split.in_split("train"))), f"{valid} ({_labels(split, 'valid')})" if valid else "–",
            f"{' '.join(_cases(split, 'test'))} ({_labels(split, 'test')})",
            *(epochs.get((fold, model), "–") for model in MODELS),
        ])  # fmt: skip
    header = ["fold", "training images", "validation case (images)", "test cases (images)"]
    tests = [[split.indices(slide) != (0,) for slide in split.in_split("test")] for split in splits]
    pairs = min(sum(truth) * (len(truth) - sum(truth)) for truth in tests)
    negative, positive = cohort.classes
    mixed = sum(len({slide.label for slide in cohort if slide.case_id == case}) > 1 for case in _cases(cohort))
    step = f"moves in steps of {short(1 / pairs, 2)}" if pairs else "is undefined"
    side = settings.patches.size_px
    described = f"""
        {len(cohort)} images ({negative} + {positive}: {_labels(cohort)}) of {len(_cases(cohort))} cases, {mixed} of
        which have both labels; patches of {side} × {side} px, those with at least
        {settings.patches.max_background:.0%} of white pixels dropped; method `{settings.method}`, epochs:
        {settings.teacher.epochs}, realizations of the subset term: {settings.teacher.n_subsets}, folds:
        {len(splits)}, with whole cases dealt to them, seeds: {seeds}. """
    lacks = f"**{lacking} trainings are missing: run the command again.**" if lacking else ""
    meaning = f"""
        {_validation(splits)} The same images pick the epoch (lowest bag loss) and the threshold `bags` (largest
        Youden's J, 0.5 where that is as good). They speak for few patients and their staining: a model that is right
        there may be wrong on the next case, the loss they give says little of the loss on the test cases, and a single
        image can move the threshold. Labels belong to images, not to cases, so that a split by image would have put
        one patient on both sides. The smallest test fold has {pairs} pairs of a {positive} and a {negative}
        image, so that its AUROC {step}: read the pooled figures first."""
    table = markdown([*header, *(f"epoch of {name}" for name in MODELS.values())], rows)
    return f"# Table II: breast images (UCSB)\n\n{_paragraph(described + lacks)}\n{table}\n{_paragraph(meaning)}"


def _paragraph(text: str) -> str:
    return fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _validation(splits: Sequence[Cohort]) -> str:
    """How much validates, in words."""
    cases = [_cases(split, "valid") for split in splits]
    counts, sizes = sorted({len(own) for own in cases}), [len(split.in_split("valid")) for split in splits]
    often = Counter(case for own in cases for case in own).most_common(1)
    again = f"; {often[0][0]} validates {often[0][1]} of {len(splits)} folds" if often and often[0][1] > 1 else ""
    each = " or ".join(f"{count} case{'s' * (count != 1)}" for count in counts)
    images = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
    return f"**Validation is {each} a fold, {images} images{again}.**"


def _of_images(frame: "pd.DataFrame", scores: "pd.DataFrame", cohort: Cohort) -> str:
    pooled = [
        [f"{name}, {scope}", *(spread(values[metric]) for metric in METRICS)]
        for model, name in MODELS.items()
        for scope, values in (
            ("pooled", _pooled(scores[scores.model == model])),
            ("folds", _per_fold(frame, model, "slide", "0.5")),
        )
    ]
    at_bags = [
        [name, *(spread(_per_fold(frame, model, "slide", "bags")[metric]) for metric in ("accuracy", "f1"))]
        for model, name in MODELS.items()
    ]
    return f"""## Images (level `slide`)

Measured against the images' own labels, threshold 0.5.

{_by_fold(frame, "slide")}
Pooled: the test images of all folds together, each scored by the network that has not seen its case (mean ± standard
deviation over seeds, if there are several); folds: mean ± standard deviation over folds and seeds.

{markdown(["images", *METRICS.values()], pooled)}
At the threshold the fold's validation images chose, mean ± standard deviation over folds and seeds:

{markdown(["images, threshold `bags`", "accuracy", "F1"], at_bags)}
Pooled AUROC with the 95 % interval of a bootstrap over the {len(_cases(cohort))} cases, {DRAWS} draws. It holds what
other cases would change and not what training anew would; scores of different folds come from different networks.

{markdown(["pooled AUROC of images", "value", "95 % interval"], _intervals(scores))}"""


def _of_patches(frame: "pd.DataFrame") -> str:
    rows = [
        [f"{name}, threshold `{at}`", *(spread(_per_fold(frame, model, VERSUS_IMAGE, at)[m]) for m in METRICS)]
        for model, name in MODELS.items()
        for at in ("0.5", "bags")
    ]
    return f"""## Patches against the label of their image (level `{VERSUS_IMAGE}`)

**This is not the instance metric of the paper's Table II**: no complete truth per cell or patch of this set is public,
so every patch is held against the label of its image, though a malignant image also has patches that show nothing
malignant. A model that found the malignant cells and nothing else would score badly here.

{_by_fold(frame, VERSUS_IMAGE)}
Mean ± standard deviation over folds and seeds:

{markdown(["patches against the label of their image", *METRICS.values()], rows)}"""


def _published() -> str:
    rows = [[MODELS[model], *(short(value, 2) for value in values)] for model, values in PUBLISHED.items()]
    return f"""## The paper's figures, which cannot be checked

Table II as published, averages over the paper's own five folds of 58 images: single patches against a truth per cell
that is not public. No figure above is comparable to these.

{markdown(["published: patches against a truth per cell", "accuracy", "F1", "AUROC"], rows)}"""


def _by_fold(frame: "pd.DataFrame", level: str) -> str:
    """The paper's form: a row per fold (mean over seeds) and their average; by metric, the three models."""
    metrics = ("accuracy", "f1", "auroc")
    own = frame[(frame.level == level) & frame.metric.isin(metrics) & frame.threshold.isin(("", "0.5"))]
    means = own.groupby(["metric", "model", "fold"]).value.mean()
    columns = [dict(means.get((m, model), {}).items()) for m in metrics for model in MODELS]
    rows = [
        [str(fold), *(short(column[fold]) if fold in column else "–" for column in columns)]
        for fold in sorted(own.fold.unique())
    ]
    rows.append(["Average", *(short(float(np.mean(list(column.values())))) if column else "–" for column in columns)])
    return markdown(["Fold", *(f"{METRICS[m]} {name}" for m in metrics for name in MODELS.values())], rows)


def _per_fold(frame: "pd.DataFrame", model: str, level: str, threshold: str) -> dict[str, np.ndarray]:
    """Values of every metric over folds and seeds."""
    own = frame[(frame.model == model) & (frame.level == level) & frame.threshold.isin(("", threshold))]
    return {metric: own.value[own.metric == metric].to_numpy() for metric in METRICS}


def _pooled(scores: "pd.DataFrame") -> dict[str, list[float]]:
    """Values of every metric over seeds, the images of all folds pooled."""
    each = [binary_metrics(own.truth.to_numpy(), own.score.to_numpy()) for _, own in scores.groupby("seed")]
    return {metric: [row[metric] for row in each if row[metric] is not None] for metric in METRICS}


def _intervals(scores: "pd.DataFrame") -> list[list[str]]:
    """Pooled AUROC of the models, and its paired differences, with intervals over cases."""
    own = {model: part for model, part in scores.groupby("model") if part.truth.nunique() == 2}
    cases = scores.case_id.nunique()
    if not all(part.case_id.nunique() == cases for part in own.values()):
        return []  # not all folds of all models are there
    drawn = np.random.default_rng(0).multinomial(cases, [1 / cases] * cases, DRAWS)
    counts = np.vstack([np.ones(cases, int), drawn])  # first: every case once, the value itself
    auroc = {model: auroc_of_cases(part, counts) for model, part in own.items()}
    rows = {MODELS[model]: auroc[model] for model in MODELS if model in auroc}
    for better, worse in (("teacher", "mil"), ("student", "mil"), ("student", "teacher")):
        if better in auroc and worse in auroc:
            rows[f"{MODELS[better]} − {MODELS[worse]}"] = auroc[better] - auroc[worse]
    return [
        [name, short(values[0]), " to ".join(short(q) for q in np.nanpercentile(values[1:], (2.5, 97.5)))]
        for name, values in rows.items()
    ]


def _cases(cohort: Cohort, split: str | None = None) -> list[str]:
    return sorted({slide.case_id for slide in cohort if split in (None, slide.split)})


def _labels(cohort: Cohort, split: str | None = None) -> str:
    """Images of each label, the negative one first: "27 + 19"."""
    labels = [slide.label for slide in cohort if split in (None, slide.split)]
    return " + ".join(str(labels.count(name)) for name in cohort.classes)


def _figure(scores: "pd.DataFrame", path: Path) -> None:
    """Left: ROC of the images, folds pooled, a line per seed; right: the student's score of every image, by case."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, (roc, strip) = new_figure(2)
    # Thinner from one to the next: lines that lie on one another are all seen.
    for colour, width, (model, name) in zip(COLOURS, (4, 2.4, 1.2), MODELS.items(), strict=False):
        runs = [own for _, own in scores[scores.model == model].groupby("seed") if own.truth.nunique() == 2]
        if runs:
            area = spread([roc_auc_score(own.truth, own.score) for own in runs])
        for number, own in enumerate(runs):
            wrong, right, _ = roc_curve(own.truth, own.score)
            roc.plot(wrong, right, color=colour, linewidth=width, label=None if number else f"{name}: {area}")
    roc.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    roc.set(xlabel="benign images called malignant", ylabel="malignant images found", title="Images, folds pooled")
    roc.legend(title="AUROC", frameon=False, loc="lower right")
    own = scores[scores.model == "student"]
    cases = sorted(scores.case_id.unique())
    for truth, face, name, shift in ((0, "none", "benign", -0.12), (1, COLOURS[2], "malignant", 0.12)):
        part = own[own.truth == truth]
        place = [cases.index(case) + shift for case in part.case_id]
        strip.scatter(part.score, place, s=22, facecolors=face, edgecolors=COLOURS[2], label=name)
    strip.axvline(0.5, color="0.7", linewidth=0.8, zorder=0)
    strip.set(xlim=(-0.02, 1.02), xlabel="student's score of an image")
    strip.set_yticks(range(len(cases)), cases)
    strip.invert_yaxis()
    strip.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1), borderaxespad=0)
    save(figure, path)
