"""What the canvas says; and that it gives back what somebody else had written there."""

from napari.components import ViewerModel

from napari_distill2label.gui.canvas.canvas_note import CanvasNote


def test_what_somebody_else_had_written_comes_back_as_it_was():
    viewer = ViewerModel()
    overlay = viewer.canvas.overlays.text
    look = {"text": "mine", "visible": True, "position": "bottom_right", "font_size": 20, "box": False}
    for name, value in look.items():
        setattr(overlay, name, value)
    note = CanvasNote()
    note.write(viewer, "slide_000\nThe picture is loading…")
    assert overlay.text.startswith("slide_000")
    note.write(viewer, "slide_001\nThe picture is loading…")
    note.write(viewer, "")
    assert {name: getattr(overlay, name) for name in look} == look
