"""What a spreadsheet would compute is written as a text, and read as it was."""

import csv
import io

import pytest

from napari_distill2label.store.cells import cell, text_of

FORMULAS = ["=1+1", "=cmd|'/C calc'!A0", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "' =1", "''-x",
            "=", "-", "- ", "--1", "-1-1", "+", "\uff1d1+1", "-1,5", "=\"a\"", "-tumour", "+/-"]  # fmt: skip
PLAIN = ["", "normal", "a=b", "-1.5", "+3", "-1e-5", "-.5", "12", "'s Gravenhage", "a;b", "'", "tumour-1", "切片"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_texts(text):
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_everything_else_stays(text):
    assert cell(text) == text


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN, *(cell(cell(text)) for text in FORMULAS)])
def test_they_are_read_as_they_were(text):
    assert text_of(cell(text)) == text
    table = io.StringIO()
    csv.writer(table).writerow([cell(text), "next"])
    assert text_of(next(csv.reader(io.StringIO(table.getvalue(), newline="")))[0]) == text
