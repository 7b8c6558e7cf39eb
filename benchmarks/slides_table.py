"""How long the window stands still for a table of many slides: `xvfb-run -a python -m benchmarks.slides_table`.

Every row is an edit or a look as a user makes it, with all that follows from it until the window is drawn again, for
a hundred and for ten thousand slides. Their files do not exist: nothing is read for slides that are not in sight.
Times are those that the processor spent on the window's own thread, so that other work on the machine matters little.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .goals import Goal, figure

ROUNDS = 5
SIZES = (100, 10_000)
GOAL = Goal(100, "ms")  # for sorting and filtering the larger table, on an idle machine


def measure(rounds: int = ROUNDS) -> Iterator[str]:
    """Yield a line per action: medians in ms for each number of slides."""
    os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
    taken = {size: _taken(size, rounds) for size in SIZES}
    for name in taken[SIZES[0]]:
        few, many = (1e3 * np.array(taken[size][name]) for size in SIZES)
        goal = GOAL if name.startswith(("find", "sort")) else None
        yield figure(f"{name}, {np.median(few):.1f} ms with {SIZES[0]} slides, with {SIZES[1]:,}", many, "ms", goal)


def _taken(size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each action, by its name."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication

    from napari_distill2label.gui import get_session
    from napari_distill2label.gui.panels.slides.model import LABEL, NAME
    from napari_distill2label.gui.panels.slides.panel import SlidesPanel
    from napari_distill2label.gui.project.open_slides import OpenSlides
    from napari_distill2label.gui.project.table_file import TableFile
    from napari_distill2label.store.cohort import Cohort, CohortSlide

    viewer = napari.Viewer(show_welcome_screen=False)
    session = get_session(viewer)
    session.autosave._window = False  # it writes in a thread, and would be timed by chance
    panel = SlidesPanel(session)
    viewer.window.add_dock_widget(panel, name="slides")
    labels = ("normal", "tumour", None)
    rows = [CohortSlide(f"slide_{n}", Path(f"/nowhere/{n}.svs"), labels[n % 3], f"case_{n // 2}") for n in range(size)]
    session.swap.start(OpenSlides(cohort := Cohort(tuple(rows), labels[:2]), cohort, TableFile()))
    bar, up, down = panel.table.verticalScrollBar(), Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder

    def sort(column: int) -> Callable[[int], None]:
        return lambda turn: panel.table.sortByColumn(column, (up, down)[turn % 2])

    actions: dict[str, Callable[[int], object]] = {
        "label one slide": lambda turn: session.set_label(f"slide_{turn}", ("tumour", "normal")[turn % 2]),
        "undo it": lambda turn: session.undo(),
        "something was predicted": lambda turn: session.project.take_maps([]),
        "scroll by a tenth": lambda turn: bar.setValue(bar.maximum() * (turn + 1) // 10),
        "select all": lambda turn: (panel.table.clearSelection(), panel.table.selectAll()),
        "label all": lambda turn: panel.label_bar.set_label(("tumour", "normal")[turn % 2]),
        "find": lambda turn: panel.search.setText(f"tumour {turn}"),
        "find no more": lambda turn: panel.search.clear(),
        "sort by name": sort(NAME),
        "sort by label": sort(LABEL),
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds):
        for name, act in actions.items():
            QApplication.processEvents()
            start = time.thread_time()
            act(turn)
            QApplication.processEvents()
            taken[name].append(time.thread_time() - start)
    panel.disconnect_session()
    viewer.close()
    return taken


if __name__ == "__main__":
    for line in measure():
        print(line, flush=True)
