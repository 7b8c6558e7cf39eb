"""Step 3: a model over slides, what it said, and how that is shown."""

from collections.abc import Mapping
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
)

from ....core.calibration import Calibration
from ....core.text import count_of
from ...actions import quick_trial, requirements
from ...canvas.display import KINDS
from ...canvas.layers import ATTENTION, CONTRIBUTION, LABELS, PROBABILITY
from ...plain_text import DECIMALS, as_plain, threshold_text
from ...project.project import Maps
from ...runner.jobs import Job
from ...session import Session
from ...widgets.controls import Collapsible, JobButton, Panel, button, hint_label, open_jobs, row, set_hint, show_errors
from ...widgets.short import shorten_middle
from .gallery import Gallery
from .promise_dialog import ask_promise
from .reliability import UNCALIBRATED, ReliabilityDialog

NETWORK = "The network of the run that predicts and is shown"
THIS, SELECTED, ALL = "this slide", "selected slides", "all slides"
NO_MODEL = "No model yet: train one in step 2, or load one."
COMING = "A model is being trained: Predict waits for it."
STEPS = 100  # of the sliders
NETWORKS = {
    "student": "The student labels patches. Trained as recommended, it also uses neighbouring patches and the slide.",
    "teacher": "The teacher classifies the slide as a whole. Its attention shows which patches count.",
    "baseline": "The baseline: the same network, trained on slide labels alone. Compare with it.",
    "live": "Live training: trained again on features after each change of a label.",
}
SHOW = {
    LABELS: ("Labels", "The class of each patch at the threshold"),
    PROBABILITY: ("Probability", "Probability of a finding in each patch, from 0 (black) to 1 (bright)"),
    ATTENTION: ("Attention", "Weight of the patch in the slide's score, as a multiple of the average patch's"),
    CONTRIBUTION: (
        "Effect on the slide's score",
        "What each patch adds to the slide's score: red for the finding, blue against it",
    ),
}
NOTHING_TO_SHOW = "Nothing is predicted of the slide that is shown: predict it first"
NEGATIVES = (
    "Off: only findings are coloured, and all other tissue is seen as it is stained. "
    "Exported files are the same either way"
)
OPACITY = "How strongly the layers cover the tissue"
BLINK = "Hide all overlays. Click again to show them"
THRESHOLD = "Probability from which on a patch is labelled with a finding."
RELIABILITY = "How far the probabilities of this network can be believed: a picture, of slides it had not seen"
PROMISE = "Choose the threshold so that hardly anything is labelled on slides without a finding"
NO_POINTER = "Point at a patch to see what is known of it."


class PredictPanel(Panel):
    """Which model, which slides; the threshold, the layers, the patch under the pointer, the gallery."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, "3 · Predict")
        self.model = QLabel()
        self.model.setWordWrap(True)
        self.model.setAccessibleName("model")
        self.load = button("Load model…", "Load a run folder, or a model bundle, to predict with", self.load_model)
        self.network = self._combo("which model", NETWORK)
        self.network.textActivated.connect(self.set_network)
        self.about_network = QLabel()
        self.about_network.setWordWrap(True)
        self.reliability = button("Reliability…", RELIABILITY, self.show_reliability)
        self.slides = self._combo("which slides", "The shown slide, those selected in the table, or all of them")
        self.slides.addItems([THIS, SELECTED, ALL])
        self.slides.currentTextChanged.connect(lambda text: self.refresh_button())
        self.predict = JobButton(session, "predict", "Predict", "Label every patch of the slides")
        self.predict.clicked.connect(lambda checked=False: self.start())
        self.reason = hint_label()
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setAccessibleName("result of the shown slide")
        self.result.setToolTip("What the model says of the slide as a whole")
        self._make_threshold()
        self._make_look()
        self.pointer = QLabel(NO_POINTER)
        self.pointer.setWordWrap(True)
        self.pointer.setAccessibleName("patch under the pointer")
        self.pointer.setToolTip("Also in napari's status bar")
        self.tooltip = QCheckBox("Show it at the pointer, too")
        self.tooltip.setToolTip("napari's tooltip: rest the pointer on a patch")
        self.tooltip.setAccessibleName("tooltip at the pointer")
        self.tooltip.toggled.connect(lambda checked: setattr(session.viewer.tooltip, "visible", checked))
        self.gallery = Gallery(session)
        self.gallery_fold = Collapsible("Highest and lowest scoring patches", self.gallery)
        self.gallery_fold.toggle.setToolTip("Patches of the shown slide with the highest and the lowest scores")
        self._lay_out()
        self._listen()
        self.refresh()
        self._show_threshold(session.threshold)
        self._show_promise()

    def _combo(self, name: str, tip: str) -> QComboBox:
        box = QComboBox()
        box.setAccessibleName(name)
        box.setToolTip(tip)
        return box

    def _make_threshold(self) -> None:
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setAccessibleName("threshold slider")
        self.number = QDoubleSpinBox()
        self.number.setRange(0, 1)
        self.number.setSingleStep(0.01)
        self.number.setDecimals(DECIMALS)
        self.number.setAccessibleName("threshold")
        self.slider.valueChanged.connect(lambda value: self.set_threshold(value / STEPS))
        self.number.valueChanged.connect(self.set_threshold)
        self.promised = QLabel()
        self.promised.setWordWrap(True)
        self.promised.setAccessibleName("what the threshold is")
        self.promise = button("Promise…", PROMISE, self.choose_promise)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip("Patches of the shown slide, per class, at this threshold")
        self.legend.setAccessibleName("patches per class")
        self.negatives = QCheckBox("Colour negative patches")
        self.negatives.setAccessibleName("colour negative patches")
        self.negatives.toggled.connect(self.set_negatives)

    def _make_look(self) -> None:
        self.show_buttons: dict[str, QPushButton] = {}
        for kind in KINDS:
            text, _ = SHOW[kind]
            made = QPushButton(text)
            made.setAccessibleName(f"show {text.lower()}")
            made.setCheckable(True)
            made.clicked.connect(lambda checked, kind=kind: self.session.display.set_visible(kind, checked))
            self.show_buttons[kind] = made
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, STEPS)
        self.opacity.setAccessibleName("opacity of the layers")
        self.opacity.valueChanged.connect(lambda value: self.session.display.set_opacity(value / STEPS))
        self.blink = QPushButton("Hide overlays")
        self.blink.setCheckable(True)
        self.blink.setAccessibleName("hide all layers over the tissue")
        self.blink.clicked.connect(lambda checked: self.session.display.toggle_overlays())

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        choices.addRow("Network", row(self.network, self.reliability, stretch=0))
        choices.addRow("", self.about_network)
        choices.addRow("Slides", self.slides)
        shown = QGridLayout()
        shown.setContentsMargins(0, 0, 0, 0)
        for number, made in enumerate(self.show_buttons.values()):
            shown.addWidget(made, *((0, number) if number < 3 else (1, 0, 1, 3)))  # the last has a long name
        layout = QVBoxLayout(self)
        layout.addLayout(row(self.model, self.load, stretch=0))
        layout.addLayout(choices)
        layout.addWidget(self.predict)
        layout.addWidget(self.reason)
        layout.addWidget(self.result)
        layout.addLayout(row(QLabel("Threshold"), self.slider, self.number, stretch=1))
        layout.addLayout(row(self.promised, self.promise, stretch=0))
        layout.addWidget(self.legend)
        layout.addWidget(self.negatives)
        layout.addLayout(shown)
        layout.addLayout(row(QLabel("Opacity"), self.opacity, self.blink, stretch=1))
        layout.addWidget(self.pointer)
        layout.addWidget(self.tooltip)
        layout.addWidget(self.gallery_fold)

    def _listen(self) -> None:
        session = self.session
        self.follow(self.refresh, "model", "network")
        self.follow(self.refresh_button, "cohort")
        self.listen(session.project.events.shown, self._on_shown)
        self.listen(session.runs.changed, self._show_model)
        self.listen(session.project.events.threshold, self._show_threshold)
        self.follow(self._show_promise, "threshold", "promise", "network", "model", "cohort", "predictions")
        self.listen(session.project.events.predictions, self._on_predictions)
        self.listen(session.project.colours_changed, self.refresh_legend)
        self.listen(session.jobs.changed, self._on_job)
        self.listen(session.display.changed, self.refresh_look)
        self.listen(session.display.updated, self._on_filled)
        self.listen(session.display.hovered_changed, self._on_pointed)
        self.listen(session.corrections.changed, self._on_pointed)
        self.listen(session.project.events.selected, self.refresh_button)

    # ---- what the user does ----------------------------------------------------------------------------------------

    def load_model(self) -> None:
        if path := self.ask_folder("Load a run folder or a model bundle"):
            self.load_path(path)

    @show_errors
    def load_path(self, path: str) -> None:
        self.session.load_model(path, wait=False)

    @show_errors
    def set_network(self, network: str) -> None:
        self.session.network = network

    @show_errors
    def set_threshold(self, threshold: float) -> None:
        self.session.set_threshold(round(threshold, DECIMALS))

    def choose_promise(self) -> None:
        """Choose the threshold that keeps a promise of negative slides."""
        if (asked := self.ask_promise()) is not None:
            self.promise_threshold(*asked)

    @show_errors
    def promise_threshold(self, share: float, risk: float) -> None:
        self.session.promise_threshold(share, risk, wait=False)

    def ask_promise(self) -> tuple[float, float] | None:
        return ask_promise(self)

    def show_reliability(self) -> None:
        """Show a picture of how far the network's probabilities can be believed."""
        model, found = self.session.model, self._calibration()
        if model is not None and found is not None:
            ReliabilityDialog(self.session, found, model.classes, self).open()

    def _calibration(self) -> Calibration | None:
        """Of the chosen network; None: it has none."""
        model = self.session.model
        return None if model is None else model.calibrations.get(self.session.network or "")

    def set_negatives(self, coloured: bool) -> None:
        self.session.display.set_negatives(coloured)
        self.refresh_legend()

    @show_errors
    def start(self) -> None:
        """Predict; or cancel, while predicting."""
        if self.predict.is_cancel():
            self.session.cancel()
            return
        self.session.predict(self.chosen(), wait=False)

    def chosen(self) -> list[str] | None:
        """Ids of the slides to predict; None: all."""
        if self.slides.currentText() == THIS:
            return [self.session.shown] if self.session.shown else []
        return list(self.session.selected) if self.slides.currentText() == SELECTED else None

    def why_not(self) -> str | None:
        coming = self.session.jobs.coming("train", "load")
        missing = requirements.predict(self.session.project, coming is not None)
        reason = requirements.problem_of(missing)
        if reason is None and self.chosen() == []:
            if self.slides.currentText() == SELECTED:
                return "Select slides in the table of step 1, or choose all slides."
            return "Select a slide in the table, or choose all slides."
        return reason

    # ---- following the session -------------------------------------------------------------------------------------

    def headline(self) -> str:
        """One short line for the folded panel."""
        session = self.session
        if session.network is None:
            return "no model yet"
        done = sum(1 for maps in session.predictions.values() if session.network in maps)
        return session.predicted_text(done, [row.slide_id for row in session.cohort])

    def refresh(self) -> None:
        session = self.session
        self.network.clear()
        for network in (network for network in NETWORKS if network in session.networks):
            self.network.addItem(network)
            self.network.setItemData(self.network.count() - 1, NETWORKS[network], Qt.ItemDataRole.ToolTipRole)
        self.network.setCurrentText(session.network or "")
        self.network.setEnabled(self.network.count() > 1)
        self.network.setToolTip(NETWORK if self.network.count() else "Train a model in step 2 first, or load one")
        set_hint(self.about_network, NETWORKS.get(session.network or "", ""))
        calibrated = self._calibration() is not None
        self.reliability.setEnabled(calibrated)
        self.reliability.setToolTip(RELIABILITY if calibrated else UNCALIBRATED if session.model else NO_MODEL)
        self.refresh_button()
        self.refresh_look()
        self._on_shown()

    def refresh_button(self) -> None:
        self._show_model()
        set_hint(self.reason, self.predict.refresh(self.why_not()))

    def _show_model(self) -> None:
        model = self.session.model
        if model is not None:
            text = f"{'Run' if model.is_run else 'Bundle'} ‘{model.path.name}’: {', '.join(model.classes)}"
            run = self.session.runs.of_folder(model.path)
            trial = "" if run is None else quick_trial.about_run(run)
            self.model.setText(f"{text}\n{trial}" if trial else text)
        elif any(job.kind == "train" for job in open_jobs(self.session.jobs)):
            self.model.setText(COMING)
        else:
            self.model.setText(NO_MODEL)
        self.model.setToolTip("" if model is None else as_plain(str(model.path)))

    def refresh_look(self) -> None:
        overlays = self.session.display
        for kind, made in self.show_buttons.items():
            made.setChecked(overlays.visible[kind])
        self.negatives.setChecked(overlays.negatives)
        blocked = self.opacity.blockSignals(True)
        self.opacity.setValue(round(overlays.opacity * STEPS))
        self.opacity.blockSignals(blocked)
        self.blink.setChecked(overlays.hidden)
        self.blink.setText("Show overlays" if overlays.hidden else "Hide overlays")

    def refresh_legend(self) -> None:
        """What the slide is called, what the colours mean, and how many patches have them."""
        view = self.session.display.view
        there = view is not None
        for widget, tip in (
            *((made, SHOW[kind][1]) for kind, made in self.show_buttons.items()),
            (self.negatives, NEGATIVES), (self.opacity, OPACITY), (self.blink, BLINK),
        ):  # fmt: skip
            widget.setEnabled(there)
            widget.setToolTip(tip if there else NOTHING_TO_SHOW)
        if view is None:
            set_hint(self.legend, "")
            set_hint(self.result, "")
            return
        colours = self.session.display.colours_of(view.classes)
        counts = view.counts(self.session.threshold)
        total = max(1, int(view.scored.sum()))
        rows = [
            f'<tr><td><span style="color: rgb{colours[name]}">{sign}</span> '
            f"{escape(shorten_middle(name, 24))}&nbsp;&nbsp;</td>"
            f'<td align="right">{count} patches&nbsp;&nbsp;</td><td align="right">{count / total:.0%}</td>'
            f"<td>{remark}</td></tr>"
            for (name, count), (sign, remark) in zip(counts.items(), self._signs(len(counts)), strict=True)
        ]
        set_hint(self.legend, f"<table>{''.join(rows)}</table>")
        set_hint(self.result, self._result())

    def _signs(self, count: int) -> list[tuple[str, str]]:
        """By class: a swatch, and a remark where the canvas does not show its colour."""
        negative = ("■", "") if self.session.display.negatives else ("□", "&nbsp;&nbsp;not coloured")
        return [negative, *[("■", "")] * (count - 1)]

    def _result(self) -> str:
        patch_map = self.session.display.map
        if patch_map is None or (bag := patch_map.bag_probability) is None:
            return ""
        said = [f"{name} {bag[index]:.2f}" for index, name in enumerate(patch_map.classes) if index]
        return f"The slide as a whole: probability of {', '.join(said)}"

    def _on_shown(self) -> None:
        self.refresh_button()
        self.refresh_legend()
        self.gallery.refresh()
        self._on_pointed()

    def _on_predictions(self, now: Mapping[str, Maps], before: Mapping[str, Maps]) -> None:
        self.refresh_button()
        shown = self.session.shown or ""
        if now.get(shown) is not before.get(shown):
            self.refresh_legend()

    def _on_filled(self, slide_id: str) -> None:
        self.refresh_legend()
        view = self.session.display.view
        if view is None or view.is_complete:
            self.gallery.refresh()

    def _on_pointed(self) -> None:
        there = self.session.display.view is not None
        self.pointer.setVisible(there)
        self.tooltip.setVisible(there)
        self.pointer.setText(self.session.display.hovered_text or NO_POINTER)

    def _on_job(self, job: Job) -> None:
        self.refresh_button()

    def _show_promise(self) -> None:
        """What the threshold is: a promise, or the network's own; and whether a promise can be asked for."""
        project = self.session.project
        missing = requirements.promise(project)
        self.promise.setEnabled(missing is None)
        self.promise.setToolTip(PROMISE if missing is None else missing.problem)
        promise, own = project.promise, project.own_threshold(project.network)
        if promise is not None:
            self.promised.setText(
                f"On {1 - promise.risk:.0%} of new negative slides, at most {100 * promise.share:g}% of the patches "
                f"are labelled as a finding. This rests on {count_of(promise.n_slides, 'negative slide')} of "
                f"{count_of(promise.n_patients, 'patient')}."
            )
        elif own is not None and own == project.threshold:
            self.promised.setText(f"This is the threshold that the {project.network} comes with.")
        else:
            self.promised.setText("")

    def _show_threshold(self, threshold: float) -> None:
        network = self.session.network
        own = self.session.project.own_threshold(network)
        tip = THRESHOLD if own is None else f"{THRESHOLD} The {network}'s own is {threshold_text(own)}."
        for widget in (self.slider, self.number):
            widget.blockSignals(True)
            widget.setToolTip(tip)
        self.slider.setValue(round(threshold * STEPS))
        self.number.setValue(threshold)
        for widget in (self.slider, self.number):
            widget.blockSignals(False)
        self.refresh_legend()
        self._on_pointed()
