"""A hand-made, finished patch map."""

import numpy as np
import pytest

from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.patch_map import PatchMap

SLIDE = SlideInfo("slide 1")


def make_map(patches, labels=None, classes=("normal", "tumour"), multi_label=False, slide=SLIDE, **kwargs):
    """A finished map whose labels at 0.5 are `labels` (1 + class index; default: taking turns)."""
    count = len(classes)
    if labels is None:
        labels = np.arange(np.prod(patches.shape)).reshape(patches.shape) % count + 1
    patch_map = PatchMap.create(None, patches, classes, slide, multi_label=multi_label, **kwargs)
    for block in patches.blocks(10_000):
        probability = np.eye(count)[labels[block.window][block.scored] - 1] * 0.8 + 0.2 / count
        patch_map.write(block, probability, np.log(probability), probability[:, 1])
    patch_map.finish([0.3, 0.7] if count == 2 else [1 / count] * count)
    return patch_map


@pytest.fixture
def new_map():
    return make_map
