"""From a slide to its patches, and from those to a bag."""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.bag import Bag
from ..core.errors import SlideError
from ..core.events import Progress, drain
from ..core.geometry import PatchGrid, PatchPoints, level0_px
from ..core.messages import Remedy
from ..core.settings import PatchSettings
from .cutting import cut
from .scale import SET_MPP, check_scale
from .slide import Slide
from .tissue import tissue_cells
from .tissue_mask import TissueMask

KEEP_ALL = Remedy("set", "patches.tissue", "none")


def place_patches(
    slide: Slide,
    settings: PatchSettings,
    centres: np.ndarray | None = None,
    regions: str | Path | TissueMask | None = None,
    make_grid: Callable[..., PatchGrid] = PatchGrid.over,
) -> PatchGrid | PatchPoints:
    """Place the patches of a slide that are analysed: `iter_place_patches`, run to its end."""
    return drain(iter_place_patches(slide, settings, centres, regions, make_grid))


def iter_place_patches(
    slide: Slide,
    settings: PatchSettings,
    centres: "np.ndarray | PatchGrid | PatchPoints | None" = None,
    regions: str | Path | TissueMask | None = None,
    make_grid: Callable[..., PatchGrid] = PatchGrid.over,
) -> Generator[Progress, None, PatchGrid | PatchPoints]:
    """Place the patches of a slide that are analysed; a generator of its progress.

    Parameters
    ----------
    centres
        (n, 2) points (y, x), 0-based level-0 pixels: patches are centred on these instead of placed on a grid. The
        tissue rule does not apply to them. Or patches that another program has placed, of the size that the settings
        ask for.
    regions
        The tissue, as a GeoJSON file (see `regions.tissue_from_geojson`) or a mask: patches with their centre on it are
        analysed. The tissue rule is not used then.
    make_grid
        Function that makes the grid: `PatchGrid.over`, or another with its signature.

    Raises
    ------
    SlideError
        The slide has no µm/px but the settings need one, or it is coarser by more than 5 %, a patch is larger than the
        slide, a centre lies outside it, or no tissue (no centre) is left.
    CohortError
        The file of regions cannot be used.
    """
    try:
        if settings.mpp is not None and slide.mpp is None:
            raise SlideError(
                f"The slide has no pixel size, and patches are cut at {settings.mpp:g} µm/px.", remedy=SET_MPP
            )
        check_scale(slide.path, slide.mpp, settings.mpp)
        if isinstance(centres, PatchGrid | PatchPoints):
            return _placed(slide, settings, centres, regions)
        if centres is not None:
            return _points(slide, settings, centres, regions)
        return (yield from _grid(slide, settings, regions, make_grid))
    except SlideError as error:
        raise error if str(slide.path) in str(error) else SlideError.of(error, file=slide.path) from None


def _grid(
    slide: Slide, settings: PatchSettings, regions: str | Path | TissueMask | None, make_grid: Callable[..., PatchGrid]
) -> Generator[Progress, None, PatchGrid]:
    grid = make_grid(slide.shape, settings, slide.mpp)
    if regions is None:
        grid = yield from tissue_cells(slide, grid, settings)
        if not grid.scored.any():
            raise SlideError(f"The tissue method {settings.tissue!r} finds no tissue.", remedy=KEEP_ALL)
    elif isinstance(regions, TissueMask):
        grid = regions.grid(grid)
        if not grid.scored.any():
            raise SlideError("no tissue: no patch has its centre on the mask")
    else:
        from .regions import tissue_from_geojson  # shapely is slow to import, and seldom needed

        grid = grid.with_tissue(tissue_from_geojson(regions, grid))
        if not grid.scored.any():
            raise SlideError(f"no tissue found: no patch has its centre in a region of {regions}")
    return grid


def _points(
    slide: Slide, settings: PatchSettings, centres: np.ndarray, regions: str | Path | TissueMask | None
) -> PatchPoints:
    centres = np.asarray(centres, float).reshape(-1, 2)
    centres = centres[_inside(slide, regions, centres + 0.5)]
    if len(centres) == 0:
        where = "no centre lies in the slide's regions" if regions is not None else "the slide has no centres"
        raise SlideError(f"{where}: check the table of centres")
    return PatchPoints.at(centres, slide.shape, settings, slide.mpp)


def _placed(
    slide: Slide,
    settings: PatchSettings,
    places: PatchGrid | PatchPoints,
    regions: str | Path | TissueMask | None,
) -> PatchGrid | PatchPoints:
    """Return placed patches as the model sees them, without those whose centre lies outside of the regions."""
    side = level0_px(settings.size_px, settings.mpp, slide.mpp)
    if abs(side - places.side) > 1:  # rounded once more, or once less
        seen = f"{settings.size_px} px" + (f" at {settings.mpp:g} µm/px" if settings.mpp is not None else "")
        raise SlideError(
            f"Its patches are {places.side} px wide at level 0, and the model sees {seen}, which are {side} px of this "
            "slide: they are not of this model."
        )
    inside = _inside(slide, regions, places.corners + places.side / 2)
    if not inside.any():
        raise SlideError("none of the places that are given lies in the slide's regions")
    if isinstance(places, PatchPoints):
        return replace(places, centres=places.centres[inside], patch_px=settings.size_px, mpp=settings.mpp)
    tissue = places.scored.copy()
    tissue[tissue] = inside
    return replace(places, tissue=tissue, patch_px=settings.size_px, mpp=settings.mpp)


def _inside(slide: Slide, regions: str | Path | TissueMask | None, points: np.ndarray) -> np.ndarray:
    """(n,) bool: whether points (n, 2) (y, x), whole numbers being corners of pixels, lie in the regions."""
    if regions is None:
        return np.ones(len(points), bool)
    if isinstance(regions, TissueMask):
        return regions.contains(points)
    from .regions import points_inside, read_regions

    return points_inside(read_regions(regions, slide.shape), points)


def cut_bag(
    slide: Slide,
    patches: PatchGrid | PatchPoints,
    slide_id: str,
    label: tuple[int, ...] | None = None,
    patch_labels: np.ndarray | None = None,
    case_id: str | None = None,
) -> Bag:
    """Read all scored patches of a slide into a bag of (K, 3, patch_px, patch_px) uint8.

    `label` has the indices of the slide's classes, `patch_labels` (K,) int8 the user's corrections of single patches in
    the order of `patches.corners`, `case_id` the patient. `SlideError` if the slide cannot be read, or no patch is
    scored.
    """
    corners = patches.corners
    if len(corners) == 0:
        raise SlideError("No patch is left to analyse.", file=slide.path, remedy=KEEP_ALL)
    return Bag(slide_id, cut(slide, corners, patches.side, patches.patch_px), corners, label, patch_labels, case_id)
