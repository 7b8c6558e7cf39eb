"""Lays the maps of the shown slide over it, layer by layer, so that the window answers in between. No Qt.

Patch maps are read in the worker's thread while they are predicted (`with_live_view`), or in the background when a
slide is shown; here they are only laid out.
"""

import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ...core.events import Event, ItemDone, ItemStarted, Progress
from ...store.maps import patch_map_view
from ..messages import reason_of
from ..project.project import Maps, Project, network_of
from ..runner.debounce import Debounce
from ..runner.draining import Work
from ..runner.reader import BackgroundReader
from . import layers, map_layers, ownership
from .layer_watch import LayerWatch

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from ...store.maps.patch_map import PatchMap
    from ...store.maps.patch_map_view import PatchMapView
    from ..runner.jobs import Job

READ_ALONG = 50_000  # patches of a map that is read while its slide is being opened
TURN = 20  # ms of the window's between two layers that are added
FILLING_INTERVAL = 0.5  # s between two looks at a map that is being filled
FILLING_SHARE = 0.05  # of the time that may go into looking
OTHER_SIZE = "what was predicted has another size than the slide: predict again"


class PredictionLayers:
    """The layers of what the networks say of the shown slide.

    Attributes
    ----------
    negatives
        Are negative patches coloured, too?
    removed
        Which kinds of layers the user removed from napari's list, of the slide that is shown.
    sync_others
        Adds the next layer that is no model's but belongs over the prediction. Was there one?
    """

    added = Signal(object)  # Layer: a new one
    laid = Signal()  # the layers that are there have been filled, added or are no longer wanted
    updated = Signal(str)  # slide id: there is more to see of its prediction

    def __init__(
        self,
        viewer: "weakref.ref[ViewerModel]",
        project: Project,
        reader: BackgroundReader,
        watch: LayerWatch,
        has_window: bool,
        negatives: bool,
    ) -> None:
        self._viewer, self._project, self._reader = viewer, project, reader
        self.negatives = negatives
        self.removed: set[map_layers.Key] = set()
        self.sync_others: Callable[[], bool] = lambda: False
        self._filling: PatchMap | None = None  # the map whose layers fill in while it is computed
        self._filled: PatchMapView | None = None  # what of it they show
        self._is_predicting = False
        self._laying: dict[str, Iterator[bool]] = {}  # by network: adds its layers one by one, then True
        self._soon = Debounce(self._go_on, TURN)
        self._has_window = has_window
        self._latest: dict[str, PatchMapView] = {}  # of the shown slide, by network: seen until a newer one is read
        watch.removed.connect(self._on_removed)
        project.events.model.connect(self._on_model)
        project.events.network.connect(self._on_network)
        project.events.shown.connect(self.lay_all)
        project.events.predictions.connect(self._on_predictions)
        project.events.threshold.connect(self._on_threshold)
        project.colours_changed.connect(self.recolour)

    @property
    def style(self) -> map_layers.LayerStyle:
        """How labels are coloured."""
        return map_layers.LayerStyle(self._project.colour_by_class, self.negatives)

    @property
    def busy(self) -> bool:
        """Are there layers still to be added?"""
        return bool(self._laying)

    # ---- the shown slide's map -------------------------------------------------------------------------------------

    @property
    def map(self) -> "PatchMap | None":
        """What the chosen network says of the shown slide, as far as it is filled; None where nothing is laid out."""
        project, filling = self._project, self._filling
        if filling is not None and filling.slide_id == project.shown and network_of(filling) == project.network:
            return filling
        return project.map_of(project.shown)

    @property
    def view(self) -> "PatchMapView | None":
        """Its arrays; while they are being read those of the map before, else None."""
        patch_map = self.map
        if patch_map is None:
            return None
        found = patch_map_view.known(patch_map) or self._latest.get(network_of(patch_map))
        return found if found is not None and found.slide_id == self._project.shown else None

    # ---- laying out ------------------------------------------------------------------------------------------------

    def lay(self, patch_map: "PatchMap") -> None:
        """Show a map over its slide, if that is shown, at once when it has been read, else as soon as it is."""
        if self._project.shown != patch_map.slide_id:
            return
        ready = patch_map_view.known(patch_map)
        if ready is not None and (ready.is_complete or not patch_map.is_complete):
            self._lay_out(patch_map)
            return

        def failed(error: Exception) -> None:
            self._project.fail(patch_map.slide_id, reason_of(error))

        key = ("map", patch_map.slide_id, network_of(patch_map))
        self._reader.request(
            key, lambda: patch_map_view.read(patch_map), lambda shown: self._lay_out(patch_map), failed
        )

    def read_small(self, slide_id: str) -> None:
        """Read the finished maps of a slide that is about to be shown, in any thread; not large ones, which take long.

        What cannot be read says so when it is laid out.
        """
        with suppress(Distill2LabelError, OSError):
            for patch_map in self._project.predictions.get(slide_id, {}).values():
                if patch_map.is_complete and math.prod(patch_map.patches.shape) <= READ_ALONG:
                    patch_map_view.read(patch_map)

    def lay_all(self) -> None:
        """Show what was predicted of the shown slide; of other slides, only what can be read again is kept."""
        shown = self._project.shown
        if shown is None:
            return
        self.removed.clear()
        self._latest = {network: latest for network, latest in self._latest.items() if latest.slide_id == shown}
        for slide_id, maps in self._project.predictions.items():
            for patch_map in maps.values():
                self.lay(patch_map) if slide_id == shown else patch_map_view.forget(patch_map)
        self.laid.emit()

    def bring_back(self, keys: "set[map_layers.Key]") -> None:
        """Add layers that the user had removed from napari's list."""
        self.removed -= keys
        for patch_map in self._project.predictions.get(self._project.shown or "", {}).values():
            self.lay(patch_map)

    def recolour(self) -> None:
        """Give the classes other colours, wherever a model's labels are shown."""
        if (viewer := self._viewer()) is not None:
            map_layers.recolour(viewer, self.style)

    def _lay_out(self, patch_map: "PatchMap") -> None:
        viewer, project = self._viewer(), self._project
        slide = ownership.find(viewer, ownership.SLIDE, patch_map.slide_id) if viewer is not None else []
        if not slide or project.shown != patch_map.slide_id:
            patch_map_view.forget(patch_map)  # another slide was shown while this one's map was read
            return
        if tuple(slide[0].data[0].shape[:2]) != patch_map.patches.slide_shape:  # made of another frame, or another file
            project.fail(patch_map.slide_id, OTHER_SIZE)
            return
        mpp = ownership.tags_of(slide[0])["mpp"]
        map_layers.replace_or_clear(viewer, patch_map, mpp, project.threshold, self.style)
        network = network_of(patch_map)
        self._latest[network] = patch_map_view.of(patch_map)
        self._laying[network] = self._layers_of(patch_map)
        self.laid.emit()
        if self._has_window and network != project.network:
            self._soon.start()  # after what is seen
        elif not self._soon.waits:
            self._go_on()
        self.updated.emit(patch_map.slide_id)

    def _go_on(self) -> None:
        """Add the next layers; what is left follows when the window has had its turn, without one at once."""
        viewer = self._viewer()
        if viewer is None or not layers.is_open(viewer):
            self._laying.clear()
            return
        with layers.in_one_go(viewer):
            while self._laying:
                count = len(viewer.layers)
                network = self._project.network if self._project.network in self._laying else next(iter(self._laying))
                is_done = next(self._laying[network], True)
                if is_done:
                    del self._laying[network]
                # A new layer takes napari long, and one that was another slide's does not. Next are hidden ones.
                if self._has_window and self._laying and (is_done or len(viewer.layers) > count):
                    self._soon.start()
                    return

    def _layers_of(self, patch_map: "PatchMap") -> Iterator[bool]:
        """Add the layers of a map that are missing, one at a time: the labels, the user's corrections, the others."""
        while self._add_layer_of(patch_map):
            yield False
            while self.sync_others():
                yield False
        while self.sync_others():  # other patches may be in the layers that were there
            yield False

    def _add_layer_of(self, patch_map: "PatchMap") -> bool:
        """Was there one to add? Not if another map, or none, is to be shown by now."""
        viewer, project, slide_id = self._viewer(), self._project, patch_map.slide_id
        slide = ownership.find(viewer, ownership.SLIDE, slide_id)
        wanted = self._filling, project.predictions.get(slide_id, {}).get(network_of(patch_map))
        if not slide or project.shown != slide_id or not any(patch_map is each for each in wanted):
            return False
        mpp = ownership.tags_of(slide[0])["mpp"]
        added = map_layers.add_next(viewer, patch_map, mpp, project.threshold, self.style, self.removed)
        if added is None:
            return False
        self.added.emit(added)
        self.laid.emit()
        return True

    # ---- following the project -------------------------------------------------------------------------------------

    def _on_predictions(self, now: Mapping[str, Maps], before: Mapping[str, Maps]) -> None:
        shown, viewer = self._project.shown or "", self._viewer()
        maps, former = now.get(shown, {}), before.get(shown, {})
        if viewer is not None and (gone := former.keys() - maps.keys()):
            there = ownership.find(viewer, slide_id=shown)
            layers.remove(viewer, [layer for layer in there if ownership.tags_of(layer).get("model") in gone])
        for network, patch_map in maps.items():
            if patch_map is not former.get(network):
                self.lay(patch_map)

    def _on_model(self) -> None:
        """What another model predicted would pass for this one's."""
        self._latest.clear()
        self._laying.clear()
        self._filling = None
        if (viewer := self._viewer()) is not None:
            layers.remove(viewer, [layer for role in layers.PREDICTED for layer in ownership.find(viewer, role)])

    def _on_network(self) -> None:
        if not self._is_predicting:
            self._filling = None  # of a prediction that was stopped
        self.lay_all()

    def _on_threshold(self, threshold: float) -> None:
        if (viewer := self._viewer()) is not None:
            map_layers.update_threshold(viewer, threshold, self.style)

    def _on_removed(self, layer: "Layer", by_user: bool) -> None:
        """What the user removed from napari's list stays away while this slide is shown."""
        noted = ownership.tags_of(layer)
        if by_user and noted["role"] in layers.PREDICTED and noted["slide_id"] == self._project.shown:
            self.removed.add(map_layers.key_of(layer))

    # ---- filling in ------------------------------------------------------------------------------------------------

    def with_live_view(self, work: Work) -> Work:
        """The same work; what the window will show of its maps is read in the thread that fills them."""
        shown_map: PatchMap | None = None
        next_look = 0.0
        try:
            while True:
                event = next(work)
                if isinstance(event, ItemStarted):
                    shown_map = event.result if self._is_shown(event.result) else None
                    if shown_map is not None:
                        patch_map_view.read(shown_map)
                elif isinstance(event, ItemDone):
                    if self._is_shown(event.result):
                        patch_map_view.read(event.result)
                    shown_map = None
                elif isinstance(event, Progress) and shown_map is not None and time.monotonic() > next_look:
                    began = time.monotonic()
                    patch_map_view.read(shown_map)
                    took = time.monotonic() - began
                    next_look = time.monotonic() + max(FILLING_INTERVAL, took / FILLING_SHARE)
                yield event
        except StopIteration as stop:
            return stop.value
        finally:
            work.close()

    def _is_shown(self, patch_map: object) -> bool:
        shown = self._project.shown
        return patch_map is not None and shown is not None and shown == getattr(patch_map, "slide_id", None)

    def take_event(self, job: "Job", event: Event) -> None:
        """Follow a prediction: its layers appear when a slide is begun, and fill in."""
        if isinstance(event, ItemStarted):
            self.removed.clear()  # who predicts wants to see it
            is_read = patch_map_view.known(event.result) is not None
            self._filling = event.result if is_read and self._project.own([event.result]) else None
            self._filled = None
        elif isinstance(event, ItemDone):
            self._filling = None
        if self._filling is not None and patch_map_view.known(self._filling) is not self._filled:
            self._filled = patch_map_view.known(self._filling)
            self._lay_out(self._filling)

    def take_job(self, job: "Job") -> None:
        """A prediction that was stopped in the middle of a slide leaves the one before, where there is one."""
        if job.kind != "predict":
            return
        self._is_predicting = job.is_running
        if not job.is_running and self._filling is not None:
            slide_id, network = self._filling.slide_id, network_of(self._filling)
            former = self._project.predictions.get(slide_id, {}).get(network)
            if former is not None:
                self._filling = None
                self.lay(former)
