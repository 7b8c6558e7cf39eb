"""Draw `docs/images/window_*.png` again, from a real napari: python docs/make_screenshots.py [RUN]

Each step of the window, dark and light, at 1366 × 768 px. Needs a screen, or `xvfb-run -a`. RUN is the folder of a run
trained on the drawn cohort (`distill2label demo` leaves one in demo/run); without it a small one is trained first,
which takes a minute or two.

Where the environment's D2L_DATA names a folder with the published colon images, the same pictures are made of these
too, in docs/_build/screenshots, to be looked at: nothing drawn from those images belongs into the repository.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).parent
WINDOW = (1366, 768)  # px; a small laptop's screen
THEMES = ("dark", "light")
# Beside those of the demo; glass is not scored.
SETTINGS = {"split": {"valid": 0.2, "test": 0.2}, "patches": {"tissue": "white"}}
QUICK = {"teacher": {"epochs": 3}, "oof": {"epochs": 2}, "student": {"epochs": 3}}
# As in the tutorial: enough for curves that say something. The picture is taken after so many epochs of the student.
LEARNING = {"epochs": 10, "learning_rate": 5e-4}
PICTURED = 8


def trained(cohort, folder: Path, settings):
    from napari_distill2label.core.events import drain
    from napari_distill2label.workflow.commands.train import train

    return drain(train(cohort, folder, settings)).folder


def drawn(folder: Path, run: Path | None) -> tuple[Path, Path, Path]:
    """(cohort.csv, run, cohort.csv to train on): slides that the run has not seen, larger than those to train on."""
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.slides.synthetic import write_cohort
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.workflow.commands.demo import N_SLIDES, OVERRIDES, SHAPE

    if run is None:
        cohort = Cohort.read(write_cohort(folder / "cohort", n_slides=30, shape=SHAPE))
        run = trained(cohort, folder / "run", build_settings(overrides=OVERRIDES | SETTINGS))
    else:  # a copy: predictions are kept in the run, and those of a picture do not belong there
        run = Path(shutil.copytree(run, folder / "run"))
    small = write_cohort(folder / "demo", n_slides=N_SLIDES, shape=SHAPE)
    return write_cohort(folder / "slides of today", n_slides=10, seed=77, shape=(729, 972)), run, small


def colon(folder: Path, data: Path) -> tuple[Path, Path, Path]:
    """(cohort.csv, run, cohort.csv to train on) of two dozen of the published images."""
    from napari_distill2label.core.events import drain
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset

    cohort = Cohort.read(drain(prepare_dataset("colon", data, folder / "colon")))
    by_label: dict = {}
    for row in cohort:
        by_label.setdefault(row.label, []).append(row)
    some = cohort.with_slides(row for rows in by_label.values() for row in rows[:12])
    path = some.write(folder / "colon" / "some.csv")
    return path, trained(some, folder / "run", build_settings("colon", overrides=QUICK)), path


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", nargs="?", type=Path, help="run folder of the demo")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # Before napari is imported: the user's own theme and window layout are none of a picture's business.
        os.environ["NAPARI_CONFIG"] = str(Path(name) / "settings.yaml")
        os.environ["XDG_CONFIG_HOME"] = name
        take(*drawn(Path(name), given.run), DOCS / "images")
    data = Path(os.environ.get("D2L_DATA", "")) / "colon"
    if "D2L_DATA" in os.environ and data.is_dir():
        with tempfile.TemporaryDirectory() as name:
            take(*colon(Path(name), data), DOCS / "_build" / "screenshots")


def take(cohort: Path, run: Path, to_train_on: Path, images: Path) -> None:
    """Walk the five steps in a real window, and picture each."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_distill2label.core.events import EpochEnd
    from napari_distill2label.gui.canvas import layers, ownership
    from napari_distill2label.gui.dock import DistillToLabel
    from napari_distill2label.store.splits import with_splits

    images.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(*WINDOW)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label", area="right")
    session = panel.session

    def settle(until=lambda: True, seconds: float = 0.3) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end or not until():
            QApplication.processEvents()
            time.sleep(0.01)

    def picture(step: str) -> None:
        if step not in panel.steps:
            return
        for name, each in panel.steps.items():
            each.set_open(name == step)
        for theme in THEMES:
            viewer.theme = theme
            settle()
            panel.scroll_area.verticalScrollBar().setValue(panel.steps[step].y())
            settle()
            save(viewer.screenshot(canvas_only=False, flash=False), images / f"window_{step}_{theme}.png")

    session.read_cohort(cohort)
    settle(lambda: len(session.cohort) > 0)
    session.configure(split={"test": 0.0})
    findings = [row.slide_id for row in session.cohort if row.label == session.classes[1]]
    learnt = with_splits(session.cohort, session.settings.split, session.settings.seed).in_split("train")
    # Corrections of the slide count when training goes on with them.
    chosen = [row.slide_id for row in learnt if row.slide_id in findings][-1]
    session.show(chosen)
    settle(lambda: session.shown == chosen)
    viewer.reset_view(margin=0.02)
    picture("slides")
    regions(session)
    panel.slides.regions_fold.toggle.setChecked(True)
    settle()
    panel.scroll_area.ensureWidgetVisible(panel.slides.regions)
    settle()
    save(viewer.screenshot(canvas_only=False, flash=False), images / "window_regions_light.png")
    panel.slides.regions_fold.toggle.setChecked(False)
    session.canvas.regions.layer.selected_data = {0, 1, 2}
    session.canvas.regions.layer.remove_selected()

    session.read_cohort(to_train_on)
    session.configure(teacher=LEARNING, student=LEARNING)
    session.show(session.cohort.slides[1].slide_id)
    settle(lambda: session.shown == session.cohort.slides[1].slide_id)
    viewer.reset_view(margin=0.02)
    panel.train.folder.setText("demo/run")  # else the box would name a temporary folder
    ended = []  # epochs of the student: their losses are curves

    def note(job, event) -> None:
        if isinstance(event, EpochEnd) and event.network == "student":
            ended.append(event)

    session.jobs.event.connect(note)
    job = session.train(run.with_name("another run"), wait=False)
    settle(lambda: job.outcome is not None or len(ended) >= PICTURED, 1)
    picture("train")
    session.cancel()
    settle(lambda: not session.jobs.busy)

    session.read_cohort(cohort)
    settle(lambda: len(session.cohort) > 0)
    session.load_model(run)
    panel.export.folder.setText("slides of today/labels")
    session.predict(findings)
    session.show(chosen)
    settle(lambda: session.shown == chosen, 1)
    panel.status.card.clear()
    viewer.reset_view(margin=0.02)
    settle(lambda: bool(ownership.find(viewer, layers.LABELS, chosen)), 1)
    (labels,) = ownership.find(viewer, layers.LABELS, chosen)
    viewer.layers.selection = {labels}
    picture("predict")

    correct(session)
    viewer.reset_view(margin=0.02)
    picture("review")

    sample(session)
    panel.review.sample_fold.toggle.setChecked(True)
    settle(session.sample_actions.is_sampling, 1)
    panel.status.card.clear()
    for name, each in panel.steps.items():
        each.set_open(name == "review")
    settle()
    panel.scroll_area.ensureWidgetVisible(panel.review.sample)
    settle()
    save(viewer.screenshot(canvas_only=False, flash=False), images / "window_sample_light.png")
    session.stop_sampling()

    session.export(run.with_name("labels"), ["csv", "geojson"])
    panel.status.card.clear()
    picture("export")
    panel.show_help()
    settle()
    panel.help_popup.grab().save(str(images / "window_shortcuts.png"))
    session.shutdown()
    viewer.close()


def correct(session) -> None:
    """Three corrections, and on to the next uncertain patch."""
    for _ in range(3):
        if (cell := session.next_uncertain()) is not None:
            session.correct(session.classes[1], cell)
    session.next_uncertain()


def regions(session) -> None:
    """A region of each kind on the shown slide."""
    import numpy as np

    box = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], float)
    for says, place, size in (
        ("none here", (60, 320), (120, 260)), ("somewhere here", (330, 180), (230, 330)),
        ("all of this", (430, 660), (130, 150)),
    ):  # fmt: skip
        session.canvas.regions.draw(says)
        session.canvas.regions.layer.add_polygons(box * size + place)


def sample(session) -> None:
    """A random sample, of which some patches are labelled, and what it says."""
    session.draw_sample(30)
    for number in range(24):
        session.label_sampled(session.classes[number % 3 == 0])
    session.measure_sample()
    session.go_to_sampled(24)


def save(pixels, path: Path) -> None:
    from PIL import Image

    from napari_distill2label.core.classes import palette as class_colours

    # A third of the bytes, and no eye sees it: the colours of classes, some rare ones, most for tissue and glass.
    whole, palette = Image.fromarray(pixels).convert("RGB"), Image.new("P", (1, 1))
    few = [value for rgb in class_colours(2) for value in rgb]
    for n, way in ((54, Image.Quantize.FASTOCTREE), (200, Image.Quantize.MEDIANCUT)):
        few += whole.quantize(n, way).getpalette()[: 3 * n]
    palette.putpalette(few)
    whole.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
