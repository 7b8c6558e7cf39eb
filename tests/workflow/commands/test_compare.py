"""Predictions against a truth, checked against scikit-learn and by hand."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score

from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.compare import compare

CLASSES = ("normal", "tumour", "necrosis")
SHAPE = (60, 80)


def patch_map(slide_id, probability, centres=None, classes=CLASSES):
    settings = PatchSettings(size_px=10)
    patches = PatchGrid.over(SHAPE, settings) if centres is None else PatchPoints.at(centres, SHAPE, settings)
    made = PatchMap.create(None, patches, classes, SlideInfo(slide_id), model={"network": "student"})
    for block in patches.blocks(100):
        values = probability[block.window][block.scored]
        made.write(block, values, values, values[:, 1])
    made.finish()
    return made


@pytest.fixture
def given(tmp_path):
    """(maps, truth.csv, true classes, probabilities) of two slides with 6 × 8 patches."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 3, (2, 6, 8))
    probability = rng.dirichlet([1, 1, 1], (2, 6, 8)).astype(np.float32)
    rows = ["slide_id,x,y,label"]
    for slide, row, col in np.argwhere(true > 0):
        rows.append(f"s{slide},{col * 10 + 4},{row * 10 + 4},{CLASSES[true[slide, row, col]]}")
    rows.append("s0,4,4,mucosa" if true[0, 0, 0] == 0 else "")
    (tmp_path / "truth.csv").write_text("\n".join(filter(None, rows)) + "\n")
    maps = [patch_map(f"s{slide}", probability[slide]) for slide in range(2)]
    return [*maps, patch_map("without truth", probability[0])], tmp_path / "truth.csv", true, probability


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_figures(given, threshold):
    maps, truth, true, probability = given
    events = []
    found = drain(compare(maps, truth, threshold=threshold), events.append)
    best = probability[..., 1:].argmax(-1) + 1
    label = np.where(probability[..., 1:].max(-1) >= np.float32(threshold), best, 0)
    expected = confusion_matrix(true.ravel(), label.ravel(), labels=[0, 1, 2])
    np.testing.assert_array_equal(found.confusion, expected)
    assert found.metrics["auroc"] == pytest.approx(roc_auc_score(true.ravel() > 0, 1 - probability[..., 0].ravel()))
    assert found.metrics["n"] == 96
    assert found.slides == 2
    area = np.trapezoid(found.true_positive, found.false_positive)
    assert area == pytest.approx(found.metrics["auroc"])
    tumour = found.per_class[1]
    assert tumour.patches == (true == 1).sum()
    assert tumour.sensitivity == expected[1, 1] / expected[1].sum()
    assert tumour.precision == expected[1, 1] / expected[:, 1].sum()
    assert tumour.f1 == pytest.approx(2 / (1 / tumour.sensitivity + 1 / tumour.precision))
    assert events[-1].step == events[-1].total == 2


def test_patches_without_a_point(given):
    maps, truth, true, _ = given
    found = drain(
        compare(
            maps, truth, missing_truth="ignore", inputs=Inputs(label_map={"mucosa": ""} if true[0, 0, 0] == 0 else {})
        )
    )
    assert found.metrics["n"] == (true > 0).sum()  # "mucosa" is no class of the model: unknown
    with pytest.raises(SettingsError, match="missing_truth"):
        drain(compare(maps, truth, missing_truth="x"))


def test_masks_and_one_kind_of_truth(given, tmp_path):
    maps, _, _, _ = given
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full(SHAPE, 2, np.uint8)).save(tmp_path / "masks" / "s0.png")
    found = drain(compare(maps, tmp_path / "masks"))
    assert found.confusion[1].sum() == 48
    assert found.confusion[[0, 2]].sum() == 0
    assert found.metrics["auroc"] is None
    assert len(found.false_positive) == 0
    assert found.per_class[0].sensitivity is None


def test_points(tmp_path):
    centres = np.array([(10, 10), (30, 30), (50, 50)])
    probability = np.array([[0.2, 0.8], [0.9, 0.1], [0.4, 0.6]], np.float32)
    (tmp_path / "truth.csv").write_text("slide_id,x,y,label\ns0,10,10,tumour\ns0,30,30,normal\n")
    found = drain(compare([patch_map("s0", probability, centres, CLASSES[:2])], tmp_path / "truth.csv"))
    assert found.confusion.tolist() == [[1, 0], [0, 1]]  # the third has no truth


def test_a_truth_of_other_slides(given, tmp_path):
    (tmp_path / "other.csv").write_text("slide_id,x,y,label\nelsewhere,1,1,tumour\n")
    with pytest.raises(CohortError, match="3 predicted slides"):
        drain(compare(given[0], tmp_path / "other.csv"))


def test_slides_learnt_from_are_accounted_for_apart(given):
    maps, truth, _, _ = given
    found = drain(compare(maps, truth, learnt={"s0", "elsewhere"}))
    own = drain(compare(maps[1:2], truth))
    assert [(part.learnt, part.slides, part.metrics["n"]) for part in found.parts] == [(False, 1, 48), (True, 1, 48)]
    assert found.metrics == found.parts[0].metrics == own.metrics
    np.testing.assert_array_equal(found.confusion, own.confusion)
    assert found.slides == 1
    all_learnt = drain(compare(maps, truth, learnt={"s0", "s1", "without truth"}))
    everything = drain(compare(maps, truth))
    assert [part.learnt for part in all_learnt.parts] == [True]
    assert all_learnt.metrics == everything.metrics
    assert [part.learnt for part in everything.parts] == [False]


def test_what_counted_is_said(given):
    maps, truth, true, _ = given
    found = drain(compare(maps, truth))
    assert any("has no entry for 1 of 3 slides (without truth)" in str(line) for line in found.notices)
    counts = [int((true == index).sum()) for index in range(3)]
    assert any(f"{counts[0]} normal, {counts[1]} tumour, {counts[2]} necrosis" in str(line) for line in found.notices)
    relabelled = truth.with_name("other.csv")
    relabelled.write_text(truth.read_text().replace("tumour", "Tumour"))
    with pytest.raises(CohortError, match=r"label_map=\{'Tumour': 'tumour'\}"):
        drain(compare(maps, relabelled))
    mapped = drain(compare(maps, relabelled, inputs=Inputs(label_map={"Tumour": "tumour"})))
    np.testing.assert_array_equal(mapped.confusion, found.confusion)
