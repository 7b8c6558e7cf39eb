"""The cohort: slides, one diagnosis each, cases and splits; `cohort.csv` in and out."""

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ..core.classes import class_indices, order_classes
from ..core.errors import CohortError
from ..core.names import is_url, slide_name
from .files import write_text
from .tables import read_table

SPLITS = ("train", "valid", "test")
COLUMNS = ("slide_id", "path", "label", "case_id", "mpp", "split")
# Headers of CLAM (case_id, slide_id, label), TRIDENT (wsi, mpp), STAMP (PATIENT, FILENAME), Slideflow (patient, slide).
ALIASES = {
    "slide_id": ("slide",),
    "path": ("wsi", "filename", "file"),
    "case_id": ("case", "patient", "patient_id"),
    "label": ("diagnosis",),
    "mpp": (),
    "split": (),
}
SPLIT_NAMES = {"val": "valid", "validation": "valid", "training": "train"}
FEW_NEGATIVE = 0.1  # below this fraction of the labelled slides a cohort is told that it has few negatives


@dataclass(frozen=True)
class CohortSlide:
    """One row: `path` absolute, or a URL as it was given (a string); `case_id` defaults to the slide's id.

    `label` and `split` are None where not given. `mpp` is what the user says, whatever the file says.
    """

    slide_id: str
    path: Path | str
    label: str | None = None
    case_id: str = ""
    mpp: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Cohort:
    """Slides with their labels, and the ordered classes (negative first; empty while unknown)."""

    slides: tuple[CohortSlide, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(slide.slide_id for slide in self.slides).items() if count > 1]
        if repeated:
            raise CohortError(f"two slides have the id {repeated[0]!r}: give each its own slide_id")

    def __len__(self) -> int:
        return len(self.slides)

    def __iter__(self):
        return iter(self.slides)

    def __getitem__(self, slide_id: str) -> CohortSlide:
        return next(slide for slide in self.slides if slide.slide_id == slide_id)

    @property
    def labelled(self) -> tuple[CohortSlide, ...]:
        return tuple(slide for slide in self.slides if slide.label is not None)

    def in_split(self, split: str) -> tuple[CohortSlide, ...]:
        """Labelled slides of one split."""
        return tuple(slide for slide in self.labelled if slide.split == split)

    def indices(self, slide: CohortSlide) -> tuple[int, ...]:
        """Indices of the slide's classes. `CohortError` for an unknown label."""
        try:
            return class_indices(slide.label or "", self.classes)
        except CohortError as error:
            raise CohortError(f"slide {slide.slide_id!r}: {error}") from None

    def with_classes(self, classes: Sequence[str] | None = None) -> "Cohort":
        """The same slides with their classes settled: as given, else recognised (`core.classes.order_classes`)."""
        return replace(self, classes=order_classes([slide.label for slide in self.labelled], classes))

    def with_slides(self, slides: Iterable[CohortSlide]) -> "Cohort":
        return replace(self, slides=tuple(slides))

    def check_splits(self) -> None:
        """`CohortError` if a case lies in two splits: its slides would be both learnt from and tested on."""
        seen: dict[str, CohortSlide] = {}
        for slide in self.labelled:
            other = seen.setdefault(slide.case_id, slide)
            if other.split != slide.split:
                raise CohortError(
                    f"case {slide.case_id!r} is in two splits: {other.slide_id!r} in {other.split}, "
                    f"{slide.slide_id!r} in {slide.split}. Put all slides of a case in one"
                )

    def warnings(self) -> list[str]:
        """What is allowed but unwise, a line each."""
        train, lines = self.in_split("train"), []
        unlabelled = len(self) - len(self.labelled)
        if unlabelled:
            lines.append(f"{unlabelled} of {len(self)} slides have no label: left out of training, still predicted")
        negative = sum(self.indices(slide) == (0,) for slide in train)
        if negative < max(2, FEW_NEGATIVE * len(train)):
            lines.append(
                f"only {negative} of {len(train)} training slides are {self.classes[0]!r} (negative): without "
                "negative slides nothing tells the model what is not a finding"
            )
        valid = self.in_split("valid")
        if not valid:
            lines.append("there is no validation slide to pick the epoch by: the last one is taken")
        elif len({self.indices(slide) for slide in valid}) < 2:
            lines.append(
                f"the validation split has {len(valid)} slide(s) of {len({s.label for s in valid})} class(es): "
                "its loss, which picks the epoch, says little"
            )
        return lines

    @classmethod
    def read(cls, path: str | os.PathLike[str], slides_folder: str | os.PathLike[str] | None = None) -> "Cohort":
        """Read `cohort.csv`, or a table with CLAM's, TRIDENT's, STAMP's or Slideflow's headers.

        Paths are relative to the CSV (or to `slides_folder`); URLs (`s3://…`, `https://…`) stay as they are. A table
        without paths (CLAM's) names files by their stem, which are looked for there. Labels and classes are not
        matched yet: see `with_classes`.
        """
        path = Path(path)
        folder = Path(slides_folder) if slides_folder else path.parent
        rows = read_table(path, required=(), aliases=ALIASES)
        if not {"slide_id", "path"} & set(rows[0]):
            raise CohortError(f"{path}: has neither a 'slide_id' nor a 'path' column (nor 'wsi', 'slide', 'filename')")
        files = None if "path" in rows[0] else _slides_by_name(folder)
        return cls(tuple(_parse_row(row, folder, files, path) for row in rows))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write `cohort.csv`, paths relative to it."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for slide in self.slides:
            table.writerow([
                slide.slide_id, _relative(slide.path, Path(path).parent), slide.label or "", slide.case_id,
                "" if slide.mpp is None else slide.mpp, slide.split or "",
            ])  # fmt: skip
        return write_text(path, text.getvalue())

    @classmethod
    def of_files(cls, paths: Iterable[str | os.PathLike[str]], mpp: float | None = None) -> "Cohort":
        """A cohort of unlabelled slides, named by their files."""
        return cls(
            tuple(CohortSlide(_name_of(path), _absolute(path), case_id=_name_of(path), mpp=mpp) for path in paths)
        )


def _name_of(path: str | os.PathLike[str]) -> str:
    """`slide_name`; a URL's without the signature that may follow it."""
    return slide_name(urlsplit(str(path)).path if is_url(path) else path)


def _absolute(path: str | os.PathLike[str]) -> Path | str:
    return str(path) if is_url(path) else Path(os.path.abspath(path))  # without '..', which absolute() would keep


def _relative(path: Path | str, folder: Path) -> str:
    if is_url(path):
        return str(path)
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:  # another drive, on Windows
        return path.as_posix()


def _slides_by_name(folder: Path) -> dict[str, list[Path]]:
    """The slides of a folder by file name and by slide name; annotations often lie beside them, under the same stem."""
    from ..slides.registry import SUFFIXES

    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*")):
        if file.suffix.lower() in SUFFIXES:
            files[file.name].append(file)
            files[slide_name(file)].append(file)
    return files


def _parse_row(row: dict[str, str], folder: Path, files: dict[str, list[Path]] | None, table: Path) -> CohortSlide:
    slide_id = row.get("slide_id") or _name_of(row.get("path", ""))
    if not slide_id:
        raise CohortError(f"{table}: a row has neither slide_id nor path")
    if files is None:
        file = row["path"] if is_url(row["path"]) else folder / row["path"]
        if not row["path"]:
            raise CohortError(f"{table}: slide {slide_id!r} has no path")
    else:
        found = files.get(slide_id, [folder / slide_id])
        if len(found) > 1:
            names = ", ".join(other.name for other in found)
            raise CohortError(f"{table}: slide {slide_id!r} could be any of {names}: add a column 'path'")
        file = found[0]
    return CohortSlide(
        slide_id=slide_id,
        path=_absolute(file),
        label=row.get("label") or None,
        case_id=row.get("case_id") or slide_id,
        mpp=_parse_mpp(row.get("mpp", ""), slide_id, table),
        split=_parse_split(row.get("split", ""), slide_id, table),
    )


def _parse_mpp(text: str, slide_id: str, table: Path) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = float("nan")
    if not 0.05 <= mpp <= 20:
        raise CohortError(f"{table}: slide {slide_id!r}: mpp {text!r} is not between 0.05 and 20 µm/px")
    return mpp


def _parse_split(text: str, slide_id: str, table: Path) -> str | None:
    split = SPLIT_NAMES.get(text.lower(), text.lower())
    if split and split not in SPLITS:
        raise CohortError(f"{table}: slide {slide_id!r}: unknown split {text!r}; use {', '.join(SPLITS)}")
    return split or None
