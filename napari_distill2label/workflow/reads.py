"""What a verb reads: nothing of it may be written onto."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..core.errors import SlideError
from ..store.bundle import NETWORKS
from ..store.cohort import Cohort
from ..store.run import Run
from .tissue import PathLike, Tissue, regions_of


def files_read(cohort: Cohort, tissue: Tissue | None = None, *others: PathLike | None) -> Iterator[PathLike]:
    """The slides of a cohort, its table, the regions of their tissue, and `others` that are given.

    Of a folder of tables or masks all files in it are read; into the folder others may be written.
    """
    if cohort.path is not None:
        yield cohort.path
    for path in others:
        if path is not None:
            yield from Path(path).iterdir() if Path(path).is_dir() else [path]
    if tissue is not None and not isinstance(tissue, Mapping) and not Path(tissue).is_dir():
        yield tissue
    for row in cohort:
        yield row.path
        try:
            regions = regions_of(row.slide_id, tissue)
        except SlideError:  # it has none: said where the slide is begun
            continue
        if regions is not None:
            yield regions


def files_of_model(path: PathLike) -> Iterator[Path]:
    """A run or a bundle: folders of models, into which nothing else may be written, and what the run says of itself."""
    folder = Path(path) if Run.is_run(path) else Path(path).absolute().parent
    if not Run.is_run(folder):
        yield Path(path)
        return
    yield from (folder / name for name in (*NETWORKS, "checkpoints", "settings.json", "cohort.csv", "history.csv"))
