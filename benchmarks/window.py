"""Gaps in the window's event loop while it trains and predicts, against the same script with nothing going on.

`python -m benchmarks.window` (on Linux without a screen: `xvfb-run -a` before it). In a real napari window with the
panel docked, a timer asks for its turn every 5 ms while the camera is moved about; a gap is the time between two turns.
Idle, training and predicting take turns in rounds, so that a machine that slows down slows all of them. Beside other
work a gap is mostly waiting for a processor; `own` is what the window's thread itself computed in it.
"""

import argparse
import shutil
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .goals import Goal, figure

TICK = 5  # ms
MOVE = 80  # ms between two moves of the camera
GOAL = Goal(50, "ms")  # above idle, 99.9th percentile


class Gaps:
    """Counts how long the event loop of this thread leaves a timer waiting."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._gaps = array("d")  # an hour of tuples would be 50 MB, and be taken for what the window holds
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._turn)
        self._last = self._now()
        self._timer.start(TICK)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.thread_time()

    def _turn(self) -> None:
        now = self._now()
        self._gaps.extend((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now

    def stop(self) -> np.ndarray:
        """(n, 2) seconds between two turns, and seconds this thread computed in them."""
        self._timer.stop()
        self._turn()
        return np.array(self._gaps).reshape(-1, 2)


def run_for(seconds: float, camera) -> np.ndarray:
    """Let the window live, and a user look about; gaps (n, 2) in seconds, see `Gaps.stop`."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, mover, centre = QEventLoop(), QTimer(), tuple(camera.center)
    begun = time.perf_counter()

    def move() -> None:
        turn = time.perf_counter() - begun
        camera.center = (*centre[:-2], centre[-2] + 20 * np.sin(turn), centre[-1] + 20 * np.cos(turn))

    mover.timeout.connect(move)
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    gaps = Gaps()
    mover.start(MOVE)
    loop.exec()
    mover.stop()
    camera.center = centre
    return gaps.stop()


def measure(seconds: float = 10.0, rounds: int = 3) -> Iterator[str]:
    import napari
    import torch

    from napari_distill2label.gui.dock import DistillToLabel
    from napari_distill2label.slides.synthetic import write_cohort

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_cohort(folder / "small", 8, shape=(324, 324))
        large = sorted((write_cohort(folder / "large", 2, shape=(1890, 1890)).parent / "slides").iterdir())
        viewer = napari.Viewer()
        viewer.window.resize(1366, 768)
        panel = DistillToLabel(viewer)
        viewer.window.add_dock_widget(panel, name="Distill to Label")
        session = panel.session
        session.read_cohort(table)
        session.configure("colon", "paper", teacher={"epochs": 1}, student={"epochs": 1})
        session.train(folder / "run")
        for path in large:
            session.add_slides(path.rename(path.with_name(f"large_{path.name}")))
        slides = [row.slide_id for row in session.cohort if row.slide_id.startswith("large")]
        session.show(slides[0])
        session.configure(teacher={"epochs": 10_000})

        def training(number: int) -> None:
            session.train(folder / f"run_{number}", wait=False)

        def predicting(number: int) -> None:
            shutil.rmtree(folder / "run" / "predictions", ignore_errors=True)
            session.predict(slides, wait=False)

        modes: dict[str, Callable[[int], None] | None] = {"idle": None, "training": training, "predicting": predicting}
        gaps: dict[str, list[np.ndarray]] = {mode: [] for mode in modes}
        run_for(2, viewer.scene.camera)
        for number in range(rounds):
            for mode, begin in modes.items():
                if begin is not None:
                    begin(number)
                gaps[mode].append(run_for(seconds, viewer.scene.camera))
                print(
                    f"round {number + 1}, {mode}: longest {1000 * gaps[mode][-1][:, 0].max():.0f} ms", file=sys.stderr
                )
                if begin is not None:
                    if not session.jobs.busy:
                        yield f"note: {mode} ended before its time"
                    session.cancel()
                    run_until(lambda: not session.jobs.busy)
        viewer.close()
    yield f"{torch.get_num_threads()} thread(s), {rounds} rounds of {seconds:g} s, camera moved every {MOVE} ms"
    idle = _told(gaps["idle"])
    for mode, found in gaps.items():
        each = _told(found)
        yield f"{mode}: " + ", ".join(f"{name} {value:.0f} ms" for name, value in each.items())
        if mode != "idle":
            yield figure(f"{mode}, 99.9 %, above idle", [each["99.9 %"] - idle["99.9 %"]], "ms", GOAL)
        own = _told(found, 1)
        yield f"  own: 99.9 % {own['99.9 %']:.0f} ms, longest {own['longest']:.0f} ms"


def run_until(there: Callable[[], bool]) -> None:
    """Let the window live until something is so."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if there() else None)
    timer.start(20)
    if not there():
        loop.exec()
    timer.stop()


def _told(rounds: list[np.ndarray], column: int = 0) -> dict[str, float]:
    gaps = 1000 * np.concatenate(rounds)[:, column]
    return {"median": np.median(gaps), "99 %": np.percentile(gaps, 99), "99.9 %": np.percentile(gaps, 99.9),
            "longest": gaps.max()}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.window", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each mode in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for line in measure(options.seconds, options.rounds):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
