"""The files that a command reads. None of them may be replaced by a result."""

from collections.abc import Iterator
from pathlib import Path

from ..core.errors import SlideError
from ..core.inputs import Inputs
from ..core.network_names import NETWORKS
from ..core.paths import PathLike
from ..store.cohort import Cohort
from ..store.run import Run
from .tissue_regions import regions_of


def input_files(cohort: Cohort, inputs: Inputs = Inputs(), *others: PathLike | None) -> Iterator[PathLike]:
    """Yield the slides of a cohort, its table, the files of `inputs`, and `others` that are not None.

    All files in a folder of tables or masks count as read. Other files may be written into the folder. Features are
    left out: new ones are written among them.
    """
    if cohort.path is not None:
        yield cohort.path
    for path in (inputs.centres, inputs.corrections, inputs.region_labels, inputs.encoder.path, *others):
        if path is not None:
            yield from Path(path).iterdir() if Path(path).is_dir() else [path]
    for row in cohort:
        yield row.path
        try:
            regions = regions_of(row.slide_id, inputs.tissue)
        except SlideError:  # it has none: reported when the slide is opened
            continue
        if regions is not None:
            yield regions


def files_of_model(path: PathLike) -> Iterator[Path]:
    """Yield the files of a run or a bundle: the folders of its networks, and the tables of the run."""
    folder = Path(path) if Run.is_run(path) else Path(path).absolute().parent
    if not Run.is_run(folder):
        yield Path(path)
        return
    yield from (folder / name for name in (*NETWORKS, "checkpoints", "settings.json", "cohort.csv", "history.csv"))
