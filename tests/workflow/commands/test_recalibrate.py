"""A random sample of a cohort's patches, labelled by a person, and the model that it re-calibrates."""

import csv

import pytest

from napari_distill2label.core.errors import OutputError
from napari_distill2label.core.events import drain
from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.sample import read_sample
from napari_distill2label.workflow.commands.predict import predict
from napari_distill2label.workflow.commands.recalibrate import draw_sample, recalibrate


@pytest.fixture(scope="module")
def predicted_once(shared_run, cohort_csv, tmp_path_factory):
    """A copy of the shared run with predictions of five slides."""
    import shutil

    from napari_distill2label.store.cohort import Cohort

    copy = tmp_path_factory.mktemp("predicted") / "run"
    shutil.copytree(shared_run, copy)
    Cohort.read(shared_run / "cohort.csv").write(copy / "cohort.csv")
    slides = sorted((cohort_csv.parent / "slides").iterdir())[:5]
    drain(predict(copy, slides, copy.parent / "out", formats=["csv"]))
    return copy


@pytest.fixture
def predicted(predicted_once, tmp_path):
    import shutil

    shutil.copytree(predicted_once, tmp_path / "run")
    return tmp_path / "run"


def labelled(path, label_of):
    """Give the rows of a sample labels: `label_of(number, row)`, "" for none."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    for number, row in enumerate(rows):
        row[3] = label_of(number, row)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_sample_is_drawn_labelled_and_recalibrates_a_copy_of_the_model(predicted, tmp_path, cli):
    sample, out = tmp_path / "sample.csv", tmp_path / "here"
    assert cli("draw-sample", predicted, "-o", sample, "--count", "40")[0] == 0
    drawn = read_sample(sample)
    assert len(drawn.patches) == 40
    maps = {own.slide_id: own for path in (predicted / "predictions").glob("*.zarr") for own in [PatchMap.open(path)]}
    assert drawn.total == sum(int(own.scored.sum()) for own in maps.values())
    # Somebody finds far more than the model expects.
    labelled(sample, lambda number, row: "normal" if number % 4 == 0 else "tumour")
    status, text, err = cli("recalibrate", predicted, sample, "-o", out)
    assert status == 0, err
    assert "40 patches drawn at random, 30 of them positive: 0.750" in text
    assert "the recall in these slides is at least" in text
    before, after = (load_bundle(folder) for folder in (predicted / "student", out))
    own, moved = before.config.calibration, after.config.calibration
    assert moved.biases[0] > 0.5
    assert moved.n_sample == 40
    assert moved.findings[0].patch.offset == pytest.approx(own.findings[0].patch.offset + moved.biases[0])
    assert after.config.weights_sha256 == before.config.weights_sha256
    assert "re-calibrated to another cohort by 40 patches" in (out / "card.md").read_text("utf-8")
    # Its predictions: every patch is likelier, slides are what they were.
    first = next(iter(maps.values()))
    (again,) = drain(predict(after, [first.slide.path]))
    assert again.bag_probability == pytest.approx(first.bag_probability, abs=1e-5)
    scored = first.scored
    assert (again.probability[scored][:, 1] > first.probability[scored][:, 1]).all()
    # The model that was there is as it was.
    assert load_bundle(predicted / "student").config == before.config


def test_without_a_folder_nothing_is_written(predicted, tmp_path):
    sample = drain(draw_sample(predicted, tmp_path / "sample.csv", 30))
    labelled(sample, lambda number, row: ["normal", "tumour"][number % 2])
    there = set(tmp_path.rglob("*"))
    report = drain(recalibrate(predicted, sample))
    assert report.n == 30
    assert set(tmp_path.rglob("*")) == there


def test_labels_from_the_top_are_enough_and_gaps_are_refused(predicted, tmp_path, refused):
    sample = drain(draw_sample(predicted, tmp_path / "sample.csv", 40))
    labelled(sample, lambda number, row: "normal" if number < 25 else "")
    assert drain(recalibrate(predicted, sample)).n == 25
    labelled(sample, lambda number, row: "" if number == 3 else "normal")
    assert "row 4 has no label, and later ones have" in refused("recalibrate", predicted, sample)
    labelled(sample, lambda number, row: "normal" if number < 5 else "")
    assert "5 patches are labelled: at least 20 are needed" in refused("recalibrate", predicted, sample)
    labelled(sample, lambda number, row: "tumor")
    assert "tumor" in refused("recalibrate", predicted, sample)


def test_patches_that_somebody_chose_are_no_random_sample(predicted, tmp_path, refused):
    sample = drain(draw_sample(predicted, tmp_path / "sample.csv", 30))
    labelled(sample, lambda number, row: "normal")
    text = sample.read_text("utf-8").splitlines()
    sample.write_text("\n".join([text[0], text[2], text[1], *text[3:], ""]), "utf-8")
    assert "was not drawn" in refused("recalibrate", predicted, sample)
    next((predicted / "predictions").glob("*.zarr")).rename(tmp_path / "gone")
    assert "give those it was drawn from" in refused("recalibrate", predicted, sample)


def test_what_is_there_is_kept(predicted, tmp_path):
    sample = drain(draw_sample(predicted, tmp_path / "sample.csv", 30))
    labelled(sample, lambda number, row: "normal")
    with pytest.raises(OutputError):
        drain(draw_sample(predicted, sample, 30))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"model_type": "vit"}')
    (theirs / "model.safetensors").write_text("weights")
    kept = ((predicted / "student", True), (tmp_path, True), (theirs, True), (predicted / "teacher", False))
    for folder, overwrite in (*kept, (predicted / "teacher", True)):
        with pytest.raises(OutputError):
            drain(recalibrate(predicted, sample, folder, overwrite=overwrite))
    assert (theirs / "model.safetensors").read_text() == "weights"
    out = tmp_path / "here"
    drain(recalibrate(predicted, sample, out))
    drain(recalibrate(predicted, sample, out, overwrite=True))


def test_only_calibrated_predictions_can_be_recalibrated(predicted, tmp_path, refused, slides):
    drain(predict(predicted, slides[:5], tmp_path / "out", network="teacher", formats=["csv"]))
    for path in (predicted / "predictions").glob("*.student.zarr"):
        path.rename(tmp_path / path.name)
    sample = drain(draw_sample(predicted, tmp_path / "sample.csv", 30))
    labelled(sample, lambda number, row: "normal")
    assert "Only the predictions of a calibrated student" in refused("recalibrate", predicted, sample)


def test_each_of_several_findings_has_a_bias_of_its_own(slides, cohort_of, tmp_path, flags, cli, refused):
    names = ["normal", "a", "b", "a;b"]
    rows = [(f"s{at}", path, names[at % 4], "train" if at < 8 else "valid") for at, path in enumerate(slides)]
    cohort, run, out = cohort_of(rows, ("slide_id", "path", "label", "split")), tmp_path / "run", tmp_path / "here"
    assert cli("train", cohort, "-o", run, *flags)[0] == 0
    drain(predict(run, slides[:5], tmp_path / "out", formats=["csv"]))
    sample = drain(draw_sample(run, tmp_path / "sample.csv", 40))
    # Somebody finds `a` almost everywhere, and `b` nowhere.
    labelled(sample, lambda number, row: "normal" if number % 8 == 0 else "a")
    status, text, err = cli("recalibrate", run, sample, "-o", out)
    assert status == 0, err
    assert "a: 40 patches drawn at random, 35 of them positive: 0.875" in text
    assert "b: 40 patches drawn at random, 0 of them positive: 0.000" in text
    moved, own = (load_bundle(folder).config.calibration for folder in (out, run / "student"))
    assert moved.biases[0] > 0 > moved.biases[1]
    for bias, after, before in zip(moved.biases, moved.findings, own.findings, strict=True):
        assert after.patch.offset == pytest.approx(before.patch.offset + bias)
    assert f"bias {moved.biases[0]:+.2f}, {moved.biases[1]:+.2f} (log-odds)" in (out / "card.md").read_text("utf-8")
    labelled(sample, lambda number, row: "a;b")
    assert "40 of them positive: 1.000" in cli("recalibrate", run, sample)[1]
    labelled(sample, lambda number, row: "normal;a" if number == 2 else "normal")
    assert "says normal and a finding at once" in refused("recalibrate", run, sample)
