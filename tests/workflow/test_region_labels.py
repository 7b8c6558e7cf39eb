"""Regions of which a user says none, some or all: read from annotations, given to the student, recorded in the run."""

import json

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.region_labels import RegionLabels

CLASSES = ("normal", "tumour")
GRID = PatchGrid.over((40, 40), PatchSettings(size_px=10))


def write_regions(path, *regions):
    """GeoJSON as QuPath writes it: boxes (x0, y0, x1, y1) with a class."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": says}},
        }
        for says, (x0, y0, x1, y1) in regions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return path


def test_a_region_has_the_patches_that_it_covers_by_half(tmp_path):
    path = write_regions(
        tmp_path / "a.geojson",
        ("none here", (0, 0, 20, 10)), ("somewhere here", (0, 10, 26, 20)), ("All of this", (30, 30, 40, 40)),
    )  # fmt: skip
    found = RegionLabels(path)
    none, some, every = found.of("a", GRID, CLASSES)
    assert (none.says, none.finding, none.patches.tolist()) == ("none", 0, [0, 1])
    assert (some.says, some.finding, some.patches.tolist()) == ("some", 1, [4, 5, 6])
    assert (every.says, every.finding, every.patches.tolist()) == ("all", 1, [15])
    assert found.of("b", GRID, CLASSES) == ()
    assert str(found.report()) == "3 regions of 1 slide are trained with."


def test_the_finding_is_named_where_there_are_several(tmp_path):
    classes = ("normal", "a", "b")
    path = write_regions(tmp_path / "s.geojson", ("b: all", (0, 0, 10, 10)), ("a : none here", (0, 0, 10, 10)))
    every, none = RegionLabels(path).of("s", GRID, classes)
    assert (every.says, every.finding) == ("all", 2)
    assert (none.says, none.finding) == ("none", 1)
    for says, reason in (
        ("all of this", "names no finding of several"), ("c: all", "names no finding: there are a, b"),
        ("tumour", "says nothing that is known. Write 'none here'"), ("normal: all", "names no finding"),
    ):  # fmt: skip
        path = write_regions(tmp_path / "s.geojson", (says, (0, 0, 10, 10)))
        with pytest.raises(CohortError, match=reason):
            RegionLabels(path).check(classes, ["s"])


def test_regions_that_cannot_be_used_are_said(tmp_path):
    path = write_regions(tmp_path / "a.geojson", ("none", (0, 0, 3, 3)), ("none", (0, 0, 10, 10)))
    found = RegionLabels(path)
    assert len(found.of("a", GRID, CLASSES)) == 1
    assert "1 region is left out: no patch lies in them far enough" in str(found.report())
    with pytest.raises(CohortError, match="has no region of any labelled slide"):
        found.check(CLASSES, ["b"])
    path = write_regions(tmp_path / "a.geojson", ("none", (0, 0, 3, 3)))
    found = RegionLabels(path)
    found.of("a", GRID, CLASSES)
    with pytest.raises(CohortError, match="No region covers a patch"):
        found.report()


def test_a_training_learns_from_regions_and_shares(cohort_csv, tmp_path, flags, cli, refused):
    cohort = Cohort.read(cohort_csv)
    positive = next(row for row in cohort if row.label == "tumour")
    folder = tmp_path / "regions"
    folder.mkdir()
    write_regions(folder / f"{positive.slide_id}.geojson", ("none here", (0, 0, 56, 56)))
    table = tmp_path / "cohort.csv"
    lines = cohort.write(tmp_path / "plain.csv").read_text("utf-8").splitlines()
    said = [f"{line},{'30 %' if positive.slide_id in line else ''}" for line in lines[1:]]
    table.write_text("\n".join([f"{lines[0]},share", *said]), "utf-8")
    assert Cohort.read(table)[positive.slide_id].share == 0.3
    # All of them are trained on, so that the slide is among them.
    some = [*flags, "--split.test=0", "--split.valid=0"]
    status, _, err = cli("train", table, "-o", tmp_path / "run", "--region-labels", folder, *some)
    assert status == 0, err
    assert "1 region of 1 slide is trained with." in err
    run = Run.open(tmp_path / "run")
    assert run.config.inputs.region_labels == str(folder)
    assert run.cohort[positive.slide_id].share == 0.3
    card = (tmp_path / "run" / "student" / "card.md").read_text("utf-8")
    assert "| Regions labelled by a user | 1 |" in card
    assert "| Shares estimated by a user | of 1 slide |" in card
    history = (tmp_path / "run" / "history.csv").read_text("utf-8")
    assert "loss_regions" in history
    assert "loss_share" in history
    cli("train", tmp_path / "plain.csv", "-o", tmp_path / "other", *some)
    assert Run.open(tmp_path / "other").config.data_signature != run.config.data_signature
    assert "loss_share" not in (tmp_path / "other" / "history.csv").read_text("utf-8")
    assert "share" not in (tmp_path / "other" / "cohort.csv").read_text("utf-8").splitlines()[0]
    write_regions(folder / f"{positive.slide_id}.geojson", ("perhaps", (0, 0, 56, 56)))
    refusal = refused("train", table, "-o", tmp_path / "third", "--region-labels", folder, *some)
    assert "says nothing that is known" in refusal
    table.write_text("\n".join([f"{lines[0]},share", f"{lines[1]},30"]), "utf-8")
    assert "is not between 0 and 1: write 0.3 or 30 %" in refused("train", table, "-o", tmp_path / "fourth", *some)
