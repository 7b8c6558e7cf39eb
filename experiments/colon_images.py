"""The colon images as experiments see them: an image's patches and, apart from them, what is true of each."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.events import Event, Progress, Task, drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import COLON_CLASSES
from napari_distill2label.workflow.ground_truth import PointTruth, Truth
from napari_distill2label.workflow.slide_reader import SlideReader

CUTS = {
    "grid": PatchSettings(border="drop"),  # 500 px and patches of 27 px: the 18 × 18 that fit
    "nucleus": PatchSettings(),
}


@dataclass(frozen=True)
class ColonImage:
    """The bag of an image, where its patches lie, and the truth, which is in neither."""

    bag: Bag
    patches: PatchGrid | PatchPoints
    truth: Truth
    kinds: Truth

    def true_classes(self, classes: tuple[str, ...]) -> np.ndarray:
        """(K,) index in `classes` of every patch, `UNLABELLED` where there is no nucleus."""
        return self.truth.of(self.bag.slide_id, self.patches, classes)

    def true_kinds(self, kinds: tuple[str, ...]) -> np.ndarray:
        """(K,) index in `kinds` of the nucleus of every patch, `UNLABELLED` where there is none."""
        return self.kinds.of(self.bag.slide_id, self.patches, kinds)


@dataclass(frozen=True)
class Source:
    """The images of a fold and how they are cut, of `CUTS`. `folder` holds their `centres.csv` and `truth.csv`."""

    split: Cohort
    kind: str
    folder: Path

    def images(self) -> Generator[Event, None, list[tuple[CohortSlide, ColonImage]]]:
        """All labelled slides of the fold, but those that have no nucleus to centre a patch on."""
        found = []
        for done, slide in enumerate(self.split.labelled, 1):
            if (image := read_image(replace(slide, split=None), self.kind, self.folder)) is not None:
                found.append((slide, image))
            yield Progress(Task.READ_SLIDES, done, len(self.split.labelled))
        return found


@cache
def _reader(kind: str, folder: Path) -> tuple[SlideReader, Truth, Truth]:
    """How images are read; which class their nuclei are of, and which kind."""
    centres = folder / "centres.csv" if kind == "nucleus" else None
    # Kinds other than the finding are of the negative class; tables of former versions do not say so themselves.
    nuclei = read_points(folder / "truth.csv", labelled=True)
    classes = PointTruth(nuclei, {"*": COLON_CLASSES[0]})
    kinds = PointTruth({slide_id: replace(points, classes=None) for slide_id, points in nuclei.items()})
    return SlideReader(CUTS[kind], Inputs(centres=centres)), classes, kinds


@cache
def read_image(slide: CohortSlide, kind: str, folder: Path) -> ColonImage | None:
    """A slide cut as `CUTS[kind]`, read once per process; None where it has no nucleus to centre a patch on."""
    reader, truth, kinds = _reader(kind, folder)
    if reader.centres is not None and slide.slide_id not in reader.centres:
        return None
    bag = drain(reader.bag(slide, Cohort((slide,), COLON_CLASSES)))
    with reader.open(slide) as opened:
        patches = drain(reader.place(slide, opened))
    return ColonImage(bag, patches, truth, kinds)
