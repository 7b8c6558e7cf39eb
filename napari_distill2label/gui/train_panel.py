"""Step 2: settings, and the training of teacher and student."""

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from ..core.presets import PRESETS, RECIPES
from ..core.settings import Settings
from .forms import SettingsForm
from .jobs import Job
from .parts import JobButton, Panel, button, reason_label, row, show_reason, told
from .session import Session


class TrainPanel(Panel):
    """Preset, recipe, settings, run folder, and the button that trains or cancels."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "2 · Train")
        self.preset = self._box(PRESETS, "preset")
        self.preset.textActivated.connect(lambda text: self.configure(preset=text))
        self.recipe = self._box(RECIPES, "recipe")
        self.recipe.textActivated.connect(lambda text: self.configure(recipe=text))
        self.form = SettingsForm(session, self.problem.emit)
        self.reset = button("Reset settings", "Back to what preset and recipe say", session.reset_settings)
        self.encoder = QLineEdit()
        self.encoder.setReadOnly(True)
        self.encoder.setPlaceholderText("an .onnx file with a .json beside it")
        self.encoder.setToolTip("Frozen encoder whose features are trained on")
        self.encoder.setAccessibleName("frozen encoder")
        self.encoder_row = QWidget()
        self.encoder_row.setLayout(
            row(
                QLabel("Encoder"),
                self.encoder,
                button("Choose…", "Choose the encoder's file", self.choose_encoder),
                stretch=1,
            )
        )
        self.folder = QLineEdit()
        self.folder.setToolTip("Where models, settings and history are kept. Empty: a new folder beside the slides")
        self.folder.setAccessibleName("run folder")
        self.browse = button("Choose…", "Choose the run folder", self.choose_folder)
        self.baseline = QCheckBox("Also train plain MIL, to compare")
        self.baseline.setToolTip("The paper's baseline: attention MIL without teacher and student")
        self.resume = QCheckBox("Go on with the run in this folder")
        self.resume.setToolTip("Continue after the last whole epoch of a cancelled training")
        self.train = JobButton(
            session, "train", "Train", "Train a teacher on the labelled slides, and distil a student"
        )
        self.train.clicked.connect(lambda checked=False: self.start())
        self.reason = reason_label()

        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        choices.addRow("Preset", self.preset)
        choices.addRow("Recipe", self.recipe)
        layout = QVBoxLayout(self)
        layout.addLayout(choices)
        layout.addWidget(self.form)
        layout.addWidget(self.reset)
        layout.addWidget(self.encoder_row)
        layout.addLayout(row(QLabel("Run folder"), self.folder, self.browse, stretch=1))
        layout.addWidget(self.baseline)
        layout.addWidget(self.resume)
        layout.addWidget(self.train)
        layout.addWidget(self.reason)

        self.listen(session.settings_changed, self.refresh)
        self.listen(session.slides_changed, self.refresh_button)
        self.listen(session.jobs.changed, self._on_job)
        self.refresh()

    @staticmethod
    def _box(names: object, field: str) -> QComboBox:
        box = QComboBox()
        box.addItems(list(names))
        box.setToolTip(Settings.model_fields[field].description)
        box.setAccessibleName(field)
        return box

    @told
    def configure(self, preset: str | None = None, recipe: str | None = None) -> None:
        try:
            self.session.configure(preset, recipe)
        finally:
            self.refresh()

    def choose_encoder(self) -> None:
        if path := self.ask_file("Choose a frozen encoder", "ONNX (*.onnx)"):
            self.session.encoder = Path(path)
            self.refresh()

    def choose_folder(self) -> None:
        if path := self.ask_folder("Choose the run folder"):
            self.folder.setText(path)

    @told
    def start(self) -> None:
        """Train; or cancel, while training."""
        if self.train.is_cancel():
            self.session.cancel()
            return
        folder = self.folder.text().strip() or None
        self.session.train(folder, baseline=self.baseline.isChecked(), resume=self.resume.isChecked(), wait=False)

    def refresh(self) -> None:
        self.preset.setCurrentText(self.session.preset)
        self.recipe.setCurrentText(self.session.recipe)
        self.form.refresh()
        self.encoder_row.setVisible(self.session.settings.model.encoder == "features")
        self.encoder.setText(str(self.session.encoder or ""))
        self.refresh_button()

    def refresh_button(self) -> None:
        self.folder.setPlaceholderText(str(self.session.default_run_folder()) if len(self.session.cohort) else "")
        show_reason(self.reason, self.train.refresh(self.session.why_not_train()))

    def _on_job(self, job: Job) -> None:
        show_reason(self.reason, self.train.refresh(self.session.why_not_train()))
