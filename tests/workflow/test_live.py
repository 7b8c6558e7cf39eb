"""A quick trial on features in memory: what it learns, what it leaves out, and that its models are ordinary ones."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.events import ItemDone, ItemFailed, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice, NoticeCode
from napari_distill2label.core.presets import live_settings
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow import live as module
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.live import Components, live, read_features, save_as_run

GRID = PatchGrid.over((10 * 27, 10 * 27), PatchSettings(size_px=27))
N_FEATURES = 40


def draw(folder, slide_id, positive, rng, unreadable=()):
    """Features of a slide of 100 patches; every fourth of a positive one stands out in 4 of 40 features."""
    found = FeatureMap.open_or_create(folder / f"{slide_id}.zarr", GRID, N_FEATURES, {"encoder": "e"})
    for block in GRID.blocks(1000):
        values = rng.normal(size=(len(block.corners), N_FEATURES)).astype(np.float32) * np.linspace(1, 5, N_FEATURES)
        if positive:
            values[::4, :4] += 4 * np.linspace(1, 5, N_FEATURES)[:4]
        found.write(block, values)
    found._mark(np.asarray(unreadable, int), 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(1)
    for number in range(12):
        draw(folder, f"s{number}", number % 2 == 1, rng, unreadable=[3, 40] if number == 1 else ())
    return folder


@pytest.fixture
def cohort(folder):
    rows = [CohortSlide(f"s{n}", folder / f"s{n}.tif", ("normal", "tumour")[n % 2], f"s{n}") for n in range(12)]
    rows.append(CohortSlide("none", folder / "none.tif", None, "none"))
    return Cohort(tuple(rows), ("normal", "tumour"))


@pytest.fixture(scope="module")
def features(folder):
    rows = tuple(CohortSlide(f"s{n}", folder / f"s{n}.tif", None, f"s{n}") for n in range(12))
    return drain(read_features(Cohort(rows, ("normal", "tumour")), folder))


def test_components_keep_what_features_say():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(8, 30))
    sample = (rng.normal(size=(500, 8)) @ basis).astype(np.float32)
    sample[:, 5] = 7.0  # says nothing
    found = Components.of(sample)
    components = found(sample)
    again = components @ found.directions.numpy().T
    assert components.shape == (500, 30)
    assert np.allclose(again, (sample - sample.mean(0)) / np.where(sample.std(0) > 0, sample.std(0), 1), atol=1e-3)
    assert components[:, 0].var() > components[:, 7].var() > 100 * components[:, 9].var()


def test_it_finds_the_patches(features, cohort):
    result = drain(live(features, cohort))
    assert [patch_map.slide_id for patch_map in result.maps] == [f"s{n}" for n in range(12)]
    positive = np.array([patch_map.probability[..., 1].ravel() for patch_map in result.maps[1::2]])
    negative = np.array([patch_map.probability[..., 1].ravel() for patch_map in result.maps[0::2]])
    standing_out = np.arange(100) % 4 == 0
    assert np.nanmedian(positive[:, standing_out]) > 0.8
    assert np.nanmedian(positive[:, ~standing_out]) < 0.2
    assert np.nanquantile(negative, 0.95) < 0.5
    assert result.maps[1].bag_probability[1] > 0.5 > result.maps[0].bag_probability[1]


def test_the_same_labels_give_the_same_colours(features, cohort):
    one, other = (drain(live(features, cohort)).maps[1].probability for _ in range(2))
    assert np.array_equal(one, other, equal_nan=True)


def test_patches_that_cannot_be_read_are_not_scored(features, cohort):
    patch_map = drain(live(features, cohort)).maps[1]
    assert patch_map.failed.ravel()[[3, 40]].all()
    assert patch_map.scored.sum() == 98
    assert patch_map.to_labels(0.5).ravel()[3] == 0


def test_the_slide_on_the_canvas_comes_first(features, cohort):
    seen = []
    result = drain(live(features, cohort, first="s7"), seen.append)
    assert [event.item for event in seen if isinstance(event, ItemDone)] == ["s7"]
    assert result.maps[0].slide_id == "s7"


def test_slides_of_the_test_split_teach_nothing(features, cohort):
    rows = [row if n % 2 else CohortSlide(row.slide_id, row.path, row.label, row.case_id, split="test")
            for n, row in enumerate(cohort)]  # fmt: skip
    with pytest.raises(CohortError, match="two classes"):
        drain(live(features, cohort.with_slides(rows)))


def test_where_a_label_is_of_a_case_its_slides_are_one_bag(features, cohort):
    """Cases of a slide with a finding and one without, of which the former alone has the label; and cases without."""
    cases = [(1, 0), (3, 2), (5, 4), (6,), (8,), (10,)]
    rows = [
        replace(cohort.slides[n], case_id=f"case {number}", label=None if n in (0, 2, 4) else cohort.slides[n].label)
        for number, own in enumerate(cases)
        for n in own
    ]
    result = drain(live(features, cohort.with_slides(rows), live_settings(bag="case")))
    assert [row.slide_id for row in result.cohort] == [row.slide_id for row in rows]  # also those without a label
    probability = {own.slide_id: np.nanmax(own.probability[..., 1]) for own in result.maps}
    assert min(probability[name] for name in ("s1", "s3", "s5")) > 0.5
    # A case whose label may be of a slide without features teaches nothing.
    lost = CohortSlide("none", cohort.slides[0].path, None, "case 0")
    notices = []
    result = drain(live(features, cohort.with_slides([*rows, lost]), live_settings(bag="case")), notices.append)
    assert not {"s0", "s1"} & {row.slide_id for row in result.cohort}
    assert [event.code for event in notices if isinstance(event, Notice)] == [NoticeCode.CASE_INCOMPLETE]


def test_corrected_patches_are_taken_into_account(features, cohort, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 12 * 10)
    monkeypatch.setattr(module, "SMALLEST_SHARE", 10)
    known = np.full(GRID.shape, -1, np.int8)
    known[9] = 0
    result = drain(live(features, cohort, known={"s1": known}))
    assert result.n_corrections == 10
    assert result.maps[1].scored.sum() == 98  # though few of them were trained on


def test_only_new_slides_are_read(folder, cohort, features, tmp_path, monkeypatch):
    read = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda source, row: (read.append(row.slide_id), real(source, row))[1])
    draw(folder, "s12", True, np.random.default_rng(5))
    rows = [*cohort, CohortSlide("s12", folder / "s12.tif", None, "s12")]
    events = []
    more = drain(read_features(cohort.with_slides(rows), folder, features), events.append)
    assert read == ["none", "s12"]
    assert len(more.slides) == 13
    assert more.components is features.components
    assert any(isinstance(event, Notice) and "1 of 14 slides" in str(event) for event in events)
    shutil.rmtree(folder / "s12.zarr")


def test_without_features_it_says_so(cohort, tmp_path):
    with pytest.raises(CohortError, match="holds no features"):
        drain(read_features(cohort, tmp_path))


def test_a_kept_trial_is_a_run_that_says_the_same(features, cohort, folder, tmp_path):
    result = drain(live(features, cohort))
    run = drain(save_as_run(result, tmp_path / "kept"))
    assert run.models == ("teacher", "student")
    assert (run.folder / "student" / "card.md").exists()
    failed = []
    maps = drain(
        predict(run, cohort, inputs=Inputs(features=folder)),
        lambda event: failed.append(event.item) if isinstance(event, ItemFailed) else None,
    )
    assert failed == ["none"]
    for kept, shown in zip(maps, result.maps, strict=True):
        assert np.allclose(kept.probability, shown.probability, atol=1e-3, equal_nan=True)
    raw = torch.randn(7, N_FEATURES).numpy()
    answer = predict_bag(result.models["teacher"], Bag("x", raw, np.zeros((7, 2), int), (0,)))
    assert answer.instance_logits.shape == (7, 2)
