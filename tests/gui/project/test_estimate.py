"""Times are told from what was measured, and said to be guesses."""

import pytest

from napari_distill2label.core.presets import build_settings
from napari_distill2label.gui.project.estimate import TimingSample, estimate, total
from napari_distill2label.gui.runner.times import NO_BREAK, about, duration
from napari_distill2label.store.timing import Timing

PAPER = build_settings(method="paper")
DEFAULT = build_settings()
TIMING = Timing(
    device="cpu, 2 threads", n_slides=10, n_patches=1000, reading=5, between=3,
    epoch={"teacher": 2.0, "student": 1.0, "oof-1": 0.5, "oof-2": 0.5, "oof-3": 0.5},
)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than 10 s"), (38, "about 40 s"), (89, "about 90 s"), (95, "about 2 min"), (1140, "about 19 min"),
     (2500, "about 40 min"), (5400, "about 1.5 h"), (90_000, "about 25 h")],
)  # fmt: skip
def test_guesses_are_no_finer_than_they_are_known(seconds, text):
    assert about(seconds).replace(NO_BREAK, " ") == text


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (65.9, "1:05"), (3599, "59:59"), (11_100, "3:05:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_epochs_and_slides_are_counted():
    assert total(TIMING, PAPER, 10) == 5 + 3 + 16 * 2 + 16 * 1
    assert total(TIMING, PAPER, 20) == 2 * total(TIMING, PAPER, 10)
    assert total(TIMING, PAPER, 10, baseline=True) == total(TIMING, PAPER, 10) + 16 * 2  # as the teacher, at most
    assert total(TIMING, DEFAULT, 10) == 5 + 3 + 16 * 2 + 24 * 1 + 3 * 8 * 0.5
    longer = build_settings(method="paper", overrides={"student": {"epochs": 26}})
    assert total(TIMING, longer, 10) == total(TIMING, PAPER, 10) + 10


def test_two_folds_of_a_trial_stand_for_three():
    """Each of two sees half of the slides, each of three two thirds."""
    trial = TIMING.model_copy(update={"epoch": {"teacher": 2.0, "student": 1.0, "oof-1": 0.6, "oof-2": 0.6}})
    assert total(trial, DEFAULT, 10) == pytest.approx(5 + 3 + 32 + 24 + 3 * 8 * 0.8)


def test_what_was_not_measured_is_not_told():
    partial = TIMING.model_copy(update={"epoch": {"teacher": 2.0}})
    assert total(partial, PAPER, 10) is None
    assert estimate([TimingSample(partial, PAPER, "x")], PAPER, 10, False) is None
    assert estimate([], PAPER, 10, False) is None
    assert estimate([TimingSample(TIMING, PAPER, "x")], PAPER, 0, False) is None


def test_a_trial_says_what_it_knows():
    partial = TIMING.model_copy(update={"epoch": {"teacher": 2.0}})
    told = estimate([TimingSample(partial, PAPER, "measured just now", is_trial=True)], PAPER, 10, False)
    assert told.seconds == 5 + 3 + 16 * 2
    assert told.text.replace(NO_BREAK, " ") == (
        "Will take more than about 40 s (measured just now, which was too short for all networks)."
    )
    whole = estimate([TimingSample(TIMING, PAPER, "measured just now", is_trial=True)], PAPER, 10, False)
    assert whole.text.startswith("Will take about")


def test_only_settings_of_the_same_speed_count():
    known = [TimingSample(TIMING, PAPER, "measured in the run ‘a’")]
    longer = build_settings(method="paper", overrides={"teacher": {"epochs": 100, "learning_rate": 0.01}, "seed": 5})
    told = estimate(known, longer, 10, False)
    assert told.seconds == 5 + 3 + 100 * 2 + 16
    assert told.text.replace(NO_BREAK, " ") == "Will take about 4 min (measured in the run ‘a’)."
    for other in (
        {"patches": {"size_px": 40}},
        {"device": "cuda"},
        {"architecture": {"hidden_dim": 64}},
        {"teacher": {"noise_ratio": 1}},
    ):
        assert estimate(known, build_settings(method="paper", overrides=other), 10, False) is None
    assert estimate(known, DEFAULT, 10, False) is None
