import gzip
import struct
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import mnist as figure2
from experiments.mnist import Protocol, bag_scores, mnist, report, teacher_settings, train_model
from experiments.mnist_data import (
    FILES,
    IMAGES_MAGIC,
    LABELS_MAGIC,
    Digits,
    draw_bags,
    find_digits,
    read_digits,
    read_idx,
)
from experiments.results import HEADER
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.events import Progress, Task, drain
from napari_distill2label.mil.losses import TeacherLoss
from napari_distill2label.mil.training import predict_bag

TINY = Protocol((3, 6), (6, 102), 3, (6,), test_bags=30, epochs=2, seeds=2)
ONE_CELL = replace(TINY, mean_sizes=(3,), bag_counts=(6,))


def idx(magic: int, values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}i", magic, *values.shape) + values.astype(np.uint8).tobytes()


def write_digits(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    images_name, labels_name = FILES[part]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / images_name).write_bytes(gzip.compress(idx(IMAGES_MAGIC, images), 1))
    (folder / labels_name).write_bytes(gzip.compress(idx(LABELS_MAGIC, labels), 1))


def coded(count: int) -> Digits:
    """Every image is filled with its digit, so that a bag tells what it was drawn from; a tenth are nines."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    return Digits(np.repeat(labels, 28 * 28).reshape(count, 28, 28), labels)


def patterns(count: int, seed: int) -> Digits:
    """Noise; a nine has a bright bar, which a network learns within a few steps."""
    digits = coded(count)
    images = np.random.default_rng(seed).integers(0, 60, digits.images.shape).astype(np.uint8)
    images[digits.labels == 9, 10:18] += 190
    return Digits(images, digits.labels)


@pytest.fixture
def folder(tmp_path):
    for seed, (part, count) in enumerate({"train": 400, "test": 200}.items()):
        digits = patterns(count, seed)
        write_digits(tmp_path / "below" / "mnist", part, digits.images, digits.labels)
    return tmp_path


def digits_in(bag):
    return bag.instances[:, 0, 0, 0]


def test_idx_files_are_read(folder):
    found = find_digits(folder)
    assert found == find_digits(found) == folder / "below" / "mnist"
    digits, written = read_digits(found, "test"), patterns(200, 1)
    np.testing.assert_array_equal(digits.images, written.images)
    np.testing.assert_array_equal(digits.labels, written.labels)


def test_axes_are_not_swapped(tmp_path):
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(IMAGES_MAGIC, values)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", IMAGES_MAGIC), values)


LABELS_FILE = idx(LABELS_MAGIC, np.arange(10))
WHOLE = gzip.compress(LABELS_FILE)
DAMAGED = {
    "broken off": (WHOLE[:-12], "cannot be read"),
    "a byte changed": (WHOLE[:-6] + bytes([WHOLE[-6] ^ 1]) + WHOLE[-5:], "cannot be read"),  # of its checksum
    "not compressed": (LABELS_FILE, "cannot be read"),
    "empty": (b"", "is no idx file"),
    "another file": (gzip.compress(idx(IMAGES_MAGIC, np.zeros((1, 2, 2)))), "is no idx file"),
    "two bytes": (gzip.compress(b"\0\0"), "is no idx file"),
    "header alone": (gzip.compress(LABELS_FILE[:6]), "is no idx file"),
    "too short": (gzip.compress(LABELS_FILE[:-1]), "less than"),
    "too long": (gzip.compress(LABELS_FILE + b"0"), "more than"),
    "announces 4 GB": (gzip.compress(struct.pack(">iI", LABELS_MAGIC, 2**32 - 1) + b"0"), "less than"),
}


@pytest.mark.parametrize(("content", "says"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_named(tmp_path, content, says):
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(CohortError, match=says) as error:
        read_idx(path, LABELS_MAGIC)
    assert str(path) in str(error.value)


def test_files_that_do_not_fit_are_named(tmp_path):
    digits = coded(20)
    write_digits(tmp_path, "train", digits.images, digits.labels[:19])
    with pytest.raises(CohortError, match="20 images, but 19 labels"):
        read_digits(tmp_path, "train")
    write_digits(tmp_path, "train", digits.images[:, :27], digits.labels)
    with pytest.raises(CohortError, match="27 × 28 px"):
        read_digits(tmp_path, "train")
    write_digits(tmp_path, "train", digits.images, digits.labels + 1)
    with pytest.raises(CohortError, match="0 to 9"):
        read_digits(tmp_path, "train")


def test_missing_files_are_named(folder, tmp_path):
    for wrong in (folder / "nowhere", tmp_path / "below" / "mnist" / FILES["train"][0]):
        with pytest.raises(CohortError, match="no such folder"):
            find_digits(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="holds no train-images"):
        find_digits(tmp_path / "empty")
    missing = find_digits(folder) / FILES["test"][1]
    missing.unlink()
    with pytest.raises(CohortError, match=f"{missing.name}: no such file"):  # before anything is trained
        drain(mnist(folder, folder / "out", quick=True))


def test_a_bag_is_positive_if_a_nine_is_in_it():
    bags = draw_bags(coded(100), 401, 10, (0,))
    for bag in bags:
        assert bag.label == (int((digits_in(bag) == 9).any()),)
    assert sum(bag.label == (1,) for bag in bags) == 200


def test_bag_sizes_are_normal_with_variance_5_and_say_nothing_of_the_label():
    bags = draw_bags(coded(100), 6000, 20, (1,))
    sizes, positive = np.array([len(bag) for bag in bags]), np.array([bag.label[0] for bag in bags], bool)
    assert sizes.mean() == pytest.approx(20, abs=0.15)
    assert sizes.var() == pytest.approx(5 + 1 / 12, abs=0.5)  # rounding adds 1/12
    assert sizes[positive].mean() == pytest.approx(sizes[~positive].mean(), abs=0.3)
    assert min(len(bag) for bag in draw_bags(coded(100), 300, 1, (2,))) == 1


def test_digits_are_uniform_given_the_label():
    bags = draw_bags(coded(100), 4000, 10, (3,))
    drawn = np.concatenate([digits_in(bag) for bag in bags])
    others = np.bincount(drawn[drawn != 9], minlength=9) / (drawn != 9).sum()
    np.testing.assert_allclose(others, 1 / 9, atol=0.008)
    nines = np.array([(digits_in(bag) == 9).sum() for bag in bags if bag.label == (1,)])
    sizes = np.array([len(bag) for bag in bags if bag.label == (1,)])
    assert nines.mean() == pytest.approx((0.1 * sizes / (1 - 0.9**sizes)).mean(), abs=0.06)  # binomial, given not 0


def test_bags_repeat_by_seed_and_begin_alike():
    digits = patterns(200, 0)
    bags, again, other = (draw_bags(digits, 6, 5, seed) for seed in ((7, 5), (7, 5), (8, 5)))
    assert all(np.array_equal(a.instances, b.instances) for a, b in zip(bags, again, strict=True))
    assert not all(np.array_equal(a.instances, b.instances) for a, b in zip(bags, other, strict=True))
    fewer = draw_bags(digits, 3, 5, (7, 5))  # quick's test bags are the first of the full ones
    assert all(np.array_equal(a.instances, b.instances) for a, b in zip(bags[:3], fewer, strict=True))


def test_bags_of_both_labels_need_both_kinds_of_digits():
    only = coded(100)
    with pytest.raises(CohortError, match="digit 9"):  # and it does not search for ever
        draw_bags(Digits(only.images, np.zeros_like(only.labels)), 2, 3, (0,))


def test_each_model_has_its_terms():
    terms = {
        "mil": {"class"},
        "vat": {"class", "noise", "perturbation", "entropy"},
        "vat_noise": {"class", "noise"},
        "vat_ball": {"class", "perturbation"},
        "vat_entropy": {"class", "entropy"},
    }
    assert set(figure2.PAPER.models(10, 50)) == set(terms)
    assert figure2.PAPER.models(20, 50) == figure2.PAPER.models(10, 200) == ("mil", "vat")
    full = teacher_settings("vat", 3)
    for model, expected in terms.items():
        settings = teacher_settings(model, 3)
        weights = TeacherLoss(settings).weights
        assert set(weights) == expected
        assert weights == {name: TeacherLoss(full).weights[name] for name in expected}
        assert (settings.optimiser, settings.keep_epoch, settings.epochs) == ("rmsprop", "last", 3)


def test_the_models_of_a_seed_start_alike():
    bags = draw_bags(patterns(200, 0), 4, 3, (0,))
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}

    def weights(model, seed):
        return drain(train_model(bags, teacher_settings(model, 1).model_copy(update=still), seed, "")).state_dict()

    mil, vat, other = weights("mil", 0), weights("vat", 0), weights("mil", 1)
    for name, value in mil.items():
        torch.testing.assert_close(value, vat[name], atol=1e-8, rtol=0)
    assert not torch.allclose(mil["head.weight"], other["head.weight"], atol=1e-3)


def test_bags_are_scored_as_each_alone_and_the_network_has_learnt():
    train, test = draw_bags(patterns(400, 0), 30, 4, (0,)), draw_bags(patterns(400, 1), 60, 4, (1,))
    model = drain(train_model(train, teacher_settings("vat", 8), 0, ""))
    scores = drain(bag_scores(model, test))
    alone = [model.probabilities(predict_bag(model, bag).bag_logits)[1].item() for bag in test]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    positive = np.array([bag.label == (1,) for bag in test])
    assert scores[positive].min() > scores[~positive].max()


@pytest.mark.long
def test_the_whole_experiment_and_going_on_with_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "QUICK", TINY)
    out = tmp_path / "out"
    path = drain(mnist(folder, out, quick=True))
    frame = pd.read_csv(out / "results.csv")
    assert tuple(frame.columns) == HEADER
    assert set(frame.level) == {"slide"}
    assert set(frame.fold) == {0}
    assert {"accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "n"} == set(frame.metric)
    assert set(frame.value[frame.metric == "n"]) == {TINY.test_bags}
    seeds = frame.groupby(["patches", "model"]).seed.agg(lambda seed: sorted(set(seed))).to_dict()
    assert {patches for patches, _ in seeds} == {"K3-N6", "K6-N6", "K3-N102", "K6-N102"}
    assert {model for patches, model in seeds if patches == "K3-N6"} == {"mil", "vat", *figure2.SINGLE_TERMS}
    assert {model for patches, model in seeds if patches == "K6-N6"} == {"mil", "vat"}
    assert all(found == ([0, 1] if patches.endswith("N6") else [0]) for (patches, _), found in seeds.items())
    assert (out / "figure2.png").read_bytes().startswith(b"\x89PNG")
    assert path == out / "mnist.md"
    assert "| 6 | 102 |" in path.read_text("utf-8")

    before = (out / "results.csv").read_text()
    events = []
    drain(mnist(folder, out, quick=True, seeds=3), events.append)
    after = (out / "results.csv").read_text()
    assert after.startswith(before)
    added = pd.read_csv(out / "results.csv").iloc[len(frame) :]
    assert set(added.seed) == {2}
    assert set(added.patches) == {"K3-N6", "K6-N6"}
    trained = [event.item for event in events if isinstance(event, Progress) and event.task is Task.TRAIN]
    assert trained
    assert not any("seed 0" in item or "seed 1" in item for item in trained)


def test_tasks_travel_to_workers_and_repeat_there(folder):
    tasks = figure2._tasks(find_digits(folder), ONE_CELL, 2)
    here, there = (drain(task.work()) for task in (tasks[1], ForkingPickler.loads(ForkingPickler.dumps(tasks[1]))))
    assert {row.key for row in here} == set(tasks[1].keys)
    assert [row.key for row in here] == [row.key for row in there]
    np.testing.assert_allclose([row.value for row in here], [row.value for row in there], atol=1e-3)


def test_the_report_pairs_by_seed():
    rows = {  # seed 2 has no vat: it counts nowhere
        ("K3-N6", 0): {"mil": 0.70, "vat": 0.80, "vat_ball": 0.6},
        ("K3-N6", 1): {"mil": 0.90, "vat": 0.96},
        ("K3-N6", 2): {"mil": 0.10},
    }
    auroc = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["patches", "seed"])
    lines = report(auroc, ONE_CELL).splitlines()
    # t of one degree of freedom: 12.706 · .02 = .254
    assert "| 3 | 6 | .800 ± .141 | .880 ± .113 | .080 [−.174, .334] | 2 |" in lines
    assert "| 6 | norm ball | .700 | .600 | −.100 | 1 |" in lines
    assert "| 6 | noise | – | – | – | 0 |" in lines


@pytest.mark.long
def test_real_digits(data_dir, tmp_path, monkeypatch):
    if not any(data_dir.rglob(FILES["train"][0])):
        pytest.skip(f"no MNIST files in {data_dir}")
    found = find_digits(data_dir)
    for part, count, nines in (("train", 60_000, 5949), ("test", 10_000, 1009)):
        digits = read_digits(found, part)
        assert digits.images.shape == (count, 28, 28)
        assert (digits.labels == 9).sum() == nines
    monkeypatch.setattr(figure2, "QUICK", replace(figure2.QUICK, bag_counts=(100,), term_counts=(), seeds=1))
    drain(mnist(data_dir, tmp_path, quick=True))
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame.value[frame.metric == "auroc"].min() > 0.8  # chance is .5; .93 to .96 were seen
