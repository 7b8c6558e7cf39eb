"""Which slides are marked as unlike the training slides: other sets, and held-out images of another stain.

The training images are those of fold 0 of `transfer`. Held-out images of the same set should be marked about as rarely
as the mark promises; copies of them in another stain, and images of other sets, should be marked. How an image looks is
told without a network (`core.appearance`), so none is trained. No label and no ground truth is read.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from napari_distill2label.core.appearance import appearance_vector, fit_appearance, sampled
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.paths import PathLike
from napari_distill2label.core.settings import PatchSettings, SplitSettings
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.synthetic import write_image
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.splits import k_folds
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.slide_reader import SlideReader

from .tables import markdown
from .transfer import FOLD_SEED, FOLDS

HOME = "colon"
SETS = (HOME, "consep", "glas", "breast")
KINDS = {"nucleus": "27 px around nuclei (of GlaS and breast: on a grid)", "grid": "27 px on a grid"}
NO_NORMALISATION = np.zeros(3), np.ones(3)  # patches of pixels need none
Change = Callable[[np.ndarray], np.ndarray]  # of optical density (h, w, 3)
STAINS: dict[str, Change | None] = {
    "as they are": None,
    "1.3 times as strong": lambda density: 1.3 * density,
    "1.6 times as strong": lambda density: 1.6 * density,
    "half as strong": lambda density: 0.5 * density,
    "redder (green +30 %, red −30 %)": lambda density: density * np.array([0.7, 1.3, 1.0]),
    "blurred over 5 px": lambda density: _blurred(density, 5),
}


@dataclass(frozen=True)
class Marked:
    """How many images of a set, in a stain, are marked; their unlikeness in quantiles (10 %, 50 %, 90 %)."""

    patches: str
    set: str
    stain: str
    n: int
    marked: float
    low: float
    median: float
    high: float


def unlike(data: PathLike, out: PathLike, *, quick: bool = False) -> Generator[Event, None, Path]:
    """Mark images of all sets by how the training images of fold 0 look.

    Parameters
    ----------
    data
        The folder that holds `colon/` and any of `consep/`, `glas/`, `breast/`.
    out
        Gets the tables of the sets (`data/`), `unlike.csv` and `unlike.md`.
    quick
        Two images of each set, and one stain.

    Returns the path of `unlike.md`.
    """
    data, out = Path(data), Path(out)
    sets = {}
    for name in SETS:
        if (data / name).is_dir():
            sets[name] = yield from _set(name, data / name, out / "data" / name)
    if HOME not in sets:
        raise SettingsError(f"{data}: has no folder {HOME!r}")
    stains = dict(list(STAINS.items())[:2]) if quick else STAINS
    found = []
    for done, kind in enumerate(KINDS):
        yield Progress(Task.RUN_EXPERIMENT, done, len(KINDS))
        home = sets[HOME].of_kind(kind)
        split = k_folds(home.cohort, FOLDS[HOME], SplitSettings(), FOLD_SEED)[0]
        train = yield from home.looks(split.in_split("train"))
        appearance = fit_appearance(train, [row.case_id for row in split.in_split("train")])
        if appearance is None:
            raise SettingsError(f"{data / HOME}: has too few images to say how they look")
        for name, own in sets.items():
            here = own.of_kind(kind)
            rows = split.in_split("test") if name == HOME else here.cohort.slides
            for stain, change in stains.items() if name == HOME else [next(iter(STAINS.items()))]:
                looks = yield from here.looks(rows[:2] if quick else rows, change)
                far = np.array([appearance.unlikeness(look) for look in looks])
                low, median, high = np.quantile(far, [0.1, 0.5, 0.9]).tolist()
                found.append(Marked(kind, name, stain, len(far), float((far > 1).mean()), low, median, high))
    return _write(found, out)


@dataclass(frozen=True)
class _Set:
    """The images of a set, and the centres of their patches; None: on a grid."""

    cohort: Cohort
    centres: Path | None

    def of_kind(self, kind: str) -> "_Set":
        if kind != "nucleus" or self.centres is None:
            return _Set(self.cohort, None)
        known = read_points(self.centres)  # an image without a nucleus has no patch
        return _Set(self.cohort.with_slides(row for row in self.cohort if row.slide_id in known), self.centres)

    def looks(self, rows: Sequence[CohortSlide], change: Change | None = None) -> Generator[Event, None, np.ndarray]:
        """Return how images look (n, L), or would look if their optical density were changed."""
        reader, found = SlideReader(PatchSettings(), Inputs(centres=self.centres)), []
        for row in rows:
            with TemporaryDirectory() as scratch:
                path = row.path if change is None else _changed(row.path, Path(scratch), change)
                bag = yield from reader.bag(replace(row, path=path), self.cohort)
            found.append(appearance_vector(bag.instances[sampled(len(bag))], *NO_NORMALISATION))
        return np.array(found)


def _set(name: str, source: Path, folder: Path) -> Generator[Event, None, _Set]:
    if not (folder / "cohort.csv").exists():
        yield from prepare_dataset(name, source, folder)
    centres = folder / "centres.csv"
    return _Set(Cohort.read(folder / "cohort.csv").with_classes(), centres if centres.exists() else None)


def _changed(path: PathLike, folder: Path, change: Change) -> Path:
    with open_slide(path) as slide:
        height, width = slide.shape
        pixels = slide.read(0, 0, 0, height, width).astype(np.float64)
    density = change(-np.log((pixels + 1) / 256))
    made = folder / f"{Path(path).stem}.png"
    write_image(made, (256 * np.exp(-density) - 1).round().clip(0, 255).astype(np.uint8))
    return made


def _blurred(density: np.ndarray, px: int) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    blurred: np.ndarray = uniform_filter(density, (px, px, 0))
    return blurred


def _write(found: Sequence[Marked], out: Path) -> Path:
    import pandas as pd

    frame = pd.DataFrame([asdict(own) for own in found])
    write_text(out / "unlike.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    rows = [
        [
            f"{HOME}, held-out fold" if own.set == HOME else own.set, KINDS[own.patches], own.stain, str(own.n),
            f"{own.marked:.0%}", f"{own.low:.2f}", f"{own.median:.2f}", f"{own.high:.2f}",
        ]
        for own in found
    ]  # fmt: skip
    head = ("images of", "patches", "stain", "images", "marked", "10 % quantile", "median", "90 % quantile")
    text = (
        "Share of the images that is marked as unlike the training images of the colon set, and their unlikeness, of "
        "which 1 is the limit.\n\n"
    )
    return write_text(out / "unlike.md", text + markdown(head, rows))
