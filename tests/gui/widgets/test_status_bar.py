"""What the strip below the steps says, and when it stops saying it."""

from pathlib import Path

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Progress, Task
from napari_distill2label.gui import get_session
from napari_distill2label.gui.widgets.status_bar import StatusStrip


@pytest.fixture
def strip(qtbot):
    """A strip, whose jobs run at once."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    session = get_session(viewer)
    made = StatusStrip(session)
    qtbot.addWidget(made)
    session.jobs.changed.connect(made.show_job)
    made.viewer = viewer
    yield made
    session.jobs.changed.disconnect(made.show_job)
    session.shutdown()


def work(strip, kind, result=None, error=None):
    def made():
        yield Progress(Task.EXPORT, 1, 2, kind)
        if error:
            raise error
        return result

    return strip.session.jobs.start(kind, f"{kind}ing", made)


def texts(strip):
    return [card.text.text() for card in (strip.card, strip.second) if not card.isHidden()]


def test_an_export_says_where_the_files_are(strip):
    work(strip, "export", [Path("/data/labels/a.csv"), Path("/data/labels/b.csv")])
    assert texts(strip) == [f"exporting: done. 2 files in {Path('/data/labels')}"]
    assert strip.past.item(0).text().startswith(f"✓ exporting: done. 2 files in {Path('/data/labels')}")


def test_other_work_is_told_beside_an_error(strip):
    work(strip, "predict", error=SettingsError("no model"))
    for _ in range(10):
        work(strip, "export", [Path("/data/labels/a.csv")])
        assert texts(strip) == ["predicting failed: no model", f"exporting: done. 1 file in {Path('/data/labels')}"]
    strip.show_text("a notice")
    assert texts(strip) == ["predicting failed: no model", "a notice"]
    strip.card.close_card.click()
    assert texts(strip) == ["a notice"]
    work(strip, "train")
    assert texts(strip) == ["training: done"]


def test_an_error_goes_when_its_work_succeeds(strip):
    work(strip, "predict", error=SettingsError("no model"))
    work(strip, "export", [Path("/data/labels/a.csv")])
    work(strip, "predict")
    assert texts(strip) == ["predicting: done"]
    assert not strip.card.is_error
    past = [strip.past.item(index).text() for index in range(strip.past.count())]
    assert past[2].startswith("✕ predicting failed: no model")  # among the earlier work
    strip.past.itemClicked.emit(strip.past.item(2))
    assert texts(strip) == ["predicting failed: no model"]


def test_a_newer_error_takes_the_place_of_an_older_one(strip):
    work(strip, "predict", error=SettingsError("no model"))
    work(strip, "export", error=SettingsError("no room"))
    assert texts(strip) == ["exporting failed: no room"]
    work(strip, "predict")
    assert texts(strip) == ["exporting failed: no room", "predicting: done"]


def test_a_hint_goes_with_the_next_thing_that_is_done(strip):
    strip.show_problem("no patch is chosen")
    assert strip.card.is_error
    strip.hint_over()
    assert texts(strip) == []
    strip.show_problem("no patch is chosen")
    work(strip, "export", [Path("/data/labels/a.csv")])
    assert texts(strip) == [f"exporting: done. 1 file in {Path('/data/labels')}"]
    assert not strip.card.is_error
    strip.show_problem("no patch is chosen")
    strip.show_text("a notice of another slide")  # does not hide it
    assert texts(strip) == ["no patch is chosen", "a notice of another slide"]


def test_a_hint_beside_an_error(strip):
    work(strip, "predict", error=SettingsError("no model"))
    strip.show_problem("no patch is chosen")
    assert texts(strip) == ["predicting failed: no model", "no patch is chosen"]
    strip.hint_over()
    assert texts(strip) == ["predicting failed: no model"]


def test_news_can_be_taken_back(strip):
    strip.show_text("slide_1: its scale is not known")
    strip.take_back("something else")
    assert texts(strip) == ["slide_1: its scale is not known"]
    strip.take_back("slide_1: its scale is not known")
    assert texts(strip) == []
    strip.take_back("")


@pytest.mark.parametrize(("total", "shown"), [(20, True), (None, False)])
def test_a_bar_shows_what_is_known_and_never_moves_by_itself(strip, total, shown, monkeypatch):
    """A bar without a range moves all the time; without a graphics card every picture costs."""
    monkeypatch.setattr("napari_distill2label.gui.runner.draining.MIN_INTERVAL", 0.0)
    seen = []

    def made():
        yield Progress(Task.EXPORT, 1, total, "a")
        seen.append((strip.current.bar.isHidden(), strip.current.bar.maximum()))

    strip.session.jobs.start("export", "exporting", made)
    assert [(not hidden, maximum > 0) for hidden, maximum in seen] == [(shown, True)]
