"""What is laid over the shown slide: which of the model's layers are seen, how strongly, and what the pointer is on.

No Qt. Patch maps are read in the worker's thread while they are predicted (`reading_along`), or beside the window when
a slide is shown; here they are only laid out.
"""

import time
import weakref
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.classes import RGB, colours_of
from ...core.errors import SettingsError
from ...core.events import Event, ItemDone, ItemStarted, Progress
from ..layers import shades
from ..plain_text import as_plain
from ..plugin.preferences import remember
from . import canvas_input, layers, map_layers, ownership
from .layers import ATTENTION, CONTRIBUTION, LABELS, POINTS, PREDICTED, PROBABILITY
from .prediction_layers import LaidMaps

if TYPE_CHECKING:
    from napari.layers import Layer

    from ...store.maps.patch_map import PatchMap
    from ..layers.shades import Cell, Shades
    from ..runner.jobs import Job, Work
    from ..session import Session

KINDS = (LABELS, PROBABILITY, ATTENTION, CONTRIBUTION)
FILLING_INTERVAL = 0.5  # s between two looks at a map that is being filled
FILLING_SHARE = 0.05  # of the time that may go into looking


def kind_of(role: str) -> str:
    """Labels are labels, on a grid or at points."""
    return LABELS if role == POINTS else role


class Overlays(LaidMaps):
    """The model's layers over the shown slide.

    Attributes
    ----------
    opacity
        Of all of them, 0–1.
    hidden
        Are they taken out of sight for a moment, to see the tissue?
    negatives
        Are negative patches coloured, too?
    visible
        Which of `KINDS` are seen, when not hidden. It stays from slide to slide.
    pointed
        (slide id, cell) under the pointer; None where there is no patch.
    """

    changed = Signal()  # what is seen, and how strongly
    pointed_changed = Signal()

    def __init__(self, session: "Session", opacity: float = layers.OPACITY, negatives: bool = False) -> None:
        super().__init__(session, negatives)
        self.opacity, self.hidden = opacity, False
        self.visible = {kind: kind == LABELS for kind in KINDS}
        self._shut: set[tuple[str, int | None]] = set()  # single layers the user shut in napari's list
        self.pointed: tuple[str, Cell] | None = None
        self._point: tuple[float, float] | None = None  # (y, x) under the pointer, in level-0 px
        self._laid: Shades | None = None  # what of it they show
        viewer = session.viewer
        viewer.mouse_move_callbacks.append(_on_move(self))
        canvas_input.listen(session)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.events.mouse_over_canvas.connect(self._on_canvas)
        # After napari's own listeners: what they show last is what stays.
        viewer.events.status.connect(self._on_status, position="last")
        viewer.tooltip.events.text.connect(self._on_tooltip, position="last")
        session.jobs.event.connect(self.on_event)
        session.jobs.changed.connect(self.on_job)
        session.model_changed.connect(self._on_model)
        session.colours_changed.connect(self._on_colours)
        session.threshold_changed.connect(self._on_threshold)

    def colours_of(self, classes: Sequence[str]) -> dict[str, RGB]:
        """Colours of a model's classes, which may be others than the session's by now."""
        return dict(zip(classes, colours_of(classes, self.colours), strict=True))

    # ---- what is seen ----------------------------------------------------------------------------------------------

    def set_visible(self, kind: str, visible: bool) -> None:
        """Show or hide labels, probability, attention or contribution, here and on the slides shown later."""
        if kind not in KINDS:
            raise SettingsError(f"there is no layer {kind!r}: there are {', '.join(KINDS)}")
        self.visible[kind] = bool(visible)
        if visible and any(kind_of(role) == kind for role, _ in self._unwanted):
            self._bring_back(kind)
        self._shut = {one for one in self._shut if kind_of(one[0]) != kind}
        self.hidden = self.hidden and not visible
        self._apply()

    def _bring_back(self, kind: str) -> None:
        """Add the layers of a kind that the user had removed from napari's list."""
        self._unwanted = {key for key in self._unwanted if kind_of(key[0]) != kind}
        for patch_map in self.session.predictions.get(self.session.shown or "", {}).values():
            self.lay(patch_map)

    def _on_removed(self, event: Any) -> None:
        """The user removed a layer from napari's list: it stays away while this slide is shown."""
        session, layer = self._session(), event.value
        if session is None or not ownership.removed_by_user(layer):
            return
        noted = layers.about(layer)
        if noted["role"] in PREDICTED and noted["slide_id"] == session.shown:
            self._unwanted.add(_which(layer))

    def set_opacity(self, opacity: float) -> None:
        """Of all overlays, 0 (see-through) to 1."""
        if not 0 <= opacity <= 1:
            raise SettingsError(f"opacity is between 0 and 1, not {opacity:g}")
        self.opacity = float(opacity)
        self._apply()

    def set_negatives(self, coloured: bool) -> None:
        """Colour negative patches, too, or findings alone; in the windows to come as well."""
        if coloured != self.negatives:
            self.negatives = bool(coloured)
            remember(colour_negatives=self.negatives)
            self._on_colours()
            self.changed.emit()

    def blink(self) -> None:
        """Take everything that covers the tissue out of sight, and back with the next call."""
        self.hidden = not self.hidden
        self._apply()

    def _apply(self) -> None:
        """Make the layers that are there look as they should."""
        session = self.session
        self._setting = True
        try:
            for layer in layers.find(session.viewer, slide_id=session.shown or ""):
                noted = layers.about(layer)
                if noted["role"] in PREDICTED:
                    mine = noted["model"] == session.network and self.visible[kind_of(noted["role"])]
                    seen = mine and _which(layer) not in self._shut
                    _set(layer, visible=seen and not self.hidden, opacity=self.opacity)
                elif noted["role"] in (layers.CORRECTIONS, layers.FRAME):  # outlines are linked to corrections
                    _set(layer, visible=_which(layer) not in self._shut and not self.hidden)
        finally:
            self._setting = False
        self.changed.emit()

    def _on_eye(self, event: Any) -> None:
        """The user clicked the eye of a layer in napari's list: keep to it."""
        session = self._session()
        if session is None or self._setting:
            return
        noted = layers.about(event.source)
        role = noted.get("role")
        if role == layers.CORRECTIONS:
            alike = [event.source]
        elif role in PREDICTED and noted["model"] == session.network:
            alike = layers.find(session.viewer, role, noted["slide_id"], model=noted["model"])
            self.visible[kind_of(role)] = any(layer.visible for layer in alike)
        else:
            return
        # Of several classes one may be shut; a kind of which all are is not seen at all.
        self._shut = {one for one in self._shut if one[0] != role}
        if role == layers.CORRECTIONS or self.visible[kind_of(role)]:
            self._shut |= {_which(layer) for layer in alike if not layer.visible}
        if event.source.visible:
            self.hidden = False
        self.changed.emit()

    def follow_eye(self, corrections: "Layer") -> None:
        """A new layer of corrections is seen unless the user shut the one before."""
        corrections.visible = _which(corrections) not in self._shut and not self.hidden
        corrections.events.visible.connect(self._on_eye)

    def _on_opacity(self, event: Any) -> None:
        """The user moved napari's own slider: keep to it, for all that is laid over the slide."""
        if self._session() is not None and not self._setting:
            self.set_opacity(event.source.opacity)

    # ---- filling in ------------------------------------------------------------------------------------------------

    def reading_along(self, work: "Work") -> "Work":
        """The same work; what the window will show of its maps is read in the thread that fills them."""
        shown_map: PatchMap | None = None
        next_look = 0.0
        try:
            while True:
                event = next(work)
                if isinstance(event, ItemStarted):
                    shown_map = event.result if self._is_shown(event.result) else None
                    if shown_map is not None:
                        shades.read(shown_map)
                elif isinstance(event, ItemDone):
                    if self._is_shown(event.result):
                        shades.read(event.result)
                    shown_map = None
                elif isinstance(event, Progress) and shown_map is not None and time.monotonic() > next_look:
                    began = time.monotonic()
                    shades.read(shown_map)
                    took = time.monotonic() - began
                    next_look = time.monotonic() + max(FILLING_INTERVAL, took / FILLING_SHARE)
                yield event
        except StopIteration as stop:
            return stop.value
        finally:
            work.close()

    def _is_shown(self, patch_map: Any) -> bool:
        session = self._session()
        return session is not None and patch_map is not None and session.shown == getattr(patch_map, "slide_id", None)

    def on_event(self, job: "Job", event: Event) -> None:
        """Follow a prediction: its layers appear when a slide is begun, and fill in."""
        if isinstance(event, ItemStarted):
            self._unwanted.clear()  # who predicts wants to see it
            is_read = shades.known(event.result) is not None
            self._filling = event.result if is_read and self.session._ours([event.result]) else None
            self._laid = None
        elif isinstance(event, ItemDone):
            self._filling = None
        if self._filling is not None and shades.known(self._filling) is not self._laid:
            self._laid = shades.known(self._filling)
            self._lay_out(self._filling)

    def on_job(self, job: "Job") -> None:
        """A prediction that was stopped in the middle of a slide leaves the one before, where there is one."""
        if job.kind == "predict" and not job.is_running and self._filling is not None:
            slide_id, network = self._filling.slide_id, layers.network_of(self._filling)
            former = self.session.predictions.get(slide_id, {}).get(network)
            if former is not None:
                self._filling = None
                self.lay(former)

    # ---- the shown slide's map -------------------------------------------------------------------------------------

    @property
    def map(self) -> "PatchMap | None":
        """What the chosen model says of the shown slide, as far as it is filled; None where nothing is laid out."""
        session = self.session
        filling = self._filling
        if filling is not None and filling.slide_id == session.shown and layers.network_of(filling) == session.network:
            return filling
        return session.predictions.get(session.shown or "", {}).get(session.network or "")

    @property
    def shades(self) -> "Shades | None":
        """Its arrays; while they are being read those of the map before, else None."""
        patch_map = self.map
        if patch_map is None:
            return None
        found = shades.known(patch_map) or self._latest.get(layers.network_of(patch_map))
        return found if found is not None and found.slide_id == self.session.shown else None

    # ---- the pointer -----------------------------------------------------------------------------------------------

    def point_at(self, world: Any) -> None:
        """The pointer is at a place of the world (None: away)."""
        session, shown = self.session, self.shades
        point = None if world is None else layers.level0_point(session.viewer, session.shown or "", world)
        self._point = None if point is None else (float(point[0]), float(point[1]))
        cell = None if point is None or shown is None else shown.cell_at(point)
        pointed = None if cell is None else (session.shown, cell)
        if pointed != self.pointed:
            self.pointed = pointed
            self.pointed_changed.emit()

    def _on_canvas(self, event: Any) -> None:
        if self._session() is not None and not event.value:
            self.point_at(None)  # a key must not correct the patch that was left last

    @property
    def pointed_text(self) -> str:
        """What is known of the patch under the pointer, in words; "" where there is none."""
        return "" if self.pointed is None else self.text_of(*self.pointed)

    def text_of(self, slide_id: str, cell: "Cell") -> str:
        """What is known of a patch of the shown slide, in words."""
        session, shown = self.session, self.shades
        if shown is None or slide_id != session.shown:
            return ""
        facts = shown.facts(cell, session.threshold)
        text = "not scored" if facts is None else str(facts)
        corrected = session.review.label_of(slide_id, cell)
        return text if corrected is None else f"{text} · corrected: {corrected}"

    def _pixel_text(self) -> str:
        """The slide's own pixel under the pointer, where napari counts in µm; "" beside the slide."""
        slide = layers.find(self.session.viewer, layers.SLIDE, self.session.shown or "")
        if self._point is None or not slide or layers.about(slide[0])["mpp"] is None:
            return ""
        height, width = slide[0].level_shapes[0][:2]
        y, x = (round(value) for value in self._point)
        return f"y {y}, x {x} px" if 0 <= y < height and 0 <= x < width else ""

    def _on_status(self, event: Any) -> None:
        """Add the slide's pixel and the patch to what napari says of the pointer's place, whatever is selected."""
        if self._session() is None:
            return
        text = "  ".join(part for part in (self._pixel_text(), self.pointed_text) if part)
        if not text:
            return
        status = self.session.viewer.status
        place = status.get("coordinates", "") if isinstance(status, dict) else str(status)
        if text in place:
            return
        # Of napari's "[y x]: value" the value is that of one layer's pixel; ours says more.
        said = f"{place.split(']')[0]}]  {text}" if "]" in place else text
        self.session.viewer.status = status | {"coordinates": said} if isinstance(status, dict) else said

    def _on_tooltip(self, event: Any) -> None:
        if self._session() is not None and (text := self.pointed_text):
            lines = as_plain(text.replace(" · ", "\n"))
            if self.session.viewer.tooltip.text != lines:
                self.session.viewer.tooltip.text = lines

    # ---- following the session -------------------------------------------------------------------------------------

    def _on_model(self) -> None:
        if not self.session.jobs.busy:
            self._filling = None  # of a prediction that was stopped, by a model that may be gone

    def _on_threshold(self, threshold: float) -> None:
        map_layers.recolour(self.session.viewer, threshold, self.look)

    def _on_colours(self) -> None:
        map_layers.paint(self.session.viewer, self.look)


def _which(layer: Any) -> tuple[str, int | None]:
    """What a layer shows, whichever slide it is of."""
    noted = layers.about(layer)
    return noted["role"], noted.get("class_index")


def _set(layer: Any, **look: Any) -> None:
    """Set what differs: every change is drawn."""
    for name, value in look.items():
        if getattr(layer, name) != value:
            setattr(layer, name, value)


def _on_move(overlays: Overlays) -> Any:
    """A callback that does not keep the session of a closed window alive."""
    found = weakref.ref(overlays)

    def moved(viewer: Any, event: Any) -> Generator[None, None, None] | None:
        if (alive := found()) is not None:
            alive.point_at(event.position)
        return None

    return moved
