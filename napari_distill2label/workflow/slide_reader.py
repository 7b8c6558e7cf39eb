"""Read the slides of a cohort as bags of patches, or of features of a frozen encoder."""

import os
from collections.abc import Generator, Sequence

import numpy as np

from ..core.bag import Bag
from ..core.errors import CohortError, SlideError
from ..core.events import Event, ItemFailed, Progress, Task
from ..core.geometry import Mpp, PatchGrid, PatchPoints
from ..core.notices import Notice, NoticeCode
from ..core.settings import PatchSettings
from ..slides.patches import cut_bag, iter_place_patches
from ..slides.registry import open_slide
from ..slides.scale import common_mpp
from ..slides.slide import Slide
from ..store.cohort import Cohort, CohortSlide
from ..store.tables.points import Points, find_for_slide, read_points
from .corrections import Corrections
from .feature_store import FeatureStore, open_if_present, patches_mpp
from .tissue_regions import Tissue, regions_of

PathLike = str | os.PathLike[str]


def centres_of(slide_id: str, centres: dict[str, Points] | None) -> np.ndarray | None:
    """Return the centres of a slide, (n, 2). None without a table of centres: patches lie on a grid."""
    if centres is None:
        return None
    if (found := find_for_slide(centres, slide_id)) is None:
        raise SlideError(f"{slide_id}: has no centres in the table of centres")
    return found.coordinates


class SlideReader:
    """Reads the slides of a cohort as bags, all in the same way.

    Parameters
    ----------
    grid
        How slides are cut.
    centres
        Points table, see `store.tables.points`.
    corrections
        Corrections of single patches by a user.
    features
        The features of a frozen encoder. None: bags of patches.
    tissue
        Regions to take patches from, in place of the tissue method.
    """

    def __init__(
        self,
        grid: PatchSettings,
        centres: PathLike | None = None,
        corrections: Corrections | None = None,
        features: FeatureStore | None = None,
        tissue: Tissue | None = None,
    ) -> None:
        self.grid = grid
        self.centres = None if centres is None else read_points(centres)
        self.corrections = corrections
        self.features = features
        self.tissue = tissue
        self.mpps: list[Mpp | None] = []  # of the slides read so far
        self.n_mpp_from_user = 0  # of them: given by a user or the cohort

    def read(self, row: CohortSlide, cohort: Cohort) -> Generator[Event, None, Bag]:
        """Return the bag of one slide. `SlideError` if it cannot be read. With features its file may be missing."""
        with open_if_present(row) if self.features else open_slide(row.path, row.mpp) as slide:
            if slide is not None:
                yield from (notice.about(row.slide_id) for notice in slide.notices)
            mpp = slide.mpp if slide is not None else row.mpp and (row.mpp, row.mpp)
            self.n_mpp_from_user += row.mpp is not None
            label = cohort.indices(row)
            if self.features is None:
                self.mpps.append(mpp)
                patches = yield from self.lay(row, slide)
                return cut_bag(slide, patches, row.slide_id, label, self._known(row, patches, cohort))
            if self.features.is_precomputed(row.slide_id):
                found = yield from self.features.read(row, slide)
            elif slide is None:
                raise SlideError(f"{row.path}: no such file, and no features of it in {self.features.folder}")
            else:
                found = yield from self.features.extract(row.slide_id, slide, (yield from self.lay(row, slide)))
            self.mpps.append(patches_mpp(found.patches, mpp))
            known = self._known(row, found.patches, cohort)
            instances, corners, readable = found.instances(), found.patches.corners, found.readable
            if not readable.all():
                values = {"n": int((~readable).sum()), "total": len(found)}
                yield Notice(NoticeCode.PATCHES_UNREADABLE, values, row.slide_id)
                if not readable.any():
                    raise SlideError(f"{row.path}: none of its patches can be read")
                instances, corners = instances[readable], corners[readable]
                known = None if known is None else known[readable]
            return Bag(row.slide_id, instances, corners, label, known)

    def lay(self, row: CohortSlide, slide: Slide) -> Generator[Event, None, PatchGrid | PatchPoints]:
        """Place the patches of a slide."""
        centres, regions = centres_of(row.slide_id, self.centres), regions_of(row.slide_id, self.tissue)
        return (yield from iter_place_patches(slide, self.grid, centres, regions))

    def _known(self, row: CohortSlide, patches: PatchGrid | PatchPoints, cohort: Cohort) -> np.ndarray | None:
        """(K,) int8 corrections of the user's, None where there are none of this slide."""
        return None if self.corrections is None else self.corrections.of(row.slide_id, patches, cohort.classes)

    def read_all(self, rows: Sequence[CohortSlide], cohort: Cohort) -> Generator[Event, None, dict[str, Bag]]:
        """Return bags by slide id. Slides that fail are reported (`ItemFailed`) and left out."""
        bags: dict[str, Bag] = {}
        for done, row in enumerate(rows, 1):
            try:
                bags[row.slide_id] = yield from self.read(row, cohort)
            except SlideError as error:
                yield ItemFailed(row.slide_id, error)
            yield Progress(Task.READ_SLIDES, done, len(rows))
        if not bags:
            raise CohortError(f"none of the {len(rows)} labelled slides could be read")
        if self.corrections is not None:
            yield self.corrections.report()
        return bags

    @property
    def common_mpp(self) -> float | None:
        """Return the µm/px that all slides read so far share within the tolerance, or None."""
        return common_mpp(self.mpps)
