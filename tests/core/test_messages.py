"""Errors, notices and remedies: facts, and the words that Python, the command line and the window make of them."""

import ast
import pickle  # noqa: TID251 · as dask carries errors from its workers
import re
from pathlib import Path
from typing import get_args

import pytest

import napari_distill2label
from napari_distill2label.cli.messages import command_line_messages
from napari_distill2label.core.errors import CohortError, OutputError, SettingsError, SlideError, TileError
from napari_distill2label.core.events import ItemFailed
from napari_distill2label.core.messages import Action, Remedy, python_messages
from napari_distill2label.gui.messages import message_of, window_messages

PACKAGE = Path(napari_distill2label.__file__).parent
EVERY = (python_messages, command_line_messages, window_messages)

REMEDIES = [
    Remedy("set", "inputs.mpp"),
    Remedy("set", "patches.tissue", "none"),
    Remedy("set", "overwrite", True),
    Remedy("set", "inputs.label_map", {"Tumor": "tumour"}),
    Remedy("clear", "inputs.encoder"),
    Remedy("clear", "inputs.label_map", {"Tumor": ""}),
    Remedy("choose", "inputs.encoder", alternative=Remedy("choose", "inputs.features")),
    Remedy("install", value="napari-distill2label[slides]"),
    Remedy("retry"),
    Remedy("resume", alternative=Remedy("other_folder")),
    Remedy("free_space"),
    Remedy("rename", value="a_2"),
    Remedy("copy"),
]


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.action)
def test_every_interface_says_every_remedy(remedy):
    texts = [messages.remedy(remedy) for messages in EVERY]
    assert all(text.endswith(".") and text[0].isupper() for text in texts), texts
    assert "--" not in texts[0] + texts[2]


def test_the_remedies_of_the_test_have_every_action():
    said = {each.action for remedy in REMEDIES for each in (remedy, remedy.alternative) if each}
    assert said == set(get_args(Action))


def test_an_error_is_said_three_ways():
    error = SettingsError("The slide has no pixel size.", item="S-001", remedy=Remedy("set", "inputs.mpp"))
    assert error.field == "inputs.mpp"
    assert str(error) == "S-001: The slide has no pixel size. Set Inputs(mpp=…)."
    assert command_line_messages.error(error) == "S-001: The slide has no pixel size. Set it with --mpp."
    assert message_of(error) == "S-001: The slide has no pixel size. Set it with ‘µm/px…’ in step 1."


@pytest.mark.parametrize(
    "error", [SlideError("It is gone.", item="S-004"), SlideError("It is gone."), SlideError("S-004: It is gone.")]
)
def test_what_failed_is_named_once(error):
    assert python_messages.failure(ItemFailed("S-004", error)) == "S-004: It is gone."


def test_an_error_without_a_remedy_stays_as_it_is():
    assert str(CohortError("a.csv: is empty")) == "a.csv: is empty"
    assert str(CohortError("is empty", file="a.csv")) == "a.csv: is empty"
    assert CohortError("It is empty.", file="a.csv", item="s").statement == "s: a.csv: It is empty."


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("No.", file=Path("a"), item="s", remedy=Remedy("retry")),
        TileError("damaged", [(0, 0, 1, 1)], file="a.tif"),
        OutputError("in the way", [Path("a")], "foreign", Remedy("other_folder")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_back_whole_from_another_process(error):
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_an_error_of_another_class_keeps_the_facts():
    error = SlideError.of(CohortError("No.", file="a", remedy=Remedy("retry")), item="s")
    assert (str(error), error.remedy) == ("s: a: No. Try again.", Remedy("retry"))


# ---- what the code says --------------------------------------------------------------------------------------------

OPTION = re.compile(r"(?<![\w-])--[a-z]")
COMMAND = re.compile(r"`(distill2label|train|predict|export|evaluate|extract-features|segment-tissue|demo|doctor)\b")
SPEAKS_OF_OPTIONS = (
    "cli/",
    "workflow/script_writer.py",
    "gui/widgets/file_manager.py",
)  # file_manager: of another


def texts_of(tree: ast.Module) -> set[str]:
    """Every text of a module but its docstrings, a 7 in place of what is filled in."""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts.add("".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | inside:
            texts.add(node.value)
    return texts


def test_only_the_command_line_names_options():
    found = {
        (name, text)
        for path in PACKAGE.rglob("*.py")
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(SPEAKS_OF_OPTIONS)
        for text in texts_of(ast.parse(path.read_text("utf-8")))
        if OPTION.search(text) or COMMAND.search(text)
    }
    assert found == set()
