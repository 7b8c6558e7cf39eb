"""The size of a pixel in µm, as files state it: units, and what cannot be true of a slide."""

import math

from ..core.geometry import Mpp

LIMITS = (0.05, 20.0)  # µm/px; finer than any light microscope's scanner, coarser than any thumbnail worth scoring

# OME-XML writes the symbols, OME-Zarr the words of UDUNITS-2.
UM_PER_UNIT = {
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def checked(mpp: Mpp | None) -> tuple[Mpp | None, tuple[str, ...]]:
    """(mpp, notices): an mpp outside `LIMITS` on either axis is reported and becomes None, never corrected."""
    if mpp is None or all(LIMITS[0] <= value <= LIMITS[1] for value in mpp):
        return mpp, ()
    said = f"{mpp[0]:.4g}" if math.isclose(*mpp, rel_tol=1e-3) else f"{mpp[0]:.4g} × {mpp[1]:.4g} (y × x)"
    return None, (
        f"the file says {said} µm/px, which is outside {LIMITS[0]:g}–{LIMITS[1]:g} and cannot be a slide's: "
        "treated as unknown until you give the µm/px",
    )
