"""Step 4: the labels as files others read."""

from pathlib import Path

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QLineEdit, QVBoxLayout

from ..export import FORMATS
from .jobs import Done, Job
from .parts import JobButton, Panel, button, reason_label, row, show_reason, told
from .session import Session

NAMES = {"ome-tiff": "OME-TIFF mask", "geojson": "GeoJSON (QuPath)", "csv": "CSV table", "png": "PNG picture"}
FOLDER = "distill2label_export"


class ExportPanel(Panel):
    """Formats, folder, and where the files are."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "4 · Export")
        self.formats: dict[str, QCheckBox] = {}
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for number, (name, known) in enumerate(FORMATS.items()):
            box = QCheckBox(NAMES.get(name, name))
            box.setChecked(True)
            box.setToolTip(f"{known.suffix}: {known.description}")
            box.toggled.connect(lambda checked: self.refresh())
            self.formats[name] = box
            grid.addWidget(box, number // 2, number % 2)
        self.folder = QLineEdit()
        self.folder.setToolTip("Where the files are written. Empty: a folder beside the slides")
        self.folder.setAccessibleName("export folder")
        self.browse = button("Choose…", "Choose the folder", self.choose_folder)
        self.export = JobButton(
            session, "export", "Export", "Write the labels of all predicted slides, at this threshold"
        )
        self.export.clicked.connect(lambda checked=False: self.start())
        self.reason = reason_label()
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("where the files are")
        self.reveal = button("Show in folder", "Open the folder with the files", self.show_folder)
        layout = QVBoxLayout(self)
        layout.addLayout(grid)
        layout.addLayout(row(QLabel("Folder"), self.folder, self.browse, stretch=1))
        layout.addWidget(self.export)
        layout.addWidget(self.reason)
        layout.addWidget(self.result)
        layout.addWidget(self.reveal)
        self.listen(session.predictions_changed, self._on_prediction)
        self.listen(session.slides_changed, self.refresh)
        self.listen(session.jobs.changed, self._on_job)
        self.refresh()

    def choose_folder(self) -> None:
        if path := self.ask_folder("Export to"):
            self.folder.setText(path)

    def chosen(self) -> list[str]:
        return [name for name, box in self.formats.items() if box.isChecked()]

    def default_folder(self) -> Path:
        return Path(self.start_folder() or Path.home()) / FOLDER

    @told
    def start(self) -> None:
        """Export; or cancel, while exporting."""
        if self.export.is_cancel():
            self.session.cancel()
            return
        self.session.export(self.folder.text().strip() or self.default_folder(), self.chosen(), wait=False)

    def show_folder(self) -> None:
        if self.session.exported:
            self.open_folder(self.session.exported[0].parent)

    def open_folder(self, folder: Path) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def refresh(self) -> None:
        reason = self.session.why_not_export()
        if reason is None and not self.chosen():
            reason = "Choose at least one format."
        self.folder.setPlaceholderText(str(self.default_folder()) if len(self.session.cohort) else "")
        show_reason(self.reason, self.export.refresh(reason))
        files = self.session.exported
        self.result.setText(f"{len(files)} files in {files[0].parent}" if files else "")
        self.result.setToolTip("\n".join(file.name for file in files[:30]))
        for widget in (self.result, self.reveal):
            widget.setVisible(bool(files))

    def _on_prediction(self, slide_id: str) -> None:
        self.refresh()

    def _on_job(self, job: Job) -> None:
        if isinstance(job.outcome, Done) or not job.is_running or job.done == 0:
            self.refresh()
        else:
            self.export.refresh(self.session.why_not_export())
