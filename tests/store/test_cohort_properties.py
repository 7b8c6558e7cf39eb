"""A cohort comes back from its table, whatever its slides are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.classes import SEPARATOR, is_no_value
from napari_distill2label.store.cohort import Cohort, CohortSlide
from napari_distill2label.store.tables.csv_table import (
    Style,
    escape_formula,
    format_table,
    open_table,
    unescape_formula,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
# What a cell can say: it is stripped, and a word such as `NA` says nothing.
CELL = TEXT.map(str.strip).filter(lambda text: text and not is_no_value(text))
CLASSES = ("normal", "tumour", "in situ", "=SUM(A1)", "-x", "Fett;gewebe".replace(SEPARATOR, "-"))
LABELS = st.none() | st.lists(st.sampled_from(CLASSES), min_size=1, max_size=2, unique=True).map(SEPARATOR.join)
MPP = st.none() | st.floats(0.05, 20)


@st.composite
def cohorts(draw, folder: Path):
    ids = draw(st.lists(CELL, unique=True, min_size=1, max_size=6))
    slides = [
        CohortSlide(
            slide_id,
            folder / f"{number}.svs",
            draw(LABELS),
            draw(st.sampled_from(["P1", "0012", "=P"])),
            draw(MPP),
            draw(st.none() | st.sampled_from(["train", "valid", "test"])),
        )
        for number, slide_id in enumerate(ids)
    ]
    return Cohort(tuple(slides))


@pytest.mark.slow
@given(st.data())
def test_a_cohort_comes_back_from_its_table(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cohort")
    cohort = data.draw(cohorts(folder))
    again = Cohort.read(cohort.write(folder / "cohort.csv"))
    assert again.slides == cohort.slides
    assert Cohort.read(again.write(folder / "again.csv")).slides == cohort.slides


@given(st.lists(st.lists(TEXT, min_size=3, max_size=3), min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_cells_come_back_from_a_table(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    style = Style(delimiter)
    rows = [[f"x{number}", *row] for number, row in enumerate(rows)]  # a row of empty cells is none
    text = format_table([("slide_id", "a", "b", "c"), *(list(map(escape_formula, row)) for row in rows)], style)
    path.write_bytes(style.encoded(text))
    table = open_table(path)
    assert [list(map(unescape_formula, row)) for row in table.rows] == rows


@given(TEXT)
def test_a_formula_is_taken_apart_as_it_was_put_together(text):
    assert unescape_formula(escape_formula(text)) == text
