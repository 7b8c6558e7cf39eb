"""The tissue mask of the shown slide as a layer to paint in: a view of its file (`project.tissue`)."""

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import CohortError
from ...slides.tissue_mask import TissueMask
from ..project.project import Project
from ..project.tissue import Tissue
from . import layers, ownership
from .layers import TISSUE

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

COLOUR = (0.0, 0.62, 0.45, 1.0)  # bluish green, as the regions have in QuPath
OPACITY = 0.9
LINES = 300  # an outline is this fraction of the mask: seen whole, the stain below it stays as it is


class TissueLayer:
    """Shows and hides the mask of the slide that is shown, while `project.tissue` says that it is wanted."""

    def __init__(self, viewer: "weakref.ref[ViewerModel]", project: Project, tissue: Tissue) -> None:
        self._viewer, self._project, self._tissue = viewer, project, tissue
        self._shown: dict[str, TissueMask] = {}  # the masks behind the layers there are
        tissue.found.connect(self._add_layer)
        project.cohort_opened.connect(self._forget)
        project.events.shown.connect(self._follow_shown)

    @property
    def layer(self) -> "Layer | None":
        """The mask's layer of the slide that is shown."""
        viewer, shown = self._viewer(), self._project.shown
        found = ownership.find(viewer, TISSUE, shown) if viewer is not None and shown else []
        return found[0] if found else None

    def show(self) -> None:
        """Show the mask of the slide that is shown; it is found first if there is none."""
        slide_id, viewer = self._project.shown, self._viewer()
        if slide_id is None or viewer is None:
            raise CohortError("no slide is shown: select one first")
        self._tissue.wanted = True
        if slide_id not in self._tissue.masked:
            self._tissue.find(slide_id)
        elif self.layer is None and (slide := ownership.find(viewer, ownership.SLIDE, slide_id)):
            height, width = (int(size) for size in slide[0].data[0].shape[:2])
            self._tissue.read(slide_id, (height, width))

    def hide(self) -> None:
        """Take the layer away; the mask stays."""
        self._tissue.wanted = False
        self._tissue.flush()
        if (layer := self.layer) is not None:
            layers.remove(self._viewer(), [layer])
        self._tissue.changed.emit()

    def fraction(self) -> float | None:
        """Of the slide that is shown, how much is tissue, 0 to 1; None where no mask is shown."""
        mask = self._shown.get(self._project.shown or "")
        return None if mask is None or self.layer is None else mask.fraction

    def take_painted(self, layer: "Layer") -> None:
        """A layer was painted on: what is there now is the mask."""
        slide_id = ownership.tags_of(layer).get("slide_id", "")
        mask, own = self._shown.get(slide_id), self.layer
        if mask is None or own is None or layer is not own:
            return
        drawn = np.asarray(layer.data) != 0
        if not np.array_equal(drawn, mask.mask):
            self._shown[slide_id] = mask.with_mask(drawn)
            self._tissue.paint(slide_id, self._shown[slide_id])

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _add_layer(self, slide_id: str, mask: TissueMask) -> None:
        viewer = self._viewer()
        if viewer is None or self._project.shown != slide_id or not self._tissue.wanted:
            return
        slide = ownership.find(viewer, ownership.SLIDE, slide_id)
        if not slide:
            return
        self._shown[slide_id] = mask
        if (layer := self.layer) is not None:  # found again: the same place, other contents
            layer.data = mask.mask.astype(np.uint8)
        else:
            layer = layers.add(viewer, mask_layer(mask, slide_id, ownership.tags_of(slide[0])["mpp"]))
            layer.selected_label, layer.contour = 1, max(1, round(max(mask.mask.shape) / LINES))
            for event in (layer.events.paint, layer.events.labels_update, layer.events.set_data):  # the last: undo
                event.connect(self._on_paint)
            viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(slide[0]) + 1)
        self._tissue.changed.emit()

    def _on_paint(self, event: Any) -> None:
        self.take_painted(event.source)

    def _follow_shown(self) -> None:
        if self._tissue.wanted and self._project.shown in self._tissue.masked:
            self.show()

    def _forget(self) -> None:
        self._shown = {}


def mask_layer(mask: TissueMask, slide_id: str, mpp: Any) -> layers.LayerData:
    """A mask as a labels layer that can be painted on: 1 is tissue. It lies to the pixel on the slide."""
    from napari.utils import DirectLabelColormap

    scale, translate = mask.placement(mpp)
    meta = {
        "name": f"{slide_id} · tissue",
        "scale": scale,
        "translate": translate,
        "opacity": OPACITY,
        "colormap": DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", 1: COLOUR}),
        "features": {"index": [0, 1], "class": ["no tissue", "tissue"]},
        "metadata": {ownership.KEY: {"role": TISSUE, "slide_id": slide_id, "downsample": mask.downsample}},
        **layers.units(mpp),
    }
    return mask.mask.astype(np.uint8), meta, "labels"
