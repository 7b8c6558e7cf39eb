"""`dataset`: the published layouts. The real images where they are, a made-up layout everywhere."""

import csv
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.notices import Notice
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.tables.points import read_points
from napari_distill2label.workflow.commands.prepare_dataset import prepare_dataset

KINDS = ("epithelial", "fibroblast", "inflammatory", "others")
NONE = np.empty((0, 2))


@pytest.fixture
def colon(tmp_path):
    """`colon({7: {"epithelial": points}})` -> a folder in the published layout, its images 40 px high and 60 wide."""

    def make(images, inner="CRC ü/Classification"):
        root = tmp_path / "daten"
        for number, points in images.items():
            folder = root / inner / f"img{number}"
            folder.mkdir(parents=True)
            Image.new("RGB", (60, 40), (200, 150, 180)).save(folder / f"img{number}.bmp")
            for kind in KINDS:
                savemat(folder / f"img{number}_{kind}.mat", {"detection": points.get(kind, NONE)})
        return root

    return make


def test_the_published_layout_with_gaps_dtypes_and_empty_tables(colon, tmp_path, collect):
    root = colon({
        2: {"epithelial": np.array([[1, 1], [60, 40]], np.uint8), "others": np.array([[10.5, 20.25]])},
        10: {"fibroblast": np.array([[30, 5]], np.uint16)},
        3: {"inflammatory": np.array([[61, 12], [0, 5]], np.int16)},  # one pixel outside
        5: {},
    })  # fmt: skip
    out = tmp_path / "aus é"
    events, path = collect(prepare_dataset("colon", root, out))
    assert path == out / "cohort.csv"
    cohort = Cohort.read(path).with_classes()
    assert cohort.classes == ("normal", "epithelial")
    assert [(slide.slide_id, slide.label) for slide in cohort] == [
        ("img2", "epithelial"), ("img3", "normal"), ("img5", "normal"), ("img10", "normal"),
    ]  # fmt: skip
    assert all(slide.path.is_file() and slide.mpp is None for slide in cohort)
    assert len({slide.case_id for slide in cohort}) == 4
    truth = read_points(out / "truth.csv", labelled=True)
    assert truth["img2"].coordinates.tolist() == [[0, 0], [39, 59], [19.25, 9.5]]  # (y, x), 0-based
    assert truth["img2"].labels.tolist() == ["epithelial", "epithelial", "others"]
    assert truth["img10"].coordinates.tolist() == [[4, 29]]
    assert truth["img3"].coordinates.tolist() == [[11, 59], [4, 0]]
    assert "img5" not in truth
    with (out / "centres.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["slide_id", "x", "y"]  # every nucleus, no class
    assert len(rows) == 6
    notices = [str(event) for event in events if isinstance(event, Notice)]
    assert any(notice.startswith("2 nuclei are marked just outside") for notice in notices)
    assert any("can share a patient" in notice for notice in notices)


@pytest.mark.parametrize("start", ["", "CRC ü", "CRC ü/Classification"])
def test_the_folder_or_a_parent_of_it(colon, tmp_path, collect, start):
    root = colon({1: {"epithelial": np.array([[3, 4]])}, 4: {}})
    assert len(Cohort.read(collect(prepare_dataset("colon", root / start, tmp_path / "out", mpp=0.55))[1])) == 2
    assert {slide.mpp for slide in Cohort.read(tmp_path / "out" / "cohort.csv")} == {0.55}


def test_two_data_sets_in_one_folder_are_not_one(colon, tmp_path, collect):
    """CoNSeP has the layout of the colon set, and lies beside it on many disks."""
    root = colon({1: {"epithelial": np.array([[3, 4]])}})
    shutil.copytree(root / "CRC ü", root / "consep")
    with pytest.raises(CohortError, match=r"several data sets, .*CRC ü/Classification and .*consep/Classification"):
        collect(prepare_dataset("colon", root, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert len(Cohort.read(collect(prepare_dataset("colon", root / "consep", tmp_path / "out"))[1])) == 1


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "no detection", "one column"])
def test_a_table_of_nuclei_that_cannot_be_read_is_named(colon, tmp_path, collect, damage):
    root = colon({1: {"epithelial": np.arange(1, 41).reshape(-1, 2)}})
    path = root / "CRC ü" / "Classification" / "img1" / "img1_epithelial.mat"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "no detection":
        savemat(path, {"points": NONE})
    elif damage == "one column":
        savemat(path, {"detection": np.ones((3, 1))})
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) - 60], "text": b"x,y\n1,2\n" * 40}[damage])
    with pytest.raises(CohortError, match=r"img1_epithelial\.mat"):
        collect(prepare_dataset("colon", root, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_table_cut_anywhere_is_an_error_of_ours(tmp_path, colon, collect):
    root = colon({1: {"epithelial": np.arange(1, 41).reshape(-1, 2)}})
    path = root / "CRC ü" / "Classification" / "img1" / "img1_epithelial.mat"
    whole = path.read_bytes()
    for end in range(4, len(whole) - 10, 11):
        path.write_bytes(whole[:end])
        with pytest.raises(CohortError, match=r"img1_epithelial\.mat"):
            collect(prepare_dataset("colon", root, tmp_path / "out"))


def test_what_is_no_data_set_is_one_line(tmp_path, refused, colon, cli):
    assert "no such folder" in refused("prepare-dataset", "colon", tmp_path / "gone", "-o", tmp_path / "out")
    assert "holds no Classification/img1/img1.bmp" in refused(
        "prepare-dataset", "colon", tmp_path, "-o", tmp_path / "out"
    )
    assert "holds no ytma" in refused("prepare-dataset", "breast", tmp_path, "-o", tmp_path / "out")
    assert cli("prepare-dataset", "lung", tmp_path, "-o", tmp_path)[0] == 2
    far = colon({1: {"epithelial": np.array([[200, 3]])}})
    assert "lie outside the image" in refused("prepare-dataset", "colon", far, "-o", tmp_path / "out")


def test_a_broken_image_is_one_line(tmp_path, colon, cli):
    root = colon({1: {}, 2: {}})
    image = root / "CRC ü" / "Classification" / "img2" / "img2.bmp"
    image.write_bytes(image.read_bytes()[:100])
    status, out, err = cli("prepare-dataset", "colon", root, "-o", tmp_path / "out")
    assert status in (1, 2)
    assert not out
    assert str(image) in err
    assert "Traceback" not in err


def test_breast_labels_and_cases_are_in_the_names(tmp_path, collect):
    folder = tmp_path / "brust"
    folder.mkdir()
    for name in ("ytma10_010704_benign1_ccd", "ytma10_010704_malignant2_ccd", "ytma12_010804_benign3_ccd", "notes"):
        Image.new("RGB", (40, 30)).save(folder / f"{name}.tif")
    cohort = Cohort.read(collect(prepare_dataset("breast", tmp_path, tmp_path / "out"))[1]).with_classes()
    assert cohort.classes == ("benign", "malignant")
    assert [(slide.label, slide.case_id) for slide in cohort] == [
        ("benign", "ytma10_010704"), ("malignant", "ytma10_010704"), ("benign", "ytma12_010804"),
    ]  # fmt: skip
    assert not (tmp_path / "out" / "truth.csv").exists()


# ---- the real images ---------------------------------------------------------------------------------------------


def test_the_real_colon_set(data_dir, tmp_path, cli):
    status, out, err = cli("prepare-dataset", "colon", data_dir / "colon", "-o", tmp_path)
    assert status == 0, err
    assert out.strip() == str(tmp_path / "cohort.csv")
    cohort = Cohort.read(tmp_path / "cohort.csv").with_classes()
    assert Counter(slide.label for slide in cohort) == {"epithelial": 41, "normal": 39}
    truth = read_points(tmp_path / "truth.csv", labelled=True)
    centres = read_points(tmp_path / "centres.csv")
    assert sum(map(len, truth.values())) == sum(map(len, centres.values()))
    for points in truth.values():
        assert points.coordinates.min() >= 0
        assert points.coordinates.max() <= 499
    # Against the published files themselves: 0-based, (x, y) -> (y, x).
    slide = next(slide for slide in cohort if slide.label == "epithelial")
    published = loadmat(slide.path.with_name(f"{slide.slide_id}_epithelial.mat"))["detection"].astype(float) - 1
    own = truth[slide.slide_id]
    found = own.coordinates[own.labels == "epithelial"][:, ::-1]
    np.testing.assert_allclose(found, published.clip(0, 499), atol=1e-3)


def test_the_real_breast_set(data_dir, tmp_path, cli):
    status, _, err = cli("prepare-dataset", "breast", data_dir, "-o", tmp_path)
    assert status == 0, err
    cohort = Cohort.read(tmp_path / "cohort.csv").with_classes()
    assert len(cohort) == 46
    assert len({slide.case_id for slide in cohort}) == 8
    assert cohort.classes == ("benign", "malignant")


def test_the_real_colon_set_end_to_end(data_dir, tmp_path, cli, flags, table):
    """Six crops, one epoch: `dataset`, `train`, `predict`, `evaluate`, on the grid and with centres."""
    assert cli("prepare-dataset", "colon", data_dir / "colon", "-o", tmp_path)[0] == 0
    rows = table(tmp_path / "cohort.csv")
    sizes = Counter(row["slide_id"] for row in table(tmp_path / "centres.csv"))
    rows.sort(key=lambda row: sizes[row["slide_id"]])  # few nuclei: quick
    some = [
        [row for row in rows if row["label"] == label and sizes[row["slide_id"]] > 5][:3]
        for label in ("normal", "epithelial")
    ]
    with (tmp_path / "six.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for group in some:
            writer.writerows(
                row | {"split": split} for row, split in zip(group, ("train", "train", "test"), strict=True)
            )
    run, centres = tmp_path / "run", ["--centres", tmp_path / "centres.csv"]
    status, _, err = cli("train", tmp_path / "six.csv", "-o", run, "--preset", "colon", "--baseline", *centres, *flags)
    assert status == 0, err
    slide = some[1][2]
    assert (
        cli("predict", run, tmp_path / "six.csv", "-o", tmp_path / "out", *centres, "--format", "csv,geojson")[0] == 0
    )
    assert len(table(tmp_path / "out" / f"{slide['slide_id']}.csv")) == sizes[slide["slide_id"]]
    status, out, err = cli(
        "evaluate", run, tmp_path / "six.csv", "--truth", tmp_path / "truth.csv", *centres, "-o", tmp_path / "m.json"
    )
    assert status == 0, err
    assert out.count("patch_mean_over_slides") == 3
    tested = {group[2]["slide_id"] for group in some}
    assert f"{sum(sizes[name] for name in tested)}\n" in out
    status, out, err = cli("evaluate", run, tmp_path / "six.csv", "--truth", tmp_path / "truth.csv")
    assert status == 0, err
    assert f"{2 * 19 * 19}\n" in out  # patches of 27 px whose centre is in 500 × 500


def test_the_real_consep_set(data_dir, tmp_path, cli):
    if not (data_dir / "consep").is_dir():
        pytest.skip("the CoNSeP set is not there: it was NOT tested")
    status, _, err = cli("prepare-dataset", "consep", data_dir / "consep", "-o", tmp_path)
    assert status == 0, err
    rows = Cohort.read(tmp_path / "cohort.csv")
    assert len(rows) >= 27
    assert {row.label for row in rows} == {"normal", "epithelial"}


@pytest.fixture
def glas(tmp_path):
    """A folder in the layout of GlaS: one image of each grade, and a row of an image that is not there."""
    root = tmp_path / "Daten ü" / "Warwick_QU_Dataset"
    root.mkdir(parents=True)
    rows = [
        "name,patient ID,grade (GlaS),grade (other)",
        "train_1,7, Benign,x",
        "testA_2,7, malignant,y",
        "gone,1,benign,",
    ]
    (root / "Grade.csv").write_text("\n".join(rows))
    glands = np.zeros((30, 40), np.uint8)
    glands[5:10, 5:25] = 1  # the published masks number the glands
    glands[20:25, 5:25] = 2
    for name in ("train_1", "testA_2"):
        Image.new("RGB", (40, 30), (200, 150, 180)).save(root / f"{name}.bmp")
        Image.fromarray(glands).save(root / f"{name}_anno.bmp")
    return root


def test_glas_has_patients_and_masks_of_malignant_glands(glas, tmp_path, collect):
    _, path = collect(prepare_dataset("glas", glas.parent, tmp_path / "out"))
    cohort = Cohort.read(path).with_classes()
    assert cohort.classes == ("benign", "malignant")
    assert {(row.slide_id, row.label, row.case_id, row.mpp) for row in cohort} == {
        ("train_1", "benign", "patient 7", 0.62), ("testA_2", "malignant", "patient 7", 0.62),
    }  # fmt: skip
    masks = {
        name: np.asarray(Image.open(tmp_path / "out" / "truth" / f"{name}.png")) for name in ("train_1", "testA_2")
    }
    assert (masks["train_1"] == 1).all()  # a gland of a benign image is no finding
    assert (masks["testA_2"] == 2).sum() == 200
    assert masks["testA_2"][5, 5] == 2
    assert masks["testA_2"][0, 0] == 1


@pytest.mark.parametrize("damage", ["no table", "other grade", "no image", "no annotation"])
def test_a_damaged_glas_set_is_named(glas, tmp_path, collect, damage):
    if damage == "no table":
        (glas / "Grade.csv").unlink()
    elif damage == "other grade":
        (glas / "Grade.csv").write_text("name,patient ID,grade\ntrain_1,7,odd\n")
    else:
        for name in ("train_1", "testA_2"):
            (glas / f"{name}{'_anno' if damage == 'no annotation' else ''}.bmp").unlink()
    with pytest.raises(CohortError, match=r"Grade.csv|graded 'odd'|none of its images|_anno.bmp: cannot be read"):
        collect(prepare_dataset("glas", glas, tmp_path / "out"))


def test_the_real_glas_set(data_dir, tmp_path, cli):
    if not (data_dir / "glas").is_dir():
        pytest.skip("the GlaS set is not there: it was NOT tested")
    status, _, err = cli("prepare-dataset", "glas", data_dir / "glas", "-o", tmp_path)
    assert status == 0, err
    rows = Cohort.read(tmp_path / "cohort.csv")
    assert len(rows) >= 60
    assert len({row.case_id for row in rows}) >= 6
    shares = {
        row.slide_id: (np.asarray(Image.open(tmp_path / "truth" / f"{row.slide_id}.png")) == 2).mean() for row in rows
    }
    assert all((shares[row.slide_id] > 0.1) == (row.label == "malignant") for row in rows)
