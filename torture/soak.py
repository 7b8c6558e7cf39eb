"""One window for as long as one likes: open, label, train, predict, look about, correct, export, close, again.

`python -m torture soak --minutes 60`. After each round memory, threads, open files, layers and objects of the window
are counted; over the rounds they must stay flat. Gaps of the event loop are recorded: how long it did not answer.
With `--changes 5000` a round is 250 quick changes of slide, with all prediction layers on (`benchmarks.slide_changes`).
"""

import argparse
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 2  # rounds that fill caches, and are not counted
LEAST = 3  # rounds after these, however long they take
CHANGES = 24  # of slide in each round, with all prediction layers on
ROUND_OF_CHANGES = 250
LONGEST_BURST = 30  # changes before the window may come to rest
CACHE = 2**24  # bytes of pixels that napari keeps of any slide, closed ones too; else it takes a quarter of all memory
CALM = 30.0  # s until what a window still does is done
TINY = {
    "architecture": {"hidden_dim": 8, "attention_dim": 4}, "teacher": {"epochs": 1}, "oof": {"epochs": 1},
    "student": {"epochs": 1}, "device": "cpu",
}  # fmt: skip


@dataclass(frozen=True)
class Counted:
    """What a process holds after a round. `memory` in MB, resident; `objects`: QObjects below the window."""

    seconds: float
    memory: float
    threads: int
    files: int
    layers: int
    objects: int


# What it may grow by in a round, on average: memory in MB, the others by number. A leak of one thread, file, layer or
# widget in each round is at least 1; the allocator gives and takes some MB.
ALLOWED = {"memory": 2.0, "threads": 0.2, "files": 0.2, "layers": 0.2, "objects": 2.0}


def counted(viewer: Any, since: float) -> Counted:
    """Count, once garbage is collected."""
    from qtpy.QtCore import QObject

    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Counted(
        round(time.monotonic() - since, 1),
        round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
        len(viewer.layers),
        len(viewer.window._qt_window.findChildren(QObject)),
    )


def slopes(rounds: list[Counted]) -> dict[str, float]:
    """Growth in a round of each: the median of all slopes between two rounds (Theil and Sen), without the warm-up."""
    found = {}
    for name in ALLOWED:
        values = [getattr(each, name) for each in rounds[WARM_UP:]]
        pairs = [(values[j] - values[i]) / (j - i) for i in range(len(values)) for j in range(i + 1, len(values))]
        found[name] = float(np.median(pairs)) if pairs else 0.0
    return found


def soak(minutes: float, folder: Path, seed: int = 0) -> tuple[list[Counted], np.ndarray, list[str]]:
    """Rounds in one window until the time is up: counts, gaps (n, 2) in s of the clock and of the thread, faults."""
    import napari
    from napari.utils import resize_dask_cache

    from benchmarks.window import Gaps
    from napari_distill2label.gui.dock import DistillToLabel
    from napari_distill2label.slides.synthetic import write_cohort

    tables = [write_cohort(folder / name, 6, seed=number, shape=(108, 135)) for number, name in enumerate("ab")]
    viewer = napari.Viewer()
    resize_dask_cache(CACHE)  # a new window of napari sets it
    panel = DistillToLabel(viewer)
    viewer.window.add_dock_widget(panel, name="Distill to Label")
    panel.session.configure(**TINY)
    begin, draw = time.monotonic(), random.Random(seed)
    rounds: list[Counted] = []
    faults: list[str] = []
    gaps = Gaps()
    while time.monotonic() < begin + 60 * minutes or len(rounds) < WARM_UP + LEAST:
        place = folder / "round"
        faults += [f"round {len(rounds)}: {fault}" for fault in one_round(panel, tables[len(rounds) % 2], place, draw)]
        shutil.rmtree(place)
        rounds.append(counted(viewer, begin))
        print(" ".join(f"{name} {value}" for name, value in asdict(rounds[-1]).items()), flush=True)
    found = gaps.stop()
    viewer.close()
    return rounds, found, faults


def one_round(panel: Any, table: Path, place: Path, draw: random.Random) -> list[str]:
    """All that a user does with a project, once. Returns what was wrong."""
    from benchmarks.slide_changes import rest, turn

    session, faults = panel.session, []
    shutil.copytree(table.parent, place)
    session.read_cohort(place / "cohort.csv")
    session.show("slide_000")
    for row in session.cohort.slides[:3]:
        session.set_label(row.slide_id, draw.choice(session.classes))
    for _ in range(3):
        session.undo()
    session.train(place / "run")
    session.predict()
    for kind in session.display.visible:
        session.display.set_visible(kind, True)
    for _ in range(CHANGES):
        panel.actions_of_keys.show_by(draw.choice((-1, 1, 1, 2)))
        turn(draw.choice((0, 1, 5, 20, 60)))
    fault = rest(panel)
    faults += [fault] if fault else []
    if session.shown is None or not session.correct(session.classes[1], (0, 0)):
        faults.append("no patch could be corrected")
    session.set_threshold(round(draw.random(), 2))
    session.export(place / "out", ("csv", "geojson", "png"))
    if len(list((place / "out").glob("*.csv"))) < len(session.cohort):
        faults.append("tables are missing")
    session.write_cohort()
    session.remove_slides([row.slide_id for row in session.cohort])
    session.project.history.clear()
    settle(session)
    until = time.monotonic() + CALM
    while list(session.viewer.layers) and time.monotonic() < until:
        turn(200)  # layers that no slide uses go after some seconds
    if list(session.viewer.layers):
        faults.append(f"layers are left: {[layer.name for layer in session.viewer.layers]}")
    return faults


def settle(session: Any) -> None:
    """Let the window finish what it does in the background."""
    from benchmarks.slide_changes import turn

    until = time.monotonic() + CALM
    turn(1000)  # what is kept soon is kept
    while (session.autosave.pending or session.reader.busy or session.jobs.busy) and time.monotonic() < until:
        turn(200)


def look_through(changes: int, folder: Path, seed: int = 0) -> tuple[list[Counted], np.ndarray, list[str]]:
    """So many quick changes of slide in one window, counted now and then: what `soak` returns."""
    from napari.utils import resize_dask_cache

    from benchmarks.slide_changes import burst, rest, window
    from benchmarks.window import Gaps
    from napari_distill2label.slides.synthetic import write_cohort

    panel = window(write_cohort(folder / "a", 8, seed=seed, shape=(540, 648)))
    resize_dask_cache(CACHE)  # a new window of napari sets it
    session, draw, begin, done = panel.session, random.Random(seed), time.monotonic(), 0
    first = session.cohort.slides[0].slide_id
    rounds: list[Counted] = []
    faults: list[str] = []
    gaps = Gaps()

    def look() -> None:
        if fault := rest(panel):
            faults.append(f"after {done} changes: {fault}")
            print(faults[-1], flush=True)

    while done < changes or len(rounds) < WARM_UP + LEAST:
        until = done + ROUND_OF_CHANGES
        while done < until:
            done += burst(panel, draw, LONGEST_BURST)
            look()
        session.show(first)  # each slide has layers of its own
        look()
        session.project.history.clear()
        settle(session)
        rounds.append(counted(session.viewer, begin))
        print(f"changes {done}", " ".join(f"{name} {value}" for name, value in asdict(rounds[-1]).items()), flush=True)
    found = gaps.stop()
    session.viewer.close()
    return rounds, found, faults


def report(rounds: list[Counted], gaps: np.ndarray, faults: list[str]) -> tuple[list[str], bool]:
    """(lines, is all well)."""
    grown = slopes(rounds)
    lines = [f"{len(rounds)} rounds in {rounds[-1].seconds:.0f} s, the first {WARM_UP} not counted"]
    flat = True
    for name, slope in grown.items():
        first, last = (getattr(rounds[index], name) for index in (WARM_UP, -1))
        flat &= slope <= ALLOWED[name]
        verdict = "flat" if slope <= ALLOWED[name] else "GROWS"
        lines.append(f"{name}: {first:g} to {last:g}, {slope:+.2f} a round (at most {ALLOWED[name]:g}): {verdict}")
    of_clock, own = 1000 * gaps[:, 0], 1000 * gaps[:, 1]
    lines.append(
        f"gaps of the event loop: median {np.median(of_clock):.0f} ms, 99 % {np.percentile(of_clock, 99):.0f}, longest "
        f"{of_clock.max():.0f}, of which the window's thread computed {own.max():.0f} ms at most"
    )
    return [*lines, *faults], flat and not faults


def main(arguments: list[str]) -> int:
    """Exit status 1 if something grows or was wrong."""
    parser = argparse.ArgumentParser(prog="python -m torture soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--changes", type=int, help="in place of that, so many quick changes of slide")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    if sys.platform.startswith("linux") and "DISPLAY" not in os.environ and shutil.which("xvfb-run"):
        again = ["xvfb-run", "-a", sys.executable, "-m", "torture", "soak", *arguments]
        return subprocess.run(again, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        os.environ.update(NAPARI_CONFIG=str(folder / "settings.yaml"), NAPARI_ASYNC="0")
        os.environ.update(dict.fromkeys(("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), name))
        if options.changes:
            rounds, gaps, faults = look_through(options.changes, folder, options.seed)
        else:
            rounds, gaps, faults = soak(options.minutes, folder, options.seed)
    lines, well = report(rounds, gaps, faults)
    print("\n".join(lines))
    if options.json:
        data = {"rounds": [asdict(each) for each in rounds], "slopes": slopes(rounds), "faults": faults}
        options.json.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    return int(not well)
