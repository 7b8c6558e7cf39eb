"""napari's *Open*: slides as lazy multiscale images with their scale in µm, our label masks as labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...slides.registry import SUFFIXES, open_slide
from ...store.maps.label_mask import is_label_mask, read_label_mask
from ..canvas.layers import LayerData, mask_layer, slide_layer


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """The reader, if all of `path` may be slides."""
    paths = [path] if isinstance(path, str) else path
    return read_slides if all(Path(each).suffix.lower() in SUFFIXES for each in paths) else None


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """One layer for each file. `SlideError` for a file that is damaged, or not 8-bit RGB."""
    return [_read(each) for each in ([path] if isinstance(path, str) else path)]


def _read(path: str) -> LayerData:
    if is_label_mask(path):
        return mask_layer(read_label_mask(path), Path(path).name)
    slide = open_slide(path)
    return slide_layer(slide, slide.name)
