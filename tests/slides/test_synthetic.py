import csv

import numpy as np
import pytest

from napari_distill2label.slides import open_slide
from napari_distill2label.slides.synthetic import draw_slide, write_cohort


def test_the_same_seed_draws_the_same_bytes():
    first, again, other = draw_slide(3, True), draw_slide(3, True), draw_slide(4, True)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.centres, again.centres)
    assert np.array_equal(first.kinds, again.kinds)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(3))
def test_tumour_nuclei_are_in_positive_slides_alone_and_a_minority(seed):
    assert set(draw_slide(seed, False).kinds) == {"normal"}
    assert 0.08 < (draw_slide(seed, True).kinds == "tumour").mean() < 0.5
    assert (draw_slide(seed, True, (64, 64)).kinds == "tumour").any()


def test_the_truth_lies_on_dark_nuclei_apart_from_one_another():
    drawn = draw_slide(1, True)
    assert drawn.image.shape == (512, 512, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.centres.min() >= 0
    assert drawn.centres.max() <= 511
    red = drawn.image[..., 0].astype(float)  # haematoxylin absorbs red, eosin hardly does
    at = np.array(
        [red[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].mean() for y, x in drawn.centres.round().astype(int)]
    )
    tissue = red[drawn.image.min(axis=2) < 215]
    assert (at < np.percentile(tissue, 25)).mean() > 0.95
    apart = np.linalg.norm(drawn.centres[:, None] - drawn.centres[None], axis=2) + 1e9 * np.eye(len(drawn.centres))
    assert apart.min() >= 10


def test_glass_is_white_and_a_part_of_every_slide():
    for seed in range(3):
        glass = (draw_slide(seed, bool(seed % 2)).image.min(axis=2) >= 220).mean()
        assert 0.03 < glass < 0.6


def read_csv(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_cohort_on_disk(tmp_path):
    folder = tmp_path / "Kohorte mit Leerzeichen é"
    cohort = write_cohort(folder, n_slides=6, seed=5, shape=(300, 280), formats=("ome.tif", "png", "bmp"))
    assert cohort == folder / "cohort.csv"
    rows = read_csv(cohort)
    assert list(rows[0]) == ["slide_id", "path", "label", "case_id", "mpp", "split"]
    assert [row["label"] for row in rows] == ["normal", "tumour"] * 3
    assert [row["case_id"] for row in rows] == ["case_000"] * 2 + ["case_001"] * 2 + ["case_002"] * 2
    assert {row["split"] for row in rows} == {""}
    truth, centres = read_csv(folder / "truth.csv"), read_csv(folder / "centres.csv")
    assert [{key: row[key] for key in ("slide_id", "x", "y")} for row in truth] == centres
    for index, row in enumerate(rows):
        drawn = draw_slide(5 * 100_003 + index, bool(index % 2), (300, 280))
        with open_slide(folder / row["path"]) as slide:
            assert slide.name == row["slide_id"]
            assert np.array_equal(slide.read(0, 0, 0, *slide.shape), drawn.image)
            if row["path"].endswith(".ome.tif"):
                assert slide.mpp == (0.5, 0.5)
                assert len(slide.levels) == 2
        own = [point for point in truth if point["slide_id"] == row["slide_id"]]
        assert np.allclose([(float(p["y"]), float(p["x"])) for p in own], drawn.centres, atol=0.01)
        assert [p["label"] for p in own] == drawn.kinds.tolist()
    assert not list(folder.rglob("*.partial"))


def test_a_cohort_is_the_same_every_time_and_may_name_its_classes(tmp_path):
    for name in ("a", "b"):
        write_cohort(tmp_path / name, n_slides=2, shape=(128, 128), classes=("benign", "metastasis"))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert {row["label"] for row in read_csv(tmp_path / "a" / "truth.csv")} == {"benign", "metastasis"}
