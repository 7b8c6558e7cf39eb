"""SIGKILL of a napari window: while it labels, trains live, trains a run, or predicts, corrects and exports.

A real window does what a user does and is killed before or after one of its steps on the disk, in whichever thread. The
next window on the same table must have all that the first one said it had kept, and offer the training that was
stopped. It is killed too. The third goes on to the end: then the files are those of a window that nothing happened to.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .disk import killing, watched
from .forks import forked
from .kill import compare
from .verdict import Verdict, lost
from .world import WHOLE, World, command, contents, copy_tree, hidden
from .writers import Whole

DOES = "a napari window is killed at a step on the disk, twice, and opened again"
RUN = "distill2label_run"  # the name that a window gives to a run, beside the table
PATIENCE = 60.0  # s until a window has done what was asked
WINDOWS = 3
TINY = {
    "architecture": {"hidden_dim": 8, "attention_dim": 4}, "teacher": {"epochs": 2, "learning_rate": 0.001},
    "oof": {"epochs": 1}, "student": {"epochs": 1}, "device": "cpu",
}  # fmt: skip
Note = Callable[[str, Any], None]


class UserError(Exception):
    """What a user would miss."""


class User:
    """Somebody at a window: does one thing after the other, and notes what the window says it has kept."""

    def __init__(self, place: Path, note: Note) -> None:
        import napari

        from napari_distill2label.gui.dock import DistillToLabel

        self.place, self.note = place, note
        self.viewer = napari.Viewer()
        self.panel = DistillToLabel(self.viewer)
        self.viewer.window.add_dock_widget(self.panel, name="Distill to Label")
        self.session = self.panel.session
        self.session.read_cohort(place / "cohort.csv")
        for _ in range(2):  # what is kept names another file
            self.pause(300)
            self.until(lambda: not self.session.reader.busy, "read what was kept")

    def pause(self, milliseconds: int) -> None:
        """Let the window live."""
        from benchmarks.slide_changes import turn

        turn(milliseconds)

    def until(self, there: Callable[[], bool], what: str) -> None:
        """Let the window live until something is so."""
        end = time.monotonic() + PATIENCE
        while not there():
            if time.monotonic() > end:
                raise UserError(f"the window did not {what}")
            self.pause(10)

    @property
    def labels(self) -> dict[str, str | None]:
        return {row.slide_id: row.label for row in self.session.cohort}

    def said(self) -> None:
        """Note what there is now, and what of it the window calls kept."""
        corrections = len(self.session.corrections)
        self.note("now", [self.labels, corrections])
        if not self.session.autosave.pending and not self.session.autosave.reason:
            self.note("kept labels", self.labels)
        if not self.session.corrections.unsaved:
            if (n := self.corrections_in_file()) != corrections:
                raise UserError(f"the window calls {corrections} corrections saved, and {n} are in the file")
            self.note("kept corrections", corrections)

    def corrections_in_file(self) -> int:
        path = self.session.corrections.path
        return len(_rows(path)) if path is not None else 0

    def settle(self) -> None:
        """Wait until the window has kept everything, and note that."""
        self.said()
        autosave, own = self.session.autosave, self.session.corrections
        self.until(lambda: not autosave.pending and not own.unsaved, "keep what was done")
        self.said()

    def label(self, wanted: dict[str, str]) -> None:
        """Label slides, as far as they are not yet labelled so; take the last one back and do it again."""
        for slide_id, label in wanted.items():
            if self.labels[slide_id] != label:
                self.session.set_label(slide_id, label)
                self.said()
                if slide_id.endswith(("1", "4")):
                    self.settle()
        self.session.undo()
        self.session.redo()
        if {name: self.labels[name] for name in wanted} != wanted:
            raise UserError("undo and redo lead elsewhere")
        self.settle()

    def close(self) -> None:
        self.settle()
        self.viewer.close()


def _label(user: User) -> None:
    """Labels and classes."""
    user.label({f"slide_{n:03d}": ("tumour", "normal")[n % 2] for n in range(6)})
    if "stroma" not in user.session.classes:
        user.session.add_class("stroma")
    user.settle()
    user.session.write_cohort()


def _live(user: User) -> None:
    """Live training after each of some labels."""
    session = user.session
    session.feature_folder = user.place / "features"
    session.show("slide_000")
    session.live.enabled = True
    for number in (1, 4):
        session.set_label(f"slide_{number:03d}", ("tumour", "normal")[number % 2])
        user.said()
        user.until(lambda: not session.live.busy, "train live")
    if "Up to date" not in session.live.status:
        raise UserError(f"the live loop says: {session.live.status}")
    session.live.enabled = False
    user.settle()


def _train(user: User) -> None:
    """A training as a job; one that was stopped must be offered, and is gone on with."""
    session, run = user.session, user.place / RUN
    session.configure(**TINY)
    begun = (run / "settings.json").is_file()
    user.until(lambda: not begun or session.runs.of_folder(run) is not None, "find the run that was begun")
    found = session.runs.of_folder(run)
    if found is not None and found.is_finished:  # killed before its model was loaded: its user does that
        session.load_model(run)
        user.settle()
        return
    if begun:
        user.until(lambda: session.stopped.offer is not None, "offer the training that was stopped")
        job = session.resume(run, wait=False)
    else:
        job = session.train(run, wait=False)
    for number in (3, 5):  # labels go on meanwhile
        session.set_label(f"slide_{number:03d}", "normal")
        user.said()
    session.jobs.wait(job)
    if job.state != "done":
        raise UserError(f"the training ended as {job.state}: {job.outcome}")
    user.settle()


def _review(user: User) -> None:
    """Predict with a run, correct patches, export."""
    session = user.session
    session.load_model(user.place / RUN)
    session.show("slide_000")
    session.predict(slides=["slide_000", "slide_001"])
    user.until(lambda: session.shown == "slide_000", "show a slide")
    for cell in ((0, 0), (0, 1), (1, 0)):
        session.correct("tumour", cell)
        user.said()
    session.corrections.save_soon()
    session.correct("tumour", (1, 1))  # while the others are written
    user.settle()
    session.export(user.place / "out", ("csv", "geojson"), overwrite=True)


ACTS: dict[str, Callable[[User], None]] = {
    "a window: labels": _label, "a window: live training": _live, "a window: training": _train,
    "a window: review and export": _review,
}  # fmt: skip
SUBJECTS = tuple(ACTS)
SHORT = SUBJECTS[:0]  # a window takes half a minute: `tests/torture/test_short.py` has one among the long tests


def is_possible() -> bool:
    """Whether there is a screen."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin")


def _ready(world: World) -> None:
    """Import what a window imports, in this process, which starts no thread by it."""
    home = world.folder / "home"
    home.mkdir()
    os.environ.update(NAPARI_CONFIG=str(home / "settings.yaml"), NAPARI_ASYNC="0")
    os.environ.update(dict.fromkeys(("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(home)))
    import napari
    import napari.viewer  # noqa: F401

    import napari_distill2label.gui.dock  # noqa: F401

    def features() -> int:
        words = ["--encoder", world.encoder, *WHOLE]
        return command("extract-features", world.cohort, "-o", world.folder / "features", *words)

    if wrong := forked(features).verdict():
        raise RuntimeError(wrong.evidence)


def _lay_out(world: World, subject: str) -> Path:
    """A table beside its slides, and what the subject needs."""
    place = world.fresh()
    place.rmdir()
    copy_tree(world.cohort.parent, place)
    if "live" in subject:
        copy_tree(world.folder / "features", place / "features")
    if "review" in subject:
        copy_tree(world.run, place / RUN)
        shutil.rmtree(place / RUN / "predictions", ignore_errors=True)
    return place


def _act(subject: str, place: Path, note: Note, step: int | None, after: bool) -> list[str]:
    """One window from its opening to its closing: the steps on the disk that it took."""
    user = User(place, note)
    note("opened", [user.labels, len(user.session.corrections)])
    with killing(step, after) if step is not None else watched() as taken:
        ACTS[subject](user)
        user.close()
    note("closed", None)
    return taken


def _whole(world: World, subject: str) -> Whole:
    """A window that nothing happens to."""

    def find() -> Whole:
        place = _lay_out(world, subject)
        before = contents(place)

        def work() -> list[object]:
            taken = _act(subject, place, lambda what, value: None, None, False)
            return [contents(place), taken]

        ended = forked(work)
        if wrong := ended.verdict():
            raise RuntimeError(f"{subject}: {wrong.evidence}")
        return Whole(before, ended.told[0], tuple(ended.told[1]), ended.seconds)

    found: Whole = world.once(("whole", subject), find)
    return found


def attempt(world: World, subject: str, seed: int) -> Verdict | None:
    """Two kills and an end. None: there is no screen."""
    if not is_possible():
        return None
    world.once("window", lambda: _ready(world))
    found, draw = _whole(world, subject), random.Random(f"{subject} {seed}")
    place, journal = _lay_out(world, subject), world.folder / "journal"
    journal.write_text("")
    labels = {row["slide_id"]: row["label"] or None for row in _rows(place / "cohort.csv")}
    states: list[list[Any]] = [[labels, 0]]
    kept = [0, 0]  # the number of the state of which labels, and corrections, are known to be kept
    kills, where = 0, ""
    for number in range(WINDOWS):
        step = draw.randrange(len(found.steps)) if number < WINDOWS - 1 else None
        after, size = draw.random() < 0.5, journal.stat().st_size

        def note(what: str, value: Any) -> None:
            with journal.open("a") as file:
                file.write(json.dumps([what, value]) + "\n")

        def work(step: int | None = step, after: bool = after) -> list[object]:
            _act(subject, place, note, step, after)
            return [0, contents(place), hidden(place)]

        ended = forked(work)
        with journal.open() as file:
            file.seek(size)
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        if wrong := _missing(lines, states, kept):
            return lost(f"{where}: {wrong}")
        if ended.status == -signal.SIGKILL:
            kills += 1
            where += f"{', ' if where else ''}killed {'after' if after else 'before'} step {step}"
            continue
        verdict = compare(found, ended)
        if verdict.outcome != "survived":
            return Verdict(verdict.outcome, f"{where}: {verdict.evidence}")
    return Verdict("survived", tried=max(1, kills))


def _missing(lines: list[list[Any]], states: list[list[Any]], kept: list[int]) -> str:
    """What a window did not have that the ones before had kept; then take in what it notes."""
    for what, value in lines:
        if what == "opened":
            for index, name in enumerate(("labels", "corrections")):
                if value[index] not in [state[index] for state in states[kept[index] :]]:
                    return f"{name} that were kept are gone: {value[index]} in place of {states[-1][index]}"
            states.append(value)
        elif what == "now":
            states.append(value)
        elif what.startswith("kept"):
            kept[what == "kept corrections"] = len(states) - 1
    return ""


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
