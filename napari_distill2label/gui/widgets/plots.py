"""Plots by pyqtgraph, in the colours of napari's theme. pyqtgraph is imported in the background, when it is needed."""

from collections.abc import Mapping
from typing import Any


def import_pyqtgraph() -> Any:
    """Return pyqtgraph. It takes a moment: ask for it in the reader's thread."""
    import pyqtgraph

    return pyqtgraph


def keep_still(plot: Any) -> None:
    """Let the mouse move nothing in a plot: the wheel scrolls the panel."""
    plot.hideButtons()
    plot.setMenuEnabled(False)
    plot.setMouseEnabled(False, False)
    for name in ("left", "bottom"):
        plot.getAxis(name).enableAutoSIPrefix(False)


def colour_axes(plot: Any, colours: Mapping[str, str]) -> None:
    """Draw the axes of a plot in colours of the theme (`widgets.theme.theme_colours`)."""
    for name in ("left", "bottom"):
        axis = plot.getAxis(name)
        axis.setPen(colours["secondary"])
        axis.setTextPen(colours["text"])
