"""What lower floors say is said in the window's words: no option of the command line, where the window has a button."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_distill2label
from napari_distill2label.core.errors import CohortError, SettingsError
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.gui import get_session
from napari_distill2label.gui.training.setting_names import name_of
from napari_distill2label.gui.wording import in_the_window

PACKAGE = Path(napari_distill2label.__file__).parent
ROOMS = ("core", "slides", "mil", "store", "inference", "exporters", "workflow")
# What the window has no way to ask for.
ELSEWHERE = re.compile(r"--(scheduler|workers|dense|overwrite|format|preset)\b")
OPTION = re.compile(r"--[a-z]")


def said(tree: ast.Module) -> Iterator[str]:
    """Every text of a module but its docstrings, a 7 in place of what is filled in."""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | inside:
            yield node.value


@pytest.mark.parametrize("room", ROOMS)
def test_no_message_of_a_lower_floor_brings_an_option_into_the_window(room):
    found = {
        text for path in (PACKAGE / room).rglob("*.py") for text in said(ast.parse(path.read_text("utf-8")))
        if OPTION.search(text) and path.name not in ("doctor.py", "script_writer.py")
    }  # fmt: skip
    left = {in_the_window(text) for text in found if not ELSEWHERE.search(text)}
    assert not {text for text in left if OPTION.search(text)}
    assert found or room in ("exporters",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("give it: the column mpp, or --mpp UM for all where you predict", "the column mpp, or ‘µm/px…’ in step 1"),
        ("set --patches.size_px 32", "set ‘Patch size (px): 32 px’ in step 2"),
        ("set --patches.size_px to 28 or more", "set ‘Patch size (px)’ in step 2 to 28 or more"),
        ("add --map Tumor=tumour; LABEL= leaves", "add ‘Tumor=tumour’ under ‘Labels mean’; LABEL= leaves"),
        ("--map 'a b=c' says what it is", "‘a b=c’ under ‘Labels mean’ says what it is"),
        ("try --patches.tissue none", "try ‘Tissue method: keep all’ in step 2"),
        ("Name it first, as in --classes a,b", "Name it first, as in a,b"),
        ("/a--b/--mppy and --grid.nothing stay", "/a--b/--mppy and --grid.nothing stay"),
    ],
)
def test_options_become_what_the_window_has(text, expected):
    assert in_the_window(text).endswith(expected)
    assert in_the_window(in_the_window(text)) == in_the_window(text)


def test_settings_have_the_names_of_the_form():
    for name in PatchSettings.model_fields:
        assert f"‘{name_of(f'patches.{name}')}’" in in_the_window(f"set --patches.{name} to another")


def test_a_failed_job_and_a_notice_speak_of_the_window(run_folder, cohort_csv):
    from napari.components import ViewerModel

    session = get_session(viewer := ViewerModel())
    session.read_cohort(cohort_csv)
    with pytest.raises(SettingsError, match="add --resume"):  # to the console it is Python's error
        session.train(run_folder)
    assert "‘Resume’ in step 2" in session.jobs.last.text
    assert "--" not in session.jobs.last.text.replace(str(run_folder), "")
    session.project.tell(str(CohortError("give --encoder")))
    assert session.notices[-1] == "give ‘Encoder’ in step 2"
    assert viewer is session.viewer
