import json

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.events import Progress, drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.exporters.regions import write_regions
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.patches import place_patches
from napari_distill2label.slides.regions import (
    mask_from_geojson,
    mask_from_polygons,
    polygons_from_mask,
    read_regions,
    tissue_from_geojson,
)
from napari_distill2label.slides.tissue import segment_tissue
from napari_distill2label.slides.tissue_mask import TissueMask

OTSU = PatchSettings(tissue="otsu")


def random_masks(count: int):
    """Masks of any shape at any scale, the last row and column often cut short."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        shape = rng.integers(1, 14, 2)
        downsample = float(rng.choice([1, 2, 3.7, 16.001]))
        cut = rng.random(2) * (downsample - 1)
        yield TissueMask(
            rng.random(shape) < rng.random(), tuple(np.ceil(shape * downsample - cut).astype(int)), downsample, "user"
        )


def test_outlines_and_back_lose_nothing():
    for mask in random_masks(200):
        polygons = polygons_from_mask(mask)
        assert all(polygon.geom_type == "Polygon" and polygon.is_valid for polygon in polygons)
        region = shapely.union_all(polygons)
        assert region.area == pytest.approx(sum(polygon.area for polygon in polygons))  # none lies on another
        assert region.area == pytest.approx(mask.fraction * np.prod(mask.slide_shape))
        assert np.array_equal(mask_from_polygons(region, mask).mask, mask.mask)


def test_a_piece_with_a_hole_an_island_and_a_corner():
    drawn = np.zeros((7, 9), bool)
    drawn[:5, :5] = True
    drawn[1:4, 1:4] = False
    drawn[2, 2] = True  # an island in the hole
    drawn[5, 5] = True  # touches the piece in a corner: a piece of its own
    mask = TissueMask(drawn, (28, 36), 4.0, "user")
    polygons = sorted(polygons_from_mask(mask), key=lambda polygon: -polygon.area)
    assert [polygon.area for polygon in polygons] == [16 * 16, 16, 16]
    assert polygons[0].bounds == (0, 0, 20, 20)
    assert [len(polygon.interiors) for polygon in polygons] == [1, 0, 0]


def test_any_polygon_becomes_the_squares_whose_centre_it_holds():
    blank = TissueMask.blank((300, 500), 50)
    assert (blank.downsample, blank.mask.shape) == (10.0, (30, 50))
    triangle = shapely.Polygon(
        [(20.3, 20.1), (480.7, 60.9), (100.3, 290.3)], [[(100.1, 80.7), (160.9, 80.3), (120.7, 200.1)]]
    )
    mask = mask_from_polygons(triangle, blank)
    y, x = np.meshgrid(np.arange(5, 300, 10), np.arange(5, 500, 10), indexing="ij")
    assert np.array_equal(mask.mask, shapely.contains_xy(triangle, x, y))
    assert mask.source == "regions"
    assert not mask_from_polygons(shapely.Polygon(), blank).mask.any()


def test_geojson_is_what_qupath_wants_and_reads_back(tmp_path):
    for index, mask in enumerate(random_masks(20)):
        if not mask.mask.any():
            continue
        path = write_regions(tmp_path / f"{index} ß.geojson", mask, "S-1")
        assert np.array_equal(mask_from_geojson(path, mask.slide_shape, mask).mask, mask.mask)
    data = json.loads(path.read_text("utf-8"))
    assert data["type"] == "FeatureCollection"
    assert len({feature["id"] for feature in data["features"]}) == len(data["features"])
    for feature in data["features"]:
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert all(isinstance(number, int) for point in ring for number in point)
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == "Tissue"
        assert properties["metadata"] == {"source": mask.source}
    # The first number is x: the tissue's box in the file is that of the mask.
    rows, cols = np.nonzero(mask.mask)
    left, top, right, bottom = read_regions(path, mask.slide_shape).bounds
    assert (left, right) == (mask.edges(1)[cols.min()], mask.edges(1)[cols.max() + 1])
    assert (top, bottom) == (mask.edges(0)[rows.min()], mask.edges(0)[rows.max() + 1])


@pytest.mark.parametrize("side", [8, 9, 16])
def test_a_mask_and_its_file_leave_the_same_patches(tmp_path, side):
    """With sides that put patch centres on the borders of the mask's squares too."""
    drawn = np.random.default_rng(1).random((13, 17)) < 0.4
    mask = TissueMask(drawn, (100, 136), 8.0, "user")
    path = write_regions(tmp_path / "a.geojson", mask, "a")
    grid = PatchGrid.over((100, 136), PatchSettings(size_px=side))
    assert np.array_equal(mask.grid(grid).scored, tissue_from_geojson(path, grid))
    points = np.random.default_rng(2).uniform(-3, 140, (500, 2)).round()
    there = mask.contains(points)
    regions = read_regions(path, (100, 136))
    assert np.array_equal(there, shapely.intersects_xy(regions, points[:, 1], points[:, 0]))
    assert 0 < there.sum() < 500


def test_patches_of_a_mask(make_slide, pixels):
    slide = make_slide(np.full_like(pixels, 255))
    blank = TissueMask.blank(slide.shape, 10)
    corner = np.zeros(blank.mask.shape, np.uint8)
    corner[:2, :3] = 7  # a Labels layer may hold any number
    mask = blank.with_mask(corner)
    patches = place_patches(slide, PatchSettings(tissue="white"), regions=mask)
    assert np.argwhere(patches.scored).tolist() == [[0, 0], [0, 1]]
    points = place_patches(slide, PatchSettings(), centres=np.array([(5, 5), (100, 100)]), regions=mask)
    assert points.centres.tolist() == [[5, 5]]
    with pytest.raises(SlideError, match=r"slide0\.png: no tissue: no patch has its centre on the mask"):
        place_patches(slide, PatchSettings(), regions=blank)


def test_a_mask_that_is_of_another_slide_is_refused():
    with pytest.raises(ValueError, match="does not cover"):
        TissueMask(np.zeros((10, 10), bool), (100, 200), 10.0, "user")
    with pytest.raises(ValueError, match=r"must be \(10, 20\)"):
        TissueMask.blank((100, 200), 20).with_mask(np.zeros((20, 10)))


def test_a_real_labels_layer_shows_and_edits_it(make_slide, pixels, tmp_path):
    layers = pytest.importorskip("napari.layers")
    slide = make_slide(pixels, 0.25)
    mask = TissueMask.blank(slide.shape, 17)
    scale, translate = mask.placement(slide.mpp)
    layer = layers.Labels(mask.mask.astype(np.uint8), scale=scale, translate=translate)
    image = layers.Image(pixels, rgb=True, scale=slide.mpp)
    # The layer's first square begins where the slide's first pixel does, half of each above and left of its centre.
    begins = [each.extent.world[0] - each.scale / 2 for each in (layer, image)]
    assert begins[0] == pytest.approx(begins[1])
    layer.fill((0, 0), 1)
    assert layer.data.all()
    layer.data_setitem((np.array([0, 1]), np.array([0, 0])), 0)
    edited = mask.with_mask(layer.data)
    assert edited.source == "user"
    assert edited.mask.sum() == edited.mask.size - 2
    # What lies under a place of the layer is what the mask says of that place of the slide.
    for y, x in ((3, 3), (15, 4), (60, 80), (129, 169)):
        value = layer.get_value(np.array([y, x]) * 0.25, world=True)
        assert bool(value) == edited.contains(np.array([[y + 0.5, x + 0.5]]))[0]
    path = write_regions(tmp_path / "a.geojson", edited, "a")
    assert np.array_equal(mask_from_geojson(path, slide.shape, edited).mask, edited.mask)


def found(slide, settings: PatchSettings = OTSU) -> TissueMask:
    return drain(segment_tissue(slide, settings))


def tissue_on(background: np.ndarray, stain=(200, 120, 190)) -> np.ndarray:
    """The image with a square of noisy tissue in its middle."""
    image = background.copy()
    height, width = image.shape[:2]
    middle = image[height // 4 : height // 2, width // 4 : width // 2]
    middle[:] = np.clip(np.random.default_rng(1).normal(stain, 6, middle.shape), 0, 255)
    return image


def noise(colour, shape=(400, 600), spread: float = 2) -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(colour, spread, (*shape, 3)), 0, 255).astype(np.uint8)


MIDDLE = np.zeros((400, 600), bool)
MIDDLE[100:200, 150:300] = True


def black_border() -> np.ndarray:
    image = tissue_on(noise((242, 240, 243)))
    image[:60] = image[:, -90:] = noise((8, 5, 9))[:1, :1]
    image[:60] = noise((8, 5, 9))[:60]
    return image


def faint_beside_dark() -> np.ndarray:
    image = tissue_on(noise((243, 243, 244)), (240, 205, 226))
    image[250:300, 400:450] = (110, 40, 120)
    return image


CASES = {
    "glass and tissue": (lambda: tissue_on(noise((242, 240, 243))), MIDDLE),
    "yellow glass": (lambda: tissue_on(noise((238, 230, 205))), MIDDLE),
    "glass of which parts were not scanned": (
        lambda: np.where(np.arange(600)[:, None] < 80, 255, tissue_on(noise((238, 230, 205)))).astype(np.uint8),
        MIDDLE,
    ),
    "scanner's black border": (black_border, MIDDLE),
    "faint tissue beside dark": (faint_beside_dark, MIDDLE),
    "tissue alone": (lambda: noise((214, 150, 200), spread=15), np.ones_like(MIDDLE)),
    "two tissues and no glass": (
        lambda: tissue_on(noise((226, 190, 216), spread=6), (120, 50, 140)), np.ones_like(MIDDLE)),
    "glass alone": (lambda: noise((242, 240, 243)), np.zeros_like(MIDDLE)),
    "yellow glass alone": (lambda: noise((238, 230, 205)), np.zeros_like(MIDDLE)),
    "nothing scanned": (lambda: noise((0, 0, 0), spread=3), np.zeros_like(MIDDLE)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_slides_are_like(make_slide, case):
    draw, expected = CASES[case]
    mask = found(make_slide(draw()))
    assert mask.mask.shape == expected.shape
    difference = mask.mask ^ expected
    if case == "faint tissue beside dark":  # the dark square is tissue too
        assert mask.mask[250:300, 400:450].mean() > 0.95
        difference[250:300, 400:450] = False
    assert difference.mean() < 0.01


def test_specks_and_pinholes_are_not_drawn(make_slide):
    image = noise((242, 240, 243), (1024, 1024))
    image[200:700, 200:700] = (200, 120, 190)
    image[400:402, 400:402] = 242
    image[900:902, 900:902] = (200, 120, 190)
    image[400:440, 500:540] = 242  # large enough
    polygons = polygons_from_mask(found(make_slide(image)))
    assert [len(polygon.interiors) for polygon in polygons] == [1]


@pytest.mark.slow
def test_real_crops_keep_their_tissue(data_dir):
    """Plain Otsu takes up to 69 % of such a crop for background; white pixels say how much there can be."""
    crops = sorted((data_dir / "colon").rglob("img*.bmp"))[::4] + sorted((data_dir / "breast").glob("*.tif"))[::6]
    assert len(crops) > 20
    for crop in crops:
        with open_slide(crop) as slide:
            mask = found(slide)
            white = (slide.read(0, 0, 0, *slide.shape).min(axis=2) >= 220).mean()
        assert abs(mask.fraction - (1 - white)) < 0.1, crop


def test_the_real_slide(data_dir):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        mask = found(slide)
        image = slide.read(0, 0, 0, *slide.shape)
    assert max(mask.mask.shape) <= 2048
    large = np.asarray(Image.fromarray(mask.mask).resize(image.shape[1::-1]))
    assert large[image.min(axis=2) < 180].mean() > 0.98
    assert large[image.min(axis=2) > 235].mean() < 0.03


def test_hardly_any_tissue_is_found(data_dir):
    with open_slide(data_dir / "slides" / "kidney-48-5.tif") as slide:
        mask = found(slide)
    assert 0.001 < mask.fraction < 0.006
    assert len(polygons_from_mask(mask)) <= 3


def test_the_rules_all_and_white(make_slide):
    slide = make_slide(tissue_on(noise((242, 240, 243))))
    assert found(slide, PatchSettings(tissue="none")).mask.all()
    white = found(slide, PatchSettings(tissue="white"))
    assert white.source == "white"
    assert (white.mask ^ MIDDLE).mean() < 0.01


def test_large_slides_are_read_once_and_piece_by_piece(tmp_path):
    """A file without a pyramid: its coarse level is computed, and each of its tiles is decoded once."""
    import tifffile

    tile = noise((242, 240, 243), (256, 256))
    tile[:, 128:] = (200, 120, 190)
    side = 5120
    rows = side // 256
    tifffile.imwrite(
        tmp_path / "flat.tif", (tile for _ in range(rows * rows)), shape=(side, side, 3), dtype=np.uint8,
        tile=(256, 256), photometric="rgb", compression="jpeg",
    )  # fmt: skip
    with open_slide(tmp_path / "flat.tif") as slide:
        reads = []
        read = slide.read
        slide.read = lambda level, y, x, h, w: (reads.append((level, h * w)), read(level, y, x, h, w))[1]
        events = []
        mask = drain(segment_tissue(slide, OTSU), events.append)
        level = reads[0][0]
        factor = slide.downsamples[level]
        assert factor == 2
        assert {event.total for event in events} == {len(reads)}
        assert isinstance(events[-1], Progress)
        assert events[-1].step == len(reads)
    assert sum(area for _, area in reads) == slide.levels[level].shape[0] * slide.levels[level].shape[1]
    assert max(area for _, area in reads) * factor**2 <= 5_000_000
    assert max(mask.mask.shape) <= 2048
    assert mask.fraction == pytest.approx(0.5, abs=0.05)


def test_real_ink_is_said_and_nothing_else(data_dir):
    """Blue and black margin ink lie on three of the colon crops; none of the others has any."""
    crops = sorted((data_dir / "colon").rglob("img*.bmp"))
    inked = {crop for crop in crops if crop.stem in ("img12", "img62", "img63")}
    assert len(inked) == 3
    others = crops[::9] + sorted((data_dir / "breast").glob("*.tif"))[::9] + [*(data_dir / "slides").glob("CMU*.svs")]
    for crop in {*others, *inked}:
        with open_slide(crop) as slide:
            notices = found(slide).notices
        assert ["ink" in notice for notice in map(str, notices)] == [True] * (crop in inked), crop


INKS = {"green": (20, 120, 60), "teal": (0, 110, 120), "blue": (30, 60, 170), "black": (38, 38, 42)}


@pytest.mark.parametrize("ink", INKS)
def test_a_stroke_of_a_pen_over_a_real_slide_is_said(data_dir, make_slide, ink):
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        image = slide.read(0, 600, 0, 1200, 1600).astype(float)
    density = np.zeros(image.shape[:2])
    density[200:300] = np.random.default_rng(0).normal(0.9, 0.05, (100, image.shape[1])).clip(0, 1)
    image += density[..., None] * (image / 255 * INKS[ink] - image)  # ink lets its colour through
    mask = found(make_slide(image.astype(np.uint8)))
    assert len(mask.notices) == 1
    assert 0.02 < float(str(mask.notices[0]).split("%")[0]) / 100 < 100 / 1200 + 0.01
    assert mask.with_mask(mask.mask).notices == ()
