"""Pixel by pixel: which cell a pixel lies in, what is counted, and the figures by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.pixels import Image, at_pixels, count, report
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.inference.dense import dense_grid


@pytest.mark.parametrize("patches", [
    PatchGrid.over((70, 90), PatchSettings(size_px=20)),
    dense_grid((70, 90), PatchSettings(size_px=20, stride_px=8)),
], ids=["grid", "dense"])  # fmt: skip
def test_a_pixel_has_the_value_of_the_nearest_patch(patches):
    values = np.random.default_rng(0).random(patches.shape)
    found = at_pixels(patches, values)
    assert found.shape == (70, 90)
    centres = patches.corners.reshape(*patches.shape, 2) + (patches.side - 1) / 2
    for y, x in [(0, 0), (69, 89), (33, 7), (12, 60)]:
        away = np.abs(centres - (y, x)).max(-1)
        assert found[y, x] in values[away <= away.min() + 0.5]  # half way between two: either


def test_a_pixel_without_a_patch_is_not_called():
    patches = PatchGrid.over((40, 40), PatchSettings(size_px=20))
    assert at_pixels(patches, np.array([[np.nan, 0.7], [0.2, 0.9]]))[0].tolist() == [0.0] * 20 + [0.7] * 20


def test_counts_by_hand():
    truth = np.array([[True, True, False], [False, False, False]])
    score = np.array([[0.9, 0.1, 0.5], [0.4, 0.2, 0.0]])
    assert count(truth, score, 0.5) == (1, 1, 1, 6, pytest.approx(5 / 8))
    assert count(np.zeros_like(truth), score, 0.5) == (0, 0, 2, 6, None)


def test_figures_by_hand():
    def image(fold, slide, hits, misses, false, auroc):
        return Image(fold, 0, "student", 16, slide, hits + misses > 0, hits, misses, false, 100, auroc)

    images = [
        image(0, "a", 30, 10, 10, 0.8), image(0, "b", 0, 20, 0, 0.6), image(0, "n", 0, 0, 5, None),
        image(1, "c", 40, 0, 0, 1.0), image(1, "m", 0, 0, 15, None),
    ]  # fmt: skip
    first = 60 / (60 + 10 + 20 + 10 + 5), 30 / 75, (60 / 80 + 0) / 2, 0.7, 0.05
    second = 80 / 95, 40 / 55, 1.0, 1.0, 0.15
    row = report(images).splitlines()[2]
    for one, other in zip(first, second, strict=True):
        mean, low, high = (
            f"{value:.3f}".replace("0.", ".", 1) for value in ((one + other) / 2, min(one, other), max(one, other))
        )
        assert f"{mean} ({low}–{high})" in row
    assert "| recommended student | 16 px | 2 |" in row


def test_without_a_training_it_says_what_to_run(tmp_path, capsys):
    assert main(["pixels", "--data", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "run transfer --train glas" in capsys.readouterr().err


@pytest.mark.long
def test_on_real_glands_and_again(data_dir, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the pixels of GlaS were NOT tested: onnxruntime is not installed")
    if not (data_dir / "glas").is_dir():
        pytest.skip(f"no GlaS images in {data_dir}")
    runs = tmp_path / "transfer"
    assert main([
        "transfer", "--data", str(data_dir), "-o", str(runs), "--quick", "--train", "glas", "--patches", "encoder",
    ]) == 0  # fmt: skip
    capsys.readouterr()
    arguments = ["pixels", "--data", str(runs), "-o", str(tmp_path / "out"), "--quick"]
    assert main(arguments) == 0
    table = tmp_path / "out" / "pixels.csv"
    rows = pd.read_csv(table)
    assert set(rows.network) == {"baseline", "student", "supervised"}
    assert set(rows.stride) == {96, 16}
    assert len(rows) == 3 * 2 * 2  # networks, maps, images
    assert (rows.pixels > 200_000).all()
    assert ((rows.hits + rows.misses > 0) == rows.positive).all()
    written = table.stat().st_mtime_ns
    assert main(arguments) == 0
    assert table.stat().st_mtime_ns == written
