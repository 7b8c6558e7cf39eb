"""The most and the least convincing patches: which, their pixels, and the way there."""

import threading

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt

from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.panels.predict import patch_images
from napari_distill2label.gui.panels.predict.gallery import EMPTY, Gallery, N
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.store.maps import patch_map_view

from ...conftest import LONG

POSITIVE = np.linspace(0, 1, 48).reshape(6, 8)


def test_pixels_are_those_of_the_patch(reviewed, tmp_path):
    _, _, patch_map = reviewed()
    path = tmp_path / "plain.png"
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[40:60, 60:80] = (200, 10, 20)  # row 2, column 3
    Image.fromarray(pixels).save(path)
    shown = patch_map_view.of(patch_map)
    with open_slide(path) as slide:
        got = patch_images.picture(slide, shown, (2, 3), 40).pixels
        corner = patch_images.picture(slide, shown, (0, 0), 40).pixels
        small = patch_images.region(slide, 40, 60, 20, 10)
    assert got.shape == (40, 40, 3)
    assert tuple(got[20, 20]) == (200, 10, 20)
    assert tuple(got[3, 3]) == tuple(got[20, 3]) == (0, 0, 0)  # what lies around it
    assert (corner[:8, :8] == patch_images.OUTSIDE).all()
    assert (small == (200, 10, 20)).all()


def test_large_patches_come_from_a_coarse_level(tmp_path, monkeypatch):
    from napari_distill2label.slides.slide import Slide

    Image.fromarray(np.zeros((2050, 4096, 3), np.uint8)).save(tmp_path / "s.bmp")
    levels = []
    read = Slide.read
    monkeypatch.setattr(Slide, "read", lambda self, level, *box: levels.append(level) or read(self, level, *box))
    with open_slide(tmp_path / "s.bmp") as slide:
        assert patch_images.region(slide, 0, 0, 2048, 64).shape == (64, 64, 3)
        assert levels[-1] == len(slide.levels) - 1 > 0
        patch_images.region(slide, 0, 0, 64, 64)
        assert levels[-1] == 0


@pytest.fixture
def gallery(reviewed, make_unpainted_viewer, qtbot):
    viewer = make_unpainted_viewer()
    session, _, _ = reviewed(viewer, POSITIVE)
    made = Gallery(session)
    session.display.updated.connect(lambda slide_id: made.refresh())
    viewer.window.add_dock_widget(made, name="Gallery")
    qtbot.waitUntil(lambda: made.least[-1].property("cell") is not None, timeout=LONG)
    yield made
    session.shutdown()


def cells(buttons):
    return [tuple(button.property("cell")) for button in buttons]


def test_a_click_goes_there(gallery, qtbot):
    session = gallery.session
    flat = np.argsort(POSITIVE.ravel())
    assert cells(gallery.most) == [np.unravel_index(index, (6, 8)) for index in flat[::-1][:N]]
    assert cells(gallery.least) == [np.unravel_index(index, (6, 8)) for index in flat[:N]]
    assert "probability of tumour 1.00" in gallery.most[0].toolTip()
    assert gallery.most[0].accessibleName().startswith("patch: tumour")
    qtbot.mouseClick(gallery.most[1], Qt.MouseButton.LeftButton)
    assert session.canvas.corrections.framed == ("slide", (5, 6))
    (slide,) = layers.find(session.viewer, layers.SLIDE)
    centre = slide.world_to_data(session.viewer.scene.camera.center[-2:])
    np.testing.assert_allclose(centre, (109.5, 129.5))
    gallery.by.setCurrentText("effect on the slide's score")
    gallery.by.activated.emit(2)
    qtbot.waitUntil(lambda: not session.reader.busy, timeout=LONG)
    contribution = patch_map_view.of(session.display.map).finding_contribution
    assert cells(gallery.most)[0] == np.unravel_index(contribution.argmax(), (6, 8))


def test_pixels_are_read_beside_the_window_and_only_when_seen(gallery, qtbot, monkeypatch):
    from napari_distill2label.slides.slide import Slide

    threads = []
    read = Slide.read
    monkeypatch.setattr(
        Slide, "read", lambda self, *box: threads.append(threading.current_thread()) or read(self, *box)
    )  # fmt: skip
    gallery.hide()
    gallery.refresh()
    qtbot.waitUntil(lambda: not gallery.session.reader.busy, timeout=LONG)
    assert threads == []
    gallery.show()
    qtbot.waitUntil(lambda: len(threads) >= 2 * N, timeout=LONG)
    assert threading.main_thread() not in threads


def test_what_is_missing_is_said(gallery, qtbot, tmp_path):
    session = gallery.session
    (tmp_path / "slide.png").unlink()
    gallery.refresh()
    qtbot.waitUntil(lambda: "no such file" in gallery.text.text(), timeout=LONG)
    session.project.predictions = {}
    gallery.refresh()
    assert gallery.text.text() == EMPTY
    assert not gallery.most[0].isVisibleTo(gallery)
