"""What is on napari's canvas: its parts, made in the order in which they follow the project. No Qt."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..project.corrections import Corrections
from ..project.drawn_regions import DrawnRegions
from ..project.project import Project
from ..project.tissue import Tissue
from ..runner.reader import BackgroundReader
from . import canvas_input
from .correction_layers import CorrectionLayers
from .display import Display
from .layer_watch import LayerWatch
from .prediction_layers import PredictionLayers
from .region_layer import RegionLayer
from .slide_view import SlideView
from .tissue_layer import TissueLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel


class Canvas:
    """The layers of one viewer. It does not keep the viewer alive.

    Attributes
    ----------
    slide_view
        Opens slides and shows one.
    predictions, display
        What the networks say of it as layers, and how these are seen.
    corrections
        What the user says of its patches, and the framed patch.
    tissue, regions
        The mask of its tissue, and the regions of which the user says something.
    """

    def __init__(
        self,
        viewer: "ViewerModel",
        project: Project,
        corrections: Corrections,
        tissue: Tissue,
        regions: DrawnRegions,
        reader: BackgroundReader,
        remember: Callable[..., None],
    ) -> None:
        """`remember` keeps preferences that are changed here, for windows to come."""
        found, has_window = weakref.ref(viewer), hasattr(viewer, "window")
        watch = LayerWatch(viewer)
        self.slide_view = SlideView(found, project, reader, watch, has_window)
        negatives = project.preferences().colour_negatives
        self.predictions = PredictionLayers(found, project, reader, watch, has_window, negatives)
        self.display = Display(viewer, project, corrections, self.predictions, remember)
        self.corrections = CorrectionLayers(found, project, corrections, self.predictions, self.display)
        self.tissue = TissueLayer(found, project, tissue)
        self.regions = RegionLayer(found, project, regions)
        self.predictions.sync_others = self.corrections.sync
        self.slide_view.read_along = self.predictions.read_small
        self.slide_view.is_adding = lambda: self.predictions.busy
        self.slide_view.settled.connect(self.predictions.lay_all)
        canvas_input.listen(viewer, self.corrections.choose_at)
        self._watch = watch
