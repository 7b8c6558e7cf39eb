"""A little of `python -m torture` at every change: one trial of each subject. The long form takes half an hour."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("kill", "power", "lie", "starve", "together", "answers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and limits as Linux has them"),
]


@pytest.fixture(scope="module")
def tortured(tmp_path_factory):
    """What became of the trials, by kind; and what was printed."""
    file = tmp_path_factory.mktemp("torture") / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--short", "--json", str(file)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert file.exists(), said
    trials = json.loads(file.read_text("utf-8"))["trials"]
    return {kind: [trial for trial in trials if trial["kind"] == kind] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(tortured, kind):
    assert [failure for trial in tortured[kind] for failure in trial["failures"]] == []
    assert sum(trial["tried"] for trial in tortured[kind]) >= 4


@pytest.mark.long
@pytest.mark.gui
def test_a_window_that_is_killed_loses_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--only", "window/a window: training"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.gui
def test_one_window_holds_no_more_after_each_round():
    """In the least number of rounds; an hour of it is `make soak`."""
    done = subprocess.run(
        [sys.executable, "-m", "torture", "soak", "--minutes", "0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GROWS" not in done.stdout
