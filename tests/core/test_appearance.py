"""Whether a slide looks like the training slides."""

import numpy as np
import pytest
from pydantic import ValidationError

from napari_distill2label.core.appearance import (
    FEWEST_PATIENTS,
    MOST_PATCHES,
    Appearance,
    appearance_vector,
    fit_appearance,
    sampled,
)


def slides(n, seed, stain=1.0, side=9):
    """Looks of `n` drawn slides of textured patches; `stain` multiplies what the tissue takes of the light."""
    random = np.random.default_rng(seed)
    looks = []
    for _ in range(n):
        tone = random.normal([0.4, 0.8, 0.3], 0.04)[:, None, None]
        density = stain * np.clip(tone + random.normal(0, 0.1, (40, 3, side, side)), 0, None)
        looks.append(appearance_vector((255 * np.exp(-density)).astype(np.uint8), np.zeros(3), np.ones(3)))
    return np.array(looks)


def test_slides_of_another_stain_are_unlike_and_others_of_the_same_are_not():
    appearance = fit_appearance(slides(60, 0), range(60))
    like = np.array([appearance.unlikeness(look) for look in slides(200, 1)])
    assert (like > 1).mean() < 0.19  # one in ten by design, ± what 60 slides can say
    assert min(appearance.unlikeness(look) for look in slides(20, 2, stain=1.6)) > 1.5


def test_features_from_another_source_are_unlike():
    random = np.random.default_rng(0)
    mean, std = random.normal(0, 1, 50), random.uniform(0.5, 2, 50)

    def look(shift):
        return appearance_vector((mean + std * (random.normal(0, 1, (30, 50)) + shift)).astype(np.float32), mean, std)

    slide_shift = [random.normal(0, 0.1, 50) for _ in range(40)]
    appearance = fit_appearance(np.array([look(own) for own in slide_shift]), range(40))
    assert np.mean([appearance.unlikeness(look(random.normal(0, 0.1, 50))) > 1 for _ in range(60)]) < 0.25
    assert min(appearance.unlikeness(look(random.normal(0.8, 0.5, 50))) for _ in range(10)) > 1


def test_a_feature_that_does_not_vary_counts_where_it_differs():
    features = np.ones((5, 20), np.float32)
    mean, std = np.ones(20), np.zeros(20)
    assert np.isfinite(appearance_vector(features, mean, std)).all()
    assert appearance_vector(features + 1, mean, std)[-1] > appearance_vector(features, mean, std)[-1]


def test_a_slide_is_measured_against_other_patients_only():
    looks = np.concatenate([slides(19, 0), slides(3, 1, stain=1.6)])
    together = fit_appearance(looks, [*range(19), "x", "x", "x"])
    alone = fit_appearance(looks, range(22))
    assert min(together.distances[-3:]) > 2 * max(together.distances[:-3])
    assert alone.distances[-1] < together.distances[-1] / 2  # two others of its patient are near it


def test_too_few_patients_say_nothing():
    looks = slides(20, 0)
    assert fit_appearance(looks, [number % (FEWEST_PATIENTS - 1) for number in range(20)]) is None
    few = fit_appearance(looks[:FEWEST_PATIENTS], range(FEWEST_PATIENTS))
    assert few.limit == few.distances[-1]


def test_patches_are_taken_from_all_over_the_slide():
    assert sampled(3).tolist() == [0, 1, 2]
    assert sampled(1).tolist() == [0]
    many = sampled(10_000)
    assert len(many) == MOST_PATCHES
    assert (many[0], many[-1]) == (0, 9999)
    assert np.ptp(np.diff(many)) <= 1


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValidationError, match="differ in length"):
        Appearance(mean=(0.0, 1.0), precision=((1.0,),), distances=(1.0,))
