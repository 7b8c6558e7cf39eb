"""Nothing is lost: after each burst of edits what the user did is kept in a file beside the cohort, and comes back.

Slides that are in no table yet are kept in the user's data folder, and offered when a window is opened.
"""

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any

from psygnal import Signal

from ...core.classes import split_label
from ...core.errors import Distill2LabelError, OutputError, SettingsError
from ...core.paths import free_path
from ...store import corrections
from ...store.files.signature import file_signature
from ...store.project_file import (
    SUFFIX,
    ProjectFile,
    SavedChoices,
    project_file_of,
    read_project_file,
    to_project_file,
    write_project_file,
)
from ..messages import message_of, reason_of
from ..runner.debounce import Debounce
from ..runner.jobs import Job, JobQueue
from ..runner.reader import BackgroundReader
from .corrections import Corrections
from .project import Project
from .recovery import recovery_folder
from .tissue import Tissue
from .training_choices import TrainingChoices

ReopenModel = Callable[[Path, str | None, Callable[[], bool]], Job]
AFTER_EDITING = 800  # ms; several edits are one
ASK_AGAIN = 10.0  # s between two looks at the preferences


@dataclass(frozen=True)
class RecoveryOffer:
    """Something kept that differs from what is there: the user decides."""

    path: Path
    saved: ProjectFile
    text: str


class Autosave:
    """Keeps what a user does to a session.

    Attributes
    ----------
    saved_at
        When something was kept last; None before.
    reason
        Why it could not be kept; "" if it could.
    offer
        Kept things that could be restored, where that is not plain.
    """

    changed = Signal()

    def __init__(
        self,
        project: Project,
        choices: TrainingChoices,
        tissue: Tissue,
        corrections: Corrections,
        jobs: JobQueue,
        reader: BackgroundReader,
        has_window: bool,
    ) -> None:
        self._project, self._choices, self._tissue, self._corrections = project, choices, tissue, corrections
        self._jobs, self._reader = jobs, reader
        self._window = has_window  # a script keeps what it wants itself
        self.reopen_model: ReopenModel | None = None  # how a model is loaded again; the session says
        self.token = token_hex(4)  # names the file of slides that are in no table
        self._next_token = ""
        self._reopening: tuple[Path | None, str | None] = (None, None)  # model and network of the slides' last time
        self._reopening_job: Job | None = None
        self._wanted, self._asked = True, -ASK_AGAIN
        self._soon = Debounce(self._write, AFTER_EDITING)
        self._kept: Any = None  # what the file holds, by identity
        self._writing = False
        self._order = WriteOrder()
        self._signature: str | None = None
        self._spare = False  # has the file settings that are not used? Then it is set aside before it is written over
        self._looked_at: Path | None = None
        self._is_again = False  # are the slides those that were there before?
        self.saved_at: datetime | None = None
        self.reason = ""
        self.offer: RecoveryOffer | None = None
        self.corrections_path: Path | None = None  # where corrections of patches are kept
        self._plain: SavedChoices | None = choices.saved()  # what was not set by anybody, and may be replaced
        self._corrections_soon = Debounce(self._write_corrections, AFTER_EDITING, has_window)
        project.cohort_closing.connect(self.flush)
        project.cohort_opened.connect(self._look)
        project.cohort_written.connect(self._written_as_table)
        corrections.changed.connect(self._on_corrections)
        fields = ("cohort", "saved_cohort", "chosen_colours", "threshold", "model", "network")
        for signal in (*(project.events[name] for name in fields), tissue.changed, choices.changed):
            signal.connect(self.touch)

    # ---- where ----------------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Is anything kept? Only with a window, and if the user's preferences say so."""
        if self._window and time.monotonic() - self._asked > ASK_AGAIN:
            self._wanted, self._asked = self._project.preferences().autosave, time.monotonic()
        return self._window and self._wanted

    @property
    def path(self) -> Path:
        """The file: `cohort.d2l.json` beside `cohort.csv`."""
        cohort_path = self._project.cohort_path
        return project_file_of(cohort_path) if cohort_path else recovery_folder() / f"{self.token}{SUFFIX}"

    # ---- keeping --------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Is there something that is not kept yet?"""
        content = self._content()
        if self._kept is not None and self.offer is not None and self.offer.path == self.path:
            return bool(content[0] != self._kept[0])  # what is offered is not set aside for a setting
        return bool(content != self._kept)

    @property
    def safe(self) -> bool:
        """Could the window be closed now without losing anything?"""
        is_kept = self.enabled and not self.reason and not self.pending
        return (is_kept or not self._project.unsaved) and not self._corrections.unsaved

    def touch(self) -> None:
        """Something may have changed: keep it soon."""
        if self._window:
            self._soon.start()

    def flush(self) -> None:
        """Keep it now; corrections first, as the file says where they are."""
        self._flush_corrections()
        self._soon.stop()
        if self.enabled and self.pending and self._worth_keeping():
            try:
                self._done(self._content(), self._make()())
            except (Distill2LabelError, OSError) as error:
                self._failed(error)

    def _on_corrections(self) -> None:
        """What is kept of the slides says where their corrections are; these go into their own file."""
        self.corrections_path = self._corrections.path
        self.touch()
        if self._corrections.unsaved:
            self._corrections_soon.start()

    def _write_corrections(self) -> None:
        """Write corrections in the background, where the user wants that."""
        if self._corrections.unsaved and self._project.preferences().autosave:
            self._corrections.save_soon()

    def _flush_corrections(self) -> None:
        """Write corrections now, where the user wants that or has named a file for them."""
        self._corrections_soon.stop()
        if self._corrections.path is not None or self._project.preferences().autosave:
            try:
                self._corrections.flush()
            except (OSError, OutputError) as error:
                self._project.tell(f"The corrections are not saved. {reason_of(error)}")

    def _content(self) -> tuple[Any, ...]:
        """What was done to the slides, what was set. Values that are replaced, never changed: compared, not copied."""
        project = self._project
        tissue = tuple(sorted(self._tissue.files.items())), self._tissue.use
        settings = project.threshold, self._saved_choices(), *self._model_now()
        return (project.cohort, project.chosen_colours, self.corrections_path, tissue), settings

    def _model_now(self) -> tuple[Path | None, str | None]:
        """(run or bundle, network); while the kept one is being loaded again, that."""
        model = self._project.model
        return self._reopening if model is None else (model.path, self._project.network)

    def _saved_choices(self) -> SavedChoices | None:
        """What is to be kept of them: a run that was opened has settings of its own."""
        return None if self._project.is_run_cohort else self._choices.saved()

    def _worth_keeping(self) -> bool:
        return bool(len(self._project.cohort)) or self.path.exists()

    def _make(self) -> Any:
        """A function for another thread that writes what there is now."""
        project, path = self._project, self.path
        model, network = self._model_now()
        values = {
            "colours": project.chosen_colours, "threshold": project.threshold, "signature": self._signature,
            "corrections": self.corrections_path, "tissue": dict(self._tissue.files), "use_tissue": self._tissue.use,
            "choices": choices.lasting() if (choices := self._saved_choices()) else None, "classes": project.classes,
            "model": model, "network": network,
            # Slides that stand in the table are not kept: the table may be edited elsewhere, and is right then.
            "slides": project.cohort.slides if project.unsaved else (),
        }  # fmt: skip
        aside = path if self._spare or (self.offer and self.offer.path == path) else None
        self.offer, self._spare = None if aside else self.offer, False
        return partial(_write, path, values, aside, self._order, self._order.take())

    def _write(self) -> None:
        if self._writing:  # two at a time could end in the wrong order
            self._soon.start()
            return
        if not self.enabled or not self.pending or not self._worth_keeping():
            return
        content, work = self._content(), self._make()
        self._writing = True
        self._reader.request("autosave", work, partial(self._done, content), self._failed)

    def _done(self, content: Any, saved_at: datetime) -> None:
        self._writing, self._kept, self.saved_at, self.reason = False, content, saved_at, ""
        self.changed.emit()
        self.touch()

    def _failed(self, error: Exception) -> None:
        self._writing = False
        self._kept = self._content()  # not again and again: the next edit tries again
        self.reason = message_of(error)
        self.changed.emit()

    # ---- restoring ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Other slides are there: was something kept of them?"""
        self.token, self._next_token = self._next_token or self.token, ""
        # What was set for slides before these is kept with them; what was set before any, somebody wants for these.
        choices, is_kept = self._choices.saved(), self._looked_at is not None or self.saved_at is not None
        self._plain = choices if is_kept or choices == self._plain else None
        self._is_again, self._looked_at = self._looked_at == self.path, self.path
        self._kept, self.saved_at, self.reason, self.offer = self._content(), None, "", None
        self._signature, self._spare, self._reopening = None, False, (None, None)
        if self._reopening_job is not None:  # of the slides before
            self._jobs.cancel(self._reopening_job)
        self._order.forget(self.path)
        if self.enabled and self._project.cohort_path is not None:
            path, cohort_path = self.path, self._project.cohort_path
            take = partial(self._take, path, cohort_path.name)
            self._reader.request("restore", partial(_read, path, cohort_path), take, partial(self._unreadable, path))
        self.changed.emit()

    def _written_as_table(self) -> None:
        """The slides are in a cohort.csv: what was kept elsewhere of them is not needed any more."""
        if not self._window:
            return
        former = recovery_folder() / f"{self.token}{SUFFIX}"
        self._kept = None
        self._signature = self._project.table.signature
        # What was kept of another table that stood there is set aside, as that table is; and another window's.
        self._spare = self._spare or self._looked_at != self.path or self._order.is_foreign(self.path)
        self._looked_at = self.path
        self._order.forget(self.path)
        former.unlink(missing_ok=True)
        self.touch()

    def table_read_again(self) -> None:
        """The table has been changed elsewhere and its slides are here now."""
        self._signature, self._kept = self._project.table.signature, None
        self.touch()

    def leave(self, token: str | None = None) -> None:
        """Other slides are about to come: what is kept of these in no table stays there, under its own name.

        `token` names what was kept of those that come, if they were here before.
        """
        self._next_token = token or token_hex(4)

    def look_for_unsaved(self) -> None:
        """Offer what an earlier window left that was in no table."""
        if self.enabled and not len(self._project.cohort) and self.offer is None:
            self._reader.request(
                "recover", partial(_newest, recovery_folder()), self._offer_unsaved, lambda error: None
            )

    def restore(self) -> None:
        """Take what is offered. What it does to the slides can be undone."""
        offer, self.offer = self.offer, None
        if offer is not None:
            self._apply(offer.path, offer.saved)
            if offer.path.parent == recovery_folder() and self._project.cohort_path is None:
                _set_aside(offer.path) if self._spare else offer.path.unlink(missing_ok=True)
                self._kept, self._spare = None, False
                self.flush()  # under this window's own name, before anything can happen
            self.changed.emit()

    def dismiss(self) -> None:
        """Do without what is offered. Beside a table it is set aside, not deleted."""
        offer, self.offer = self.offer, None
        if offer is not None:
            if offer.path.parent == recovery_folder():
                offer.path.unlink(missing_ok=True)
            else:
                _set_aside(offer.path)
                self._order.forget(offer.path)
            self.changed.emit()

    def _take(self, path: Path, name: str, found: tuple[ProjectFile | None, str, str]) -> None:
        """Restore what was found of the table `name`, or offer it."""
        if path != self.path:  # of slides before
            return
        saved, self._signature, own = found
        self._order.know(path, own)
        if saved is None:
            return
        if not self._differs(saved, path):
            self._apply(path, saved)
            return
        when = saved.saved_at.astimezone().strftime("%d %b, %H:%M")
        if saved.cohort_signature == self._signature and not self._project.unsaved:
            self._apply(path, saved, f"Restored your work of {when}, which is not in {name} yet.")
        else:
            text = f"{name} has changed since your work was saved on {when}."
            self.offer = RecoveryOffer(path, saved, text)
        self.changed.emit()

    def _offer_unsaved(self, found: tuple[Path, ProjectFile] | None) -> None:
        if found is not None and not len(self._project.cohort):
            path, saved = found
            when = saved.saved_at.astimezone().strftime("%d %b, %H:%M")
            labelled = sum(row.label is not None for row in saved.slides)
            text = f"{len(saved.slides)} slides ({labelled} labelled) of {when} were not saved as a table."
            self.offer = RecoveryOffer(path, saved, text)
            self.changed.emit()

    def _differs(self, saved: ProjectFile, path: Path) -> bool:
        slides = saved.cohort(path.parent).slides
        return bool(slides) and slides != self._project.cohort.slides

    def _apply(self, path: Path, saved: ProjectFile, said: str = "") -> None:
        project = self._project
        cohort = project.cohort
        if saved.slides:  # the other columns of the table stay
            cohort = cohort.with_slides(saved.cohort(path.parent).slides)
        used = {name for row in cohort.labelled for name in split_label(row.label)}
        fitting = saved.classes if saved.classes and used <= set(saved.classes) else project.classes
        cohort = replace(cohort, classes=fitting, table=project.cohort.table)
        project.edit("restore what was kept", cohort, {**saved.colours})
        if project.threshold != saved.threshold:
            project.set_threshold(saved.threshold)
        self._tissue.take(saved.files(path.parent), saved.use_tissue)
        if saved.corrections:
            self.load_corrections((path.parent / saved.corrections).absolute())
        said = " ".join(filter(None, (said, self._reopen_model(saved, path))))
        now = self._choices.saved()
        settings = "" if self._project.is_run_cohort else self._take_choices(saved, path)
        # What was set meanwhile is still to be kept.
        self._kept = self._content() if now == self._plain or self._project.is_run_cohort else None
        self.saved_at = saved.saved_at
        if text := " ".join(filter(None, (said, settings))):
            project.tell(text)
        self.touch()

    def _reopen_model(self, saved: ProjectFile, path: Path) -> str:
        """Load the model of the last time again, unless the user has chosen another; what there is to say of it."""
        project, model = self._project, saved.model_path(path.parent)
        if model is None or self.reopen_model is None:
            return ""
        if project.model is not None and project.model.path != model:
            return f"Another model was used with these slides the last time: {model}. Load it in step 3 if you want it."
        busy = self._jobs.of_kind("train", "load")
        if project.predictions or busy not in (None, self._reopening_job):
            return ""
        if not model.exists():
            return f"The model that was used the last time is gone: {model}. Train, or load another one in step 3."
        self._reopening = (model, saved.network)
        wanted = self._reopening  # until other slides are there
        self._reopening_job = self.reopen_model(*wanted, lambda: self._reopening == wanted)
        return ""

    def _take_choices(self, saved: ProjectFile, path: Path) -> str:
        """Use what the next training would use, where nobody has set something else; what there is to say of it."""
        bak = _aside(path).name
        now = self._choices.saved()
        try:
            if (choices := saved.choices(path.parent)) is None:
                return ""
            if self._is_again and choices.encoder is None:  # a trusted program that was chosen for these very slides
                choices = replace(choices, encoder=now.encoder)
            if now == self._plain:
                return f"Settings restored: {choices}." if self._choices.apply(choices) else ""
        except (SettingsError, ValueError, RecursionError) as error:  # the last two: of very deep nesting
            self._spare = True
            why = textwrap.shorten(message_of(error), 300)
            return f"The saved settings cannot be used and were moved to {bak}: {why}"
        self._spare = now != choices
        return (
            f"The settings differ from the saved ones ({choices}). The saved ones were moved to {bak}."
            if self._spare
            else ""
        )

    def load_corrections(self, path: Path) -> None:
        """Read in the background; a file that is gone, or holds something else, is said."""
        self.corrections_path = path
        own = self._corrections
        self._reader.request(
            "restore corrections", partial(corrections.read, path),
            lambda points: own.take(points, path) if self.corrections_path == path else None,  # else of slides before
            lambda error: self._project.tell(message_of(error)),
        )  # fmt: skip

    def _unreadable(self, path: Path, error: Exception) -> None:
        """A damaged file is set aside before it is written over."""
        if path != self.path:  # of slides before
            return
        name = _set_aside(path)
        self._order.forget(path)
        self._project.tell(f"{message_of(error)} It is set aside as {name}; the table is shown as it is.")


# ---- in another thread ------------------------------------------------------------------------------------------


class WriteOrder:
    """A window that closes writes at once, perhaps beside a thread that writes something older.

    And two windows may keep their work on one table in one file: neither writes over what the other has written.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._taken = self.written = 0
        self._known: dict[Path, str] = {}  # signature of what this window has read or written

    def know(self, path: Path, signature: str) -> None:
        """Remember the state of the file that this window has seen, unless it has written it since."""
        with self.lock:
            self._known.setdefault(path, signature)

    def wrote(self, path: Path) -> None:
        """Remember what this window has just written. The lock is held."""
        self._known[path] = _signature_of(path)

    def forget(self, path: Path) -> None:
        with self.lock:
            self._known.pop(path, None)

    def is_foreign(self, path: Path) -> bool:
        """Has another window written the file, or removed it, since this one saw it?"""
        known = self._known.get(path)
        return known is not None and known != _signature_of(path)

    def take(self) -> int:
        self._taken += 1
        return self._taken


def _write(path: Path, values: dict[str, Any], aside: Path | None, turns: WriteOrder, turn: int) -> datetime:
    saved = to_project_file(path.parent, **values)
    with turns.lock:
        if turn > turns.written:
            if turns.is_foreign(path):
                raise OutputError(
                    f"Another window keeps its work on this table in {path.name}. Save the table here, or close the "
                    "other window and open the table again.",
                    [path],
                    "foreign",
                )
            if aside is not None:
                _set_aside(aside)
            write_project_file(path, saved)
            turns.wrote(path)
            turns.written = turn
    return saved.saved_at


def _read(path: Path, cohort_path: Path) -> tuple[ProjectFile | None, str, str]:
    """(what was kept, signatures of the table and of the file it was kept in)."""
    own = _signature_of(path)
    saved = read_project_file(path)
    if saved is not None:
        saved.cohort(path.parent)  # two slides of one id: an error, here
    return saved, file_signature(cohort_path), own


def _signature_of(path: Path) -> str:
    """Return "" where there is no file."""
    try:
        return file_signature(path)
    except OSError:
        return ""


def _newest(folder: Path) -> tuple[Path, ProjectFile] | None:
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: -path.stat().st_mtime):
        try:
            saved = read_project_file(path)
        except Distill2LabelError:
            continue
        if saved is not None and saved.slides:
            return path, saved
    return None


def _aside(path: Path) -> Path:
    """A name for what is set aside, which nothing has yet."""
    return free_path(path.parent, path.name.removesuffix(SUFFIX), ".d2l.bak.json")


def _set_aside(path: Path) -> str:
    """Returns the name it has from then on."""
    aside = _aside(path)
    if path.exists():
        path.replace(aside)
    return aside.name
