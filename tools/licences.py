"""Licences of what is installed: a table, and exit status 1 for one that nobody has looked at.

The package is BSD-3-Clause and copies nobody's code; what it imports keeps its own licence.
"""

import sys
from importlib.metadata import Distribution, distributions

# Words of licences that a BSD program may import: permissive ones, those of the Mozilla kind, and LGPL, whose libraries
# are used and not changed. GPL: PyQt6, which is the user's choice of Qt (PySide6 is LGPL) and no dependency of ours.
ALLOWED = (
    "bsd", "mit", "apache", "isc", "psf", "python software", "mozilla", "mpl", "zlib", "hpnd", "unlicense",
    "public domain", "0bsd", "cc0", "lgpl", "historical", "zpl", "expat", "ncsa", "boost",
)  # fmt: skip
CHOSEN = {
    "pyqt6": "GPL: one of three bindings of Qt, the user's choice",
    "pyqt6-qt6": "LGPL",
    "pyqt6_sip": "BSD",
}


def licence_of(package: Distribution) -> str:
    """Return what a package says of its licence, in a few words."""
    about = package.metadata
    classified = [
        line.rpartition(":: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License ::")
    ]
    said = about.get("License-Expression") or "; ".join(classified) or (about.get("License") or "").strip()
    return " ".join(said.split())[:60] or "not said"


def main() -> int:
    """Print them; 1 if one is not allowed."""
    found = {package.metadata["Name"]: licence_of(package) for package in distributions()}
    doubtful = []
    for name, licence in sorted(found.items(), key=lambda item: item[0].lower()):
        ok = name.lower() in CHOSEN or any(word in licence.lower() for word in ALLOWED)
        doubtful += [] if ok else [name]
        print(f"{'  ' if ok else '? '}{name:32} {CHOSEN.get(name.lower(), licence)}")
    if doubtful:
        print(f"not looked at: {', '.join(doubtful)}", file=sys.stderr)
    return int(bool(doubtful))


if __name__ == "__main__":
    sys.exit(main())
