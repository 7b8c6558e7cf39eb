import dataclasses

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED, Bag, Region, bag_of_case

PATCHES = np.zeros((4, 3, 5, 5), np.uint8)
CORNERS = np.zeros((4, 2), np.int64)


def test_a_bag_of_patches_and_one_of_features():
    bag = Bag("a", PATCHES, CORNERS, (1,))
    assert len(bag) == 4
    assert not bag.is_features
    assert Bag("a", np.zeros((1, 7), np.float32), CORNERS[:1]).is_features


@pytest.mark.parametrize(
    "instances",
    [
        PATCHES.astype(np.float32),
        PATCHES[:0],
        PATCHES[0],
        np.zeros((4, 7)),
        np.zeros((4, 7), np.uint8),
        np.zeros((0, 7), np.float32),
    ],
)
def test_other_instances_are_refused(instances):
    with pytest.raises(ValueError, match="'a': instances"):
        Bag("a", instances, CORNERS[: len(instances)])


def test_coordinates_and_known_go_with_the_instances():
    with pytest.raises(ValueError, match="coordinates"):
        Bag("a", PATCHES, CORNERS[:3])
    with pytest.raises(ValueError, match="patch_labels"):
        Bag("a", PATCHES, CORNERS, patch_labels=np.zeros(3, np.int8))


def test_target_has_a_one_for_every_class_present():
    assert Bag("a", PATCHES, CORNERS, (0,)).target(3).tolist() == [1, 0, 0]
    assert Bag("a", PATCHES, CORNERS, (1, 2)).target(3).tolist() == [0, 1, 1]
    assert Bag("a", PATCHES, CORNERS, (1,)).target(2).dtype == np.float32
    with pytest.raises(ValueError, match="'a' has no label"):
        Bag("a", PATCHES, CORNERS).target(2)


def test_truth_is_no_field_of_a_bag():
    assert [field.name for field in dataclasses.fields(Bag)] == [
        "slide_id", "instances", "coordinates", "label", "patch_labels", "case_id", "regions", "share", "parts",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        Bag("a", PATCHES, CORNERS).label = (1,)


def slide_of(name, size, **more):
    rng = np.random.default_rng(size)
    return Bag(name, rng.random((size, 4), np.float32), rng.integers(0, 99, (size, 2)), (1,), case_id="P1", **more)


def test_a_case_is_the_patches_of_its_slides_and_what_is_said_of_them():
    known = np.array([1, UNLABELLED], np.int8)
    region = Region(np.array([0, 2]), "some")
    one, other = slide_of("a", 2, patch_labels=known, share=0.5), slide_of("b", 6, regions=(region,), share=0.1)
    case = bag_of_case([one, other])
    assert (case.slide_id, case.case_id, case.label, len(case)) == ("P1", "P1", (1,), 8)
    assert case.parts == (("a", 2), ("b", 6))
    assert case.patch_labels.tolist() == [1] + [UNLABELLED] * 7
    assert case.regions[0].patches.tolist() == [2, 4]
    assert case.share == pytest.approx(0.2)  # of all eight patches
    assert [(own.slide_id, own.case_id, own.label) for own in case.slides] == [("a", "P1", (1,)), ("b", "P1", (1,))]
    for own, slide in zip(case.slides, (one, other), strict=True):
        assert (own.instances == slide.instances).all()
        assert (own.coordinates == slide.coordinates).all()
    assert one.slides == [one]


def test_a_share_that_is_not_known_of_every_slide_is_not_known_of_the_case():
    assert bag_of_case([slide_of("a", 2, share=0.5), slide_of("b", 6)]).share is None


def test_two_labels_or_two_patients_are_no_case():
    with pytest.raises(ValueError, match="one label"):
        bag_of_case([slide_of("a", 2), dataclasses.replace(slide_of("b", 2), label=(0,))])
    with pytest.raises(ValueError, match="one case_id"):
        bag_of_case([slide_of("a", 2), dataclasses.replace(slide_of("b", 2), case_id="P2")])


def test_parts_have_all_patches():
    with pytest.raises(ValueError, match="parts"):
        dataclasses.replace(slide_of("a", 2), parts=(("a", 1),))
