"""Lays the maps of the shown slide over it, layer by layer, so that the window answers in between."""

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.errors import Distill2LabelError
from ..layers import shades
from ..runner.debounce import Debounce
from ..wording import in_the_window
from . import layers, map_layers

if TYPE_CHECKING:
    from ...store.maps.patch_map import PatchMap
    from ..layers.shades import Shades
    from ..session import Session

TURN = 20  # ms of the window's between two layers that are added


class LaidMaps:
    """The part of `Overlays` that adds layers."""

    filled = Signal(str)  # slide id: there is more to see of its prediction
    _apply: Callable[[], None]
    _on_eye: Callable[[Any], None]
    _on_opacity: Callable[[Any], None]

    def __init__(self, session: "Session", negatives: bool = False) -> None:
        self._session = weakref.ref(session)
        self.negatives = negatives
        self._unwanted: set[map_layers.Key] = set()  # layers of the shown slide that the user removed
        self._setting = False  # what layers tell meanwhile is not the user's doing
        self._filling: PatchMap | None = None  # the map whose layers fill in while it is computed
        self._laying: dict[str, Iterator[bool]] = {}  # by model: adds its layers one by one, then True
        self._later = Debounce(self._go_on, TURN)
        self._latest: dict[str, Shades] = {}  # of the shown slide, by model: seen until a newer map has been read

    @property
    def session(self) -> "Session":
        session = self._session()
        if session is None:
            raise RuntimeError("the session of these layers is gone")
        return session

    @property
    def colours(self) -> map_layers.Colours:
        """Colours of the classes by name."""
        return dict(zip(self.session.classes, self.session.colours, strict=True))

    @property
    def look(self) -> map_layers.Look:
        """How labels are coloured."""
        return map_layers.Look(self.colours, self.negatives)

    def lay(self, patch_map: "PatchMap") -> None:
        """Show a map over its slide, if that is shown, at once when it has been read, else as soon as it is."""
        session = self.session
        if session.shown != patch_map.slide_id:
            return
        ready = shades.known(patch_map)
        if ready is not None and (ready.is_complete or not patch_map.is_complete):
            self._lay_out(patch_map)
            return
        key = ("map", patch_map.slide_id, layers.network_of(patch_map))

        def failed(error: Exception) -> None:
            if not isinstance(error, Distill2LabelError):
                raise error
            session.failures[patch_map.slide_id] = in_the_window(str(error))
            session.slides_changed.emit()

        session.reader.request(
            key, lambda: shades.read(patch_map), lambda shown: self._lay_out(patch_map), failed
        )  # fmt: skip

    def lay_all(self, slide_id: str) -> None:
        """Show what was predicted of a slide; of other slides, only what can be read again is kept."""
        self._unwanted.clear()
        self._latest = {network: latest for network, latest in self._latest.items() if latest.slide_id == slide_id}
        for other, maps in self.session.predictions.items():
            for patch_map in maps.values():
                if other != slide_id:
                    shades.forget(patch_map)
        for patch_map in self.session.predictions.get(slide_id, {}).values():
            self.lay(patch_map)
        self._apply()

    def _lay_out(self, patch_map: "PatchMap") -> None:
        session = self.session
        slide = layers.find(session.viewer, layers.SLIDE, patch_map.slide_id)
        if not slide or session.shown != patch_map.slide_id:
            shades.forget(patch_map)  # another slide was shown while this one's map was read
            return
        if tuple(slide[0].data[0].shape[:2]) != patch_map.patches.slide_shape:  # made of another frame, or another file
            session.failures[patch_map.slide_id] = "what was predicted has another size than the slide: predict again"
            session.slides_changed.emit()
            return
        mpp = layers.about(slide[0])["mpp"]
        map_layers.make_room(session.viewer, patch_map, mpp, session.threshold, self.look)
        network = layers.network_of(patch_map)
        self._latest[network] = shades.of(patch_map)
        self._laying[network] = self._layers_of(patch_map)
        self._apply()
        if not self._later.waits:
            self._go_on()
        self.filled.emit(patch_map.slide_id)

    def forget(self) -> None:
        """Another model, or other slides: what was read of the former ones stands for nothing any more."""
        self._latest.clear()
        self._laying.clear()
        self._filling = None

    @property
    def busy(self) -> bool:
        """Are there layers still to be added?"""
        return bool(self._laying)

    def _go_on(self) -> None:
        """Add the next layer; what is left follows when the window has had its turn, without one at once."""
        session = self._session()
        if session is None or session._is_closed:
            self._laying.clear()
            return
        while self._laying:
            network = next(iter(self._laying))
            if next(self._laying[network], True):
                del self._laying[network]
            elif session._has_window:
                self._later.start()
                return

    def _layers_of(self, patch_map: "PatchMap") -> Iterator[bool]:
        """Add the layers of a map that are missing, one at a time: the labels, the user's corrections, the others."""
        while self._add_layer_of(patch_map):
            yield False
            while self.session.review.sync():
                yield False
        while self.session.review.sync():  # other patches may be in the layers that were there
            yield False

    def _add_layer_of(self, patch_map: "PatchMap") -> bool:
        """Was there one to add? Not if another map, or none, is to be shown by now."""
        session = self.session
        slide_id, network = patch_map.slide_id, layers.network_of(patch_map)
        slide = layers.find(session.viewer, layers.SLIDE, slide_id)
        wanted = self._filling, session.predictions.get(slide_id, {}).get(network)
        if not slide or session.shown != slide_id or not any(patch_map is each for each in wanted):
            return False
        self._setting = True  # a new layer's eye is not the user's
        try:
            mpp = layers.about(slide[0])["mpp"]
            added = map_layers.add_next(session.viewer, patch_map, mpp, session.threshold, self.look, self._unwanted)
        finally:
            self._setting = False
        if added is None:
            return False
        added.events.visible.connect(self._on_eye)
        added.events.opacity.connect(self._on_opacity)
        self._apply()
        return True
