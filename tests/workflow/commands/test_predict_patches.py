"""Which patches `predict` judges: the slide's µm/px, its tissue, a denser grid, given centres."""

import json

import numpy as np
import pytest
import tifffile

from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchPoints
from napari_distill2label.core.paths import slide_name
from napari_distill2label.slides.synthetic import write_image
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.run import Run


def mask_of(path):
    with tifffile.TiffFile(path) as file:
        return file.series[0].levels[0].asarray()


def test_a_slide_without_scale_asks_for_it(trained, png, tmp_path, cli, table):
    slide, out = png(), tmp_path / "out"
    status, _, err = cli("predict", trained, slide, "-o", out)
    assert status == 1
    assert f"{slide}: The slide has no pixel size" in err
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
    assert "The slide has 0.6 µm/px, coarser than the model's 0.5 µm/px" in err
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


def test_a_slide_without_tissue(cohort_csv, slides, tmp_path, tiny, png, cli):
    from napari_distill2label.workflow.commands.train import train

    run = drain(train(Cohort.read(cohort_csv), tmp_path / "run", tiny(patches={"tissue": "white"})))
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
    assert f"{white}: The tissue method 'white' finds no tissue." in err
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
    assert cli(*rest, "--dense-stride", "9")[0] == 0
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


def test_a_scale_given_later_reaches_the_files(cohort_csv, slides, tmp_path, tiny, png, cli):
    """Patches of a model without µm/px are the same, whatever the slide's; the mask's physical size is not."""
    from napari_distill2label.workflow.commands.train import train

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


def test_places_of_another_program(trained, slides, tmp_path, cli, table):
    """Patches of an HDF5 file with `coords` are predicted as those of a grid, wherever they lie."""
    h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")
    slide = slides[0]
    assert cli("predict", trained, slide, "-o", tmp_path / "grid", "--format", "csv")[0] == 0
    (kept,) = Run.open(trained).predictions.glob(f"{slide_name(slide)}.*.zarr")
    places = tmp_path / "places"
    assert cli("convert", kept, "-o", places, "--to", "places")[0] == 0
    assert cli("convert", trained, "-o", tmp_path / "of the run", "--to", "places")[0] == 0
    assert [file.name for file in (tmp_path / "of the run").glob("*.h5")] == [f"{slide_name(slide)}_patches.h5"]
    for given in (places, places / f"{slide_name(slide)}_patches.h5"):
        status, _, err = cli("predict", trained, slide, "-o", tmp_path / "same", "--centres", given, "--format", "csv")
        assert status == 0, err
        same, expected = (table(tmp_path / name / f"{slide_name(slide)}.csv") for name in ("same", "grid"))
        assert same == expected
    with h5py.File(places / f"{slide_name(slide)}_patches.h5", "w") as file:
        coords = file.create_dataset("coords", data=np.array([[3, 5], [40, 5], [71, 62]]))
        coords.attrs.update({"patch_size": 27, "patch_size_level0": 27})
    assert cli("predict", trained, slide, "-o", tmp_path / "three", "--centres", places, "--format", "csv")[0] == 0
    rows = table(tmp_path / "three" / f"{slide_name(slide)}.csv")
    assert [(row["minx"], row["miny"], row["width"]) for row in rows] == [
        ("3", "5", "27"), ("40", "5", "27"), ("71", "62", "27")
    ]  # fmt: skip
    with h5py.File(places / f"{slide_name(slide)}_patches.h5", "a") as file:
        file["coords"].attrs.update({"patch_size": 54, "patch_size_level0": 54})
    status, _, err = cli("predict", trained, slide, "-o", tmp_path / "larger", "--centres", places)
    assert status == 1
    assert "Its patches are 54 px wide at level 0, and the model sees 27 px at 0.5 µm/px, which are 27 px" in err
    status, _, err = cli("predict", trained, slides[1], "-o", tmp_path / "other", "--centres", places)
    assert status == 1
    assert f"has no places of the slide {slide_name(slides[1])}" in err


def test_training_and_evaluating_at_places(cohort_csv, slides, tmp_path, cli, flags):
    h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")
    places = tmp_path / "places"
    places.mkdir()
    for number, slide in enumerate(slides):
        with h5py.File(places / f"{slide.stem}_patches.h5", "w") as file:  # as TRIDENT: with .ome
            corners = [(x + number, y) for y in (0, 31, 64) for x in (2, 40, 71)]
            coords = file.create_dataset("coords", data=np.array(corners))
            coords.attrs.update({"patch_size": 27, "patch_size_level0": 27})
    status, _, err = cli("train", cohort_csv, "-o", tmp_path / "run", "--centres", places, *flags)
    assert status == 0, err
    truth = cohort_csv.with_name("truth.csv")
    status, out, err = cli("evaluate", tmp_path / "run", cohort_csv, "--truth", truth, "--centres", places,
                           "--split", "all")  # fmt: skip
    assert status == 0, err
    assert "prevalence" in out or "patches" in out
