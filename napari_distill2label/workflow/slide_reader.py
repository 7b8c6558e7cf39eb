"""Open slides, place their patches, and read them as bags of patches or of features of a frozen encoder."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.bag import Bag, Region
from ..core.errors import CohortError, SlideError
from ..core.events import Event, ItemFailed, Progress, Task
from ..core.geometry import Mpp, PatchGrid, PatchPoints, square_mpp
from ..core.inputs import Inputs
from ..core.notices import Notice, NoticeCode
from ..core.paths import canonical_path
from ..core.settings import PatchSettings
from ..core.slide_info import SlideInfo
from ..slides.patches import cut_bag, iter_place_patches
from ..slides.registry import open_slide
from ..slides.scale import common_mpp
from ..slides.slide import Slide
from ..store.cohort import Cohort, CohortSlide
from ..store.maps.feature_map import FeatureMap
from ..store.maps.hdf5_geometry import Frame
from ..store.maps.hdf5_places import find_places, is_places, read_places
from ..store.tables.points import find_for_slide, read_points
from .corrections import Corrections
from .feature_store import FeatureStore, open_if_present, patches_mpp
from .region_labels import RegionLabels
from .tissue_regions import regions_of


class SlideReader:
    """Opens the slides of one command and places their patches, all in the same way.

    Parameters
    ----------
    grid
        How slides are cut.
    inputs
        Of these: centres, tissue, corrections, region_labels, label_map, coverage, allow_non_brightfield.
    features
        The features of a frozen encoder. None: bags of patches.
    make_grid
        Makes the grid of a slide.

    Attributes
    ----------
    mpps
        µm/px of the slides whose bags were read so far.
    n_mpp_from_user
        Number of them with a pixel size that was given by a user or the cohort.
    """

    def __init__(
        self,
        grid: PatchSettings,
        inputs: Inputs = Inputs(),
        features: FeatureStore | None = None,
        make_grid: Callable[..., PatchGrid] = PatchGrid.over,
    ) -> None:
        self.grid, self.features, self.make_grid = grid, features, make_grid
        self.allow_non_brightfield, self.tissue = inputs.allow_non_brightfield, inputs.tissue
        at = inputs.centres
        self.places = None if at is None or not is_places(at) else Path(at)
        self.centres = None if at is None or self.places is not None else read_points(at)
        self.corrections = Corrections.of_inputs(inputs)
        self.regions = RegionLabels.of_inputs(inputs)
        self.mpps: list[Mpp | None] = []
        self.n_mpp_from_user = 0

    # ---- slides and patches ---------------------------------------------------------------------------------------

    def open(self, row: CohortSlide) -> Slide:
        """Open a slide. `SlideError` if it cannot be read."""
        return open_slide(row.path, row.mpp, self.allow_non_brightfield)

    def open_if_present(self, row: CohortSlide) -> AbstractContextManager[Slide | None]:
        """Open a slide. None if its file does not exist: its features may be all there is."""
        return open_if_present(row, self.allow_non_brightfield)

    def place(self, row: CohortSlide, slide: Slide) -> Generator[Event, None, PatchGrid | PatchPoints]:
        """Place the patches of a slide: on its centres, at its places, else on a grid over its tissue."""
        regions = regions_of(row.slide_id, self.tissue)
        centres: np.ndarray | PatchGrid | PatchPoints | None = self._centres(row)
        if self.places is not None:
            centres = read_places(find_places(self.places, row.slide_id), Frame.of(slide)).patches
        return (yield from iter_place_patches(slide, self.grid, centres, regions, self.make_grid))

    def _centres(self, row: CohortSlide) -> np.ndarray | None:
        """Return the centres of a slide, (n, 2). None without a table of centres: patches lie on a grid."""
        if self.centres is None:
            return None
        if (found := find_for_slide(self.centres, row.slide_id)) is None:
            raise SlideError(f"{row.slide_id}: has no centres in the table of centres")
        return found.coordinates

    # ---- bags -------------------------------------------------------------------------------------------------------

    def bag(self, row: CohortSlide, cohort: Cohort) -> Generator[Event, None, Bag]:
        """Return the bag of one slide. `SlideError` if it cannot be read. With features its file may be missing."""
        if self.features is not None:
            return (yield from self._bag_of_features(row, self.features, cohort))
        with self.open(row) as slide:
            yield from (notice.about(row.slide_id) for notice in slide.notices)
            patches = yield from self.place(row, slide)
            known = self._known(row, patches, cohort)
            bag = cut_bag(slide, patches, row.slide_id, cohort.indices(row), known, row.case_id)
            self._count_scale(row, slide.mpp)
            return replace(bag, regions=self._regions(row, patches, cohort), share=_share(row, bag))

    def _features(
        self, row: CohortSlide, store: FeatureStore, slide: Slide | None
    ) -> Generator[Event, None, FeatureMap]:
        """Return the features of a slide: existing ones, else they are computed."""
        if store.is_precomputed(row.slide_id):
            return (yield from store.read(row, slide))
        if slide is None:
            raise SlideError(f"{row.path}: no such file, and no features of it in {store.folder}")
        return (yield from store.extract(row.slide_id, slide, (yield from self.place(row, slide))))

    def _bag_of_features(self, row: CohortSlide, store: FeatureStore, cohort: Cohort) -> Generator[Event, None, Bag]:
        """Return the bag of the patches that could be read."""
        with self.open_if_present(row) as slide:
            if slide is not None:
                yield from (notice.about(row.slide_id) for notice in slide.notices)
            found = yield from self._features(row, store, slide)
            mpp = patches_mpp(found.patches, info_of(row, slide).mpp)
        known = self._known(row, found.patches, cohort)
        regions: tuple[Region, ...] = self._regions(row, found.patches, cohort)
        instances, corners, readable = found.instances(), found.patches.corners, found.readable
        if not readable.all():
            values = {"n": int((~readable).sum()), "total": len(found)}
            yield Notice(NoticeCode.PATCHES_UNREADABLE, values, row.slide_id)
            if not readable.any():
                raise SlideError(f"{row.path}: none of its patches can be read")
            instances, corners = instances[readable], corners[readable]
            known = None if known is None else known[readable]
            regions = tuple(kept for own in regions if (kept := own.among(readable)) is not None)
        self._count_scale(row, mpp)
        bag = Bag(row.slide_id, instances, corners, cohort.indices(row), known, row.case_id, regions)
        return replace(bag, share=_share(row, bag))

    def _count_scale(self, row: CohortSlide, mpp: Mpp | None) -> None:
        """Note the scale of a slide whose bag is made: one that failed says nothing of what a network has seen."""
        self.n_mpp_from_user += row.mpp is not None
        self.mpps.append(mpp)

    def _known(self, row: CohortSlide, patches: PatchGrid | PatchPoints, cohort: Cohort) -> np.ndarray | None:
        """Return (K,) int8 corrections by the user. None if there are none of this slide."""
        return None if self.corrections is None else self.corrections.of(row.slide_id, patches, cohort.classes)

    def _regions(self, row: CohortSlide, patches: PatchGrid | PatchPoints, cohort: Cohort) -> tuple[Region, ...]:
        """Return what the user says of regions of the slide."""
        return () if self.regions is None else self.regions.of(row.slide_id, patches, cohort.classes)

    def read_all(self, rows: Sequence[CohortSlide], cohort: Cohort) -> Generator[Event, None, dict[str, Bag]]:
        """Return bags by slide id. Slides that fail are reported (`ItemFailed`) and left out."""
        bags: dict[str, Bag] = {}
        for done, row in enumerate(rows, 1):
            try:
                bags[row.slide_id] = yield from self.bag(row, cohort)
            except SlideError as error:
                yield ItemFailed(row.slide_id, error)
            yield Progress(Task.READ_SLIDES, done, len(rows))
        if not bags:
            raise CohortError(f"none of the {len(rows)} labelled slides could be read")
        if self.corrections is not None:
            yield self.corrections.report()
        if self.regions is not None:
            yield self.regions.report()
        return bags

    @property
    def common_mpp(self) -> float | None:
        """Return the µm/px that all slides read so far share within the tolerance, or None."""
        return common_mpp(self.mpps)


def _share(row: CohortSlide, bag: Bag) -> float | None:
    """Return the user's share of positive patches of a slide with a finding; of others it is known."""
    return None if bag.label == (0,) else row.share


def info_of(row: CohortSlide, slide: Slide | None) -> SlideInfo:
    """Return which slide a row of the cohort is. The µm/px are those of the open slide; without one, of the row."""
    path = canonical_path(row.path)
    if slide is None:
        return SlideInfo(row.slide_id, path, square_mpp(row.mpp), row.mpp is not None)
    return SlideInfo(row.slide_id, path, slide.mpp, slide.mpp_from_user, slide.canvas_origin)
