import numpy as np
import pytest

from napari_distill2label.core.errors import CohortError, SlideError
from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.train import train
from napari_distill2label.workflow.scale import require_mpp, slides_without_mpp, with_mpp
from napari_distill2label.workflow.slide_reader import SlideReader


def test_only_slides_that_nobody_gives_a_scale_are_asked_for(slides, png, tmp_path, collect, cohort_of):
    bare, other = png("ohne"), png("auch ohne")
    table = cohort_of(
        [("a", slides[0], ""), ("b", bare, ""), ("c", other, 0.5), ("gone", tmp_path / "gone.png", "")],
        ("slide_id", "path", "mpp"),
    )
    rows = Cohort.read(table)
    assert collect(slides_without_mpp(rows))[1] == ["b"]
    assert collect(slides_without_mpp(with_mpp(rows, 0.5)))[1] == []
    assert collect(require_mpp(rows, None))[0] == []
    with pytest.raises(CohortError, match=r"^1 slide has no pixel size, .* at 0\.5 µm/px: b\. "):
        collect(require_mpp(rows, 0.5))


def test_training_asks_once_for_all_slides_before_any_work(png, tmp_path, tiny, collect, cohort_of):
    rows = [(f"s{index}", png(f"s{index}"), "normal" if index % 2 else "tumour") for index in range(4)]
    run = tmp_path / "run"
    with pytest.raises(CohortError, match=r"^4 slides have no pixel size") as error:
        collect(train(Cohort.read(cohort_of(rows)), run, tiny(patches={"mpp": 0.5}, split={"valid": 0, "test": 0})))
    assert "\n" not in str(error.value)
    assert not run.exists()


def test_predicting_asks_once_and_goes_on_with_the_others(trained, slides, png, collect):
    bare = [png(f"ohne {index}") for index in range(3)]
    events, maps = collect(predict(trained, [*bare, slides[0]]))
    asked = [str(event) for event in events if isinstance(event, Notice) and "have no pixel size" in str(event)]
    assert len(asked) == 1
    assert asked[0].startswith("3 slides have no pixel size, and patches are cut at 0.5 µm/px: ohne 0, ohne 1")
    assert sum(isinstance(event, ItemFailed) for event in events) == 3
    assert [patch_map.slide_id for patch_map in maps] == ["slide_000"]


def test_a_scale_that_a_user_gives_is_marked_in_bundle_card_and_map(png, slides, tmp_path, tiny, collect, cohort_of):
    bare = [(f"s{index}", png(f"s{index}"), "normal" if index % 2 else "tumour", 0.5) for index in range(4)]
    stated = [(f"t{index}", slides[index], "normal" if index % 2 else "tumour", "") for index in range(2)]
    table = cohort_of([*bare, *stated], ("slide_id", "path", "label", "mpp"))
    _, run = collect(train(Cohort.read(table), tmp_path / "run", tiny(split={"valid": 0, "test": 0})))
    bundle = run.bundle("student")
    assert load_bundle(bundle).config.n_mpp_from_user == 4
    assert "0.5 µm/px (assumed for 4 slides: a user gave it, not their file)" in (bundle / "card.md").read_text("utf-8")
    _, maps = collect(predict(run, [slides[0]]))
    assert [patch_map.slide.mpp_from_user for patch_map in maps] == [False]
    _, maps = collect(predict(run, [bare[0][1]], inputs=Inputs(mpp=0.5)))
    assert [patch_map.slide.mpp_from_user for patch_map in maps] == [True]


def test_a_slide_that_fails_says_nothing_of_the_scale(png, slides, cohort_of):
    blank = png("blank", np.full((128, 128, 3), 255, np.uint8))
    rows = [("a", slides[0], "normal", ""), ("b", blank, "tumour", 0.25)]
    cohort = Cohort.read(cohort_of(rows, ("slide_id", "path", "label", "mpp"))).with_classes(None)
    reader = SlideReader(PatchSettings(size_px=27, tissue="otsu"))
    drain(reader.bag(cohort["a"], cohort))
    with pytest.raises(SlideError):
        drain(reader.bag(cohort["b"], cohort))
    assert (reader.common_mpp, reader.n_mpp_from_user) == (pytest.approx(0.5), 0)
