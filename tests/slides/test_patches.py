import json

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import Progress, Task, drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.patches import cut_bag, iter_place_patches, place_patches


def test_a_bag_of_the_grid_holds_what_its_coordinates_say(make_slide, pixels):
    slide = make_slide(pixels)
    patches = place_patches(slide, PatchSettings())
    assert isinstance(patches, PatchGrid)
    assert patches.shape == (5, 6)
    bag = cut_bag(slide, patches, "s1", label=(1,))
    assert (len(bag), bag.slide_id, bag.label) == (30, "s1", (1,))
    y, x = bag.coordinates[7]
    assert np.array_equal(bag.instances[7], pixels[y : y + 27, x : x + 27].transpose(2, 0, 1))


def test_only_tissue_is_cut(make_slide, pixels):
    image = pixels.copy()
    image[:, 54:] = 255
    slide = make_slide(image)
    bag = cut_bag(slide, place_patches(slide, PatchSettings(tissue="white")), "s1")
    assert len(bag) == 10
    assert bag.coordinates[:, 1].max() == 27


def test_patches_centred_on_points(make_slide, pixels):
    slide = make_slide(pixels)
    centres = np.array([(0, 0), (60.5, 70.4), (129.2, 169.0)])
    patches = place_patches(slide, PatchSettings(), centres=centres)
    assert isinstance(patches, PatchPoints)
    bag = cut_bag(slide, patches, "s1", patch_labels=np.array([-1, 1, 0], np.int8))
    assert bag.instances[:, :, 13, 13].tolist() == [pixels[y, x].tolist() for y, x in ((0, 0), (61, 70), (129, 169))]
    assert bag.patch_labels.tolist() == [-1, 1, 0]
    for none in (np.empty((0, 2)), []):
        with pytest.raises(SlideError, match=r"slide0\.png: the slide has no centres"):
            place_patches(slide, PatchSettings(), centres=none)


def test_the_models_mpp(make_slide, pixels):
    settings = PatchSettings(size_px=16, mpp=1.0)
    slide = make_slide(pixels, 0.5)
    patches = place_patches(slide, settings)
    assert (patches.side, patches.stride) == (32, 32)
    bag = cut_bag(slide, patches, "s1")
    assert bag.instances.shape == (len(patches.corners), 3, 16, 16)
    assert np.array_equal(bag.instances, cut(slide, patches.corners, 32, 16))
    with pytest.raises(SlideError, match=r"slide1\.png: The slide has no pixel size.*cohort"):
        place_patches(make_slide(pixels), settings)


def test_regions_replace_the_rule(make_slide, pixels, tmp_path):
    def write(x0: int, y0: int, x1: int, y1: int):
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        (tmp_path / "r.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        return tmp_path / "r.geojson"

    slide = make_slide(np.full_like(pixels, 255))
    settings = PatchSettings(tissue="white")
    assert place_patches(slide, settings, regions=write(0, 0, 54, 27)).scored.sum() == 2
    points = place_patches(slide, settings, centres=np.array([(5, 5), (100, 100)]), regions=tmp_path / "r.geojson")
    assert points.centres.tolist() == [[5, 5]]
    with pytest.raises(SlideError, match=r"no tissue found: no patch has its centre in a region of .*r\.geojson"):
        place_patches(slide, settings, regions=write(1000, 1000, 1100, 1100))


def test_no_tissue_and_patches_larger_than_the_slide(make_slide, pixels):
    glass = make_slide(np.full_like(pixels, 240))
    for rule in ("white", "otsu"):
        with pytest.raises(
            SlideError,
            match=r"slide0\.png: The tissue method '(white|otsu)' finds no tissue\. Set",
        ):
            place_patches(glass, PatchSettings(tissue=rule))
    with pytest.raises(SlideError, match=r"slide0\.png: a patch of 140 px is larger than the slide"):
        place_patches(glass, PatchSettings(size_px=140))


def test_a_slide_coarser_than_its_patches_is_refused_from_5_percent_on(make_slide, pixels):
    assert place_patches(make_slide(pixels, 0.52), PatchSettings(size_um=16, mpp=0.5)).side == 31
    for where in (None, np.array([[50.0, 50.0]])):
        with pytest.raises(SlideError, match=r"slide\d\.png: The slide has 0\.53 µm/px, coarser than .* 0\.5 µm/px"):
            place_patches(make_slide(pixels, 0.53), PatchSettings(mpp=0.5), centres=where)


def test_the_progress_of_looking_for_tissue(make_slide, pixels):
    events = []
    slide = make_slide(pixels)
    patches = drain(iter_place_patches(slide, PatchSettings(tissue="white")), events.append)
    assert events == [Progress(Task.FIND_TISSUE, 1, 1, "slide0")]
    assert np.array_equal(patches.scored, place_patches(slide, PatchSettings(tissue="white")).scored)
