"""The dock widget and the `session` of napari's console. The only room that imports napari or Qt."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import MissingDependencyError

if TYPE_CHECKING:
    import napari

    from .session import Session


def get_session(viewer: Any = None) -> "Session":
    """The session of a napari viewer (None: the current one). It is what the console calls `session`.

    `viewer` may be a `napari.Viewer` or, without a window, a `napari.components.ViewerModel`. `ValueError` if there
    is no viewer at all.
    """
    from .session import session_of

    if viewer is None:
        import napari

        viewer = napari.current_viewer()
        if viewer is None:
            raise ValueError("there is no napari viewer: open one, or pass a napari.components.ViewerModel")
    return session_of(viewer)


def open_window(path: str | os.PathLike[str] | None = None) -> "napari.Viewer":
    """A napari window with the panel; `path` is a cohort.csv, a run or a model bundle to start with.

    `MissingDependencyError` without napari or a Qt binding; errors of `path` are shown in the panel.
    """
    try:
        import napari

        from .dock import DistillToLabel
    except ImportError as error:
        raise MissingDependencyError(
            f"the window needs napari and Qt ({error}): pip install 'napari-distill2label[gui]' PyQt6"
        ) from None
    viewer = napari.Viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label", area="right")
    if path is not None:
        panel.open_path(Path(path))
    return viewer


def launch(path: str | os.PathLike[str] | None = None) -> None:
    """`open_window`, until it is closed."""
    open_window(path)
    import napari

    napari.run()
