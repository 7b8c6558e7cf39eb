from pathlib import Path

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.cohort_edits import LabelRow, merge_labels, read_labels


def cohort(*names, classes=("normal", "tumour")):
    return Cohort(tuple(CohortSlide(name, Path(f"/s/{name}.svs"), case_id=name) for name in names), classes)


def labels_of(merged):
    return {slide.slide_id: slide.label for slide in merged.cohort}


def test_labels_go_to_the_slides_of_their_ids():
    before = cohort("a", "b", "c")
    merged = merge_labels(before, [LabelRow("b", "tumour", "P1", 0.25, "test"), LabelRow("x", "normal"), LabelRow("a")])
    assert labels_of(merged) == {"a": None, "b": "tumour", "c": None}
    assert merged.matched == ("a", "b")
    assert merged.unmatched == ("x",)
    assert merged.new_classes == ()
    b = merged.cohort["b"]
    assert (b.path, b.case_id, b.mpp, b.split) == (Path("/s/b.svs"), "P1", 0.25, "test")
    assert list(map(str, merged.notices)) == ["1 row names no slide that is here, or more than one: 'x'."]
    assert labels_of(merge_labels(before, [])) == {"a": None, "b": None, "c": None}


def test_a_case_is_spelled_as_the_cohort_spells_it():
    """P17 and p17 are one patient, whose slides must not fall into two splits; 1 and 01 are two."""
    slides = [CohortSlide(name, Path(f"/s/{name}.svs"), case_id=case) for name, case in zip("abc", "Pbc", strict=True)]
    rows = [LabelRow("b", case_id="p"), LabelRow("c", case_id="q 1"), LabelRow("d", case_id="Q 1")]
    merged = merge_labels(Cohort((*slides, *cohort("d", "e", "f")), ("normal", "tumour")), rows)
    assert [slide.case_id for slide in merged.cohort][:4] == ["P", "P", "q 1", "q 1"]
    merged = merge_labels(cohort("a", "b"), [LabelRow("a", case_id="1"), LabelRow("b", case_id="01")])
    assert [slide.case_id for slide in merged.cohort] == ["1", "01"]


def test_an_empty_cell_takes_no_label_away():
    one = Cohort((CohortSlide("a", Path("/s/a.svs"), "tumour", "P", 0.5, "train"),), ("normal", "tumour"))
    assert merge_labels(one, [LabelRow("a")]).cohort == one


@pytest.mark.parametrize("name", ["S-1.svs", "s-1", "S-1.ome.tif", "S-1.TIFF", "slides/S-1.svs"])
def test_an_id_written_differently_is_found_where_only_one_slide_can_be_meant(name):
    merged = merge_labels(cohort("S-1", "S-10"), [LabelRow(name, "tumour")])
    assert labels_of(merged) == {"S-1": "tumour", "S-10": None}
    assert "1 of 1 slides were found under a name written differently" in str(merged.notices[0])


def test_decomposed_umlauts_are_found():
    assert merge_labels(cohort("Ko\u0308ln"), [LabelRow("K\xf6ln", "normal")]).matched == ("Ko\u0308ln",)


def test_what_could_be_two_slides_is_none():
    two = cohort("A", "a")
    assert labels_of(merge_labels(two, [LabelRow("a", "tumour"), LabelRow("A", "normal")])) == {
        "A": "normal",
        "a": "tumour",
    }
    merged = merge_labels(two, [LabelRow("a.svs", "tumour")])
    assert (merged.matched, merged.unmatched) == ((), ("a.svs",))
    # two rows that may mean one slide
    merged = merge_labels(cohort("B"), [LabelRow("b", "tumour"), LabelRow("B.svs", "normal")])
    assert (merged.matched, set(merged.unmatched)) == ((), {"b", "B.svs"})
    # the row with the very id is right, the other one is none
    merged = merge_labels(cohort("B"), [LabelRow("b", "tumour"), LabelRow("B", "normal")])
    assert (labels_of(merged), merged.unmatched) == ({"B": "normal"}, ("b",))
    assert merge_labels(cohort("1", "01"), [LabelRow("01", "tumour")]).matched == ("01",)
    assert merge_labels(cohort("1"), [LabelRow("01", "tumour")]).matched == ()


def test_a_number_behind_a_dot_is_no_suffix():
    assert merge_labels(cohort("slide.2"), [LabelRow("slide.1", "tumour")]).matched == ()
    assert merge_labels(cohort("slide.2"), [LabelRow("slide.2.svs", "tumour")]).matched == ("slide.2",)


def test_classes_are_spelled_as_the_cohort_does_and_new_ones_come_last():
    merged = merge_labels(
        cohort("a", "b", "c"), [LabelRow("a", "Tumour;Stroma"), LabelRow("b", "stroma"), LabelRow("c", "NORMAL")]
    )
    assert merged.cohort.classes == ("normal", "tumour", "Stroma")
    assert merged.new_classes == ("Stroma",)
    assert labels_of(merged) == {"a": "tumour;Stroma", "b": "Stroma", "c": "normal"}


def test_a_table_of_labels_is_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("Slide;Diagnosis;patient;age\na;tumour;NA;61\nb;NA;P2;62\nTCGA-AA-3489-01;Tumour;;\n")
    rows, notices = read_labels(path)
    assert rows == [
        LabelRow("a", "tumour"), LabelRow("b", None, "P2"), LabelRow("TCGA-AA-3489-01", "tumour"),
    ]  # fmt: skip
    assert len(notices) == 3
    path.write_text("slide_id,path,label\na,a.svs,tumour\n")
    assert read_labels(path) is None
    path.write_text("name,label\na,tumour\n")
    with pytest.raises(CohortError, match=r"labels\.csv: has no column 'slide_id'; its header is name, label"):
        read_labels(path)
    path.write_text("slide_id,label\na,tumour\na,normal\n")
    with pytest.raises(CohortError, match=r"labels\.csv: two rows have the id 'a'"):
        read_labels(path)


@pytest.mark.slow
def test_ten_thousand_slides_are_matched_at_once():
    names = [f"S-{i}" for i in range(10_000)]
    merged = merge_labels(cohort(*names), [LabelRow(f"s-{i}.svs", "tumour") for i in range(10_000)])
    assert len(merged.matched) == 10_000
