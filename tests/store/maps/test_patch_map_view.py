"""What is shown of a patch map, against the map itself."""

import numpy as np
import pytest

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps import patch_map_view
from napari_distill2label.store.maps.labels import labels_of
from napari_distill2label.store.maps.patch_map import PatchMap

SHAPE = (200, 300)


@pytest.fixture
def three(make_patch_map):
    probability = np.random.default_rng(1).dirichlet([1, 1, 1], (10, 15)).astype(np.float32)
    return make_patch_map(SHAPE, probability, ("normal", "tumour", "necrosis"), size_px=20)


def half_filled(n_blocks):
    patches = PatchGrid.over(SHAPE, PatchSettings(size_px=20))
    patch_map = PatchMap.create(None, patches, ("normal", "tumour"), SlideInfo("slide"), model={"network": "student"})
    rng = np.random.default_rng(2)
    for block in list(patches.blocks(25))[:n_blocks]:
        n = int(block.scored.sum())
        p = rng.random(n)
        patch_map.write(block, np.stack([1 - p, p], -1), np.stack([-p, p], -1), p)
    return patch_map


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_are_those_that_are_exported(make_patch_map, multi_label):
    rng = np.random.default_rng(0)
    probability = rng.random((10, 15, 3)).astype(np.float32)
    names = ("normal", "tumour", "necrosis")
    patch_map = make_patch_map(SHAPE, probability, names, multi_label=multi_label, size_px=20)
    shown = patch_map_view.of(patch_map)
    exact = float(probability[3, 4, 1])  # ≥: the very value counts
    for threshold in (0.0, exact, 0.5, 0.73, 1.0):
        for index in (None, 1, 2):
            expected = labels_of(patch_map.probability, threshold, index)
            np.testing.assert_array_equal(shown.labels(threshold, index), expected)
            out = np.empty_like(expected)
            assert shown.labels(threshold, index, out=out) is out
            np.testing.assert_array_equal(out, expected)


def test_patches_that_are_not_scored_have_no_label():
    shown = patch_map_view.of(half_filled(2))
    assert 0 < shown.scored.sum() < shown.scored.size
    for threshold in (0.0, 0.5):
        assert (shown.labels(threshold)[~shown.scored] == 0).all()
        assert (shown.labels(threshold)[shown.scored] > 0).all()
    assert np.isnan(shown.positive[~shown.scored]).all()
    assert np.isnan(shown.attention[~shown.scored]).all()


def test_attention_and_contribution_are_known_before_the_end():
    everything = len(list(half_filled(0).patches.blocks(25)))
    patch_map = half_filled(everything)
    before = patch_map_view.read(patch_map)
    assert not before.is_complete
    patch_map.finish([0.5, 0.5])
    assert patch_map_view.of(patch_map) is before  # the window shows what it has until another thread has read anew
    after = patch_map_view.read(patch_map)
    assert after.is_complete
    assert patch_map_view.of(patch_map) is after
    np.testing.assert_allclose(before.attention, after.attention, rtol=1e-4)
    np.testing.assert_allclose(before.contribution, after.contribution, rtol=1e-4, atol=1e-7)
    assert np.nanmean(after.attention) == pytest.approx(1, rel=1e-4)


def test_counts(three):
    shown = patch_map_view.of(three)
    counts = shown.counts(0.5)
    labels = three.to_labels(0.5)
    assert counts == {name: int((labels == value).sum()) for value, name in enumerate(three.classes, 1)}


def test_order_of_the_patches(three):
    shown = patch_map_view.of(three)
    tumour = three.probability[..., 1]
    most, least = shown.ranked("probability", 1, 5), shown.ranked("probability", 1, 5, least=True)
    assert [tumour[cell] for cell in most] == sorted(tumour.ravel(), reverse=True)[:5]
    assert [tumour[cell] for cell in least] == sorted(tumour.ravel())[:5]
    assert len(shown.ranked("attention", 1, 10_000)) == tumour.size
    contribution = three.contribution[..., 2] - three.contribution[..., 0]
    assert shown.ranked("contribution", 2, 1) == [np.unravel_index(contribution.argmax(), contribution.shape)]


def test_order_of_equals_and_of_parts():
    patch_map = half_filled(1)
    shown = patch_map_view.of(patch_map)
    assert len(shown.ranked("probability", 1, 10_000)) == shown.scored.sum()
    assert all(shown.scored[cell] for cell in shown.ranked("attention", 1, 100, least=True))


def test_doubt_is_largest_at_the_threshold(make_patch_map, three):
    positive = np.linspace(0, 1, 150).reshape(10, 15)
    two = patch_map_view.of(make_patch_map(SHAPE, np.stack([1 - positive, positive], -1), size_px=20))
    cell = np.unravel_index(two.uncertainty(0.3).argmax(), (10, 15))
    assert abs(positive[cell] - 0.3) < 0.01
    entropy = -(three.probability * np.log(three.probability)).sum(-1)
    assert patch_map_view.of(three).uncertainty(0.5).argmax() == entropy.argmax()


def test_facts_in_words(make_patch_map):
    probability = np.tile(np.array([0.2, 0.8]), (10, 15, 1))
    shown = patch_map_view.of(make_patch_map(SHAPE, probability, size_px=20))
    text = str(shown.patch_info((0, 0), 0.5))
    assert text.startswith(
        "tumour · probability of tumour 0.80 · attention 1 × average · effect on the slide's score +"
    )
    assert str(shown.patch_info((0, 0), 0.9)).startswith("normal · probability of tumour 0.80")
    empty = patch_map_view.of(half_filled(0))
    assert empty.patch_info((0, 0), 0.5) is None


def test_patch_at_a_point(make_patch_map):
    grid = patch_map_view.of(make_patch_map(SHAPE, size_px=20))
    assert grid.cell_at(np.array([0.0, 0.0])) == (0, 0)
    assert grid.cell_at(np.array([19.4, 19.6])) == (0, 1)
    assert grid.cell_at(np.array([-1.0, 5.0])) is None
    points = patch_map_view.of(make_patch_map(SHAPE, centres=[(50, 60), (50, 80), (150, 20)], size_px=20))
    assert points.cell_at(np.array([52.0, 68.0])) == (0,)
    assert points.cell_at(np.array([52.0, 73.0])) == (1,)
    assert points.cell_at(np.array([100.0, 100.0])) is None


@pytest.mark.parametrize(
    ("attention", "contribution", "said"),
    [
        (0.00012, -0.00001, "attention less than 0.01 × average · effect on the slide's score almost none"),
        (0.5, -0.002, "attention 0.5 × average · effect on the slide's score −0.0020"),
        (np.nan, 0.25, "effect on the slide's score +0.2500"),
    ],
)
def test_numbers_that_say_nothing_are_words(attention, contribution, said):
    facts = patch_map_view.PatchInfo("normal", "tumour", 0.44, attention, contribution)
    assert str(facts) == f"normal · probability of tumour 0.44 · {said}"
