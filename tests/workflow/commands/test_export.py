"""`export`: kept predictions in other formats, with a user's corrections laid over them."""

import csv
import json
import shutil

import pytest
import tifffile

from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, drain
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.export import export
from napari_distill2label.workflow.commands.predict import predict


@pytest.fixture
def predicted(trained, slides, tmp_path):
    """A run with predictions of two slides."""
    drain(predict(trained, slides[:2], tmp_path / "first", formats=["csv"]))
    return trained


def test_a_run_s_predictions_are_written_as_they_were(predicted, tmp_path, cli):
    out = tmp_path / "Export ä"
    status, said, err = cli("export", predicted, "-o", out, "--format", "csv,geojson,ome-tiff")
    assert status == 0, err
    names = [f"slide_00{i}{end}" for i in (0, 1) for end in (".csv", ".geojson", ".ome.tif")]
    assert said.splitlines() == [str(out / name) for name in names]
    for index in (0, 1):
        assert (out / names[3 * index]).read_bytes() == (tmp_path / "first" / names[3 * index]).read_bytes()


def test_one_patch_map_is_enough(predicted, tmp_path, cli):
    kept = predicted / "predictions" / "slide_001.student.zarr"
    assert cli("export", kept, "-o", tmp_path / "out", "--format", "csv")[0] == 0
    assert [path.name for path in (tmp_path / "out").glob("[!.]*.csv")] == ["slide_001.csv"]


def test_a_slide_that_two_models_labelled_is_written_by_the_student(predicted, slides, tmp_path, cli):
    drain(predict(predicted, slides[:1], tmp_path / "teacher's", network="teacher", formats=["csv"]))
    drain(predict(predicted, slides[2:3], tmp_path / "teacher's", network="teacher", formats=["csv"]))
    status, said, _ = cli("export", predicted, "-o", tmp_path / "out", "--format", "csv")
    assert (status, len(said.splitlines())) == (0, 3)
    assert (tmp_path / "out" / "slide_000.csv").read_bytes() == (tmp_path / "first" / "slide_000.csv").read_bytes()
    assert (tmp_path / "out" / "slide_002.csv").read_bytes() == (tmp_path / "teacher's" / "slide_002.csv").read_bytes()


def test_threshold_and_corrections(predicted, tmp_path, cli, table, refused):
    corrections = tmp_path / "Korrektur ß.csv"
    with corrections.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("slide_id", "x", "y", "label"), ("slide_001", 40, 13, "tumour"), ("else", 1, 1, "?")]
        )
    rest = ["export", predicted, "-o", tmp_path / "out", "--format", "csv,ome-tiff", "--corrections", corrections]
    assert cli(*rest, "--threshold", "1")[0] == 0
    rows = table(tmp_path / "out" / "slide_001.csv")
    assert {(row["row"], row["col"]) for row in rows if row["label"] == "tumour"} == {("0", "1")}
    assert [row["source"] for row in rows].count("corrected") == 1
    mask = tifffile.imread(tmp_path / "out" / "slide_001.ome.tif", series=0, level=0)
    assert (mask[13, 40], mask[40, 40]) == (2, 1)
    assert "source" not in table(tmp_path / "out" / "slide_000.csv")[0]
    assert "not 5. Use --threshold 0.5." in refused(*rest, "--threshold", "5")
    corrections.write_text("slide_id,x,y,label\nslide_001,1,1,tumor\n")
    assert "unknown label 'tumor'" in cli(*rest)[2]


def test_the_threshold_last_predicted_with_holds(predicted, slides, tmp_path, cli, table):
    for threshold, label in ((0, "tumour"), (1, "normal")):
        drain(predict(predicted, slides[:1], tmp_path / "first", threshold=threshold, formats=["csv"]))
        assert (
            cli("export", predicted / "predictions" / "slide_000.student.zarr", "-o", tmp_path, "--format", "csv")[0]
            == 0
        )
        assert {row["label"] for row in table(tmp_path / "slide_000.csv")} == {label}


def test_what_is_not_there(trained, predicted, tmp_path, cli, refused):
    rest = ["-o", tmp_path / "out", "--format", "csv"]
    assert "there is no patch map here" in refused("export", tmp_path / "nothing", *rest)
    assert "unknown format 'tiff3'" in refused("export", predicted, "-o", tmp_path, "--format", "tiff3")
    shutil.rmtree(predicted / "predictions")
    assert "holds no prediction yet" in refused("export", predicted, *rest)
    assert cli("export", predicted, "-o", tmp_path)[0] == 2  # argparse asks for --format


def test_an_unfinished_and_a_damaged_map_do_not_keep_the_others(predicted, slides, tmp_path, collect, cli):
    folder = predicted / "predictions"
    (folder / "slide_000.student.zarr" / "zarr.json").write_text("{}")
    begun = PatchMap.open(folder / "slide_001.student.zarr")
    PatchMap.create(folder / "new.student.zarr", begun.patches, begun.classes, SlideInfo("new"))
    events, files = collect(export(Run.open(predicted), tmp_path / "out", ["csv"]))
    assert {event.item for event in events if isinstance(event, ItemFailed)} == {"slide_000", "new"}
    assert [event.item for event in events if isinstance(event, ItemDone)] == ["slide_001"]
    assert [path.name for path in files] == ["slide_001.csv"]
    status, _, err = cli("export", predicted, "-o", tmp_path / "out", "--format", "csv")
    assert status == 1
    assert "2 failed. The others are done." in err
    with pytest.raises(BundleError):
        drain(export(folder / "slide_000.student.zarr", tmp_path / "out", ["csv"]))


@pytest.mark.parametrize("classes", [3, None, {"a": 1}, True])
def test_a_map_whose_classes_are_none_fails_alone(predicted, tmp_path, collect, classes):
    about = predicted / "predictions" / "slide_000.student.zarr" / "zarr.json"
    data = json.loads(about.read_text())
    data["attributes"] |= {"multi_label": True, "classes": classes}
    about.write_text(json.dumps(data))
    events, files = collect(export(predicted, tmp_path / "out", ["csv", "ome-tiff"]))
    assert [event.item for event in events if isinstance(event, ItemFailed)] == ["slide_000"]
    assert {path.name.split(".")[0] for path in files} == {"slide_001"}


def test_maps_in_memory(trained, slides, tmp_path, collect):
    maps = collect(predict(trained, slides[:2]))[1]
    assert [path.name for path in collect(export(maps, tmp_path / "a", ["csv"]))[1]] == [
        "slide_000.csv",
        "slide_001.csv",
    ]
    assert [path.name for path in collect(export(maps[1], tmp_path / "b", ["json"]))[1]] == ["slide_001.geojson"]


def test_two_maps_of_one_slide_would_have_one_name(trained, slides, tmp_path, collect):
    maps = [collect(predict(trained, slides[:1], network=network))[1][0] for network in ("teacher", "student")]
    with pytest.raises(SettingsError, match=r"Two patch maps of one slide are given \(slide_000\)"):
        drain(export(maps, tmp_path / "a", ["csv"]))
    assert not (tmp_path / "a").exists()


def test_a_table_of_the_cohort_and_regions_from_the_command_line(trained, cohort_csv, tmp_path, cli, table):
    assert cli("predict", trained, cohort_csv, "-o", tmp_path / "p", "--format", "csv")[0] == 0
    status, out, err = cli("export", trained, "-o", tmp_path / "e", "--format", "summary,regions,report",
                           "--smooth", "--minimum-area", "0.0001", "--threshold", "0.3")  # fmt: skip
    assert status == 0, err
    rows = table(tmp_path / "e" / "cohort_summary.csv")
    assert [row["slide_id"] for row in rows] == sorted(path.stem for path in (tmp_path / "p").glob("*.csv"))
    for row in rows:
        own = table(tmp_path / "p" / f"{row['slide_id']}.csv")
        called = sum(float(patch["prob_tumour"]) >= 0.3 for patch in own)
        assert (int(row["patches"]), int(row["positive_patches"])) == (len(own), called)
        assert float(row["threshold"]) == 0.3
        regions = json.loads((tmp_path / "e" / f"{row['slide_id']}_regions.geojson").read_text("utf-8"))["features"]
        assert all(one["properties"]["measurements"]["Area mm^2"] >= 0.0001 for one in regions)
        assert (tmp_path / "e" / f"{row['slide_id']}.html").stat().st_size > 1000
    assert str(tmp_path / "e" / "cohort_summary.csv") in out
    assert (
        "Predict, then export it" in cli("predict", trained, cohort_csv, "-o", tmp_path / "q", "--format", "summary")[2]
    )
