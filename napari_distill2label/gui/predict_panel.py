"""Step 3: a model over slides, and the threshold its labels are shown at."""

from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QSlider, QVBoxLayout

from ..core.colours import palette
from .jobs import Job
from .parts import JobButton, Panel, button, reason_label, row, show_reason, told
from .session import Session

THIS, ALL = "this slide", "all slides"
STEPS = 100  # of the threshold slider


class PredictPanel(Panel):
    """Which model, which slides, the threshold."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "3 · Predict")
        self.model = QLabel()
        self.model.setWordWrap(True)
        self.model.setAccessibleName("model")
        self.load = button("Load model…", "Load a run folder, or a model bundle, to predict with", self.load_model)
        self.role = QComboBox()
        self.role.setToolTip("Which of the run's models predicts and is shown")
        self.role.setAccessibleName("which model")
        self.role.textActivated.connect(self.set_role)
        self.slides = QComboBox()
        self.slides.addItems([THIS, ALL])
        self.slides.setToolTip("What to predict: the slide that is shown, or the whole list")
        self.slides.setAccessibleName("which slides")
        self.slides.textActivated.connect(lambda text: self.refresh_button())
        self.predict = JobButton(session, "predict", "Predict", "Label every patch of the slides")
        self.predict.clicked.connect(lambda checked=False: self.start())
        self.reason = reason_label()
        tip = "Probability from which on a patch is labelled with a finding; labels follow at once"
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setAccessibleName("threshold slider")
        self.number = QDoubleSpinBox()
        self.number.setRange(0, 1)
        self.number.setSingleStep(0.01)
        self.number.setAccessibleName("threshold")
        for widget in (self.slider, self.number):
            widget.setToolTip(tip)
        self.slider.valueChanged.connect(lambda value: self.set_threshold(value / STEPS))
        self.number.valueChanged.connect(self.set_threshold)

        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip("Patches of the shown slide, per class, at this threshold")
        self.legend.setAccessibleName("patches per class")

        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        choices.addRow("Which model", self.role)
        choices.addRow("Which slides", self.slides)
        layout = QVBoxLayout(self)
        layout.addLayout(row(self.model, self.load, stretch=0))
        layout.addLayout(choices)
        layout.addWidget(self.predict)
        layout.addWidget(self.reason)
        layout.addLayout(row(QLabel("Threshold"), self.slider, self.number, stretch=1))
        layout.addWidget(self.legend)

        self.listen(session.model_changed, self.refresh)
        self.listen(session.slides_changed, self.refresh_button)
        self.listen(session.shown_changed, self.refresh_button)
        self.listen(session.threshold_changed, self._show_threshold)
        self.listen(session.predictions_changed, self._on_prediction)
        self.listen(session.shown_changed, self.refresh_legend)
        self.listen(session.jobs.changed, self._on_job)
        self.refresh()
        self._show_threshold(session.threshold)

    def load_model(self) -> None:
        if path := self.ask_folder("Load a run folder or a model bundle"):
            self.load_path(path)

    @told
    def load_path(self, path: str) -> None:
        self.session.load_bundle(path, wait=False)

    @told
    def set_role(self, role: str) -> None:
        self.session.set_role(role)

    @told
    def set_threshold(self, threshold: float) -> None:
        self.session.set_threshold(round(threshold, 2))

    @told
    def start(self) -> None:
        """Predict; or cancel, while predicting."""
        if self.predict.is_cancel():
            self.session.cancel()
            return
        slides = self.session.shown if self.slides.currentText() == THIS else None
        self.session.predict(slides, wait=False)

    def why_not(self) -> str | None:
        reason = self.session.why_not_predict()
        if reason is None and self.slides.currentText() == THIS and self.session.shown is None:
            return "Select a slide in the table, or choose all slides."
        return reason

    def refresh(self) -> None:
        model = self.session.model
        if model is None:
            self.model.setText("No model yet.")
            self.model.setToolTip("")
        else:
            self.model.setText(f"{'Run' if model.is_run else 'Bundle'} ‘{model.path.name}’: {', '.join(model.classes)}")
            self.model.setToolTip(str(model.path))
        self.role.clear()
        self.role.addItems([role for role in ("student", "teacher", "mil") if model and role in model.roles])
        self.role.setCurrentText(self.session.role or "")
        self.role.setEnabled(self.role.count() > 1)
        self.refresh_button()
        self.refresh_legend()

    def refresh_button(self) -> None:
        show_reason(self.reason, self.predict.refresh(self.why_not()))
        self.load.setEnabled(not self.session.jobs.busy)

    def refresh_legend(self) -> None:
        """What the colours mean, and how many patches have them."""
        counts = self.session.counts()
        total = max(1, sum(counts.values()))
        lines = [
            f'<span style="color: rgb{colour}">■</span> {escape(name)}: {count} patches ({count / total:.0%})'
            for (name, count), colour in zip(counts.items(), palette(len(counts)), strict=True)
        ]
        self.legend.setText("<br>".join(lines))
        self.legend.setVisible(bool(lines))

    def _on_prediction(self, slide_id: str) -> None:
        if slide_id == self.session.shown:
            self.refresh_legend()

    def _on_job(self, job: Job) -> None:
        self.refresh_button()

    def _show_threshold(self, threshold: float) -> None:
        for widget, value in ((self.slider, round(threshold * STEPS)), (self.number, threshold)):
            blocked = widget.blockSignals(True)
            widget.setValue(value)
            widget.blockSignals(blocked)
        self.refresh_legend()
