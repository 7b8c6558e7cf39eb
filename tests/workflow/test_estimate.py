"""`estimate` does what `train` does, for a moment, and keeps nothing."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from napari_distill2label.core.bag import Bag, Region
from napari_distill2label.core.events import Progress, Task
from napari_distill2label.core.inputs import Inputs, TissueRegions
from napari_distill2label.core.presets import build_settings
from napari_distill2label.mil.training import TrainingState
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.splits import with_splits
from napari_distill2label.workflow import estimate as module
from napari_distill2label.workflow.estimate import estimate

LONG = 600  # s, more than any machine needs


def test_a_trial_measures_every_network(cohort_csv, tiny, collect):
    cohort = Cohort.read(cohort_csv)
    before = sorted(cohort_csv.parent.rglob("*"))
    events, timing = collect(estimate(cohort, tiny(), baseline=True, budget=LONG))
    assert sorted(cohort_csv.parent.rglob("*")) == before
    assert {"baseline", "teacher", "oof-1", "student"} <= set(timing.epoch)
    split = with_splits(cohort.with_classes(), tiny().split, tiny().seed)
    assert timing.n_slides == len(split.in_split("train")) + len(split.in_split("valid"))
    assert all(seconds > 0 for seconds in (timing.reading, *timing.epoch.values()))
    assert any((event.task, event.item) == (Task.MEASURE, "student") for event in events if isinstance(event, Progress))


def test_a_trial_looks_at_the_tissue_that_training_will(cohort_csv, tiny, collect, tmp_path):
    cohort = Cohort.read(cohort_csv)
    ring = [[0, 0], [60, 0], [60, 60], [0, 60], [0, 0]]
    for row in cohort:
        region = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        (tmp_path / f"{row.slide_id}.geojson").write_text(json.dumps(region))
    whole, part = (
        collect(estimate(cohort, tiny(), inputs=Inputs(tissue=tissue)))[1] for tissue in (None, TissueRegions(tmp_path))
    )
    assert part.n_slides == whole.n_slides
    assert 0 < part.n_patches < whole.n_patches


def test_a_trial_can_be_stopped(cohort_csv, tiny):
    work = estimate(Cohort.read(cohort_csv), tiny())
    next(work)
    work.close()


def test_a_trial_of_no_time_knows_how_long_reading_takes(cohort_csv, tiny, collect):
    cohort = Cohort.read(cohort_csv)
    _, timing = collect(estimate(cohort, tiny(), budget=0))
    assert timing.epoch == {}
    assert timing.reading > 0
    assert timing.n_slides == collect(estimate(cohort, tiny()))[1].n_slides


def test_a_trial_reads_some_patches_and_reckons_with_all(cohort_csv, tiny, collect, monkeypatch):
    cohort = Cohort.read(cohort_csv)
    _, whole = collect(estimate(cohort, tiny(), budget=LONG))
    cut, lengths = module.cut_bag, []

    def counting(*args):
        bag = cut(*args)
        lengths.append(len(bag))
        return bag

    monkeypatch.setattr(module, "cut_bag", counting)
    monkeypatch.setattr(module, "NUMBERS", 3 * 27 * 27 * 5)
    _, part = collect(estimate(cohort, tiny(), budget=LONG))
    assert set(lengths) == {5}
    assert part.n_patches == whole.n_patches
    assert part.n_slides == whole.n_slides
    assert set(part.epoch) == set(whole.epoch)


def test_a_trial_ends_in_time_and_reckons_from_a_part_of_an_epoch(cohort_csv, tiny, collect, monkeypatch):
    step, steps = 0.05, 200

    def slow(model, loss_function, training_bags, valid, settings, seed, network):
        for done in range(steps):
            for _ in range(5):  # a step on a large bag
                time.sleep(step / 5)
                yield Progress(Task.TRAIN, done, steps, network, 1, 1)
            yield Progress(Task.TRAIN, done + 1, steps, network, 1, 1)
        yield TrainingState(epoch=1)

    monkeypatch.setattr(module, "fit", slow)
    began = time.perf_counter()
    _, timing = collect(estimate(Cohort.read(cohort_csv), tiny(), budget=2))
    assert time.perf_counter() - began < 8  # an epoch of one of five networks would take 10 s
    for seconds in timing.epoch.values():
        assert seconds >= step * steps * timing.n_slides / module.SAMPLE * 0.99  # not of the part that was measured
    assert "teacher" in timing.epoch


def test_the_first_step_in_a_process_takes_seconds_and_is_no_measure(cohort_csv, tiny, collect, monkeypatch):
    """Torch imports and compiles at its first step: longer than all the time there is."""
    steps, first = 200, [3.0]

    def slow(model, loss_function, training_bags, valid, settings, seed, network):
        for done in range(steps):
            time.sleep(first.pop() if first else 0.01)
            yield Progress(Task.TRAIN, done + 1, steps, network, 1, 1)
        yield TrainingState(epoch=1)

    monkeypatch.setattr(module, "fit", slow)
    _, timing = collect(estimate(Cohort.read(cohort_csv), tiny(), budget=2))
    from_the_first = 3.0 * steps * timing.n_slides / module.SAMPLE
    assert timing.epoch["teacher"] < from_the_first / 2


def test_of_large_bags_an_epoch_sees_a_part(make_bag):
    settings = build_settings().teacher.model_copy(update={"max_patches_per_bag": 100})
    read = module.Sampled([make_bag(50), make_bag(20)], [1000, 20], 1.0)
    assert module._more_patches(read, settings) == (100 + 20) / (50 + 20)
    every = settings.model_copy(update={"pseudo_bag_size": 10})  # all of them, in parts
    assert module._more_patches(read, every) == 1020 / 70


def test_the_first_patches_keep_the_regions_that_they_are_in():
    count = module.NUMBERS // 1024
    bag = Bag("a", np.zeros((count + 10, 1024), np.float32), np.zeros((count + 10, 2), np.int64), (1,))
    regions = (Region(np.array([0, 1]), "all", 1), Region(np.array([count + 1]), "some", 1))
    first = module._first_of(replace(bag, regions=regions))
    assert len(first) == count
    assert [region.patches.tolist() for region in first.regions] == [[0, 1]]


@pytest.fixture
def make_bag():
    return lambda count: Bag("a", np.zeros((count, 3, 9, 9), np.uint8), np.zeros((count, 2), np.int64), (0,))
