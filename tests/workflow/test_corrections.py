"""What a user knows of single patches: what becomes of it is said, and nothing usable is an error."""

import json

import numpy as np
import pytest

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.train import train
from napari_distill2label.workflow.corrections import Corrections

CLASSES = ("normal", "tumour")
GRID = PatchGrid.over((40, 40), PatchSettings(size_px=10))


@pytest.fixture
def corrections(tmp_path):
    """`corrections("a,1,1,tumour", …)` -> them, from a CSV."""

    def make(*rows, **how):
        path = tmp_path / "c.csv"
        path.write_text("\n".join(["slide_id,x,y,label", *rows]))
        return Corrections(path, **how)

    return make


def test_points_are_of_one_patch_and_what_is_of_no_use_is_said(corrections):
    found = corrections("a,1,1,tumour", "a,11,1,normal", "a,900,1,tumour", "a,1,1,", "b,1,1,?", "c,1,1,tumour")
    known = found.of("a", GRID, CLASSES)
    assert known.dtype == np.int8
    assert known.reshape(4, 4)[0].tolist() == [1, 0, UNLABELLED, UNLABELLED]
    assert found.of("x", GRID, CLASSES) is None
    line = str(found.report())
    assert line == (
        "The corrections label 2 patches of 1 slide. Not used: 1 mark outside of the slide: level-0 pixels are wanted, "
        "x before y; 1 mark of no class; those of 2 slides not looked at (b, c)."
    )


def test_all_used_is_one_short_line(corrections):
    found = corrections("a,1,1,tumour")
    found.of("a", GRID, CLASSES)
    found.of("a", GRID, CLASSES)  # another model
    assert str(found.report()) == "The corrections label 1 patch of 1 slide."


@pytest.mark.parametrize("rows", [["a,900,1,tumour"], ["b,1,1,tumour"], ["a,1,1,"]])
def test_nothing_of_use_is_an_error(corrections, rows):
    found = corrections(*rows)
    found.of("a", GRID, CLASSES)
    with pytest.raises(CohortError, match=r"c\.csv: None of the corrections can be used"):
        found.report()


def test_labels(corrections):
    with pytest.raises(CohortError, match=r"c\.csv: unknown label 'x'\. The classes are normal, tumour"):
        corrections("a,1,1,x").of("a", GRID, CLASSES)
    with pytest.raises(CohortError, match=r"label_map=\{'Tumor': 'tumour'\}"):
        corrections("a,1,1,Tumor").check(CLASSES, ["a"], "slide")
    with pytest.raises(CohortError, match="There is no label 'y'"):
        corrections("a,1,1,x", label_map={"y": "tumour"}).of("a", GRID, CLASSES)
    for label_map, expected in (({"x": "tumour"}, 1), ({"x": ""}, UNLABELLED), ({"*": "normal"}, 0)):
        assert corrections("a,1,1,x", label_map=label_map).of("a", GRID, CLASSES)[0] == expected
    with pytest.raises(SettingsError, match="coverage"):
        corrections("a,1,1,x", coverage=0)


@pytest.fixture
def area(tmp_path):
    """A GeoJSON folder that says of the left 54 px of slide_001 that they are a finding."""
    square = [[0, 0], [54, 0], [54, 112], [0, 112], [0, 0]]
    data = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]},
            "properties": {"classification": "tumour"}}  # fmt: skip
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections" / "slide_001.geojson").write_text(json.dumps([data]))
    return tmp_path / "corrections"


def test_an_area_corrects_all_patches_it_covers_when_training(cohort_csv, area, tmp_path, tiny, collect, config_of):
    cohort = Cohort.read(cohort_csv)
    rows = [type(row)(**{**row.__dict__, "split": "train"}) for row in cohort]
    rows[4:6] = [type(row)(**{**row.__dict__, "split": "valid"}) for row in rows[4:6]]
    events, run = collect(train(cohort.with_slides(rows), tmp_path / "run", tiny(), inputs=Inputs(corrections=area)))
    assert "The corrections label 8 patches of 1 slide (from tumour 1 area on 8 patches)." in [
        str(event) for event in events if isinstance(event, Notice)
    ]
    assert config_of(run.folder / "student")["n_corrections"] == 8


def test_training_stops_where_no_correction_can_be_used(cohort_csv, tmp_path, tiny):
    (tmp_path / "c.csv").write_text("slide_id,x,y,label\nslide_001,90000,5,tumour\nnobody,1,1,tumour\n")
    rows = [type(row)(**{**row.__dict__, "split": "train"}) for row in Cohort.read(cohort_csv)]
    with pytest.raises(CohortError, match=r"None of the corrections can be used: 1 mark outside"):
        drain(train(Cohort(tuple(rows)), tmp_path / "run", tiny(), inputs=Inputs(corrections=tmp_path / "c.csv")))
    assert not Run.is_run(tmp_path / "run")


def test_the_run_keeps_what_labels_mean(cohort_csv, tmp_path, tiny, flags, cli, refused):
    (tmp_path / "c.csv").write_text(
        "slide_id,x,y,label\nslide_001,5,5,Tumor\nslide_000,5,5,Tumor\nslide_002,5,5,Tumor\n"
    )
    rest = ["train", cohort_csv, "-o", tmp_path / "run", "--corrections", tmp_path / "c.csv", *flags]
    assert "--map Tumor=tumour" in refused(*rest)
    assert cli(*rest, "--map", "Tumor=tumour", "--coverage", "0.4")[0] == 0
    config = Run.open(tmp_path / "run").config
    assert (config.label_map, config.coverage) == ({"Tumor": "tumour"}, 0.4)
    assert cli("train", cohort_csv, "-o", tmp_path / "run", "--resume")[0] == 0
    assert "another meaning of labels. Leave out --map" in refused(
        "train", cohort_csv, "-o", tmp_path / "run", "--resume", "--map", "Tumor=normal"
    )


def test_export_says_what_it_used_and_writes_nothing_where_nothing_can_be(
    trained, cohort_csv, tmp_path, cli, table, area
):
    assert cli("predict", trained, cohort_csv, "-o", tmp_path / "p", "--format", "csv")[0] == 0
    wrong = tmp_path / "c.csv"
    wrong.write_text("slide_id,x,y,label\nslide_001,90000,90000,tumour\nnobody,10,10,tumour\n")
    status, _, said = cli("export", trained, "-o", tmp_path / "e", "--format", "csv", "--corrections", wrong)
    assert status == 2
    assert "None of the corrections can be used: 1 mark outside of the slide" in said
    assert not (tmp_path / "e").exists()
    status, _, said = cli("export", trained, "-o", tmp_path / "e", "--format", "csv", "--corrections", area)
    assert (status, "The corrections label 8 patches of 1 slide (from tumour 1 area on 8 patches)." in said) == (
        0,
        True,
    )
    rows = table(tmp_path / "e" / "slide_001.csv")
    assert {(row["source"], int(row["col"]) < 2) for row in rows} == {("corrected", True), ("model", False)}


def test_an_area_that_covers_too_little_of_every_patch_is_not_silent(trained, cohort_csv, tmp_path, cli, area):
    """A drop of 10 px beside the area: it touches one patch and labels none."""
    assert cli("predict", trained, cohort_csv, "-o", tmp_path / "p", "--format", "csv")[0] == 0
    (file,) = area.glob("*.geojson")
    drop = [[84, 84], [94, 84], [94, 94], [84, 94], [84, 84]]
    data = json.loads(file.read_text())
    data.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [drop]},
                 "properties": {"classification": "normal"}})  # fmt: skip
    file.write_text(json.dumps(data))
    status, _, said = cli("export", trained, "-o", tmp_path / "e", "--format", "csv", "--corrections", area)
    assert status == 0
    assert "from tumour 1 area on 8 patches, normal 1 area on 1 patch" in said
    assert "Not used: 1 area that covers too small a share of any patch" in said
