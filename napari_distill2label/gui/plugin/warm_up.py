"""What napari's first layers of labels need and is slow to come by, got in a thread while the user looks for slides.

Else the window would stand still for it at the first prediction: half a second on a slow machine. No Qt.
"""

from contextlib import suppress


def warm_up() -> None:
    """Import and compute it; all of it is kept by those who need it. The second time is free."""
    import pandas  # noqa: F401 - features of layers

    # What follows is inside of others' packages: where it moves, the first prediction is slow, and all else works.
    with suppress(ImportError):
        import skimage.color.colorconv  # noqa: F401 - random colours of labels, which napari draws though ours are chosen
    with suppress(ImportError):
        from vispy.visuals.line.dash_atlas import DashAtlas

        DashAtlas()  # its patterns are computed once: for the outline of polygons, which every layer of labels brings
