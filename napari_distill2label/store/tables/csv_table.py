"""CSV tables of users and for users: tolerant reading, exact writing.

`read_table` reads what Excel, LibreOffice, R and pandas save: commas, semicolons or tabs, a `sep=` line, UTF-8, UTF-16
or Windows' own encoding, empty rows and columns, trailing delimiters. Anything else is an error of one plain line.
"""

import codecs
import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from ...core.errors import CohortError
from ...core.foreign_files import read_at_most, refuse_special_file
from ...core.notices import Notice, NoticeCode
from ...core.text import quoted, shown

DELIMITERS = (",", ";", "\t", "|")
LARGEST = 512 << 20  # bytes; a hundred thousand slides take 10 MB
BEGINNING = 1 << 16  # bytes or characters that tell encoding and delimiter
WINDOWS = "cp1252"
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four: full-width, as in Japanese
_OTHER_FILES = {
    b"PK\x03\x04": "is an Excel workbook or another packed file, not a CSV file: save it as 'CSV UTF-8' and give that",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook, not a CSV file: save it as 'CSV UTF-8' and give that",
    b"\x1f\x8b": "is compressed: unpack it first",
}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BOM_OF = {encoding: bom for bom, encoding in _BOMS}

Names = Mapping[str, Sequence[str]]  # of columns: our name -> other names for it, any case


@dataclass(frozen=True)
class Style:
    """The format of a table file, so that it can be written again in the same way."""

    delimiter: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"
    sep_line: bool = False  # does Excel's line `sep=;` stand first?

    def encoded(self, text: str) -> bytes:
        """Text as bytes of the same encoding, or of UTF-8 (marked, for Excel) where that one lacks a letter."""
        try:
            return _BOM_OF.get(self.encoding, b"") + text.encode(self.encoding.removesuffix("-sig"))
        except UnicodeEncodeError:
            return text.encode("utf-8-sig")


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it stands in its file.

    Attributes
    ----------
    header, rows
        Cells as they stand; every row is as long as the header, and holds something.
    lines
        The line of the file in which each row ends.
    columns
        Where each column is: our names where they are known, else the header's own.
    digest
        SHA-256 of the file.
    notices
        Doubts about how the file was read.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    columns: Mapping[str, int]
    style: Style
    digest: str
    notices: tuple[Notice, ...] = ()

    def cells(self, row: Sequence[str]) -> dict[str, str]:
        """One of `rows` by column: stripped, formulas as they were before they were made harmless."""
        return cells_by_column(row, self.columns)


def read_table(
    path: str | os.PathLike[str], required: Sequence[str], aliases: Names | None = None
) -> list[dict[str, str]]:
    """Rows of a table as dicts of stripped strings, columns renamed by `aliases` (name -> others, any case).

    `CohortError` if the file is missing, empty, no table, has no row, or lacks a required column.
    """
    table = open_table(path, required, aliases)
    return [table.cells(row) for row in table.rows]


def open_table(path: str | os.PathLike[str], required: Sequence[str] = (), aliases: Names | None = None) -> Table:
    """Read a table with everything that is needed to write it again unchanged. Errors as in `read_table`."""
    path = Path(path)
    data = _read_bytes(path)
    text, encoding, doubt = _decode(data, path)
    read = _read_rows(io.StringIO(text, newline=""), path, required, aliases)
    found = list(read.rows)
    newline = "\r\n" if "\r\n" in text else "\r" if "\r" in text and "\n" not in text else "\n"
    style = Style(read.delimiter, newline, encoding, read.has_sep_line)
    lines, rows = (tuple(each) for each in zip(*found, strict=True))
    digest = hashlib.sha256(data).hexdigest()
    return Table(path, read.header, rows, lines, read.columns, style, digest, tuple(doubt))


def iter_table(
    path: str | os.PathLike[str], aliases: Names | None = None
) -> tuple[Mapping[str, int], Iterator[tuple[int, dict[str, str]]]]:
    """Return columns, and (line, cells) of each row as `Table.cells` gives them: memory does not grow with the rows.

    Errors as in `read_table`; those of a row when it is read.
    """
    path = Path(path)
    encoding, opened = _opener(path)

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        with _text_errors(path, encoding), opened() as file:
            read = _read_rows(file, path, (), aliases)
            for line, row in read.rows:
                yield line, cells_by_column(row, read.columns)

    with _text_errors(path, encoding), opened() as file:
        columns = _read_rows(file, path, (), aliases).columns
    return columns, rows()


def cells_by_column(row: Sequence[str], columns: Mapping[str, int]) -> dict[str, str]:
    """Return the cells of a row by column: stripped, formulas as they were before they were made harmless."""
    return {name: unescape_formula(row[index].strip()) for name, index in columns.items()}


class _Rows(NamedTuple):
    header: tuple[str, ...]
    columns: dict[str, int]
    delimiter: str
    has_sep_line: bool
    rows: Iterator[tuple[int, tuple[str, ...]]]  # with the line of the file in which each ends


def _read_rows(file: TextIO, path: Path, required: Sequence[str], aliases: Names | None) -> _Rows:
    """Read the header of a table, and its rows as they are asked for."""
    names = {**dict.fromkeys(required, ()), **(aliases or {})}
    known = {_normalise_name(other): name for name, others in names.items() for other in (name, *others)}
    beginning = file.read(BEGINNING)
    sep = _SEP_LINE.match(beginning)
    start = sep.end() if sep else 0
    delimiter = sep[1] if sep else _delimiter_of(beginning, known)
    file.seek(0)
    file.read(start)
    lines = _lines(file, delimiter, path, 1 if sep else 0)
    first = next(lines, None)
    if first is None:
        needs = f" with {', '.join(required)}" if required else ""
        raise CohortError(f"{path}: is empty; it needs a header{needs}")
    header = tuple(first[1])
    columns = _columns(header, known, path)
    if missing := [name for name in required if name not in columns]:
        there = ", ".join(shown(cell.strip()) for cell in header)
        raise CohortError(f"{path}: has no column {missing[0]!r}; its header is {shown(there, 500)}")
    least = 1 + max((columns[name] for name in required), default=-1)

    def rows() -> Iterator[tuple[int, tuple[str, ...]]]:
        line = None
        for line, cells in lines:
            yield line, _pad_row(cells, len(header), least, line, path)
        if line is None:
            raise CohortError(f"{path}: has a header but no row")

    return _Rows(header, columns, delimiter, sep is not None, rows())


def format_table(rows: Iterable[Sequence[object]], style: Style = Style()) -> str:
    """Return rows as text that `read_table` reads back cell by cell. For formulas see `escape_formula`."""
    special = re.compile(rf'["\r\n{re.escape(style.delimiter)}]')

    def quoted(cell: object) -> str:
        text = str(cell)
        return '"' + text.replace('"', '""') + '"' if special.search(text) else text

    first = [f"sep={style.delimiter}"] if style.sep_line else []
    lines = (style.delimiter.join(map(quoted, row)) or '""' for row in rows)
    return "".join(line + style.newline for line in (*first, *lines))


def escape_formula(text: str) -> str:
    """Return a cell that a spreadsheet shows as text: '=1+1' -> "'=1+1". Numbers stay, negative ones too.

    Excel runs what begins with =, +, -, @ (full-width ones too), a tab or a line end.
    `unescape_formula` takes the mark off.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_formula(text: str) -> str:
    """Return the text that was given to `escape_formula`."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) and not _NUMBER.fullmatch(text[1:]) else text


# ---- reading -------------------------------------------------------------------------------------------------------


def _read_bytes(path: Path, most: int = LARGEST + 1) -> bytes:
    """Return the first bytes of a file. `CohortError` for one that is missing, too large, or of another kind."""
    try:
        refuse_special_file(path)
        with path.open("rb") as file:
            data = read_at_most(file, most)
            size = max(len(data), os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CohortError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if size > LARGEST:
        raise CohortError(f"{path}: has more than {LARGEST >> 20} MB: it is no table of slides or points")
    for start, what in _OTHER_FILES.items():
        if data.startswith(start):
            raise CohortError(f"{path}: {what}")
    return data


def _opener(path: Path) -> tuple[str, Callable[[], TextIO]]:
    """Return the encoding of a file, and what opens it as text. What can be read once only is kept in memory."""
    if path.is_file():
        encoding = _find_encoding(path)
        return encoding, partial(path.open, encoding=encoding, newline="")
    text, encoding, _ = _decode(_read_bytes(path), path)
    return encoding, partial(io.StringIO, text, newline="")


def _decode(data: bytes, path: Path) -> tuple[str, str, list[Notice]]:
    """(text, encoding, notices). `CohortError` for what is no text."""
    encoding, bom = _marked_encoding(data[:BEGINNING])
    if not encoding:
        try:
            data.decode()
            encoding = "utf-8"
        except UnicodeDecodeError:
            encoding = WINDOWS
    doubt = [Notice(NoticeCode.ENCODING_GUESSED, {"file": str(path)})] if encoding == WINDOWS else []
    with _text_errors(path, encoding.removesuffix("-sig")):
        text = data[len(bom) :].decode(encoding.removesuffix("-sig"))
    if "\0" in text:
        raise _binary(path)
    return text, encoding, doubt


def _find_encoding(path: Path) -> str:
    """Return the encoding that opens a file as `_decode` decodes it, in bounded memory."""
    beginning = _read_bytes(path, BEGINNING)
    encoding, bom = _marked_encoding(beginning)
    if encoding:
        return "utf-16" if bom and encoding != "utf-8-sig" else encoding  # which take the mark off
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while data := file.read(1 << 20):
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return WINDOWS
    return "utf-8"


def _marked_encoding(beginning: bytes) -> tuple[str, bytes]:
    """Return the encoding that the first bytes of a file tell, '' for none, and the mark that tells it."""
    for bom, encoding in _BOMS:
        if beginning.startswith(bom):
            return encoding, bom
    beginning = beginning[:4096]
    if beginning[1::2].count(0) > 0.7 * len(beginning[1::2]) > 0 and beginning[::2].count(0) == 0:
        return "utf-16-le", b""
    return "", b""


@contextmanager
def _text_errors(path: Path, encoding: str) -> Iterator[None]:
    """`CohortError` for bytes that are no text."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CohortError(f"{path}: is not a CSV file in UTF-8 or {encoding} ({error.reason})") from None


def _binary(path: Path) -> CohortError:
    return CohortError(f"{path}: is not a CSV file in UTF-8 (it holds binary data)")


def _lines(file: TextIO, delimiter: str, path: Path, before: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of the rows that hold something; `before`: lines of the file that were read before."""
    reader = csv.reader(_texts(file, path), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield reader.line_num + before, cells
    except csv.Error as error:
        raise CohortError(f"{path}: is not a CSV file in UTF-8 (line {reader.line_num + before}: {error})") from None


def _texts(file: TextIO, path: Path) -> Iterator[str]:
    for text in file:
        if "\0" in text:
            raise _binary(path)
        yield text


def _delimiter_of(text: str, known: Mapping[str, str]) -> str:
    """Return the delimiter that gives the most known columns, or else the most columns."""

    def found(delimiter: str) -> tuple[int, int]:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            cells = next((cells for cells in reader if any(cell.strip(" ,;\t|") for cell in cells)), [])
        except csv.Error:
            cells = []
        return sum(_normalise_name(cell) in known for cell in cells), len(cells)

    return max(DELIMITERS, key=found)  # of equals the first


def _normalise_name(cell: str) -> str:
    """A column's name as it is compared: 'Slide ID ' -> 'slide_id'."""
    return re.sub(r"[\s-]+", "_", cell.strip().strip("\ufeff").lower())


def _columns(header: Sequence[str], known: Mapping[str, str], path: Path) -> dict[str, int]:
    """Return the index of each named column. `CohortError` for a name that occurs twice."""
    present = {_normalise_name(cell) for cell in header}
    columns: dict[str, int] = {}
    for index, cell in enumerate(map(str.strip, header)):
        name = known.get(_normalise_name(cell), cell)
        if _normalise_name(cell) != name and name in present:
            name = cell  # beside a 'slide_id' a 'slide' is another column
        if not name:
            continue  # what a spreadsheet leaves behind its last column
        if name in columns:
            both = " and ".join(quoted(header[place].strip()) for place in (columns[name], index))
            raise CohortError(f"{path}: has the column {quoted(name)} twice ({both}): rename or delete one")
        columns[name] = index
    return columns


def _pad_row(cells: Sequence[str], width: int, least: int, line: int, path: Path) -> tuple[str, ...]:
    """A row as long as the header. Excel leaves the empty cells at the end of a row out, or adds some."""
    if len(cells) < least:
        raise CohortError(f"{path}: line {line} has {len(cells)} cells, the header has {width}")
    if any(map(str.strip, cells[width:])):
        raise CohortError(
            f"{path}: line {line} has {len(cells)} cells, the header has {width}: "
            "put a cell that holds the delimiter in quotes"
        )
    return (*cells[:width], *[""] * (width - len(cells)))
