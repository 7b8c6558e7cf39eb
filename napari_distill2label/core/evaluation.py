"""What predictions of slides with a ground truth are worth: every figure, its interval, and what a user decides by.

The unit of all intervals is the case (the patient): slides of one case, and patches of one slide, are no independent
evidence. A bootstrap draws cases with replacement (Efron 1979). Every figure is computed from counts per case, so that
a draw is a product of matrices and costs the same for a million patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .metrics import Metrics, binary_metrics, mean_metrics

LEVELS = (
    "slide", "patch", "patch_positive_slides", "patch_mean_over_slides", "negative_slides", "negative_regions", "area",
)  # fmt: skip
DRAWS = 500  # of the bootstrap
SCORE_BINS = 4096  # of which the ranking metrics of a draw are made
ECE_BINS = 10
SLIDE_BINS = 5  # of slides, which are few
SPECIFICITIES = (0.9, 0.95, 0.99)
AGREEMENT = 1.96  # standard deviations to the limits of agreement (Bland & Altman 1986)

Figures = dict[str, dict[str, np.ndarray]]  # by level and metric: one value per draw, NaN where it is undefined


@dataclass(frozen=True, eq=False)
class SlideResult:
    """A slide with its label, its probability, and its patches of known ground truth.

    Attributes
    ----------
    score
        Probability that the slide has a finding.
    truth, patch_score
        (k,) bool and float: patches of known ground truth, and their probabilities of a finding.
    patch_mm2
        Area of a patch's cell in mm²; None where the slide's scale is unknown, or patches lie at points.
    unlikeness
        How far the slide is from the training slides (`core.appearance`); None where that is unknown.
    """

    slide_id: str
    case_id: str
    is_positive: bool
    score: float
    truth: np.ndarray
    patch_score: np.ndarray
    patch_mm2: float | None = None
    unlikeness: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One network's predictions of some slides, at the threshold from which on it labels a patch. Slides: at 0.5.

    If labels are `of_cases`, the level "slide" has one item for each case: its label, and the score of its highest
    slide, since a case has a finding if one of its slides has it. The cases of `incomplete` have slides without a
    prediction, where the finding may be: the level "slide" leaves them out.
    """

    slides: Sequence[SlideResult]
    threshold: float = 0.5
    of_cases: bool = False
    incomplete: frozenset[str] = frozenset()
    cases: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(sorted({slide.case_id for slide in self.slides})))

    # ---- figures -----------------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, Metrics]:
        """Return the figures by level (`LEVELS`); None for an undefined one.

        `called` is the share of the patches that is called. `negative_slides`: of all their patches, as the mean over
        slides, and of the worst slide. `negative_regions`: of the negative patches of positive slides. `area`: called −
        true share of each slide: mean size of this error, its mean, the limits of agreement; in mm² where known.
        """
        known = self._known
        negative = [slide for slide in known if not slide.is_positive]
        shares = [self._called(slide.patch_score) for slide in negative]
        every = np.concatenate([np.empty(0), *(slide.patch_score for slide in negative)])
        regions = np.concatenate([np.empty(0), *(s.patch_score[~s.truth] for s in known if s.is_positive)])
        figures: dict[str, Metrics] = {
            "slide": binary_metrics(self._positive, self._slide_scores),
            "patch": self._pooled(known),
            "patch_positive_slides": self._pooled([slide for slide in known if slide.is_positive]),
            "patch_mean_over_slides": mean_metrics(self._each),
            "negative_slides": {
                "called": self._called(every) if len(every) else None,
                "called_mean": float(np.mean(shares)) if shares else None,
                "called_worst": float(np.max(shares)) if shares else None,
                "n": len(every),
            },
            "negative_regions": {"called": self._called(regions) if len(regions) else None, "n": len(regions)},
            "area": self._area(),
        }
        return figures

    def _called(self, score: np.ndarray) -> float:
        return float((score >= self.threshold).mean())

    def _pooled(self, slides: Sequence[SlideResult]) -> Metrics:
        return binary_metrics(
            np.concatenate([np.empty(0, bool), *(slide.truth for slide in slides)]),
            np.concatenate([np.empty(0), *(slide.patch_score for slide in slides)]),
            self.threshold,
        )

    def _area(self) -> Metrics:
        off, mm2 = self._off
        found = _agreement(off, np.ones((1, len(off))))
        figures: Metrics = {name: _value(value[0]) for name, value in found.items()}
        if len(mm2) and np.isfinite(mm2).all():
            found = _agreement(mm2, np.ones((1, len(mm2))))
            figures |= {f"{name}_mm2": _value(value[0]) for name, value in found.items()}
        return figures | {"n": len(off)}

    @cached_property
    def _known(self) -> list[SlideResult]:
        return [slide for slide in self.slides if len(slide.truth)]

    @cached_property
    def _each(self) -> list[Metrics]:
        """The figures of each slide with known patches."""
        return [binary_metrics(slide.truth, slide.patch_score, self.threshold) for slide in self._known]

    @cached_property
    def _off(self) -> tuple[np.ndarray, np.ndarray]:
        """Called − true share of each slide with known patches, and the same in mm² (NaN without a scale)."""
        off = np.array([self._called(slide.patch_score) - slide.truth.mean() for slide in self._known])
        size = [np.nan if s.patch_mm2 is None else s.patch_mm2 * len(s.truth) for s in self._known]
        return off, off * np.array(size)

    @cached_property
    def _labelled(self) -> list[tuple[str, bool, float]]:
        """Case, label and score of everything that has a label: of slides, or of cases."""
        if not self.of_cases:
            return [(slide.case_id, bool(slide.is_positive), slide.score) for slide in self.slides]
        own: dict[str, list[SlideResult]] = {case: [] for case in self.cases if case not in self.incomplete}
        for slide in self.slides:
            if slide.case_id in own:
                own[slide.case_id].append(slide)
        return [(case, any(s.is_positive for s in of), max(s.score for s in of)) for case, of in own.items()]

    @property
    def _positive(self) -> np.ndarray:
        return np.array([positive for _, positive, _ in self._labelled], bool)

    @property
    def _slide_scores(self) -> np.ndarray:
        return np.array([score for _, _, score in self._labelled], float)

    # ---- intervals ---------------------------------------------------------------------------------------------------

    def figures(self, weights: np.ndarray) -> Figures:
        """Return the figures if case c counted `weights[:, c]` times: `weights` is (draws, cases), as `draw_cases`."""
        index = {case: number for number, case in enumerate(self.cases)}
        known = self._known
        own = np.array([index[slide.case_id] for slide in known], int)
        per_slide = weights[:, own]

        def pooled(chosen: Sequence[SlideResult]) -> dict[str, np.ndarray]:
            items = [(index[s.case_id], s.truth, s.patch_score) for s in chosen]
            return _resampled(items, len(self.cases), self.threshold, weights)

        slides = [(index[case], np.array([positive]), np.array([score])) for case, positive, score in self._labelled]
        negative = pooled([slide for slide in known if not slide.is_positive])
        shares = np.array([np.nan if s.is_positive else self._called(s.patch_score) for s in known], float)
        regions = [(index[s.case_id], s.truth[~s.truth], s.patch_score[~s.truth]) for s in known if s.is_positive]
        off, mm2 = self._off
        area = _agreement(off, per_slide)
        if len(mm2) and np.isfinite(mm2).all():
            area |= {f"{name}_mm2": value for name, value in _agreement(mm2, per_slide).items()}
        return {
            "slide": _without(_resampled(slides, len(self.cases), 0.5, weights), "called"),
            "patch": _without(pooled(known), "called"),
            "patch_positive_slides": _without(pooled([slide for slide in known if slide.is_positive]), "called"),
            "patch_mean_over_slides": {
                name: _weighted_mean(np.array([row[name] for row in self._each], float), per_slide)
                for name in ("accuracy", "auroc", "auprc", "prevalence", "ece")
            },
            "negative_slides": {"called": negative["called"], "called_mean": _weighted_mean(shares, per_slide)},
            "negative_regions": {"called": _resampled(regions, len(self.cases), self.threshold, weights)["called"]},
            "area": area,
        }

    def intervals(self, draws: int = DRAWS, seed: int = 0) -> dict[str, dict[str, list[float] | None]]:
        """Return 95 % intervals of the figures by level and metric, from a bootstrap over cases.

        None where most draws leave a figure undefined, or all that it is made of is of one case.
        """
        if len(self.cases) < 2:
            return {}
        found = self.figures(draw_cases(len(self.cases), draws, seed))
        return {
            level: {name: interval(values) if self.n_cases(level) > 1 else None for name, values in row.items()}
            for level, row in found.items()
        }

    def n_cases(self, level: str) -> int:
        """Return how many cases the figures of a level are made of."""
        if level == "slide":
            return len({case for case, _, _ in self._labelled})
        chosen = self._known
        if level == "negative_slides":
            chosen = [slide for slide in chosen if not slide.is_positive]
        elif level == "patch_positive_slides":
            chosen = [slide for slide in chosen if slide.is_positive]
        elif level == "negative_regions":
            chosen = [slide for slide in chosen if slide.is_positive and not slide.truth.all()]
        return len({slide.case_id for slide in chosen})

    # ---- what a user decides by --------------------------------------------------------------------------------------

    def reliability(self) -> dict[str, list[dict[str, float]]]:
        """Return how often what is given a probability is true: bins of [0, 1], of patches and of slides."""
        patches = self._known
        truth = np.concatenate([np.empty(0, bool), *(slide.truth for slide in patches)])
        score = np.concatenate([np.empty(0), *(slide.patch_score for slide in patches)])
        return {
            "patch": reliability_bins(truth, score, ECE_BINS),
            "slide": reliability_bins(self._positive, self._slide_scores, SLIDE_BINS),
        }

    def operating_points(self) -> list[dict[str, Any]]:
        """Return what labels of patches are worth at some thresholds: the network's own, 0.5, and those at which the
        specificity on these very patches is .9, .95 and .99 (`chosen_here`: they were chosen by the ground truth).
        """
        known = self._known
        truth = np.concatenate([np.empty(0, bool), *(slide.truth for slide in known)])
        score = np.concatenate([np.empty(0), *(slide.patch_score for slide in known)])
        of_negative_slide = np.repeat([not slide.is_positive for slide in known], [len(slide.truth) for slide in known])
        points = [("shipped", self.threshold, False), ("0.5", 0.5, False)]
        if (~truth).any():
            ranked = np.sort(score[~truth])
            points += [(f"specificity {share:g}", _just_above(ranked, share), True) for share in SPECIFICITIES]
        result = []
        for name, threshold, chosen_here in points:
            called = score >= threshold
            result.append({
                "name": name,
                "threshold": float(threshold),
                "sensitivity": _share(called[truth]),
                "specificity": _share(~called[~truth]),
                "precision": _share(truth[called]),
                "called": _share(called),
                "called_negative_slides": _share(called[of_negative_slide.astype(bool)]),
                "chosen_here": chosen_here,
            })  # fmt: skip
        return result

    def slide_rows(self) -> list[dict[str, Any]]:
        """Return one row per slide: label, probability, true and called share of its known patches, and in mm²."""
        rows = []
        for slide in self.slides:
            n = len(slide.truth)
            true, called = (float(slide.truth.mean()), self._called(slide.patch_score)) if n else (None, None)
            size = None if slide.patch_mm2 is None else slide.patch_mm2 * n
            rows.append({
                "slide_id": slide.slide_id, "case_id": slide.case_id, "positive": bool(slide.is_positive),
                "probability": float(slide.score), "n": n, "true_share": true, "called_share": called,
                "true_mm2": None if size is None or true is None else true * size,
                "called_mm2": None if size is None or called is None else called * size,
                "unlikeness": slide.unlikeness,
            })  # fmt: skip
        return rows

    def report(self) -> dict[str, Any]:
        """Return everything as JSON values: the levels of `metrics`, and `threshold`, `intervals`, `reliability`,
        `operating_points`, `slides`; `incomplete_cases` where there are such.
        """
        return {
            **self.metrics(),
            **({"incomplete_cases": sorted(self.incomplete)} if self.incomplete else {}),
            "threshold": self.threshold,
            "intervals": self.intervals(),
            "reliability": self.reliability(),
            "operating_points": self.operating_points(),
            "slides": self.slide_rows(),
        }


def draw_cases(cases: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Return how often each case is drawn, (draws, cases): with replacement, as many as there are."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(cases, np.full(cases, 1 / cases), size=draws).astype(float)


def interval(values: np.ndarray) -> list[float] | None:
    """Return the 95 % interval of the draws (n,) that define a figure; None if fewer than half do."""
    defined = values[np.isfinite(values)]
    if 2 * len(defined) < len(values) or not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return [float(low), float(high)]


def reliability_bins(truth: np.ndarray, score: np.ndarray, bins: int) -> list[dict[str, float]]:
    """Return `predicted` (mean score), `observed` (share of positives) and `n` of bins of equal width; empty ones are
    left out.
    """
    index = np.minimum((np.asarray(score) * bins).astype(int), bins - 1)
    return [
        {"predicted": float(score[here].mean()), "observed": float(truth[here].mean()), "n": int(here.sum())}
        for number in range(bins)
        if (here := index == number).any()
    ]


def _resampled(
    items: Sequence[tuple[int, np.ndarray, np.ndarray]], cases: int, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the metrics of `binary_metrics`, and `called`, of each draw of cases.

    `items` are (case, truth (k,), score (k,)). Above `SCORE_BINS` distinct scores the ranking metrics are those of
    scores in as many bins, each with as many patches.
    """
    every = np.concatenate([np.empty(0), *(score for _, _, score in items)])
    if not len(every):
        names = ("accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "called")
        return {name: np.full(len(weights), np.nan) for name in names}
    edges = np.unique(every)
    if len(edges) > SCORE_BINS:
        edges = np.unique(np.quantile(every, np.linspace(0, 1, SCORE_BINS), method="lower"))
    positive, negative = np.zeros((cases, len(edges))), np.zeros((cases, len(edges)))
    gap, counts = np.zeros((cases, ECE_BINS)), np.zeros((cases, 4))
    for case, truth, score in items:
        bins = np.searchsorted(edges, score, side="right") - 1
        np.add.at(positive[case], bins[truth], 1)
        np.add.at(negative[case], bins[~truth], 1)
        np.add.at(gap[case], np.minimum((score * ECE_BINS).astype(int), ECE_BINS - 1), score - truth)
        called = score >= threshold
        counts[case] += [(called & truth).sum(), (called & ~truth).sum(), (~called & truth).sum(), len(truth)]
    tp, fp, fn, n = (weights @ counts).T
    positive, negative = weights @ positive, weights @ negative
    n_positive, n_negative = positive.sum(1), negative.sum(1)
    below = np.cumsum(negative, 1) - negative / 2
    found, wrong = (np.cumsum(own[:, ::-1], 1) for own in (positive, negative))
    both = (n_positive > 0) & (n_negative > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(found + wrong > 0, found / (found + wrong), 0)
        figures = {
            "accuracy": (n - fp - fn) / n,
            "f1": 2 * tp / (2 * tp + fp + fn),
            "auroc": np.where(both, (positive * below).sum(1) / (n_positive * n_negative), np.nan),
            "auprc": np.where(both, (positive[:, ::-1] * precision).sum(1) / n_positive, np.nan),
            "prevalence": n_positive / n,
            "ece": np.abs(weights @ gap).sum(1) / n,
            "called": (tp + fp) / n,
        }
    return {name: np.where(n > 0, value, np.nan) for name, value in figures.items()}


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values (n,), NaN left out, for each row of weights (draws, n)."""
    defined = np.isfinite(values)
    total = weights[:, defined].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights[:, defined] @ values[defined] / total, np.nan)


def _agreement(off: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return error, bias and limits of agreement of differences (n,) for each row of weights (draws, n).

    Limits need two slides.
    """
    n = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = np.where(n > 0, weights @ off / n, np.nan)
        square = np.maximum(weights @ off**2 - n * bias**2, 0)
        spread = AGREEMENT * np.where(n > 1, np.sqrt(square / (n - 1)), np.nan)
        error = np.where(n > 0, weights @ np.abs(off) / n, np.nan)
    return {"error": error, "bias": bias, "low": bias - spread, "high": bias + spread}


def _just_above(ranked: np.ndarray, share: float) -> float:
    """Return the lowest threshold at which at least `share` of sorted scores (n,) is not called."""
    index = int(np.ceil(share * len(ranked) - 1e-9))
    return float(np.nextafter(ranked[index - 1], np.inf)) if index else 0.0


def _share(chosen: np.ndarray) -> float | None:
    return float(chosen.mean()) if len(chosen) else None


def _value(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _without(figures: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in figures.items() if key != name}
