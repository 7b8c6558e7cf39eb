"""The promise: its mathematics, and that it is kept on slides nobody has seen."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.promise import (
    conformal_quantile,
    lowest_threshold,
    make_promise,
    patients_needed,
)

shares = st.floats(0.001, 0.999)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), shares)
def test_the_lowest_threshold_calls_no_more_than_the_share_and_none_lower_does(values, share):
    p = np.array(values, np.float32)
    threshold = np.float32(lowest_threshold(p, share))
    assert (p >= threshold).mean() <= share + 1e-9
    if threshold > 0:
        lower = np.nextafter(threshold, np.float32(-1))
        assert (p >= lower).mean() > share - 1e-9


@given(st.floats(0.01, 0.5), st.integers(0, 40))
def test_as_many_patients_are_needed_as_the_rank_needs(risk, more):
    n = patients_needed(risk)
    assert math.ceil((n + 1) * (1 - risk) - 1e-9) <= n
    assert n == 1 or math.ceil(n * (1 - risk) - 1e-9) > n - 1
    values = list(range(n + more))
    assert conformal_quantile(values, risk) in values


@given(st.integers(1, 30), st.floats(0.05, 0.5))
def test_of_exchangeable_values_a_new_one_is_above_with_at_most_the_risk(n, risk):
    """Exactly, for values without ties: each rank of the new one is equally likely."""
    if n < patients_needed(risk):
        return
    every = list(range(n + 1))
    above = [new > conformal_quantile([v for v in every if v != new], risk) for new in every]
    assert np.mean(above) <= risk + 1e-9


def draw(rng, patients):
    """Negative slides: most have few patches of high probability, a few have many."""
    slides = {}
    for patient in range(patients):
        centre = rng.normal(-4, 1.5)
        own = [1 / (1 + np.exp(-rng.normal(centre + rng.normal(0, 0.5), 1.5, 150))) for _ in range(rng.integers(1, 4))]
        slides[str(patient)] = [(p.astype(np.float32), float(np.sort(p)[-15:].mean())) for p in own]
    return slides


def test_the_promise_is_kept_over_two_hundred_cohorts():
    rng, share, risk = np.random.default_rng(0), 0.05, 0.2
    broken, called = [], []
    for _ in range(200):
        promise = make_promise(draw(rng, 14), share, risk)
        (new,) = draw(rng, 1).values()
        broken.append(max((p >= np.float32(promise.threshold)).mean() for p, _ in new) > share)
        called.append(max(slide for _, slide in new) >= promise.slide_threshold)
    for violated in (broken, called):
        assert np.mean(violated) <= risk + 2 * math.sqrt(risk * (1 - risk) / 200)
        assert np.mean(violated) > 0.05  # and not by calling nothing


def test_a_patient_counts_once_with_its_worst_slide():
    few, many = np.full(100, 0.1, np.float32), np.full(100, 0.9, np.float32)
    slides = {str(patient): [(few, 0.1), (many if patient == 0 else few, 0.2)] for patient in range(9)}
    promise = make_promise(slides, 0.05, 0.1)
    assert (promise.n_patients, promise.n_slides) == (9, 18)
    assert promise.threshold > 0.9
    assert "18 negative slides of 9 patients" in str(promise)


def test_too_few_patients_are_refused_with_the_number_that_is_needed():
    slides = {str(patient): [(np.full(10, 0.1), 0.1)] for patient in range(8)}
    with pytest.raises(SettingsError, match=r"of 9 patients .* There are 8"):
        make_promise(slides, 0.05, 0.1)
    assert patients_needed(0.05) == 19
    assert make_promise(slides, 0.05, 0.2).threshold < 0.2


def test_what_cannot_be_promised_is_not():
    certain = {str(patient): [(np.ones(10, np.float32), 1.0)] for patient in range(9)}
    with pytest.raises(SettingsError, match="No threshold keeps the promise"):
        make_promise(certain, 0.05, 0.1)
    for share, risk in ((0, 0.1), (1, 0.1), (0.05, 0), (0.05, 1.5)):
        with pytest.raises(SettingsError, match="is a share between 0 and 1"):
            make_promise(certain, share, risk)
