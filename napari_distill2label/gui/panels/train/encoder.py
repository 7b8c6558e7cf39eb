"""The frozen encoder: its file, which may be asked to be trusted, and the features of the slides."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QLabel, QLineEdit, QMessageBox, QVBoxLayout, QWidget

from ....core.paths import TORCHSCRIPT, may_run_code
from ...actions import requirements
from ...plain_text import as_plain
from ...widgets.controls import JobButton, Panel, button, hint_label, row, set_hint

ENCODERS = f"Encoders (*.onnx *.safetensors {' '.join('*' + suffix for suffix in TORCHSCRIPT)});;All files (*)"
TRUST = (
    "{name} can hold a program, which runs with your rights when the file is opened.\n\n"
    "Open it only if you trust where it comes from. An .onnx file cannot do this."
)

FILE = "The network whose features of a patch are trained on"
FOLDER = "Folder with features of the slides, computed once: training and Live training take them there"
OF_THE_FOLDER = "Patches are those of the features in the folder: patch size and stride set here have no effect."


class EncoderRows(QWidget):
    """Rows of the Train panel that only the preset for whole slides needs."""

    def __init__(self, panel: Panel, compute: Callable[[], None]) -> None:
        super().__init__()
        self._panel, self._session = panel, panel.session
        self.file = _shown("frozen encoder", "an .onnx file with a .json beside it")
        self.choose = button("Choose…", "Choose the file of the frozen encoder", self.choose_file)
        self.folder = _shown("folder of features", "computed in the run")
        self.choose_folder = button("Choose…", "Choose a folder with features of the slides", self.choose_features)
        tip = "Run the encoder over all slides once, and keep its features beside them"
        self.compute = JobButton(self._session, "features", "Compute features", tip)
        self.compute.clicked.connect(lambda checked=False: compute())
        self.about, self.reason = hint_label(), hint_label()
        self.about.setAccessibleName("what the encoder is")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row(QLabel("Encoder"), self.file, self.choose, stretch=1))
        layout.addWidget(self.about)
        layout.addLayout(row(QLabel("Features"), self.folder, self.choose_folder, stretch=1))
        layout.addWidget(self.compute)
        layout.addWidget(self.reason)

    def choose_file(self) -> None:
        """Ask for the encoder; one that can hold a program only if the user trusts it."""
        if not (chosen := self._panel.ask_file("Choose a frozen encoder", ENCODERS)):
            return
        path = Path(chosen)
        if may_run_code(path):
            if not self.ask_trust(path):
                return
            self._session.trusted = path
        self._session.encoder = path

    def ask_trust(self, path: Path) -> bool:
        """May a file be opened that can hold a program? No, unless somebody says so."""
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return (
            QMessageBox.warning(self, "Trust this file?", as_plain(TRUST.format(name=path.name)), yes | no, no) == yes
        )

    def choose_features(self) -> None:
        """Ask for a folder of features that were computed before."""
        if path := self._panel.ask_folder("Choose a folder of features"):
            self._session.feature_folder = Path(path)

    def refresh(self) -> None:
        """Show what the session says."""
        session = self._session
        self.setVisible(session.settings.architecture.encoder == "features")
        for line, path, tip in (
            (self.file, session.encoder, FILE),
            (self.folder, session.feature_folder, FOLDER),
        ):
            line.setText(str(path or ""))
            line.setToolTip(as_plain(str(path or tip)))
        missing = "Add slides first." if not len(session.cohort) else None
        missing = missing or requirements.problem_of(requirements.encode(session.choices, session.settings))
        about = session.choices.encoder_about
        said = f"{about.name}: {about.features:,} features of a patch" if about else ""
        alone = session.feature_folder is not None and session.encoder is None
        set_hint(self.about, OF_THE_FOLDER if alone else said)
        set_hint(self.reason, self.compute.refresh(missing))


def _shown(name: str, placeholder: str) -> QLineEdit:
    line = QLineEdit()
    line.setReadOnly(True)
    line.setPlaceholderText(placeholder)
    line.setAccessibleName(name)
    return line
