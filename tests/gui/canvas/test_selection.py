"""The selection moves at the key press and the picture follows: a label goes to the row that is highlighted then.

Real keys and clicks in a real window, on slides that open as slowly as on a busy network share.
"""

import itertools
import time

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.dock import DistillToLabel
from napari_distill2label.gui.panels.slides.model import NAME
from napari_distill2label.slides import registry
from napari_distill2label.store.maps.patch_map import PatchMap

from ..conftest import LONG

N = 12
KEYS = Qt.KeyboardModifier
ALT, CTRL, SHIFT = KEYS.AltModifier, KEYS.ControlModifier, KEYS.ShiftModifier
IDS = [f"s{number:02d}" for number in range(N)]
WANTED = {slide_id: ("normal", "tumour")[number % 3 == 1] for number, slide_id in enumerate(IDS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found, rng = tmp_path_factory.mktemp("slides"), np.random.default_rng(0)
    for slide_id in IDS:
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(found / f"{slide_id}.png")
    return found


@pytest.fixture
def opened(monkeypatch):
    """Names of the slides whose opening was begun; each takes 0.8 to 2 s."""
    real, seconds, begun = registry.open_slide, itertools.cycle((0.8, 2.0, 1.2)), []

    def slow(path, mpp=None):
        begun.append(path.stem)
        time.sleep(next(seconds))
        return real(path, mpp)

    monkeypatch.setattr(registry, "open_slide", slow)
    return begun


@pytest.fixture
def panel(make_napari_viewer, qtbot, folder):
    viewer = make_napari_viewer(show=True)
    made = DistillToLabel(viewer)
    viewer.window.add_dock_widget(made, name="Distill to Label")
    with qtbot.waitActive(made.window(), timeout=LONG):
        made.window().activateWindow()
    made.session.add_slides(folder)
    yield made
    made.session.shutdown()


@pytest.fixture
def slow(panel, opened, qtbot):
    """The panel, its first slide chosen, the keyboard on the table."""
    panel.session.show(IDS[0], wait=False)
    panel.slides.table.setFocus()
    return panel


def press(panel, key, modifier=ALT):
    QTest.keyClick(panel.slides.table, key, modifier)


def label(panel, slide_id):
    press(panel, Qt.Key.Key_1 if WANTED[slide_id] == "normal" else Qt.Key.Key_2)


def click(panel, slide_id, modifier=KEYS.NoModifier):
    table = panel.slides.table
    table.scrollTo(table.index_of(slide_id))
    at = table.visualRect(table.index_of(slide_id).siblingAtColumn(NAME)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, modifier, at)


def labels(session):
    return {row.slide_id: row.label for row in session.cohort}


def at_rest(panel, qtbot, slide_id):
    """The picture of the last slide is there, and nothing of another."""
    session = panel.session
    qtbot.waitUntil(lambda: session.shown == slide_id, timeout=LONG)
    assert session.selected == (slide_id,)
    assert panel.slides.selected() == [slide_id]
    assert {layers.tags_of(layer)["slide_id"] for layer in session.viewer.layers} == {slide_id}
    assert session.canvas.slide_view.canvas_text == ""


@pytest.mark.parametrize("pause", [100, *(pytest.param(ms, marks=pytest.mark.long) for ms in (300, 700))])
def test_twelve_slow_slides_are_labelled_by_keys(slow, opened, qtbot, pause):
    for slide_id in IDS:
        label(slow, slide_id)
        QTest.qWait(pause)
        press(slow, Qt.Key.Key_Right)
        QTest.qWait(pause)
    assert labels(slow.session) == WANTED
    at_rest(slow, qtbot, IDS[-1])
    if pause == 100:
        assert len(opened) < N  # most were asked for in vain before a thread was free


def test_of_many_keys_in_a_row_the_last_slide_is_opened(slow, opened, qtbot):
    qtbot.waitUntil(lambda: slow.session.shown == IDS[0], timeout=LONG)
    opened.clear()
    for _ in range(8):
        press(slow, Qt.Key.Key_Right)
    assert slow.session.selected == (IDS[8],)
    at_rest(slow, qtbot, IDS[8])
    assert opened[-1] == IDS[8]
    assert set(opened) <= {IDS[1], IDS[8]}  # nobody knows of the first key that others follow


def test_while_a_picture_is_loading_the_window_says_whose_it_is(slow, qtbot):
    session = slow.session
    qtbot.waitUntil(lambda: session.shown == IDS[0], timeout=LONG)
    press(slow, Qt.Key.Key_Right)
    assert (session.current, session.opening, session.shown) == (IDS[1], IDS[1], None)
    assert not layers.find(session.viewer)  # no other slide passes for it
    note = session.viewer.canvas.overlays.text
    qtbot.waitUntil(lambda: note.visible, timeout=LONG)
    assert not any(layer.visible for layer in session.viewer.layers)
    assert note.text == f"{IDS[1]}\nThe picture is loading…"
    assert slow.slides.label_bar.hint.text() == f"{IDS[1]} (its picture is loading): label as"
    assert slow.slides.table.current_id() == IDS[1]
    at_rest(slow, qtbot, IDS[1])
    assert not note.visible
    assert slow.slides.label_bar.hint.text() == f"{IDS[1]}: label as"


def test_clicks_between_the_keys(slow, qtbot):
    order = [IDS[number] for number in (3, 9, 1, 7, 0, 11, 5, 2, 10, 4, 8, 6)]
    for slide_id in order:
        click(slow, slide_id)
        QTest.qWait(40)
        label(slow, slide_id)
        QTest.qWait(120)
        press(slow, Qt.Key.Key_Right if slide_id != IDS[-1] else Qt.Key.Key_Left)
        QTest.qWait(40)
    assert labels(slow.session) == WANTED
    at_rest(slow, qtbot, IDS[7])


def test_sorted_and_filtered(slow, qtbot):
    session, table = slow.session, slow.slides.table
    table.sortByColumn(NAME, Qt.SortOrder.DescendingOrder)
    slow.slides.search.setText("s0")
    click(slow, "s09")
    for slide_id in reversed(IDS[:10]):
        label(slow, slide_id)
        press(slow, Qt.Key.Key_Right)
        QTest.qWait(100)
    assert labels(session) == WANTED | {"s10": None, "s11": None}
    at_rest(slow, qtbot, "s00")


def test_slides_that_the_filter_takes_away_once_they_are_labelled(slow, qtbot):
    """Sorting anew applies the filter: the way goes on from where the slide stood."""
    session, table = slow.session, slow.slides.table
    slow.slides.kind.setCurrentText("without label")
    click(slow, IDS[4])
    label(slow, IDS[4])
    table.sortByColumn(NAME, Qt.SortOrder.AscendingOrder)
    assert IDS[4] not in table.visible_ids()
    assert session.selected == ()
    press(slow, Qt.Key.Key_2)  # nothing is highlighted
    assert "select slides" in slow.status.text.text()
    press(slow, Qt.Key.Key_Right)
    assert session.selected == (IDS[5],)
    label(slow, IDS[5])
    assert labels(session) == {slide_id: WANTED[slide_id] if slide_id in IDS[4:6] else None for slide_id in IDS}


def test_several_selected_slides(slow, qtbot):
    session = slow.session
    click(slow, IDS[2])
    click(slow, IDS[5], CTRL)
    click(slow, IDS[7], CTRL)
    press(slow, Qt.Key.Key_2)
    click(slow, IDS[8])
    click(slow, IDS[10], SHIFT)
    press(slow, Qt.Key.Key_1)
    press(slow, Qt.Key.Key_Right)  # goes on alone
    assert len(session.selected) == 1
    expected = dict.fromkeys(IDS) | dict.fromkeys((IDS[2], IDS[5], IDS[7]), "tumour")
    assert labels(session) == expected | dict.fromkeys(IDS[8:11], "normal")
    at_rest(slow, qtbot, session.selected[0])


def test_undo_between_the_keys(slow, qtbot):
    session = slow.session
    for slide_id in IDS[:6]:
        press(slow, Qt.Key.Key_1 if WANTED[slide_id] == "tumour" else Qt.Key.Key_2)  # the wrong key
        QTest.qWait(60)
        press(slow, Qt.Key.Key_Z, CTRL)
        assert session.selected == (slide_id,)
        label(slow, slide_id)
        press(slow, Qt.Key.Key_Right)
        QTest.qWait(100)
    assert labels(session) == {slide_id: WANTED[slide_id] if slide_id in IDS[:6] else None for slide_id in IDS}
    at_rest(slow, qtbot, IDS[6])


def patch_map(row):
    grid = PatchGrid.over((60, 80), PatchSettings(size_px=20), None)
    found = PatchMap.create(
        None,
        grid,
        ("normal", "tumour"),
        SlideInfo(row.slide_id, str(row.path)),
        model={"network": "student"},
    )
    for block in grid.blocks(1000):
        positive = np.linspace(0, 1, len(block.corners))
        found.write(block, probability=np.stack([1 - positive, positive], -1), logit=np.zeros(
            (len(block.corners), 2)), score=positive)  # fmt: skip
    return found.finish([0.3, 0.7]) or found


def test_while_predictions_come_in(slow, qtbot):
    session = slow.session
    session.project.network = "student"
    for number, slide_id in enumerate(IDS):
        label(slow, slide_id)
        session.project.take_maps([patch_map(session.cohort.slides[(number * 5) % N])])
        QTest.qWait(60)
        press(slow, Qt.Key.Key_Right)
        QTest.qWait(60)
    assert labels(session) == WANTED
    qtbot.waitUntil(lambda: bool(layers.find(session.viewer, layers.LABELS, IDS[-1])), timeout=LONG)
    at_rest(slow, qtbot, IDS[-1])


def test_labels_of_a_slide_never_lie_over_another(slow, qtbot):
    session = slow.session
    session.project.network, seen = "student", []
    for row in session.cohort.slides[:3]:
        session.project.take_maps([patch_map(row)])

    def note(event):
        ids = {layers.tags_of(layer)["slide_id"] for layer in session.viewer.layers}
        seen.append(ids)

    session.viewer.layers.events.inserted.connect(note)
    for _ in range(2):
        at_rest(slow, qtbot, session.current)
        qtbot.waitUntil(lambda: bool(layers.find(session.viewer, layers.LABELS)), timeout=LONG)
        press(slow, Qt.Key.Key_Right)
        assert not layers.find(session.viewer)
    assert seen
    assert all(len(ids) == 1 for ids in seen)


# ---- the canvas shows what is selected, or says why not -----------------------------------------------------------


def test_a_slide_that_cannot_be_read_leaves_no_other_picture(panel, qtbot, tmp_path):
    session = panel.session
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG and no more")
    session.add_slides(bad)
    session.show(IDS[0])
    click(panel, "bad")
    qtbot.waitUntil(lambda: session.opening is None, timeout=LONG)
    assert (session.current, session.shown) == ("bad", None)
    assert not layers.find(session.viewer)
    note = session.viewer.canvas.overlays.text
    assert note.visible
    assert note.text.startswith("bad\nThis slide cannot be shown: ")
    assert "bad.png" in panel.status.text.text()
    assert panel.slides.label_bar.hint.text() == "bad (its picture is not shown): label as"
    assert not panel.session.viewer.window._qt_viewer.show_welcome_screen  # it would cover the note
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(bad)  # mended: another click tries again
    click(panel, "bad")
    at_rest(panel, qtbot, "bad")


def test_a_slide_that_napari_opened_itself_does_not_stay_over_others(panel, qtbot, folder, tmp_path):
    session = panel.session
    other = tmp_path / "other.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(other)
    session.show(IDS[0])
    (foreign,) = session.viewer.open(other, plugin="napari")
    assert (
        session.canvas.slide_view.canvas_text
        == f"{IDS[0]} is selected.\nThe image on top is 'other', which is not in the table."
    )
    press(panel, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: session.shown == IDS[1], timeout=LONG)
    assert foreign in session.viewer.layers
    assert not foreign.visible
    assert "other" in session.notices[-1]
    assert session.canvas.slide_view.canvas_text == ""
    foreign.visible = True  # the user wants to see it: the canvas says what it is
    assert "'other'" in session.canvas.slide_view.canvas_text
    session.viewer.layers.move(session.viewer.layers.index(foreign), 0)
    assert session.canvas.slide_view.canvas_text == ""


def test_a_slide_taken_away_by_hand_takes_its_labels_along(panel, qtbot):
    session = panel.session
    session.project.network = "student"
    session.show(IDS[0])
    session.project.take_maps([patch_map(session.cohort[IDS[0]])])
    qtbot.waitUntil(lambda: bool(layers.find(session.viewer, layers.LABELS)), timeout=LONG)
    (picture,) = layers.find(session.viewer, layers.SLIDE)
    picture.visible = False
    assert "is hidden" in session.canvas.slide_view.canvas_text
    picture.visible = True
    session.viewer.layers.remove(picture)
    qtbot.waitUntil(lambda: not layers.find(session.viewer), timeout=LONG)
    assert (session.current, session.shown) == (IDS[0], None)
    assert "was removed" in session.viewer.canvas.overlays.text.text
    click(panel, IDS[0])
    qtbot.waitUntil(lambda: bool(layers.find(session.viewer, layers.LABELS)), timeout=LONG)


def test_a_listed_slide_dropped_on_the_canvas_is_shown_once(panel, qtbot, folder):
    session = panel.session
    session.show(IDS[0])
    session.viewer.open(folder / f"{IDS[4]}.png", plugin="napari-distill2label")
    at_rest(panel, qtbot, IDS[4])
    assert len(layers.find(session.viewer, layers.SLIDE)) == 1
    assert len(session.cohort) == N


def test_a_new_slide_dropped_on_the_canvas_is_the_selected_one(panel, qtbot, tmp_path):
    session = panel.session
    new = tmp_path / "new.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(new)
    session.show(IDS[0])
    session.viewer.open(new, plugin="napari-distill2label")
    at_rest(panel, qtbot, "new")
    press(panel, Qt.Key.Key_2)
    assert session.cohort["new"].label == "tumour"
