"""From one slide to the next with prediction layers on, in a real napari window: crops, and pyramids of whole slides.

`python -m benchmarks.next_slide` (on Linux without a screen: `xvfb-run -a` before it). Each slide is asked for by the
table's own step, and counted until picture and layers are of it and the canvas is drawn. Seconds of the clock, and
those the processor spent on the window's thread.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .goals import Goal, figure
from .pyramids import pyramid
from .slide_changes import patch_maps, turn, window, wrong

COUNT = 6  # slides of each kind
PYRAMID_PX = 16_384


def crops(folder: Path, count: int) -> Path:
    """A table of drawn crops of 500 px."""
    from napari_distill2label.slides.synthetic import write_cohort

    return write_cohort(folder, count, shape=(500, 500))


def pyramids(folder: Path, count: int) -> Path:
    """A table of copies of one pyramid, so that no file is in memory because of another."""
    folder.mkdir()
    lines = ["slide_id,path,label"]
    for number in range(count):
        shutil.copyfile(pyramid(PYRAMID_PX), folder / f"p{number}.tif")
        lines.append(f"p{number},p{number}.tif,{('normal', 'tumour')[number % 2]}")
    (folder / "cohort.csv").write_text("\n".join(lines), "utf-8")
    return folder / "cohort.csv"


def times(table: Path, size_px: int, rounds: int) -> np.ndarray:
    """(n, 2) seconds of each change: of the clock, and of the window's thread."""
    panel = window(table, maps=False)
    session = panel.session
    session.project.take_maps(patch_maps(session.cohort, size_px))
    for kind in session.display.visible:
        session.display.set_visible(kind, True)
    steps = [1] * (len(session.cohort) - 1)
    _until_right(panel)
    taken = []
    for step in (steps + [-each for each in steps]) * rounds:
        turn(300)  # a user looks at a slide before the next
        began = time.perf_counter(), time.thread_time()
        panel.actions_of_keys.show_by(step)
        _until_right(panel)
        session.viewer.screenshot(canvas_only=True, flash=False)
        taken.append((time.perf_counter() - began[0], time.thread_time() - began[1]))
    session.viewer.close()
    return np.array(taken)


def _until_right(panel: Any) -> None:
    until = time.monotonic() + 30
    while (fault := wrong(panel) or _without_labels(panel)) and time.monotonic() < until:
        turn(1)
    if fault:
        raise RuntimeError(fault)


def _without_labels(panel: Any) -> str:
    from napari_distill2label.gui.canvas.layers import LABELS
    from napari_distill2label.gui.canvas.ownership import find

    session = panel.session
    is_laid = session.shown and find(session.viewer, LABELS, session.shown) and not session.reader.busy
    return "" if is_laid else f"{session.shown}: its labels are not laid"


def measure(count: int = COUNT, rounds: int = 2) -> Iterator[str]:
    """Yield lines for crops and pyramids."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # /tmp may be memory
        for kind, made, size_px, goal in (
            ("crops", crops, 27, Goal(0.15, "s")),
            ("pyramids", pyramids, 256, Goal(0.4, "s")),
        ):
            taken = times(made(Path(name) / kind, count), size_px, rounds)
            yield figure(f"{kind}, from a slide to the next with its layers", taken[:, 0], "s", goal)
            yield figure(f"{kind}, of that the window's thread computes", taken[:, 1], "s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.next_slide", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="slides of each kind")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    for line in measure(options.count, options.rounds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
