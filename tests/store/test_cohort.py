import os
from pathlib import Path

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.cohort import Cohort, CohortSlide, slide_name


@pytest.fixture
def cohort_csv(tmp_path):
    def write(text: str, folder: str = ".") -> Path:
        path = tmp_path / folder / "cohort.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def read(path, classes=None):
    return Cohort.read(path).with_classes(classes)


def test_a_cohort_is_read(cohort_csv):
    path = cohort_csv(
        "slide_id,path,label,case_id,mpp,split\n"
        "a,slides/a.svs,normal,p1,0.25,train\n"
        "b,../b.tif,tumour,,,val\n"
        "c,/elsewhere/c.tif,,p2,,TEST\n"
    )
    cohort = read(path)
    assert cohort.classes == ("normal", "tumour")
    a, b, c = cohort
    assert a == CohortSlide("a", path.parent / "slides" / "a.svs", "normal", "p1", 0.25, "train")
    assert (b.case_id, b.mpp, b.split) == ("b", None, "valid")
    assert b.path.resolve() == (path.parent.parent / "b.tif").resolve()
    assert (c.label, c.split, c.path) == (None, "test", Path("/elsewhere/c.tif").absolute())
    assert cohort["b"] is b
    assert len(cohort) == 3
    assert [slide.slide_id for slide in cohort.labelled] == ["a", "b"]
    assert cohort.in_split("test") == ()  # c has no label
    assert cohort.indices(b) == (1,)


def test_a_cohort_survives_being_written(cohort_csv, tmp_path):
    path = cohort_csv(
        "slide_id,path,label,case_id,mpp,split\n"
        "a,s/a.svs,normal,p1,0.2527123,train\nb,b.tif,tumour;stroma,,,\nc,c.tif,,p2,1,test\n",
        "sub folder",
    )
    cohort = read(path)
    written = cohort.write(tmp_path / "run" / "cohort.csv")
    again = read(written)
    assert [s.path.resolve() for s in again] == [s.path.resolve() for s in cohort]
    assert [(s.slide_id, s.label, s.case_id, s.mpp, s.split) for s in again] == [
        (s.slide_id, s.label, s.case_id, s.mpp, s.split) for s in cohort
    ]
    # relative to where the table lies, so that the folder can be moved
    assert "../sub folder/s/a.svs" in written.read_text("utf-8")
    assert not list(written.parent.glob("*.tmp"))


def test_paths_are_relative_to_the_table_wherever_the_program_runs(cohort_csv, tmp_path, monkeypatch):
    path = cohort_csv("slide_id,path,label\na,x/a.png,0\nb,b.png,1\n", "here")
    monkeypatch.chdir(path.parent)
    assert Cohort.read("cohort.csv")["a"].path == path.parent / "x" / "a.png"
    monkeypatch.chdir(tmp_path)
    assert Cohort.read(Path("here") / "cohort.csv")["b"].path == path.parent / "b.png"
    Cohort.read("here/cohort.csv").write("out.csv")
    assert Cohort.read("out.csv")["a"].path.resolve() == path.parent / "x" / "a.png"


def test_non_ascii_and_spaced_paths(cohort_csv):
    path = cohort_csv(
        "slide_id,path,label\nSchnitt Ä 1,Größe 1/Schnitt Ä 1.tif,negative\n病理,b c.tif,positive\n", "Übung α"
    )
    (path.parent / "Größe 1").mkdir()
    (path.parent / "Größe 1" / "Schnitt Ä 1.tif").write_bytes(b"x")
    cohort = read(path)
    assert cohort["Schnitt Ä 1"].path.exists()
    assert read(cohort.write(path.parent / "noch einmal.csv")) == cohort


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_bytes(b"\xef\xbb\xbfslide_id,path,label\r\na,a.png,0\r\nb,b.png,1\r\n")
    assert [slide.slide_id for slide in read(path)] == ["a", "b"]


def test_clams_table_names_slides_by_their_stem(cohort_csv, tmp_path):
    slides = tmp_path / "DATA"
    slides.mkdir()
    names = ("slide.1.svs", "slide.2.svs", "slide.1.xml", "slide.2.geojson", "other.ome.tif")
    for name in names:
        (slides / name).write_bytes(b"x")
    path = cohort_csv(
        "case_id,slide_id,label\npatient_0,slide.1,normal_tissue\npatient_1,slide.2,tumor_tissue\n"
        "patient_2,other,tumor_tissue\npatient_3,slide.2.svs,tumor_tissue\npatient_4,absent,normal_tissue\n"
    )
    cohort = Cohort.read(path, slides)
    assert [slide.path.name for slide in cohort] == [
        "slide.1.svs",
        "slide.2.svs",
        "other.ome.tif",
        "slide.2.svs",
        "absent",
    ]
    assert cohort["slide.2"].case_id == "patient_1"


def test_a_stem_that_two_slides_have_is_one_plain_line(cohort_csv, tmp_path):
    for name in ("a.svs", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    path = cohort_csv("case_id,slide_id,label\np,a,normal\n")
    with pytest.raises(CohortError, match=r"slide 'a' could be any of a\.png, a\.svs: add a column 'path'"):
        Cohort.read(path)


@pytest.mark.parametrize(
    ("header", "row"),
    [("wsi,mpp", "x/a.svs,0.5"), ("PATIENT,FILENAME", "p,x/a.svs"), ("patient,slide,path", "p,a,x/a.svs")],
)
def test_headers_of_trident_stamp_and_slideflow(cohort_csv, header, row):
    path = cohort_csv(f"{header}\n{row}\n")
    (slide,) = Cohort.read(path)
    assert (slide.slide_id, slide.path) == ("a", path.parent / "x" / "a.svs")
    assert slide.case_id == ("p" if "p," in row else "a")
    assert slide.mpp == (0.5 if "mpp" in header else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"cohort\.csv: is empty"),
        ("label,case_id\n0,p\n", r"cohort\.csv: has neither a 'slide_id' nor a 'path' column"),
        ("slide_id,path\na,a.png\na,b.png\n", "two slides have the id 'a'"),
        ("path\nx/a.png\ny/a.png\n", "two slides have the id 'a'"),
        ("slide_id,path\na,\n", "slide 'a' has no path"),
        ("slide_id,path,mpp\na,a.png,zero\n", "slide 'a': mpp 'zero' is not between 0.05 and 20"),
        ("slide_id,path,mpp\na,a.png,0.005\n", "mpp '0.005' is not between"),
        ("slide_id,path,mpp\na,a.png,nan\n", "mpp 'nan' is not between"),
        ("slide_id,path,mpp\na,a.png,1e999\n", "mpp '1e999' is not between"),
        ("slide_id,path,split\na,a.png,holdout\n", "slide 'a': unknown split 'holdout'; use train, valid, test"),
        ("slide_id,path,label\na,a.png,\nb,b.png,\n", "no slide has a label"),
        ("slide_id,path,label\na,a.png,tumour\nb,b.png,tumour\n", "every labelled slide is 'tumour'"),
        ("slide_id,path,label\na,a.png,luminal\nb,b.png,basal\n", "which of basal, luminal is the negative class"),
    ],
)
def test_a_cohort_that_cannot_be_used_is_one_plain_line(cohort_csv, text, message):
    path = cohort_csv(text)
    with pytest.raises(CohortError, match=rf"^[^\n]*{message}[^\n]*$"):
        read(path)


def test_an_unknown_label_names_the_slide(cohort_csv):
    path = cohort_csv("slide_id,path,label\na,a.png,normal\nb,b.png,tumor\n")
    with pytest.raises(CohortError, match="unknown label 'tumor': the classes are normal, tumour"):
        read(path, ["normal", "tumour"])
    cohort = Cohort(Cohort.read(path).slides, ("normal", "tumour"))
    with pytest.raises(CohortError, match="slide 'b': unknown label 'tumor'"):
        cohort.indices(cohort["b"])


def test_several_classes_at_once(cohort_csv):
    cohort = read(cohort_csv("slide_id,path,label\na,a.png,normal\nb,b.png,tumour; necrosis\n"))
    assert cohort.classes == ("normal", "necrosis", "tumour")
    assert cohort.indices(cohort["b"]) == (1, 2)


def slides(*rows):
    """Slides from (id, label, case, split)."""
    return Cohort(
        tuple(CohortSlide(i, Path(i), label, case, None, split) for i, label, case, split in rows), ("0", "1")
    )


def test_a_case_in_two_splits_is_one_plain_line():
    mixed = slides(("a", "0", "p", "train"), ("b", "1", "p", "test"))
    with pytest.raises(CohortError, match=r"^case 'p' is in two splits: 'a' in train, 'b' in test[^\n]*$"):
        mixed.check_splits()
    slides(("a", "0", "p", "train"), ("b", "1", "p", "train"), ("c", None, "p", "test")).check_splits()


def test_warnings_for_what_is_allowed_but_unwise():
    def training(negative, positive):
        return [(f"n{i}", "0", f"n{i}", "train") for i in range(negative)] + [
            (f"p{i}", "1", f"p{i}", "train") for i in range(positive)
        ]

    valid = [("v0", "0", "v0", "valid"), ("v1", "1", "v1", "valid")]
    assert slides(*training(5, 5), *valid).warnings() == []
    assert "only 1 of 6 training slides are '0' (negative)" in slides(*training(1, 5), *valid).warnings()[0]
    assert "only 0 of 5" in slides(*training(0, 5), *valid).warnings()[0]
    assert "only 2 of 32" in slides(*training(2, 30), *valid).warnings()[0]
    assert "validation split has 1 slide" in slides(*training(5, 5), valid[0]).warnings()[0]
    unlabelled = slides(*training(5, 5), *valid, ("u", None, "u", None)).warnings()
    assert unlabelled == ["1 of 13 slides have no label: left out of training, still predicted"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.svs", "a"), ("x/a.ome.tif", "a"), ("a.OME.TIFF", "a"), ("a.ome.zarr", "a"), ("a.zarr/", "a"),
        ("TCGA-1.uuid.svs", "TCGA-1.uuid"), ("a.ome.png", "a.ome"), ("Größe 1.png", "Größe 1"),
    ],
)  # fmt: skip
def test_a_slide_is_named_by_its_file(path, name):
    from napari_distill2label.slides.slide import slide_name as name_of_slides

    assert slide_name(path) == name
    if not path.endswith("ome.png"):
        assert name_of_slides(Path(path)) == name  # the same rule in both rooms


def test_a_cohort_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = Cohort.of_files(["x/a.svs", tmp_path / "b.ome.tif"], mpp=0.5)
    assert [(s.slide_id, s.path, s.mpp, s.label, s.case_id) for s in cohort] == [
        ("a", Path(os.getcwd()) / "x" / "a.svs", 0.5, None, "a"),
        ("b", tmp_path / "b.ome.tif", 0.5, None, "b"),
    ]
    with pytest.raises(CohortError, match="two slides have the id 'a'"):
        Cohort.of_files(["x/a.svs", "y/a.svs"])


def test_urls_are_kept_as_given(cohort_csv, tmp_path):
    url, signed = "s3://bucket/ward 3/a.svs", "https://host/x/B-1.ome.zarr?sig=a.b/c"
    path = cohort_csv(f"path,label\n{url},normal\n{signed},tumour\nslides/c.tif,tumour\n")
    cohort = read(path)
    assert [(slide.slide_id, slide.path) for slide in cohort] == [
        ("a", url), ("B-1", signed), ("c", path.parent / "slides" / "c.tif"),
    ]  # fmt: skip
    again = read(cohort.write(tmp_path / "elsewhere" / "cohort.csv"))
    assert again == cohort
    assert [slide.path for slide in Cohort.of_files([url, signed])] == [url, signed]
    assert [slide.slide_id for slide in Cohort.of_files([url, signed])] == ["a", "B-1"]
