"""Where a user's corrections are kept: a CSV that training and export read. No Qt; mixed into `Review`."""

import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from ...core.errors import OutputError
from ...store import corrections
from ...store.corrections import SlideCorrections
from ...store.files.outputs import Outputs
from ...store.tables.points import Points
from .project import PathLike

if TYPE_CHECKING:
    from ..session import Session

FILE = "corrections.csv"


class KeptCorrections:
    """The corrections of a session's slides, and their file.

    Attributes
    ----------
    path
        The CSV file they are kept in; None before the first save.
    unsaved
        Is there something that the file does not hold?
    """

    changed = Signal()  # the corrections, or their file

    def __init__(self, session: "Session") -> None:
        self._session = weakref.ref(session)
        self.path: Path | None = None
        self.unsaved = False
        self._slides: dict[str, SlideCorrections] = {}
        self._writing, self._turn = threading.Lock(), 0  # the newest text is what stays in the file

    @property
    def session(self) -> "Session":
        session = self._session()
        if session is None:
            raise RuntimeError("the session of this review is gone")
        return session

    def __len__(self) -> int:
        """Corrected patches of all slides."""
        return sum(len(slide) for slide in self._slides.values())

    @property
    def slides(self) -> dict[str, int]:
        """Corrected patches by slide id, of slides that have some."""
        return {slide_id: n for slide_id, slide in self._slides.items() if (n := len(slide))}

    def default_path(self) -> Path:
        """Where corrections are kept unless told: beside the cohort or the first slide, under a name that is free."""
        folder = self.session.beside or Path.home()
        stem = f"{self.session.cohort_path.stem}_{FILE}" if self.session.cohort_path else FILE
        free, number = folder / stem, 2
        while free.exists():
            free, number = folder / f"{Path(stem).stem}_{number}.csv", number + 1
        return free

    def save(self, path: PathLike | None = None) -> Path:
        """Write the corrections (None: where they are kept, else `default_path`) as CSV `slide_id,x,y,label`.

        x and y are the centres of the patches, in level-0 px. It is what `train` and `export` take as `corrections`.
        A file that changed since it was opened is left as it is, and the corrections go into a new one. `OutputError`
        for a `path` that is a slide or the cohort's table.
        """
        given = path is not None
        path = Path(path).absolute() if path else self.path or self.default_path()
        try:
            self._writer(path, overwrite=given)()
        except OutputError as error:
            if given:
                raise
            path = self.default_path()  # somebody else changed the file: it is left to them
            self._writer(path)()
            self.session._tell(f"{error}. Your corrections are in {path} instead")
        self.path, self.unsaved = path, False
        self.changed.emit()
        return path

    def flush(self) -> None:
        """Write what the file does not hold yet, if there is something. `OSError` if it cannot be written."""
        if self.unsaved and (len(self) or self.path is not None):
            path = self.save()
            self.session._tell(f"your corrections are in {path}")

    def _guard(self, overwrite: bool = False) -> Outputs:
        """Corrections go neither onto a slide nor onto the table."""
        session = self.session
        read = [row.path for row in session.cohort] + [session.cohort_path or ""]
        return Outputs([path for path in read if path], overwrite, "correcting")

    def _writer(self, path: Path, overwrite: bool = False) -> Callable[[], Path]:
        """What writes the corrections as they are now; in any thread, and never over later ones."""
        self._turn += 1
        outputs = self._guard(overwrite)
        turn, slides = self._turn, {slide_id: slide.copy() for slide_id, slide in self._slides.items()}

        def write() -> Path:
            with self._writing:
                return corrections.write(path, slides, outputs.writing) if turn == self._turn else path

        return write

    def load(self, path: PathLike) -> None:
        """Add the corrections of a file; of two of one patch the file's counts.

        They are kept there from now on, if it is a table of corrections and nothing else: another one (QuPath's
        GeoJSON, a table with columns of its own) is left as it is, and a new file is begun. `CohortError`, and nothing
        changed, if it is no such table.
        """
        self.take(corrections.read(Path(path)), path)

    def take(self, points: dict[str, Points], path: PathLike) -> None:
        """`load`, where the file has been read already."""
        others = len(self)
        for slide_id, found in points.items():
            items = [(y, x, label) for (y, x), label in zip(found.coordinates.tolist(), found.labels, strict=True)]
            own = self._slides.setdefault(slide_id, SlideCorrections())
            own.add(items)
            own.cover(found.areas)
        path = Path(path).absolute()
        self.path = path if corrections.is_own(path) else None
        self.unsaved = others > 0 or (self.path is None and len(self) > 0)
        if self.path is not None:
            self._guard().adopt(path)
        self._taken(points)
        self.changed.emit()
        if self.unsaved:
            self._autosave()

    def _taken(self, points: dict[str, Points]) -> None:
        """More corrections came from a file."""

    def shutdown(self) -> None:
        """The window closes: write what is not in the file yet, where the user wants that. Idempotent."""
        from ..plugin.preferences import preferences

        if self.path is not None or preferences().autosave:
            try:
                self.flush()
            except (OSError, OutputError) as error:
                self.session._tell(f"the corrections could not be written: {error}")

    def clear(self) -> None:
        """Other slides are there now; the file, if there is one, is left as it is."""
        self._slides.clear()
        self.path, self.unsaved = None, False
        self.changed.emit()

    def _autosave(self) -> None:
        """Write beside the window, where the user wants that and the place is known."""
        from ..plugin.preferences import preferences

        session = self.session
        if not preferences().autosave or (self.path is None and session.cohort_path is None):
            return
        if self.path is None:
            self.path = self.default_path()
        path = self.path

        def done(written: Path) -> None:
            if written == self.path:
                self.unsaved = False
                self.changed.emit()

        def failed(error: Exception) -> None:
            session._tell(f"{path}: the corrections could not be written ({error}): save them elsewhere")

        session.reader.request(("corrections", id(self)), self._writer(path), done, failed)
