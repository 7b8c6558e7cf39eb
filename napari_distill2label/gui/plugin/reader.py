"""napari's *Open*: slides as lazy multiscale images with their scale in µm, our masks and patch maps as labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...slides.label_mask import is_label_mask, read_label_mask
from ...slides.registry import SUFFIXES, open_slide
from ...store.maps.patch_map import PatchMap, read_header
from ..canvas.layers import LayerData, mask_layer, slide_layer
from ..canvas.map_layers import map_layers


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """The reader, if all of `path` may be slides."""
    paths = [path] if isinstance(path, str) else path
    return read_slides if all(Path(each).suffix.lower() in SUFFIXES for each in paths) else None


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """One layer for each slide and mask, and those of a prediction for a patch map.

    `SlideError` for a slide that is damaged, or not 8-bit RGB; `BundleError` for a damaged patch map.
    """
    return [layer for each in ([path] if isinstance(path, str) else path) for layer in _read(each)]


def _read(path: str) -> list[LayerData]:
    if is_label_mask(path):
        return [mask_layer(read_label_mask(path), Path(path).name)]
    if read_header(Path(path)):
        patch_map = PatchMap.open(path)
        return map_layers(patch_map, patch_map.slide.mpp, patch_map.threshold)
    slide = open_slide(path)
    return [slide_layer(slide, slide.name)]
