"""What the canvas says while it does not show the selected slide: that it is loading, or why it cannot be shown.

Pure text but for `CanvasNote`, which puts it on the canvas. No Qt.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel

LOOK = {"position": "top_left", "font_size": 11, "box": True}  # from where no line of it is cut off
LONGEST_REASON = 300  # characters; an error may quote a whole cell of a table


@dataclass(frozen=True)
class CanvasState:
    """What is to be seen, and what is.

    Attributes
    ----------
    current
        Id of the slide the canvas is to show; None where there is none.
    shown
        Id of the slide it shows.
    loading
        Is the slide's file being opened?
    failure
        Why it cannot be shown; "" if it can.
    hidden
        Is its layer out of sight, by its eye in napari's list?
    covering
        Name of an image of somebody else's that lies over it; "" if none does.
    """

    current: str | None = None
    shown: str | None = None
    loading: bool = False
    failure: str = ""
    hidden: bool = False
    covering: str = ""


def canvas_text(state: CanvasState) -> str:
    """What to write on the canvas; "" while it shows the selected slide and nothing else."""
    slide_id = state.current
    if slide_id is None:
        return ""
    if state.loading:
        return f"{slide_id}\nThe picture is loading…"
    if state.failure:
        return f"{slide_id}\nThis slide cannot be shown: {_short(state.failure)}"
    if state.shown != slide_id:
        return f"{slide_id}\nThe picture was removed. Click the slide in the table to show it again."
    if state.hidden:
        return f"{slide_id}\nThe picture is hidden. Click its eye in the layer list to show it again."
    if state.covering:
        return f"{slide_id} is selected.\nThe image on top is {state.covering!r}, which is not in the table."
    return ""


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


class CanvasNote:
    """Writes on the canvas, and gives back what somebody else had written there."""

    def __init__(self) -> None:
        self.text = ""
        self._former: dict[str, Any] = {}  # what the canvas had before ours

    def write(self, viewer: "ViewerModel", text: str) -> None:
        """Show `text`; "" takes ours away."""
        if text == self.text:
            return
        overlay = viewer.canvas.overlays.text
        if not self.text:
            self._former = {name: getattr(overlay, name) for name in (*LOOK, "text", "visible")}
        self.text = text
        for name, value in ({**LOOK, "text": wrapped(text), "visible": True} if text else self._former).items():
            setattr(overlay, name, value)
        greet(viewer, not text)


def wrapped(text: str, width: int = 44) -> str:
    """Long lines broken, for a canvas that does not break them."""
    import textwrap

    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""])


def greet(viewer: Any, wanted: bool) -> None:
    """Napari's welcome screen covers a canvas without layers, and what is written there: only while there is nothing.

    napari 0.9 has no public way to say so; where it has none at all, the screen stays as it is.
    """
    view = getattr(getattr(viewer, "window", None), "_qt_viewer", None)
    if view is not None and hasattr(type(view), "show_welcome_screen"):
        view.show_welcome_screen = wanted
