"""How what is laid over the shown slide is seen: which layers, how strongly, and what the pointer is on. No Qt."""

import weakref
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.classes import RGB, colours_of
from ...core.errors import SettingsError
from ..plain_text import as_plain
from ..project.corrections import Corrections
from ..project.project import Project
from . import layers, ownership
from .layers import ATTENTION, CONTRIBUTION, LABELS, POINTS, PREDICTED, PROBABILITY
from .own_hand import OwnHand
from .prediction_layers import PredictionLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...store.maps.patch_map import PatchMap
    from ...store.maps.patch_map_view import Cell, PatchMapView

BLIND = "what the model says is hidden while you label the sample"
KINDS = (LABELS, PROBABILITY, ATTENTION, CONTRIBUTION)


def kind_of(role: str) -> str:
    """Labels are labels, on a grid or at points."""
    return LABELS if role == POINTS else role


class Display:
    """What a person sees of the layers over the shown slide.

    Attributes
    ----------
    opacity
        Of all of them, 0–1.
    hidden
        Are they taken out of sight for a moment, to see the tissue?
    visible
        Which of `KINDS` are seen, when not hidden. It stays from slide to slide.
    blind
        Is what the model says hidden, as long as a person is to label patches without it?
    hovered
        (slide id, cell) under the pointer; None where there is no patch.
    """

    changed = Signal()  # what is seen, and how strongly
    hovered_changed = Signal()

    def __init__(
        self,
        viewer: "ViewerModel",
        project: Project,
        corrections: Corrections,
        predictions: PredictionLayers,
        remember: Callable[..., None],
    ) -> None:
        self._viewer, self._project = weakref.ref(viewer), project
        self._corrections, self._predictions, self._remember = corrections, predictions, remember
        self.opacity, self.hidden, self.blind = project.preferences().opacity, False, False
        self.visible = {kind: kind == LABELS for kind in KINDS}
        self._hidden_by_user: set[tuple[str, int | None]] = set()  # single layers, in napari's list
        self._own_hand = OwnHand()
        self.hovered: tuple[str, Cell] | None = None
        self._point: tuple[float, float] | None = None  # (y, x) under the pointer, in level-0 px
        viewer.mouse_move_callbacks.append(_on_move(self))
        viewer.events.mouse_over_canvas.connect(self._on_canvas)
        # After napari's own listeners: what they show last is what stays.
        viewer.events.status.connect(self._on_status, position="last")
        viewer.tooltip.events.text.connect(self._on_tooltip, position="last")
        predictions.added.connect(self._follow)
        predictions.laid.connect(self.apply)

    @property
    def negatives(self) -> bool:
        """Are negative patches coloured, too?"""
        return self._predictions.negatives

    @property
    def map(self) -> "PatchMap | None":
        """What the chosen network says of the shown slide, as far as it is filled; None where nothing is laid out."""
        return self._predictions.map

    @property
    def view(self) -> "PatchMapView | None":
        """Its arrays; while they are being read those of the map before, else None."""
        return self._predictions.view

    @property
    def busy(self) -> bool:
        """Are there layers still to be added?"""
        return self._predictions.busy

    @property
    def updated(self) -> Any:
        """Signal with a slide id: there is more to see of its prediction."""
        return self._predictions.updated

    def colours_of(self, classes: Sequence[str]) -> dict[str, RGB]:
        """Colours of a model's classes, which may be others than the project's by now."""
        return dict(zip(classes, colours_of(classes, self._project.colour_by_class), strict=True))

    # ---- what is seen ----------------------------------------------------------------------------------------------

    def set_visible(self, kind: str, visible: bool) -> None:
        """Show or hide labels, probability, attention or contribution, here and on the slides shown later."""
        if kind not in KINDS:
            raise SettingsError(f"there is no layer {kind!r}: there are {', '.join(KINDS)}")
        self.visible[kind] = bool(visible)
        if visible and (away := {key for key in self._predictions.removed if kind_of(key[0]) == kind}):
            self._predictions.bring_back(away)
        self._hidden_by_user = {one for one in self._hidden_by_user if kind_of(one[0]) != kind}
        self.hidden, self.blind = self.hidden and not visible, self.blind and not visible
        self.apply()

    def set_opacity(self, opacity: float) -> None:
        """Of all overlays, 0 (see-through) to 1."""
        if not 0 <= opacity <= 1:
            raise SettingsError(f"opacity is between 0 and 1, not {opacity:g}")
        self.opacity = float(opacity)
        self.apply()

    def set_negatives(self, coloured: bool) -> None:
        """Colour negative patches, too, or findings alone; in the windows to come as well."""
        if coloured != self.negatives:
            self._predictions.negatives = bool(coloured)
            self._remember(colour_negatives=self.negatives)
            self._predictions.recolour()
            self.changed.emit()

    def toggle_overlays(self) -> None:
        """Take everything that covers the tissue out of sight, and back with the next call."""
        self.hidden = not self.hidden
        self.apply()

    def set_blind(self, blind: bool) -> None:
        """Hide what the model says, or show it again; the frame and corrections stay."""
        if blind != self.blind:
            self.blind = blind
            self.apply()
            self.hovered_changed.emit()

    def apply(self) -> None:
        """Make the layers that are there look as they should."""
        viewer, project = self._viewer(), self._project
        if viewer is None:
            return
        with self._own_hand:
            for layer in ownership.find(viewer, slide_id=project.shown or ""):
                noted = ownership.tags_of(layer)
                if noted["role"] in PREDICTED:
                    mine = noted["model"] == project.network and self.visible[kind_of(noted["role"])]
                    seen = mine and _which(layer) not in self._hidden_by_user
                    _set(layer, visible=seen and not self.hidden and not self.blind, opacity=self.opacity)
                elif noted["role"] in (layers.CORRECTIONS, layers.FRAME):  # outlines are linked to corrections
                    _set(layer, visible=_which(layer) not in self._hidden_by_user and not self.hidden)
        self.changed.emit()

    def _on_eye(self, event: Any) -> None:
        """The user clicked the eye of a layer in napari's list: keep to it."""
        viewer, project = self._viewer(), self._project
        if viewer is None or self._own_hand:
            return
        noted = ownership.tags_of(event.source)
        role = noted.get("role")
        if role == layers.CORRECTIONS:
            alike = [event.source]
        elif role in PREDICTED and noted["model"] == project.network:
            alike = ownership.find(viewer, role, noted["slide_id"], model=noted["model"])
            self.visible[kind_of(role)] = any(layer.visible for layer in alike)
        else:
            return
        # Of several classes one may be shut; a kind of which all are is not seen at all.
        self._hidden_by_user = {one for one in self._hidden_by_user if one[0] != role}
        if role == layers.CORRECTIONS or self.visible[kind_of(role)]:
            self._hidden_by_user |= {_which(layer) for layer in alike if not layer.visible}
        if event.source.visible:
            self.hidden = self.blind = False
        self.changed.emit()

    def _follow(self, layer: "Layer") -> None:
        layer.events.visible.connect(self._on_eye)
        layer.events.opacity.connect(self._on_opacity)

    def follow_eye(self, corrections: "Layer") -> None:
        """A new layer of corrections is seen unless the user shut the one before."""
        with self._own_hand:
            _set(corrections, visible=_which(corrections) not in self._hidden_by_user and not self.hidden)
        corrections.events.visible.connect(self._on_eye)

    def _on_opacity(self, event: Any) -> None:
        """The user moved napari's own slider: keep to it, for all that is laid over the slide."""
        if not self._own_hand:
            self.set_opacity(event.source.opacity)

    # ---- the pointer -----------------------------------------------------------------------------------------------

    def point_at(self, world: Any) -> None:
        """The pointer is at a place of the world (None: away)."""
        viewer, project, shown = self._viewer(), self._project, self.view
        at = None if world is None or viewer is None else world
        point = None if at is None else layers.level0_point(viewer, project.shown or "", at)
        self._point = None if point is None else (float(point[0]), float(point[1]))
        cell = None if point is None or shown is None else shown.cell_at(point)
        hovered = None if cell is None or project.shown is None else (project.shown, cell)
        if hovered != self.hovered:
            self.hovered = hovered
            self.hovered_changed.emit()

    def _on_canvas(self, event: Any) -> None:
        if not event.value:
            self.point_at(None)  # a key must not correct the patch that was left last

    @property
    def hovered_text(self) -> str:
        """What is known of the patch under the pointer, in words; "" where there is none."""
        return "" if self.hovered is None else self.text_of(*self.hovered)

    def text_of(self, slide_id: str, cell: "Cell") -> str:
        """What is known of a patch of the shown slide, in words."""
        project, shown = self._project, self.view
        if shown is None or slide_id != project.shown:
            return ""
        if self.blind:
            return BLIND
        info = shown.patch_info(cell, project.threshold)
        text = "not scored" if info is None else str(info)
        corrected = self._corrections.correction_at(slide_id, cell)
        return text if corrected is None else f"{text} · corrected: {corrected}"

    def _pixel_text(self) -> str:
        """The slide's own pixel under the pointer, where napari counts in µm; "" beside the slide."""
        slide = ownership.find(self._viewer(), ownership.SLIDE, self._project.shown or "")
        if self._point is None or not slide or ownership.tags_of(slide[0])["mpp"] is None:
            return ""
        height, width = slide[0].level_shapes[0][:2]
        y, x = (round(value) for value in self._point)
        return f"y {y}, x {x} px" if 0 <= y < height and 0 <= x < width else ""

    def _on_status(self, event: Any) -> None:
        """Add the slide's pixel and the patch to what napari says of the pointer's place, whatever is selected."""
        viewer = self._viewer()
        if viewer is None:
            return
        text = "  ".join(part for part in (self._pixel_text(), self.hovered_text) if part)
        if not text:
            return
        status = viewer.status
        place = status.get("coordinates", "") if isinstance(status, dict) else str(status)
        if text in place:
            return
        # Of napari's "[y x]: value" the value is that of one layer's pixel; ours says more.
        said = f"{place.split(']')[0]}]  {text}" if "]" in place else text
        viewer.status = status | {"coordinates": said} if isinstance(status, dict) else said

    def _on_tooltip(self, event: Any) -> None:
        viewer = self._viewer()
        if viewer is not None and (text := self.hovered_text):
            lines = as_plain(text.replace(" · ", "\n"))
            if viewer.tooltip.text != lines:
                viewer.tooltip.text = lines


def _which(layer: Any) -> tuple[str, int | None]:
    """What a layer shows, whichever slide it is of."""
    noted = ownership.tags_of(layer)
    return noted["role"], noted.get("class_index")


def _set(layer: Any, **look: Any) -> None:
    """Set what differs: every change is drawn."""
    for name, value in look.items():
        if getattr(layer, name) != value:
            setattr(layer, name, value)


def _on_move(display: Display) -> Any:
    """A callback that does not keep the session of a closed window alive."""
    found = weakref.ref(display)

    def moved(viewer: Any, event: Any) -> Generator[None, None, None] | None:
        if (alive := found()) is not None:
            alive.point_at(event.position)
        return None

    return moved
