"""Rows of a cohort: read from a user's table, and written back into the same table with the changes.

A user's table has unknown columns, headers of other programs, and its own order, delimiter and encoding.
`CohortTable` holds all of it beside the slides, so that writing changes only the cells that have changed.
"""

import hashlib
import os
import re
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from ...core.classes import (
    SEPARATOR,
    common_spelling,
    is_no_value,
    near_spellings,
    respelled,
    spelling_key,
    split_label,
)
from ...core.errors import CohortError
from ...core.foreign_files import read_file
from ...core.notices import Notice, NoticeCode
from ...core.paths import is_url, slide_name, why_not_url
from ...core.text import quoted, shown
from ...slides.discovery import is_own_output
from ...slides.scale import LIMITS
from ..files.atomic import atomic_path
from .csv_table import Style, Table, escape_formula, format_table, open_table

SPLITS = ("train", "valid", "test")
COLUMNS = ("slide_id", "path", "label", "case_id", "mpp", "split", "share")
# Headers of CLAM (case_id, slide_id, label), TRIDENT (wsi, mpp), STAMP (PATIENT, FILENAME), Slideflow (patient, slide).
ALIASES = {
    "slide_id": ("slide",),
    "path": ("wsi", "filename", "file"),
    "case_id": ("case", "patient", "patient_id"),
    "label": ("diagnosis",),
    "mpp": (),
    "split": (),
    "share": (),
}
SPLIT_NAMES = {"val": "valid", "validation": "valid", "training": "train"}
_TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)  # project, site, participant
_MOST_COMPARED = 200  # class names among which near spellings are looked for
_written: dict[str, str] = {}  # digests of the tables this process has written, by path: they need no backup


@dataclass(frozen=True)
class CohortSlide:
    """One row: `path` absolute, or a URL as it was given (a string); `case_id` defaults to the slide's id.

    `label` and `split` are None where not given. `mpp` is the user's value, whatever the file states. `share` is a
    person's estimate of the share of positive patches, in [0, 1].
    """

    slide_id: str
    path: Path | str
    label: str | None = None
    case_id: str = ""
    mpp: float | None = None
    split: str | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        if not self.case_id:
            object.__setattr__(self, "case_id", self.slide_id)


@dataclass(frozen=True)
class LabelRow:
    """A row of a table without paths; None where a cell is empty."""

    slide_id: str
    label: str | None = None
    case_id: str | None = None
    mpp: float | None = None
    split: str | None = None
    share: float | None = None


@dataclass(frozen=True, eq=False)
class CohortTable:
    """The table that slides were read from.

    Attributes
    ----------
    table
        Its cells and its style.
    folder
        What its paths are relative to.
    rows
        By slide id: the parsed row, and its cells as they stand.
    found
        How many slides have a file; None if the table gives their paths.
    """

    table: Table
    folder: Path
    rows: Mapping[str, tuple[CohortSlide, tuple[str, ...]]]
    found: int | None = None

    @property
    def path(self) -> Path:
        return self.table.path.absolute()


def read_rows(
    path: str | os.PathLike[str], slides_folder: str | os.PathLike[str] | None = None
) -> tuple[CohortTable, list[CohortSlide], list[Notice]]:
    """(table, slides, notices) of a cohort's file, see `Cohort.read`. `CohortError` says what cannot be read."""
    path = Path(path)
    folder = Path(os.path.abspath(slides_folder or path.parent))
    table = open_table(path, aliases=ALIASES)
    if not {"slide_id", "path"} & set(table.columns):
        raise CohortError(
            f"{path}: has neither a 'slide_id' nor a 'path' column (nor 'wsi', 'slide', 'filename'); "
            f"its header is {shown(', '.join(cell.strip() for cell in table.header), 500)}"
        )
    parser = _Parser(path, folder, None if "path" in table.columns else _slides_by_name(folder))
    slides = parser.unify_spelling([parser.slide(table.cells(row)) for row in table.rows])
    rows = {slide.slide_id: (slide, cells) for slide, cells in zip(slides, table.rows, strict=True)}
    return CohortTable(table, folder, rows, parser.found), slides, [*table.notices, *parser.notices()]


def read_labels(path: str | os.PathLike[str]) -> tuple[list[LabelRow], list[Notice]] | None:
    """Read (rows, notices) of a table of labels without a `path` column.

    None for a table with paths, which is a cohort. `CohortError` where the table cannot be read, has no column
    `slide_id`, or names a slide twice.
    """
    path = Path(path)
    table = open_table(path, aliases=ALIASES)
    if "path" in table.columns:
        return None
    if "slide_id" not in table.columns:
        raise CohortError(f"{path}: has no column 'slide_id'; its header is {shown(', '.join(table.header), 500)}")
    parser = _Parser(path, path.parent, {})
    slides = parser.unify_spelling([parser.slide(table.cells(row)) for row in table.rows])
    names = Counter(slide.slide_id for slide in slides)
    if repeated := [name for name, n in names.items() if n > 1]:
        raise CohortError(f"{path}: two rows have the id {quoted(repeated[0])}")
    parser.patients.clear()  # the slides that are there know theirs
    rows = [
        LabelRow(
            slide.slide_id,
            slide.label,
            slide.case_id if slide.case_id != default_case(slide.slide_id, slide.path) else None,
            slide.mpp,
            slide.split,
            slide.share,
        )
        for slide in slides
    ]
    return rows, [*table.notices, *parser.notices()]


def write_rows(path: str | os.PathLike[str], slides: Iterable[CohortSlide], former: CohortTable | None = None) -> Path:
    """Write slides as a table, paths relative to it; in the place and manner of `former` where there is one.

    Columns, rows and cells of `former` stay as they are, but for what has changed; slides that it lacks get a row of
    their own. An existing file that this process did not write is first copied to `<name>.bak`.
    """
    style, rows = (Style(), _new_rows(path, slides)) if former is None else _updated_rows(Path(path), slides, former)
    data = style.encoded(format_table(rows, style))
    target = os.path.realpath(path)  # a link stays a link
    _back_up(target, data)
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
        if os.path.exists(target):
            shutil.copymode(target, temporary)
    _written[target] = _digest(data)
    return Path(path)


def default_case(slide_id: str, path: Path | str) -> str:
    """Return the case of a slide without a given one: the patient in its TCGA barcode, else the slide's id."""
    return tcga_patient(slide_id) or tcga_patient(slide_name(path)) or slide_id


def case_key(case_id: str) -> str:
    """What the spellings of one case share: 'P17' and 'p17', but never '1' and '01', which are no numbers here."""
    return spelling_key(f"id {case_id}")


def tcga_patient(name: str) -> str | None:
    """'TCGA-AA-3489-01Z-00-DX1.b2…' -> 'TCGA-AA-3489', the patient by the barcode's definition; None for no barcode."""
    barcode = _TCGA.match(name)
    return barcode and barcode[0].upper()


# ---- reading -------------------------------------------------------------------------------------------------------


class _Parser:
    """Parses cells into slides, and counts what its user should know."""

    def __init__(self, table: Path, folder: Path, files: Mapping[str, Sequence[Path]] | None) -> None:
        self.table, self.folder, self.files = table, str(folder), files
        self.found = None if files is None else 0
        self.empty_cells: dict[str, Counter[str]] = defaultdict(Counter)  # column -> cells that hold no value
        self.patients: Counter[str] = Counter()  # found in barcodes
        self.names: Counter[str] = Counter()  # of classes, as they are spelled
        self.cases: Counter[str] = Counter()  # as they are given and spelled

    def slide(self, row: Mapping[str, str]) -> CohortSlide:
        slide_id = row.get("slide_id", "")
        if not slide_id and not row.get("path"):
            raise CohortError(f"{self.table}: a row has neither slide_id nor path")
        path = self._path(row, slide_id)
        slide_id = slide_id or slide_name(path)
        return CohortSlide(
            slide_id=slide_id,
            path=path,
            label=self._label(row),
            case_id=self._case(row, slide_id, path),
            mpp=self._mpp(row, slide_id),
            split=self._split(row, slide_id),
            share=self._share(row, slide_id),
        )

    def unify_spelling(self, slides: Sequence[CohortSlide]) -> list[CohortSlide]:
        """Labels that differ only in spelling become one class, and such cases one case."""
        self.spelling = common_spelling(self.names)
        marked = common_spelling(Counter({f"id {case}": n for case, n in self.cases.items()}))  # '01' is no number
        self.case_spelling = {case[3:]: common[3:] for case, common in marked.items()}
        labels = {name: new for name, new in self.spelling.items() if name != new}
        cases = {name: new for name, new in self.case_spelling.items() if name != new}
        if labels:
            slides = [replace(s, label=respelled(s.label, labels)) if s.label else s for s in slides]
        if cases:
            slides = [replace(s, case_id=cases[s.case_id]) if s.case_id in cases else s for s in slides]
        return list(slides)

    def notices(self) -> list[Notice]:
        """A notice for each kind of thing."""
        found, file = [], str(self.table)
        for column, cells in self.empty_cells.items():
            found.append(Notice(NoticeCode.CELLS_EMPTY, {"file": file, "column": column, "cells": dict(cells)}))
        for common, names in _grouped(self.spelling).items():
            spellings = {name: self.names[name] for name in names}
            found.append(Notice(NoticeCode.LABEL_SPELLINGS, {"file": file, "name": common, "spellings": spellings}))
        if cases := _grouped(self.case_spelling):
            values = {"file": file, "n": len(cases), "spellings": next(iter(cases.values()))}
            found.append(Notice(NoticeCode.CASE_SPELLINGS, values))
        classes = list(dict.fromkeys(self.spelling.values()))
        for one, other in near_spellings(classes) if len(classes) <= _MOST_COMPARED else ():
            found.append(Notice(NoticeCode.CLASSES_ALIKE, {"file": file, "one": one, "other": other}))
        if self.patients:
            values = {"file": file, "slides": self.patients.total(), "patients": len(self.patients)}
            found.append(Notice(NoticeCode.CASES_FROM_BARCODES, values))
        return found

    def _value_of(self, row: Mapping[str, str], column: str) -> str:
        """A cell, '' where it holds no value."""
        text = row.get(column, "")
        if text and is_no_value(text):
            self.empty_cells[column][text] += 1
            return ""
        return text

    def _path(self, row: Mapping[str, str], slide_id: str) -> Path | str:
        if self.files is not None:
            return self._find_slide(slide_id, self.files)
        text = row["path"]
        if is_no_value(text):
            raise CohortError(f"{self.table}: slide {quoted(slide_id)} has no path")
        if is_url(text):
            if reason := why_not_url(text):
                raise CohortError(
                    f"{self.table}: slide {quoted(slide_id or slide_name(text))}: {shown(text, 200)}: {reason}"
                )
            return text
        return self._file(text)

    def _file(self, text: str) -> Path:
        return Path(os.path.normpath(os.path.join(self.folder, _native_path(text, self.folder))))

    def _find_slide(self, slide_id: str, files: Mapping[str, Sequence[Path]]) -> Path:
        there = files.get(unicodedata.normalize("NFC", slide_id), ())
        if len(there) > 1:  # our own mask may lie beside its slide
            there = [file for file in there if not is_own_output(file)]
        if len(there) > 1:
            names = ", ".join(shown(other.name) for other in there)
            raise CohortError(f"{self.table}: slide {quoted(slide_id)} could be any of {names}: add a column 'path'")
        self.found = (self.found or 0) + len(there)
        return there[0] if there else self._file(slide_id)

    def _label(self, row: Mapping[str, str]) -> str | None:
        text = self._value_of(row, "label")
        if not text:
            return None
        names = split_label(text)
        if empty := [name for name in names if is_no_value(name)]:  # 'tumour;NA'
            self.empty_cells["label"][text] += 1
            names = tuple(name for name in names if name not in empty)
            text = SEPARATOR.join(names)
        self.names.update(names)
        return text or None

    def _case(self, row: Mapping[str, str], slide_id: str, path: Path | str) -> str:
        if case := self._value_of(row, "case_id"):
            self.cases[case] += 1
            return case
        case = default_case(slide_id, path)
        if case != slide_id or tcga_patient(slide_id):
            self.patients[case] += 1
        return case

    def _mpp(self, row: Mapping[str, str], slide_id: str) -> float | None:
        text = self._value_of(row, "mpp")
        if not text:
            return None
        try:
            mpp = float(text.replace(",", ".") if "." not in text else text)  # Excel's decimal comma
        except ValueError:
            mpp = float("nan")
        low, high = LIMITS
        if not low <= mpp <= high:
            raise CohortError(
                f"{self.table}: slide {quoted(slide_id)}: mpp {quoted(text)} is not between {low:g} and {high:g} µm/px"
            )
        return mpp

    def _share(self, row: Mapping[str, str], slide_id: str) -> float | None:
        text = self._value_of(row, "share")
        if not text:
            return None
        number, percent = text.removesuffix("%").strip(), text.endswith("%")
        try:
            share = float(number.replace(",", ".") if "." not in number else number) / (100 if percent else 1)
        except ValueError:
            share = float("nan")
        if not 0 <= share <= 1:
            raise CohortError(
                f"{self.table}: slide {quoted(slide_id)}: share {quoted(text)} is not between 0 and 1: write 0.3 or "
                "30 %"
            )
        return share

    def _split(self, row: Mapping[str, str], slide_id: str) -> str | None:
        text = self._value_of(row, "split")
        split = SPLIT_NAMES.get(text.lower(), text.lower())
        if split and split not in SPLITS:
            raise CohortError(
                f"{self.table}: slide {quoted(slide_id)}: unknown split {quoted(text)}; use {', '.join(SPLITS)}"
            )
        return split or None


def _slides_by_name(folder: Path) -> dict[str, list[Path]]:
    """The slides of a folder by file name and by slide name; annotations often lie beside them, under the same stem."""
    from ...slides.registry import SUFFIXES

    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*")):
        if file.suffix.lower() in SUFFIXES:
            for name in {file.name, slide_name(file)}:
                files[unicodedata.normalize("NFC", name)].append(file)
    return files


def _native_path(path: str, folder: str) -> str:
    r"""A path that another system wrote, for this one: 'slides\a.svs', an umlaut in the other form of Unicode.

    Only where there is no file of that very name.
    """
    windows = os.sep == "/" and "\\" in path
    if (path.isascii() and not windows) or os.path.exists(os.path.join(folder, path)):
        return path
    if windows:
        path = path.replace("\\", "/")
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.exists(os.path.join(folder, form))), path)


def _grouped(spelling: Mapping[str, str]) -> dict[str, list[str]]:
    """The common spelling of what is spelled in more than one way -> all its spellings."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, common in spelling.items():
        groups[common].append(name)
    return {common: names for common, names in groups.items() if len(names) > 1}


# ---- writing -------------------------------------------------------------------------------------------------------


def _new_rows(path: str | os.PathLike[str], slides: Iterable[CohortSlide]) -> list[Sequence[object]]:
    """Return rows with all columns."""
    folder, slides = Path(path).absolute().parent, list(slides)
    rows = (
        (
            slide.slide_id,
            relative_path(slide.path, folder),
            slide.label or "",
            slide.case_id,
            slide.mpp,
            slide.split or "",
            slide.share,
        )
        for slide in slides
    )
    columns = COLUMNS if any(slide.share is not None for slide in slides) else COLUMNS[:-1]
    cells = (row[: len(columns)] for row in rows)
    return [columns, *(["" if cell is None else escape_formula(str(cell)) for cell in row] for row in cells)]


def _updated_rows(
    path: Path, slides: Iterable[CohortSlide], former: CohortTable
) -> tuple[Style, list[Sequence[object]]]:
    """(style, rows) of `former` with the cells that have changed."""
    table, slides = former.table, list(slides)
    cells_of = [_changed_cells(slide, former, path.absolute().parent) for slide in slides]
    if any("path" in cells for cells in cells_of) and "path" not in table.columns:  # of all slides, or of none
        for slide, cells in zip(slides, cells_of, strict=True):
            cells["path"] = relative_path(slide.path, path.absolute().parent)
    new = [name for name in COLUMNS if name not in table.columns and any(cells.get(name) for cells in cells_of)]
    place = {**table.columns, **{name: len(table.header) + i for i, name in enumerate(new)}}
    rows: list[Sequence[object]] = [(*table.header, *new)]
    for slide, cells in zip(slides, cells_of, strict=True):
        _, former_cells = former.rows.get(slide.slide_id, (None, ("",) * len(table.header)))
        row = [*former_cells, *("" for _ in new)]
        for name, text in cells.items():
            if name in place:
                row[place[name]] = escape_formula(text)
        rows.append(row)
    return table.style, rows


def _changed_cells(slide: CohortSlide, former: CohortTable, folder: Path) -> dict[str, str]:
    """Return the cells of a slide whose meaning differs from the former table, or from an empty cell."""
    said, cells = former.rows.get(slide.slide_id, (None, ()))
    columns, result = former.table.columns, {}
    if said is None:
        said = CohortSlide(slide.slide_id, slide.path, case_id=default_case(slide.slide_id, slide.path))
        result["path"] = relative_path(slide.path, folder)
        if "slide_id" in columns or slide.slide_id != slide_name(slide.path):
            result["slide_id"] = slide.slide_id
    elif slide.path != said.path or (folder != former.folder and _depends_on_folder(cells, columns)):
        result["path"] = relative_path(slide.path, folder)
    if not _is_same_label(slide.label, said.label):
        result["label"] = slide.label or ""
    if slide.case_id != said.case_id:
        result["case_id"] = "" if slide.case_id == default_case(slide.slide_id, slide.path) else slide.case_id
    if slide.mpp != said.mpp:
        result["mpp"] = _format_number("" if slide.mpp is None else str(slide.mpp), former)
    if slide.split != said.split:
        result["split"] = slide.split or ""
    if slide.share != said.share:
        result["share"] = _format_number("" if slide.share is None else f"{slide.share:g}", former)
    return result


def _depends_on_folder(cells: Sequence[str], columns: Mapping[str, int]) -> bool:
    """Whether the path of a row means another file when its table lies in another folder."""
    text = cells[columns["path"]].strip() if "path" in columns else ""
    return not is_url(text) and not os.path.isabs(text)


def _is_same_label(one: str | None, other: str | None) -> bool:
    """Whether two labels name the same classes, however spelled."""
    return [spelling_key(name) for name in split_label(one or "")] == [
        spelling_key(name) for name in split_label(other or "")
    ]


def _format_number(text: str, former: CohortTable) -> str:
    """With a decimal comma where the table has them."""
    column = former.table.columns.get("mpp")
    comma = column is not None and any("," in row[column] for row in former.table.rows)
    return text.replace(".", ",") if comma else text


def relative_path(path: Path | str, folder: Path) -> str:
    """Return a slide's path as it is written in a table in `folder`."""
    if is_url(path):
        return str(path)
    try:
        text = Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive, on Windows
        return Path(path).as_posix()
    return text if text == text.strip() else f"./{text}"  # cells are stripped


def _back_up(path: str, data: bytes) -> None:
    """Back up the file that `data` is about to replace, unless this process wrote it or it is equal."""
    try:
        former = Path(path).read_bytes()
    except FileNotFoundError:
        return
    if former == data or _written.get(path) == _digest(former):
        return
    if not os.access(path, os.W_OK):
        raise CohortError(f"{path}: is read-only: save under another name")
    today = f"{path}.{date.today().isoformat()}"
    names = (f"{path}.bak", f"{today}.bak", *(f"{today}-{n}.bak" for n in range(2, 1000)))
    for name in names:
        try:
            if read_file(Path(name), len(former)) == former:
                return
        except ValueError:  # it is larger
            continue
        except FileNotFoundError:
            with atomic_path(name) as temporary:
                shutil.copy2(path, temporary)
            return
    raise CohortError(f"{path}: has too many backups of today: delete some")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
