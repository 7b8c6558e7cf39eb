"""What an installed copy promises: version, entry points, the manifest napari finds, pins that fit the requirements."""

import importlib.metadata
import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution, distributions, entry_points
from pathlib import Path

import npe2
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import napari_distill2label

NAME = "napari-distill2label"
ROOT = Path(__file__).parents[1]
EXTRAS = {"gui", "slides", "encoders", "parquet", "timm", "cluster", "all"}


@pytest.fixture(scope="module")
def pins() -> dict[str, Requirement]:
    """Name → pin of every line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_one_version_everywhere():
    version = distribution(NAME).version
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    written = setup["metadata"]["version"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert cited is not None
    assert newest[1] == cited[1] == written == napari_distill2label.__version__ == version


def test_a_copy_that_is_not_installed_has_no_version(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert napari_distill2label.__version__ == "0+unknown"


def test_metadata_is_in_one_place():
    """In setup.cfg; pyproject.toml has what only the repository needs."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(table) == {"build-system", "dependency-groups", "tool"}
    assert set(table["dependency-groups"]) == {"dev", "docs", "experiments", "qt"}
    assert "setuptools" not in table["tool"]


def test_the_manifest_napari_finds_is_complete():
    manifest = npe2.PluginManifest.from_distribution(NAME)
    assert manifest.name == NAME
    manifest.validate_imports()


def test_the_manifest_at_the_top_is_a_link():
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.readlink() == Path("napari_distill2label/napari.yaml")


def test_the_command_is_installed():
    (command,) = entry_points(group="console_scripts", name="distill2label")
    assert callable(command.load())


def test_every_folder_of_the_package_reaches_the_wheel():
    folders = {path.parent for path in (ROOT / "napari_distill2label").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_extras_are_there():
    assert set(distribution(NAME).metadata.get_all("Provides-Extra")) == EXTRAS


def test_the_pins_meet_every_requirement(pins):
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    needed = [line for group in groups.values() for line in group if isinstance(line, str)]
    for line in (*distribution(NAME).requires, *needed):
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name != NAME:
            assert name in pins, f"constraints.txt has no {name}"
            assert version_of(pins[name]) in requirement.specifier


def test_the_pins_install_on_debian_12(pins):
    """Its Python is 3.11.2; some packages ask for a later 3.11."""
    refusing = [
        package.name
        for package in distributions()
        if canonicalize_name(package.name) in pins
        and "3.11.2" not in SpecifierSet(package.metadata.get("Requires-Python", ""))
    ]
    assert refusing == []


def test_the_pins_name_versions_and_no_place(pins):
    assert version_of(pins["torch"]) == "2.13.0"  # a local version (+cpu) is to be had only from one place
    for pin in pins.values():
        assert pin.url is None
        assert "+" not in version_of(pin)
