"""What `make audit` says of packages that could not be compared with the database of vulnerabilities."""

import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "vulnerabilities.py"
SKIPPED = {"name": "zipp", "skip_reason": "not found"}
GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


def lines(*packages):
    spec = importlib.util.spec_from_file_location("vulnerabilities", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.lines({"dependencies": packages})


def test_packages_that_were_not_compared_are_not_called_good():
    line = "NOT compared with known vulnerabilities: 1 of 2 packages (not found, …)"
    assert lines(SKIPPED, GOOD) == ([line], False, False)
    assert lines(GOOD) == (["no vulnerability is known of 1 packages"], False, True)


def test_a_vulnerability_is_named():
    assert lines(BAD, GOOD) == (["b 2: CVE-1, mended in 3"], True, True)
