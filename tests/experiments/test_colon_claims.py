"""Differences between rows: paired, with a verdict, and what slide labels choose."""

import pandas as pd
import pytest

from experiments.colon_claims import claims_of, gain, validation_losses
from experiments.results import Row
from experiments.variants import VARIANTS


def frame_of(values, level="patch", metric="auroc"):
    """`values`: {(model, seed): metric of every fold}."""
    return pd.DataFrame(
        [
            Row("colon", model, "grid", fold, seed, level, metric, "", value)
            for (model, seed), of_fold in values.items()
            for fold, value in enumerate(of_fold)
        ]
    )


def test_a_claim_compares_what_both_models_have():
    """Seed 1 of `teacher` is not done yet: `mil`'s must not weigh in."""
    frame = frame_of({("mil", 0): (0.5, 0.6), ("teacher", 0): (0.7, 0.7), ("mil", 1): (0.0, 0.0)})
    assert gain(frame, "teacher", "mil", "auroc").tolist() == pytest.approx([0.2, 0.1])


def table_of(text, title):
    (found,) = [part for part in text if part.startswith(f"| {title} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]]


@pytest.mark.parametrize(
    ("teacher", "verdict"),
    [((0.61, 0.72, 0.82), "holds"), ((0.7, 0.6, 0.8), "does not show"), ((0.5, 0.6, 0.7), "fails")],
)
def test_verdicts(teacher, verdict):
    (claim,) = table_of(claims_of(frame_of({("mil", 0): (0.6, 0.71, 0.81), ("teacher", 0): teacher})), "claim")
    assert claim[0] == "VAT makes the teacher better than plain MIL"
    assert claim[-1] == verdict


def test_slide_labels_choose_the_setting_and_not_the_patches():
    scores = frame_of({
        ("mil", 0): (0.6, 0.7), ("teacher", 0): (0.9, 0.9), ("teacher-noise-1", 0): (0.5, 0.6),
    })  # fmt: skip
    losses = frame_of(
        {("teacher", 0): (0.5, 0.5), ("teacher", 1): (0.0, 0.0), ("teacher-noise-1", 0): (0.2, 0.4)}, "valid", "loss"
    )
    both = validation_losses(losses, ("teacher", "teacher-noise-1", "teacher-delta-5"))
    assert both.mean().to_dict() == pytest.approx({"teacher-noise-1": 0.3, "teacher": 0.5})  # of seed 0
    text = list(claims_of(pd.concat([scores, losses])))
    choice = table_of(text, "row")
    assert choice == [["teacher-noise-1", "teacher", "−.200 [−1.471, 1.071]", "–", "–", "−.350 [−.985, .285]"]]
    best = table_of(text[-1:], "claim")[0]
    assert best[0].startswith("`teacher-noise-1` is better than `mil`")
    assert "losses of 2 trainings each: teacher-noise-1 .300, teacher .500" in best[0]
    assert best[3].startswith("−.100")


def test_nothing_is_chosen_of_rows_that_share_no_training():
    apart = {("teacher", 0): (0.5,), ("teacher-noise-1", 1): (0.2,)}
    frame = pd.concat([frame_of(apart), frame_of(apart, "valid", "loss")])
    assert list(claims_of(frame)) == []
    alone = {("teacher-noise-1", 0): (0.5,), ("teacher-delta-5", 0): (0.2,)}  # and no `mil` to hold them against
    assert list(claims_of(pd.concat([frame_of(alone), frame_of(alone, "valid", "loss")]))) == []


def test_rows_are_held_against_rows_that_exist():
    names = {name for variant in VARIANTS.values() for name in variant.names}
    assert {variant.against for variant in VARIANTS.values()} <= names | {""}
