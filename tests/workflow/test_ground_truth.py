"""The truth as mask images, in the coding of the program's own masks."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_distill2label.core.bag import UNLABELLED
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.workflow.ground_truth import MaskTruth, read_truth

CLASSES = ("normal", "tumour", "stroma")
# 2 × 3 cells of 4 px on 8 × 12 px.
GRID = PatchGrid(slide_shape=(8, 12), side=4, stride=4, patch_px=4, rows=2, cols=3)


@pytest.fixture
def folder(tmp_path):
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :4] = 1
    mask[0, :4] = 2  # 4 px of tumour, 12 of normal
    mask[:4, 4:8] = 2
    mask[:4, 8:10], mask[:4, 10:12] = 3, 1  # as much of both: the finding wins
    mask[4:, 0] = 3  # the rest of this cell is unknown
    Image.fromarray(mask).save(tmp_path / "a.png")
    return tmp_path


def test_a_patch_has_the_class_of_most_of_its_known_pixels(folder):
    truth = read_truth(folder)
    assert "a" in truth
    assert "b" not in truth
    assert truth.of("a", GRID, CLASSES).tolist() == [0, 1, 2, 2, UNLABELLED, UNLABELLED]
    assert truth.of("b", GRID, CLASSES).tolist() == [UNLABELLED] * 6


def test_only_scored_patches_are_asked(folder):
    tissue = np.array([[False, True, False], [True, False, False]])
    assert read_truth(folder).of("a", GRID.with_tissue(tissue), CLASSES).tolist() == [1, 2]


def test_a_patch_at_a_point_has_the_class_of_its_pixel(folder):
    points = PatchPoints((8, 12), np.array([[0, 0], [2, 2], [5, 5]]), side=3, patch_px=3)
    assert read_truth(folder).of("a", points, CLASSES).tolist() == [1, 0, UNLABELLED]


def test_patches_over_the_border_count_their_pixels_inside(folder):
    grid = PatchGrid(slide_shape=(8, 12), side=4, stride=4, origin=(-2, -2), patch_px=4, rows=1, cols=1)
    assert read_truth(folder).of("a", grid, CLASSES).tolist() == [1]  # 2 px of tumour above 2 of normal


@pytest.mark.parametrize(("value", "size"), [(9, (8, 12)), (1, (8, 11))])
def test_a_mask_of_another_slide_or_coding_is_one_line(tmp_path, value, size):
    Image.fromarray(np.full(size, value, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(CohortError, match=r"a\.png"):
        read_truth(tmp_path).of("a", GRID, CLASSES)


def test_a_folder_without_masks_is_one_line(tmp_path):
    with pytest.raises(CohortError, match="no mask image"):
        read_truth(tmp_path)


def test_the_files_of_our_own_export_are_found(tmp_path):
    (tmp_path / "slide 1.ome.tif").touch()
    truth = read_truth(tmp_path)
    assert isinstance(truth, MaskTruth)
    assert "slide 1" in truth


# ---- masks of others -------------------------------------------------------------------------------------------------

TWO = ("normal", "tumour")


def save(folder, name, mask, **how):
    Image.fromarray(np.asarray(mask, how.pop("dtype", np.uint8))).save(folder / name, **how)


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_a_binary_mask_shows_findings_and_what_is_none(tmp_path, value, name):
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :4] = value
    mask[:4, 4:6] = value  # half of the second cell
    mask[4:, 0] = value  # a quarter
    save(tmp_path, name, mask)
    assert read_truth(tmp_path).of("a", GRID, TWO).tolist() == [1, 1, 0, 0, 0, 0]
    assert read_truth(tmp_path / name, coverage=0.2).of("a", GRID, TWO).tolist() == [1, 1, 0, 1, 0, 0]
    with pytest.raises(
        CohortError, match=rf"a\.\w+: The mask is binary, .* Inputs\(label_map=\{{'{value}': 'tumour'\}}"
    ):
        read_truth(tmp_path).of("a", GRID, CLASSES)
    mapped = read_truth(tmp_path, {str(value): "stroma"})
    assert mapped.of("a", GRID, CLASSES).tolist()[:3] == [2, 2, 0]


def test_a_mask_of_one_bit(tmp_path):
    save(tmp_path, "a.png", np.eye(8, 12) > -1, dtype=bool)
    mask = np.zeros((8, 12), bool)
    mask[:, :4] = True
    save(tmp_path, "a.png", mask, dtype=bool)
    assert read_truth(tmp_path).of("a", GRID, TWO).tolist() == [1, 0, 0, 1, 0, 0]


def test_how_masks_are_coded_is_the_same_for_all_of_a_folder(tmp_path):
    """0 and 1 alone in one mask, and 2 in another: 0 unknown, 1 the negative class, 2 the finding."""
    save(tmp_path, "a.png", np.arange(96).reshape(8, 12) % 2)
    save(tmp_path, "b.png", np.full((8, 12), 2))
    truth = read_truth(tmp_path)
    said = truth.check(TWO, ["a", "b", "c"], complete=True)
    assert str(said[0]).startswith(
        "The masks of the ground truth are read as 0 unknown, 1 normal, 2 tumour. Set Inputs(label_map"
    )
    assert truth.of("a", GRID, TWO).tolist() == [0] * 6
    assert truth.of("b", GRID, TWO).tolist() == [1] * 6


@pytest.mark.parametrize("asked", [["a"], ["z"], ["a", "z"]])
def test_a_mask_that_is_not_asked_for_says_how_masks_are_coded(tmp_path, asked):
    """The only test slide shows no finding: its 1 was read as a finding."""
    save(tmp_path, "a.png", np.arange(96).reshape(8, 12) % 2)
    save(tmp_path, "z.png", np.zeros((8, 12)))
    save(tmp_path, "picture.png", np.zeros((8, 12, 3)))
    (tmp_path / "damaged.png").write_bytes(b"x")
    binary = read_truth(tmp_path)
    said = binary.check(TWO, asked, complete=True)
    assert said[0].values["values"][0] == "0 normal"
    assert binary.of("z", GRID, TWO).tolist() == [0] * 6
    save(tmp_path, "b.png", np.full((8, 12), 2))
    coded = read_truth(tmp_path)
    said = coded.check(TWO, asked, complete=True)
    assert said[0].values["values"][0] == "0 unknown"
    assert "2" not in "".join(said[0].values["values"])
    assert coded.of("a", GRID, TWO).tolist() == [0] * 6
    assert coded.of("z", GRID, TWO).tolist() == [UNLABELLED] * 6
    said = (told := read_truth(tmp_path, {"0": "normal", "1": "tumour"})).check(TWO, asked, complete=True)
    assert said[0].values["values"][0] == "0 normal"
    assert told.of("a", GRID, TWO).tolist() == [1] * 6


def test_two_codings_in_one_folder_are_an_error(tmp_path):
    save(tmp_path, "a.png", np.arange(96).reshape(8, 12) % 2)
    save(tmp_path, "b.png", np.arange(96).reshape(8, 12) % 2 * 255)
    with pytest.raises(CohortError, match=r"b\.png: The mask has the value 255\. Masks are 0 unknown, 1 normal"):
        read_truth(tmp_path).check(TWO, ["a"], complete=True)
    told = read_truth(tmp_path, {"0": "normal", "1": "tumour"})
    told.check(TWO, ["a"], complete=True)
    assert told.of("a", GRID, TWO).tolist() == [1] * 6


@pytest.mark.parametrize(
    "names", [("a.png", "a.tif"), ("a.bmp", "a.ome.tif"), ("a.png", "a.PNG"), ("a.svs.png", "a.png")]
)
def test_two_masks_of_one_slide_are_an_error(tmp_path, names):
    for name in names:
        save(tmp_path, name, np.zeros((8, 12)))
    with pytest.raises(CohortError, match=r"^.*a\.\S+ and .*a\.\S+ are both of slide 'a': keep one of them$"):
        read_truth(tmp_path).check(TWO, ["a"], complete=True)


def test_an_empty_binary_mask_beside_others_is_all_negative(tmp_path):
    save(tmp_path, "a.png", np.arange(96).reshape(8, 12) % 2)
    save(tmp_path, "b.png", np.zeros((8, 12)))
    truth = read_truth(tmp_path)
    truth.check(TWO, ["a", "b"], complete=True)
    assert truth.of("b", GRID, TWO).tolist() == [0] * 6


def test_values_mean_what_the_map_says(tmp_path):
    mask = np.zeros((8, 12), np.uint8)
    mask[:, :4], mask[:, 4:8], mask[:, 8:] = 7, 9, 255
    save(tmp_path, "a.png", mask)
    with pytest.raises(
        CohortError, match=r"a\.png: The mask has the value 7\. Masks are 0 unknown, 1 normal, .*'7': 'tumour'"
    ):
        read_truth(tmp_path).of("a", GRID, CLASSES)
    truth = read_truth(tmp_path, {"7": "stroma", "9": "normal", "255": ""})
    assert truth.of("a", GRID, CLASSES).tolist() == [2, 0, UNLABELLED] * 2
    wrong = read_truth(tmp_path, {"7": "x", "*": ""})
    for ask in (lambda: wrong.of("a", GRID, CLASSES), lambda: wrong.check(CLASSES, ["a"], True)):
        with pytest.raises(CohortError, match="'7' is mapped to 'x', which is no class of the model"):
            ask()
    with pytest.raises(CohortError, match=r"There is no label '8' to map to ''\. The labels are 255, 7, 9"):
        read_truth(tmp_path, {"8": ""}).check(CLASSES, ["a"], complete=True)
    save(tmp_path, "b.png", np.full((8, 12), 8))  # another slide has it
    read_truth(tmp_path, {"8": "", "7": "stroma", "9": "normal", "255": ""}).check(CLASSES, ["a"], complete=True)


def test_masks_of_ours_say_themselves_what_their_values_are(tmp_path):
    """By name: the order of the classes may be another one."""
    from napari_distill2label.core.paths import LABELS_NAMESPACE

    mask = np.ones((8, 12), np.uint8)
    mask[:, :4] = 2

    def save_own(classes):
        names = {"classes": json.dumps(classes), "model": "student"}
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
            tiff.write(mask, metadata={"axes": "YX", "MapAnnotation": {"Namespace": LABELS_NAMESPACE, **names}})

    save_own({"1": "tumour", "2": "normal"})
    truth = read_truth(tmp_path)
    assert truth.check(TWO, ["a"], complete=True) == []
    assert truth.of("a", GRID, TWO).tolist() == [0, 1, 1] * 2
    save(tmp_path, "a.png", np.zeros((8, 12, 3)))  # a picture of the labels, as is exported beside the mask
    assert read_truth(tmp_path).of("a", GRID, TWO).tolist() == [0, 1, 1] * 2
    save_own({"1": "carcinoma", "2": "normal"})
    truth = read_truth(tmp_path, {"carcinoma": "tumour"})
    truth.check(TWO, ["a"], complete=True)
    assert truth.of("a", GRID, TWO).tolist() == [0, 1, 1] * 2
    for label_map, said in (
        ({"carcinoma": "cancer"}, "'carcinoma' is mapped to 'cancer', which is no class of the model"),
        ({"cancer": "tumour"}, "no label 'cancer' to map to 'tumour'. The labels are carcinoma, normal"),
    ):
        with pytest.raises(CohortError, match=said):
            read_truth(tmp_path, label_map).check(TWO, ["a"], complete=True)
    save_own({"2": "normal"})
    with pytest.raises(CohortError, match="has the value 1, which its list of classes does not name"):
        read_truth(tmp_path).check(TWO, ["a"], complete=True)


def test_the_negative_is_never_made_of_what_a_mask_does_not_know(folder):
    known, _ = read_truth(folder).known("a", GRID, CLASSES, complete=True)
    assert known.tolist() == [0, 1, 2, 2, UNLABELLED, UNLABELLED]


# ---- points and areas ------------------------------------------------------------------------------------------------


def test_a_patch_without_a_finding_is_negative_only_where_the_truth_looked(tmp_path):
    (tmp_path / "t.csv").write_text("slide_id,x,y,label\na,1,1,tumour\na,5,1,cell\na,2,2,cell\nc,,,\n")
    truth = read_truth(tmp_path / "t.csv")
    assert truth.check(CLASSES, ["a"], complete=True) == []
    assert truth.known("a", GRID, CLASSES, complete=True)[0].tolist() == [1, UNLABELLED, 0, 0, 0, 0]
    mapped = read_truth(tmp_path / "t.csv", {"*": "normal"})
    assert mapped.known("a", GRID, CLASSES, complete=True)[0].tolist() == [1, 0, 0, 0, 0, 0]
    left_out = read_truth(tmp_path / "t.csv", {"cell": ""})
    assert left_out.known("a", GRID, CLASSES, complete=True)[0].tolist() == [1, UNLABELLED, 0, 0, 0, 0]
    assert truth.known("a", GRID, CLASSES, complete=False)[0].tolist() == [1] + [UNLABELLED] * 5
    assert truth.known("b", GRID, CLASSES, complete=True)[0].tolist() == [UNLABELLED] * 6
    assert truth.known("c", GRID, CLASSES, complete=True)[0].tolist() == [0] * 6
    centred = PatchPoints((8, 12), np.array([[1, 1], [1, 9]]), 3, 3)
    assert truth.known("a", centred, CLASSES, complete=True)[0].tolist() == [1, UNLABELLED]
    boxes = PatchPoints((8, 12), np.array([[2, 2], [2, 9]]), 3, 3, boxes=True)
    assert truth.known("a", boxes, CLASSES, complete=True)[0].tolist() == [1, 0]


def test_what_qupath_ignores_is_not_made_negative(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 8], [0, 8], [0, 0]]]}
    data = {"type": "Feature", "geometry": square, "properties": {"classification": {"name": "Ignore*"}}}
    (tmp_path / "a.geojson").write_text(json.dumps(data))
    truth = read_truth(tmp_path / "a.geojson")
    assert truth.known("a", GRID, CLASSES, complete=True)[0].tolist() == [UNLABELLED, 0, 0] * 2


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 8], [0, 8], [0, 0]]]}


@pytest.mark.parametrize(
    ("geometry", "classification"),
    [
        (SQUARE, None),  # its class was forgotten
        ({"type": "MultiPoint", "coordinates": [[1, 1]]}, {"name": "Ignore*"}),
        ({"type": "Point", "coordinates": [9000, 5]}, "tumour"),  # not of this slide
        ({"type": "LineString", "coordinates": [[0, 0], [3, 3]]}, "tumour"),
        (None, "tumour"),
    ],
)
def test_a_slide_of_whose_marks_none_can_be_used_is_not_negative(tmp_path, geometry, classification):
    data = {"type": "Feature", "geometry": geometry, "properties": {"classification": classification}}
    (tmp_path / "a.geojson").write_text(json.dumps(data))
    known, tally = read_truth(tmp_path / "a.geojson").known("a", GRID, CLASSES, complete=True)
    assert known.tolist() == [UNLABELLED] * 6
    assert tally.is_unusable
    assert tally.outside.total() + tally.no_class.total() + tally.placeless + tally.ignored == 1
