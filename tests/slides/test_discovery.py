import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.paths import LABELS_NAMESPACE, RECORD
from napari_distill2label.slides.discovery import distinct_names, find_slides, named_slides, natural_key, slides_in


@pytest.fixture
def folder(tmp_path):
    """Makes files (empty but for a byte) and returns their folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def names_in(folder, *paths):
    return [os.path.relpath(path, folder) for path in named_slides(paths or [folder])]


def test_slides_of_a_folder_come_in_natural_order_and_nothing_else_does(folder):
    there = folder(
        "s10.svs", "s9.svs", "S2.TIF", "notes.txt", "cohort.csv", ".hidden.svs", "._s9.svs", "s9.xml", "b/s1.ndpi",
        "a/x.png", ".git/y.png",
    )  # fmt: skip
    assert names_in(there) == ["S2.TIF", "s9.svs", "s10.svs", "a/x.png", "b/s1.ndpi"]


def test_slides_in_many_files_are_one(folder):
    there = folder(
        "dicom/1.dcm", "dicom/2.DCM", "dicom/overview.png", "mirax.mrxs", "mirax/Data0000.dat", "mirax/label.jpg",
        "h.jpg", "h(1,0).jpg", "h_macro.jpg", "other.jpg",
    )  # fmt: skip
    (there / "h.vms").write_text(
        "[Virtual Microscope Specimen]\nImageFile=h.jpg\nImageFile(1,0)=h(1,0).jpg\nMacroImage=h_macro.jpg\n"
    )
    assert names_in(there) == ["h.vms", "mirax.mrxs", "other.jpg", "dicom", "dicom/overview.png"]
    assert names_in(there, there / "dicom") == ["dicom", "dicom/overview.png"]


def test_of_zarr_folders_the_images_are_slides(tmp_path):
    for name, group in (("image.ome.zarr", "."), ("of_many.zarr", "0")):
        root = zarr.open_group(tmp_path / name, mode="w")
        (root if group == "." else root.create_group(group)).attrs["ome"] = {"multiscales": []}
    old = tmp_path / "old.zarr"
    old.mkdir()
    (old / ".zattrs").write_text('{"multiscales": [{}]}')
    zarr.open_group(tmp_path / "patches.zarr", mode="w").attrs["kind"] = "patch-map"
    (tmp_path / "damaged.zarr").mkdir()  # says nothing
    images = ["damaged.zarr", "image.ome.zarr", "of_many.zarr", "old.zarr"]
    assert names_in(tmp_path) == images
    assert names_in(tmp_path, str(tmp_path / "*.zarr")) == images
    # named itself, a folder is a slide, and whoever opens it says what is wrong with it
    assert names_in(tmp_path, tmp_path / "patches.zarr") == ["patches.zarr"]


def test_what_this_program_wrote_is_no_slide(folder):
    import tifffile

    there = folder("a.png", "b.png", "slide.ome.tif")
    (there / "b.png").write_bytes(b"somebody's own now")
    lines = [{"napari-distill2label": "x", "version": 1}, {"name": "a.png", "size": 1}, {"name": "b.png", "size": 1}]
    (there / RECORD).write_text("\n".join(map(json.dumps, lines)) + "\n{torn")
    ome = f'''<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <StructuredAnnotations><MapAnnotation ID="A:0" Namespace="{LABELS_NAMESPACE}"/></StructuredAnnotations></OME>'''
    tifffile.imwrite(there / "mask.ome.tif", np.zeros((8, 8), np.uint8), description=ome, metadata=None)
    assert names_in(there) == ["b.png", "slide.ome.tif"]
    assert names_in(there, str(there / "*")) == ["b.png", "slide.ome.tif"]
    assert names_in(there, there / "a.png") == ["a.png"]  # named itself


def test_a_long_record_is_read_whole(folder):
    there = folder("a.png", "b.png")
    lines = [{"name": f"{number:040}.csv", "size": 1, "sha256": "0" * 64} for number in range(40_000)]
    written = [*lines, {"name": "a.png", "size": 1}]
    (there / RECORD).write_text("\n".join(map(json.dumps, written)))
    assert names_in(there) == ["b.png"]


def test_patterns_match_slides(folder, monkeypatch):
    there = folder("a/s2.svs", "a/s10.svs", "a/s2.xml", "b/s1.svs", "b/deep/s3.tif", "[odd].svs")
    monkeypatch.chdir(there)
    assert list(map(str, named_slides(["a/*"]))) == ["a/s2.svs", "a/s10.svs"]
    assert list(map(str, named_slides(["*/s?.svs"]))) == ["a/s2.svs", "b/s1.svs"]
    assert list(map(str, named_slides(["**/*.tif"]))) == ["b/deep/s3.tif"]
    assert list(map(str, named_slides(["b*"]))) == ["b/s1.svs", "b/deep/s3.tif"]  # of folders, what is in them
    assert list(map(str, named_slides(["[odd].svs"]))) == ["[odd].svs"]  # a file of that name is no pattern


def test_nothing_found_is_one_line(folder):
    there = folder("a/notes.txt")
    with pytest.raises(CohortError, match=r"^.*/a: holds no slide: this version reads \.bmp[^\n]*$"):
        named_slides([there / "a"])
    with pytest.raises(CohortError, match=r"^.*\*\.svs: no slide matches this pattern$"):
        named_slides([str(there / "*.svs")])
    assert named_slides([there / "gone.svs"]) == [there / "gone.svs"]  # whoever opens it says so


def test_a_slide_named_twice_is_there_once(folder):
    there = folder("a/x.svs", "y.svs")
    (there / "link.svs").symlink_to(there / "y.svs")
    url = "https://host/a.zarr"
    found = named_slides([there / "a" / "x.svs", there / "a", there / "a" / ".." / "a" / "x.svs", url, there, url])
    assert found == [there / "a" / "x.svs", url, there / "link.svs"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.svs", "b/x.svs", "y.svs"], ["a_x", "b_x", "y"]),
        (["a/x.svs", "a/x.tif"], ["x.svs", "x.tif"]),
        (["c/a/x.svs", "d/a/x.svs"], ["c_a_x", "d_a_x"]),
        (["a/x.svs", "b/x.svs", "a_x.svs"], ["/a_x", "/b_x", "a_x"]),
        (["s3://b/1/x.zarr", "s3://b/2/x.zarr"], ["1_x", "2_x"]),
        (["a/x.svs", "a/X.svs"], ["x", "X"]),
    ],
)
def test_slides_of_one_name_are_told_apart(paths, names, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = distinct_names([path if "://" in path else Path(path) for path in paths])
    assert len(set(found)) == len(found)
    if names[0].startswith("/"):  # the folders above them, whatever these are here
        names = [name.replace("/", f"{tmp_path.name}_") for name in names]
    assert found == names


def test_the_order_they_are_named_in_changes_no_name():
    paths = [Path(f"/s/{folder}/{name}.svs") for folder in "abc" for name in "xyz"]
    names = dict(zip(paths, distinct_names(paths), strict=True))
    assert dict(zip(paths[::-1], distinct_names(paths[::-1]), strict=True)) == names


def test_natural_order():
    assert sorted(["s10", "S9", "s1", "t"], key=natural_key) == ["s1", "S9", "s10", "t"]


def test_what_is_dropped_on_the_window(folder):
    there = folder("a/s2.svs", "t.csv", "book.xlsx", "notes.docx")
    found = find_slides(
        [there / "a", there / "a" / "s2.svs", there / "t.csv", there / "book.xlsx", there / "notes.docx"]
    )
    assert found.slides == (there / "a" / "s2.svs",)
    assert found.tables == (there / "t.csv", there / "book.xlsx")
    assert len(found.refused) == 1
    assert list(slides_in(there)) == [there / "a" / "s2.svs"]


def test_slides_that_the_demo_drew_are_slides_though_they_are_on_record(tmp_path):
    from napari_distill2label.slides.synthetic import write_cohort
    from napari_distill2label.store.files.outputs import Outputs

    drawn = write_cohort(tmp_path / "drawn", 2, seed=0, shape=(80, 80)).parent / "slides"
    with Outputs((), False, "drawing") as outputs:
        for path in sorted(drawn.iterdir()):
            with outputs.writing(tmp_path / "demo" / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())
    assert len(list(slides_in(tmp_path / "demo"))) == 2
