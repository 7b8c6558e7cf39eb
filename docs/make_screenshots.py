"""Draw `docs/images/` anew, from a real napari with drawn slides: python docs/make_screenshots.py [RUN]

Needs a screen, or `xvfb-run -a`. RUN is the folder of a run trained on the drawn cohort (`distill2label demo` leaves
one in demo/run); without it a small one is trained first, which takes a minute or two.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
WINDOW = (1366, 768)  # px; a small laptop's screen
# Beside those of the demo; glass is not scored.
SETTINGS = {"split": {"valid": 0.2, "test": 0.2}, "grid": {"tissue": "white"}}


def train_run(folder: Path) -> Path:
    """A run on 30 drawn slides."""
    from napari_distill2label.core.events import drain
    from napari_distill2label.core.presets import build_settings
    from napari_distill2label.slides.synthetic import write_cohort
    from napari_distill2label.store.cohort import Cohort
    from napari_distill2label.workflow.demo import OVERRIDES, SHAPE
    from napari_distill2label.workflow.train import train

    cohort = Cohort.read(write_cohort(folder / "cohort", n_slides=30, shape=SHAPE))
    return drain(train(cohort, folder / "run", build_settings(overrides=OVERRIDES | SETTINGS))).folder


def draw_slides(folder: Path) -> Path:
    """Slides that no run has seen, larger than those it was trained on, labelled; their cohort.csv."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(folder, n_slides=6, seed=77, shape=(729, 972))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("run", nargs="?", type=Path, help="run folder of the demo")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # Before napari is imported: the user's own theme and window layout are none of a picture's business.
        os.environ["NAPARI_CONFIG"] = str(Path(name) / "settings.yaml")
        run = Path(name) / "run"
        # A copy: predictions are kept in the run, and those of a picture do not belong there.
        take(Path(name), Path(shutil.copytree(given.run, run)) if given.run else train_run(Path(name)))


def take(folder: Path, run: Path) -> None:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_distill2label.gui import layers
    from napari_distill2label.gui.widget import DistillToLabel

    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(*WINDOW)
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label", area="right")
    session = panel.session

    def settle() -> None:
        for _ in range(30):
            QApplication.processEvents()

    def picture(file: str, widget: object = None) -> None:
        settle()
        if widget is None:
            viewer.screenshot(IMAGES / file, canvas_only=False, flash=False)
        else:
            widget.grab().save(str(IMAGES / file))
        print(IMAGES / file)

    IMAGES.mkdir(exist_ok=True)
    session.read_cohort(draw_slides(folder / "slides of today"))
    session.load_bundle(run)
    # Else the boxes would name a temporary folder.
    panel.train.folder.setText("slides of today/run")
    panel.export.folder.setText("slides of today/labels")
    positive = [row.slide_id for row in session.cohort if row.label == session.classes[1]]
    session.show(positive[1])
    session.predict(positive[1])
    settle()
    viewer.reset_view(margin=0.02)
    (labels,) = layers.find(viewer, layers.LABELS)
    (probability,) = layers.find(viewer, layers.PROBABILITY)
    viewer.layers.selection = {labels}
    picture("napari_labels.png")

    picture("napari_panel.png", panel.scroll.widget())  # whole, as if there were no end to the screen

    labels.visible, probability.visible = False, True
    viewer.layers.selection = {probability}
    picture("napari_probability.png")
    session.shutdown()
    viewer.close()


if __name__ == "__main__":
    main()
