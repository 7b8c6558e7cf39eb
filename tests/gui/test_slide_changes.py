"""Quick changes of slide with prediction layers on, and windows that close in mid-flight; see benchmarks.slide_changes.

A crash of the process is what this looks for: `python -m benchmarks.slide_changes` does it thousands of times.
"""

import faulthandler
import gc
import random
import time

import pytest

from benchmarks.slide_changes import REST, burst, turn, window, wrong
from napari_distill2label.slides.synthetic import write_cohort

CHANGES = 120


@pytest.fixture
def table(tmp_path):
    return write_cohort(tmp_path, 6, shape=(270, 324))


@pytest.fixture
def made(monkeypatch, make_napari_viewer):
    """The windows of the benchmark are closed by the fixture of napari's tests."""
    import napari

    monkeypatch.setattr(napari, "Viewer", lambda: make_napari_viewer())
    panels = []
    yield panels
    for panel in panels:
        panel.session.shutdown()


def test_of_many_quick_changes_each_rest_is_right(made, table):
    assert faulthandler.is_enabled()
    made.append(panel := window(table))
    chance, done = random.Random(7), 0
    while done < CHANGES:
        done += burst(panel, chance)
        until = time.monotonic() + REST
        while (fault := wrong(panel)) and time.monotonic() < until:
            turn(10)
        assert not fault, f"after {done} changes"


@pytest.mark.parametrize("pause", [0, 5, 40])
def test_a_window_closes_while_slides_are_opened(made, table, qtbot, pause):
    panel = window(table)
    for step in (1, 1, -1):
        panel.actions_of_keys.show_by(step)
        turn(pause)
    panel.session.viewer.close()
    made.append(panel)
    turn(100)
    gc.collect()
