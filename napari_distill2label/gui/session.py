"""The session: everything the panel shows and does, one per viewer. It is `session` in napari's console.

It makes the parts, connects the signals of one to methods of another, and offers the actions as methods. No Qt here:
the same object works on a `napari.components.ViewerModel` without a window, where long work simply blocks.
"""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .actions.classes import ClassActions
from .actions.evaluate import EvaluateActions
from .actions.export import ExportActions
from .actions.live import LiveTraining
from .actions.log import ActionLog
from .actions.predict import PredictActions
from .actions.review import ReviewActions
from .actions.sample import SampleActions
from .actions.slides import SlideActions
from .actions.train import TrainActions
from .canvas.canvas import Canvas
from .plugin.preferences import preferences, remember
from .project.autosave import Autosave
from .project.corrections import Corrections
from .project.drawn_regions import DrawnRegions
from .project.open_slides import SlideSwap
from .project.previews import Previews
from .project.project import Project
from .project.random_sample import RandomSample
from .project.runs import Runs
from .project.stopped_training import StoppedTraining
from .project.table_reload import TableReload
from .project.tissue import Tissue
from .project.training_choices import TrainingChoices
from .runner.jobs import JobQueue
from .runner.reader import BackgroundReader

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel

_sessions: "weakref.WeakKeyDictionary[ViewerModel, Session]" = weakref.WeakKeyDictionary()


def session_of(viewer: Any) -> "Session":
    """The one session of a viewer, made when first asked for."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # a plugin's proxy dies with its widget
    if viewer not in _sessions:
        _sessions[viewer] = Session(viewer)
    return _sessions[viewer]


def _offered(part: str, name: str, settable: bool = False) -> Any:
    """An attribute of a part (`project`, `choices`) that the session offers under the same name."""

    def get(session: "Session") -> Any:
        return getattr(getattr(session, part), name)

    def put(session: "Session", value: Any) -> None:
        setattr(getattr(session, part), name, value)

    return property(get, put if settable else None, doc=f"`{part}.{name}`.")


class Session:
    """Slides, labels, settings, model and predictions of one viewer, and what can be done with them.

    Long work (`train`, `predict`, `load_model`, `export`) runs in the background. With `wait=True`, as in a script, a
    call returns its result when that is there, and the window stays usable meanwhile; the panel's buttons do not
    wait, and get the `Job`.

    Attributes
    ----------
    project
        What is known of the slides; `project.events.<field>` says when it changes.
    choices
        What the next training would use.
    corrections, sample, tissue, regions, runs, previews, autosave, table_reload
        Corrections of patches, the random sample, tissue masks, drawn regions, runs on disk, previews of slides, what
        keeps these, and what another program has changed in the table.
    canvas, display
        The layers, and how they are seen.
    jobs, reader
        Long work, one after the other; short reading in the background.
    live, log
        Live training; what was done, as a script.
    """

    cohort = _offered("project", "cohort")
    selected = _offered("project", "selected")
    current = _offered("project", "current")
    shown = _offered("project", "shown")
    opening = _offered("project", "opening")
    threshold = _offered("project", "threshold")
    model = _offered("project", "model")
    networks = _offered("project", "networks")
    predictions = _offered("project", "predictions")
    failures = _offered("project", "failures")
    exported = _offered("project", "exported")
    notices = _offered("project", "notices")
    colours = _offered("project", "colours")
    settings = _offered("choices", "settings")
    encoder = _offered("choices", "encoder", settable=True)
    feature_folder = _offered("choices", "feature_folder", settable=True)
    trusted = _offered("choices", "trusted", settable=True)

    def __init__(self, viewer: "ViewerModel") -> None:
        self._viewer = weakref.ref(viewer)
        has_window = hasattr(viewer, "window")
        self.jobs = jobs = JobQueue(lambda: has_window, lambda: preferences().spare_a_core)
        self.reader = reader = BackgroundReader(lambda: has_window)
        self.project = project = Project(preferences, threshold=preferences().threshold)
        self.choices = choices = TrainingChoices(project, reader)
        self.previews = Previews(project, reader, lambda: has_window and not jobs.busy)
        self.corrections = corrections = Corrections(project, reader)
        self.sample = sample = RandomSample(project, reader)
        self.tissue = tissue = Tissue(project, choices, reader, has_window)
        self.regions = regions = DrawnRegions(project, reader, has_window)
        self.autosave = autosave = Autosave(project, choices, tissue, corrections, jobs, reader, has_window)
        self.table_reload = TableReload(project, reader, autosave)
        project.cohort_closing.connect(corrections.clear)  # after `autosave`, which keeps where the corrections were
        self.runs = runs = Runs(project, choices, jobs, reader)
        self.stopped = StoppedTraining(project, runs, jobs, reader, has_window)
        self.canvas = canvas = Canvas(viewer, project, corrections, tissue, regions, reader, remember)
        self.display, self.tissue_layer = canvas.display, canvas.tissue
        self.log = log = ActionLog(project, choices, tissue, jobs)
        self.swap = swap = SlideSwap(project, corrections, tissue, autosave)
        self._offer_slides(
            SlideActions(project, corrections, swap, reader, canvas.slide_view.show), ClassActions(project)
        )
        predict = PredictActions(project, choices, corrections, tissue, self.previews, swap, jobs, log, canvas)
        train = TrainActions(project, choices, corrections, tissue, regions, runs, jobs, reader, log, predict.use_model)
        self.live = LiveTraining(project, choices, corrections, runs, jobs, train.take_run, has_window)
        self._offer_models(train, predict)
        self._offer_results(EvaluateActions(project, choices, jobs), ExportActions(project, jobs, log))
        self._offer_review(ReviewActions(project, corrections, canvas))
        self._offer_sample(SampleActions(project, sample, corrections, canvas, jobs, predict.use_model))
        self._connect()
        # A viewer that is dropped without being closed must not leave work behind.
        weakref.finalize(viewer, jobs.shutdown)
        weakref.finalize(viewer, reader.shutdown)
        if has_window:
            # napari holds this weakly until its console opens; `_sessions` owns it.
            viewer.update_console({"session": self})
        for layer in list(viewer.layers):
            canvas.slide_view.adopt(layer)

    def _offer_slides(self, slides: SlideActions, classes: ClassActions) -> None:
        self.slide_actions, self.class_actions = slides, classes
        self.add_slides, self.remove_slides = slides.add_slides, slides.remove_slides
        self.read_cohort, self.write_cohort = slides.read_cohort, slides.write_cohort
        self.set_label, self.toggle_label = slides.set_label, slides.toggle_label
        self.set_mpp, self.set_case, self.set_split = slides.set_mpp, slides.set_case, slides.set_split
        self.set_share = slides.set_share
        self.add_class, self.rename_class = classes.add_class, classes.rename_class
        self.remove_class, self.move_class = classes.remove_class, classes.move_class
        self.set_colour = classes.set_colour
        view, project = self.canvas.slide_view, self.project
        self.show, self.show_by, self.select = view.show, view.show_by, project.select
        self.undo, self.redo, self.set_threshold = project.undo, project.redo, project.set_threshold
        view.add_slide = slides.add_opened

    def _offer_models(self, train: TrainActions, predict: PredictActions) -> None:
        self.train, self.resume, self.retrain = train.train, train.resume, train.retrain
        self.quick_trial, self.measure_time = train.quick_trial, train.measure_time
        self.extract_features = train.extract_features
        self.load_model, self.predict = predict.load_model, predict.predict
        self.promise_threshold = predict.promise_threshold
        self.predicted_text = predict.predicted_text
        self.configure, self.reset_settings = self.choices.configure, self.choices.reset_settings
        self.cancel = self.jobs.cancel
        self.autosave.reopen_model = predict.reopen_model

    def _offer_results(self, evaluate: EvaluateActions, export: ExportActions) -> None:
        self.evaluate, self.compare_with_truth = evaluate.evaluate, evaluate.compare_with_truth
        self.export = export.export

    def _offer_review(self, review: ReviewActions) -> None:
        self.review_actions = review
        self.correct, self.answer, self.paint = review.correct, review.answer, review.paint
        self.clear_corrections, self.agreement = review.clear_corrections, review.agreement
        self.next_uncertain, self.center_on = review.next_uncertain, review.center_on
        self.label_counts = review.label_counts

    def _offer_sample(self, actions: SampleActions) -> None:
        self.sample_actions = actions
        self.draw_sample, self.open_sample = actions.draw_sample, actions.open_sample
        self.go_to_sampled, self.label_sampled = actions.go_to_sampled, actions.label_sampled
        self.stop_sampling = actions.stop_sampling
        self.measure_sample, self.recalibrate = actions.measure_sample, actions.recalibrate

    def _connect(self) -> None:
        """A part's signals to the methods of another: none of the parts knows the session."""
        predictions = self.canvas.predictions
        self.jobs.event.connect(self.project.take_event)  # first: a finished map is there for those below
        self.jobs.event.connect(predictions.take_event)
        self.jobs.changed.connect(predictions.take_job)
        self.swap.reopened.connect(self.canvas.slide_view.show_soon)
        self.table_reload.shown_again.connect(self.canvas.slide_view.show_again)

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

    @property
    def slides(self) -> "pd.DataFrame":
        """A table of the slides: slide_id, path, label, case_id, mpp, split, status."""
        import pandas as pd

        columns = ("slide_id", "path", "label", "case_id", "mpp", "split")
        table = pd.DataFrame([[getattr(row, name) for name in columns] for row in self.cohort], columns=columns)
        return table.assign(status=[self.project.slide_summary(row.slide_id) for row in self.cohort])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the negative one first; may be set, to a list or to text with commas."""
        return self.project.classes

    @classes.setter
    def classes(self, names: str | Sequence[str]) -> None:
        self.class_actions.set_classes(names)

    @property
    def network(self) -> str | None:
        """Whose labels are shown, and who predicts: student, teacher, baseline or live; may be set."""
        return self.project.network

    @network.setter
    def network(self, network: str) -> None:
        self.project.choose_network(network)

    def shutdown(self) -> None:
        """Stop what runs and close the slides' files. Idempotent; reached when the window closes."""
        self.live.shutdown()
        self.tissue.flush()
        self.regions.flush()
        self.sample_actions.save()
        self.autosave.flush()
        self.jobs.shutdown()
        self.autosave.flush()  # what these did in their end
        self.reader.shutdown()
        self.canvas.slide_view.close()
