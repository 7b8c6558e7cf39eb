"""The pages that can drift from the code do not."""

import re
import subprocess
import sys
from pathlib import Path

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
