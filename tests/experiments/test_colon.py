"""Table I: on drawn images in the published layout, and, where they are at hand, on the real ones."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from napari_distill2label.cli import main
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.experiments.colon import Source, _measure, _rescaled, colon
from napari_distill2label.experiments.results import Key
from napari_distill2label.experiments.training import Answers
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.workflow.dataset import COLON_KINDS, dataset

SIDE, COUNT = 135, 12  # 5 × 5 patches of 27 px


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Images in the layout of CRCHistoPhenotypes; every other one has dark epithelial nuclei."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("crchisto")
    for number in range(1, COUNT + 1):
        folder = root / "Classification" / f"img{number}"
        folder.mkdir(parents=True)
        pixels = rng.integers(150, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        kinds = {kind: np.empty((0, 2)) for kind in COLON_KINDS}
        kinds["fibroblast"] = rng.uniform(14, SIDE - 14, (12, 2))
        if number % 2:
            kinds["epithelial"] = rng.uniform(14, SIDE - 14, (10, 2))
            for x, y in kinds["epithelial"].astype(int):
                pixels[y - 5 : y + 5, x - 5 : x + 5] //= 3
        Image.fromarray(pixels).save(folder / f"img{number}.bmp")
        for kind, points in kinds.items():
            savemat(folder / f"img{number}_{kind}.mat", {"detection": points + 1})
    return root


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_quick_form_from_the_command_line(published, tmp_path, capsys):
    arguments = ["experiment", "colon", "--data", str(published), "-o", str(tmp_path), "--quick"]
    assert main(arguments) == 0
    written = rows(tmp_path)
    assert {row["model"] for row in written} == {
        "mil", "teacher", "student", "mil-attention", "teacher-attention", "default-teacher", "default", "supervised",
    }  # fmt: skip
    assert {row["patches"] for row in written} == {"grid", "nucleus"}
    assert {row["fold"] for row in written} == {"0", "1"}
    levels = {row["level"] for row in written if row["patches"] == "grid"}
    assert levels >= {"bag", "instance", "instance_nuclei", "instance_positive_slides", "instance_per_slide"}
    assert "instance_nuclei" not in {row["level"] for row in written if row["patches"] == "nucleus"}
    report = capsys.readouterr().out
    assert "## On the 18 × 18 grid" in report
    assert "VAT makes the teacher better than plain MIL" in report
    assert report.rstrip() == (tmp_path / "colon.md").read_text().rstrip()
    for picture in ("figure3.png", "reliability.png"):
        with Image.open(tmp_path / picture) as image:
            assert image.width > 600
    # What is there is not done again, and another row is added to it.
    before = len(written)
    assert main([*arguments, "--rows", "paper,default,supervised,max"]) == 0
    again = rows(tmp_path)
    assert again[:before] == written
    assert {row["model"] for row in again[before:]} == {"mil-max"}


def test_the_truth_reaches_no_bag_and_no_choice(published, tmp_path):
    """The same rows from the same images with another truth: only what is measured differs."""
    for name in ("one", "other"):
        drain(dataset("colon", published, tmp_path / name))
    cohort = Cohort.read(tmp_path / "one/cohort.csv").with_classes()
    split = cohort.with_slides([*cohort][:0])
    assert len(split) == 0
    truth = tmp_path / "other/truth.csv"
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join([lines[0], *(line.rsplit(",", 1)[0] + ",fibroblast" for line in lines[1:])]))
    from napari_distill2label.core.settings import SplitSettings
    from napari_distill2label.store.splits import k_folds

    fold = k_folds(cohort, 2, SplitSettings(), 0)[0]
    one, other = (drain(Source(fold, "nucleus", tmp_path / name).read()) for name in ("one", "other"))
    for split_name, bags in one[0].items():
        for bag, same in zip(bags, other[0][split_name], strict=True):
            assert bag.label == same.label
            assert np.array_equal(bag.instances, same.instances)
    assert any((known > 0).any() for known in one[1].values())
    assert not any((known > 0).any() for known in other[1].values())


def test_what_is_measured_where(published, tmp_path):
    drain(dataset("colon", published, tmp_path))
    cohort = Cohort.read(tmp_path / "cohort.csv").with_classes()
    from napari_distill2label.core.settings import SplitSettings
    from napari_distill2label.store.splits import k_folds

    fold = k_folds(cohort, 2, SplitSettings(), 0)[0]
    bags, truth = drain(Source(fold, "grid", tmp_path).read())
    test = bags["test"]
    perfect = Answers(
        np.array([float(bag.label != (0,)) for bag in test]),
        [(truth[bag.slide_id] > 0).astype(float) for bag in test],
        [np.ones(len(bag)) for bag in test],
    )
    measured = _measure(Key("colon", "mil", "grid", 0, 0), perfect, test, truth, 0.5, "grid")
    assert {row.value for row in measured if row.metric in ("accuracy", "f1", "auroc")} == {1.0}
    n = {row.level: row.value for row in measured if row.metric == "n"}
    assert n["instance"] == 25 * len(test)
    assert n["instance_nuclei"] == sum((truth[bag.slide_id] >= 0).sum() for bag in test) < n["instance"]
    assert n["instance_positive_slides"] == 25 * sum(bag.label != (0,) for bag in test)
    assert n["bag"] == len(test)


def test_attention_is_drawn_from_least_to_most():
    assert _rescaled(np.array([0.1, 0.3, 0.2])).tolist() == pytest.approx([0, 1, 0.5])
    assert _rescaled(np.array([0.5, 0.5])).tolist() == [1, 1]


@pytest.mark.parametrize(("name", "value"), [("rows", ["paper", "magic"]), ("patches", ["cells"])])
def test_unknown_rows_and_patches_are_named(published, tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"unknown {name} '{value[-1]}': choose of"):
        drain(colon(published, tmp_path, **{name: value}))


def test_real_images(data_dir, tmp_path, capsys):
    arguments = ["experiment", "colon", "--data", str(data_dir / "colon"), "-o", str(tmp_path), "--quick"]
    assert main([*arguments, "--patches", "nucleus", "--rows", "default"]) == 0
    assert {row["model"] for row in rows(tmp_path)} == {"default", "default-teacher"}
