"""Step 2: settings, and the training of teacher and student."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ....core.presets import METHODS, METHODS_IN_WORDS, PRESETS, PRESETS_IN_WORDS
from ....store.run_summary import RunSummary, summarise
from ....workflow.quick_trial import EPOCHS, MOST_SLIDES
from ...actions import quick_trial, requirements
from ...actions.train import MEASURE
from ...actions.training_check import TrainingCheck, check_training, resumed_settings
from ...plain_text import as_plain
from ...project.estimate import estimate, of_runs
from ...runner.jobs import Job
from ...session import Session
from ...widgets.controls import (
    Collapsible,
    JobButton,
    Panel,
    button,
    hint_label,
    is_in_use,
    row,
    set_hint,
    show_errors,
    tab_through,
)
from ...widgets.short import shorten_middle
from .curves import CurvesView
from .device import DeviceBox
from .encoder import EncoderRows
from .form import SettingsForm
from .runs import RunsView, names_apart

LIVE = "After each change of a label, train in the background and recolour the slides"
FOLDER = "Where models, settings and curves are saved. Empty: a new folder beside the slides"
TRY = (
    f"See the whole way in under a minute for small images: at most {EPOCHS['student']} epochs on at most "
    f"{MOST_SLIDES} slides, into a run of its own"
)
SETTLED = 200  # ms without a change before advice is worked out again


class TrainPanel(Panel):
    """Settings in a fold, the button that trains or cancels, curves, and the runs there are.

    While a training goes on, and after it until the settings are opened again, its curves are on top.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session, "2 · Train")
        self._last_check = TrainingCheck()
        self._seen: tuple[int, str] | None = None  # the job that was heard of last, and its state
        self._there: RunSummary | None = None  # the run in the folder that is named
        self._make_choices()
        self._make_folder()
        self._make_work()
        self._lay_out()
        self._settle = self._timer(SETTLED, self._check)
        self._settle.setSingleShot(True)
        self._clock = self._timer(1000, self._show_progress)
        self.listen(session.choices.changed, self.refresh)
        self.follow(self._on_slides, "cohort")
        self.listen(session.jobs.changed, self._on_job)
        self.listen(session.runs.changed, self._on_runs)
        self.listen(session.runs.curves_changed, self._on_curves)
        self.listen(session.live.changed, self._show_live)
        self.refresh()
        self._on_curves()
        if self.train.is_cancel():
            self.settings_fold.toggle.setChecked(False)
        if len(session.cohort):
            session.runs.look()

    # ---- making it --------------------------------------------------------------------------------------------------

    def _make_choices(self) -> None:
        tip = "What your images look like. It sets patches and network"
        self.preset = self._box(PRESETS, "kind of images", tip, lambda name: self.configure(preset=name))
        self.preset_about = _small()
        tip = "How the networks are trained: as recommended, or as in the paper"
        self.method = self._box(METHODS, "method", tip, lambda name: self.configure(method=name))
        self.method_about = _small()
        self.device = DeviceBox(self.session)
        self.device.chosen.connect(lambda name: self.configure(device=name))
        self.form = SettingsForm(self.session, self.problem.emit)
        self.reset = self.form.reset
        self.encoder_row = EncoderRows(self, self.compute_features)

    def _make_folder(self) -> None:
        self.folder = QLineEdit()
        self.folder.setToolTip(FOLDER)
        self.folder.setAccessibleName("run folder")
        self.folder.textChanged.connect(self._on_folder)
        self.browse = button("Choose…", "Choose the run folder", self.choose_folder)
        self.resume = QCheckBox("Resume the run in this folder")
        self.resume.setToolTip("Resume after the last completed epoch. Nothing that was trained is lost")
        self.resume.toggled.connect(lambda checked: self.refresh_button())
        self.resume_about = _small()
        self.baseline = QCheckBox("Also train the baseline, to compare")
        self.baseline.setToolTip("The paper's baseline: attention MIL without teacher and student. Takes longer")
        self.baseline.toggled.connect(lambda checked: self._show_estimate())
        self.live = QCheckBox("Live training")
        self.live.setAccessibleName("live")
        self.live.setToolTip(LIVE)
        self.live.clicked.connect(self.set_live)
        self.live_status = _small()
        tip = "Save the model of the live training as a run, and use that run"
        self.keep = button("Save as run", tip, self.keep_live)

    def _make_work(self) -> None:
        self.warnings = _small()
        self.warnings.setAccessibleName("what to think about before training")
        tip = "Train a teacher on the labelled slides, and distil a student"
        self.train = JobButton(self.session, "train", "Train", tip)
        self.train.clicked.connect(lambda checked=False: self.start())
        self.trial = button(quick_trial.TITLE, "", self.start_trial)
        self.reason = hint_label()
        self.time = _small()
        self.time.setAccessibleName("how long training will take")
        tip = "Train on a few slides for some ten seconds to estimate the total time. Nothing is saved"
        self.measure = JobButton(self.session, MEASURE, "Estimate time", tip)
        self.measure.clicked.connect(lambda checked=False: self.start_measuring())
        self.progress = _small()
        self.progress.setAccessibleName("how far training is")
        self.curves = CurvesView(self.session)
        self.runs = RunsView(self.session)
        self.runs.load.connect(self.load_path)
        self.runs.from_disk.clicked.connect(lambda checked=False: self.load_from_disk())
        self.runs.resume.connect(self.resume_run)
        self.runs.compare.connect(lambda runs: self._on_curves())
        self.runs_fold = Collapsible("Runs", self.runs)
        self.runs_fold.toggle.setToolTip("Earlier trainings: load, compare, resume")
        self.runs_fold.toggle.toggled.connect(lambda opened: self.session.runs.look() if opened else None)

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name, choice, told_below in (
            ("Kind of images", self.preset, self.preset_about),
            ("Method", self.method, self.method_about),
            ("Device", self.device, None),
        ):
            label = QLabel(name)
            label.setBuddy(choice)
            choices.addRow(label, choice)
            if told_below is not None:
                choices.addRow(told_below)
        settings = QWidget()
        inside = QVBoxLayout(settings)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addLayout(choices)
        inside.addWidget(self.encoder_row)
        inside.addWidget(self.form)
        inside.addLayout(row(QLabel("Run folder"), self.folder, self.browse, stretch=1))
        for widget in (self.resume, self.resume_about, self.baseline, self.live, self.live_status, self.keep):
            inside.addWidget(widget)
        self.settings_fold = Collapsible("Settings", settings)
        self.settings_fold.toggle.setToolTip("What is trained, and how")
        self.settings_fold.toggle.setChecked(True)
        self.settings_fold.toggle.toggled.connect(self._on_settings_fold)
        self.now = QWidget()  # what goes on, or went on last
        going_on = QVBoxLayout(self.now)
        going_on.setContentsMargins(0, 0, 0, 0)
        going_on.addWidget(self.progress)
        going_on.addWidget(self.curves)
        self._column = layout = QVBoxLayout(self)
        layout.addWidget(self.settings_fold)
        layout.addWidget(self.warnings)
        layout.addLayout(row(self.train, self.trial, stretch=0))
        layout.addWidget(self.reason)
        layout.addLayout(row(self.time, self.measure, stretch=0))
        layout.addWidget(self.now)
        layout.addWidget(self.runs_fold)
        tab_through(self.curves.network, self.settings_fold.toggle)

    def _box(self, names: Iterable[str], name: str, tip: str, chosen: Callable[[str], None]) -> QComboBox:
        box = QComboBox()
        box.addItems(list(names))
        box.setToolTip(tip)
        box.setAccessibleName(name)
        box.textActivated.connect(chosen)
        return box

    def _timer(self, interval: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(interval)
        timer.timeout.connect(slot)
        return timer

    # ---- what the user does -----------------------------------------------------------------------------------------

    @show_errors
    def configure(self, **changes: Any) -> None:
        try:
            self.session.configure(**changes)
        finally:
            self.refresh()

    @show_errors
    def compute_features(self) -> None:
        """Compute features of all slides with the encoder; or cancel, while computing."""
        if self.encoder_row.compute.is_cancel():
            self.session.cancel()
            return
        self.session.extract_features(wait=False)

    def choose_folder(self) -> None:
        if path := self.ask_folder("Choose the run folder"):
            self.folder.setText(path)

    @show_errors
    def start(self) -> None:
        """Train; or cancel, while training."""
        if self.train.is_cancel():
            self.session.cancel()
            return
        folder = self.folder.text().strip() or None
        if folder and self.resume.isChecked() and self._there is not None:
            self.resume_run(self._there)
            return
        self.session.train(folder, baseline=self.baseline.isChecked(), wait=False)

    @show_errors
    def start_trial(self) -> None:
        """Train on a few slides for a moment."""
        self.session.quick_trial()

    @show_errors
    def resume_run(self, run: RunSummary) -> None:
        """Go on with a run, with its own settings; epochs and device are those of the panel where the rest is equal."""
        settings = resumed_settings(run.settings, self.session.settings)
        self.session.resume(run.folder, settings, wait=False)

    @show_errors
    def start_measuring(self) -> None:
        """Measure how long a training takes; or cancel, while measuring."""
        if self.measure.is_cancel():
            self.session.cancel()
            return
        self.session.measure_time(self.baseline.isChecked())

    def load_from_disk(self) -> None:
        if path := self.ask_folder("Load a run folder or a model bundle"):
            self.session.runs.add(Path(path))
            self.load_path(path)

    @show_errors
    def load_path(self, path: str) -> None:
        self.session.load_model(path, wait=False)

    @show_errors
    def set_live(self, enabled: bool) -> None:
        self.session.live.enabled = enabled

    @show_errors
    def keep_live(self) -> None:
        self.session.live.save_as_run(wait=False)

    # ---- following the session --------------------------------------------------------------------------------------

    def headline(self) -> str:
        """How things stand, for the folded header."""
        session = self.session
        model = session.model
        if model is None:
            return "not trained yet"
        run = session.runs.of_folder(model.path)
        if trial := self._about_trial():
            return trial
        is_new = session.runs.trained_at is not None and session.runs.folder == model.path
        if run is None or not run.outcome:
            return "Trained" if is_new else f"Loaded: ‘{shorten_middle(model.path.name, 24)}’"
        return f"{'Trained' if is_new else 'Loaded'}: {run.outcome}"

    def refresh(self) -> None:
        session = self.session
        self.preset.setCurrentText(session.choices.preset)
        self.preset_about.setText(PRESETS_IN_WORDS[session.choices.preset])
        self.method.setCurrentText(session.choices.method)
        self.method_about.setText(METHODS_IN_WORDS[session.choices.method])
        self.device.refresh()
        self.form.refresh()
        self.encoder_row.refresh()
        self._show_live()
        self.refresh_button()
        self._settle.start()

    def _on_slides(self) -> None:
        self.encoder_row.refresh()
        self._show_live()
        self.refresh_button()
        self._settle.start()

    def _check(self) -> None:
        """Work out advice, in the background."""
        session = self.session
        if requirements.train(session.project, session.choices) is not None:
            folder = self._last_check.folder if len(session.cohort) else ""
            self._take(TrainingCheck(scales=self._last_check.scales, folder=folder))
            return
        cohort, settings, known, home = session.cohort, session.settings, self._last_check.scales, session.runs.home()
        session.reader.request(("check", id(self)), lambda: check_training(cohort, settings, known, home), self._take)

    def _take(self, found: TrainingCheck) -> None:
        self._last_check = found
        self.folder.setPlaceholderText(found.folder)
        self.folder.setToolTip(as_plain(f"{FOLDER}:\n{found.folder}") if found.folder else FOLDER)
        self.refresh_button()

    def why_not(self) -> str | None:
        """What stands against starting now, in words."""
        if self.resume.isChecked() and self._there is not None:
            return None  # it brings its own settings and labels
        if (reason := self._why_no_new_run()) is not None:
            return reason
        if self._there is not None:
            how = "tick the box under Settings to resume it, or " if self._goes_on() else ""
            return f"There is a run in this folder already: {how}name another folder."
        return None

    def _why_no_new_run(self) -> str | None:
        """What stands against a training into a new folder."""
        missing = requirements.train(self.session.project, self.session.choices)
        return requirements.problem_of(missing) or self._last_check.blocker

    def refresh_button(self) -> None:
        """The button, the reason it is disabled or what to think about, and the time it takes."""
        self._show_resume()
        why_not = self.why_not()
        set_hint(self.reason, self.train.refresh(why_not))
        training = self.train.is_cancel()
        busy = self.train.job() is not None
        self.trial.setEnabled(not busy and self._why_no_new_run() is None)
        self.trial.setToolTip(as_plain(self._why_no_new_run() or ("A training is going on" if busy else TRY)))
        warnings = [] if training or why_not else self._last_check.warnings
        # Not broken at the slash.
        lines = [line.replace("µm/px", "µm/\N{WORD JOINER}px") for line in warnings]
        self.warnings.setText("\n".join(f"⚠ {line}" for line in lines))
        self.warnings.setVisible(bool(warnings))
        self._show_estimate()

    def _on_folder(self, text: str) -> None:
        """Is there a run in the folder that is named? Looked up in the background."""
        self._there = None
        self.resume.setChecked(False)
        folder = text.strip()
        if folder:
            path = Path(folder)
            self.session.reader.request(("folder", id(self)), lambda: _run_in(path), self._take_there)
        else:
            self.session.reader.cancel(("folder", id(self)))
        self.refresh_button()

    def _take_there(self, run: RunSummary | None) -> None:
        self._there = run
        self.refresh_button()

    def _goes_on(self) -> bool:
        """Could the run in the folder be continued?"""
        run = self._there
        if run is None or run.problem:
            return False
        wanted = resumed_settings(run.settings, self.session.settings)
        return run.can_resume or wanted.student.epochs > run.settings.student.epochs

    def _show_resume(self) -> None:
        run = self._there if self._goes_on() else None
        self.resume.setVisible(run is not None)
        set_hint(self.resume_about, "" if run is None else f"{run.state[:1].upper()}{run.state[1:]}.")

    def _show_estimate(self) -> None:
        reason = self.measure.refresh(self.why_not())
        training, count = self.train.is_cancel(), self._last_check.n_slides
        known = [*self.session.runs.measured, *of_runs(self.session.runs.found)]
        told_time = None if training else estimate(known, self.session.settings, count, self.baseline.isChecked())
        possible = not training and not reason and count > 0
        self.time.setText(told_time.text if told_time else "How long it takes is not known yet.")
        self.time.setVisible(possible)
        self.measure.setVisible((possible and told_time is None) or self.measure.is_cancel())

    def _show_live(self) -> None:
        live = self.session.live
        # Of those who train on pixels nobody asks for it.
        shown = live.enabled or self.session.settings.architecture.encoder == "features"
        self.live.setVisible(shown)
        self.live_status.setVisible(shown)
        self.keep.setVisible(shown and live.enabled and live.result is not None)
        if not shown:
            return
        why_not = None if live.enabled else requirements.problem_of(live.requirement())
        self.live.setEnabled(why_not is None)
        self.live.setToolTip(as_plain(why_not or LIVE))
        self.live.setChecked(live.enabled)
        set_hint(self.live_status, live.status if live.enabled else why_not or "")

    # ---- while it goes on -------------------------------------------------------------------------------------------

    def _on_job(self, job: Job) -> None:
        if (job.id, job.state) == self._seen:
            return  # it has only moved on, as it does twice a second
        self._seen = job.id, job.state
        self.refresh_button()
        self.runs.refresh_buttons()
        self.encoder_row.refresh()
        if job.kind in ("train", MEASURE) and job.outcome is not None:
            self.device.look_again()
            if self.folder.text().strip():
                self._on_folder(self.folder.text())
            self._settle.start()
        if job.kind == "train":
            if job.state == "running" and not is_in_use(self.settings_fold.content):
                self.settings_fold.toggle.setChecked(False)
            self._clock.start() if job.outcome is None else self._clock.stop()
            self._show_progress()
            self._place_curves()

    def _on_runs(self) -> None:
        self.runs.refresh()
        count = len(self.session.runs.found)
        self.runs_fold.toggle.setText(f"Runs ({count})" if count else "Runs")
        self._show_estimate()
        self._show_progress()

    def _on_curves(self) -> None:
        compared = self.runs.selected() if self.runs.over.isChecked() else []
        if compared:
            self.curves.show_runs({name: run.curves for name, run in names_apart(compared).items()})
        else:
            runs = self.session.runs
            self.curves.show_training(runs.live, runs.best, runs.asked)
        self._place_curves()
        self._show_progress()

    def _about_trial(self) -> str:
        """What is to be said of the model in use, where it is that of a quick trial."""
        model = self.session.model
        run = None if model is None else self.session.runs.of_folder(model.path)
        return "" if run is None else quick_trial.about_run(run)

    def _on_settings_fold(self, opened: bool) -> None:
        settings = self.session.settings
        epochs = f"{settings.teacher.epochs} + {settings.student.epochs} epochs"
        said = "" if opened else f": {settings.preset}, {settings.method}, {epochs}"
        self.settings_fold.toggle.setText(f"Settings{said}")
        self._place_curves()

    def _place_curves(self) -> None:
        """On top while training, and after it until settings are opened; those of a comparison beside the runs."""
        on_top = not self.runs.over.isChecked() and (
            self.train.is_cancel() or not self.settings_fold.toggle.isChecked()
        )
        self._column.removeWidget(self.now)
        self._column.insertWidget(0 if on_top else self._column.indexOf(self.runs_fold), self.now)

    def _show_progress(self) -> None:
        runs = self.session.runs
        text = " ".join(part for part in (runs.progress(), self._about_trial() if runs.ended == "done" else "") if part)
        self.progress.setText(text)
        self.progress.setVisible(bool(text))


def _run_in(folder: Path) -> RunSummary | None:
    try:
        return summarise(folder)
    except OSError:
        return None


def _small() -> QLabel:
    """A line of plain text below something."""
    label = QLabel()
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
