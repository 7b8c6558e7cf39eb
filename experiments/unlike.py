"""Which slides are marked as unlike the training slides: other sets, and held-out images of another stain.

The networks are those of `transfer`. Held-out images of the set that a network was trained on should be marked about as
rarely as the mark promises; copies of them in another stain, and images of other sets, should be marked. No label and
no ground truth is read, and no network scores anything.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from napari_distill2label.core.appearance import look_of, sampled
from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Event, Progress, Task
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.paths import PathLike
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.synthetic import write_image
from napari_distill2label.store.bundle import BundleConfig, load_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.files.atomic import write_text
from napari_distill2label.store.run import Run
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.slide_reader import SlideReader

from .tables import markdown

SETS = ("colon", "consep", "glas", "breast")
NETWORK = "student"
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
    """How many of the images of a set, in a stain, one run marks; their unlikeness in quantiles."""

    run: str
    set: str
    stain: str
    n: int
    marked: float
    low: float
    median: float
    high: float


def unlike(
    data: PathLike, out: PathLike, *, only: Sequence[str] = (), quick: bool = False
) -> Generator[Event, None, Path]:
    """Mark slides of all sets by the runs of a `transfer` experiment.

    Parameters
    ----------
    data
        The folder that holds `colon/`, `consep/`, `glas/`, `breast/`.
    out
        The folder of the `transfer` experiment, whose `runs/` are read. Gets `unlike.csv` and `unlike.md`.
    only
        Names of runs ("colon-nucleus-fold0-seed0"); none: all.
    quick
        Two images of each set.

    Returns the path of `unlike.md`.
    """
    data, out = Path(data), Path(out)
    runs = [path for path in sorted((out / "runs").glob("*")) if Run.is_run(path) and (not only or path.name in only)]
    found: list[Marked] = []
    for done, path in enumerate(runs):
        yield Progress(Task.RUN_EXPERIMENT, done, len(runs))
        run = Run.open(path)
        if NETWORK in run.models:
            found += yield from _marked(run, path.name, data, out, quick)
    if not found:
        raise SettingsError(f"{out}: holds no run of an experiment 'transfer'")
    return _write(found, out)


def _marked(run: Run, name: str, data: Path, out: Path, quick: bool) -> Generator[Event, None, list[Marked]]:
    config = load_bundle(run.bundle(NETWORK)).config
    if config.appearance is None:
        return []
    encoder = None if config.encoder is None else FrozenEncoder(Path(config.encoder.path), "cpu")
    found = []
    for own in SETS:
        if not (data / own).is_dir():
            continue
        folder = out / "data" / own
        if not (folder / "cohort.csv").exists():
            yield from prepare_dataset(own, data / own, folder)
        cohort = Cohort.read(folder / "cohort.csv").with_classes()
        centres = folder / "centres.csv" if run.config.centres is not None else None
        if centres is not None and centres.exists():
            known = read_points(centres)
            cohort = cohort.with_slides(row for row in cohort if row.slide_id in known)
        else:
            centres = None
        is_home = name.startswith(own)
        if is_home:
            held_out = {row.slide_id for row in run.cohort.in_split("test")}
            cohort = cohort.with_slides(row for row in cohort if row.slide_id in held_out)
        cohort = cohort.with_slides(list(cohort)[:2]) if quick else cohort
        reader = SlideReader(run.config.settings.patches, Inputs(centres=centres))
        for stain, change in (STAINS if is_home else {"as they are": None}).items():
            far = []
            for row in cohort:
                with TemporaryDirectory() as scratch:
                    path = row.path if change is None else _changed(row.path, Path(scratch), change)
                    bag = yield from reader.bag(replace(row, path=path), cohort)
                far.append(_unlikeness(bag, config, encoder))
            low, median, high = np.quantile(far, [0.1, 0.5, 0.9]).tolist()
            found.append(Marked(name, own, stain, len(far), float(np.mean(np.array(far) > 1)), low, median, high))
    return found


def _unlikeness(bag: Bag, config: BundleConfig, encoder: FrozenEncoder | None) -> float:
    assert config.appearance is not None
    instances = np.asarray(bag.instances[sampled(len(bag))])
    if encoder is not None:
        instances = encoder(instances)["features"]
    return config.appearance.unlikeness(look_of(instances, np.array(config.mean), np.array(config.std)))


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
    rows = []
    frame["kind"] = frame.run.str.split("-fold").str[0]
    for (kind, name, stain), own in frame.groupby(["kind", "set", "stain"], sort=False):
        rows.append([
            f"{kind} → {name}", stain, str(len(own)), str(int(own.n.sum())), f"{own.marked.mean():.0%}",
            *(f"{own[column].mean():.2f}" for column in ("low", "median", "high")),
        ])  # fmt: skip
    head = ("trained on → images of", "stain", "runs", "images", "marked", "10 % quantile", "median", "90 % quantile")
    text = (
        "Share of the images that is marked as unlike the training images (of the set itself: held-out images), and "
        "their unlikeness, of which 1 is the limit; means over runs.\n\n"
    )
    return write_text(out / "unlike.md", text + markdown(head, rows))
