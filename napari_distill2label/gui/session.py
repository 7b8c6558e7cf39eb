"""The session: everything the panel shows and does, one per viewer. It is `session` in napari's console.

No Qt here: the same object works on a `napari.components.ViewerModel` without a window, where long work simply blocks.
Widgets hold no state; they call these methods and listen to these signals.
"""

import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from psygnal import Signal

from ..core.errors import Distill2LabelError, SettingsError
from ..core.events import ItemDone, ItemFailed, Notice
from ..core.paths import canonical_path
from ..core.presets import build_settings
from ..core.settings import Settings, merged, without_keys
from ..store.cohort import Cohort
from .actions.evaluate import Evaluation
from .actions.live import NETWORK as LIVE
from .actions.live import Live
from .actions.log import Script
from .actions.train import Verbs
from .canvas import layers
from .canvas.correction_layers import Review
from .canvas.display import Overlays
from .canvas.slide_view import Showing
from .canvas.tissue_layer import TissueMasks
from .layers import shades
from .plugin.preferences import preferences
from .project.autosave import Autosave
from .project.loaded_model import LoadedModel
from .project.previews import Thumbnails
from .project.project import OpenSlides, PathLike
from .project.runs import Runs
from .project.stopped_training import StoppedTraining
from .project.table_file import FoundCohort, FoundLabels, TableFile
from .project.training_choices import Encoding
from .project.verdict import Verdict, verdict_of
from .runner.jobs import Job, JobQueue
from .runner.reader import BackgroundReader
from .wording import in_the_window

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel

    from ..slides.slide import Slide
    from ..store.maps.patch_map import PatchMap

Value = TypeVar("Value")

_sessions: "weakref.WeakKeyDictionary[ViewerModel, Session]" = weakref.WeakKeyDictionary()


def session_of(viewer: Any) -> "Session":
    """The one session of a viewer, made when first asked for."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy dies with its widget
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


class Session(Verbs, Showing, Evaluation, Encoding):
    """Slides, labels, settings, model and predictions of one viewer, and what can be done with them.

    Long work (`train`, `predict`, `load_bundle`, `export`) runs beside the window. With `wait=True`, as in a script, a
    call returns its result when that is there, and the window stays usable meanwhile; the panel's buttons do not
    wait, and get the `Job`.

    Attributes
    ----------
    cohort
        The slides with their labels and the classes, negative first. A frozen value: use the methods to change it.
    model
        What predicts; None before a training or `load_bundle`.
    predictions
        Patch maps by slide id and network: `predictions["slide_000"]["student"]`.
    threshold
        Probability from which on a patch is labelled with a finding.
    current
        Id of the slide of the highlighted row, which the canvas is to show. It moves as soon as a slide is asked for.
    shown, showing
        Id of the slide on the canvas; of the one that is being opened for it.
    """

    settings_changed = Signal()
    model_changed = Signal()
    predictions_changed = Signal(str)  # slide id
    shown_changed = Signal()
    current_changed = Signal()
    message_over = Signal()  # what `message` told of a slide is no news any more
    threshold_changed = Signal(float)

    def __init__(self, viewer: "ViewerModel") -> None:
        self._has_window = has_window = hasattr(viewer, "window")
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self.preset, self.method = "colon", "recommended"
        self.overrides: dict[str, Any] = {}
        self.feature_folder: Path | None = None  # where features of slides are, or are put
        self._promised: set[Path] = set()
        self.trusted: Path | None = None  # the encoder's file that may be opened though it can hold a program
        self.model: LoadedModel | None = None
        self.network: str | None = None
        self.predictions: dict[str, dict[str, PatchMap]] = {}
        self.threshold = preferences().threshold
        self.current: str | None = None
        self.shown: str | None = None
        self.showing: str | None = None
        self._in_between = False
        self.failures: dict[str, str] = {}
        self.exported: list[Path] = []
        self.script = Script()
        self._open: dict[str, Slide] = {}
        self._removed: dict[str, dict[str, PatchMap]] = {}  # predictions of slides taken off the list
        self.jobs = JobQueue(lambda: has_window, lambda: preferences().spare_a_core)
        self.reader = BackgroundReader(lambda: has_window)
        self.thumbnails = Thumbnails(self)
        self.tissue = TissueMasks(self)
        self.cohort_opened.connect(self._leave_features)  # before `autosave` looks at what there is
        self.autosave = Autosave(self, has_window)
        self.jobs.event.connect(self._on_event)
        self.runs = Runs(self)
        self.runs.watch(self.jobs)
        self.stopped = StoppedTraining(self)
        self.review = Review(self)
        self.review.changed.connect(self._keep_corrections)
        self.cohort_closing.connect(self.review.clear)  # after `autosave`, which keeps where the corrections were
        self.overlays = Overlays(self, preferences().opacity, preferences().colour_negatives)
        self.live = Live(self)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.layers.events.reordered.connect(self._on_layers_moved)
        # A viewer that is dropped without being closed must not leave work behind.
        weakref.finalize(viewer, self.jobs.shutdown)
        weakref.finalize(viewer, self.reader.shutdown)
        if has_window:
            # napari holds this weakly until its console opens; `_sessions` owns it.
            viewer.update_console({"session": self})
        for layer in list(viewer.layers):
            self._adopt(layer)

    def __repr__(self) -> str:
        model = f"{', '.join(self.model.networks)} of {self.model.path.name}" if self.model else "no model"
        return f"Session({len(self.cohort)} slides, {len(self.cohort.labelled)} labelled, {model})"

    @property
    def viewer(self) -> "ViewerModel":
        """The viewer; `RuntimeError` when it has been closed."""
        viewer = self._viewer()
        if viewer is None:
            raise RuntimeError("the viewer of this session is closed")
        return viewer

    # ---- slides ---------------------------------------------------------------------------------------------------

    @property
    def slides(self) -> "pd.DataFrame":
        """A table of the slides: slide_id, path, label, case_id, mpp, split, status."""
        import pandas as pd

        columns = ("slide_id", "path", "label", "case_id", "mpp", "split")
        table = pd.DataFrame([[getattr(row, name) for name in columns] for row in self.cohort], columns=columns)
        return table.assign(status=[self.status(row.slide_id) for row in self.cohort])

    def status(self, slide_id: str) -> str:
        """One line on a slide: failed, predicted, or nothing yet."""
        if slide_id in self.failures:
            return f"failed: {self.failures[slide_id]}"
        verdict = self.verdict(slide_id)
        return "" if verdict is None else str(verdict)

    def verdict(self, slide_id: str) -> Verdict | None:
        """What the chosen model says of a slide as a whole; None where nothing is predicted."""
        return verdict_of(self.predictions.get(slide_id, {}).get(self.network or ""))

    @property
    def contradicted(self) -> list[str]:
        """Ids of the slides of which the chosen model says something else than their label, in the list's order."""
        said = ((row, self.verdict(row.slide_id)) for row in self.cohort)
        return [row.slide_id for row, verdict in said if verdict is not None and verdict.contradicts(row.label)]

    def counts(self, slide_id: str | None = None) -> dict[str, int]:
        """Patches per class of a slide (None: the one shown) at the threshold; empty where nothing is predicted.

        Where several classes can be present at once a patch counts for each of its findings.
        """
        patch_map = self.predictions.get(slide_id or self.shown or "", {}).get(self.network or "")
        return {} if patch_map is None else shades.of(patch_map).counts(self.threshold)

    def remove_slides(self, slide_ids: Iterable[str]) -> None:
        """Take slides off the list, and their layers away. Files are left alone."""
        before = self.cohort
        super().remove_slides(slide_ids)
        self._take_off(before, self.cohort)

    def _take_off(self, before: Cohort, after: Cohort) -> None:
        """Layers of slides that went go; what was predicted of them is kept in case they come back by undo."""
        gone = {row.slide_id for row in before} - {row.slide_id for row in after}
        for slide_id in gone:
            self._removed[slide_id] = self.predictions.pop(slide_id, {})
            self.failures.pop(slide_id, None)
        if self.current in gone:
            self._choose_none()

    def _followed(self, before: Cohort, after: Cohort) -> None:
        self._take_off(before, after)
        former, rows = ({row.slide_id: row for row in cohort} for cohort in (before, after))
        for slide_id in rows.keys() - former.keys():
            if maps := self._removed.pop(slide_id, {}):
                self.predictions[slide_id] = maps
                self.predictions_changed.emit(slide_id)
        self.slides_changed.emit()
        shown = self.shown
        if shown in rows and shown in former and rows[shown].mpp != former[shown].mpp:
            self.show(shown, again=True, wait=False)  # where it cannot be read, the canvas says so

    def look_into(self, path: PathLike) -> FoundCohort | FoundLabels:
        """What a table holds, and what taking it would do. Nothing has changed yet."""
        self.review.flush()  # an error here leaves everything as it is
        return super().look_into(path)

    def _slides_now(self) -> OpenSlides:
        more = {
            "predictions": self.predictions, "failures": self.failures, "corrections": self.review.path,
            "tissue": (dict(self.tissue.files), self.tissue.use), "token": self.autosave.token,
        }  # fmt: skip
        return replace(super()._slides_now(), current=self.current, more=more)

    def _put_slides(self, slides: OpenSlides) -> None:
        self.autosave.leave(slides.more.get("token"))
        super()._put_slides(slides)
        self._choose_none()
        self.predictions = slides.more.get("predictions", {})
        self.failures = slides.more.get("failures", {})
        self._removed = {}
        self.overlays.forget()
        self.slides_changed.emit()
        if slides.more:
            self.tissue.take(*slides.more["tissue"])
            if path := slides.more["corrections"]:
                self.autosave.corrections = path
                self.autosave.load_corrections()
            self.model_changed.emit()  # what there is to see of the model's predictions
        if slides.current is not None:
            self.show(slides.current, wait=False)

    def set_mpp(self, slide_ids: str | Iterable[str], mpp: float | None) -> None:
        """Say the µm/px of slides where their files do not, or are wrong; None: the file's own."""
        ids = [slide_ids] if isinstance(slide_ids, str) else list(slide_ids)
        super().set_mpp(ids, mpp)
        if self.shown in ids:
            self.show(self.shown, again=True)

    # ---- what is shown of predictions --------------------------------------------------------------------------------

    def set_threshold(self, threshold: float) -> None:
        """Recolour the labels at another threshold, at once."""
        if not 0 <= threshold <= 1:
            raise SettingsError(f"a threshold is a probability from 0 to 1, not {threshold:g}")
        if threshold != self.threshold:
            self.threshold = float(threshold)
            self.threshold_changed.emit(self.threshold)

    @property
    def networks(self) -> tuple[str, ...]:
        """Whose labels can be shown: the models of the run; and `live`, once the live loop has labelled something."""
        is_live = any(LIVE in maps for maps in self.predictions.values())
        return (*(self.model.networks if self.model else ()), *((LIVE,) if is_live else ()))

    def set_network(self, network: str) -> None:
        """Whose labels are shown, and who predicts: student, teacher, baseline, or live."""
        if network not in self.networks:
            raise SettingsError(f"there is no {network}: the models are {', '.join(self.networks) or 'none'}")
        if network != self.network:
            self.network = network
            if self.shown:
                self.overlays.lay_all(self.shown)
            self.model_changed.emit()
            self.slides_changed.emit()

    # ---- settings -------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What a training would use now: preset and encoder < method < the preferred device < what was set."""
        return self.settings_with(self.encoder)

    def settings_with(self, encoder: PathLike | None) -> Settings:
        """The same with another encoder, which says by itself what is left open."""
        settings = build_settings(self.preset, self.method, merged({"device": preferences().device}, self.overrides))
        return self.fitted(settings) if encoder is None or Path(encoder) == self.encoder else settings

    def configure(
        self, preset: str | None = None, method: str | None = None, **overrides: Mapping[str, Any]
    ) -> Settings:
        """Choose preset and method, and set single settings: `configure(teacher={"epochs": 20})`.

        `SettingsError`, and nothing changed, if they do not fit.
        """
        chosen = preset or self.preset, method or self.method, merged(self.overrides, overrides)
        settings = build_settings(*chosen)
        self.preset, self.method, self.overrides = chosen
        self.settings_changed.emit()
        return settings

    def reset_settings(self, *paths: str) -> None:
        """Back to what preset and method say: all, or single ones such as "patches.size_px"."""
        overrides = without_keys(self.overrides, paths) if paths else {}
        build_settings(self.preset, self.method, overrides)
        self.overrides = overrides
        self.settings_changed.emit()

    def shutdown(self) -> None:
        """Stop what runs and close the slides' files. Idempotent; reached when the window closes."""
        self.live.shutdown()
        self.tissue.flush()
        self.autosave.flush()
        self.jobs.shutdown()
        self.review.shutdown()
        self.reader.shutdown()
        self._opening_soon.stop()
        self._settling.stop()
        for slide in self._open.values():
            slide.close()
        self._open.clear()

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _on_event(self, job: Job, event: Any) -> None:
        if isinstance(event, Notice):
            job.notes.append(in_the_window(event.message))
            self._tell(event.message)
        elif isinstance(event, ItemFailed):
            reason = in_the_window(str(event.error))
            self.failures[event.item] = reason
            job.notes.append(f"{event.item}: {reason}")
            self._tell(f"{event.item}: {reason}")
            self.slides_changed.emit()
        elif isinstance(event, ItemDone) and job.kind == "predict":
            self._take_map(event.result)

    def _keep_corrections(self) -> None:
        """What is kept of the slides says where their corrections are."""
        self.autosave.corrections = self.review.path
        self.autosave.touch()

    def _ours(self, maps: "Iterable[PatchMap]") -> "list[PatchMap]":
        """Those of the slides there are: work that began with another cohort, or a run of one, may use the same ids."""
        files = {row.slide_id: canonical_path(row.path) for row in self.cohort}
        return [each for each in maps if each.slide_id in files and each.slide_path in (None, files[each.slide_id])]

    def _leave_features(self) -> None:
        """Features that were computed of other slides are not those of these."""
        if self.feature_folder == self._own_features != self.own_feature_folder:
            self.feature_folder = None

    def _take_map(self, patch_map: "PatchMap") -> None:
        if not self._ours([patch_map]):
            return
        slide_id, network = patch_map.slide_id, layers.network_of(patch_map)
        self.predictions.setdefault(slide_id, {})[network] = patch_map
        self.overlays.lay(patch_map)
        self.slides_changed.emit()
        self.predictions_changed.emit(slide_id)

    def _take_live(self, maps: "list[PatchMap]") -> None:
        """Many maps at once, and the table told once."""
        maps = self._ours(maps)
        was, self.network = self.network, LIVE
        for patch_map in maps:
            self.predictions.setdefault(patch_map.slide_id, {})[LIVE] = patch_map
            self.overlays.lay(patch_map)
        if was != LIVE:
            self.model_changed.emit()
        self.slides_changed.emit()
        for patch_map in maps:
            self.predictions_changed.emit(patch_map.slide_id)

    def _take_slides(self, model: LoadedModel) -> None:
        """The slides of a run, where there are none."""
        try:
            self.review.flush()  # corrections of slides that were taken off the list
        except OSError as error:
            self._tell(f"the slides of the run are not opened, for your corrections could not be written: {error}")
            return
        table = model.path / "cohort.csv"
        own = TableFile.now(table) if table.exists() else TableFile(table)
        self._put_slides(OpenSlides(model.cohort, model.cohort, own, model.path, {}))
        self.undo_stack.clear()
        with suppress(Distill2LabelError):  # the run may have been moved away from its slides: this is told
            self.show(model.cohort.slides[0].slide_id, wait=False)

    def _use_model(self, model: LoadedModel) -> None:
        self.model = model
        self.network = next(network for network in ("student", "teacher", "baseline") if network in model.networks)
        for notice in model.notices:
            self._tell(notice)
        if model.cohort is not None and not len(self.cohort):
            self._take_slides(model)
        # Predictions of the model before would pass for this one's.
        for slide_id in list(self.predictions):
            maps = layers.find(self.viewer, slide_id=slide_id)
            layers.remove(self.viewer, [layer for layer in maps if layers.about(layer)["role"] in layers.PREDICTED])
        self.predictions, self._removed = {}, {}
        self.overlays.forget()
        for patch_map in self._ours(model.maps):
            self._take_map(patch_map)
        self.suggest_encoder(model.encoder)
        self.model_changed.emit()
        self.slides_changed.emit()
