"""The mask of the tissue: find it, look at it, paint on it, use it."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QMessageBox, QVBoxLayout, QWidget

from ....core.errors import Distill2LabelError
from ...messages import message_of
from ...session import Session
from ...widgets.controls import begin_at, button, end_at, row

REGIONS = "Regions (*.geojson *.json *.xml);;All files (*)"
SAVED = "Regions (*.geojson);;All files (*)"


class TissueEditor(QWidget):
    """Buttons over `Session.tissue`. What cannot be done is said by `problem`."""

    problem = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.show_mask = QCheckBox("Show the tissue mask of this slide")
        self.show_mask.setToolTip(
            "Show where there is tissue, as a layer you can paint on (1 is tissue, 0 is not). It is found first if "
            "there is no mask yet."
        )
        self.show_mask.toggled.connect(self._toggle)
        self.find_again = button(
            "Find again", "Segment the tissue of this slide again. This replaces what you painted", self._find
        )
        self.find_all = button(
            "Find for all slides",
            "Look for the tissue of all slides that have no mask yet, in the background",
            self._all,
        )
        self.load = button("Load…", "Take regions from a GeoJSON file, as QuPath exports them", self._load)
        self.save = button("Save…", "Write the mask as GeoJSON, for QuPath", self._save)
        self.use = QCheckBox("Use masks in training and predicting")
        self.use.toggled.connect(self._use)
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setAccessibleName("tissue masks")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 0, 4)
        layout.addWidget(self.show_mask)
        layout.addLayout(row(self.find_again, self.load, self.save))
        layout.addWidget(self.find_all)
        layout.addWidget(self.use)
        layout.addWidget(self.state)
        self.refresh()

    def refresh(self) -> None:
        tissue, shown = self.session.tissue, self.session.shown
        looking, masked = shown in tissue.looking, tissue.masked
        has = shown in masked
        for box, checked in ((self.show_mask, tissue.wanted and shown is not None), (self.use, tissue.use)):
            box.blockSignals(True)
            box.setChecked(checked)
            box.blockSignals(False)
        self.show_mask.setEnabled(shown is not None)
        for widget, enabled, why, tip in (
            (self.find_again, shown is not None and not looking, "Select a slide first", self._tips()[0]),
            (self.load, shown is not None, "Select a slide first", self._tips()[1]),
            (self.save, has, "This slide has no mask yet", self._tips()[2]),
            (self.use, bool(masked), "There is no mask yet: show or find one first", self._tips()[3]),
        ):
            widget.setEnabled(enabled)
            widget.setToolTip(tip if enabled else why)
        self.find_again.setText("Looking…" if looking else "Find again" if has else "Find")
        self.state.setText(self._said())

    def _tips(self) -> tuple[str, ...]:
        return (
            "Look for the tissue of this slide; what was painted on its mask is replaced",
            "Take regions from a GeoJSON file, as QuPath exports them",
            "Write the mask as GeoJSON, for QuPath and for the command line",
            "Patches whose centre is not on a mask are left out. Slides without a mask follow the tissue rule of the "
            "settings.",
        )

    def _said(self) -> str:
        tissue, count = self.session.tissue, len(self.session.cohort)
        if tissue.looking:
            return f"Looking for tissue in {len(tissue.looking)} slide{'s' * (len(tissue.looking) > 1)}…"
        if not (masked := tissue.masked):
            return "No masks yet. Training and predicting follow the tissue rule of the settings."
        listed = sum(row.slide_id in masked for row in self.session.cohort)
        text = f"{listed} of {count} slides have a mask"
        fraction = self.session.tissue_layer.fraction()
        if fraction is not None:
            text += f"; {fraction:.0%} of this slide is tissue. Paint on the layer to change it; it is saved as you go"
        return f"{text}."

    # ---- what the user does ---------------------------------------------------------------------------------------

    def _toggle(self, shown: bool) -> None:
        self._told(self.session.tissue_layer.show if shown else self.session.tissue_layer.hide)

    def _find(self) -> None:
        if self.session.shown in self.session.tissue.masked and not self.confirm():
            return
        self._told(self.session.tissue.find)

    def confirm(self) -> bool:
        """Replacing what somebody painted is asked for."""
        text = "Segment the tissue of this slide again? This replaces what you painted on its mask."
        return QMessageBox.question(self, "Tissue mask", text) == QMessageBox.StandardButton.Yes

    def _all(self) -> None:
        ids = [row.slide_id for row in self.session.cohort]
        self._told(lambda: self.session.tissue.find(ids, again=False))

    def ask_load(self) -> str:
        return end_at(QFileDialog.getOpenFileName(self, "Regions of tissue", begin_at(self._folder()), REGIONS)[0])

    def ask_save(self, name: str) -> str:
        proposed = str(Path(begin_at(self._folder())) / name)
        return end_at(QFileDialog.getSaveFileName(self, "Save the tissue mask", proposed, SAVED)[0])

    def _folder(self) -> str:
        path = self.session.project.cohort_path
        return str(path.parent) if path else ""

    def _load(self) -> None:
        if path := self.ask_load():
            self._told(lambda: self.session.tissue.load(self.session.shown, path))

    def _save(self) -> None:
        if path := self.ask_save(f"{self.session.shown}.geojson"):
            self._told(lambda: self.session.tissue.save(self.session.shown, path))

    def _use(self, use: bool) -> None:
        self.session.tissue.use = use

    def _told(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (Distill2LabelError, OSError) as error:
            self.problem.emit(message_of(error))
        self.refresh()
