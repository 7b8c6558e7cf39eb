"""Dense maps of slides: equal to cutting every patch alone, at the border, in tissue, resampled, and on real images."""

import numpy as np
import pytest
import torch
from PIL import Image

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.metrics import binary_metrics
from napari_distill2label.core.presets import build_settings
from napari_distill2label.core.settings import ArchitectureSettings, PatchSettings, StudentSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.inference.dense import DenseScorer, _Lattice, cells_of_points, dense_grid, dense_scorer
from napari_distill2label.mil.model import MILModel
from napari_distill2label.slides.cutting import cut
from napari_distill2label.slides.patches import place_patches
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.slides.synthetic import draw_slide
from napari_distill2label.store.bundle import load_bundle, save_bundle
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.run import Run
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import COLON_POSITIVE, prepare_dataset
from napari_distill2label.workflow.commands.train import train

TOLERANCE = 1e-4
SHAPE = (150, 190)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small network whose answers differ from patch to patch."""
    torch.manual_seed(0)
    model = MILModel(ArchitectureSettings(encoder="colon", hidden_dim=24, attention_dim=8), 2, (3, 27, 27))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.13)
    model.mean.fill_(0.6)
    model.std.fill_(0.2)
    about = {"network": "student", "classes": ("a", "b"), "patches": PatchSettings(), "training": StudentSettings()}
    return load_bundle(save_bundle(tmp_path_factory.mktemp("dense") / "student", model, about, {}))


@pytest.fixture
def slide(tmp_path):
    Image.fromarray(draw_slide(1, True, SHAPE).image).save(tmp_path / "s.png")
    with open_slide(tmp_path / "s.png") as opened:
        yield opened


def fill(scorer, slide, patches, per_block=300):
    """A `PatchMap` filled from the blocks of `patches`, as the engine does."""
    filled = PatchMap.create(None, patches, ("a", "b"), SlideInfo("s"))
    for block in patches.blocks(per_block):
        filled.write(block, **scorer(slide, patches, block))
    return filled


def cut_alone(bundle, slide, patches, every=1):
    """Logits and scores of every `every`-th scored patch, each cut by itself."""
    singles = [cut(slide, corner[None], patches.side, patches.patch_px) for corner in patches.corners[::every]]
    with torch.no_grad():
        answer = bundle.model(torch.from_numpy(np.concatenate(singles)))
    return answer.instance_logits.numpy(), answer.scores.numpy()


def assert_equal(bundle, slide, patches, every=1, per_block=300):
    filled = fill(dense_scorer(bundle, patches, slide), slide, patches, per_block)
    logit, score = cut_alone(bundle, slide, patches, every)
    assert logit.std(0).min() > 0.02
    np.testing.assert_allclose(filled.logit[patches.scored][::every], logit, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(filled.score[patches.scored][::every], score, atol=TOLERANCE, rtol=0)
    expected = torch.softmax(torch.from_numpy(logit), 1).numpy()
    np.testing.assert_allclose(filled.probability[patches.scored][::every], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("stride", [3, 4, 8, 21])
@pytest.mark.parametrize("per_block", [50, 100_000])
def test_a_grid_equals_cut_patches_over_the_border_too(bundle, slide, stride, per_block):
    patches = dense_grid(slide.shape, PatchSettings(stride_px=stride))
    assert patches.corners.min() < 0
    assert (patches.corners.max(0) + patches.side > slide.shape).any()
    assert_equal(bundle, slide, patches, every=3, per_block=per_block)


def test_stride_1_has_a_cell_for_every_pixel(bundle, slide):
    patches = place_patches(slide, PatchSettings(stride_px=1), make_grid=dense_grid)
    assert patches.shape == slide.shape
    assert patches.first_centre.tolist() == [0, 0]
    assert_equal(bundle, slide, patches, every=97, per_block=DenseScorer.patches_per_block)


def test_only_tissue_is_scored(bundle, slide):
    patches = dense_grid(slide.shape, PatchSettings(stride_px=2))
    tissue = np.random.default_rng(0).random(patches.shape) < 0.3
    tissue[20:50] = False
    patches = patches.with_tissue(tissue)
    assert_equal(bundle, slide, patches, every=5, per_block=1000)
    assert (fill(DenseScorer(bundle), slide, patches).scored == tissue).all()


def test_a_large_slide_is_read_in_parts(bundle, slide, monkeypatch):
    monkeypatch.setattr("napari_distill2label.inference.dense.REGION_PX", 40)
    assert_equal(bundle, slide, dense_grid(slide.shape, PatchSettings(stride_px=4)), every=3, per_block=100_000)


@pytest.mark.parametrize(
    ("slide_mpp", "stride", "side"),
    [(0.25, 1, 54), (0.25, 4, 54), (0.2527, 9, 54), (0.45, 4, 30), (0.45, 9, 30), (0.4, 9, 33)],
)
def test_resampled_equals_cut_patches(bundle, slide, slide_mpp, side, stride):
    """The region is resampled as a whole: the very pixels that each patch has when it is resampled alone."""
    opened = slide.with_mpp(slide_mpp)
    patches = dense_grid(opened.shape, PatchSettings(stride_px=stride, mpp=0.5), opened.mpp)
    assert patches.side == side
    tissue = np.zeros(patches.shape, bool)
    tissue[-12:, :14] = True
    assert_equal(bundle, opened, patches.with_tissue(tissue))


@pytest.mark.parametrize(
    ("slide_mpp", "stride_px", "side", "stride", "lattices", "step"),
    [
        (0.25, 1, 54, 2, 1, 1),  # twice: every pixel of the model's is on one lattice
        (0.2527, 4, 54, 8, 1, 4),  # 53.4 px, rounded 53, would share nothing: 54 is 1.1 % more
        (0.45, 4, 30, 5, 2, 9),  # 10 slide pixels are 9 of the model
        (0.45, 9, 30, 10, 1, 9),
        (0.5, 4, 27, 4, 1, 4),
    ],
)
def test_a_grid_on_which_patches_share_their_pixels(slide_mpp, stride_px, side, stride, lattices, step):
    grid = dense_grid((900, 1000), PatchSettings(stride_px=stride_px, mpp=0.5), (slide_mpp, slide_mpp))
    lattice = _Lattice.of(grid.side, 27, grid.stride)
    assert (grid.side, grid.stride, lattice.every, lattice.step) == (side, stride, lattices, step)
    assert abs(grid.side / (27 * 0.5 / slide_mpp) - 1) < 0.026


def test_cells_cover_the_slide_whatever_the_stride():
    for stride in range(1, 28):
        for size in (27, 100, 101, 499):
            grid = dense_grid((size, size), PatchSettings(stride_px=stride))
            first, last = grid.first_centre[0], grid.first_centre[0] + (grid.rows - 1) * grid.stride
            assert first - stride / 2 <= 0
            assert last + stride / 2 >= size - 1 - stride / 2
            assert last < size
        inside = dense_grid((101, 101), PatchSettings(stride_px=stride, border="drop"))
        assert inside.corners.min() == 0
        assert inside.corners.max() + 27 <= 101


@pytest.mark.parametrize("spread", [25, 149])  # crowded points are read from a region, others cut
def test_points_equal_cut_patches(bundle, slide, spread):
    centres = np.random.default_rng(0).uniform(0, spread, (60, 2))
    assert_equal(bundle, slide, PatchPoints.at(centres, slide.shape, PatchSettings()))
    opened = slide.with_mpp(0.25)
    assert_equal(bundle, opened, PatchPoints.at(centres[:20], slide.shape, PatchSettings(mpp=0.5), opened.mpp))


def test_few_patches_in_a_large_rectangle_are_cut(bundle, slide):
    patches = dense_grid(slide.shape, PatchSettings(stride_px=4))
    scorer, lattice = DenseScorer(bundle), _Lattice.of(27, 27, 4)
    assert scorer._from_region(slide, patches, lattice, np.array([[0, 0], [100, 120]])) is None
    assert scorer._from_region(slide, patches, lattice, np.array([[0, 0], [4, 4], [4, 0], [8, 0]])) is not None


@pytest.mark.parametrize("side", [27, 32])
def test_points_read_from_a_dense_map_are_the_patches_centred_there(side):
    grid = dense_grid(SHAPE, PatchSettings(size_px=side, stride_px=1))
    centres = np.random.default_rng(0).uniform((0, 0), np.subtract(SHAPE, 1), (200, 2))
    points = PatchPoints.at(centres, SHAPE, PatchSettings(size_px=side))
    inside = (points.corners >= grid.origin).all(1)  # of an even patch, the grid's first cell begins a pixel later
    cells = cells_of_points(grid, points)
    assert (grid.corners_of(cells)[inside] == points.corners[inside]).all()
    coarse = dense_grid(SHAPE, PatchSettings(size_px=side, stride_px=4))
    off = coarse.corners_of(cells_of_points(coarse, points)) - points.corners
    assert np.abs(off).max() <= 2 + 2  # half a stride, and at the far border up to one whole
    assert np.median(np.abs(off)) <= 2


def test_patches_of_another_side_are_refused(bundle, slide):
    with pytest.raises(SettingsError, match=r"takes patches of 27 px.*32 px"):
        dense_scorer(bundle, PatchGrid.over(slide.shape, PatchSettings(size_px=32)), slide)


@pytest.mark.long
def test_colon_nuclei_are_read_from_the_dense_map(data_dir, tmp_path):
    """On real images: a student's AUROC per nucleus is the same from a map of every pixel as centred on the nuclei."""
    if not (data_dir / "colon").is_dir():
        pytest.skip(f"no colon images in {data_dir}")
    cohort = Cohort.read(drain(prepare_dataset("colon", data_dir / "colon", tmp_path / "colon")))
    positive = [row for row in cohort if row.label == COLON_POSITIVE]
    negative = [row for row in cohort if row.label != COLON_POSITIVE]
    few = cohort.with_slides([*positive[:5], *negative[:5]])
    settings = build_settings(
        "colon",
        "recommended",
        {
            "architecture": {"hidden_dim": 32, "attention_dim": 16},
            "teacher": {"epochs": 1, "learning_rate": 1e-3},
            "oof": {"epochs": 1, "learning_rate": 2e-3},
            "student": {"epochs": 2, "learning_rate": 2e-3, "calibrate": False},
            "split": {"valid": 0.2, "test": 0.2},
            "device": "cpu",
        },
    )
    run = drain(train(few, tmp_path / "run", settings, inputs=Inputs(centres=tmp_path / "colon" / "centres.csv")))
    student = load_bundle(Run.open(run.folder).bundle("student"))
    nuclei = read_points(tmp_path / "colon" / "truth.csv", labelled=True)
    truths, from_map, centred = [], [], []
    for row in positive[5:7]:
        with open_slide(row.path) as image:
            points = PatchPoints.at(nuclei[row.slide_id].coordinates, image.shape, PatchSettings())
            grid = place_patches(image, PatchSettings(stride_px=1), make_grid=dense_grid)
            dense_map = fill(dense_scorer(student, grid, image), image, grid, DenseScorer.patches_per_block)
            assert dense_map.scored.shape == (500, 500)
            assert dense_map.scored.all()
            cells = cells_of_points(grid, points)
            logit, _ = cut_alone(student, image, points)
            np.testing.assert_allclose(dense_map.logit[tuple(cells.T)], logit, atol=TOLERANCE, rtol=0)
            truths.append(nuclei[row.slide_id].labels == COLON_POSITIVE)
            from_map.append(dense_map.probability[tuple(cells.T)][:, 1])
            centred.append(torch.softmax(torch.from_numpy(logit), 1)[:, 1].numpy())
    truth = np.concatenate(truths)
    dense, alone = (binary_metrics(truth, np.concatenate(scores))["auroc"] for scores in (from_map, centred))
    assert len(truth) > 100
    assert 0 < truth.mean() < 1
    assert dense == pytest.approx(alone, abs=1e-4)
    assert np.concatenate(centred).std() > 0.02
    assert alone > 0.6
