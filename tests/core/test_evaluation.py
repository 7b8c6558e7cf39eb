"""`core.evaluation`: figures by hand, and intervals that a plain bootstrap of copies of the slides gives too."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from napari_distill2label.core.evaluation import (
    LEVELS,
    SCORE_BINS,
    Evaluation,
    SlideResult,
    draw_cases,
    interval,
    reliability_bins,
)
from napari_distill2label.core.metrics import binary_metrics


def slides_of(n=12, patches=40, seed=0, mm2=0.01):
    """Slides of n / 2 cases, half of them positive; a positive patch scores higher by chance."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(n):
        positive = number % 2 == 1
        truth = random.random(patches) < (0.4 if positive else 0.0)
        score = 1 / (1 + np.exp(-(random.normal(size=patches) + 2.0 * truth - 0.5)))
        made.append(
            SlideResult(
                f"s{number}", f"c{number // 2}", positive, float(score.max()), truth, score.astype(np.float32), mm2
            )
        )
    return made


def copies(slides, counts):
    """The slides as a draw of cases has them: of each case as many as it is drawn."""
    cases = sorted({slide.case_id for slide in slides})
    return [
        SlideResult(
            f"{s.slide_id}-{k}", f"{s.case_id}-{k}", s.is_positive, s.score, s.truth, s.patch_score, s.patch_mm2
        )
        for s in slides
        for k in range(int(counts[cases.index(s.case_id)]))
    ]


def test_every_case_once_gives_the_figures_themselves():
    evaluation = Evaluation(slides_of(), 0.6)
    metrics, found = evaluation.metrics(), evaluation.figures(np.ones((1, 6)))
    assert list(metrics) == list(LEVELS) == list(found)
    for level, row in found.items():
        for name, value in row.items():
            assert value[0] == pytest.approx(metrics[level][name], abs=1e-9), (level, name)


def test_a_draw_is_the_figures_of_its_slides():
    slides = slides_of()
    weights = draw_cases(6, draws=5, seed=3)
    found = Evaluation(slides, 0.6).figures(weights)
    for draw, counts in enumerate(weights):
        metrics = Evaluation(copies(slides, counts), 0.6).metrics()
        for level, row in found.items():
            for name, value in row.items():
                assert value[draw] == pytest.approx(metrics[level][name], abs=1e-9), (level, name)


def test_many_scores_are_ranked_in_bins():
    slides = slides_of(n=6, patches=3000)
    assert sum(len(slide.truth) for slide in slides) > 2 * SCORE_BINS
    evaluation = Evaluation(slides)
    metrics, found = evaluation.metrics()["patch"], evaluation.figures(np.ones((1, 3)))["patch"]
    assert found["auroc"][0] == pytest.approx(metrics["auroc"], abs=1e-3)
    assert found["auprc"][0] == pytest.approx(metrics["auprc"], abs=2e-3)
    for name in ("accuracy", "f1", "ece", "prevalence"):
        assert found[name][0] == pytest.approx(metrics[name], abs=1e-9)


def test_called_shares_and_areas_by_hand():
    none, both = np.zeros(4, bool), np.array([True, True, False, False])
    slides = [
        SlideResult("a", "a", False, 0.1, none, np.array([0.9, 0.1, 0.1, 0.1]), 0.5),
        SlideResult("b", "b", False, 0.1, none[:2], np.array([0.1, 0.1]), 0.5),
        SlideResult("c", "c", True, 0.9, both, np.array([0.9, 0.4, 0.9, 0.1]), 0.5),
        SlideResult("d", "d", True, 0.9, both[:0], np.empty(0), 0.5),
    ]
    metrics = Evaluation(slides, 0.5).metrics()
    assert metrics["slide"]["n"] == 4
    assert metrics["patch"]["n"] == 10
    assert "f1" not in metrics["patch_mean_over_slides"]
    assert metrics["patch_mean_over_slides"]["n"] == 3
    assert metrics["negative_slides"] == {
        "called": pytest.approx(1 / 6),
        "called_mean": pytest.approx(1 / 8),
        "called_worst": pytest.approx(1 / 4),
        "n": 6,
    }
    assert metrics["negative_regions"] == {"called": pytest.approx(0.5), "n": 2}
    off = np.array([1 / 4, 0, 0])
    area = metrics["area"]
    assert area["error"] == pytest.approx(off.mean())
    assert area["low"] == pytest.approx(off.mean() - 1.96 * off.std(ddof=1))
    assert area["bias_mm2"] == pytest.approx(np.mean([0.5, 0, 0]))  # 4 patches of 0.5 mm², a quarter too much
    assert area["n"] == 3


def test_without_a_scale_there_are_no_mm2():
    metrics = Evaluation(slides_of(mm2=None)).metrics()
    assert not [name for name in metrics["area"] if name.endswith("mm2")]


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Cases are drawn, not patches: with patches of a case alike, an interval over patches would be far too narrow."""
    random, hits = np.random.default_rng(0), 0
    for trial in range(60):
        rates = random.beta(4, 2, size=30)  # accuracy differs between cases; its mean is 2/3
        slides = []
        for number, rate in enumerate(rates):
            right = random.random(50) < rate
            slides.append(
                SlideResult(f"{number}", f"{number}", True, 0.9, np.ones(50, bool), np.where(right, 0.9, 0.1))
            )
        low, high = Evaluation(slides).intervals(draws=200, seed=trial)["patch"]["accuracy"]
        hits += low <= 2 / 3 <= high
        assert high - low > 0.05
    assert 52 <= hits <= 60


def test_a_figure_that_most_draws_lack_has_no_interval():
    assert interval(np.array([1.0, np.nan, np.nan])) is None
    assert interval(np.array([1.0, 2.0, np.nan])) is not None
    one = [slide for slide in slides_of() if slide.case_id == "c0"]
    assert Evaluation(one).intervals() == {}
    negative = [slide for slide in slides_of() if not slide.is_positive]
    found = Evaluation(negative).intervals(draws=50)
    assert found["patch"]["auroc"] is None
    assert found["negative_slides"]["called"] is not None
    assert found["negative_regions"]["called"] is None


def test_what_is_made_of_one_case_has_no_interval():
    """All negative slides are of one patient: drawing it again says nothing of others."""
    slides = [slide if slide.is_positive else replace(slide, case_id="only") for slide in slides_of()]
    evaluation = Evaluation(slides)
    found = evaluation.intervals(draws=50)
    assert evaluation.n_cases("negative_slides") == 1
    assert found["negative_slides"] == {"called": None, "called_mean": None}
    assert evaluation.n_cases("negative_regions") == evaluation.n_cases("patch_positive_slides") == 6
    assert found["negative_regions"]["called"] is not None
    assert found["patch"]["accuracy"] is not None


def test_reliability_by_hand():
    truth, score = np.array([1, 0, 1, 1], bool), np.array([0.05, 0.15, 0.15, 1.0])
    assert reliability_bins(truth, score, 10) == [
        {"predicted": pytest.approx(0.05), "observed": 1.0, "n": 1},
        {"predicted": pytest.approx(0.15), "observed": 0.5, "n": 2},
        {"predicted": 1.0, "observed": 1.0, "n": 1},
    ]


def test_operating_points_keep_their_specificity():
    slides = slides_of(n=20)
    evaluation = Evaluation(slides, 0.6)
    points = {own["name"]: own for own in evaluation.operating_points()}
    truth, score = (np.concatenate([getattr(s, name) for s in slides]) for name in ("truth", "patch_score"))
    shipped = points["shipped"]
    assert shipped["threshold"] == 0.6
    assert shipped["sensitivity"] == pytest.approx(sk.recall_score(truth, score >= 0.6))
    assert shipped["precision"] == pytest.approx(sk.precision_score(truth, score >= 0.6))
    of_negative = np.concatenate([s.patch_score for s in slides if not s.is_positive])
    assert shipped["called_negative_slides"] == pytest.approx((of_negative >= 0.6).mean())
    for share in (0.9, 0.95, 0.99):
        own = points[f"specificity {share:g}"]
        assert own["specificity"] >= share
        below = np.nextafter(np.float32(own["threshold"]), np.float32(0))  # the lowest such threshold
        assert (score[~truth] < np.nextafter(below, np.float32(0))).mean() < share
        assert own["chosen_here"]


def test_the_report_is_json_and_agrees_with_itself():
    import json

    report = Evaluation(slides_of(), 0.6).report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert len(report["slides"]) == 12
    off = [row["called_share"] - row["true_share"] for row in report["slides"]]
    assert report["area"]["bias"] == pytest.approx(np.mean(off))
    low, high = report["intervals"]["patch"]["auroc"]
    assert low <= report["patch"]["auroc"] <= high
    bins = report["reliability"]["patch"]
    ece = sum(own["n"] * abs(own["predicted"] - own["observed"]) for own in bins) / sum(own["n"] for own in bins)
    assert ece == pytest.approx(report["patch"]["ece"], abs=1e-6)


def test_slides_whose_patches_have_no_truth_are_slides_still():
    slides = [SlideResult("a", "a", True, 0.9, np.empty(0, bool), np.empty(0)), *slides_of(n=4)]
    report = Evaluation(slides).report()
    assert report["slide"]["n"] == 5
    assert report["slides"][0]["called_share"] is None
    nothing = Evaluation(slides[:1]).report()
    assert nothing["patch"]["n"] == 0
    assert nothing["operating_points"][0]["sensitivity"] is None
    assert binary_metrics(np.empty(0), np.empty(0))["auroc"] is None


def test_of_cases_the_slide_level_counts_cases_by_their_highest_slide():
    """Case c0: slides .2 and .9; c1: .4 and .3. Both slides of a case have the case's label."""
    none = np.empty(0)
    slides = [
        SlideResult(name, case, positive, score, none.astype(bool), none)
        for name, case, positive, score in (
            ("a", "c0", True, 0.2), ("b", "c0", True, 0.9), ("c", "c1", False, 0.4), ("d", "c1", False, 0.3),
        )
    ]  # fmt: skip
    of_slides, of_cases = (Evaluation(slides, of_cases=own).metrics()["slide"] for own in (False, True))
    assert (of_slides["accuracy"], of_slides["n"]) == (0.75, 4)
    assert (of_cases["accuracy"], of_cases["n"]) == (1.0, 2)
    drawn = Evaluation(slides, of_cases=True).figures(np.ones((1, 2)))["slide"]
    assert drawn["accuracy"][0] == 1
