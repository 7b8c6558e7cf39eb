"""From the slides of a cohort to bags: patches, or features of a frozen encoder."""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from ..core.bag import Bag
from ..core.errors import CohortError, SlideError
from ..core.events import Event, Failed, Notice, Progress
from ..core.geometry import PatchGrid, PatchPoints
from ..core.settings import GridSettings
from ..prediction.encoder import FrozenEncoder
from ..prediction.engine import PatchScorer, walk
from ..slides.bags import cut_bag, lay_patches
from ..slides.registry import open_slide
from ..slides.slide import Slide
from ..store.cohort import Cohort, CohortSlide
from ..store.features import FeatureMap
from ..store.files import file_signature, safe_name
from ..store.points import Points, class_of_patches, read_points

PathLike = str | os.PathLike[str]


def centres_of(slide_id: str, centres: dict[str, Points] | None) -> np.ndarray | None:
    """A slide's own centres, (n, 2); None, without a table of centres, means a grid."""
    if centres is None:
        return None
    if slide_id not in centres:
        raise SlideError(f"{slide_id}: has no centres in the table of centres")
    return centres[slide_id].coordinates


def features_of(
    slide: Slide, patches: PatchGrid | PatchPoints, encoder: FrozenEncoder, path: Path
) -> Generator[Progress, None, FeatureMap]:
    """Features of all patches of a slide, kept at `path`; what is there already is not computed again."""
    identity = {"slide": file_signature(slide.path), "encoder": encoder.identity.sha256}
    features = FeatureMap.at(path, patches, encoder.description.features, identity)
    yield from walk(slide, features, PatchScorer(encoder), f"features of {slide.name}")
    return features


class BagReader:
    """Cuts the bags of a cohort's slides, the same way for all of them.

    Parameters
    ----------
    grid
        How slides are cut.
    centres, corrections
        Points tables, see `store.points`.
    encoder, cache
        A frozen encoder, and the folder its features are kept in. None: bags of patches.
    """

    def __init__(
        self,
        grid: GridSettings,
        centres: PathLike | None = None,
        corrections: PathLike | None = None,
        encoder: FrozenEncoder | None = None,
        cache: Path | None = None,
    ) -> None:
        self.grid = grid
        self.centres = None if centres is None else read_points(centres)
        self.corrections = {} if corrections is None else read_points(corrections, labelled=True)
        self.encoder = encoder
        self.cache = cache
        self.mpps: list[float | None] = []  # of the slides read so far

    def read(self, row: CohortSlide, cohort: Cohort) -> Generator[Event, None, Bag]:
        """The bag of one slide. `SlideError` if it cannot be read."""
        with open_slide(row.path, row.mpp) as slide:
            yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
            patches = lay_patches(slide, self.grid, centres_of(row.slide_id, self.centres))
            self.mpps.append(None if slide.mpp is None else float(np.mean(slide.mpp)))
            known = None
            if row.slide_id in self.corrections:
                points = self.corrections[row.slide_id]
                known = class_of_patches(points, patches, cohort.classes, fold_unknown=False).astype(np.int8)
            label = cohort.indices(row)
            if self.encoder is None:
                return cut_bag(slide, patches, row.slide_id, label, known)
            features = yield from features_of(
                slide, patches, self.encoder, self.cache / f"{safe_name(row.slide_id)}.zarr"
            )
            return Bag(row.slide_id, features.instances(), patches.corners, label, known)

    def read_all(self, rows: Sequence[CohortSlide], cohort: Cohort) -> Generator[Event, None, dict[str, Bag]]:
        """Bags by slide id; slides that fail are reported (`Failed`) and left out."""
        bags: dict[str, Bag] = {}
        for done, row in enumerate(rows, 1):
            try:
                bags[row.slide_id] = yield from self.read(row, cohort)
            except SlideError as error:
                yield Failed(row.slide_id, str(error))
            yield Progress("reading slides", done, len(rows))
        if not bags:
            raise CohortError(f"none of the {len(rows)} labelled slides could be read")
        return bags

    @property
    def common_mpp(self) -> float | None:
        """The µm/px that all slides read so far share (within 5 %), or None."""
        known = [mpp for mpp in self.mpps if mpp is not None]
        if not known or len(known) < len(self.mpps) or max(known) > 1.05 * min(known):
            return None
        return float(np.median(known))
