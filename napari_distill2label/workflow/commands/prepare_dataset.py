"""`prepare_dataset`: write the tables of published image sets: cohort.csv, and their truth where it is public."""

import csv
import io
import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np

from ...core.errors import CohortError
from ...core.events import Event, Progress, Task
from ...core.notices import Notice, NoticeCode
from ...core.paths import PathLike
from ...slides.registry import open_slide
from ...store.cohort import Cohort, CohortSlide
from ...store.files.atomic import write_text
from ...store.files.outputs import Outputs
from ...store.tables.csv_table import escape_formula

COLON_KINDS = ("epithelial", "fibroblast", "inflammatory", "others")
COLON_POSITIVE = "epithelial"
COLON_CLASSES = ("normal", COLON_POSITIVE)
GLAS_CLASSES = ("benign", "malignant")
GLAS_MPP = 0.62  # µm/px of all images: 20×, Zeiss MIRAX MIDI
GLAS_GRADES = "Grade.csv"
MARGIN = 1.5  # px by which a nucleus may be marked outside its image


def prepare_dataset(
    name: str, folder: PathLike, out: PathLike, *, mpp: float | None = None, overwrite: bool = False
) -> Generator[Event, None, Path]:
    """Write a published data set as a cohort. No image is copied.

    Parameters
    ----------
    name
        "colon" (Sirinukunwattana 2016, CRCHistoPhenotypes: `Classification/img1/img1.bmp` and four `.mat` files of
        nuclei each), "consep" (Graham 2019, CoNSeP, laid out as the colon set is), "breast" (Gelasca 2008, UCSB:
        `ytma12_010804_benign1_ccd.tif`) or "glas" (Sirinukunwattana 2017: `Grade.csv`, `train_1.png` or `.bmp`, and
        `train_1_anno.png` or `.bmp`, in which a gland is not 0).
    folder
        The folder that holds `Classification/`, `Grade.csv` or the `.tif` files, or a parent of it.
    mpp
        Pixel size in µm/px to write for every slide; None leaves it open: the files do not have it.
    overwrite
        Replace tables in `out` that this program did not write, or that were changed since.

    Returns the path of `cohort.csv`. Colon and CoNSeP: an image is positive if it holds an epithelial nucleus;
    `truth.csv` has every nucleus with its kind (`label`) and the class that this kind is of (`class`), `centres.csv`
    the same places without either. GlaS: cases are patients; `truth/` has a mask for each image, in which the glands of
    a malignant image are malignant (2) and all else is benign (1).
    """
    readers = {"colon": _colon, "consep": _colon, "breast": _breast, "glas": _glas}
    if name not in readers:
        raise CohortError(f"unknown data set {name!r}: choose one of {', '.join(readers)}")
    if not Path(folder).is_dir():
        raise CohortError(f"{folder}: no such folder")
    yield from readers[name](Path(folder), Path(out), mpp, overwrite)
    return Path(out) / "cohort.csv"


def _colon(folder: Path, out: Path, mpp: float | None, overwrite: bool) -> Generator[Event, None, None]:
    images = sorted(folder.rglob("Classification/img*/img*.bmp"), key=_number) or sorted(
        folder.glob("img*/img*.bmp"), key=_number
    )
    if not images:
        raise CohortError(f"{folder}: holds no Classification/img1/img1.bmp; name the folder of CRCHistoPhenotypes")
    _check_one(folder, (image.parent.parent for image in images))
    nuclei = [image.with_name(f"{image.stem}_{kind}.mat") for image in images for kind in COLON_KINDS]
    with Outputs([*images, *nuclei], overwrite, "describing a data set") as outputs:
        outputs.claim(out / name for name in ("cohort.csv", "truth.csv", "centres.csv"))
        yield from _describe_colon(images, out, mpp, outputs)


def _check_one(folder: Path, found: Iterable[Path]) -> None:
    """Raise `CohortError` where several data sets lie in a folder: which of them is meant, nobody knows."""
    if len(places := sorted(set(found))) > 1:
        raise CohortError(
            f"{folder}: holds several data sets, {places[0]} and {places[1]} among them. Name one of them."
        )


def _describe_colon(
    images: Sequence[Path], out: Path, mpp: float | None, outputs: Outputs
) -> Generator[Event, None, None]:
    slides, truth, moved = [], [], 0
    for done, image in enumerate(images, 1):
        with open_slide(image) as slide:
            height, width = slide.shape
        nuclei = []
        for kind in COLON_KINDS:
            points = _mat_points(image.with_name(f"{image.stem}_{kind}.mat"))
            # Some nuclei are marked one pixel outside their image.
            inside = points.clip(0, (width - 1, height - 1))
            if len(points) and np.abs(points - inside).max() > MARGIN:
                raise CohortError(
                    f"{image}: its {kind} nuclei lie outside the image: are the .mat files of this image?"
                )
            moved += int((points != inside).any(axis=1).sum())
            nuclei += [(float(x), float(y), kind) for x, y in inside]
        positive = any(kind == COLON_POSITIVE for *_, kind in nuclei)
        # The crops come from about ten slides of nine patients that the set does not name: each is its own case.
        slides.append(CohortSlide(image.stem, image.absolute(), COLON_CLASSES[positive], image.stem, mpp))
        truth += [(image.stem, x, y, kind) for x, y, kind in nuclei]
        yield Progress(Task.PREPARE_DATASET, done, len(images))
    _write_cohort(out, slides, outputs)
    marked = ((*row, COLON_CLASSES[row[3] == COLON_POSITIVE]) for row in truth)
    _write_rows(out / "truth.csv", ("slide_id", "x", "y", "label", "class"), marked, outputs)
    _write_rows(out / "centres.csv", ("slide_id", "x", "y"), (row[:3] for row in truth), outputs)
    if moved:
        yield Notice(NoticeCode.POINTS_MOVED, {"n": moved})
    yield Notice(NoticeCode.DATASET_NOTE, {"note": "crops"})


def _number(image: Path) -> int:
    return int(re.sub(r"\D", "", image.stem) or 0)


def _mat_points(path: Path) -> np.ndarray:
    """(n, 2) float (x, y) of the nuclei of one kind, 0-based: MATLAB counts pixels from 1. n may be 0."""
    from scipy.io import loadmat

    try:
        points = np.asarray(loadmat(path, variable_names=["detection"])["detection"], float).reshape(-1, 2)
    except Exception as error:  # noqa: BLE001 · raised again: a parser of damaged bytes may raise anything
        raise CohortError(f"{path}: is no .mat file with (x, y) in 'detection' ({error})") from None
    return points - 1


def _breast(folder: Path, out: Path, mpp: float | None, overwrite: bool) -> Generator[Event, None, None]:
    pattern = re.compile(r"(?P<case>[^_]+_[^_]+)_(?P<label>benign|malignant)\d*_", re.IGNORECASE)
    found = [(path, match) for path in sorted(folder.rglob("*.tif*")) if (match := pattern.match(path.name))]
    if not found:
        raise CohortError(f"{folder}: holds no ytma…_benign1_ccd.tif; name the folder of the UCSB breast images")
    slides = [
        CohortSlide(path.stem, path.absolute(), match["label"].lower(), match["case"], mpp) for path, match in found
    ]
    with Outputs((slide.path for slide in slides), overwrite, "describing a data set") as outputs:
        outputs.claim([out / "cohort.csv"])
        _write_cohort(out, slides, outputs)
    yield Notice(NoticeCode.DATASET_NOTE, {"note": "no_cell_truth"})
    yield Progress(Task.PREPARE_DATASET, len(slides), len(slides))


def _glas(folder: Path, out: Path, mpp: float | None, overwrite: bool) -> Generator[Event, None, None]:
    tables = sorted(folder.rglob(GLAS_GRADES))
    if not tables:
        raise CohortError(f"{folder}: holds no {GLAS_GRADES}; name the folder Warwick_QU_Dataset of GlaS")
    _check_one(folder, tables)
    table = tables[0]
    images = {
        image.stem: image
        for image in sorted(table.parent.glob("*_*.*"))
        if image.suffix.lower() in (".png", ".bmp") and not image.stem.endswith("_anno")
    }
    slides, glands = [], {}
    for name, patient, grade in _glas_rows(table):
        if (image := images.get(name)) is None:
            continue  # of a part of the set that is not here
        slides.append(CohortSlide(name, image.absolute(), grade, f"patient {patient}", mpp or GLAS_MPP))
        glands[name] = image.with_name(f"{name}_anno{image.suffix}")
    if not slides:
        raise CohortError(f"{table}: none of its images is there")
    with Outputs([table, *images.values(), *glands.values()], overwrite, "describing a data set") as outputs:
        masks = {slide.slide_id: out / "truth" / f"{slide.slide_id}.png" for slide in slides}
        outputs.claim([out / "cohort.csv", *masks.values()])
        for done, slide in enumerate(slides, 1):
            _write_glands(glands[slide.slide_id], slide.label == GLAS_CLASSES[1], masks[slide.slide_id], outputs)
            yield Progress(Task.PREPARE_DATASET, done, len(slides))
        _write_cohort(out, slides, outputs)


def _glas_rows(table: Path) -> list[tuple[str, str, str]]:
    """Return image, patient and grade (benign, malignant) of each row of `Grade.csv`."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    found = [(row[0], row[1], row[2].lower()) for row in rows[1:] if len(row) >= 3]
    if bad := [row for row in found if row[2] not in GLAS_CLASSES]:
        raise CohortError(f"{table}: {bad[0][0]} is graded {bad[0][2]!r}, not benign or malignant")
    return found


def _write_glands(annotation: Path, malignant: bool, mask: Path, outputs: Outputs) -> None:
    """Write a mask of 1 (benign) and 2 (malignant): what is a gland of a malignant image."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(annotation) as image:
            gland = np.asarray(image).reshape(image.height, image.width, -1).max(-1) > 0
    except (OSError, UnidentifiedImageError) as error:
        raise CohortError(f"{annotation}: cannot be read ({error})") from None
    with outputs.writing(mask) as temporary:
        Image.fromarray(np.where(gland & malignant, 2, 1).astype(np.uint8)).save(temporary, format="PNG")


def _write_cohort(out: Path, slides: Iterable[CohortSlide], outputs: Outputs) -> None:
    with outputs.writing(out / "cohort.csv") as temporary:
        Cohort(tuple(slides)).write(temporary)  # beside the file: its paths are relative to the same folder


def _write_rows(path: Path, header: Iterable[str], rows: Iterable[Iterable[str | float]], outputs: Outputs) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(
        [f"{value:g}" if isinstance(value, float) else escape_formula(value) for value in row] for row in rows
    )
    write_text(path, text.getvalue(), outputs.writing)
