"""Table I: on drawn images in the published layout, and, where they are at hand, on the real ones."""

import csv
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.__main__ import main
from experiments.colon import QUICK, _measure, _rescaled, _work, colon, read_bags
from experiments.colon_images import Source
from experiments.results import Key
from experiments.training import Answers, trained_here
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset

from .conftest import EMPTY


@pytest.fixture(scope="session")
def published(publish_set, tmp_path_factory):
    """Drawn images in the published layout."""
    root = tmp_path_factory.mktemp("crchisto")
    publish_set(root, np.random.default_rng(0))
    return root


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_the_quick_form_from_the_command_line(published, tmp_path, capsys):
    arguments = ["colon", "--data", str(published), "-o", str(tmp_path), "--quick"]
    assert main(arguments) == 0
    written = rows(tmp_path)
    assert {row["model"] for row in written} == {
        "mil", "teacher", "student", "mil-attention", "teacher-attention", "recommended-teacher", "recommended",
        "supervised",
    }  # fmt: skip
    assert {row["patches"] for row in written} == {"grid", "nucleus"}
    assert {row["fold"] for row in written} == {"0", "1"}
    levels = {row["level"] for row in written if row["patches"] == "grid"}
    assert levels >= {"slide", "patch", "patch_nuclei", "patch_positive_slides", "patch_mean_over_slides"}
    assert "patch_nuclei" not in {row["level"] for row in written if row["patches"] == "nucleus"}
    report = capsys.readouterr().out
    assert "## On the 18 × 18 grid" in report
    assert "VAT makes the teacher better than plain MIL" in report
    assert report.rstrip() == (tmp_path / "colon.md").read_text().rstrip()
    for picture in ("figure3.png", "reliability.png"):
        with Image.open(tmp_path / picture) as image:
            assert image.width > 600
    # What is there is not done again, and another row is added to it.
    before = len(written)
    assert main([*arguments, "--rows", "paper,recommended,supervised,max"]) == 0
    again = rows(tmp_path)
    assert again[:before] == written
    assert {row["model"] for row in again[before:]} == {"mil-max"}


@pytest.fixture
def fold(published, tmp_path):
    """The first of two folds, its tables in `tmp_path`."""
    drain(prepare_dataset("colon", published, tmp_path))
    return k_folds(Cohort.read(tmp_path / "cohort.csv").with_classes(), 2, SplitSettings(), 0)[0]


def test_the_truth_reaches_no_bag_no_training_and_no_choice(fold, tmp_path):
    """A row made with the truth, and with one that has no positive patch: only what is held against it differs."""
    other = tmp_path / "other"
    shutil.copytree(tmp_path, other)
    head, *lines = (other / "truth.csv").read_text().splitlines()
    (other / "truth.csv").write_text("\n".join([head, *(line.rsplit(",", 1)[0] + ",fibroblast" for line in lines)]))
    made = []
    for folder in (tmp_path, other):
        trained_here.forget()
        made.append(drain(_work(Source(fold, "nucleus", folder), "recommended", 0, 0, QUICK)))
    scores = [
        np.load(io.BytesIO(outcome.files["scores/nucleus-recommended-0-0.npz"]), allow_pickle=False) for outcome in made
    ]
    assert (scores[0]["truth"] > 0).any()
    assert not (scores[1]["truth"] > 0).any()
    assert np.array_equal(scores[0]["score"], scores[1]["score"])
    for level in ("slide", "slides", "valid"):
        rows = [[row for row in outcome.rows if row.level == level] for outcome in made]
        assert rows[0] == rows[1] != []
    assert [row for row in made[0].rows if row.level == "patch"] != [
        row for row in made[1].rows if row.level == "patch"
    ]


def test_an_image_without_a_nucleus_is_left_out_where_patches_are_centred_on_them(fold, tmp_path):
    found = {}
    for kind in ("grid", "nucleus"):
        bags, truth = drain(read_bags(Source(fold, kind, tmp_path)))
        found[kind] = {bag.slide_id for own in bags.values() for bag in own}
        assert truth.keys() == found[kind]
    assert found["grid"] - found["nucleus"] == {f"img{EMPTY}"}


def test_what_is_measured_where(fold, tmp_path):
    bags, truth = drain(read_bags(Source(fold, "grid", tmp_path)))
    test = bags["test"]
    perfect = Answers(
        np.array([float(bag.label != (0,)) for bag in test]),
        [(truth[bag.slide_id] > 0).astype(float) for bag in test],
        [np.ones(len(bag)) for bag in test],
    )
    measured = _measure(Key("colon", "mil", "grid", 0, 0), perfect, test, truth, 0.5, "grid")
    assert {row.value for row in measured if row.metric in ("accuracy", "f1", "auroc")} == {1.0}
    n = {row.level: row.value for row in measured if row.metric == "n"}
    assert n["patch"] == 25 * len(test)
    assert n["patch_nuclei"] == sum((truth[bag.slide_id] >= 0).sum() for bag in test) < n["patch"]
    assert n["patch_positive_slides"] == 25 * sum(bag.label != (0,) for bag in test)
    assert n["slide"] == len(test)


def test_attention_is_drawn_from_least_to_most():
    assert _rescaled(np.array([0.1, 0.3, 0.2])).tolist() == pytest.approx([0, 1, 0.5])
    assert _rescaled(np.array([0.5, 0.5])).tolist() == [1, 1]


@pytest.mark.parametrize(("name", "value"), [("rows", ["paper", "magic"]), ("patches", ["cells"])])
def test_unknown_rows_and_patches_are_named(published, tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"unknown {name} '{value[-1]}': choose of"):
        drain(colon(published, tmp_path, **{name: value}))


@pytest.mark.long
def test_real_images(data_dir, tmp_path, capsys):
    arguments = ["colon", "--data", str(data_dir / "colon"), "-o", str(tmp_path), "--quick"]
    assert main([*arguments, "--patches", "nucleus", "--rows", "recommended"]) == 0
    assert {row["model"] for row in rows(tmp_path)} == {"recommended", "recommended-teacher"}


def test_an_option_that_an_experiment_has_no_use_for_is_refused(tmp_path, capsys):
    assert main(["breast", "--data", str(tmp_path), "-o", str(tmp_path / "out"), "--rows", "paper"]) == 2
    assert capsys.readouterr().err == "python -m experiments: experiment breast: has no --rows\n"
    assert not (tmp_path / "out").exists()


def test_no_file_of_others_is_changed(published, tmp_path, capsys):
    theirs = {name: f"mine: {name}" for name in ("results.csv", "experiment.json", "colon.md", "notes.txt")}
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    assert main(["colon", "--data", str(published), "-o", str(tmp_path), "--quick"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs
