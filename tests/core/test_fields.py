"""Every setting and every input has one row, and a name in each interface."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.cli.main import build_parser
from napari_distill2label.cli.messages import option_of
from napari_distill2label.core.fields import FIELDS, INPUTS, SETTINGS, nested, value_at, value_in_words
from napari_distill2label.core.settings import Settings
from napari_distill2label.gui.messages import PLACES

# Options that are no input of the work: what a shell is told, and the seed of the synthetic cohort.
NO_FIELDS = {"--help", "--version", "--debug"}


def options() -> dict[str, str]:
    """Option -> its help, of all commands."""
    parser = build_parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {
        option: action.help or ""
        for command in (parser, *commands.values())
        for action in command.complete()._actions
        for option in action.option_strings
        if option.startswith("--")
    }


def test_every_field_has_an_option():
    there = options().keys() | {"-o"}
    assert {key for key in FIELDS if not key.startswith("cohort.") and option_of(key) not in there} == set()


def test_every_option_has_a_field():
    keys = {option_of(key) for key in FIELDS} | {option_of(key).replace("_", "-") for key in SETTINGS} | {"--out"}
    assert {option for option in options() if option not in keys} == NO_FIELDS


def test_every_field_has_a_place_in_the_window_or_none_on_purpose():
    assert PLACES.keys() == FIELDS.keys()
    assert all(PLACES[key] is not None for key in SETTINGS)


@pytest.mark.parametrize("key", FIELDS)
def test_a_row_is_plain(key):
    row = FIELDS[key]
    assert row.key == key
    assert row.name
    assert row.name[0] == row.name[0].upper() or row.name[0] in "λγδτ"
    assert row.description.endswith((".", "…"))
    assert "--" not in row.description
    assert "`" not in row.description


def test_the_help_of_an_option_is_the_description():
    texts = options()
    assert all(texts[option_of(key)].startswith(row.description.split("%")[0]) for key, row in INPUTS.items()
               if not key.startswith("cohort.") and key != "out")  # fmt: skip


@given(st.sampled_from(sorted(SETTINGS)))
def test_a_setting_is_found_by_its_key(key):
    value = value_at(Settings(), key)
    assert value_in_words(key, value)
    assert value_at(Settings.model_validate(nested(key, value)), key) == value


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("patches.size_px", 27, "27 px"),
        ("patches.mpp", None, "slide's own"),
        ("teacher.rotate_flip", True, "yes"),
        ("teacher.optimiser", "adam", "adam"),
    ],
)
def test_values_in_words(key, value, text):
    assert value_in_words(key, value) == text
