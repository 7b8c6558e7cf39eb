"""What was asked for is answered beside it; an answer takes the place of the one before."""

import pytest

from napari_distill2label.gui.dock import DistillToLabel

from ..conftest import LONG, click


@pytest.fixture
def panel(make_unpainted_viewer, qtbot, cohort_csv):
    viewer = make_unpainted_viewer()
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    with qtbot.waitActive(made.window(), timeout=LONG):
        made.window().activateWindow()
    made.session.read_cohort(cohort_csv)
    yield made
    made.session.shutdown()


def fail(panel):
    panel.slides.problem.emit("cohort.csv: there is no room left")


def test_an_answer_is_beside_what_was_pressed(panel, qtbot, monkeypatch):
    reply = panel.steps["slides"].reply

    def full(path):
        raise OSError("there is no room left")

    monkeypatch.setattr(panel.session, "write_cohort", full)
    click(qtbot, panel.slides.save)
    assert reply.isVisible()
    assert reply.text.text() == "there is no room left"
    assert reply.is_problem
    assert reply.sign.isVisible()
    layout = panel.slides.layout()
    place = layout.indexOf(reply)
    assert layout.itemAt(place - 1).layout().indexOf(panel.slides.save) >= 0
    assert not panel.status.card.isVisible()
    click(qtbot, reply.close_reply)
    assert not reply.isVisible()


def test_inside_a_part_of_the_panel_too(panel):
    reply, labelling = panel.steps["slides"].reply, panel.slides.label_bar
    panel.slides.table.selectAll()
    labelling.scale.setFocus()
    fail(panel)
    assert reply.parentWidget() is labelling
    labelling.layout().activate()
    assert labelling.scale.y() < reply.y() < labelling.counts.y()


def test_success_takes_the_place_of_a_hint(panel, qtbot, tmp_path):
    fail(panel)
    panel.slides.ask_save = lambda *args: str(tmp_path / "cohort.csv")
    click(qtbot, panel.slides.save_as)
    reply = panel.steps["slides"].reply
    assert reply.text.text() == f"Saved 8 slides with their labels in {tmp_path / 'cohort.csv'}"
    assert not reply.is_problem
    assert not reply.sign.isVisible()


def test_a_hint_goes_with_the_next_thing_done(panel):
    fail(panel)
    panel.train.problem.emit("no")  # asked for elsewhere
    assert not panel.steps["slides"].reply.isVisible()
    fail(panel)
    panel.session.set_label("slide_000", "tumour")
    assert not panel.steps["slides"].reply.isVisible()


def test_of_a_folded_step_it_is_said_at_the_bottom(panel):
    panel.steps["slides"].set_open(False)
    fail(panel)
    assert panel.status.card.isVisible()
    assert "no room left" in panel.status.text.text()
    panel.slides.success.emit("Saved")  # takes the hint's place
    assert panel.status.text.text() == "Saved"
    assert not panel.status.second.isVisible()
