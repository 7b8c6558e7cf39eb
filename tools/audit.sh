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
"$python" tools/vulnerabilities.py "$tools/bin/pip-audit" constraints.txt
