"""What the window knows of the slides that are open: one field, one signal. It knows nobody who shows or changes it.

`project.events.<field>` is emitted with (new value, former value) after a field was set to another one. Values are
replaced and never changed in place: a dictionary that is assigned is a new one.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal, SignalGroupDescriptor

from ...core.classes import RGB, colours_of
from ...core.errors import CohortError, SettingsError
from ...core.events import Event, ItemDone, ItemFailed
from ...core.notices import Notice
from ...core.paths import canonical_path, is_url
from ...store.cohort import Cohort, CohortSlide
from ..messages import message_of, text_of, window_messages
from .history import History
from .loaded_model import LoadedModel
from .preferences import Preferences
from .table_file import CLASSES, TableFile
from .verdict import Verdict, verdict_of, verdict_of_case

if TYPE_CHECKING:
    from ...core.promise import Promise
    from ...store.maps.patch_map import PatchMap
    from ..runner.jobs import Job

Maps = Mapping[str, "PatchMap"]  # by network
LIVE = "live"  # the network of live training: its maps belong to no model
NETWORKS = ("student", "teacher", "baseline")  # of which the first that a model has is chosen


@dataclass(frozen=True)
class ProjectSnapshot:
    """All that undo and redo move between: frozen values, so that a step costs two references."""

    cohort: Cohort
    chosen_colours: Mapping[str, RGB]


@dataclass(eq=False, repr=False)
class Project:
    """Slides, labels, classes, model and predictions of one viewer.

    Attributes
    ----------
    cohort
        The slides with their labels and the classes, negative first. A frozen value: `edit` replaces it.
    saved_cohort
        The slides as their table has them; `unsaved` compares.
    table
        That table.
    run_of_slides
        The folder of the run that brought the slides; None where a table or the user did.
    chosen_colours
        Colours of classes, where they are not the palette's; `colours` has them all.
    selected
        Ids of the slides selected in the table, in its order.
    current
        Id of the slide of the highlighted row, which the canvas is to show. It moves as soon as a slide is asked for.
    shown, opening
        Id of the slide on the canvas; of the one that is being opened for it.
    threshold
        Probability from which on a patch is labelled with a finding.
    promise
        What the threshold promises of negative slides; None where it promises nothing.
    model, network
        What predicts, and which of its networks does and is shown. None before a training or a loading.
    predictions
        Patch maps by slide id and network: `predictions["slide_000"]["student"]`.
    failures
        Why a slide could not be opened or predicted, by its id.
    exported
        Files of the last export.
    """

    events: ClassVar = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(("cohort", "saved_cohort", "predictions", "model"), operator.is_)
    )
    preferences: Callable[[], Preferences] = Preferences
    cohort: Cohort = field(default_factory=lambda: Cohort((), CLASSES))
    saved_cohort: Cohort = field(default_factory=lambda: Cohort((), CLASSES))
    table: TableFile = field(default_factory=TableFile)
    run_of_slides: Path | None = None
    chosen_colours: Mapping[str, RGB] = field(default_factory=dict)
    selected: tuple[str, ...] = ()
    current: str | None = None
    shown: str | None = None
    opening: str | None = None
    threshold: float = 0.5
    promise: "Promise | None" = None
    model: LoadedModel | None = None
    network: str | None = None
    predictions: Mapping[str, Maps] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    exported: tuple[Path, ...] = ()

    colours_changed = Signal()  # of a class: chosen, or given by another place in the list
    message = Signal(str)  # something the user should know
    cohort_closing = Signal()  # other slides are about to take the place of these
    cohort_opened = Signal()  # and have, from a table or a run
    cohort_written = Signal()

    def __post_init__(self) -> None:
        self.history = History()
        self.notices: list[str] = []  # all that the user was told, oldest first
        self._removed: dict[str, Maps] = {}  # predictions of slides taken off the list
        self._told_colours = self.colours

    def __repr__(self) -> str:
        return f"Project({len(self.cohort)} slides, {len(self.predictions)} predicted)"

    # ---- changing -------------------------------------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Set several fields before anybody is told of one of them."""
        with ExitStack() as stack:
            for name in reversed(values):  # what is paused last is told first
                stack.enter_context(getattr(self.events, name).paused())
            for name, value in values.items():
                setattr(self, name, value)
        if self.colours != self._told_colours:
            self._told_colours = self.colours
            self.colours_changed.emit()

    def edit(self, text: str, cohort: Cohort | None = None, colours: Mapping[str, RGB] | None = None) -> None:
        """Change slides, classes or chosen colours, and remember how to take it back; `text` says what was done."""
        before = ProjectSnapshot(self.cohort, self.chosen_colours)
        after = ProjectSnapshot(
            before.cohort if cohort is None else cohort, before.chosen_colours if colours is None else colours
        )
        if after != before:
            self._put(after)
            self.history.push(text, lambda: self._put(before, again=True), lambda: self._put(after, again=True))

    def _put(self, snapshot: ProjectSnapshot, again: bool = False) -> None:
        """Layers of slides that went go; what was predicted of them comes back with them, `again`."""
        values: dict[str, Any] = {"cohort": snapshot.cohort, "chosen_colours": snapshot.chosen_colours}
        there, listed = ({row.slide_id for row in cohort} for cohort in (self.cohort, snapshot.cohort))
        gone, predictions = there - listed, dict(self.predictions)
        for slide_id in gone:
            self._removed[slide_id] = predictions.pop(slide_id, {})
        for slide_id in listed - there if again else ():
            if maps := self._removed.pop(slide_id, {}):
                predictions[slide_id] = maps
        if predictions.keys() != self.predictions.keys():
            values["predictions"] = predictions
        if gone:
            values["failures"] = {each: reason for each, reason in self.failures.items() if each not in gone}
            values["selected"] = tuple(each for each in self.selected if each not in gone)
            values |= {"current": None} if self.current in gone else {}
        self.change(**values)

    def undo(self) -> str | None:
        """Take the last edit back; return what it was."""
        return self.history.undo()

    def redo(self) -> str | None:
        """Do again what was undone last; return what it was."""
        return self.history.redo()

    def tell(self, what: "str | Notice | BaseException") -> None:
        """Let the user know something."""
        text = text_of(what)
        self.notices.append(text)
        self.message.emit(text)

    # ---- slides ---------------------------------------------------------------------------------------------------

    def row(self, slide_id: str) -> CohortSlide:
        """A slide of the list. `CohortError` if there is none."""
        for row in self.cohort:
            if row.slide_id == slide_id:
                return row
        raise CohortError(f"there is no slide {slide_id!r}")

    def select(self, slide_ids: Iterable[str]) -> None:
        """Select slides; those that are not listed are passed over."""
        listed = {row.slide_id for row in self.cohort}
        self.selected = tuple(dict.fromkeys(slide_id for slide_id in slide_ids if slide_id in listed))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the negative one first."""
        return self.cohort.classes

    @property
    def colours(self) -> tuple[RGB, ...]:
        """8-bit (r, g, b) of each class, as chosen, else the palette's."""
        return colours_of(self.classes, self.chosen_colours)

    @property
    def colour_by_class(self) -> dict[str, RGB]:
        """The same by name."""
        return dict(zip(self.classes, self.colours, strict=True))

    @property
    def cohort_path(self) -> Path | None:
        """Where the slides were read from or written to."""
        return self.table.path

    @property
    def is_run_cohort(self) -> bool:
        """Is the table of the slides a run's own?"""
        return self.cohort_path is not None and self.cohort_path.parent == self.run_of_slides

    @property
    def own_table(self) -> Path | None:
        """The table that a plain Save writes, if there is one. A run's own stays as the run was trained."""
        return None if self.is_run_cohort else self.cohort_path

    @property
    def unsaved(self) -> bool:
        """Do the slides differ from the file they were read from or written to?"""
        return self.cohort.slides != self.saved_cohort.slides

    @property
    def work_folder(self) -> Path | None:
        """The folder for what is made of the slides: that of their table, else of the first slide's file.

        A run's own table lies in the run, which is left as it was written: then the folder the run is in.
        """
        path = self.cohort_path or next((row.path for row in self.cohort if not is_url(row.path)), None)
        if path is None:
            return None
        folder = Path(path).parent
        return folder.parent if self.is_run_cohort else folder

    @property
    def runs_folder(self) -> Path:
        """The folder in which new runs are put: the preferred one, else the `work_folder`."""
        if preferred := self.preferences().runs_folder:
            return Path(preferred).expanduser()
        return self.work_folder or Path.home()

    # ---- predictions ----------------------------------------------------------------------------------------------

    @property
    def networks(self) -> tuple[str, ...]:
        """Whose labels can be shown: the networks of the model; and `live`, once live training has labelled slides."""
        is_live = any(LIVE in maps for maps in self.predictions.values())
        return (*(self.model.networks if self.model else ()), *((LIVE,) if is_live else ()))

    def choose_network(self, network: str) -> None:
        """Say whose labels are shown, and who predicts: student, teacher, baseline, or live."""
        if network not in self.networks:
            raise SettingsError(f"there is no {network}: the models are {', '.join(self.networks) or 'none'}")
        own = self.own_threshold(network)
        self.change(network=network, threshold=self.threshold if own is None else own, promise=None)

    def own_threshold(self, network: str | None) -> float | None:
        """Return the probability from which on a network of the model labels a patch by itself."""
        return None if self.model is None else self.model.thresholds.get(network or "")

    def map_of(self, slide_id: str | None) -> "PatchMap | None":
        """What the chosen network predicted of a slide; None where nothing is."""
        return self.predictions.get(slide_id or "", {}).get(self.network or "")

    def maps(self, slide_ids: Iterable[str] | None = None) -> "list[PatchMap]":
        """What the chosen network predicted of slides (None: all), where it did."""
        wanted = [row.slide_id for row in self.cohort] if slide_ids is None else slide_ids
        return [found for slide_id in wanted if (found := self.map_of(slide_id)) is not None]

    def own(self, maps: "Iterable[PatchMap]") -> "list[PatchMap]":
        """Those of the slides there are: work that began with another cohort, or a run of one, may use the same ids."""
        paths = {row.slide_id: row.path for row in self.cohort}
        return [
            found
            for found in maps
            if found.slide_id in paths and found.slide.path in (None, canonical_path(paths[found.slide_id]))
        ]

    def take_maps(self, maps: "Iterable[PatchMap]", network: str | None = None) -> None:
        """Keep what was predicted of slides, and show the labels of `network`, if given, from then on."""
        predictions = dict(self.predictions)
        for found in self.own(maps):
            predictions[found.slide_id] = {**predictions.get(found.slide_id, {}), network_of(found): found}
        self.change(predictions=predictions, network=network or self.network)

    def choose_model(self, model: LoadedModel) -> None:
        """Predict with a model from now on. What another one predicted would pass for this one's, and goes."""
        self._removed = {}
        network = next(network for network in NETWORKS if network in model.networks)
        threshold = model.thresholds.get(network, self.threshold)
        self.change(model=model, network=network, threshold=threshold, promise=None, predictions={})

    def drop_removed(self) -> None:
        """Predictions of slides that were taken off the list come back no more: other slides are there."""
        self._removed = {}

    def set_threshold(self, threshold: float) -> None:
        """Label patches at another threshold, at once."""
        if not 0 <= threshold <= 1:
            raise SettingsError(f"a threshold is a probability from 0 to 1, not {threshold:g}")
        if threshold != self.threshold:
            self.change(threshold=float(threshold), promise=None)

    def keep_promise(self, promise: "Promise") -> None:
        """Label patches at the threshold that keeps a promise."""
        self.change(threshold=promise.threshold, promise=promise)

    def verdict(self, slide_id: str) -> Verdict | None:
        """What the chosen network says of a slide as a whole; None where nothing is predicted."""
        return verdict_of(self.map_of(slide_id))

    def verdict_on_label(self, slide_id: str) -> Verdict | None:
        """What the chosen network says of that which the slide's label is of: the slide, or its whole case.

        None where nothing is predicted, or not all slides of the case are.
        """
        patch_map = self.map_of(slide_id)
        if patch_map is None or patch_map.model.get("bag") != "case":
            return verdict_of(patch_map)
        case = self.cohort[slide_id].case_id
        return verdict_of_case([self.verdict(row.slide_id) for row in self.cohort.by_case[case]])

    def unlikeness(self, slide_id: str) -> float | None:
        """How far a slide is from those the chosen network was trained on; above 1 it is unlike them. None: unknown."""
        patch_map = self.map_of(slide_id)
        return None if patch_map is None else patch_map.unlikeness

    @property
    def contradicted(self) -> list[str]:
        """Ids of the slides of which the chosen network says something else than their label, in the list's order."""
        said = ((row, self.verdict_on_label(row.slide_id)) for row in self.cohort)
        return [row.slide_id for row, verdict in said if verdict is not None and verdict.contradicts(row.label)]

    def slide_summary(self, slide_id: str) -> str:
        """One line on a slide: failed, predicted, or nothing yet."""
        if slide_id in self.failures:
            return f"failed: {self.failures[slide_id]}"
        verdict, on_label = self.verdict(slide_id), self.verdict_on_label(slide_id)
        if verdict is None:
            return ""
        return str(verdict) if on_label in (None, verdict) else f"{verdict}; its case: {on_label}"

    def fail(self, slide_id: str, reason: str) -> None:
        """Note why a slide could not be opened or predicted."""
        self.failures = {**self.failures, slide_id: reason}

    def forgive(self, slide_ids: Iterable[str]) -> None:
        """What went wrong with slides is tried again."""
        ids = set(slide_ids)
        if ids & self.failures.keys():
            self.failures = {slide_id: reason for slide_id, reason in self.failures.items() if slide_id not in ids}

    def take_event(self, job: "Job", event: Event) -> None:
        """Take what a job says of slides while it runs."""
        if isinstance(event, Notice):
            job.notes.append(text_of(event))
            self.tell(event)
        elif isinstance(event, ItemFailed):
            failure = window_messages.failure(event)
            job.notes.append(failure)
            self.tell(failure)
            self.fail(event.item, message_of(event.error))
        elif isinstance(event, ItemDone) and job.kind == "predict":
            self.take_maps([event.result])


def network_of(patch_map: "PatchMap") -> str:
    """The network that filled a map: student, teacher, baseline, live."""
    return str(patch_map.model.get("network", "model"))


def named(slide_ids: Iterable[str]) -> str:
    """'slide_003', or '12 slides'."""
    ids = list(slide_ids)
    return ids[0] if len(ids) == 1 else f"{len(ids)} slides"
