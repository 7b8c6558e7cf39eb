"""The slides that a run was trained on, recognised by files and patients, because ids can change.

`slides.json` in a run's folder has a signature of every file that was used for training or validation.
"""

import hashlib
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.events import Progress, Task
from ..core.paths import is_url
from ..slides.slide_files import files_of_slide
from .cohort import CohortSlide
from .files.atomic import write_json
from .files.seal import read_json, sealed, unsealed
from .files.signature import file_signature
from .tables.cohort_table import case_key

if TYPE_CHECKING:
    from .run import Run

FILE = "slides.json"
FORMAT = 1
WHOLE = 8 << 20  # bytes up to which a file is read whole
PIECES, PIECE = 16, 1 << 16  # of a larger file: pieces that are read, and bytes of each
MEMBERS = 32  # files of a slide in many that are read; of the others the size counts


def content_signature(path: str | os.PathLike[str]) -> str | None:
    """Return a digest of the content of a slide's files, equal for a copy under another name.

    None if they cannot be read, or a folder holds none.

    A large file enters with its size and pieces spread over it: enough to distinguish slides, and quick to read.
    (`signature.file_signature` shows whether a file has changed, and differs for a copy.)
    """
    if is_url(path):
        told = file_signature(path)
        return None if told == "unknown" else f"url:{told}"
    digest = hashlib.sha256()
    try:
        # Not their names: a MIRAX slide or a DICOM series is renamed with them.
        files = sorted(files_of_slide(path), key=lambda file: (os.path.getsize(file), file))
        if not files:
            return None
        for file in files:
            digest.update(f"{os.path.getsize(file)}\0".encode())
        for file in files[:: -(-len(files) // MEMBERS)]:
            _add_file(digest, file)
    except OSError:
        return None
    return digest.hexdigest()


def _add_file(digest: "hashlib._Hash", path: str) -> None:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            return
        for piece in range(PIECES):
            file.seek((size - PIECE) * piece // (PIECES - 1))
            digest.update(file.read(PIECE))


def iter_sign_slides(rows: Iterable[CohortSlide]) -> Generator[Progress, None, dict[str, str]]:
    """Compute the signatures of the slides that can be read, by slide id."""
    rows, found = list(rows), {}
    for done, row in enumerate(rows):
        yield Progress(Task.HASH_DATA, done, len(rows))
        if signature := content_signature(row.path):
            found[row.slide_id] = signature
    return found


def write_signatures(run: "Run", signatures: dict[str, str]) -> Path:
    """Save the signatures of a run's slides in its folder."""
    return write_json(run.folder / FILE, sealed({"format": FORMAT, "signatures": signatures}))


def has_signatures(run: "Run") -> bool:
    """Whether the run has saved signatures of its slides."""
    return bool(_saved_signatures(run))


def _saved_signatures(run: "Run") -> dict[str, str]:
    """Read the signatures in a run's folder; empty if it has none, or if the file cannot be read."""
    try:
        data, whole = unsealed(read_json(run.folder / FILE))
        return {slide_id: one for slide_id, one in data["signatures"].items() if isinstance(one, str)} if whole else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


@dataclass(frozen=True)
class LearntSlides:
    """The slides that a run was trained and validated on.

    Attributes
    ----------
    rows
        Its slides, by id.
    files
        Slide ids by the signature of their file.
    n_unsigned
        Number of slides that are known by their ids alone.
    """

    rows: dict[str, CohortSlide]
    files: dict[str, str]
    n_unsigned: int

    @classmethod
    def of(cls, run: "Run") -> "LearntSlides":
        """Read them from a run. Without saved signatures, its files are read as they are now."""
        cohort = run.cohort
        rows = {row.slide_id: row for split in ("train", "valid") for row in cohort.in_split(split)}
        kept = _saved_signatures(run)
        signed = {slide_id: kept.get(slide_id) or content_signature(row.path) for slide_id, row in rows.items()}
        files = {signature: slide_id for slide_id, signature in signed.items() if signature}
        return cls(rows, files, sum(signature is None for signature in signed.values()))

    def reason(self, row: CohortSlide) -> str | None:
        """Return why a slide counts as trained on: "own" (the same slide), "file", "patient", "id"; None if not.

        A slide with the id of a training slide is another slide if it is another file, and both cases are given and
        differ. Another file alone is not enough: a converted or anonymised slide is another file, too.
        """
        signature = content_signature(row.path)
        if signature in self.files:
            return "own" if self.files[signature] == row.slide_id else "file"
        case = case_key(row.case_id)
        # Two slides without a given case have their ids as cases, which do not identify a patient.
        if case in self._told or (case in self._cases and _is_told(row)):
            return "patient"
        own = self.rows.get(row.slide_id)
        if own is None:
            return None
        is_another_file = bool(signature) and own.slide_id in self.files.values()
        return None if is_another_file and _is_told(own) and _is_told(row) else "id"

    @cached_property
    def _cases(self) -> set[str]:
        return {case_key(row.case_id) for row in self.rows.values()}

    @cached_property
    def _told(self) -> set[str]:
        return {case_key(row.case_id) for row in self.rows.values() if _is_told(row)}


def _is_told(row: CohortSlide) -> bool:
    """Whether the case of a slide is given. Without one, the case is the slide's id."""
    return row.case_id != row.slide_id
