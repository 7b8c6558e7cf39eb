"""Step 4: look at what the model said, correct it, and train with the corrections."""

from contextlib import suppress
from html import escape
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....core.geometry import PatchGrid
from ....core.inputs import Inputs
from ....core.label_map import parse_label_map
from ....store import corrections
from ...actions import requirements
from ...actions.review import ALL_CORRECTED
from ...messages import message_of
from ...plain_text import as_plain
from ...runner.jobs import Done, Job
from ...session import Session
from ...widgets.controls import (
    Collapsible,
    JobButton,
    Panel,
    button,
    hint_label,
    row,
    set_hint,
    show_errors,
    tab_through,
)
from ...widgets.icons import colour_icon, theme_colour
from ...widgets.short import shorten_middle
from .ground_truth import MetricsView
from .sample_view import SampleView

EMPTY = "Predict a slide in step 3 first: then look at its patches here, and correct those that are wrong."
HOW = (
    "Your corrections have an outline in the colour of their class. Neither the threshold nor a new "
    "prediction changes them."
)
NO_PATCH = "No patch chosen: press Alt+N or point at one."
SAVE_TIP = "Save all corrections as CSV: slide_id, x, y, label"
ERASE = "clear"
NEGATIVE, IGNORE = "negative", "left out"
LOADING = ("load corrections",)
MANY, FEW, NARROW = 3, 2, 9  # class buttons side by side; fewer where a name is longer than 9 characters


class ReviewPanel(Panel):
    """From patch to patch: what is it, and what should it be? And how good is it all, where a truth is given."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "4 · Review")
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.next = button("Next uncertain patch", "", self.next_uncertain)
        self.next.setToolTip("Go to the patch the model is least sure of that you have not corrected or seen yet")
        self.onward = QCheckBox("Go on to the next after each correction")
        self.onward.setChecked(session.review_actions.onward)
        self.onward.setAccessibleName("go to the next uncertain patch after each correction")
        self.onward.setToolTip("After a button below, or Ctrl and a digit, go on to the next uncertain patch")
        self.onward.toggled.connect(lambda checked: setattr(session.review_actions, "onward", checked))
        self.patch = QLabel()
        self.patch.setWordWrap(True)
        self.patch.setAccessibleName("the framed patch")
        self.patch.setToolTip("The patch with the frame: what the model says of it")
        self.classes = QGridLayout()
        self.brushes = QGridLayout()
        self.class_buttons: dict[str | None, QPushButton] = {}
        self.brush_buttons: dict[str | None, QPushButton] = {}
        self.brush_label = QLabel("Paint with the pointer")
        self.brush_label.setWordWrap(True)
        self.agreement = QLabel()
        self.agreement.setTextFormat(Qt.TextFormat.RichText)
        self.agreement.setWordWrap(True)
        self.agreement.setAccessibleName("does the model agree with your corrections")
        self.agreement.setToolTip("Your corrections of this slide, and what the model says there at the threshold")
        self.file = QLabel()
        self.file.setWordWrap(True)
        self.file.setAccessibleName("where the corrections are kept")
        self.save = button("Save as…", SAVE_TIP, self.save_as)
        self.load = button("Load…", "Add corrections from a CSV: slide_id, x, y, label", self.load_from)
        self.clear = button("Clear slide", "Take all corrections of this slide back; can be undone", self.clear_slide)
        self.retrain = JobButton(
            session, "train", "Retrain with corrections",
            "Train teacher and student again, with your corrections as patch labels. This makes a new run folder",
        )  # fmt: skip
        self.retrain.clicked.connect(lambda checked=False: self.start())
        self.reason = hint_label()
        self.truth_fold = Collapsible("Compare with annotations", self._make_truth())
        self.truth_fold.toggle.setToolTip("If the true class of patches is known: metrics and the ROC curve")
        self.sample = SampleView(session, self)
        self.sample.problem.connect(self.problem)
        self.sample_fold = Collapsible("Random sample of a new cohort", self.sample)
        self.sample_fold.toggle.setToolTip("Measure the model on new slides, and re-calibrate it to them")
        self._lay_out()
        self._made_for: tuple[object, ...] = ()
        self._listen()
        self.refresh()

    def _make_truth(self) -> QWidget:
        inside = QWidget()
        self.truth_table = button(
            "Table…", "A CSV slide_id, x, y, label, or GeoJSON of QuPath: what is known", self.ask_table
        )
        self.truth_masks = button("Masks…", "A folder of mask images named as the slides", self.ask_masks)
        self.points_missing = QComboBox()
        self.points_missing.addItems([NEGATIVE, IGNORE])
        self.points_missing.setAccessibleName("patches without a point in the table")
        self.points_missing.setToolTip("Patches of a grid without an annotation")
        self.label_map = QLineEdit()
        self.label_map.setPlaceholderText("Tumor=tumour, artefact=")
        self.label_map.setAccessibleName("what labels of the annotations mean")
        self.label_map.setToolTip(
            "Labels of the annotations that are no class of the model: LABEL=CLASS; LABEL= leaves one out; *=CLASS is "
            "for all others. Separate them by commas"
        )
        self.truth_reason = hint_label()
        self.metrics = MetricsView(self.session.viewer)
        self.truth_buttons = QLabel("Annotations")
        meaning = QLabel("Labels mean")
        meaning.setBuddy(self.label_map)
        without = QLabel("Patches without a point are")
        without.setBuddy(self.points_missing)
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(self.truth_buttons, self.truth_table, self.truth_masks, stretch=0))
        layout.addLayout(row(without, self.points_missing, stretch=1))
        layout.addLayout(row(meaning, self.label_map, stretch=1))
        layout.addWidget(self.truth_reason)
        layout.addWidget(self.metrics)
        return inside

    def _lay_out(self) -> None:
        self.body = QWidget()
        inside = QVBoxLayout(self.body)
        inside.setContentsMargins(0, 0, 0, 0)
        for grid in (self.classes, self.brushes):
            grid.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.next)
        inside.addWidget(self.onward)
        inside.addWidget(self.patch)
        inside.addLayout(self.classes)
        inside.addWidget(self.brush_label)
        inside.addLayout(self.brushes)
        inside.addWidget(self.agreement)
        layout = QVBoxLayout(self)
        layout.addWidget(self.empty)
        layout.addWidget(self.body)
        layout.addWidget(self.file)
        layout.addLayout(row(self.save, self.load, self.clear))
        layout.addWidget(self.retrain)
        layout.addWidget(self.reason)
        layout.addWidget(self.sample_fold)
        layout.addWidget(self.truth_fold)

    def _listen(self) -> None:
        session = self.session
        self.listen(session.corrections.changed, self.refresh)
        self.listen(session.canvas.corrections.moved, self.refresh_patch)
        self.listen(session.display.updated, self._on_filled)
        self.listen(session.project.events.shown, self.refresh)
        self.listen(session.project.cohort_closing, self._stop_loading)
        self.follow(self.refresh, "model", "network")
        self.follow(self.refresh_buttons, "cohort", "predictions")
        self.listen(session.choices.changed, self.refresh_buttons)
        self.listen(session.project.events.threshold, self._on_threshold)
        self.listen(session.project.colours_changed, self._on_colours)
        self.listen(session.jobs.changed, self._on_job)
        session.viewer.events.theme.connect(self._on_theme)

    def disconnect_session(self) -> None:
        super().disconnect_session()
        with suppress(RuntimeError):  # the viewer may be closed already
            self.session.viewer.events.theme.disconnect(self._on_theme)

    # ---- what the user does ----------------------------------------------------------------------------------------

    @show_errors
    def next_uncertain(self) -> None:
        if self.session.next_uncertain() is None:
            self.problem.emit(ALL_CORRECTED)

    @show_errors
    def correct(self, label: str | None) -> None:
        """Say what the framed patch is."""
        framed = self.session.canvas.corrections.framed
        if framed is not None:
            self.session.answer(label, framed[1])

    @show_errors
    def brush(self, label: str | None, on: bool) -> None:
        try:
            if on:
                self.session.paint(label)
            else:
                self.session.canvas.corrections.stop_painting()
        finally:
            self.refresh_brushes()

    @show_errors
    def save_as(self) -> None:
        name = self.session.corrections.path or self.session.corrections.default_path()
        if path := self.ask_save("Save the corrections", name.name, "Tables (*.csv)"):
            self.session.corrections.save(path)

    def load_from(self) -> None:
        if path := self.ask_file("Load corrections", "Tables (*.csv);;All files (*)"):
            self.load_path(path)

    def load_path(self, path: str) -> None:
        """Read a file of corrections in the background, and add them."""
        session = self.session
        session.reader.request(
            LOADING,
            lambda: corrections.read(Path(path)),
            lambda points: session.corrections.take(points, path),
            lambda error: self.problem.emit(message_of(error)),
        )

    def _stop_loading(self) -> None:
        """What is being read is of slides that go now."""
        self.session.reader.cancel(LOADING)

    @show_errors
    def clear_slide(self) -> None:
        self.session.clear_corrections()

    @show_errors
    def start(self) -> None:
        """Train with the corrections; or cancel, while training."""
        if self.retrain.is_cancel():
            self.session.cancel()
            return
        self.session.retrain(wait=False)

    def ask_table(self) -> None:
        if path := self.ask_file(
            "Annotations", "Points and areas (*.csv *.geojson *.geojson.gz *.json *.xml);;All files (*)"
        ):
            self.compare(path)

    def ask_masks(self) -> None:
        if path := self.ask_folder("Masks of annotations"):
            self.compare(path)

    @show_errors
    def compare(self, path: str) -> None:
        """Compare what is predicted with a truth."""
        missing_truth = "negative" if self.points_missing.currentText() == NEGATIVE else "ignore"
        label_map = parse_label_map(part for part in self.label_map.text().split(",") if part.strip())
        self.session.compare_with_truth(
            path, missing_truth=missing_truth, inputs=Inputs(label_map=label_map), wait=False
        )

    # ---- following the session -------------------------------------------------------------------------------------

    def headline(self) -> str:
        """One short line for the folded panel."""
        slides = self.session.corrections.slides
        total = sum(slides.values())
        if not total:
            return "no corrections yet"
        return f"{total} patch{'es' * (total != 1)} in {len(slides)} slide{'s' * (len(slides) != 1)}"

    def refresh(self) -> None:
        view = self.session.display.view
        self.empty.setVisible(view is None)
        self.body.setVisible(view is not None)
        if view is not None:
            self._make_buttons(view.classes)
            self.brush_label.setText(
                "Paint with the pointer" if isinstance(view.patches, PatchGrid)
                else "Patches at points: go to one, or point at one and press its key."
            )  # fmt: skip
            for made in self.brush_buttons.values():
                made.setVisible(isinstance(view.patches, PatchGrid))
        self.refresh_patch()
        self.refresh_brushes()
        self.refresh_agreement()
        self.refresh_buttons()

    def _make_buttons(self, classes: tuple[str, ...]) -> None:
        """One button per class, with its colour, and one to take a correction back."""
        colours = self.session.display.colours_of(classes)
        outline = theme_colour(self.session.viewer).name()
        wanted = (classes, tuple(colours.values()), outline)
        if wanted == self._made_for:
            return
        self._made_for = wanted
        for made in (*self.class_buttons.values(), *self.brush_buttons.values()):
            made.deleteLater()
        self.class_buttons, self.brush_buttons = {}, {}
        beside = MANY if max(map(len, classes)) <= NARROW + 1 else FEW
        for number, label in enumerate((*classes, None)):
            text = ERASE if label is None else shorten_middle(label)
            tip = f"This patch is {label}" if label else "Take the correction of this patch back"
            made = button(text, tip, lambda label=label: self.correct(label))
            made.setAccessibleName(f"this patch: {label or ERASE}")
            self.classes.addWidget(made, number // beside, number % beside)
            self.class_buttons[label] = made
            brush = QPushButton("erase" if label is None else shorten_middle(label))
            brush.setCheckable(True)
            brush.setAccessibleName(f"paint: {label or 'erase'}")
            brush.setToolTip(
                as_plain(f"Drag over patches to correct them to {label}; click again to stop") if label
                else "Drag over patches to take corrections back; click again to stop"
            )  # fmt: skip
            brush.clicked.connect(lambda checked, label=label: self.brush(label, checked))
            self.brushes.addWidget(brush, number // beside, number % beside)
            self.brush_buttons[label] = brush
            if label is not None:
                for each in (made, brush):
                    each.setIcon(colour_icon(colours[label], outline))

        tab_through(self.onward, *self.class_buttons.values(), *self.brush_buttons.values(), self.save)

    def refresh_patch(self) -> None:
        """What is known of the framed patch."""
        session, current = self.session, self.session.canvas.corrections.framed
        text = "" if current is None else session.display.text_of(*current)
        if text and current is not None:
            place = f"Row {current[1][0] + 1}, column {current[1][1] + 1}" if len(current[1]) == 2 else "This patch"
            self.patch.setText(f"{place}: {text}")
        else:
            self.patch.setText(NO_PATCH)
        for label, made in self.class_buttons.items():
            made.setEnabled(bool(text))
            tip = f"This patch is {label}" if label else "Take the correction of this patch back"
            made.setToolTip(as_plain(tip) if text else "Go to a patch first")

    def refresh_brushes(self) -> None:
        painted = self.session.canvas.corrections.painted_value
        for index, made in enumerate(self.brush_buttons.values(), 1):
            value = 0 if index == len(self.brush_buttons) else index
            made.setChecked(painted == value)

    def refresh_agreement(self) -> None:
        counts = self.session.agreement() if self.session.display.view is not None else {}
        rows = [
            f"<tr><td>{escape(shorten_middle(name))}&nbsp;&nbsp;</td>"
            + "".join(
                f"<td align='right'>{n}&nbsp;&nbsp;</td>"
                for n in (both.agree + both.disagree, both.agree, both.disagree)
            )
            + "</tr>"
            for name, both in counts.items()
        ]
        titles = ("patches&nbsp;&nbsp;", "you&nbsp;&nbsp;", "model agrees&nbsp;&nbsp;", "disagrees")
        head = f"<tr>{''.join(f'<td>{title}</td>' for title in titles)}</tr>"
        set_hint(self.agreement, f"<table>{head}{''.join(rows)}</table>" if rows else "")

    def refresh_buttons(self) -> None:
        own, project, choices = self.session.corrections, self.session.project, self.session.choices
        total = len(own)
        if not total:
            self.file.setText(HOW)
        else:
            kept = f"saved in {own.path.name}" if own.path and not own.unsaved else "not saved yet"
            self.file.setText(f"You corrected {self.headline()}: {kept}.")
        self.file.setToolTip(as_plain(str(own.path or "")))
        self.save.setEnabled(bool(total))
        self.save.setToolTip(SAVE_TIP if total else "Nothing is corrected yet")
        here = own.slides.get(self.session.shown or "", 0) and self.session.display.view is not None
        self.clear.setEnabled(bool(here))
        tip = "Take all corrections of this slide back; can be undone"
        self.clear.setToolTip(tip if here else "Nothing is corrected on this slide")
        missing = requirements.problem_of(requirements.retrain(project, choices, own))
        set_hint(self.reason, self.retrain.refresh(missing) or self._passed_over())
        reason = requirements.problem_of(requirements.compare(project))
        for made in (self.truth_table, self.truth_masks):
            made.setEnabled(reason is None)
        set_hint(self.truth_reason, reason or "")

    def _passed_over(self) -> str:
        """What to think about before training with the corrections."""
        count = self.session.corrections.count_unused(self.session.settings)
        patches = "1 corrected patch does" if count == 1 else f"{count} corrected patches do"
        return f"⚠ {patches} not count: {requirements.UNUSED}." if count and not self.retrain.is_cancel() else ""

    def _on_filled(self, slide_id: str) -> None:
        self.refresh()

    def _on_threshold(self, threshold: float) -> None:
        self.refresh_agreement()
        self.refresh_patch()

    def _on_colours(self) -> None:
        self.refresh()

    def _on_theme(self, event: object = None) -> None:
        self.metrics.follow_theme()
        self.refresh()

    def _on_job(self, job: Job) -> None:
        if job.kind == "assess" and isinstance(job.outcome, Done):
            self.metrics.show_assessment(job.outcome.value)
        self.refresh_buttons()
