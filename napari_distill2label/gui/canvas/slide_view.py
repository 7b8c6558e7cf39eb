"""Which slide is on the canvas: opened in the background, shown, and taken away again. No Qt.

The choice moves at once, the picture follows: `project.current` is the slide of the highlighted row from the moment it
is asked for, `project.shown` the one whose picture is there. Between the two the canvas shows no other slide, and says
what it waits for (`canvas_note`).
"""

import math
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...core.notices import Notice
from ...store.cohort import Cohort, CohortSlide
from ..messages import reason_of
from ..project.project import Project
from ..runner.debounce import Debounce
from ..runner.reader import BackgroundReader
from . import canvas_input, layers, ownership, spares
from .canvas_note import CanvasNote, CanvasState, canvas_text
from .layer_watch import LayerWatch
from .opening import opened_slide

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...slides.slide import Slide

Value = TypeVar("Value")
FLICKER = 80  # ms; a slide that is open sooner takes the place of the one before without an empty canvas between
SPARES = 2000  # ms after which layers of the slide before that are of no use to the one shown are taken away
BETWEEN_SPARES = 20  # ms of the window's between two of them
KEYS_IN_A_ROW = 60  # ms; of slides that are asked for faster than this only the last is opened


class SlideView:
    """Opens slides and puts one of them on the canvas at a time.

    Attributes
    ----------
    is_telling
        Is what `project.message` tells of the slide that was asked for?
    read_along
        Reads what lies over a slide, while its file is opened; in a thread in the background.
    is_adding
        Are layers still to be added over the slide that is shown?
    add_slide
        Adds a slide's file to the list, with a label: napari itself has opened it. Returns ids of what was added.
    """

    settled = Signal()  # after a layer came or went by a person's hand
    message_over = Signal()  # what was told of the slide before is no news any more

    def __init__(
        self,
        viewer: "weakref.ref[ViewerModel]",
        project: Project,
        reader: BackgroundReader,
        watch: LayerWatch,
        has_window: bool,
    ) -> None:
        self._viewer, self._project, self._reader, self._watch = viewer, project, reader, watch
        self._has_window = has_window
        self.is_telling = False
        self.read_along: Callable[[str], None] = lambda slide_id: None
        self.is_adding: Callable[[], bool] = lambda: False
        self.add_slide: Callable[[str, str | None], Sequence[str]] = lambda path, label: ()
        self._asked = -math.inf  # when a slide was asked for that is not waited for
        self._why_not_shown = ""  # why the current slide cannot be shown
        self._open: dict[str, Slide] = {}
        self._not_opened: dict[str, str] = {}  # why files failed
        self._note = CanvasNote()
        self._opening_soon = Debounce(self._open_current, KEYS_IN_A_ROW)
        self._settling = Debounce(self._settle, 0, has_window)
        self._hiding = Debounce(self._hide, FLICKER, has_window)
        self._tidying = Debounce(self._tidy, SPARES, has_window)
        self._surplus: list[tuple[Layer, str]] = []  # layers that napari made of a slide that is listed, and its id
        watch.inserted.connect(self.adopt)
        watch.removed.connect(self._on_removed)
        watch.changed.connect(self._write_note)
        project.events.current.connect(self._on_current)
        project.events.cohort.connect(self._on_cohort)

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def show(self, slide_id: str, again: bool = False, *, wait: bool = True) -> None:
        """Select a slide, and show it and what was predicted of it. Layers that are not ours stay.

        The slide is selected when this returns. Its file is opened in the background, and the window stays alive: of
        several slides that are asked for meanwhile (`project.opening`), the last is opened. `SlideError` says why one
        cannot be read; with `wait` False this returns at once, and that is told (`message`, and on the canvas).
        """
        row = self._project.row(slide_id)
        self._choose(slide_id, again)
        if self._project.opening is None:
            return
        if not wait and self._has_window:
            before, self._asked = self._asked, time.monotonic()
            if self._asked - before > KEYS_IN_A_ROW / 1000:
                self._open_current()
            else:
                self._opening_soon.start()
            return
        try:
            slide = self._reader.wait_for(partial(_opened, self.read_along, row))
        except Distill2LabelError as error:
            self._not_shown(row, error, told=not wait)
            if wait:
                raise
            return
        self._take_slide(row, slide)

    def show_soon(self, slide_id: str) -> None:
        """Show a slide as soon as it is open; where it cannot be read, the canvas says so."""
        self.show(slide_id, wait=False)

    def show_again(self, slide_id: str) -> None:
        """Open a slide again, as soon as that can be: its file or its scale is another."""
        self.show(slide_id, again=True, wait=False)

    def show_by(self, steps: int, visible: Sequence[str] | None = None, order: Sequence[str] | None = None) -> None:
        """Select and show the slide so many places further on; at either end nothing changes.

        `order` has the ids of all slides as the table is sorted, `visible` those that are not filtered out; None: the
        list's own.
        """
        ids = [row.slide_id for row in self._project.cohort]
        current = self._project.current
        slide_id = neighbour(current, steps, ids if visible is None else visible, order or ids)
        if slide_id is not None:
            self._project.select([slide_id])
            self.show(slide_id, wait=False)

    def _choose(self, slide_id: str, again: bool) -> None:
        """Make a slide the current one, at once; the picture of another one goes."""
        project, viewer = self._project, self._viewer()
        self._stop_opening()
        changed, self._why_not_shown = project.current != slide_id, ""
        there = viewer is not None and bool(ownership.find(viewer, ownership.SLIDE, slide_id))
        opening = slide_id if again or not there else None
        if slide_id not in project.selected:
            project.select([slide_id])
        if changed:
            self.message_over.emit()
        project.change(opening=opening, current=slide_id)
        if there:
            if not again and project.shown != slide_id:
                self._put_on_screen(slide_id)
        else:
            self._clear_canvas()
            if not self._hiding.waits:  # not put off by every key that is held down
                self._hiding.start()
        self._write_note()

    def _on_current(self, current: str | None) -> None:
        """No slide is the current one: it was taken off the list, or other slides are about to come."""
        if current is None:
            self._stop_opening()
            self._project.opening = None
            self._clear_canvas()
            self._hide()

    def _on_cohort(self, now: Cohort, before: Cohort) -> None:
        """Undo has changed the µm/px of the shown slide, which has another size. `set_mpp` shows it again itself."""
        shown = self._project.shown
        if shown is None or self._project.current != shown or not self._project.history.is_moving:
            return
        row, former = (next((row for row in cohort if row.slide_id == shown), None) for cohort in (now, before))
        if row is not None and former is not None and row.path == former.path and row.mpp != former.mpp:
            self.show(shown, again=True, wait=False)

    def _stop_opening(self) -> None:
        self._opening_soon.stop()
        self._reader.cancel("show")

    def _clear_canvas(self, but: str | None = None) -> None:
        """Let go of our layers, but those of one slide: the next one uses them, or `_hide` takes them out of sight."""
        viewer = self._viewer()
        if viewer is None:
            return
        kept = [] if but is None else ownership.find(viewer, slide_id=but)
        with self._watch.own_hand:
            layers.set_aside(viewer, [layer for layer in ownership.find(viewer) if layer not in kept])
        if self._project.shown != but:
            self._project.shown = None
        self._tidying.start()

    def _hide(self) -> None:
        """Show nothing of the slide before, and say what is awaited."""
        self._hiding.stop()
        if layers.is_open(viewer := self._viewer()):
            layers.hide_spares(viewer)
            self._write_note()

    def _tidy(self) -> None:
        """Take away what no slide has used, one layer at a time; not while one is awaited."""
        viewer = self._viewer()
        if not layers.is_open(viewer):
            return
        if self._has_window and (self._project.opening is not None or self._reader.busy or self.is_adding()):
            self._tidying.start()
            return
        found = spares.there(viewer)
        with self._watch.own_hand:
            layers.remove(viewer, found[:1] if self._has_window else found)
        self._close_unseen()
        if found[1:] and self._has_window:
            self._tidying.start(BETWEEN_SPARES)

    def _close_unseen(self) -> None:
        """Close the files of slides of which there is no layer any more, nor a copy of one."""
        viewer = self._viewer()
        for slide_id in list(self._open):
            seen = ownership.find(viewer, ownership.SLIDE, slide_id) or ownership.copies_of(viewer, slide_id)
            if not seen and not spares.there(viewer, role=ownership.SLIDE, slide_id=slide_id):
                self._open.pop(slide_id).close()

    # ---- opening ----------------------------------------------------------------------------------------------------

    def _open_current(self) -> None:
        """Have the file of the slide that was asked for last opened."""
        opening = self._project.opening
        row = next((row for row in self._project.cohort if row.slide_id == opening), None)
        if row is not None and layers.is_open(self._viewer()):
            self._reader.request(
                "show", partial(_opened, self.read_along, row), partial(self._take_slide, row),
                partial(self._not_shown, row), dropped=_close, urgent=True,
            )  # fmt: skip

    def _take_slide(self, row: CohortSlide, slide: "Slide") -> None:
        """The file is open: lay it on the canvas, unless it is no longer what is wanted."""
        project, viewer, slide_id = self._project, self._viewer(), row.slide_id
        now = next((each for each in project.cohort if each.slide_id == slide_id), None)
        wanted = project.opening == slide_id and layers.is_open(viewer)
        if not wanted or now is None or (now.path, now.mpp) != (row.path, row.mpp):
            slide.close()
            return
        project.opening = None
        self._say_of_slide(*(notice.about(slide_id) for notice in slide.notices))
        self._clear_canvas()  # first: napari warns of layers in µm beside some in px
        former = self._open.get(slide_id)
        if project.failures.get(slide_id) == self._not_opened.pop(slide_id, None):  # else a prediction failed
            project.forgive([slide_id])
        with layers.in_one_go(viewer):
            with self._watch.own_hand:
                layer = layers.add_slide(viewer, slide, slide_id, now.label)
                # The new file may need a layer of another kind; nothing may draw from the former one when it is closed.
                layers.remove(viewer, spares.there(viewer, role=ownership.SLIDE, slide_id=slide_id))
            if former is not None and not ownership.copies_of(viewer, slide_id):
                former.close()
            self._open[slide_id] = slide  # not before it has a layer: files of slides without one are closed
            self._close_unseen()
            layer.events.visible.connect(self._on_eye)
            self._uncover(viewer, layer)
            self._put_on_screen(slide_id)

    def _not_shown(self, row: CohortSlide, error: Exception, told: bool = True) -> None:
        project, slide_id = self._project, row.slide_id
        if project.opening == slide_id:
            project.opening = None
            self._clear_canvas()  # of a slide that was opened again, the picture as it was
            self._hide()
        reason = reason_of(error)
        if project.current == slide_id:
            self._why_not_shown = reason
        self._not_opened[slide_id] = reason
        project.fail(slide_id, reason)
        if told:
            self._say_of_slide(reason_of(error, slide_id))
        self._write_note()

    def _say_of_slide(self, *texts: "str | Notice") -> None:
        """Tell of the slide that was asked for; what was told of the one before is no news any more."""
        self.message_over.emit()
        self.is_telling = True
        for text in texts:
            self._project.tell(text)
        self.is_telling = False

    def _put_on_screen(self, slide_id: str) -> None:
        self._clear_canvas(but=slide_id)
        self._project.shown = slide_id
        if (viewer := self._viewer()) is not None:
            layers.hide_spares(viewer)  # what lay over another slide
            viewer.reset_view(layers=ownership.find(viewer, ownership.SLIDE, slide_id))  # spares have other sizes
        self._write_note()

    def close(self) -> None:
        """Close the slides' files. Idempotent."""
        self._opening_soon.stop()
        self._settling.stop()
        self._hiding.stop()
        self._tidying.stop()
        for slide in self._open.values():
            slide.close()
        self._open.clear()

    # ---- what the canvas says ---------------------------------------------------------------------------------------

    @property
    def canvas_text(self) -> str:
        """What stands on the canvas; "" while it shows the selected slide and nothing lies over that."""
        return canvas_text(self._canvas_state())

    def _canvas_state(self) -> CanvasState:
        project, viewer = self._project, self._viewer()
        current = project.current
        found = ownership.find(viewer, ownership.SLIDE, current) if current and viewer is not None else []
        loading = current is not None and project.opening == current and not found
        failure = "" if found else self._why_not_shown
        hidden = bool(found) and not found[0].visible
        covering = next((layer.name for layer in _covering(viewer, found[0])), "") if found else ""
        return CanvasState(current, project.shown, loading, failure, hidden, covering)

    def _write_note(self) -> None:
        viewer = self._viewer()
        if layers.is_open(viewer) and not (self._project.opening is not None and self._hiding.waits):
            self._note.write(viewer, self.canvas_text)

    def _uncover(self, viewer: "ViewerModel", slide_layer: "Layer") -> None:
        """Hide what napari opened of other slides, which would lie over this one."""
        for layer in _covering(viewer, slide_layer):
            layer.visible = False
            self._project.tell(
                f"{layer.name}: this picture is not in the table of slides and lay over {self._project.current}. It is "
                "hidden now; click its eye in the layer list to see it"
            )

    # ---- what a person does in napari's list of layers ---------------------------------------------------------------

    def _on_eye(self, event: Any) -> None:
        self._write_note()

    def adopt(self, layer: "Layer") -> None:
        """A slide opened by napari itself (our reader, our sample data) joins the list, and is the selected one."""
        viewer, project = self._viewer(), self._project
        if viewer is None:
            return
        if _is_foreign_picture(layer):
            layer.events.visible.connect(self._on_eye)
        layers.adopt(viewer, layer)
        canvas_input.bind_undo(project, layer)
        noted = ownership.tags_of(layer)
        if noted.get("role") != ownership.SLIDE or self._watch.own_hand:
            return
        row = next((row for row in project.cohort if layers.same_file(noted, row.path)), None)
        if row is not None:  # it is shown as the table has it: with its own name and µm/px
            self._surplus.append((layer, row.slide_id))
            self._settling.start()
            return
        label = noted.get("label") if noted.get("label") in project.classes else None
        if not self.add_slide(noted["path"], label):
            return
        self._stop_opening()
        self._why_not_shown = ""
        layer.events.visible.connect(self._on_eye)
        slide_id = noted["slide_id"]
        project.select([slide_id])
        project.change(opening=None, current=slide_id, shown=slide_id)
        self._settling.start()  # not inside an event of napari's list

    def _on_removed(self, layer: "Layer") -> None:
        self._close_unseen()
        viewer, noted = self._viewer(), ownership.tags_of(layer)
        if noted.get("role") != ownership.SLIDE or ownership.find(viewer, ownership.SLIDE, noted["slide_id"]):
            return
        if self._project.shown == noted["slide_id"] and not self._watch.own_hand:
            self._project.shown = None
            self._settling.start()

    def _settle(self) -> None:
        """After a layer came or went by a person's hand: no layer of ours is left that is not of the slide shown."""
        viewer, shown = self._viewer(), self._project.shown
        if not layers.is_open(viewer):
            return
        surplus, self._surplus = self._surplus, []
        with self._watch.own_hand:
            layers.remove(viewer, [layer for layer, _ in surplus])
        self._clear_canvas(but=shown)
        if self._project.opening is None:  # nothing comes that could use what is left
            with self._watch.own_hand:
                layers.remove(viewer, spares.there(viewer))
            self._close_unseen()
        if surplus:
            self.show(surplus[-1][1], wait=False)
        elif shown is not None:
            self.settled.emit()
        self._write_note()


def neighbour(current: str | None, steps: int, visible: Sequence[str], order: Sequence[str]) -> str | None:
    """Id of the slide `steps` places after `current` among the visible ones; None beyond either end.

    From a slide that was filtered out, the way goes on from where it stands in `order`; from none, at the first.
    """
    if current in visible:
        place = visible.index(current) + steps
    elif current in order:
        at = {slide_id: number for number, slide_id in enumerate(order)}
        own = order.index(current)
        before = sum(at[slide_id] < own for slide_id in visible if slide_id in at)
        place = before + steps - (steps > 0)
    else:
        place = 0
    return visible[place] if 0 <= place < len(visible) else None


def _opened(read_along: Callable[[str], None], row: CohortSlide) -> "Slide":
    read_along(row.slide_id)
    return opened_slide(row.path, row.mpp)


def _close(slide: "Slide") -> None:
    slide.close()


def _covering(viewer: "ViewerModel", slide_layer: "Layer") -> "list[Layer]":
    """Images from files that napari opened itself, not hidden, above our slide: a person takes them for it."""
    above = list(viewer.layers)[viewer.layers.index(slide_layer) + 1 :]
    return [layer for layer in above if layer.visible and _is_foreign_picture(layer)]


def _is_foreign_picture(layer: "Layer") -> bool:
    """An image that is not a layer of ours, of a file or a copy of a slide's."""
    is_picture = type(layer).__name__ == "Image" and not ownership.tags_of(layer)
    return is_picture and (bool(layer.source.path) or ownership.KEY in layer.metadata)
