"""Which slide is on the canvas: opened beside the window, shown, and taken away again. Mixed into `Session`. No Qt.

The choice moves at once, the picture follows: `current` is the slide of the highlighted row from the moment it is asked
for, `shown` the one whose picture is there. Between the two the canvas shows no other slide, and says what it waits for
(`canvas_note`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.errors import Distill2LabelError
from ...store.cohort import CohortSlide
from ..project.project import SlideList
from ..runner.debounce import Debounce
from ..runner.draining import plain_reason
from ..runner.reader import BackgroundReader
from ..wording import in_the_window
from . import canvas_input, layers, ownership
from .canvas_note import CanvasNote, CanvasState, canvas_text
from .display import Overlays
from .opening import opened_slide

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ...slides.slide import Slide

Value = TypeVar("Value")
KEYS_IN_A_ROW = 60  # ms; of slides that are asked for faster than this only the last is opened


class Showing(SlideList):
    """One slide of the list on the canvas at a time. The state it works on is `Session`'s."""

    viewer: "ViewerModel"
    reader: BackgroundReader
    overlays: Overlays
    current: str | None
    shown: str | None
    showing: str | None
    failures: dict[str, str]
    shown_changed: Any
    current_changed: Any
    message_over: Any
    telling_of_slide = False  # is what `message` tells of the slide that was asked for?
    _has_window: bool
    _in_between: bool
    _clearing = False  # are layers added or taken away by us?
    _why_not_shown = ""  # why the current slide cannot be shown
    _viewer: "Callable[[], ViewerModel | None]"
    _open: "dict[str, Slide]"

    def __init__(self) -> None:
        super().__init__()
        self._note = CanvasNote()
        self._opening_soon = Debounce(self._open_current, KEYS_IN_A_ROW)
        self._settling = Debounce(self._settle, 0, self._has_window)
        self._surplus: list[tuple[Any, str]] = []  # layers that napari made of a slide that is listed, and its id

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def show(self, slide_id: str, again: bool = False, *, wait: bool = True) -> None:
        """Select a slide, and show it and what was predicted of it. Layers that are not ours stay.

        The slide is selected when this returns. Its file is opened beside the window, which stays alive: of several
        slides that are asked for meanwhile (`showing`), the last is opened. `SlideError` says why one cannot be read;
        with `wait` False this returns at once, and that is told (`message`, and on the canvas).
        """
        row = self._row(slide_id)
        self._choose(slide_id, again)
        if self.showing is None:
            return
        if not wait and self._has_window:
            self._opening_soon.start()
            return
        try:
            slide = self._reading(partial(opened_slide, row.path, row.mpp))
        except Distill2LabelError as error:
            self._not_shown(row, error, told=not wait)
            if wait:
                raise
            return
        self._take_slide(row, slide)

    def show_by(self, steps: int, visible: Sequence[str] | None = None, order: Sequence[str] | None = None) -> None:
        """Select and show the slide so many places further on; at either end nothing changes.

        `order` has the ids of all slides as the table is sorted, `visible` those that are not filtered out; None: the
        list's own.
        """
        ids = [row.slide_id for row in self.cohort]
        slide_id = neighbour(self.current, steps, ids if visible is None else visible, order or ids)
        if slide_id is not None:
            self.select([slide_id])
            self.show(slide_id, wait=False)

    def _choose(self, slide_id: str, again: bool) -> None:
        """Make a slide the current one, at once; the picture of another one goes."""
        self._opening_soon.stop()
        self.reader.cancel("show")
        changed, self.current, self._why_not_shown = self.current != slide_id, slide_id, ""
        there = bool(layers.find(self.viewer, layers.SLIDE, slide_id))
        self.showing = slide_id if again or not there else None
        if slide_id not in self.selected:
            self.select([slide_id])
        if there:
            if not again and self.shown != slide_id:
                self._put_on_screen(slide_id)
        else:
            self._clear_canvas()
        if changed:
            self.message_over.emit()
            self.current_changed.emit()
        self._write_note()

    def _choose_none(self) -> None:
        """No slide is the current one: it was taken off the list, or other slides are there."""
        self._opening_soon.stop()
        self.reader.cancel("show")
        self.current = self.showing = None
        self._clear_canvas()
        self.current_changed.emit()
        self._write_note()

    def _clear_canvas(self, but: str | None = None) -> None:
        """Take away our layers, but those of one slide."""
        kept = [] if but is None else layers.find(self.viewer, slide_id=but)
        with self._clearing_up():
            layers.remove(self.viewer, [layer for layer in layers.find(self.viewer) if layer not in kept])
        if self.shown != but:
            self.shown = None
            self.shown_changed.emit()

    @contextmanager
    def _clearing_up(self) -> Iterator[None]:
        before, self._clearing = self._clearing, True
        try:
            yield
        finally:
            self._clearing = before

    # ---- opening ----------------------------------------------------------------------------------------------------

    def _open_current(self) -> None:
        """Have the file of the slide that was asked for last opened."""
        row = next((row for row in self.cohort if row.slide_id == self.showing), None)
        if row is not None and self._viewer() is not None and not self._is_closed:
            self.reader.request(
                "show", partial(opened_slide, row.path, row.mpp), partial(self._take_slide, row),
                partial(self._not_shown, row), dropped=_close, urgent=True,
            )  # fmt: skip

    def _take_slide(self, row: CohortSlide, slide: "Slide") -> None:
        """The file is open: lay it on the canvas, unless it is no longer what is wanted."""
        slide_id = row.slide_id
        now = next((each for each in self.cohort if each.slide_id == slide_id), None)
        if self.showing != slide_id or now is None or (now.path, now.mpp) != (row.path, row.mpp) or self._is_closed:
            slide.close()
            return
        self.showing = None
        self._say_of_slide(*(f"{slide_id}: {notice}" for notice in slide.notices))
        self._clear_canvas()  # first: napari warns of layers in µm beside some in px
        self._open[slide_id] = slide
        self.failures.pop(slide_id, None)
        with self._clearing_up():
            layer = layers.add_slide(self.viewer, slide, slide_id, now.label)
        layer.events.visible.connect(self._on_eye)
        self._uncover()
        self._put_on_screen(slide_id)

    def _not_shown(self, row: CohortSlide, error: Exception, told: bool = True) -> None:
        if self.showing == row.slide_id:
            self.showing = None
            self._clear_canvas()  # of a slide that was opened again, the picture as it was
        known = isinstance(error, Distill2LabelError)
        self.failures[row.slide_id] = in_the_window(str(error) if known else plain_reason(error))
        if self.current == row.slide_id:
            self._why_not_shown = self.failures[row.slide_id]
        self.slides_changed.emit()
        if told:
            self._say_of_slide(str(error) if known else f"{row.slide_id}: {plain_reason(error)}")
        self._write_note()

    def _say_of_slide(self, *texts: str) -> None:
        """Tell of the slide that was asked for; what was told of the one before is no news any more."""
        self.message_over.emit()
        self.telling_of_slide = True
        for text in texts:
            self._tell(text)
        self.telling_of_slide = False

    @property
    def _is_closed(self) -> bool:
        """Has the window been closed? napari takes its parts away before it is destroyed."""
        return self._has_window and not hasattr(self.viewer.window, "_qt_window")

    def _put_on_screen(self, slide_id: str) -> None:
        self._clear_canvas(but=slide_id)
        self.shown = slide_id
        self.overlays.lay_all(slide_id)
        self.viewer.reset_view()
        self.slides_changed.emit()
        self.shown_changed.emit()
        self._write_note()

    def _reading(self, read: Callable[[], Value]) -> Value:
        return read() if self._in_between else self.reader.wait_for(read)

    def _at_once(self, act: Callable[[], Value]) -> Value:
        """Inside an event of napari nothing else may happen meanwhile: what looks at files here looks at one name."""
        self._in_between = True
        try:
            return act()
        finally:
            self._in_between = False

    # ---- what the canvas says ---------------------------------------------------------------------------------------

    @property
    def canvas_text(self) -> str:
        """What stands on the canvas; "" while it shows the selected slide and nothing lies over that."""
        return canvas_text(self._canvas_state())

    def _canvas_state(self) -> CanvasState:
        current = self.current
        found = layers.find(self.viewer, layers.SLIDE, current) if current else []
        loading = current is not None and self.showing == current and not found
        failure = "" if found else self._why_not_shown
        hidden = bool(found) and not found[0].visible
        covering = next((layer.name for layer in self._covering(found[0])), "") if found else ""
        return CanvasState(current, self.shown, loading, failure, hidden, covering)

    def _write_note(self) -> None:
        if self._viewer() is not None and not self._is_closed:
            self._note.write(self.viewer, self.canvas_text)

    def _covering(self, slide_layer: Any) -> list[Any]:
        """Images from files that napari opened itself, not hidden, above our slide: a person takes them for it."""
        above = list(self.viewer.layers)[self.viewer.layers.index(slide_layer) + 1 :]
        return [layer for layer in above if layer.visible and _is_foreign_picture(layer)]

    def _uncover(self) -> None:
        """Hide what napari opened of other slides, which would lie over this one."""
        (slide_layer,) = layers.find(self.viewer, layers.SLIDE, self.current)
        for layer in self._covering(slide_layer):
            layer.visible = False
            self._tell(
                f"{layer.name}: this picture is not in the table of slides and lay over {self.current}. It is hidden "
                "now; click its eye in the layer list to see it"
            )

    # ---- what a person does in napari's list of layers ---------------------------------------------------------------

    def _on_layer_inserted(self, event: Any) -> None:
        self._adopt(event.value)
        self._write_note()

    def _on_eye(self, event: Any) -> None:
        self._write_note()

    def _on_layers_moved(self, event: Any) -> None:
        self._write_note()

    def _adopt(self, layer: Any) -> None:
        """A slide opened by napari itself (our reader, our sample data) joins the list, and is the selected one."""
        if _is_foreign_picture(layer):
            layer.events.visible.connect(self._on_eye)
        layers.adopt(self.viewer, layer)
        canvas_input.bind_undo(self, layer)
        noted = layers.about(layer)
        if noted.get("role") != layers.SLIDE or self._clearing:
            return
        row = next((row for row in self.cohort if layers.same_file(noted, row.path)), None)
        if row is not None:  # it is shown as the table has it: with its own name and µm/px
            self._surplus.append((layer, row.slide_id))
            self._settling.start()
            return
        label = noted.get("label") if noted.get("label") in self.classes else None
        if not self._at_once(lambda: self.add_slides([noted["path"]], label)):
            return
        self._opening_soon.stop()
        self.reader.cancel("show")
        self.current = self.shown = noted["slide_id"]
        self.showing, self._why_not_shown = None, ""
        layer.events.visible.connect(self._on_eye)
        self.select([self.current])
        self._settling.start()  # not inside an event of napari's list
        self.current_changed.emit()
        self.shown_changed.emit()

    def _on_layer_removed(self, event: Any) -> None:
        noted = layers.about(event.value)
        viewer = self._viewer()
        if viewer is None:
            return
        slide_id = noted.get("slide_id")
        if noted.get("role") == layers.SLIDE and not layers.find(viewer, layers.SLIDE, slide_id):
            slide = self._open.pop(slide_id, None)
            if slide is not None and not ownership.copies_of(viewer, slide_id):
                slide.close()
            if self.shown == slide_id and not self._clearing:
                self.shown = None
                self.shown_changed.emit()
                self._settling.start()
        if not self._clearing:
            self._write_note()

    def _settle(self) -> None:
        """After a layer came or went by a person's hand: no layer of ours is left that is not of the slide shown."""
        if self._viewer() is None or self._is_closed:
            return
        surplus, self._surplus = self._surplus, []
        with self._clearing_up():
            layers.remove(self.viewer, [layer for layer, _ in surplus])
        self._clear_canvas(but=self.shown)
        if surplus:
            self.show(surplus[-1][1], wait=False)
        elif self.shown is not None:
            self.overlays.lay_all(self.shown)
        self._write_note()


def neighbour(current: str | None, steps: int, visible: Sequence[str], order: Sequence[str]) -> str | None:
    """Id of the slide `steps` places after `current` among the visible ones; None beyond either end.

    From a slide that was filtered out, the way goes on from where it stands in `order`; from none, at the first.
    """
    if current in visible:
        place = visible.index(current) + steps
    elif current in order:
        at = {slide_id: number for number, slide_id in enumerate(order)}
        before = sum(at[slide_id] < at[current] for slide_id in visible if slide_id in at)
        place = before + steps - (steps > 0)
    else:
        place = 0
    return visible[place] if 0 <= place < len(visible) else None


def _close(slide: "Slide") -> None:
    slide.close()


def _is_foreign_picture(layer: Any) -> bool:
    """An image that is not a layer of ours, of a file or a copy of a slide's."""
    is_picture = type(layer).__name__ == "Image" and not layers.about(layer)
    return is_picture and (bool(layer.source.path) or ownership.KEY in layer.metadata)
