import dataclasses

import numpy as np
import pytest

from napari_distill2label.core.bag import Bag

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
        "slide_id", "instances", "coordinates", "label", "patch_labels", "case_id", "regions", "share",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        Bag("a", PATCHES, CORNERS).label = (1,)
