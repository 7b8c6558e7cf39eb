"""Editors of settings show values as people write them, and hand on what is given."""

import pytest

from napari_distill2label.gui.panels.train.form_fields import DIFFERS, make_editor


@pytest.fixture
def made(qtbot):
    """Makes an editor; what the user gives is added to `given`."""
    given = []

    def make(path, shared=False):
        editor = make_editor(path, given.append, shared)
        qtbot.addWidget(editor.widget)
        return editor

    make.given = given
    return make


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("teacher.learning_rate", 0.0005, "0.0005"),
        ("teacher.lambda_n", 0.3, "0.3"),
        ("patches.size_px", 27, "27"),
        ("patches.mpp", None, "slide's own"),
        ("patches.mpp", 0.5, "0.5 µm/px"),
        ("student.pseudo_bag_size", None, "whole slide"),
    ],
)
def test_numbers(made, path, value, text):
    editor = made(path)
    editor.show(value)
    assert editor.widget.text() == text
    assert made.given == []  # to show a value is not to give one


def test_what_is_given(made):
    made("patches.size_px").widget.setValue(40)
    optional = made("patches.mpp")
    optional.widget.setValue(0.25)
    optional.widget.setValue(optional.widget.minimum())
    choice = made("patches.tissue")
    choice.widget.activated.emit(2)
    made("architecture.multi_label").widget.click()
    assert made.given == [40, 0.25, None, "otsu", True]


def test_networks_that_differ(made):
    number, choice = made("teacher.learning_rate", shared=True), made("teacher.keep_epoch", shared=True)
    for editor in (number, choice):
        editor.show(None)
    assert number.widget.text() == DIFFERS
    assert choice.widget.currentText() == ""
    number.show(0.01)
    choice.show("last")
    assert (number.widget.text(), choice.widget.currentText()) == ("0.01", "the last")
