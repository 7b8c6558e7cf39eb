"""Known vulnerabilities of pinned packages: `vulnerabilities.py PIP-AUDIT CONSTRAINTS`.

Exit status 1 if there are any, or if not all packages were compared; the latter is let pass with `AUDIT_OFFLINE=yes`.

pip-audit calls a package that its database could not be asked about "skipped", and says of nothing but such packages
that no vulnerability is known. Here that is one line which says that they were not compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def lines(report: Mapping[str, Any]) -> tuple[list[str], bool, bool]:
    """What to print of a report of pip-audit in JSON, whether a vulnerability is known, whether all were compared."""
    packages = report["dependencies"]
    skipped = [each for each in packages if "skip_reason" in each]
    known = [(each, one) for each in packages for one in each.get("vulns", ())]
    said = [
        f"{each['name']} {each['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"
        for each, one in known
    ]
    if skipped:
        why = skipped[0]["skip_reason"]
        said.append(f"NOT compared with known vulnerabilities: {len(skipped)} of {len(packages)} packages ({why}, …)")
    elif not known:
        said.append(f"no vulnerability is known of {len(packages)} packages")
    return said, bool(known), not skipped


def main() -> int:
    """Print what is known."""
    program, constraints = sys.argv[1:]
    done = subprocess.run(
        [program, "--requirement", constraints, "--no-deps", "--disable-pip", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        said, is_known, are_compared = lines(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError):
        why = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:200]
        said, is_known, are_compared = [f"NOT compared with known vulnerabilities: {why}"], False, False
    print("\n".join(said))
    return int(is_known or not (are_compared or os.environ.get("AUDIT_OFFLINE") == "yes"))


if __name__ == "__main__":
    sys.exit(main())
