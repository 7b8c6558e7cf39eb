"""Which slide is on the canvas: opened beside the window, shown, and taken away again. Mixed into `Session`. No Qt."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.errors import Distill2LabelError
from ...store.cohort import CohortSlide
from ..jobs.background import Background
from ..jobs.relay import plain_reason
from ..layers import layers, ownership
from ..layers.overlays import Overlays
from ..wording import in_the_window
from .opening import opened_slide
from .slide_list import SlideList

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from ...slides.slide import Slide

Value = TypeVar("Value")


class Showing(SlideList):
    """One slide of the list on the canvas at a time. The state it works on is `Session`'s."""

    viewer: "ViewerModel"
    background: Background
    overlays: Overlays
    shown: str | None
    showing: str | None
    failures: dict[str, str]
    shown_changed: Any
    message_over: Any
    telling_of_slide = False  # is what `message` tells of the slide that was asked for?
    _has_window: bool
    _in_between: bool
    _viewer: "Callable[[], ViewerModel | None]"
    _open: "dict[str, Slide]"

    def show(self, slide_id: str, again: bool = False, *, wait: bool = True) -> None:
        """Show a slide and what was predicted of it, in place of the one before. Layers that are not ours stay.

        Its file is opened beside the window, which stays alive: of several slides that are asked for meanwhile
        (`showing`), the last is shown. `SlideError` says why one cannot be read; with `wait` False this returns at
        once, and that is told (`message`).
        """
        row = self._row(slide_id)
        present = layers.find(self.viewer, layers.SLIDE, slide_id)
        self.background.forget("show")
        if present and not again:
            self.showing = None
            if self.shown != slide_id:
                self._put_on_screen(slide_id)
            return
        self.showing = slide_id
        open_it, got = partial(opened_slide, row.path, row.mpp), partial(self._open_slide, row)
        if not wait and self._has_window:
            self.background.ask("show", open_it, got, partial(self._not_shown, row), urgent=True)
            return
        try:
            slide = self._reading(open_it)
        except Distill2LabelError as error:
            self._not_shown(row, error, told=not wait)
            raise
        got(slide)

    def _open_slide(self, row: CohortSlide, slide: "Slide") -> None:
        """The file is open: lay it on the canvas, unless it is no longer what is wanted."""
        slide_id = row.slide_id
        now = next((each for each in self.cohort if each.slide_id == slide_id), None)
        if self.showing != slide_id or now is None or (now.path, now.mpp) != (row.path, row.mpp) or self._is_closed:
            slide.close()
            return
        self.showing = None
        self._say_of_slide(*(f"{slide_id}: {notice}" for notice in slide.notices))
        layers.remove(self.viewer, layers.find(self.viewer))  # first: napari warns of layers in µm beside some in px
        self._open[slide_id] = slide
        self.failures.pop(slide_id, None)
        layers.add_slide(self.viewer, slide, slide_id, now.label)
        self._put_on_screen(slide_id)

    def _not_shown(self, row: CohortSlide, error: Exception, told: bool = True) -> None:
        if self.showing == row.slide_id:
            self.showing = None
        self.failures[row.slide_id] = in_the_window(str(error))
        self.slides_changed.emit()
        if told:
            known = isinstance(error, Distill2LabelError)
            self._say_of_slide(str(error) if known else f"{row.slide_id}: {plain_reason(error)}")

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
        viewer = self.viewer
        layers.remove(viewer, [layer for layer in layers.find(viewer) if layers.about(layer)["slide_id"] != slide_id])
        self.shown = slide_id
        self.overlays.lay_all(slide_id)
        viewer.reset_view()
        self.slides_changed.emit()
        self.shown_changed.emit()

    def _reading(self, read: Callable[[], Value]) -> Value:
        return read() if self._in_between else self.background.fetch(read)

    def _at_once(self, act: Callable[[], Value]) -> Value:
        """Inside an event of napari nothing else may happen meanwhile: what looks at files here looks at one name."""
        self._in_between = True
        try:
            return act()
        finally:
            self._in_between = False

    def _on_layer_inserted(self, event: Any) -> None:
        self._adopt(event.value)

    def _adopt(self, layer: Any) -> None:
        """A slide opened by napari itself (our reader, our sample data) joins the list."""
        layers.adopt(self.viewer, layer)
        noted = layers.about(layer)
        if noted.get("role") != layers.SLIDE or any(layers.same_file(noted, row.path) for row in self.cohort):
            return
        label = noted.get("label") if noted.get("label") in self.classes else None
        if self._at_once(lambda: self.add_slides([noted["path"]], label)):
            self.shown = noted["slide_id"]
            self.shown_changed.emit()

    def _on_layer_removed(self, event: Any) -> None:
        noted = layers.about(event.value)
        viewer = self._viewer()
        if viewer is None or noted.get("role") != layers.SLIDE:
            return
        slide_id = noted["slide_id"]
        if layers.find(viewer, layers.SLIDE, slide_id):
            return
        slide = self._open.pop(slide_id, None)
        if slide is not None and not ownership.copies_of(viewer, slide_id):
            slide.close()
        if self.shown == slide_id:
            self.shown = None
