"""From slide to slide: what was said of the one before goes with it, and its µm with its layer."""

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.panels.slides.model import STATUS

from ..conftest import LONG


@pytest.fixture
def panel(make_napari_viewer_proxy):
    made = DistillToLabel(viewer := make_napari_viewer_proxy())
    viewer.window.add_dock_widget(made, name="Distill to Label")
    yield made
    made.session.shutdown()


@pytest.fixture
def wrong(tmp_path):
    """A TIFF whose resolution cannot be a slide's: 72 dpi."""
    pixels = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wrong.tif", dpi=(72, 72))
    return tmp_path / "wrong.tif"


def shows(panel, qtbot, slide_id):
    panel.session.show(slide_id, wait=False)
    qtbot.waitUntil(lambda: panel.session.shown == slide_id, timeout=LONG)


def test_what_was_told_of_a_slide_goes_with_it(panel, qtbot, cohort_csv, wrong):
    session, card = panel.session, panel.status.text
    session.read_cohort(cohort_csv)
    session.add_slides(wrong)
    shows(panel, qtbot, "wrong")
    assert card.text().startswith("wrong: The file says 352.8 µm/px")
    shows(panel, qtbot, "slide_000")
    assert card.text() == ""
    shows(panel, qtbot, "wrong")
    assert card.text().startswith("wrong: ")
    session.set_mpp("wrong", 0.5)
    assert card.text() == ""
    panel.status.show_text("of something else")
    shows(panel, qtbot, "slide_000")
    assert card.text() == "of something else"


def test_layers_in_um_never_lie_beside_layers_in_px(panel, qtbot, cohort_csv, wrong):
    session, units = panel.session, []
    session.read_cohort(cohort_csv)
    session.add_slides(wrong)
    layers = session.viewer.layers
    layers.events.inserted.connect(lambda event: units.append({str(layer.units) for layer in layers}))
    for slide_id in ("slide_000", "wrong", "slide_001"):
        shows(panel, qtbot, slide_id)
    assert [len(each) for each in units] == [1, 1, 1]
    assert units[0] != units[1]


def test_the_scales_of_another_cohort_do_not_matter(panel, qtbot, cohort_csv, wrong):
    session, model = panel.session, panel.slides.model
    session.read_cohort(cohort_csv)
    qtbot.waitUntil(lambda: session.previews.any_mpp, timeout=LONG)
    (table := wrong.with_name("plain.csv")).write_text("slide_id,path,label\nplain,wrong.tif,normal\n")
    session.read_cohort(table)
    qtbot.waitUntil(lambda: session.previews.get("plain", wrong) is not None, timeout=LONG)
    assert model.data(model.index(0, STATUS)) == "labelled"
    assert not panel.slides.missing.isVisibleTo(panel.slides)


def test_a_prediction_that_failed_stays_failed_when_the_slide_is_looked_at(panel, qtbot, cohort_csv):
    session = panel.session
    session.read_cohort(cohort_csv)
    session.project.fail("slide_001", "no pixel size")
    shows(panel, qtbot, "slide_001")
    assert session.failures == {"slide_001": "no pixel size"}


def test_a_file_that_is_readable_again_is_no_failure_any_more(panel, qtbot, cohort_csv, tmp_path):
    session, path = panel.session, tmp_path / "late.png"
    Image.new("RGB", (90, 90), "pink").save(path)
    session.read_cohort(cohort_csv)
    session.add_slides(path)
    content = path.read_bytes()
    path.write_bytes(b"")
    session.show("late", wait=False)
    qtbot.waitUntil(lambda: "late" in session.failures, timeout=LONG)
    path.write_bytes(content)
    shows(panel, qtbot, "slide_000")
    shows(panel, qtbot, "late")
    assert session.failures == {}
