"""A random sample of a new cohort, labelled patch by patch: what it says of the model, and what re-calibrates it."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from ....core.recalibration import FEWEST
from ...actions import requirements
from ...plain_text import as_plain
from ...session import Session
from ...widgets.controls import Panel, button, hint_label, open_jobs, row, set_hint, show_errors
from ...widgets.icons import colour_icon, theme_colour
from ...widgets.short import shorten_middle

MOST = 1000  # patches that the box offers
BESIDE = 2  # class buttons side by side
ABOUT = (
    "For slides of another hospital, scanner or kind of patients. Label patches that are drawn at random from the "
    "predicted slides: 50 to 100 say how many of the positive patches are found, and re-calibrate the model to these "
    "slides. They train nothing and are no corrections. The model's own labels are hidden meanwhile."
)
DRAW = "Draw patches at random from all predicted slides that the model has not learnt from"
OPEN = "Continue a sample drawn earlier (CSV)"
TAKE = "Label this patch with the pressed findings and go to the next"
MEASURE = "What the labelled patches say of the model. It stays as it is"
SAVE = "Write the model with the bias into a folder of its own, and load it. The model that is there stays as it is"


class SampleView(QWidget):
    """Draws a sample, asks for its patches one after the other, and says what follows."""

    problem = Signal(str)

    def __init__(self, session: Session, panel: Panel) -> None:
        super().__init__()
        self.session, self._panel = session, panel
        about = QLabel(ABOUT)
        about.setWordWrap(True)
        self.count = QSpinBox()
        self.count.setRange(FEWEST, MOST)
        self.count.setValue(50)
        self.count.setSuffix(" patches")
        self.count.setAccessibleName("patches of the sample")
        self.count.setToolTip("30 to 100. A finding that is rare needs more")
        self.draw = button("Draw", DRAW, self.start)
        self.open = button("Open…", OPEN, self.ask_open)
        self.reason = hint_label()
        self.place = QLabel()
        self.place.setWordWrap(True)
        self.place.setAccessibleName("patch of the sample")
        self.place.setToolTip("The patch with the frame")
        self.classes = QGridLayout()
        self.classes.setContentsMargins(0, 0, 0, 0)
        self.class_buttons: dict[str, QPushButton] = {}
        self.take = button("Next", "This patch has the findings that are pressed; go on to the next", self.label_both)
        self.back = button("Back", "Show the patch before again, to label it otherwise", self.go_back)
        self.go_on = button("Continue", "Show the first patch without a label", self.proceed)
        self.stop = button("Stop", "Label no more for now: what the model says is shown again", session.stop_sampling)
        self.measure = button("Measure", "", self.show_report)
        self.save = button("Save re-calibrated model…", SAVE, self.ask_save)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setAccessibleName("what the sample says of the model")
        self.result.setToolTip("ECE: mean distance between probability and truth. 0 is perfect")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(about)
        layout.addLayout(row(self.count, self.draw, self.open, stretch=0))
        layout.addWidget(self.reason)
        layout.addWidget(self.place)
        layout.addLayout(self.classes)
        layout.addLayout(row(self.take, self.back, self.go_on, self.stop))
        layout.addLayout(row(self.measure, self.save, stretch=1))
        layout.addWidget(self.result)
        self._made_for: tuple[object, ...] = ()
        self._pressed_for: tuple[str, float, float] | None = None  # slide and place of the patch that they are of
        panel.follow(self.refresh, "model", "network", "predictions")
        panel.listen(session.sample.changed, self.refresh)
        panel.listen(session.canvas.corrections.moved, self.refresh)
        panel.listen(session.project.colours_changed, self.refresh)
        panel.listen(session.jobs.changed, lambda job: self.refresh() if job.kind == "sample" else None)
        self.refresh()

    # ---- what the user does ----------------------------------------------------------------------------------------

    @show_errors
    def start(self) -> None:
        self.session.draw_sample(self.count.value(), seed=self._new_seed(), wait=False)

    def _new_seed(self) -> int:
        """Return the seed of a sample that is not the one that was drawn last."""
        return 0 if self.session.sample.sample is None else self.session.sample.sample.seed + 1

    def ask_open(self) -> None:
        if path := self._panel.ask_file("A random sample", "Tables (*.csv);;All files (*)"):
            self.open_path(path)

    @show_errors
    def open_path(self, path: str) -> None:
        self.session.open_sample(path, wait=False)

    @show_errors
    def label(self, label: str) -> None:
        self.session.label_sampled(label)

    def label_both(self) -> None:
        """Label the patch with all findings whose buttons are pressed. The negative class has a button of its own."""
        if pressed := self._pressed():
            self.label(";".join(pressed))

    def _pressed(self) -> list[str]:
        return [label for label, made in self.class_buttons.items() if made.isChecked()]

    def _refresh_take(self) -> None:
        self.take.setEnabled(bool(self._pressed()))
        self.take.setToolTip(TAKE if self._pressed() else "Press the findings of this patch first")

    @show_errors
    def go_back(self) -> None:
        position = self.session.sample.position
        self.session.go_to_sampled((self.session.sample.n_labelled if position is None else position) - 1)

    @show_errors
    def proceed(self) -> None:
        self.session.go_to_sampled(self.session.sample.n_labelled)

    @show_errors
    def show_report(self) -> None:
        self.session.measure_sample(wait=False)

    @show_errors
    def ask_save(self) -> None:
        """Write the re-calibrated model where the user wants it, which must be a new folder."""
        model = self.session.model
        name = "recalibrated" if model is None else f"{model.path.name}_recalibrated"
        if path := self._panel.ask_save("Folder for the re-calibrated model", name, "Folders (*)", confirm=False):
            self.session.recalibrate(path, wait=False)

    # ---- following the session -------------------------------------------------------------------------------------

    def refresh(self) -> None:
        sample, session = self.session.sample, self.session
        missing = requirements.problem_of(requirements.sample(session.project))
        works = any(job.kind == "sample" for job in open_jobs(session.jobs))
        set_hint(self.reason, missing or "")
        for made in (self.draw, self.open):
            made.setEnabled(missing is None and not works)
        current, total = sample.current, len(sample.patches)
        ready = missing is None and current is not None
        several = any(own.multi_label for own in session.project.maps()[:1])
        if ready and session.model is not None:
            self._make_buttons(session.model.classes, several)
        patch = None if current is None else (current.slide_id, current.y, current.x)
        is_other, self._pressed_for = patch != self._pressed_for, patch
        for made in self.class_buttons.values():
            made.setVisible(ready)
            made.setEnabled(ready and session.sample_actions.is_sampling())
            if is_other:
                made.setChecked(False)
        self._refresh_take()
        self._show_place(missing is None)
        labelled = sample.n_labelled
        for made, shown in (
            (self.take, ready and several),
            (self.back, labelled > 0 and sample.position != 0),
            (self.go_on, 0 <= labelled < total and sample.position != labelled),
            (self.stop, current is not None),
            (self.measure, total > 0),
            (self.save, total > 0),
        ):
            made.setVisible(shown and missing is None)
        enough = labelled >= FEWEST
        for made, tip in ((self.measure, MEASURE), (self.save, SAVE)):
            made.setEnabled(enough and not works)
            made.setToolTip(tip if enough else f"Label {FEWEST} patches first")
        set_hint(self.result, "" if sample.report is None else str(sample.report))

    def _show_place(self, possible: bool) -> None:
        sample, current = self.session.sample, self.session.sample.current
        if not sample.patches or not possible:
            set_hint(self.place, "")
            return
        name = sample.path.name if sample.path else ""
        done = f"{sample.n_labelled} of {len(sample.patches)} patches are labelled, in {name}."
        if current is None:
            set_hint(self.place, done)
            return
        said = f" It is labelled {current.label}." if current.label else ""
        opening = "" if self.session.sample_actions.is_sampling() else " Its slide is being opened…"
        place = f"Patch {(sample.position or 0) + 1} of {len(sample.patches)}, in {shorten_middle(current.slide_id)}."
        set_hint(self.place, f"{place}{said}{opening} What is it?\n{done}")

    def _make_buttons(self, classes: tuple[str, ...], several: bool) -> None:
        """One button per class. Where a patch can have several findings, those are pressed first and then taken."""
        colours = self.session.display.colours_of(classes)
        outline = theme_colour(self.session.viewer).name()
        wanted = (classes, several, tuple(colours.values()), outline)
        if wanted == self._made_for:
            return
        self._made_for = wanted
        for made in self.class_buttons.values():
            made.deleteLater()
        self.class_buttons = {}
        for number, label in enumerate(classes):
            made = QPushButton(shorten_middle(label))
            made.setToolTip(as_plain(f"This patch is {label} (Ctrl+{number + 1})"))
            if several and number:
                made.setCheckable(True)
                made.toggled.connect(lambda checked: self._refresh_take())
            else:
                made.clicked.connect(lambda checked=False, label=label: self.label(label))
            made.setAccessibleName(f"this patch of the sample: {label}")
            made.setIcon(colour_icon(colours[label], outline))
            self.classes.addWidget(made, number // BESIDE, number % BESIDE)
            self.class_buttons[label] = made
