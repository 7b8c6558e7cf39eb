"""Thousands of quick slide changes with prediction layers on: does the window survive, and is it right at each rest?

`python -m benchmarks.slide_changes --changes 5000` (on Linux without a screen: `xvfb-run -a` before it). A real napari
window with the panel; slides are asked for by the table's own steps, in bursts of one to six, with a pause of 0 to 60
ms between two, while the threshold moves, networks change and slides are relabelled. After each burst the window comes
to rest: then the picture, the layers and the highlighted row must be of one slide. `--close` closes the window while
slides are being opened, again and again. A crash is told by `faulthandler`; the exit status is 0 if all was right.
"""

import argparse
import faulthandler
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_distill2label.core.slide_info import SlideInfo

REST = 30.0  # s until the last of a burst must be on the canvas
NETWORKS = ("student", "teacher")


def patch_maps(cohort: Any, size_px: int = 27) -> list[Any]:
    """A finished map in memory of each slide and network; probabilities are random."""
    from napari_distill2label.core.geometry import PatchGrid
    from napari_distill2label.core.settings import PatchSettings
    from napari_distill2label.slides.registry import open_slide
    from napari_distill2label.store.maps.patch_map import PatchMap

    rng, maps = np.random.default_rng(0), []
    for row in cohort:
        with open_slide(row.path) as slide:
            shape, mpp = slide.shape, slide.mpp
        grid = PatchGrid.over(shape, PatchSettings(size_px=size_px), mpp)
        for network in NETWORKS:
            found = PatchMap.create(
                None, grid, ("normal", "tumour"), SlideInfo(row.slide_id, str(row.path), mpp),
                model={"network": network},
            )  # fmt: skip
            for block in grid.blocks(1000):
                positive = rng.random(len(block.corners))
                values = np.stack([1 - positive, positive], -1)
                found.write(block, probability=values, logit=values, score=positive)
            found.finish([0.5, 0.5])
            maps.append(found)
    return maps


def window(table: Path, maps: bool = True) -> Any:
    """The panel in a window, with the slides of `table` and a prediction of each."""
    import napari

    from napari_distill2label.gui.dock import DistillToLabel
    from napari_distill2label.store.cohort import Cohort

    viewer = napari.Viewer()
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    session = panel.session
    session.read_cohort(table)
    session.project.network = NETWORKS[0]
    session.show(session.cohort.slides[0].slide_id)
    if maps:
        for patch_map in patch_maps(Cohort.read(table)):
            session.project.take_maps([patch_map])
    for kind in session.display.visible:
        session.display.set_visible(kind, True)
    return panel


def turn(milliseconds: float) -> None:
    """Let the window live."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(int(milliseconds), loop.quit)
    loop.exec()


def wrong(panel: Any) -> str:
    """What is not of one slide; "" while all is as it should be."""
    from napari_distill2label.gui.canvas import ownership

    session = panel.session
    (chosen,) = session.selected or (None,)
    seen = {ownership.tags_of(layer).get("slide_id") for layer in session.viewer.layers}
    if session.shown != chosen or seen != {chosen}:
        return f"selected {chosen}, shown {session.shown}, layers of {sorted(map(str, seen))}"
    return ""


def rest(panel: Any) -> str:
    """Let the window come to rest; what is wrong then."""
    until = time.monotonic() + REST
    while (fault := wrong(panel)) and time.monotonic() < until:
        turn(10)
    return fault


def burst(panel: Any, chance: random.Random, most: int = 6) -> int:
    """Some changes of slide, and what a restless user does between them; how many changes it were."""
    session, count = panel.session, chance.randint(1, most)
    for _ in range(count):
        panel.actions_of_keys.show_by(chance.choice((-1, 1, 1, 2, -3)))
        what = chance.random()
        if what < 0.15:
            session.set_threshold(round(chance.random(), 2))
        elif what < 0.3:
            session.set_label(session.selected or "slide_000", chance.choice(session.classes))
        elif what < 0.35:
            session.undo()
        elif what < 0.4:
            session.display.toggle_overlays()
        elif what < 0.45:
            session.project.network = chance.choice(NETWORKS)
            session.canvas.predictions.lay_all()
        turn(chance.choice((0, 0, 1, 5, 20, 60)))
    return count


def change(table: Path, changes: int, seed: int) -> int:
    """Changes of slide in one window; how many rests were wrong."""
    panel, chance, done, faults = window(table), random.Random(seed), 0, 0
    began = time.monotonic()
    while done < changes:
        done += burst(panel, chance)
        if fault := rest(panel):
            faults += 1
            print(f"after {done} changes: {fault}", flush=True)
        if done % 250 < 6:
            print(f"{done} changes, {done / (time.monotonic() - began):.1f} a second", flush=True)
    panel.session.viewer.close()
    return faults


def close_in_flight(table: Path, windows: int, seed: int) -> None:
    """Windows that are closed while slides are being opened and maps laid out."""
    chance = random.Random(seed)
    for number in range(windows):
        panel = window(table, maps=number % 2 == 0)
        for _ in range(chance.randint(1, 5)):
            panel.actions_of_keys.show_by(chance.choice((-1, 1)))
            turn(chance.choice((0, 1, 5, 30)))
        viewer = panel.session.viewer
        del panel
        viewer.close()
        turn(chance.choice((0, 20, 100)))
        print(f"closed window {number + 1}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=5000)
    parser.add_argument("--close", type=int, default=0, metavar="WINDOWS", help="close so many windows in mid-flight")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    faulthandler.enable()
    sys.setswitchinterval(1e-4)  # threads take turns fifty times as often as usual: races show sooner
    from napari_distill2label.slides.synthetic import write_cohort

    folder = Path(tempfile.mkdtemp(prefix="d2l-changes-"))
    try:
        table = write_cohort(folder, 8, shape=(540, 648))
        faults = change(table, given.changes, given.seed) if given.changes else 0
        if given.close:
            close_in_flight(table, given.close, given.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{faults} rests were wrong")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
