"""Four kinds of nuclei from their presence in fields: on drawn images in the published layout, and on real ones."""

import csv
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from experiments.colon_images import Source
from experiments.fields import (
    CLASSES,
    PATCHES,
    ROWS,
    confusion,
    cut_fields,
    field_of,
    fields,
    measure_fields,
    measure_patches,
    probabilities_of_all,
    read_fields,
    train_ceiling,
    train_on_presence,
)
from experiments.results import Key
from napari_distill2label.core.bag import Bag
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.events import Task, drain
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import SPLITS, Cohort
from napari_distill2label.store.splits import k_folds
from napari_distill2label.workflow.commands.prepare_dataset import COLON_KINDS, prepare_dataset

KEY = Key("fields", "mil", "nucleus", 0, 0)
MODELS = [name for names in ROWS.values() for name in names]
COUNT, EMPTY, SIDE = 12, 4, 135  # images; the number of one without any nucleus; px, of which a field has 45
COLOURS = np.array([(90, 40, 120), (220, 120, 140), (40, 60, 200), (200, 200, 90)])


@pytest.fixture(scope="module")
def published(publish, tmp_path_factory):
    """Every other image has epithelial nuclei; a kind has its colour."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("crchisto")
    for number in range(1, COUNT + 1):
        pixels, nuclei = rng.integers(150, 255, (SIDE, SIDE, 3), dtype=np.uint8), {}
        for kind, (name, colour) in enumerate(zip(COLON_KINDS, COLOURS, strict=True)):
            count = 0 if number == EMPTY or (kind == 0 and number % 2 == 0) else 6 + kind
            nuclei[name] = rng.integers(5, SIDE - 5, (count, 2))
            for x, y in nuclei[name]:
                pixels[y - 4 : y + 5, x - 4 : x + 5] = colour
        publish(root, number, pixels, nuclei)
    return root


@pytest.fixture(scope="module")
def done(published, tmp_path_factory):
    """What the quick form leaves of the drawn images; do not write there."""
    out = tmp_path_factory.mktemp("quick") / "out"
    assert drain(fields(published, out, quick=True)) == out / "fields.md"
    return out


def results(folder):
    frame = pd.read_csv(folder / "results.csv", dtype={"threshold": str}, keep_default_na=False)
    return frame.astype({"value": float})


def fold_of(published, folder):
    cohort = Cohort.read(drain(prepare_dataset("colon", published, folder))).with_classes()
    return k_folds(cohort, 2, SplitSettings(), 0)[0]


def patches_of(kinds, rng):
    """(K, 3, 27, 27) uint8: noisy patches in the colours of their `kinds` (1 to 4)."""
    noise = rng.integers(-40, 41, (len(kinds), 3, 27, 27))
    return (COLOURS[np.asarray(kinds) - 1][:, :, None, None] + noise).clip(0, 255).astype(np.uint8)


def coloured_fields(seed, each=8):
    """Fields of two kinds with four patches each, every pair of kinds `each` times; and their truth."""
    rng = np.random.default_rng(seed)
    bags, truth = [], {}
    for pair in combinations(range(1, 5), 2):
        for number in range(each):
            name, kinds = f"{pair}-{number}", np.repeat(pair, 4)
            bags.append(Bag(name, patches_of(kinds, rng), np.zeros((8, 2), np.int64), pair))
            truth[name] = kinds
    return bags, truth


def test_an_image_has_nine_fields_of_a_third_of_its_sides():
    centres = np.array([(0, 0), (166, 166), (167, 166), (166, 167), (333, 499), (334, 0), (499, 499)])
    assert field_of(centres, (500, 500)).tolist() == [0, 0, 3, 1, 5, 6, 8]
    assert field_of(np.array([(29, 89), (10, 30)]), (30, 90)).tolist() == [8, 4]


def test_a_field_is_a_bag_of_the_kinds_in_it():
    rng = np.random.default_rng(0)
    kinds, field = np.array([1, 3, 3, 4, 3]), np.array([7, 0, 7, 7, 0])
    whole = Bag("img1", patches_of(kinds, rng), np.arange(10).reshape(5, 2), (1,))
    bags, truth = cut_fields(whole, field, kinds)
    assert [(bag.slide_id, bag.label) for bag in bags] == [("img1-field0", (3,)), ("img1-field7", (1, 3, 4))]
    assert {name: own.tolist() for name, own in truth.items()} == {"img1-field0": [3, 3], "img1-field7": [1, 3, 4]}
    for bag, of_field in zip(bags, ([1, 4], [0, 2, 3]), strict=True):
        assert np.array_equal(bag.instances, whole.instances[of_field])
        assert np.array_equal(bag.coordinates, whole.coordinates[of_field])
        assert bag.patch_labels is None


def test_fields_of_an_image_are_in_one_split_and_images_without_a_nucleus_in_none(published, tmp_path):
    split = fold_of(published, tmp_path)
    bags, truth = drain(read_fields(Source(split, PATCHES, tmp_path)))
    images = {name: {bag.slide_id.rsplit("-", 1)[0] for bag in bags[name]} for name in SPLITS}
    assert all(images.values())
    assert all(not images[one] & images[other] for one, other in combinations(SPLITS, 2))
    assert set.union(*images.values()) == {f"img{number}" for number in range(1, COUNT + 1) if number != EMPTY}
    assert images["test"] == {slide.slide_id for slide in split.in_split("test")} - {f"img{EMPTY}"}
    with (tmp_path / "truth.csv").open(newline="") as file:
        assert sum(map(len, truth.values())) == len(list(csv.DictReader(file)))
    assert {0} & {c for own in bags.values() for bag in own for c in bag.label} == set()


def test_which_nucleus_is_which_reaches_no_bag(published, tmp_path):
    """The kinds of a field dealt otherwise to its nuclei: the same bags, another truth."""
    read = []
    for name in ("one", "other"):
        split = fold_of(published, tmp_path / name)
        if name == "other":
            table = pd.read_csv(tmp_path / name / "truth.csv")
            field = field_of(table[["y", "x"]].to_numpy().astype(int), (SIDE, SIDE))
            table["label"] = table.groupby([table.slide_id, field]).label.transform(
                lambda kinds: kinds.to_numpy()[::-1]
            )
            table.to_csv(tmp_path / name / "truth.csv", index=False)
        read.append(drain(read_fields(Source(split, PATCHES, tmp_path / name))))
    (bags, truth), (same, other) = read
    for name in SPLITS:
        for bag, twin in zip(bags[name], same[name], strict=True):
            assert (bag.slide_id, bag.label, bag.patch_labels) == (twin.slide_id, twin.label, None)
            assert np.array_equal(bag.instances, twin.instances)
    assert any((truth[name] != other[name]).any() for name in truth)


def test_measures_of_patches():
    kinds = np.array([1, 1, 2, 3, 4, 2])
    probability = np.random.default_rng(1).random((6, len(CLASSES)))
    measured = {row.metric: row for row in measure_patches(KEY, kinds, probability)}
    assert {row.level for row in measured.values()} == {"patch"}
    for c in range(1, 5):
        expected = roc_auc_score(kinds == c, probability[:, c])
        assert measured[f"auroc_{CLASSES[c]}"].value == pytest.approx(expected)
        assert measured[f"prevalence_{CLASSES[c]}"].value == pytest.approx((kinds == c).mean())
    mean = np.mean([measured[f"auroc_{kind}"].value for kind in COLON_KINDS])
    assert (measured["auroc"].value, measured["n"].value) == pytest.approx((mean, 6))
    # Two of six are called right: one of kind 1 (F1 2 / 3) and one of kind 2 (F1 2 / 5); kinds 3 and 4 never.
    called = np.eye(len(CLASSES))[[1, 3, 2, 2, 2, 3]]
    called[:, 0] = 2  # what is no finding takes no part
    called = {row.metric: row for row in measure_patches(KEY, kinds, called)}
    assert (called["accuracy"].value, called["accuracy"].threshold) == (pytest.approx(2 / 6), "")
    assert called["f1"].value == pytest.approx((2 / 3 + 2 / 5) / 4)


def test_a_kind_that_is_not_there_has_no_auroc_and_the_mean_is_not_of_fewer():
    measured = {row.metric for row in measure_patches(KEY, np.array([1, 2, 3]), np.ones((3, len(CLASSES))))}
    assert {"auroc_epithelial", "auroc_inflammatory", "accuracy"} <= measured
    assert not {"auroc_others", "auroc"} & measured


def test_measures_of_fields():
    bags, _ = coloured_fields(0, each=1)
    probability = np.stack([bag.target(len(CLASSES)) for bag in bags])
    measured = {row.metric: row.value for row in measure_fields(KEY, bags, probability)}
    assert {measured[f"auroc_{kind}"] for kind in COLON_KINDS} | {measured["auroc"]} == {1.0}
    assert {measured[f"prevalence_{kind}"] for kind in COLON_KINDS} == {0.5}
    assert measured["n"] == 6
    assert "accuracy" not in measured


@pytest.mark.parametrize("row", [pytest.param("recommended", marks=pytest.mark.long), "supervised"])
def test_four_colours_are_told_apart(row):
    train, truth = coloured_fields(0)
    test, known = coloured_fields(1, each=2)
    # The patches lie anywhere: their neighbours say nothing of them.
    layers = {"teacher": {"epochs": 4}, "oof": {"smoothing_neighbours": 0, "epochs": 10}, "student": {"epochs": 12}}
    if row == "recommended":
        said = []
        trained = drain(train_on_presence(train, (), row, 0, layers), said.append)
        assert not [item for item in said if isinstance(item, Notice)]  # every part has all pairs of kinds
    else:
        trained = drain(train_ceiling(train, truth, 0, layers))
    assert tuple(trained) == ROWS[row]
    of_bag, of_patch = drain(probabilities_of_all(trained[row], test))
    assert (of_bag.shape, of_patch.shape) == ((12, 5), (96, 5))
    assert np.allclose(of_patch.sum(1), 1) == (row == "supervised")
    kinds = np.concatenate([known[bag.slide_id] for bag in test])
    measured = {row.metric: row.value for row in measure_patches(KEY, kinds, of_patch)}
    assert min(measured[f"auroc_{kind}"] for kind in COLON_KINDS) > 0.9
    assert of_patch[:, 0].max() < 0.5


@pytest.mark.long
def test_every_model_of_every_fold_has_its_rows(done):
    frame = results(done)
    assert set(frame.experiment) == {"fields"}
    assert set(frame.patches) == {"nucleus"}
    assert set(frame.threshold) == {""}
    for model in MODELS:
        for fold in range(2):
            own = frame[(frame.model == model) & (frame.fold == fold)]
            levels = own.groupby("level").metric.agg(set)
            assert {"accuracy", "f1", "n", *(f"auroc_{kind}" for kind in COLON_KINDS[1:])} <= levels["patch"]
            assert ("slide" in levels) == (model != "supervised")
            with np.load(done / f"scores/nucleus-{model}-{fold}-0.npz", allow_pickle=False) as scores:
                n = own[(own.level == "patch") & (own.metric == "n")].value.item()
                assert scores["probability"].shape == (n, len(CLASSES))
                kinds, score = scores["truth"], scores["probability"]
                assert all(name.rsplit("-", 1)[1].startswith("field") for name in scores["field"])
            expected = roc_auc_score(kinds == 2, score[:, 2])
            assert own[(own.level == "patch") & (own.metric == "auroc_fibroblast")].value.item() == pytest.approx(
                expected, abs=1e-4
            )


@pytest.mark.long
def test_table_and_figure(done):
    text = (done / "fields.md").read_text("utf-8")
    patches, rest = text.split("Single patches, paired")
    gains, whole = rest.split("Fields (level `slide`)")
    assert [line.split(" | ")[0].strip("| ") for line in patches.splitlines() if line.startswith("| ")][1:] == [
        *MODELS,
        "share of patches",
    ]
    assert "| supervised" not in whole
    frame = results(done)
    accuracy = frame[(frame.level == "patch") & (frame.metric == "accuracy")].groupby("model").value.mean()
    row = next(line for line in gains.splitlines() if line.startswith("| supervised − recommended |"))
    gained = row.split(" | ")[2].split(" [")[0].replace("−", "-")
    assert float(gained) == pytest.approx(accuracy["supervised"] - accuracy["recommended"], abs=6e-4)
    n = frame[(frame.metric == "n") & (frame.model == "mil")].groupby("level").value.sum()
    assert f"{n['slide']:.0f} fields with {n['patch']:.0f} patches" in text
    with Image.open(done / "fields.png") as image:
        assert image.width > 1000
    shares = confusion(sorted((done / "scores").glob("nucleus-recommended-*")))
    assert shares.sum(1) == pytest.approx(np.ones(4))


@pytest.mark.long
def test_what_is_done_is_not_done_again(done, published):
    before = (done / "results.csv").read_bytes()
    said = []
    drain(fields(published, done, quick=True), said.append)
    assert (done / "results.csv").read_bytes() == before
    assert said
    assert not [event for event in said if getattr(event, "task", None) is Task.TRAIN]
    with pytest.raises(SettingsError, match=r"holds an experiment with other .*folds"):
        drain(fields(published, done, folds=3))


def test_real_images(data_dir, tmp_path):
    """Kinds are in .47 (epithelial) to .73 (inflammatory) of the fields."""
    cohort = Cohort.read(drain(prepare_dataset("colon", data_dir / "colon", tmp_path / "all"))).with_classes()
    split = k_folds(cohort, 5, SplitSettings(), 0)[0]
    bags, _ = drain(read_fields(Source(split, PATCHES, tmp_path / "all")))
    present = np.mean([bag.target(len(CLASSES)) for own in bags.values() for bag in own], 0)
    assert present == pytest.approx([0, 0.47, 0.65, 0.73, 0.50], abs=0.03)
