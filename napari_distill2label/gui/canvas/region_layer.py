"""The regions of the shown slide as a layer of shapes to draw in: a view of `project.drawn_regions`. No Qt."""

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import CohortError
from ..project.drawn_regions import SAYS, DrawnRegion, DrawnRegions, Regions
from ..project.project import Project
from . import layers, ownership
from .layers import REGIONS
from .own_hand import OwnHand

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

# By what is said: blue, orange and vermillion of Okabe and Ito, which differ for the colour-blind too.
COLOURS = dict(zip(SAYS, ("#56b4e9", "#e69f00", "#d55e00"), strict=True))
EDGE = 0.004  # of the slide's longer side
DRAWN = ("ellipse", "polygon", "rectangle")  # shapes that cover something; lines and paths do not
POINTS_OF_ELLIPSE = 48


class RegionLayer:
    """Shows the regions of the shown slide, if there are some or one is to be drawn, and takes what is drawn.

    Attributes
    ----------
    label
        What the next region says.
    """

    def __init__(self, viewer: "weakref.ref[ViewerModel]", project: Project, regions: DrawnRegions) -> None:
        self._viewer, self._project, self._regions = viewer, project, regions
        self.label = SAYS[0]
        self._own_hand = OwnHand()
        project.events.shown.connect(self._on_shown)
        regions.changed.connect(self._on_regions)

    @property
    def layer(self) -> "Layer | None":
        """The layer of the slide that is shown."""
        viewer, shown = self._viewer(), self._project.shown
        found = ownership.find(viewer, REGIONS, shown) if viewer is not None and shown else []
        return found[0] if found else None

    @property
    def mode(self) -> str:
        """What the pointer does: napari's name of it; "" without a layer."""
        layer = self.layer
        return "" if layer is None else str(layer.mode)

    def draw(self, label: str, polygon: bool = False) -> None:
        """Let the pointer draw regions that say this; those that are selected say it from now on."""
        layer, viewer = self._added(), self._viewer()
        if layer is None or viewer is None:
            raise CohortError("no slide is shown: select one first")
        self.label = label
        viewer.layers.selection = {layer}
        if layer.mode in ("select", "direct") and layer.selected_data:
            said = list(layer.features["label"])
            for index in layer.selected_data:
                said[index] = label
            self._say(layer, said)
            self._take(layer)
            return
        with self._own_hand:
            layer.feature_defaults["label"] = label
            layer.current_edge_color = colour_of(label)
        layer.mode = "add_polygon" if polygon else "add_rectangle"

    def stop(self) -> None:
        """The pointer moves the slide again."""
        if (layer := self.layer) is not None:
            layer.mode = "pan_zoom"

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _on_shown(self) -> None:
        if self._regions.by_slide.get(self._project.shown or ""):
            self._added()

    def _on_regions(self, slide_id: str | None) -> None:
        """Other regions were read; what is drawn is in the layer already."""
        if self._own_hand or slide_id not in (None, self._project.shown):
            return
        layer, viewer = self.layer, self._viewer()
        if layer is None or viewer is None:
            self._on_shown()
            return
        mode, was_active = self.mode, viewer.layers.selection.active is layer
        layers.remove(viewer, [layer])
        if not was_active:
            self._on_shown()
        elif (made := self._added()) is not None:  # an undo: whoever draws goes on drawing
            viewer.layers.selection = {made}
            made.mode = mode

    def _added(self) -> "Layer | None":
        """Return the layer of the shown slide, added if it is not there."""
        viewer, slide_id = self._viewer(), self._project.shown
        slide = ownership.find(viewer, ownership.SLIDE, slide_id) if viewer is not None and slide_id else []
        if viewer is None or not slide or slide_id is None:
            return None
        if (there := self.layer) is not None:
            return there
        regions = self._regions.by_slide.get(slide_id, ())
        mpp = ownership.tags_of(slide[0])["mpp"]
        said = [region.label for region in regions]
        meta = {
            "name": f"{slide_id} · regions (yours)",
            "scale": mpp or (1.0, 1.0),
            "ndim": 2,
            "shape_type": "polygon",
            "face_color": "transparent",
            "edge_width": max(1.0, EDGE * max(slide[0].level_shapes[0][:2])),
            "opacity": 1.0,
            "features": {"label": np.array(said, dtype=object)},
            "feature_defaults": {"label": self.label},
            "text": {"string": "{label}", "size": 9, "color": "black", "anchor": "upper_left"},
            "metadata": {ownership.KEY: {"role": REGIONS, "slide_id": slide_id}},
            **layers.units(mpp),
        }
        with self._own_hand, layers.selection_kept(viewer):
            layer = layers.add(viewer, ([region.outline for region in regions], meta, "shapes"))
            self._say(layer, said)
        layer.events.data.connect(self._on_data)
        layer.events.features.connect(self._on_data)
        return layer

    def _say(self, layer: "Layer", said: list[str]) -> None:
        """Set what each shape says, and its colour."""
        with self._own_hand:
            layer.features = {"label": np.array(said, dtype=object)}
            if said:
                layer.edge_color = [colour_of(label) for label in said]
            layer.current_edge_color = colour_of(self.label)

    def _on_data(self, event: Any) -> None:
        if not self._own_hand and str(getattr(event, "action", "changed")).lower().endswith("ed"):
            self._take(event.source)

    def _take(self, layer: "Layer") -> None:
        """What is drawn now are the regions of the slide."""
        slide_id = ownership.tags_of(layer).get("slide_id", "")
        if layer is not self.layer:
            return
        former, drawn = self._regions.by_slide.get(slide_id, ()), drawn_in(layer)
        with self._own_hand:
            if self._regions.set(slide_id, drawn):
                self._project.history.push(
                    f"draw regions on {slide_id}",
                    partial(self._regions.set, slide_id, former),
                    partial(self._regions.set, slide_id, drawn),
                )


def drawn_in(layer: "Layer") -> Regions:
    """Return the shapes of a layer that cover something, with their labels."""
    found = []
    for outline, kind, label in zip(layer.data, layer.shape_type, layer.features["label"], strict=True):
        outline = np.asarray(outline, float)[:, -2:]
        if kind in DRAWN and len(outline) > 2:
            found.append(DrawnRegion(_round(outline) if kind == "ellipse" else outline, str(label)))
    return tuple(found)


def _round(corners: np.ndarray) -> np.ndarray:
    """Return the outline of an ellipse in a box with these four corners."""
    angle = np.linspace(0, 2 * np.pi, POINTS_OF_ELLIPSE, endpoint=False)[:, None]
    across, down = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
    outline: np.ndarray = corners.mean(0) + np.cos(angle) * across + np.sin(angle) * down
    return outline


def colour_of(label: str) -> str:
    """Return the colour of what a region says."""
    return COLOURS.get(label.split(":")[-1].strip(), COLOURS[SAYS[1]])
