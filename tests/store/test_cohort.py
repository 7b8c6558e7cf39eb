import errno
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from napari_distill2label.core.classes import order_classes
from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.paths import RECORD
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import Cohort, CohortSlide, doubtful_ids, slide_name
from napari_distill2label.store.splits import with_splits
from napari_distill2label.store.tables.csv_table import Style, escape_formula, format_table


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


def test_a_slide_without_a_case_is_a_case_of_its_own(tmp_path):
    rows = (CohortSlide("a", tmp_path / "a.tif", "normal"), CohortSlide("b", tmp_path / "b.tif", "tumour"))
    assert list(Cohort(rows).by_case) == ["a", "b"]
    assert replace(rows[0], slide_id="c").case_id == "a"  # that of the row it was made from


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
        ("slide_id,path\na,a.png\na,b.png\n", r"cohort\.csv: two slides have the id 'a'"),
        ("path\nx/a.png\ny/a.png\n", "two slides have the id 'a'"),
        ("slide_id,path\na,\n", "slide 'a' has no path"),
        ("slide_id,path,mpp\na,a.png,zero\n", "slide 'a': mpp 'zero' is not between 0.05 and 20"),
        ("slide_id,path,mpp\na,a.png,0.005\n", "mpp '0.005' is not between"),
        ("slide_id,path,mpp\na,a.png,inf\n", "mpp 'inf' is not between"),
        ("slide_id,path,mpp\na,a.png,0\n", "mpp '0' is not between"),
        ("slide_id,path\na,NA\n", r"cohort\.csv: slide 'a' has no path"),
        ("slide_id,path,mpp\na,a.png,1e999\n", "mpp '1e999' is not between"),
        ("slide_id,path,split\na,a.png,holdout\n", "slide 'a': unknown split 'holdout'; use train, valid, test"),
        ("slide_id,path,label\na,a.png,\nb,b.png,\n", "no slide has a label"),
        ("slide_id,path,label\na,a.png,tumour\nb,b.png,tumour\n", "every labelled slide is 'tumour'"),
        ("slide_id,path,label\na,a.png,luminal\nb,b.png,basal\n", "Which of basal, luminal is the negative class"),
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
    with pytest.raises(CohortError, match=r"^Case 'p' is in two splits: 'a' in train, 'b' in test[^\n]*$"):
        mixed.check_splits()
    slides(("a", "0", "p", "train"), ("b", "1", "p", "train"), ("c", None, "p", "test")).check_splits()


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
    alike = Cohort.of_files(["x/a.svs", "y/a.svs", "b.svs", "x/a.svs"])
    assert [slide.slide_id for slide in alike] == ["x_a", "y_a", "b"]  # the one that is named twice is there once
    assert list(map(str, alike.notices)) == ["2 slides share their file name with another one and are called x_a, y_a."]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "c.svs").write_bytes(b"x")
    assert [slide.path for slide in Cohort.of_files("x")] == [tmp_path / "x" / "c.svs"]
    assert [slide.path for slide in Cohort.of_files(["x/*.svs"])] == [tmp_path / "x" / "c.svs"]


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


# ---- what tables of other people hold ------------------------------------------------------------------------------


NO_VALUES = ["NA", "nan", "None", "-", "?", "unknown", "n/a", "#N/A", "", "   ", "N/A", "NaN", "NULL", "Unknown", "–"]


@pytest.mark.parametrize("text", NO_VALUES)
def test_what_stands_for_nothing_is_no_label_case_mpp_or_split(cohort_csv, text):
    path = cohort_csv(
        f"slide_id,path,label,case_id,mpp,split\na,a.png,{text},{text},{text},{text}\nb,b.png,{text},{text},{text},{text}\n"
        "c,c.png,normal,p,0.5,train\nd,d.png,tumour,q,,test\n"
    )
    cohort = read(path)
    assert cohort.classes == ("normal", "tumour")
    assert [slide.label for slide in cohort] == [None, None, "normal", "tumour"]
    assert [slide.case_id for slide in cohort] == ["a", "b", "p", "q"]  # not one patient
    assert [slide.mpp for slide in cohort] == [None, None, 0.5, None]
    assert [slide.split for slide in cohort] == [None, None, "train", "test"]
    told = [line for line in map(str, cohort.notices) if "are read as" in line]
    assert len(told) == (4 if text.strip() else 0)
    if told:
        assert told[0] == f"{path}: 2 cells are read as no label: {text!r} (2)."
        assert "no case" in told[1]


def test_labels_that_mean_nothing_are_named_where_none_is_left(cohort_csv):
    path = cohort_csv("slide_id,path,label\na,a.png,-\nb,b.png,-\nc,c.png,+\n")
    with pytest.raises(
        CohortError, match=r"cohort\.csv: every labelled slide is '\+'.*2 cells are read as no label: '-' \(2\)"
    ):
        read(path)
    with pytest.raises(CohortError, match="'none' means 'no label' in a table of slides"):
        read(path, ["none", "+"])


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        (
            ["normal", "Tumour", "tumour", "tumour", "Normal", "normal"],
            ("normal", "tumour"),
            ["'Normal' (1)", "'Tumour' (1)"],
        ),
        (["0", "0.0", "1", "1.0", "1"], ("0", "1"), ["'0.0' (1)", "'1.0' (1)"]),
        (["0", "00", "1", "1,0", "1"], ("0", "1"), ["'00' (1)"]),
        (["0.0", "1.0", "1.0"], ("0.0", "1.0"), []),
        (["normal", "Ko\u0308rper", "K\xf6rper", "K\xf6rper"], ("normal", "K\xf6rper"), ["one class 'K\xf6rper'"]),
        (["normal", "low grade", "low  grade", "low grade"], ("normal", "low grade"), ["one class"]),
        (["normal", "a;B", "b", "B", "A", "a", "A"], ("normal", "B", "a"), ["'A' (2)", "'b' (1)"]),
    ],
)
def test_spellings_of_one_class_are_one_class_and_this_is_said(cohort_csv, labels, classes, told):
    quoted = [f'"{label}"' for label in labels]
    path = cohort_csv("slide_id,path,label\n" + "".join(f"s{i},{i}.png,{label}\n" for i, label in enumerate(quoted)))
    cohort = read(path)
    assert cohort.classes == classes
    assert {name for slide in cohort for name in slide.label.split(";")} == set(classes)
    notices = " ".join(map(str, cohort.notices))
    assert all(part in notices for part in told)
    assert bool(cohort.notices) == bool(told)
    # where the user says how a class is spelled, it is
    shouted = read(path, [name.upper() for name in classes])
    assert shouted.classes == tuple(name.upper() for name in classes)
    assert [shouted.indices(slide) for slide in shouted] == [cohort.indices(slide) for slide in cohort]


def test_characters_that_are_not_seen_tell_no_classes_apart(cohort_csv):
    path = cohort_csv("slide_id,path,label\na,a.png,normal\nb,b.png,tumour\u200b\nc,c.png,tumour\nd,d.png,\u200b\n")
    cohort = read(path)
    assert cohort.classes == ("normal", "tumour\u200b")
    assert cohort.indices(cohort["c"]) == (1,)
    assert cohort["d"].label is None


def test_cases_that_differ_only_in_spelling_are_one_case(cohort_csv):
    path = cohort_csv("slide_id,path,case_id\na,a.png,P 1\nb,b.png,p 1\nc,c.png,P  1\nd,d.png,01\ne,e.png,1\n")
    cohort = Cohort.read(path)
    assert [slide.case_id for slide in cohort] == ["P 1", "P 1", "P 1", "01", "1"]
    assert tuple(map(str, cohort.notices)) == (
        f"{path}: 1 cases have case_ids that differ only in spelling, as 'P 1' and 'p 1' and 'P  1'.",
    )
    before = path.read_bytes()
    assert Cohort.read(cohort.save()) == cohort
    assert path.read_bytes() == before


def test_a_path_in_the_other_form_of_unicode_is_found(cohort_csv, tmp_path):
    (tmp_path / "Ko\u0308ln.svs").write_bytes(b"x")
    assert Cohort.read(cohort_csv("path\nK\xf6ln.svs\n")).slides[0].path.exists()
    assert Cohort.read(cohort_csv("slide_id\nK\xf6ln\n")).slides[0].path.exists()
    (tmp_path / "K\xf6ln.svs").write_bytes(b"y")
    assert Cohort.read(cohort_csv("path\nK\xf6ln.svs\n")).slides[0].path.read_bytes() == b"y"


def test_a_mask_of_ours_beside_its_slide_is_not_taken_for_it(cohort_csv, tmp_path):
    (tmp_path / "a.svs").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"picture")
    (tmp_path / RECORD).write_text('{"name": "a.png", "size": 7}\n')
    assert Cohort.read(cohort_csv("slide_id\na\n"))["a"].path.name == "a.svs"


def test_near_spellings_are_two_classes_and_this_is_said(cohort_csv):
    labels = ["normal", "tumour", "tumor", "grade1", "grade2", "high-grade", "high grade"]
    rows = "".join(f"s{i},{i}.png,{label}\n" for i, label in enumerate(labels))
    cohort = read(cohort_csv(f"slide_id,path,label\n{rows}"))
    assert len(cohort.classes) == 7
    told = [line.partition("the classes ")[2] for line in map(str, cohort.notices)]
    assert [line.partition(" are spelled nearly alike")[0] for line in told] == [
        "'tumour' and 'tumor'", "'high-grade' and 'high grade'",
    ]  # fmt: skip


def test_the_negative_class_stands_alone(cohort_csv):
    path = cohort_csv("slide_id,path,label\na,a.png,normal;tumour\nb,b.png,tumour\n")
    message = r"cohort\.csv: label 'normal;tumour': 'normal' is the negative class"
    with pytest.raises(CohortError, match=message):
        read(path)
    with pytest.raises(CohortError, match=message):
        read(path, ["normal", "tumour"])
    assert read(path, ["benign", "normal", "tumour"]).classes[0] == "benign"


def test_more_classes_than_a_map_can_hold_are_refused_before_training(cohort_csv):
    rows = "".join(f"s{i},s{i}.png,class {i}\n" for i in range(300))
    path = cohort_csv(f"slide_id,path,label\nn,n.png,normal\n{rows}")
    with pytest.raises(CohortError, match=r"cohort\.csv: 301 classes are more than the 128 that a model can have"):
        read(path)
    with pytest.raises(CohortError, match="129 classes are more"):
        order_classes([], [f"c{i}" for i in range(129)])
    assert len(order_classes([], [f"c{i}" for i in range(128)])) == 128


def test_a_tcga_barcode_names_the_patient(cohort_csv):
    names = ["TCGA-AA-3489-01Z-00-DX1.b2", "TCGA-AA-3489-11A-01-TS1", "tcga-aa-3489.png", "TCGA-AA-34890-01", "S-1"]
    path = cohort_csv("slide_id,path\n" + "".join(f"{name},x.svs\n" for name in names) + "own,TCGA-BB-0001-01A.svs\n")
    cohort = Cohort.read(path)
    patient = "TCGA-AA-3489"
    assert [slide.case_id for slide in cohort] == [patient, patient, patient, "TCGA-AA-34890-01", "S-1", "TCGA-BB-0001"]
    assert tuple(map(str, cohort.notices)) == (
        f"{path}: 4 slides have no case_id. Their TCGA barcodes name 2 patients, which are used as cases.",
    )
    told = Cohort.read(cohort_csv(f"slide_id,path,case_id\n{names[0]},x.svs,mine\n"))
    assert (told.slides[0].case_id, told.notices) == ("mine", ())


def test_slides_of_a_tcga_patient_are_never_divided(cohort_csv):
    rows = [
        f"TCGA-AA-{p:04}-0{s}Z-00-DX{s},{p}-{s}.svs,{'tumour' if p % 2 else 'normal'}\n"
        for p in range(20)
        for s in range(3)
    ]
    cohort = with_splits(read(cohort_csv("slide_id,path,label\n" + "".join(rows))), SplitSettings(), 0)
    splits = {}
    for slide in cohort:
        splits.setdefault(slide.slide_id[:12], set()).add(slide.split)
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())


def test_excels_decimal_comma_and_windows_paths(cohort_csv, tmp_path):
    path = cohort_csv("slide_id;path;mpp\na;slides\\a.svs;0,4990\nb;b.svs;2.5e-1\n")
    a, b = Cohort.read(path)
    assert (a.mpp, b.mpp) == (0.499, 0.25)
    assert a.path == tmp_path / "slides" / "a.svs"
    (tmp_path / "slides\\a.svs").write_bytes(b"")  # a file of that very name
    assert Cohort.read(path)["a"].path == tmp_path / "slides\\a.svs"


@pytest.mark.parametrize(
    "url",
    [
        "reference://x/a.zarr",
        "file:///etc/passwd",
        "zip::s3://b/a.zip",
        "simplecache::file:///etc/passwd",
        "github://a@b/c",
    ],
)
def test_a_url_that_could_read_local_files_is_refused(cohort_csv, url):
    with pytest.raises(CohortError, match=r"cohort\.csv: slide 'a': .*opened"):
        Cohort.read(cohort_csv(f"slide_id,path\na,{url}\n"))


def test_a_cell_of_100_kb_is_not_echoed(cohort_csv):
    long = "x" * 100_000
    for column in ("label", "mpp", "split", "path"):
        row = {"slide_id": long, "path": "a.png", "label": "normal", "mpp": "", "split": "", column: long}
        row["path"] = "zip::s3://" + long if column == "path" else row["path"]
        path = cohort_csv(",".join(row) + "\n" + ",".join(row.values()) + "\n")
        with pytest.raises(CohortError) as caught:
            read(path)
        assert len(str(caught.value)) < 800, column


# ---- the user's own table, written again ---------------------------------------------------------------------------


OWN = (
    "Age;PATIENT;FILENAME;Notes;Diagnosis;site\r\n"
    "61;P-1;slides\\a.svs;=1+1;Tumour;\r\n"
    "\r\n"
    '57;P-1;b.svs;"says ""x"";\r\nand more";NA;Köln\r\n'
    "44;;c.svs; two ;tumour;-\r\n"
)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "my table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + OWN.encode())
    return path


def test_a_table_that_nothing_was_changed_in_keeps_every_cell(own, tmp_path):
    cohort = Cohort.read(own).with_classes(["normal", "TUMOUR"])
    before = own.read_bytes()
    assert cohort.path == own
    assert cohort.save() == own
    assert own.read_bytes() == before.replace(b"\r\n\r\n57", b"\r\n57")  # an empty row says nothing
    assert (tmp_path / "my table.csv.bak").read_bytes() == before


def test_what_was_changed_is_changed_and_nothing_else(own):
    cohort = Cohort.read(own).with_classes(["normal", "tumour"])
    a, b, c = cohort
    b = replace(b, label="normal", mpp=0.25)
    new = CohortSlide("=d", own.parent / " d.svs", "normal", "P-9")
    cohort.with_slides([c, a, b, new]).save()
    lines = own.read_text("utf-8-sig").replace("\nand more", "").splitlines()
    assert lines == [
        "Age;PATIENT;FILENAME;Notes;Diagnosis;site;slide_id;mpp",
        "44;;c.svs; two ;tumour;-;;",
        "61;P-1;slides\\a.svs;=1+1;Tumour;;;",
        '57;P-1;b.svs;"says ""x"";";normal;Köln;;0.25',
        ";P-9;./ d.svs;;normal;;'=d;",
    ]
    again = Cohort.read(own).with_classes(["normal", "tumour"])
    assert again == cohort.with_slides([c, a, b, new])


def test_saved_elsewhere_paths_mean_the_same_files(own, tmp_path):
    cohort = Cohort.read(own)
    there = cohort.write(tmp_path / "else where" / "cohort.csv")
    assert there.read_text("utf-8-sig").splitlines()[1] == "61;P-1;../slides/a.svs;=1+1;Tumour;"
    assert Cohort.read(there) == cohort
    assert own.read_bytes().decode("utf-8-sig") == OWN


def test_a_table_without_paths_gets_them_only_where_it_moves(cohort_csv, tmp_path):
    (tmp_path / "a.svs").write_bytes(b"x")
    path = cohort_csv("slide_id,age\na,61\n")
    cohort = Cohort.read(path)
    cohort.save()
    assert path.read_text() == "slide_id,age\na,61\n"
    assert cohort.write(tmp_path / "x" / "c.csv").read_text() == "slide_id,age,path\na,61,../a.svs\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8"])
def test_the_encoding_is_kept_while_it_has_the_letters(tmp_path, encoding):
    path = tmp_path / "c.csv"
    path.write_bytes("slide_id\tpath\tsite\na\ta.png\tKöln\n".encode(encoding))
    cohort = Cohort.read(path)
    (a,) = cohort
    cohort.with_slides([replace(a, label="ja")]).save()
    assert path.read_bytes().decode(encoding) == "slide_id\tpath\tsite\tlabel\na\ta.png\tKöln\tja\n"
    cohort.with_slides([replace(a, label="病理")]).save()
    assert Cohort.read(path)["a"].label == "病理"


def test_a_decimal_comma_stays_one(cohort_csv):
    path = cohort_csv("slide_id;path;mpp\na;a.png;0,25\nb;b.png;\n")
    cohort = Cohort.read(path)
    cohort.with_slides(replace(slide, mpp=0.5) for slide in cohort).save()
    assert path.read_text() == "slide_id;path;mpp\na;a.png;0,5\nb;b.png;0,5\n"


def test_backups_never_replace_one_another(cohort_csv, tmp_path):
    path = cohort_csv("slide_id,path,age\na,a.png,61\n")
    first = path.read_bytes()
    cohort = Cohort.read(path)

    def save(label):
        cohort.with_slides([replace(cohort["a"], label=label)]).save()

    save("x")
    save("y")  # our own file: no backup
    assert [file.name for file in tmp_path.glob("*.bak")] == ["cohort.csv.bak"]
    assert path.with_name("cohort.csv.bak").read_bytes() == first
    edits = []
    for age in (62, 63):  # somebody else writes it meanwhile
        path.write_text(f"slide_id,path,age\na,a.png,{age}\n")
        edits.append(path.read_bytes())
        save("z")
    kept = {file.read_bytes() for file in tmp_path.glob("*.bak")}
    assert kept == {first, *edits}


def test_a_backup_is_whole_or_not_there(cohort_csv, tmp_path, monkeypatch):
    path = cohort_csv("slide_id,path,age\na,a.png,61\n")
    cohort = Cohort.read(path)

    def full(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match=r"No space left on device.*\.bak"):
        cohort.with_slides([replace(cohort["a"], label="x")]).save()
    assert [file.name for file in tmp_path.iterdir()] == ["cohort.csv"]


def test_a_read_only_table_is_left_alone(cohort_csv):
    path = cohort_csv("slide_id,path\na,a.png\n")
    cohort = Cohort.read(path)
    path.chmod(0o444)
    if os.access(path, os.W_OK):
        pytest.skip("nothing is read-only to this user")
    with pytest.raises(CohortError, match="is read-only"):
        cohort.with_slides([replace(cohort["a"], label="x")]).save()


def test_a_link_and_the_rights_of_a_table_stay(cohort_csv, tmp_path):
    path = cohort_csv("slide_id,path\na,a.png\n", "shared")
    path.chmod(0o600)
    link = path.parent / "link.csv"
    link.symlink_to(path)
    cohort = Cohort.read(link)
    cohort.with_slides([replace(cohort["a"], label="x")]).save()
    assert link.is_symlink()
    assert path.read_text() == "slide_id,path,label\na,a.png,x\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_slides_of_no_table_have_nowhere_to_be_saved():
    with pytest.raises(CohortError, match="come from no table"):
        Cohort(()).save()


@pytest.mark.slow
def test_tables_of_any_text_survive(tmp_path):
    """Seeded: any ids, labels, cases and other columns, read, written elsewhere and read again."""
    draw = random.Random(11)
    letters = [*"ab=+-@'\",;\t\n\r| .#?/ö病", "\u2028", "o\u0308", "\x1b[1m"]

    def text(least=1):
        return "".join(draw.choices(letters, k=draw.randint(least, 9))).strip()

    for turn in range(60):
        slides = {
            name: CohortSlide(
                name, tmp_path / f"{i}.svs", draw.choice([None, "normal", "tumour"]),
                draw.choice([name, f"case {i // 2}"]), draw.choice([None, 0.25]), draw.choice([None, "test"]),
            )
            for i in range(6)
            if (name := text())
        }  # fmt: skip
        cohort = Cohort(tuple(slides.values()))
        first = Cohort.read(cohort.write(tmp_path / f"{turn}.csv"))
        assert first == cohort
        style = Style(
            draw.choice(",;\t"), draw.choice(["\n", "\r\n"]), draw.choice(["utf-8", "utf-8-sig", "utf-16-le"])
        )
        notes = [text(0) for _ in slides]
        rows = [["note", "label", "wsi", "Slide"]]
        rows += [
            [note, s.label or "", f"{s.path}", escape_formula(s.slide_id)]
            for note, s in zip(notes, cohort, strict=True)
        ]
        path = tmp_path / f"own {turn}.csv"
        path.write_bytes(style.encoded(format_table(rows, style)))
        read = Cohort.read(path)
        assert [slide.slide_id for slide in read] == list(slides)
        moved = Cohort.read(read.write(tmp_path / "x" / f"{turn}.csv"))
        assert moved == read
        assert [row[0] for row in moved.table.table.rows] == notes


# ---- patients, and ids that look alike -----------------------------------------------------------------------------


def training(*ids, case=None):
    """Warnings of a cohort with these ids that say something of ids."""
    rows = [(name, str(i % 2), case(name) if case else name, "train") for i, name in enumerate(ids)]
    return list(map(str, doubtful_ids(slides(*rows).slides)))


def test_ids_that_begin_like_patients_are_said():
    (line,) = training("P17_1", "P17_2", "P23_1", "P23_2", "P31_1", "P31_2")
    assert line.startswith("The ids of 6 slides begin alike in 3 groups, as 'P17…'. If these are patients")
    assert training("patient_017_node_1", "patient_017_node_2", "patient_020_node_1", "patient_020_node_4")
    assert not training("P17_1", "P17_2", "P23_1", "P23_2", case=lambda name: name[:3])  # said by their cases
    assert not training("slide_000", "slide_001", "slide_002", "slide_003")
    assert not training("normal_001", "normal_002", "tumor_001", "tumor_002")
    assert not training(*(f"H{year}-{i}" for year in (18, 19) for i in range(30)))  # years
    assert not training("a", "b", "c1", "c2")


def test_a_tcga_patient_of_several_cases_is_said():
    (line,) = training("TCGA-AA-3489-01", "TCGA-AA-3489-02", "TCGA-BB-0001-01")
    assert line.startswith("1 patient by TCGA barcode has slides of several case_ids, as 'TCGA-AA-3489'")
    assert not training("TCGA-AA-3489-01", "TCGA-AA-3489-02", case=lambda name: name[:12])


def test_ids_that_differ_only_in_case_are_two_slides_and_this_is_said(cohort_csv):
    (line,) = training("S-a", "S-A", "b", "c")
    assert line == (
        "1 pair of ids differs only in case or the form of Unicode, as 'S-a' and 'S-A'. They are different slides here."
    )
    cohort = Cohort.read(cohort_csv("slide_id,path,label\na,1.png,normal\nA,2.png,tumour\n"))
    assert {slide.slide_id: slide.label for slide in cohort} == {"a": "normal", "A": "tumour"}
    assert [slide.case_id for slide in cohort] == ["a", "A"]
    assert Cohort.read(cohort.save()) == cohort
    assert not training("1", "01")


def test_a_table_without_paths_whose_slides_are_elsewhere_is_one_plain_line(cohort_csv, tmp_path):
    path = cohort_csv("slide_id,label\na,normal\nb,tumour\n")
    with pytest.raises(
        CohortError,
        match=rf"^{path}: The table has no column 'path', and {tmp_path} holds no slide .*slides_folder=….$",
    ):
        Cohort.read(path).check_found()
    (tmp_path / "a.svs").write_bytes(b"x")
    Cohort.read(path).check_found()  # b fails in its turn
    Cohort.read(cohort_csv("path\na.svs\n")).check_found()


def test_a_share_is_read_in_all_its_spellings_and_written_back_into_the_table(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_text("slide_id;path;label;share;mine\na;a.png;tumour;0,25;x\nb;b.png;tumour;40 %;y\nc;c.png;normal;;z\n")
    cohort = Cohort.read(path)
    assert [row.share for row in cohort] == [0.25, 0.4, None]
    rows = [replace(row, share=0.5) if row.slide_id == "c" else row for row in cohort]
    cohort.with_slides(rows).save()
    assert path.read_text().splitlines()[1:] == [
        "a;a.png;tumour;0,25;x", "b;b.png;tumour;40 %;y", "c;c.png;normal;0.5;z"
    ]  # fmt: skip
    new = cohort.without_table().write(tmp_path / "new.csv").read_text().splitlines()
    assert new[0].endswith(",split,share")
    plain = cohort.without_table().with_slides(replace(row, share=None) for row in cohort)
    assert plain.write(tmp_path / "plain.csv").read_text().splitlines()[0].endswith(",split")
