"""Table II in one command: on drawn images in the published layout, and what can be said of the real ones at once."""

import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from experiments import breast as table
from experiments.breast import bag_threshold, breast, few_images
from experiments.breast_report import MODELS, auroc_of_cases
from experiments.variants import NETWORKS
from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import ItemFailed, Progress, Task, drain
from napari_distill2label.core.metrics import positive_score
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.presets import build_settings
from napari_distill2label.mil.training import predict_bag
from napari_distill2label.slides.synthetic import draw_slide
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.cohort import SPLITS, Cohort
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset
from napari_distill2label.workflow.commands.train import train

KEY = ["model", "fold", "seed"]
BENIGN_CASE = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seven cases of two benign and one malignant drawn image, named as the set's are; one case is all benign."""
    folder = tmp_path_factory.mktemp("data") / "breast"
    folder.mkdir()
    for case, number in product(range(7), range(3)):
        positive = number == 2 and case != BENIGN_CASE
        name = f"ytma{case:02d}_010203_{'malignant' if positive else 'benign'}{number + 1}_ccd.tif"
        Image.fromarray(draw_slide(10 * case + number, positive, (96, 128)).image).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def done(images, tmp_path_factory):
    """What the quick form leaves of the drawn images; do not write there."""
    out = tmp_path_factory.mktemp("table") / "out"
    assert drain(breast(images.parent, out, quick=True)) == out / "breast.md"
    return out


@pytest.fixture(scope="module")
def cohort(images, tmp_path_factory) -> Cohort:
    return Cohort.read(drain(prepare_dataset("breast", images, tmp_path_factory.mktemp("cohort")))).with_classes()


def test_every_model_of_every_fold_has_its_rows(done, cohort):
    frame = pd.read_csv(done / "results.csv", dtype={"threshold": str}, keep_default_na=False)
    assert set(frame.experiment) == {"breast"}
    assert set(frame.patches) == {"grid"}
    wanted = [(metric, "0.5") for metric in ("accuracy", "f1")] + [(metric, "bags") for metric in ("accuracy", "f1")]
    wanted += [(metric, "") for metric in ("auroc", "auprc", "prevalence", "ece", "n")]
    for model, fold, level in product(MODELS, range(2), ("slide", "patch_against_image_label")):
        own = frame[(frame.model == model) & (frame.fold == fold) & (frame.level == level)]
        assert sorted(zip(own.metric, own.threshold, strict=True)) == sorted(wanted), (model, fold, level)
    assert not any(level == "patch" for level in frame.level)  # no truth of single patches is claimed
    tested = set(frame[(frame.level == "image_score") & (frame.fold == 0)].metric)
    grid = build_settings("breast", "paper").patches
    patches = sum(len(table._bag(cohort[name], cohort.classes, grid)) for name in tested)
    n = frame[(frame.metric == "n") & (frame.model == "mil") & (frame.fold == 0)].set_index("level").value.astype(float)
    assert (n["slide"], n["patch_against_image_label"]) == (len(tested), patches) == (6, patches)


def test_scores_tell_what_the_results_sum_up(done):
    scores = pd.read_csv(done / "scores.csv")
    assert list(scores) == [*KEY, "slide_id", "case_id", "truth", "score"]
    assert (scores.groupby(["model", "seed", "slide_id"]).size() == 1).all()  # tested once
    assert (scores.truth == scores.slide_id.str.contains("malignant")).all()
    assert [case == slide[:13] for case, slide in zip(scores.case_id, scores.slide_id, strict=True)]
    results = pd.read_csv(done / "results.csv", dtype={"threshold": str}, keep_default_na=False)
    results["value"] = results.value.astype(float)
    bags = results[results.level == "slide"].set_index([*KEY, "metric", "threshold"]).value
    chosen = results[results.level == "valid"].set_index([*KEY, "metric"]).value
    for key, own in scores.groupby(KEY):
        assert bags[(*key, "auroc", "")] == pytest.approx(roc_auc_score(own.truth, own.score), abs=1e-5)
        assert chosen[(*key, "epoch")] == 1


def test_the_tables_keep_the_paper_s_figures_apart(done):
    text = (done / "breast.md").read_text("utf-8")
    ours, published = text.split("## The paper's figures")
    assert "| Teacher | .59 | .56 | .71 |" in published
    assert "no complete truth per cell" in " ".join(ours.split())
    assert "not the instance metric of the paper's Table II" in ours
    assert "Validation is 1 case a fold" in ours
    assert "trainings are missing" not in ours
    lines = ours.splitlines()
    for heading in ("## Images", "## Patches against"):
        start = next(i for i, line in enumerate(lines) if line.startswith(heading))
        head = next(i for i, line in enumerate(lines[start:], start) if line.startswith("| Fold |"))
        assert [line.split(" | ")[0] for line in lines[head + 2 : head + 5]] == ["| 0", "| 1", "| Average"]
        fold_0, fold_1, average = (
            [float(cell) for cell in line.strip("| ").split(" | ")[1:]] for line in lines[head + 2 : head + 5]
        )
        assert np.allclose(average, np.add(fold_0, fold_1) / 2, atol=1e-3)
    with Image.open(done / "breast.png") as picture:
        assert picture.width > picture.height > 300


def test_only_what_is_missing_is_done_again(done, images, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done, out)
    whole = (out / "results.csv").read_text("utf-8")
    lines = whole.splitlines(keepends=True)
    (out / "results.csv").write_text("".join(x for x in lines if not x.startswith("breast,mil,grid,1,")), "utf-8")
    events = []
    drain(breast(images, out, quick=True), events.append)
    trained = {(e.task, e.item, e.epoch) for e in events if isinstance(e, Progress) and e.epoch is not None}
    assert trained == {(Task.TRAIN, "baseline", 1), (Task.VALIDATE, "baseline", 1)}
    assert sorted((out / "results.csv").read_text("utf-8").splitlines()) == sorted(whole.splitlines())
    assert (out / "breast.md").read_text("utf-8") == (done / "breast.md").read_text("utf-8")


def test_results_of_other_folds_are_not_mixed(done, images, tmp_path):
    shutil.copytree(done, tmp_path / "out")
    with pytest.raises(SettingsError, match="other folds, quick"):
        drain(breast(images, tmp_path / "out", folds=3))


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(CohortError, match="UCSB"):
        drain(breast(tmp_path, tmp_path / "out", quick=True))


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_invented(images, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(images, data)
    next(data.glob("ytma00*benign1*")).write_bytes(b"II*\0")
    events = []
    with pytest.raises(SettingsError, match="no fold could be done"):
        drain(breast(data, tmp_path / "out", quick=True), events.append)
    assert all("ytma00_010203_benign1" in str(event.error) for event in events if isinstance(event, ItemFailed))
    assert sum(isinstance(event, ItemFailed) for event in events) == 4
    assert not (tmp_path / "out" / "breast.md").exists()


def test_scores_are_those_of_the_models_that_train_makes(cohort, tmp_path):
    few = few_images(cohort, 4)
    split = k_folds(few, 2, build_settings().split.model_copy(update={"valid": 0.25}), 0)[0]
    assert {slide.split for slide in split} == set(SPLITS)
    fast = {"epochs": 2, "learning_rate": 1e-3}
    overrides = {
        "architecture": {"hidden_dim": 16, "attention_dim": 8},
        "teacher": fast,
        "student": fast,
        "seed": 5,
        "device": "cpu",
    }
    settings = build_settings("breast", "paper", overrides)
    run = drain(train(split, tmp_path / "run", settings, baseline=True))
    rows = [row for models in table.TOGETHER for row in drain(table._work(split, settings, models, 0))]
    scores = {(row.model, row.metric): row.value for row in rows if row.level == table.IMAGE_SCORE}
    bags = {slide: table._bag(replace(slide, split=None), split.classes, settings.patches) for slide in split}
    for network in MODELS:
        model = load_bundle(run.bundle(NETWORKS[network])).model
        own = {
            name: [positive_score(model.probabilities(predict_bag(model, bags[s]).bag_logits).numpy()) for s in slides]
            for name, slides in ((name, split.in_split(name)) for name in ("valid", "test"))
        }
        assert [scores[network, slide.slide_id] for slide in split.in_split("test")] == pytest.approx(
            own["test"], abs=1e-6
        )
        values = {(row.level, row.metric, row.threshold): row.value for row in rows if row.model == network}
        truth = {name: [slide.label == "malignant" for slide in split.in_split(name)] for name in own}
        threshold = bag_threshold(np.array(truth["valid"]), np.array(own["valid"]))
        assert values["valid", "threshold", ""] == pytest.approx(threshold, abs=1e-6)
        assert values["slide", "f1", "bags"] == pytest.approx(
            f1_score(truth["test"], np.array(own["test"]) >= threshold)
        )
    assert len(scores) == 3 * len(split.in_split("test"))


def test_few_images_are_of_whole_cases_and_all_labels(cohort):
    few = few_images(cohort, 4)
    assert [slide.case_id for slide in few] == [f"ytma{case:02d}_010203" for case in (0, 0, 1, 1, 2, 2, 4, 4)]
    assert [slide.label for slide in few] == ["benign", "malignant"] * 4


def test_the_threshold_is_youden_s_and_stays_where_nothing_is_gained():
    truth = np.array([False, False, True, True])
    assert bag_threshold(truth, np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.25)
    assert bag_threshold(truth, np.array([0.1, 0.3, 0.8, 0.9])) == 0.5
    assert bag_threshold(truth, np.array([0.6, 0.9, 0.7, 0.8])) == pytest.approx(0.65)  # J = ½, nearest to 0.5
    assert bag_threshold(truth, np.full(4, 0.9)) == 0.5
    assert bag_threshold(np.array([False, False]), np.array([0.7, 0.9])) == 0.5
    assert bag_threshold(np.empty(0, bool), np.empty(0)) == 0.5


def test_auroc_of_resampled_cases_is_that_of_repeated_images():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {"case_id": np.repeat(list("abcd"), 6), "truth": np.tile([0, 0, 1], 8), "score": rng.integers(0, 9, 24) / 9}
    )
    both = pd.concat([scores.assign(seed=0), scores.assign(seed=1, score=rng.random(24))])
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 4, 0, 0]])
    expected = [
        np.mean(
            [
                roc_auc_score(drawn.truth, drawn.score)
                for _, own in both.groupby("seed")
                for drawn in [own.loc[own.index.repeat(np.repeat(count, 6))]]
            ]
        )
        for count in counts
    ]
    assert np.allclose(auroc_of_cases(both, counts), expected)
    assert np.isnan(auroc_of_cases(scores.assign(seed=0, truth=scores.case_id == "a"), counts)[2])  # no positive one


def test_five_folds_of_the_real_images(data_dir, tmp_path):
    """Cases stay whole, every image is tested once, and one case validates."""
    events = []
    path = drain(prepare_dataset("breast", data_dir, tmp_path), events.append)
    assert any("No complete ground truth" in str(event) for event in events if isinstance(event, Notice))
    cohort = Cohort.read(path).with_classes()
    assert cohort.classes == ("benign", "malignant")
    splits = k_folds(cohort, 5, build_settings("breast", "paper").split, table.FOLD_SEED)
    tested = [slide.slide_id for split in splits for slide in split.in_split("test")]
    assert sorted(tested) == sorted(slide.slide_id for slide in cohort)
    for split in splits:
        split.check_splits()
        assert len({slide.case_id for slide in split.in_split("valid")}) == 1
        assert len({slide.label for slide in split.in_split("train")}) == 2
    few = few_images(cohort)
    assert len(few) == 12
    assert len(k_folds(few, 2, build_settings("breast", "paper").split, table.FOLD_SEED)) == 2
