"""Step 5: the labels as files others read, and what was done as a script."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QVBoxLayout,
)

from ....core.errors import OutputError
from ....core.inputs import Inputs
from ....core.paths import is_url
from ....exporters.formats import DEFAULT_FORMATS, FORMATS
from ...actions import requirements
from ...messages import message_of
from ...plain_text import as_plain, threshold_text
from ...runner.jobs import Done, Failure, Job
from ...session import Session
from ...widgets.controls import JobButton, Panel, button, existing, hint_label, row, set_hint, show_errors
from ...widgets.file_manager import open_folder, revealed

NAMES = {
    "ome-tiff": "OME-TIFF mask", "geojson": "GeoJSON (QuPath)", "csv": "CSV table", "png": "PNG picture",
    "regions": "Merged regions", "probability": "Probabilities", "mask-png": "PNG mask",
    "ome-zarr": "OME-Zarr mask", "ome-zarr-0.4": "OME-Zarr 0.4 mask", "parquet": "Parquet table",
    "report": "Report (HTML)",
}  # fmt: skip
FOLDER = "distill2label_export"
NAMED = 5  # files that a question names
REPLACE = "This program did not write them, or they were changed since (in QuPath, for one). Replace them?"
WHERE = "Where the files are written. Empty: a folder beside the slides"
ALL, SELECTED, THIS = "all predicted slides", "selected slides", "this slide"


class ExportPanel(Panel):
    """Formats, slides, folder; where the files are; copy what was done."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "5 · Export")
        self._written_at: float | None = None
        self._started: Job | None = None  # the export that was begun here
        self._asked: dict[str, Any] = {}  # what it was to write
        self.formats: dict[str, QCheckBox] = {}
        formats = QGridLayout()
        formats.setContentsMargins(0, 0, 0, 0)
        for number, (name, known) in enumerate(FORMATS.items()):
            box = QCheckBox(NAMES.get(name, name))
            box.setChecked(name in DEFAULT_FORMATS)
            box.setToolTip(f"{known.suffix}: {known.description}")
            box.toggled.connect(lambda checked: self.refresh())
            self.formats[name] = box
            formats.addWidget(box, number // 2, number % 2)
        self.slides = QComboBox()
        self.slides.addItems([ALL, SELECTED, THIS])
        self.slides.setToolTip("Whose labels are written. Slides without a prediction have none")
        self.slides.setAccessibleName("which slides to export")
        self.slides.textActivated.connect(lambda text: self.refresh())
        self.folder = QLineEdit()
        self.folder.setAccessibleName("export folder")
        self.folder.textChanged.connect(lambda text: self._look_soon())
        self.browse = button("Choose…", "Choose the folder", self.choose_folder)
        self.browse.setAccessibleName("choose the export folder")
        self.threshold = QLabel()
        self.threshold.setToolTip("Probability from which on a patch is labelled with a finding; step 3 sets it")
        self.corrections = QCheckBox()
        self.corrections.setChecked(True)
        self.corrections.setAccessibleName("apply my corrections")
        self.corrections.setToolTip(
            "Where you corrected a patch, your class is written; the table's column 'source' says which is whose"
        )
        self.export = JobButton(session, "export", "Export", "Write the labels of these slides, at this threshold")
        self.export.clicked.connect(lambda checked=False: self.start())
        self.reason, self.replaced, self.result = hint_label(), hint_label(), hint_label()
        self.replaced.setAccessibleName("what would be replaced")
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("where the files are")
        self.reveal = button("Show in folder", "Open the folder with the files", self.show_folder)
        self.copy_python = button("Copy as Python", "", lambda: self.copy("python"))
        self.copy_shell = button("Copy as command line", "", lambda: self.copy("command_line"))
        self.copied = hint_label()
        self.copied.setAccessibleName("what was copied")
        self._arrange(formats)
        self._listen()
        self.refresh()

    def _arrange(self, formats: QGridLayout) -> None:
        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        choices.addRow("Slides", self.slides)
        choices.addRow("Threshold", self.threshold)
        layout = QVBoxLayout(self)
        layout.addLayout(formats)
        layout.addLayout(choices)
        layout.addWidget(self.corrections)
        layout.addLayout(row(QLabel("Folder"), self.folder, self.browse, stretch=1))
        for widget in (self.replaced, self.export, self.reason, self.result, self.reveal):
            layout.addWidget(widget)
        layout.addLayout(row(self.copy_python, self.copy_shell))
        layout.addWidget(self.copied)

    def _listen(self) -> None:
        session = self.session
        self._soon = QTimer(self)  # a list of a thousand slides is looked at once for a thousand predictions
        self._soon.setSingleShot(True)
        self._soon.setInterval(100)
        self._soon.timeout.connect(self.refresh)
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.setInterval(200)
        self._look.timeout.connect(self._look_for_files)
        self.follow(self._refresh_soon, "cohort", "predictions", "model", "network", "shown", "selected", "exported")
        self.listen(session.corrections.changed, self._refresh_soon)
        self.listen(session.project.events.threshold, self._show_threshold)
        self.listen(session.jobs.changed, self._on_job)
        self.listen(session.log.changed, self._refresh_copy)
        self._refresh_copy()
        self._show_threshold(session.threshold)

    def headline(self) -> str:
        files = self.session.exported
        if files:
            at = "" if self._written_at is None else f" at {time.strftime('%H:%M', time.localtime(self._written_at))}"
            return f"{_files(len(files))} written{at}"
        count = len(self._predicted())
        return f"{count} {'slide' if count == 1 else 'slides'} to export" if count else "nothing to export yet"

    # ---- what the user does ---------------------------------------------------------------------------------------

    def choose_folder(self) -> None:
        if path := self.ask_folder("Export to"):
            self.folder.setText(path)

    def chosen(self) -> list[str]:
        """Names of the ticked formats."""
        return [name for name, box in self.formats.items() if box.isChecked()]

    def chosen_slides(self) -> list[str]:
        """Ids of the slides that would be written."""
        wanted = {
            ALL: [slide.slide_id for slide in self.session.cohort],
            SELECTED: self.session.selected,
            THIS: [self.session.shown],
        }[self.slides.currentText()]
        have = set(self._predicted())
        return [slide_id for slide_id in wanted if slide_id in have]

    def default_folder(self) -> Path:
        return Path(self.start_folder() or Path.home()) / FOLDER

    def out(self) -> Path:
        """The folder that is written to."""
        text = self.folder.text().strip()
        return Path(text).expanduser() if text else self.default_folder()

    @show_errors
    def start(self) -> None:
        """Export; or cancel, while exporting."""
        if self.export.is_cancel():
            self.session.cancel()
            return
        use = self.corrections.isVisibleTo(self) and self.corrections.isChecked()
        inputs = Inputs(corrections=self.session.corrections.save() if use else None)
        what = {"out": self.out(), "formats": self.chosen(), "slides": self.chosen_slides(), "inputs": inputs}
        self._begin(what)

    def _begin(self, what: dict[str, Any], overwrite: bool = False) -> None:
        self._asked = what
        started = self.session.export(**what, overwrite=overwrite, wait=False)
        self._started = started if isinstance(started, Job) else None

    @show_errors
    def _ask_to_replace(self, error: OutputError) -> None:
        """The export has stopped before it wrote anything: files of somebody else are in the way."""
        if self.may_replace(error.paths):
            self._begin(self._asked, overwrite=True)

    def may_replace(self, paths: Sequence[Path]) -> bool:
        """Ask whether files that this program did not write, or that were changed since, may be replaced."""
        many = f"{len(paths)} files" if len(paths) > 1 else "1 file"
        names = "\n".join(path.name for path in paths[:NAMED]) + ("\n…" if len(paths) > NAMED else "")
        text = f"{many} in {paths[0].parent} would be replaced. {REPLACE}\n\n{names}"
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return QMessageBox.warning(self, "Replace these files?", as_plain(text), yes | no, no) == yes

    def show_folder(self) -> None:
        if self.session.exported:
            self.open_folder(self.session.exported[0])

    def open_folder(self, file: Path) -> None:
        """Show a file where it is: a file manager may take its time to answer."""
        self.session.reader.request(("reveal", id(self)), lambda: revealed(file), partial(self._revealed, file.parent))

    def _revealed(self, folder: Path, shown: bool) -> None:
        if not shown and not open_folder(folder):
            self.problem.emit(f"This system offers nothing to show folders with. The files are in {folder}")

    def copy(self, language: str) -> None:
        """What was done, to the clipboard: 'python' or 'command_line'."""
        write = getattr(self.session.log, language)  # it looks at folders: not in the GUI thread
        self.session.reader.request(("script", id(self)), write, self._copied, lambda error: self._failed(error))

    def why_not(self) -> str | None:
        """What is missing for an export, in words; None when it can start."""
        if missing := requirements.export(self.session.project):
            return missing.problem
        if not self.chosen():
            return "Choose at least one format."
        if self.chosen_slides():
            return None
        return {
            SELECTED: "None of the selected slides has a prediction: select others, or predict them first.",
            THIS: "The slide that is shown has no prediction: predict it first.",
        }.get(self.slides.currentText(), "Predict first: there is nothing to export yet.")

    # ---- following the session ------------------------------------------------------------------------------------

    def refresh(self) -> None:
        default = str(self.default_folder()) if len(self.session.cohort) else ""
        self.folder.setPlaceholderText(default)
        self.folder.setToolTip(as_plain(f"{WHERE}:\n{default}") if default else WHERE)
        self._refresh_button()
        corrected = self._corrected()
        self.corrections.setVisible(bool(corrected))
        count = sum(corrected.values())
        self.corrections.setText(f"Apply my corrections ({count} patch{'es' * (count != 1)})")
        self._show_result()
        self._look_soon()

    def _predicted(self) -> list[str]:
        network = self.session.network or ""
        return [slide_id for slide_id, maps in self.session.predictions.items() if network in maps]

    def _corrected(self) -> dict[str, int]:
        """How many patches of each predicted slide the user corrected."""
        corrected = self.session.corrections.slides
        return {slide_id: corrected[slide_id] for slide_id in self._predicted() if slide_id in corrected}

    def _show_result(self) -> None:
        files = self.session.exported
        text = f"{_files(len(files))} in {files[0].parent}" if files else ""
        set_hint(self.result, text)
        names = "\n".join(file.name for file in files[:30]) + ("\n…" if len(files) > 30 else "")
        self.result.setToolTip(as_plain(names))
        self.reveal.setVisible(bool(files))

    def _show_threshold(self, threshold: float) -> None:
        self.threshold.setText(f"{threshold_text(threshold)} (change it in step 3)")

    def _refresh_soon(self, *_: object) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _refresh_copy(self) -> None:
        have = bool(self.session.log.actions)
        for made, tip in (
            (self.copy_python, "What was trained, predicted and exported, as Python: for a notebook or a file"),
            (self.copy_shell, "What was trained, predicted and exported, as commands for a shell"),
        ):
            made.setEnabled(have)
            made.setToolTip(tip if have else "Train, predict or export something first: then it can be copied")
        set_hint(self.copied, "")

    def _copied(self, text: str) -> None:
        existing(QApplication.clipboard()).setText(text)
        lines = len(text.splitlines())
        set_hint(self.copied, f"Copied {lines} {'line' if lines == 1 else 'lines'}: paste them where you want them.")

    def _failed(self, error: Exception) -> None:
        self.problem.emit(message_of(error))

    def _look_soon(self) -> None:
        self._look.start()

    def _look_for_files(self) -> None:
        """Say what would be written over, before it is."""
        out, formats, maps = self.out(), self.chosen(), self.session.project.maps(self.chosen_slides())

        def look() -> Counter[str]:
            from ....workflow.commands.export import files_to_write

            files, outputs = files_to_write(maps, out, formats)
            return Counter(outputs.standing(file) for file in files)

        if maps and formats and not is_url(str(out)):
            self.session.reader.request(("export", id(self)), look, self._show_replaced)
        else:
            self._show_replaced(Counter())

    def _show_replaced(self, standing: "Counter[str]") -> None:
        ours, theirs = _files(standing["ours"]), _files(standing["foreign"])
        lines = []
        if standing["ours"]:
            lines.append(f"The folder holds {ours} of an earlier export: Export replaces them.")
        if standing["foreign"]:
            lines.append(f"{theirs} there were not written by this program: Export asks before it replaces them.")
        if standing["input"]:
            lines.append("Export would write onto your slides there: choose another folder.")
        set_hint(self.replaced, " ".join(lines))

    def _on_job(self, job: Job) -> None:
        if job.kind == "export" and isinstance(job.outcome, Done):
            self._written_at = time.time()
        error = job.outcome.error if job is self._started and isinstance(job.outcome, Failure) else None
        if isinstance(error, OutputError) and error.standing == "foreign":
            self._started = None
            QTimer.singleShot(0, lambda: self._ask_to_replace(error))
        if job.outcome is not None or job.done == 0:
            self._refresh_soon()
        self._refresh_button()

    def _refresh_button(self) -> None:
        set_hint(self.reason, self.export.refresh(self.why_not()))


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
