#!/usr/bin/env bash
# What `make audit` does: bandit over the package, known vulnerabilities of constraints.txt where their database can be
# reached, the licences of what is installed, and a list of it all (SBOM, CycloneDX) in dist/.
# bandit, pip-audit and cyclonedx-bom have an environment of their own beside the program's: they bring much.
set -eu
venv=$1
python=$venv/bin/python
tools=$venv-audit
[ -x "$tools/bin/bandit" ] || {
    "$python" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet bandit pip-audit cyclonedx-bom
}
mkdir -p dist
"$tools/bin/bandit" --quiet --configfile pyproject.toml --recursive napari_distill2label --severity-level medium --confidence-level medium
"$python" tools/licences.py
"$tools/bin/cyclonedx-py" environment "$python" --output-file dist/sbom.json --output-format JSON
echo "dist/sbom.json"
"$tools/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip || {
    status=$?
    # 1 is "vulnerabilities were found" and "the database cannot be reached": the first is told by a table.
    [ "${AUDIT_OFFLINE:-}" = yes ] || exit "$status"
    echo "NOT compared with known vulnerabilities: AUDIT_OFFLINE=yes"
}
