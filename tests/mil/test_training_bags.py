"""Pseudo-bags of a bag of which somebody has said more than yes or no."""

from dataclasses import replace

import numpy as np
import torch

from napari_distill2label.core.bag import Region
from napari_distill2label.core.settings import TeacherSettings
from napari_distill2label.mil.training_bags import BagBatch, TrainingBag

PARTS = TeacherSettings(pseudo_bag_size=8)


def parts_of(bag, settings=PARTS):
    torch.manual_seed(0)
    return [part() for part in TrainingBag.of(bag, 2).pseudo_bags(settings)]


def test_patches_of_which_one_has_the_finding_stay_together(make_bag):
    bag = make_bag(40, features=3)
    some = Region(np.array([1, 9, 17, 25, 33]), "some", 1)
    touching = Region(np.array([33, 34, 35]), "some", 1)
    none = Region(np.arange(12, 20), "none")
    parts = parts_of(replace(bag, regions=(some, none, touching), share=0.3))
    assert sum(len(part.instances) for part in parts) == 40
    assert all(part.share == 0.3 for part in parts)
    holding = [part for part in parts if any(own.says == "some" for own in part.regions)]
    (whole,) = holding
    found = {tuple(whole.instances[own.patches].flatten().tolist()) for own in whole.regions if own.says == "some"}
    assert found == {tuple(bag.instances[own.patches].flatten().tolist()) for own in (some, touching)}
    # What is said of every patch alone can be divided.
    others = torch.cat([part.instances[own.patches] for part in parts for own in part.regions if own.says == "none"])
    assert sorted(map(tuple, others.tolist())) == sorted(map(tuple, bag.instances[12:20].tolist()))


def test_without_regions_pseudo_bags_are_what_they_were(make_bag):
    bag = make_bag(40, features=3)
    plain = parts_of(bag)
    torch.manual_seed(0)
    expected = [torch.from_numpy(bag.instances)[index] for index in torch.randperm(40).tensor_split(5)]
    assert all(torch.equal(part.instances, own) for part, own in zip(plain, expected, strict=True))


def test_a_bag_that_is_subsampled_keeps_its_regions(make_bag):
    bag = replace(make_bag(30), regions=(Region(np.array([3, 28]), "some", 1),))
    (part,) = parts_of(bag, TeacherSettings(max_patches_per_bag=4))
    (region,) = part.regions
    assert torch.equal(part.instances[region.patches], torch.from_numpy(bag.instances)[[3, 28]])
    assert 4 <= len(part.instances) <= 6


def test_a_batch_counts_patches_over_all_of_its_bags(make_bag):
    one, two = make_bag(5, features=3), make_bag(4, features=3, seed=1)
    two = replace(two, regions=(Region(np.array([0, 3]), "all", 1),), share=0.5)
    batch = BagBatch.of([TrainingBag.of(bag, 2) for bag in (one, two)], torch.device("cpu"))
    assert batch.regions[0].patches.tolist() == [5, 8]
    assert batch.shares == (None, 0.5)


def test_a_region_of_patches_that_cannot_be_read_is_smaller_or_gone():
    readable = np.array([True, False, True, True])
    assert Region(np.array([1, 2, 3]), "none").among(readable).patches.tolist() == [1, 2]
    assert Region(np.array([1, 2]), "some", 1).among(readable) is None
    assert Region(np.array([1]), "all", 1).among(readable) is None
