"""The size of a pixel in µm: units, plausible values, and whether a slide fits a model.

The scale is always µm per pixel, never a magnification: "20×" is 0.5 µm/px on one scanner and 0.55 on another.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import CohortError, SlideError
from ..core.geometry import Mpp, mean_mpp
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode, mpp_in_words
from ..core.text import count_of, list_briefly

LIMITS = (0.05, 20.0)  # µm/px; finer than any light microscope's scanner, coarser than any thumbnail worth scoring
SCALE_TOLERANCE = 1.05  # between model and slide, and between slides of one scale
_SQUARE = 1.01  # ratio of the sides up to which a pixel counts as square
_SCREEN_DPI = (72, 96)  # programs write these into a TIFF of unknown resolution
_USUAL = (0.1, 2.0)  # µm/px of scanners
SET_MPP = Remedy("set", "cohort.mpp", alternative=Remedy("set", "inputs.mpp"))

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")

# OME-XML has symbols, OME-Zarr the names of UDUNITS-2.
UM_PER_UNIT = {
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def parse_number(text: object) -> float:
    """Parse a number, with a decimal point or comma and an optional exponent; NaN for anything else."""
    text = str(text).strip()
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan


def check_mpp(mpp: Mpp | None) -> tuple[Mpp | None, tuple[Notice, ...]]:
    """Check a file's µm/px: returns (mpp, notices). Outside `LIMITS` on either axis it becomes None, never corrected.

    NaN means that the file has a text that is not a number.
    """
    if mpp is None:
        return None, ()
    if not all(math.isfinite(value) and value > 0 for value in mpp):
        said = None if any(math.isnan(value) for value in mpp) else mpp
        return None, (Notice(NoticeCode.MPP_NO_NUMBER, {"mpp": said}),)
    if all(LIMITS[0] <= value <= LIMITS[1] for value in mpp):
        return mpp, _not_square(mpp)
    values = {"mpp": mpp, "low": LIMITS[0], "high": LIMITS[1], "guess": _perhaps(mpp)}
    return None, (Notice(NoticeCode.MPP_IMPLAUSIBLE, values),)


def compare_given_mpp(given: Mpp, of_file: Mpp | None) -> tuple[Notice, ...]:
    """Return notices about a µm/px that the user gives for a slide whose file states `of_file`."""
    of_file = check_mpp(of_file)[0]
    if of_file is None or not scales_differ(given, of_file):
        return _not_square(given)
    return (Notice(NoticeCode.MPP_OVERRIDDEN, {"given": given, "file": of_file}), *_not_square(given))


def scales_differ(one: Mpp, other: Mpp) -> bool:
    """Whether two scales differ by more than the tolerance."""
    return not 1 / SCALE_TOLERANCE <= mean_mpp(one) / mean_mpp(other) <= SCALE_TOLERANCE


def common_mpp(mpps: Iterable[Mpp | None]) -> float | None:
    """Return the median µm/px of slides of one scale (within the tolerance); None if they differ or one is unknown."""
    mpps = list(mpps)
    means = sorted(mean_mpp(mpp) for mpp in mpps if mpp is not None)
    if not means or len(means) < len(mpps) or means[-1] > SCALE_TOLERANCE * means[0]:
        return None
    middle = len(means) // 2
    return means[middle] if len(means) % 2 else (means[middle - 1] + means[middle]) / 2


def check_scale(path: str | Path, slide_mpp: Mpp | None, model_mpp: float | None) -> None:
    """Raise `SlideError` if patches of the slide do not fit a model that was trained at `model_mpp` µm/px.

    A slide that is more than 5 % coarser lacks detail and is refused; finer slides are reduced. Pixels that are not
    square stretch a patch: sides that differ by more than 5 % are refused too. Nothing is checked if the µm/px of the
    slide or the model is unknown.
    """
    if slide_mpp is None or model_mpp is None:
        return
    own = mean_mpp(slide_mpp)
    if own > model_mpp * SCALE_TOLERANCE:
        raise SlideError(
            f"The slide has {own:.3g} µm/px, coarser than the model's {model_mpp:.3g} µm/px by more than 5 %. The file "
            "may be wrong.",
            file=path,
            remedy=SET_MPP,
        )
    if max(slide_mpp) > min(slide_mpp) * SCALE_TOLERANCE:
        raise SlideError(
            f"The pixels are {mpp_in_words(slide_mpp)} µm, not square. A patch would be stretched against the model's. "
            "Rescale the image, if the file is right.",
            file=path,
            remedy=SET_MPP,
        )


def missing_mpp(slide_ids: Sequence[str], model_mpp: float) -> CohortError:
    """Return one error for all slides that have no µm/px but need one."""
    n = len(slide_ids)
    return CohortError(
        f"{count_of(n, 'slide')} {'has' if n == 1 else 'have'} no pixel size, and patches are cut at "
        f"{model_mpp:.3g} µm/px: {list_briefly(slide_ids)}.",
        remedy=SET_MPP,
    )


def _not_square(mpp: Mpp) -> tuple[Notice, ...]:
    return () if max(mpp) <= min(mpp) * _SQUARE else (Notice(NoticeCode.PIXELS_NOT_SQUARE, {"mpp": mpp}),)


def _perhaps(mpp: Mpp) -> str:
    """Return a probable reason for a µm/px outside the limits."""
    dpi = [25400 / value for value in mpp]
    screen = next((known for known in _SCREEN_DPI if all(abs(value - known) < 0.01 * known for value in dpi)), None)
    if screen:
        return f" ({screen} dpi are a screen's: nobody measured them)"
    hundred = (mpp[0] * 100, mpp[1] * 100)
    if all(_USUAL[0] <= value <= _USUAL[1] for value in hundred):
        return f" (100 times too small, a resolution per cm taken for one per m? Then it is {mpp_in_words(hundred)})"
    return ""
