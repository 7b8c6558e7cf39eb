"""`predict`: a model over slides; files that agree with one another, and one plain line for what does not fit."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_distill2label.core.errors import SettingsError, SlideError
from napari_distill2label.core.events import Failed, Finished, Progress, drain
from napari_distill2label.core.geometry import PatchPoints
from napari_distill2label.prediction import engine
from napari_distill2label.slides.synthetic import write_image
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.patchmap import PatchMap
from napari_distill2label.workflow.predict import predict


@pytest.fixture
def count_patches(monkeypatch):
    """Numbers of patches that the network is shown, call by call; blocks hold one patch."""
    from napari_distill2label.prediction.classifier import PatchClassifier

    counts, ask = [], PatchClassifier.__call__
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 27**2)
    monkeypatch.setattr(
        PatchClassifier, "__call__", lambda self, patches: counts.append(len(patches)) or ask(self, patches)
    )
    return counts


def mask_of(path):
    with tifffile.TiffFile(path) as file:
        return file.series[0].levels[0].asarray()


@pytest.mark.parametrize("centred", [False, True], ids=["grid", "centres"])
def test_all_files_are_written_and_agree(trained, slides, cohort_csv, tmp_path, cli, table, centred):
    out, slide = tmp_path / "Ausgabe é", slides[1]
    centres = table(cohort_csv.with_name("centres.csv"))
    extra = ["--centres", cohort_csv.with_name("centres.csv")] if centred else []
    status, said, err = cli("predict", trained, slide, "-o", out, *extra)
    assert status == 0, err
    assert said.startswith("slide_001: normal ")
    assert {path.name for path in out.iterdir()} == {
        f"slide_001{end}" for end in (".csv", ".geojson", ".ome.tif", ".png")
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
        role: collect(predict(trained, slides[:1], role=role))[1][0] for role in (None, "student", "teacher", "mil")
    }
    assert [maps[role].model["role"] for role in maps] == ["student", "student", "teacher", "mil"]
    np.testing.assert_array_equal(maps[None].probability, maps["student"].probability)
    assert not np.array_equal(maps["teacher"].probability, maps["mil"].probability)
    bundle = collect(predict(trained / "teacher", slides[:1]))[1][0]
    np.testing.assert_array_equal(bundle.probability, maps["teacher"].probability)
    assert not (trained / "predictions").exists()  # out=None keeps nothing


def test_every_slide_finishes_with_an_event_or_fails_with_a_reason(trained, slides, tmp_path, collect):
    files = [slides[0], tmp_path / "gone.png", slides[1]]
    events, maps = collect(predict(trained, files))
    assert [(type(event), event.item) for event in events if isinstance(event, Finished | Failed)] == [
        (Finished, "slide_000"), (Failed, "gone"), (Finished, "slide_001"),
    ]  # fmt: skip
    assert [patch_map.slide_id for patch_map in maps] == ["slide_000", "slide_001"]
    assert Progress("predicting slide_000", 20, 20) in events
    assert next(event.result for event in events if isinstance(event, Finished)) is maps[0]


def test_the_answers_are_the_network_s_own(trained, slides, collect):
    """Instance probabilities are of bags of one; the slide's probability is what the network says of the whole bag."""
    import torch

    from napari_distill2label.slides.cutting import cut
    from napari_distill2label.slides.registry import open_slide
    from napari_distill2label.store.bundle import load_bundle

    (patch_map,) = collect(predict(trained, slides[1:2]))[1]
    model = load_bundle(trained / "student").model
    with open_slide(slides[1]) as slide, torch.no_grad():
        patches = torch.from_numpy(cut(slide, patch_map.patches.corners, 27, 27))
        answer = model(patches)
        alone = torch.cat([model(patch[None]).bag_logits for patch in patches])
    np.testing.assert_allclose(patch_map.probability.reshape(-1, 2), model.probabilities(alone), atol=1e-5)
    np.testing.assert_allclose(patch_map.bag_probability, model.probabilities(answer.bag_logits)[0], atol=1e-5)
    np.testing.assert_allclose(patch_map.attention.ravel(), answer.attention, atol=1e-5)


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
    listed = err[err.index("3 failed, the others are done:") :].splitlines()[1:]
    assert [line.split(":")[0].strip() for line in listed] == ["empty", "niemals da", "notes"]
    assert all(str(path) in line for path, line in zip((empty, gone, text), listed, strict=True))
    assert "Traceback" not in err
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"slide_000.csv", "slide_001.csv"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "1.5"], "--threshold 1.5"),
        (["--threshold", "nan"], "--threshold nan"),
        (["--mpp", "0"], "--mpp 0"),
        (["--mpp", "-1"], "--mpp -1"),
        (["--mpp", "nan"], "--mpp nan"),
        (["--dense", "0"], "--dense 0"),
        (["--dense", "28"], "--dense 28"),
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
    assert "no trained student (it has: mil, teacher)" in refused("predict", trained, *rest, "--model", "student")
    assert "is a teacher, not a mil" in refused("predict", trained / "teacher", *rest, "--model", "mil")
    assert "neither a run nor a model bundle" in refused("predict", tmp_path, *rest)
    status, _, err = cli("predict", trained, *rest, "--model", "pupil")
    assert status == 2
    assert "invalid choice: 'pupil'" in err
    assert "one cohort.csv or slides" in refused("predict", trained, slides[0], "cohort.csv", "-o", tmp_path)
    assert cli("predict", trained, *rest, "--format", "csv")[0] == 0  # without --model: the best there is
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"slide_000.csv", "slide_000.student.zarr"}


# ---- scale -------------------------------------------------------------------------------------------------------


def test_a_slide_without_scale_asks_for_it(trained, png, tmp_path, cli, table):
    slide, out = png(), tmp_path / "out"
    status, _, err = cli("predict", trained, slide, "-o", out)
    assert status == 1
    assert f"{slide}: its µm/px is unknown" in err
    assert "--mpp" in err
    assert cli("predict", trained, slide, "-o", out, "--mpp", "0.5", "--format", "csv")[0] == 0
    assert table(out / "ohne Maßstab.csv")[0]["width"] == "27"


def test_patches_of_a_finer_slide_are_larger_and_of_a_coarser_one_refused(
    trained, slides, tmp_path, cli, table, cohort_of
):
    out = tmp_path / "out"
    assert cli("predict", trained, slides[0], "-o", out, "--mpp", "0.25", "--format", "csv,ome-tiff")[0] == 0
    rows = table(out / "slide_000.csv")
    assert {(row["width"], row["height"]) for row in rows} == {("54", "54")}
    assert len(rows) == 2 * 2  # 112 × 128 px
    with tifffile.TiffFile(out / "slide_000.ome.tif") as file:
        assert 'PhysicalSizeX="0.25"' in file.ome_metadata

    status, _, err = cli("predict", trained, slides[0], "-o", out, "--mpp", "0.6")
    assert status == 1
    assert "has 0.6 µm/px, coarser than the model's 0.5 µm/px" in err
    cohort = cohort_of([("from the table", slides[0], 0.25)], ("slide_id", "path", "mpp"))
    assert cli("predict", trained, cohort, "-o", out, "--format", "csv")[0] == 0
    assert table(out / "from the table.csv")[0]["width"] == "54"
    assert cli("predict", trained, cohort, "-o", out, "--format", "csv", "--mpp", "0.5")[0] == 0
    assert table(out / "from the table.csv")[0]["width"] == "27"


def test_a_patch_larger_than_the_slide(trained, png, tmp_path, cli):
    small = png("klein", np.full((20, 90, 3), 120, np.uint8))
    status, _, err = cli("predict", trained, small, "-o", tmp_path / "out", "--mpp", "0.5")
    assert status == 1
    assert f"{small}: a patch of 27 px is larger than the slide (20 × 90 px)" in err


# ---- which patches -----------------------------------------------------------------------------------------------


def test_a_slide_without_tissue(cohort_csv, slides, tmp_path, tiny, png, cli):
    from napari_distill2label.workflow.train import train

    run = drain(train(Cohort.read(cohort_csv), tmp_path / "run", tiny(grid={"tissue": "white"})))
    half = tifffile.imread(slides[1])
    half[:, :64] = 255
    white = png("weiß", np.full((112, 128, 3), 250, np.uint8))
    status, out, err = cli(
        "predict",
        run.folder,
        white,
        png("half", half),
        "-o",
        tmp_path / "out",
        "--mpp",
        "0.5",
        "--format",
        "csv,ome-tiff",
    )
    assert status == 1
    assert f"{white}: no tissue found by the rule 'white'" in err
    assert out.startswith("half: ")
    mask = mask_of(tmp_path / "out" / "half.ome.tif")
    assert not mask[:, :27].any()  # not scored is not negative
    assert mask[:27, 81:108].all()


def test_tissue_from_geojson(trained, slides, tmp_path, cli, table, refused):
    regions = tmp_path / "Gewebe ß.geojson"
    ring = [[0, 0], [60, 0], [60, 60], [0, 60], [0, 0]]
    regions.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}))
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out", "--tissue", regions, "--format", "csv"]
    assert cli(*rest)[0] == 0
    rows = table(tmp_path / "out" / "slide_000.csv")
    assert {(row["minx"], row["miny"]) for row in rows} == {("0", "0"), ("0", "27"), ("27", "0"), ("27", "27")}
    regions.write_text("{}")
    assert str(regions) in refused(*rest)


def test_dense_lays_patches_closer(trained, slides, tmp_path, cli, table):
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out", "--format", "csv,ome-tiff"]
    assert cli(*rest)[0] == 0
    coarse = {(row["minx"], row["miny"]): row["prob_tumour"] for row in table(tmp_path / "out" / "slide_000.csv")}
    assert cli(*rest, "--dense", "9")[0] == 0
    fine = {(row["minx"], row["miny"]): row["prob_tumour"] for row in table(tmp_path / "out" / "slide_000.csv")}
    assert len(fine) == 12 * 14  # cells of 9 px from the first pixel of 112 × 128 on, while the centre lies in them
    shared = fine.keys() & coarse.keys()
    assert len(shared) == len(coarse)
    np.testing.assert_allclose([float(fine[key]) for key in shared], [float(coarse[key]) for key in shared], atol=1e-5)
    mask = mask_of(tmp_path / "out" / "slide_000.ome.tif")
    assert mask[:108, :126].all()  # the cells are the squares of 9 px in the middle of the patches
    assert mask[9:108, 9:117].all()


def test_centres_of_the_wrong_slide(trained, slides, tmp_path, cli):
    centres = tmp_path / "centres.csv"
    centres.write_text("slide_id,x,y\nslide_000,20.4,30.6\nslide_001,500,20\n")
    status, out, err = cli(
        "predict", trained, *slides[:3], "-o", tmp_path / "o", "--centres", centres, "--format", "csv,png,ome-tiff"
    )
    assert status == 1
    assert out.startswith("slide_000: ")
    assert "slide_001: " in err
    assert "lie outside the slide" in err
    assert "slide_002: has no centres" in err
    kept = PatchMap.open(trained / "predictions" / "slide_000.student.zarr")
    assert isinstance(kept.patches, PatchPoints)
    assert kept.patches.centres.tolist() == [[31, 20]]


# ---- going on ----------------------------------------------------------------------------------------------------


def test_an_interrupted_prediction_goes_on(trained, slides, tmp_path, collect, count_patches):
    expected = collect(predict(trained, slides[1:2]))[1][0]
    del count_patches[:]
    work = predict(trained, slides[1:2], tmp_path / "out", formats=["csv"])
    for event in work:
        if isinstance(event, Progress) and event.done >= 8:
            break
    work.close()
    begun = PatchMap.open(trained / "predictions" / "slide_001.student.zarr")
    assert not begun.is_complete
    assert 8 <= int(begun.done.sum()) == sum(count_patches) < 20
    assert not (tmp_path / "out").exists()
    (resumed,) = collect(predict(trained, slides[1:2], tmp_path / "out", formats=["csv"]))[1]
    assert sum(count_patches) == 20
    np.testing.assert_array_equal(resumed.probability, expected.probability)
    np.testing.assert_array_equal(resumed.attention, expected.attention)
    assert resumed.bag_probability == expected.bag_probability
    collect(predict(trained, slides[1:2], tmp_path / "out", formats=["csv"]))
    assert sum(count_patches) == 20  # a finished one is only written again


@pytest.mark.parametrize("change", ["slide", "weights", "grid", "damage"])
def test_a_prediction_of_something_else_is_made_anew(
    trained, shared_run, slides, tmp_path, collect, count_patches, change
):
    slide = tmp_path / slides[0].name
    shutil.copy(slides[0], slide)
    collect(predict(trained, [slide], tmp_path / "out", formats=["csv"]))
    kept, extra = trained / "predictions" / "slide_000.student.zarr", {}
    if change == "slide":
        write_image(slide, tifffile.imread(slides[1]))
    elif change == "weights":
        from napari_distill2label.workflow.train import train

        (trained / "checkpoints" / "student.safetensors").unlink()
        settings = json.loads((trained / "settings.json").read_text())
        settings["settings"]["student"]["learning_rate"] = 0.01
        (trained / "settings.json").write_text(json.dumps(settings))
        drain(train(Cohort.read(trained / "cohort.csv"), trained, resume=True))
    elif change == "grid":
        extra["dense"] = 20
    else:
        (kept / "zarr.json").write_text("{")
    del count_patches[:]
    (patch_map,) = collect(predict(trained, [slide], tmp_path / "out", formats=["csv"], **extra))[1]
    # A dense map is made without cutting a patch, unless its patches share too little.
    assert sum(count_patches) == (0 if change == "grid" else patch_map.patches.scored.sum())
    assert PatchMap.open(kept).is_complete
    assert PatchMap.open(kept).patches.stride == (20 if change == "grid" else 27)


def test_a_scale_given_later_reaches_the_files(cohort_csv, slides, tmp_path, tiny, png, cli):
    """Patches of a model without µm/px are the same, whatever the slide's; the mask's physical size is not."""
    from napari_distill2label.workflow.train import train

    cohort = Cohort.read(cohort_csv)
    plain = []
    for index, row in enumerate(cohort):
        path = tmp_path / f"{row.slide_id}.png"
        write_image(path, tifffile.imread(row.path))
        plain.append(type(row)(row.slide_id, path, row.label, row.case_id, None, ("train", "valid")[index >= 8]))
    run = drain(train(cohort.with_slides(plain), tmp_path / "run", tiny()))
    rest = ["predict", run.folder, plain[0].path, "-o", tmp_path / "out", "--format", "ome-tiff"]
    assert cli(*rest)[0] == 0
    with tifffile.TiffFile(tmp_path / "out" / "slide_000.ome.tif") as file:
        assert "PhysicalSize" not in file.ome_metadata
    assert cli(*rest, "--mpp", "0.4")[0] == 0
    with tifffile.TiffFile(tmp_path / "out" / "slide_000.ome.tif") as file:
        assert 'PhysicalSizeX="0.4"' in file.ome_metadata


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
    assert len(list(out.iterdir())) == 2
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_damaged_part_of_a_kept_map_is_no_silent_hole(trained, slides, tmp_path, cli):
    rest = ["predict", trained, slides[0], "-o", tmp_path / "out", "--format", "csv"]
    assert cli(*rest)[0] == 0
    kept = trained / "predictions" / "slide_000.student.zarr"
    group = zarr.open_group(kept, mode="r+")
    group["probability"][0] = np.nan
    status, _, err = cli(*rest)
    assert status in (1, 2)
    assert "predict again" in err
    assert "Traceback" not in err


def test_memory_only_in_python(trained, slides, collect):
    with pytest.raises(SettingsError):
        drain(predict(trained, slides[:1], formats=["doc"]))
    events, maps = collect(predict(trained, slides[:2]))
    assert len(maps) == 2
    assert all(patch_map.path is None and patch_map.is_complete for patch_map in maps)
    assert not any(isinstance(event, Failed) for event in events)
    assert SlideError.exit_status == 1


def test_two_slides_of_one_name_keep_a_map_each(trained, slides, tmp_path, cli):
    other = tmp_path / "elsewhere" / slides[0].name
    other.parent.mkdir()
    other.write_bytes(slides[1].read_bytes())
    for slide in (slides[0], other):
        assert cli("predict", trained, slide, "-o", tmp_path / "out", "--format", "csv")[0] == 0
    maps = [PatchMap.open(path) for path in sorted((trained / "predictions").iterdir())]
    assert {each.slide_path for each in maps} == {str(slides[0]), str(other)}
    assert len({each.slide_id for each in maps}) == 1
