"""The pages that can drift from the code do not."""

import ast
import re
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pytest

import napari_distill2label as d2l
from experiments.__main__ import _parser as parser_of_experiments
from napari_distill2label.cli import main as command_line

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_settings_page_is_that_of_the_settings():
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_reference.py", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert check.returncode == 0, f"run python docs/make_reference.py\n{check.stdout}{check.stderr}"


def test_every_flag_in_the_docs_exists(capsys):
    known = {"--help", "--debug", "--version"}
    verbs = next(action for action in command_line.build_parser()._actions if action.dest == "command").choices
    for parser in (*(verb.complete() for verb in verbs.values()), parser_of_experiments()):
        known |= {flag for action in parser._actions for flag in action.option_strings}
    # A wheel's or git's flags stand in lines of their own commands.
    ours = re.compile("distill2label|python -m experiments")
    lines = [line for page in PAGES for line in page.read_text("utf-8").splitlines() if ours.search(line)]
    flags = {flag for line in lines for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z_]", line)}
    assert flags - known == set()
    assert len(flags) > 10


# Of pydantic.
MESSAGES_OF_OTHERS = {"settings: teacher.epochs: Input should be …"}


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-zµ/-]{2,}", text)


def texts_of_the_code() -> list[list[str]]:
    """The words of every string in the package; what is filled in leaves a gap."""
    texts = []
    for path in (ROOT / "napari_distill2label").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else " " for part in node.values)
                texts.append(words("".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(words(node.value))
    return texts


def test_every_test_that_a_promise_names_exists():
    pages = (ROOT / "docs" / name for name in ("reliability.md", "reliability-history.md"))
    page = "".join(each.read_text("utf-8") for each in pages)
    named = re.findall(r"`((?:tests|torture|napari_distill2label)/[\w/]+(?:\.py|/))`", page)
    assert len(named) >= 12
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code():
    """Most of its words stand in one text of the code, in this order; names of the example are filled in."""
    texts = texts_of_the_code()
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 50
    unknown = [
        message
        for message in messages
        if message not in MESSAGES_OF_OTHERS and not is_in(words(re.sub(r"'[^']*'", "", message)), texts)
    ]
    assert unknown == []


def is_in(message: list[str], texts: list[list[str]], share: float = 0.7) -> bool:
    """Whether one text has so large a share of the words of `message`, in the same order."""
    likely = (text for text in texts if 2 * len(set(message) & set(text)) >= len(set(message)))  # quick to see
    blocks = (SequenceMatcher(None, message, text, autojunk=False).get_matching_blocks() for text in likely)
    return any(sum(block.size for block in found) >= share * len(message) for found in blocks)


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
