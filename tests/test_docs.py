"""The pages that can drift from the code do not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import napari_distill2label as d2l
from napari_distill2label import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_settings_page_is_that_of_the_settings():
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert check.returncode == 0, f"run python docs/make_reference.py\n{check.stdout}{check.stderr}"


def test_every_flag_in_the_docs_exists(capsys):
    known = {"--help", "--debug", "--version"}
    verbs = next(action for action in cli._parser()._actions if action.dest == "verb").choices
    for parser in verbs.values():
        known |= {flag for action in parser._actions for flag in action.option_strings}
    # A wheel's or git's flags stand in lines of their own commands.
    lines = [line for page in PAGES for line in page.read_text("utf-8").splitlines() if "distill2label" in line]
    flags = {flag for line in lines for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z_]", line)}
    assert flags - known == set()
    assert len(flags) > 10


@pytest.fixture(scope="module")
def trained(synthetic_cohort, tmp_path_factory):
    """A folder with a run/, as the pages take for granted."""
    folder = tmp_path_factory.mktemp("docs")
    cohort = d2l.Cohort.read(synthetic_cohort)
    few = {"epochs": 1}
    settings = d2l.build_settings("colon", "paper", {"teacher": few, "student": few})
    run = d2l.train(cohort, folder / "run", settings)
    return run.folder.parent


def test_the_script_without_a_window_does_what_the_page_says(trained, synthetic_cohort):
    page = (ROOT / "docs" / "how-to" / "script-it.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page.split("## A session without a window")[1], re.DOTALL)
    code = code.replace('"cohort.csv"', repr(str(synthetic_cohort)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=trained)
    assert done.returncode == 0, done.stderr
    slides = d2l.Cohort.read(synthetic_cohort)
    assert {path.name for path in (trained / "labels").glob("*.csv")} == {f"{row.slide_id}.csv" for row in slides}
