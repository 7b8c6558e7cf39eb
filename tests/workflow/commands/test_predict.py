"""`predict`: a model over slides; files that agree with one another, and one plain line for what does not fit."""

import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.events import ItemDone, ItemFailed, Progress, Task
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.workflow.commands.predict import predict


def mask_of(path):
    with tifffile.TiffFile(path) as file:
        return file.series[0].levels[0].asarray()


@pytest.mark.parametrize("centred", [False, True], ids=["grid", "centres"])
def test_all_files_are_written_and_agree(trained, slides, cohort_csv, tmp_path, cli, table, centred):
    out, slide = tmp_path / "Ausgabe é", slides[1]
    centres = table(cohort_csv.with_name("centres.csv"))
    extra = ["--centres", cohort_csv.with_name("centres.csv")] if centred else []
    status, said, err = cli("predict", trained, slide, "-o", out, "--threshold", "0.5", *extra)
    assert status == 0, err
    assert said.startswith("slide_001: normal ")
    assert {path.name for path in out.glob("[!.]*")} == {
        f"slide_001{end}" for end in (".csv", ".csv-metadata.json", ".geojson", ".ome.tif", ".png")
    }

    rows = table(out / "slide_001.csv")
    assert list(rows[0])[:4] == ["minx", "miny", "width", "height"]
    assert {"prob_normal", "prob_tumour", "label"} <= set(rows[0])
    assert len(rows) == (len([row for row in centres if row["slide_id"] == "slide_001"]) if centred else 4 * 5)
    probability = np.array([[float(row["prob_normal"]), float(row["prob_tumour"])] for row in rows])
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)
    assert [row["label"] for row in rows] == ["tumour" if p >= 0.5 else "normal" for p in probability[:, 1]]

    mask = mask_of(out / "slide_001.ome.tif")
    assert mask.shape == (112, 128)
    assert mask.dtype == np.uint8
    for row in rows:
        y, x = int(row["miny"]) + 13, int(row["minx"]) + 13  # the centre of a patch of 27 px
        assert mask[y, x] == {"normal": 1, "tumour": 2}[row["label"]]
    with tifffile.TiffFile(out / "slide_001.ome.tif") as file:
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata

    features = json.loads((out / "slide_001.geojson").read_text("utf-8"))["features"]
    assert len(features) == len(rows)
    for feature, row in zip(features, rows, strict=True):
        corners = np.array(feature["geometry"]["coordinates"][0])
        low, high = [int(row["minx"]), int(row["miny"])], [int(row["width"]), int(row["height"])]
        assert corners.min(0).tolist() == low
        assert (corners.max(0) - low).tolist() == high == [27, 27]
        assert feature["properties"]["classification"]["name"] == row["label"]

    with Image.open(out / "slide_001.png") as picture:
        assert picture.mode == "RGB"
    kept = PatchMap.open(trained / "predictions" / "slide_001.student.zarr")
    assert kept.is_complete
    np.testing.assert_allclose(kept.probability[kept.patches.scored], probability, atol=1e-6)


def test_a_run_s_default_is_its_student_and_model_picks_another(trained, slides, tmp_path, collect):
    maps = {
        network: collect(predict(trained, slides[:1], network=network))[1][0]
        for network in (None, "student", "teacher", "baseline")
    }
    assert [maps[network].model["network"] for network in maps] == ["student", "student", "teacher", "baseline"]
    np.testing.assert_array_equal(maps[None].probability, maps["student"].probability)
    assert not np.array_equal(maps["teacher"].probability, maps["baseline"].probability)
    bundle = collect(predict(trained / "teacher", slides[:1]))[1][0]
    np.testing.assert_array_equal(bundle.probability, maps["teacher"].probability)
    assert not (trained / "predictions").exists()  # out=None keeps nothing


def test_every_slide_finishes_with_an_event_or_fails_with_a_reason(trained, slides, tmp_path, collect):
    files = [slides[0], tmp_path / "gone.png", slides[1]]
    events, maps = collect(predict(trained, files))
    assert [(type(event), event.item) for event in events if isinstance(event, ItemDone | ItemFailed)] == [
        (ItemDone, "slide_000"), (ItemFailed, "gone"), (ItemDone, "slide_001"),
    ]  # fmt: skip
    assert [patch_map.slide_id for patch_map in maps] == ["slide_000", "slide_001"]
    assert Progress(Task.PREDICT, 20, 20, "slide_000") in events
    assert next(event.result for event in events if isinstance(event, ItemDone)) is maps[0]


def test_the_answers_are_the_network_s_own(trained, slides, collect):
    """A teacher's are of bags of one, and of the whole bag; those of a student are in context and calibrated."""
    import torch

    from napari_distill2label.core.context import smooth_grid
    from napari_distill2label.slides.cutting import cut
    from napari_distill2label.slides.registry import open_slide
    from napari_distill2label.store.bundle import load_bundle

    (patch_map,) = collect(predict(trained, slides[1:2], network="teacher"))[1]
    (of_student,) = collect(predict(trained, slides[1:2]))[1]
    model = load_bundle(trained / "teacher").model
    student = load_bundle(trained / "student")
    with open_slide(slides[1]) as slide, torch.no_grad():
        patches = torch.from_numpy(cut(slide, patch_map.patches.corners, 27, 27))
        answer = model(patches)
        alone = torch.cat([model(patch[None]).bag_logits for patch in patches])
        logits = student.model(patches).instance_logits.numpy()
    np.testing.assert_allclose(patch_map.probability.reshape(-1, 2), model.probabilities(alone), atol=1e-5)
    np.testing.assert_allclose(patch_map.bag_probability, model.probabilities(answer.bag_logits)[0], atol=1e-5)
    np.testing.assert_allclose(patch_map.attention.ravel(), answer.attention, atol=1e-5)
    np.testing.assert_allclose(of_student.logit.reshape(-1, 2), logits, atol=1e-5)
    calibration, shape = student.config.calibration, of_student.patches.shape
    context = smooth_grid((logits[:, 1:] - logits[:, :1]).reshape(*shape, 1))
    slide = calibration.slide_probability(context)
    np.testing.assert_allclose(of_student.probability[..., 1:], calibration.patches_in(slide, context), atol=1e-5)
    np.testing.assert_allclose(of_student.bag_probability[1], slide[0], atol=1e-5)


def test_missing_and_broken_slides_among_good_ones(trained, slides, tmp_path, cli):
    empty, text = tmp_path / "empty.png", tmp_path / "notes.txt"
    empty.touch()
    text.write_text("no image")
    gone = tmp_path / "niemals da.ome.tif"
    status, out, err = cli(
        "predict", trained, slides[0], empty, gone, text, slides[1], "-o", tmp_path / "o", "--format", "csv"
    )
    assert status == 1
    assert [line.split(":")[0] for line in out.splitlines()] == ["slide_000", "slide_001"]
    listed = err[err.index("3 failed. The others are done.") :].splitlines()[1:]
    assert [line.split(":")[0].strip() for line in listed] == ["empty", "niemals da", "notes"]
    assert all(str(path) in line for path, line in zip((empty, gone, text), listed, strict=True))
    assert "Traceback" not in err
    assert {path.name for path in (tmp_path / "o").glob("[!.]*")} == {
        f"slide_00{i}{end}" for i in (0, 1) for end in (".csv", ".csv-metadata.json")
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "1.5"], "not 1.5."),
        (["--threshold", "nan"], "not nan."),
        (["--mpp", "0"], "No slide has 0 µm/px."),
        (["--mpp", "-1"], "No slide has -1 µm/px."),
        (["--mpp", "nan"], "No slide has nan µm/px."),
        (["--dense-stride", "0"], "not 0."),
        (["--dense-stride", "28"], "not 28."),
        (["--format", "csv,xls"], "unknown format 'xls'"),
        (["--centres", "gone.csv"], "gone.csv: no such file"),
        (["--tissue", "gone.geojson"], "gone.geojson: no such file"),
        (["--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_arguments_that_cannot_be_used(trained, slides, tmp_path, refused, arguments, said):
    assert said in refused("predict", trained, slides[0], "-o", tmp_path / "out", *arguments)


def test_models_that_are_not_there(trained, slides, tmp_path, cli, refused):
    shutil.rmtree(trained / "student")
    rest = [slides[0], "-o", tmp_path / "out"]
    assert "no trained student (it has: baseline, teacher)" in refused(
        "predict", trained, *rest, "--network", "student"
    )
    assert "is a teacher, not a baseline" in refused("predict", trained / "teacher", *rest, "--network", "baseline")
    assert "neither a run nor a model bundle" in refused("predict", tmp_path, *rest)
    status, _, err = cli("predict", trained, *rest, "--network", "pupil")
    assert status == 2
    assert "invalid choice: 'pupil'" in err
    assert "one cohort.csv or slides" in refused("predict", trained, slides[0], "cohort.csv", "-o", tmp_path)
    assert cli("predict", trained, *rest, "--format", "csv")[0] == 0  # without --network: the best there is
    assert (trained / "predictions" / "slide_000.teacher.zarr").is_dir()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["missing", "altered", "truncated"])
def test_a_damaged_bundle_is_refused(trained, slides, tmp_path, refused, file, damage):
    path = trained / "student" / file
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[:-30] + b"#" * 30)
    assert str(trained / "student") in refused("predict", trained / "student", slides[0], "-o", tmp_path / "out")


def test_a_bundle_works_without_its_run(trained, slides, tmp_path, cli):
    bundle = tmp_path / "anderswo ü" / "Modell 1"
    shutil.copytree(trained / "student", bundle)
    shutil.rmtree(trained)
    assert cli("predict", bundle, slides[0], "-o", tmp_path / "out", "--format", "csv")[0] == 0
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {
        "slide_000.csv",
        "slide_000.csv-metadata.json",
        "slide_000.student.zarr",
    }


def test_the_threshold_decides_labels_not_probabilities(trained, slides, tmp_path, cli, table):
    probabilities = []
    for threshold, label in ((0, "tumour"), (1, "normal")):
        assert (
            cli("predict", trained, slides[1], "-o", tmp_path / "out", "--threshold", threshold, "--format", "csv")[0]
            == 0
        )
        rows = table(tmp_path / "out" / "slide_001.csv")
        assert {row["label"] for row in rows} == {label}
        probabilities.append([row["prob_tumour"] for row in rows])
    assert probabilities[0] == probabilities[1]


def test_slide_ids_of_any_kind_stay_inside_the_folder(trained, slides, tmp_path, cohort_of, cli):
    cohort = cohort_of([("../a b/ç", slides[0]), ("..", slides[1])], ("slide_id", "path"))
    out = tmp_path / "deep" / "out"
    assert cli("predict", trained, cohort, "-o", out, "--format", "csv")[0] == 0
    assert len(list(out.glob("[!.]*.csv"))) == 2
    assert [path.name for path in out.parent.iterdir()] == ["out"]
