from collections import Counter
from pathlib import Path

import pytest

from napari_distill2label.core.errors import CohortError
from napari_distill2label.core.settings import SplitSettings
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.splits import k_folds, with_splits

CLASSES = ("normal", "rare", "tumour")


def cohort(cases: int, per_case=(1, 1, 2, 3), labels=("normal",) * 5 + ("tumour",) * 4 + ("rare",)) -> Cohort:
    """Cases of various sizes, each of one label."""
    slides = [
        CohortSlide(f"s{case}-{k}", Path(f"s{case}-{k}.tif"), labels[case % len(labels)], f"case{case}")
        for case in range(cases)
        for k in range(per_case[case % len(per_case)])
    ]
    return Cohort((*slides, CohortSlide("unlabelled", Path("u.tif"), case_id="case0")), CLASSES)


def shares(split: Cohort, name: str) -> dict[str, float]:
    totals = Counter(slide.label for slide in split.labelled)
    return {label: n / totals[label] for label, n in Counter(slide.label for slide in split.in_split(name)).items()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_are_70_10_20_of_every_label_and_keep_cases_together(seed):
    split = with_splits(cohort(400), SplitSettings(), seed)
    split.check_splits()
    assert len(split) == 701
    assert split["unlabelled"].split is None
    for name, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        assert len(split.in_split(name)) / len(split.labelled) == pytest.approx(share, abs=0.01)
        for label, found in shares(split, name).items():
            assert found == pytest.approx(share, abs=0.05), (name, label)
    for case in {slide.case_id for slide in split.labelled}:
        assert len({slide.split for slide in split.labelled if slide.case_id == case}) == 1


def test_splits_are_repeatable_and_depend_on_the_seed_alone():
    whole = cohort(40)
    first = with_splits(whole, SplitSettings(), 3)
    assert first == with_splits(whole, SplitSettings(), 3)
    assert first != with_splits(whole, SplitSettings(), 4)
    backwards = with_splits(whole.with_slides(reversed(whole.slides)), SplitSettings(), 3)
    assert {s.slide_id: s.split for s in first} == {s.slide_id: s.split for s in backwards}


def test_the_colon_set_has_both_classes_in_every_split():
    colon = cohort(80, per_case=(1,), labels=("normal", "tumour"))
    for seed in range(5):
        split = with_splits(colon, SplitSettings(), seed)
        assert [len(split.in_split(name)) for name in ("train", "valid", "test")] == [56, 8, 16]
        for name in ("train", "valid", "test"):
            assert Counter(slide.label for slide in split.in_split(name)).keys() == {"normal", "tumour"}


@pytest.mark.parametrize("slides", [2, 3, 4, 6, 10])
def test_few_slides_can_still_be_trained_on(slides):
    few = cohort(slides, per_case=(1,), labels=("normal", "tumour"))
    split = with_splits(few, SplitSettings(), 0)
    assert {slide.label for slide in split.in_split("train")} == {"normal", "tumour"}


def given(*rows):
    """Slides from (id, label, case, split)."""
    return Cohort(
        tuple(CohortSlide(i, Path(i), label, case, None, split) for i, label, case, split in rows), ("0", "1")
    )


def test_splits_of_the_table_are_kept():
    table = given(
        ("a", "0", "p", "train"), ("b", "1", "q", "test"), ("c", "1", "r", None), ("d", "0", "q", None),
        ("e", None, "s", "test"),
    )  # fmt: skip
    split = with_splits(table, SplitSettings(), 0)
    assert {s.slide_id: s.split for s in split} == {"a": "train", "b": "test", "c": "train", "d": "test", "e": "test"}


def test_a_case_in_two_splits_is_refused():
    with pytest.raises(CohortError, match="Case 'p' is in two splits"):
        with_splits(
            given(("a", "0", "p", "train"), ("b", "1", "p", "test"), ("c", "1", "q", "train")), SplitSettings(), 0
        )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "1", "p", "train"), ("b", "0", "q", "test")], "no training slide is labelled '0'"),
        ([("a", "0", "p", "train"), ("b", "1", "q", "test")], "no training slide is labelled '1'"),
        ([("a", None, "p", None), ("b", None, "q", None)], "no training slide is labelled"),
        ([("a", "x", "p", "train"), ("b", "0", "q", "train")], "slide 'a': unknown label 'x'"),
    ],
)
def test_a_training_split_without_both_sides_is_one_plain_line(rows, message):
    with pytest.raises(CohortError, match=rf"^[^\n]*{message}[^\n]*$"):
        with_splits(given(*rows), SplitSettings(), 0)


def test_a_missing_rare_class_is_no_error():
    rows = [("a", "normal", "a", "train"), ("b", "tumour", "b", "train"), ("c", "rare", "c", "test")]
    slides = tuple(CohortSlide(i, Path(i), label, case, None, split) for i, label, case, split in rows)
    assert len(with_splits(Cohort(slides, CLASSES), SplitSettings(), 0).in_split("train")) == 2


def test_fractions_that_leave_nothing_to_train_on():
    with pytest.raises(CohortError, match=r"split\.valid and split\.test leave no slide"):
        with_splits(cohort(10), SplitSettings(valid=0.5, test=0.5), 0)
    split = with_splits(cohort(40), SplitSettings(valid=0.0, test=0.0), 0)
    assert len(split.in_split("train")) == len(split.labelled)


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_test_every_slide_once(folds):
    whole = cohort(200)
    cohorts = k_folds(whole, folds, SplitSettings(), seed=0)
    assert len(cohorts) == folds
    tested = Counter(slide.slide_id for fold in cohorts for slide in fold.in_split("test"))
    assert tested == Counter({slide.slide_id: 1 for slide in whole.labelled})
    for fold in cohorts:
        fold.check_splits()
        assert len(fold.in_split("test")) / len(whole.labelled) == pytest.approx(1 / folds, abs=0.02)
        assert len(fold.in_split("valid")) / len(whole.labelled) == pytest.approx(0.1, abs=0.02)
        for label, share in shares(fold, "test").items():
            assert share == pytest.approx(1 / folds, abs=0.08), label
        assert fold["unlabelled"].split is None
    again = k_folds(whole, folds, SplitSettings(), seed=0)
    assert cohorts == again
    assert cohorts != k_folds(whole, folds, SplitSettings(), seed=1)


def test_one_fold_is_no_cross_validation():
    with pytest.raises(CohortError, match="2 or more folds, got 1"):
        k_folds(cohort(10), 1, SplitSettings(), 0)


def test_a_label_that_cannot_be_used_is_an_error_in_any_split():
    names = [("a", "normal", "train"), ("b", "tumour", "train"), ("c", "normal;tumour", "valid")]
    rows = tuple(CohortSlide(name, Path(name), label, name, None, split) for name, label, split in names)
    with pytest.raises(CohortError, match="slide 'c': label 'normal;tumour': 'normal' is the negative class"):
        with_splits(Cohort(rows, ("normal", "tumour")), SplitSettings(), 0)


def of_case(slide_id, label, case, split=None):
    return CohortSlide(slide_id, Path(f"{slide_id}.tif"), label, case, split=split)


def test_if_a_label_is_of_a_case_all_its_slides_have_it_and_lie_in_one_split():
    rows = [of_case(f"{case}-{k}", label if k == 0 else None, case)
            for case, label in (("P1", "tumour"), ("P2", "normal"), ("P3", None)) for k in range(3)]  # fmt: skip
    cohort = Cohort(tuple(rows), ("normal", "tumour"))
    settings = SplitSettings(valid=0, test=0)
    assert len(with_splits(cohort, settings, 0).labelled) == 2
    split = with_splits(cohort, settings, 0, "case")
    assert {row.case_id: row.label for row in split.labelled} == {"P1": "tumour", "P2": "normal"}
    assert len(split.labelled) == 6
    assert all(split[f"P3-{k}"].label is None for k in range(3))  # of a case nobody has labelled nothing is known


def test_a_slide_without_a_label_joins_the_split_of_its_case():
    rows = (of_case("a", "tumour", "P1", "train"), of_case("b", None, "P1"), of_case("c", "normal", "P2", "train"))
    assert with_splits(Cohort(rows, ("normal", "tumour")), SplitSettings(), 0, "case")["b"].split == "train"


def test_two_labels_of_one_case_are_refused():
    rows = (of_case("a", "tumour", "P1"), of_case("b", "normal", "P1"), of_case("c", "normal", "P2"))
    cohort = Cohort(rows, ("normal", "tumour"))
    with pytest.raises(CohortError, match="Case 'P1' has two labels: 'a' is 'tumour', 'b' is 'normal'") as error:
        with_splits(cohort, SplitSettings(valid=0, test=0), 0, "case")
    assert (error.value.remedy.field, error.value.remedy.value) == ("bag", "slide")
    with_splits(cohort, SplitSettings(valid=0, test=0), 0)
