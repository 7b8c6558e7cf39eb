"""Nothing is lost: after each burst of edits what the user did is kept in a file beside the cohort, and comes back.

Slides that are in no table yet are kept in the user's data folder, and offered when a window is opened.
"""

import textwrap
import time
import weakref
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_dir
from psygnal import Signal

from ...core.classes import split_label
from ...core.errors import Distill2LabelError, SettingsError
from ...store import corrections
from ...store.files.safe_names import free_name
from ...store.files.signature import file_signature
from ..plugin.preferences import preferences
from ..runner.debounce import Debounce
from .choices import Choices, choices_of, take
from .project_file import SUFFIX, Sidecar, kept, read_sidecar, sidecar_of, write_sidecar

if TYPE_CHECKING:
    from ..runner.jobs import Job
    from ..session import Session

AFTER_EDITING = 800  # ms; several edits are one
ASK_AGAIN = 10.0  # s between two looks at the preferences


@dataclass(frozen=True)
class Offer:
    """Something kept that differs from what is there: the user decides."""

    path: Path
    sidecar: Sidecar
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

    def __init__(self, session: "Session", enabled: bool) -> None:
        self._owner = weakref.ref(session)  # a cycle would keep the session past its viewer
        self._window = enabled  # a script keeps what it wants itself
        self.token = token_hex(4)  # names the file of slides that are in no table
        self._next_token = ""
        self._reopening: tuple[Path | None, str | None] = (None, None)  # model and network of the slides' last time
        self._reopening_job: Job | None = None
        self._wanted, self._asked = True, -ASK_AGAIN
        self._later = Debounce(self._write, AFTER_EDITING)
        self._kept: Any = None  # what the file holds, by identity
        self._writing = False
        self._turns = _Turns()
        self._signature: str | None = None
        self._spare = False  # has the file settings that are not used? Then it is set aside before it is written over
        self._looked_at: Path | None = None
        self._is_again = False  # are the slides those that were there before?
        self.saved_at: datetime | None = None
        self.reason = ""
        self.offer: Offer | None = None
        self.corrections: Path | None = None  # where corrections of patches are kept
        session.cohort_closing.connect(self.flush)
        session.cohort_opened.connect(self._look)
        session.cohort_written.connect(self._written_as_table)
        self._plain: Choices | None = choices_of(session)  # what was not set by anybody, and may be replaced
        edits = (session.slides_changed, session.colours_changed, session.tissue.changed, session.settings_changed,
                 session.model_changed)  # fmt: skip
        for signal in edits:
            signal.connect(self.touch)
        session.threshold_changed.connect(self._on_threshold)

    @property
    def _session(self) -> "Session":
        return self._owner()

    # ---- where ----------------------------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Is anything kept? Only with a window, and if the user's preferences say so."""
        if self._window and time.monotonic() - self._asked > ASK_AGAIN:
            self._wanted, self._asked = preferences().autosave, time.monotonic()
        return self._window and self._wanted

    @property
    def recovery(self) -> Path:
        """The folder of what is in no table yet."""
        return Path(user_data_dir("napari-distill2label", appauthor=False)) / "unsaved"

    @property
    def path(self) -> Path:
        """The file: `cohort.d2l.json` beside `cohort.csv`."""
        cohort_path = self._session.cohort_path
        return sidecar_of(cohort_path) if cohort_path else self.recovery / f"{self.token}{SUFFIX}"

    # ---- keeping --------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Is there something that is not kept yet?"""
        content = self._content()
        if self._kept is not None and self.offer is not None and self.offer.path == self.path:
            return content[0] != self._kept[0]  # what is offered is not set aside for a setting
        return content != self._kept

    @property
    def safe(self) -> bool:
        """Could the window be closed now without losing anything?"""
        return not self._session.unsaved or (self.enabled and not self.reason and not self.pending)

    def touch(self) -> None:
        """Something may have changed: keep it soon."""
        if self.enabled and self.pending:
            self._later.start()

    def _on_threshold(self, threshold: float) -> None:
        self.touch()

    def flush(self) -> None:
        """Keep it now."""
        self._later.stop()
        if self._owner() is not None and self.enabled and self.pending and self._worth_keeping():
            try:
                self._done(self._content(), self._make()())
            except (Distill2LabelError, OSError) as error:
                self._failed(error)

    def _content(self) -> tuple[Any, ...]:
        """What was done to the slides, what was set. Values that are replaced, never changed: compared, not copied."""
        session = self._session
        tissue = tuple(sorted(session.tissue.files.items())), session.tissue.use
        settings = session.threshold, self._choices(), *self._model_now()
        return (session.cohort, session._colours, self.corrections, tissue), settings

    def _model_now(self) -> tuple[Path | None, str | None]:
        """(run or bundle, network); while the kept one is being loaded again, that."""
        model = self._session.model
        return self._reopening if model is None else (model.path, self._session.network)

    def _choices(self) -> Choices | None:
        """What is to be kept of them: a run that was opened has settings of its own."""
        return None if self._session.is_of_run else choices_of(self._session)

    def _worth_keeping(self) -> bool:
        return bool(len(self._session.cohort)) or self.path.exists()

    def _make(self) -> Any:
        """A function for another thread that writes what there is now."""
        session, path = self._session, self.path
        model, network = self._model_now()
        values = {
            "colours": session._colours, "threshold": session.threshold, "signature": self._signature,
            "corrections": self.corrections, "tissue": dict(session.tissue.files), "use_tissue": session.tissue.use,
            "choices": choices.lasting() if (choices := self._choices()) else None, "classes": session.classes,
            "model": model, "network": network,
            # Slides that stand in the table are not kept: the table may be edited elsewhere, and is right then.
            "slides": session.cohort.slides if session.unsaved else (),
        }  # fmt: skip
        aside = path if self._spare or (self.offer and self.offer.path == path) else None
        self.offer, self._spare = None if aside else self.offer, False
        return partial(_write, path, values, aside, self._turns, self._turns.take())

    def _write(self) -> None:
        if self._owner() is None:  # the timer has outlived the viewer
            return
        if self._writing:  # two at a time could end in the wrong order
            self._later.start()
            return
        if not self.pending or not self._worth_keeping():
            return
        content, work = self._content(), self._make()
        self._writing = True
        self._session.reader.request(("autosave", id(self)), work, partial(self._done, content), self._failed)

    def _done(self, content: Any, saved_at: datetime) -> None:
        self._writing, self._kept, self.saved_at, self.reason = False, content, saved_at, ""
        self.changed.emit()
        self.touch()

    def _failed(self, error: Exception) -> None:
        self._writing = False
        self._kept = self._content()  # not again and again: the next edit tries anew
        self.reason = str(error)
        self.changed.emit()

    # ---- restoring ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Other slides are there: was something kept of them?"""
        self.token, self._next_token = self._next_token or self.token, ""
        # What was set for slides before these is kept with them; what was set before any, somebody wants for these.
        choices, is_kept = choices_of(self._session), self._looked_at is not None or self.saved_at is not None
        self._plain = choices if is_kept or choices == self._plain else None
        self._is_again, self._looked_at = self._looked_at == self.path, self.path
        self._kept, self.saved_at, self.reason, self.offer = self._content(), None, "", None
        self._signature, self._spare, self._reopening = None, False, (None, None)
        if self._reopening_job is not None:  # of the slides before
            self._session.jobs.cancel(self._reopening_job)
        if self.enabled and self._session.cohort_path is not None:
            path, cohort_path = self.path, self._session.cohort_path
            self._session.reader.request(
                ("restore", id(self)), partial(_read, path, cohort_path), partial(self._take, path), self._unreadable
            )
        self.changed.emit()

    def _written_as_table(self) -> None:
        """The slides are in a cohort.csv: what was kept elsewhere of them is not needed any more."""
        if not self._window:
            return
        former = self.recovery / f"{self.token}{SUFFIX}"
        path = self._session.cohort_path
        self._kept = None
        self._signature = file_signature(path)
        # What was kept of another table that stood there is set aside, as that table is.
        self._spare, self._looked_at = self._spare or self._looked_at != self.path, self.path
        former.unlink(missing_ok=True)
        self.touch()

    def leave(self, token: str | None = None) -> None:
        """Other slides are about to come: what is kept of these in no table stays there, under its own name.

        `token` names what was kept of those that come, if they were here before.
        """
        self._next_token = token or token_hex(4)

    def look_for_unsaved(self) -> None:
        """Offer what an earlier window left that was in no table."""
        if self.enabled and not len(self._session.cohort) and self.offer is None:
            self._session.reader.request(
                ("recover", id(self)), partial(_newest, self.recovery), self._offer_unsaved, lambda error: None
            )

    def restore(self) -> None:
        """Take what is offered. What it does to the slides can be undone."""
        offer, self.offer = self.offer, None
        if offer is not None:
            self._apply(offer.path, offer.sidecar)
            if offer.path.parent == self.recovery and self._session.cohort_path is None:
                _set_aside(offer.path) if self._spare else offer.path.unlink(missing_ok=True)
                self._kept, self._spare = None, False
                self.flush()  # under this window's own name, before anything can happen
            self.changed.emit()

    def dismiss(self) -> None:
        """Do without what is offered. Beside a table it is set aside, not deleted."""
        offer, self.offer = self.offer, None
        if offer is not None:
            if offer.path.parent == self.recovery:
                offer.path.unlink(missing_ok=True)
            else:
                _set_aside(offer.path)
            self.changed.emit()

    def _take(self, path: Path, found: tuple[Sidecar | None, str]) -> None:
        sidecar, self._signature = found
        if sidecar is None or path != self.path or not self._differs(sidecar, path):
            if sidecar is not None and path == self.path:
                self._apply(path, sidecar)
            return
        when = sidecar.saved_at.astimezone().strftime("%d %b, %H:%M")
        if sidecar.cohort_signature == self._signature and not self._session.unsaved:
            name = self._session.cohort_path.name
            self._apply(path, sidecar, f"Restored your work of {when}, which is not in {name} yet.")
        else:
            name = self._session.cohort_path.name
            text = f"{name} has changed since your work was saved on {when}."
            self.offer = Offer(path, sidecar, text)
        self.changed.emit()

    def _offer_unsaved(self, found: tuple[Path, Sidecar] | None) -> None:
        if found is not None and not len(self._session.cohort):
            path, sidecar = found
            when = sidecar.saved_at.astimezone().strftime("%d %b, %H:%M")
            labelled = sum(row.label is not None for row in sidecar.slides)
            text = f"{len(sidecar.slides)} slides ({labelled} labelled) of {when} were not saved as a table."
            self.offer = Offer(path, sidecar, text)
            self.changed.emit()

    def _differs(self, sidecar: Sidecar, path: Path) -> bool:
        slides = sidecar.cohort(path.parent).slides
        return bool(slides) and slides != self._session.cohort.slides

    def _apply(self, path: Path, sidecar: Sidecar, said: str = "") -> None:
        session = self._session
        cohort = session.cohort
        if sidecar.slides:  # the other columns of the table stay
            cohort = cohort.with_slides(sidecar.cohort(path.parent).slides)
        used = {name for row in cohort.labelled for name in split_label(row.label)}
        fitting = sidecar.classes if sidecar.classes and used <= set(sidecar.classes) else session.classes
        cohort = replace(cohort, classes=fitting, table=session.cohort.table)
        session._edit("restore what was kept", cohort, {**sidecar.colours})
        if session.threshold != sidecar.threshold:
            session.set_threshold(sidecar.threshold)
        session.tissue.take(sidecar.files(path.parent), sidecar.use_tissue)
        if sidecar.corrections:
            self.corrections = (path.parent / sidecar.corrections).absolute()
            self.load_corrections()
        said = " ".join(filter(None, (said, self._reopen_model(sidecar, path))))
        now = choices_of(session)
        settings = "" if session.is_of_run else self._take_choices(sidecar, path)
        # What was set meanwhile is still to be kept.
        self._kept = self._content() if now == self._plain or session.is_of_run else None
        self.saved_at = sidecar.saved_at
        if text := " ".join(filter(None, (said, settings))):
            session._tell(text)
        self.touch()

    def _reopen_model(self, sidecar: Sidecar, path: Path) -> str:
        """Load the model of the last time again, unless the user has chosen another; what there is to say of it."""
        session, model = self._session, sidecar.model_path(path.parent)
        if model is None:
            return ""
        if session.model is not None and session.model.path != model:
            return f"Another model was used with these slides the last time: {model}. Load it in step 3 if you want it."
        busy = session.jobs.of_kind("train", "load")
        if session.predictions or busy not in (None, self._reopening_job):
            return ""
        if not model.exists():
            return f"The model that was used the last time is gone: {model}. Train, or load another one in step 3."
        self._reopening = (model, sidecar.network)
        wanted = self._reopening  # until other slides are there
        self._reopening_job = session.reopen_model(*wanted, lambda: self._reopening == wanted)
        return ""

    def _take_choices(self, sidecar: Sidecar, path: Path) -> str:
        """Use what the next training would use, where nobody has set something else; what there is to say of it."""
        session, bak = self._session, _aside(path).name
        now = choices_of(session)
        try:
            if (choices := sidecar.choices(path.parent)) is None:
                return ""
            if self._is_again and choices.encoder is None:  # a trusted program that was chosen for these very slides
                choices = replace(choices, encoder=now.encoder)
            if now == self._plain:
                return f"Settings restored: {choices}." if take(session, choices) else ""
        except (SettingsError, ValueError, RecursionError) as error:  # the last two: of very deep nesting
            self._spare = True
            why = textwrap.shorten(str(error), 300)
            return f"The saved settings cannot be used and were moved to {bak}: {why}"
        self._spare = now != choices
        return (
            f"The settings differ from the saved ones ({choices}). The saved ones were moved to {bak}."
            if self._spare
            else ""
        )

    def load_corrections(self) -> None:
        """Read beside the window; a file that is gone, or holds something else, is said."""
        review, path = self._session.review, self.corrections
        self._session.reader.request(
            ("corrections", id(self)), partial(corrections.read, path),
            lambda points: review.take(points, path) if self.corrections == path else None,  # else of slides before
            lambda error: self._session._tell(str(error)),
        )  # fmt: skip

    def _unreadable(self, error: Exception) -> None:
        """A damaged file is set aside before it is written over."""
        name = _set_aside(self.path)
        self._session._tell(f"{error}. It is set aside as {name}; the table is shown as it is.")


# ---- in another thread ------------------------------------------------------------------------------------------


class _Turns:
    """A window that closes writes at once, perhaps beside a thread that writes something older."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._taken = self.written = 0

    def take(self) -> int:
        self._taken += 1
        return self._taken


def _write(path: Path, values: dict[str, Any], aside: Path | None, turns: _Turns, turn: int) -> datetime:
    sidecar = kept(path.parent, **values)
    with turns.lock:
        if turn > turns.written:
            if aside is not None:
                _set_aside(aside)
            write_sidecar(path, sidecar)
            turns.written = turn
    return sidecar.saved_at


def _read(path: Path, cohort_path: Path) -> tuple[Sidecar | None, str]:
    sidecar = read_sidecar(path)
    if sidecar is not None:
        sidecar.cohort(path.parent)  # two slides of one id: an error, here
    return sidecar, file_signature(cohort_path)


def _newest(folder: Path) -> tuple[Path, Sidecar] | None:
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: -path.stat().st_mtime):
        try:
            sidecar = read_sidecar(path)
        except Distill2LabelError:
            continue
        if sidecar is not None and sidecar.slides:
            return path, sidecar
    return None


def _aside(path: Path) -> Path:
    """A name for what is set aside, which nothing has yet."""
    return free_name(path.with_name(path.name.removesuffix(SUFFIX) + ".d2l.bak.json"))


def _set_aside(path: Path) -> str:
    """Returns the name it has from then on."""
    aside = _aside(path)
    if path.exists():
        path.replace(aside)
    return aside.name
