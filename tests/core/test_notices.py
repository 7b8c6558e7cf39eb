"""Every notice has a sentence, and every interface says it."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.cli.messages import command_line_messages
from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.messages import Remedy, python_messages
from napari_distill2label.core.notices import REMEDIES, SENTENCES, Notice, NoticeCode
from napari_distill2label.gui.messages import text_of, window_messages

EVERY = (python_messages, command_line_messages, window_messages)

# A value for each name that a sentence is filled with.
VALUES = {
    "all_slides": False, "area": (10, 20), "beginning": "P1", "best": True, "by": "TIFF", "canvas": (30, 40),
    "case": "P1", "cause": "Are x and y swapped?", "cells": {"NA": 2}, "chance_loss": 0.7, "chosen": 2, "column": "mpp",
    "corner": (1, 2), "elsewhere": None, "expected": "uni", "few": 10, "file": "a.csv", "first": "a: damaged.",
    "folder": "/f", "folds": 5, "found": 2, "fraction": 0.1, "given": (0.5, 0.5), "groups": [["a", "b"]], "guess": "",
    "high": 20.0, "kind": "fluorescence", "labels": {"Tumor": 2}, "largest": 9, "limit": 4, "loss": 0.7, "low": 0.05,
    "marks": "2 points", "matched": 3, "method": "otsu", "missing": ["1 of 2 of level 0"], "mpp": (0.5, 0.6), "n": 2,
    "name": "tumour", "names": ["a", "b"], "negative": "normal", "network": "teacher", "note": "crops", "one": "a",
    "one_label": "x", "orientation": 3, "other": "b", "other_label": "y", "others": True, "patches": 3, "patient": "P",
    "patients": 2, "positive": True, "problem": "It is damaged.", "reason": "read-only", "reasons": {"own": ["a"]},
    "said": None, "scheduler": "tcp://a", "size": "9 px", "slides": ["a"], "spellings": {"a": 1}, "stops": True,
    "total": 5, "unused": [], "values": ["1 normal"], "epochs": 5, "learning_rate": 1e-4,
    "promise": "A promise.", "times": 2.5, "empty": 1, "form": "csv", "what": {"areas": 2}, "without": 3,
}  # fmt: skip
OF_CODE = {
    NoticeCode.MPP_MISSING: {"mpp": 0.5},
    NoticeCode.MPP_OVERRIDDEN: {"file": (0.25, 0.25)},
    NoticeCode.CORRECTIONS_USED: {"slides": 2},
    NoticeCode.REGIONS_USED: {"slides": 2},
    NoticeCode.CASES_FROM_BARCODES: {"slides": 2},
    NoticeCode.IDS_BEGIN_ALIKE: {"slides": 6, "groups": 3},
    NoticeCode.CASE_SPELLINGS: {"spellings": ["a", "A"]},
    NoticeCode.ROWS_MATCHED_LOOSELY: {"names": {"a": "A"}},
    NoticeCode.LABELS_DOUBTED: {"names": {"a": {"tumour": 0.95, "ulcer": 0.05}}},
    NoticeCode.MARKS_USED: {"patches": {"normal": 3}},
    NoticeCode.PATCHES_LABELLED: {"patches": {"normal": 3}},
}


def example(code: NoticeCode) -> Notice:
    """A notice of this code with every value that its sentence takes."""
    names = inspect.signature(SENTENCES[code]).parameters
    return Notice(code, {name: OF_CODE.get(code, {}).get(name, VALUES[name]) for name in names}, "S-001")


def test_every_code_has_a_sentence_and_no_other_is_there():
    assert set(SENTENCES) == set(NoticeCode)
    assert set(REMEDIES) <= set(NoticeCode)


@pytest.mark.parametrize("code", NoticeCode)
def test_every_interface_says_every_notice(code):
    notice = example(code)
    first = notice.sentence.removeprefix("a.csv")[0]
    assert first in ": " or first == first.upper()
    for messages in EVERY:
        text = messages.notice(notice)
        assert text.startswith("S-001: ")
        assert text.endswith((".", "?"))
        assert "None" not in text
    assert "--" not in window_messages.notice(notice)


IDS = st.text(min_size=1) | st.sampled_from(["case: 7", "epoch 3", "slides.h5", "a: --mpp", "{n}", "%s", "S 1: 2/3"])


@given(IDS)
def test_an_id_may_be_anything(slide_id):
    notice = Notice(NoticeCode.INK, {"fraction": 0.1}, slide_id)
    error = SlideError("The slide has no pixel size.", item=slide_id, remedy=Remedy("set", "inputs.mpp"))
    for messages in EVERY:
        assert messages.notice(notice).endswith("10.0% of the slide look like blue, green or black ink. "
                                                "Leave out such places.")  # fmt: skip
        assert ": The slide has no pixel size. Set" in messages.error(error)
    assert "\n" not in text_of(notice)
