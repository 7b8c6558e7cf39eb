"""Two sides have changed one table: nothing of either is lost, and what both changed is named."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.cohort_merge import Conflict, merge_cohorts


def cohort(**labels):
    rows = (CohortSlide(name, Path(f"{name}.png"), label, name) for name, label in labels.items())
    return Cohort(tuple(rows), ("normal", "tumour"))


def labels(merged):
    return {row.slide_id: row.label for row in merged}


BASE = cohort(a="normal", b="normal", c=None)


def test_changes_of_both_sides_come_together():
    merged = merge_cohorts(BASE, cohort(a="tumour", b="normal", c=None), cohort(a="normal", b="normal", c="tumour"))
    assert labels(merged.here) == labels(merged.there) == {"a": "tumour", "b": "normal", "c": "tumour"}
    assert (merged.changed, merged.conflicts) == (("c",), ())


def test_what_both_have_changed_is_a_conflict_unless_it_is_the_same():
    merged = merge_cohorts(BASE, cohort(a="tumour", b="tumour", c=None), cohort(a=None, b="tumour", c=None))
    assert merged.conflicts == (Conflict("a", "label", "tumour", None),)
    assert labels(merged.here)["a"] == "tumour"
    assert labels(merged.there)["a"] is None


def test_slides_are_added_and_removed_on_either_side():
    here = cohort(a="normal", c=None, mine="tumour")
    there = cohort(theirs="normal", b="tumour", a="normal")
    merged = merge_cohorts(BASE, here, there)
    assert labels(merged.here) == {"theirs": "normal", "a": "normal", "mine": "tumour"}
    assert labels(merged.there) == {"theirs": "normal", "b": "tumour", "a": "normal", "mine": "tumour"}
    assert merged.conflicts == (Conflict("b", "", "removed", "changed"),)
    assert merged.changed == ("b", "c", "theirs")


def test_new_names_of_classes_are_taken():
    there = cohort(a="stroma", b="normal", c=None)
    merged = merge_cohorts(BASE, BASE, replace(there, classes=("normal", "stroma")))
    assert merged.here.classes == ("normal", "tumour", "stroma")


NAMES = st.sampled_from("abcd")
SIDES = st.dictionaries(NAMES, st.sampled_from([None, "normal", "tumour"])).map(lambda found: cohort(**found))


@given(SIDES, SIDES, SIDES)
def test_one_side_that_changed_nothing_gives_the_other(base, here, there):
    assert labels(merge_cohorts(base, base, there).here) == labels(there)
    assert labels(merge_cohorts(base, here, base).there) == labels(here)
    merged = merge_cohorts(base, here, there)
    in_conflict = {each.slide_id for each in merged.conflicts}
    for slide_id, label in labels(here).items():
        if labels(base).get(slide_id, "none") != label or slide_id not in labels(base):
            assert slide_id not in labels(merged.here) or labels(merged.here)[slide_id] == label
            assert slide_id in labels(merged.here)
    for slide_id in labels(there):
        if slide_id not in in_conflict and slide_id not in labels(base):
            assert labels(merged.here)[slide_id] == labels(there)[slide_id]
