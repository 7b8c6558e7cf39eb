"""Imports point down only, and the public API is light until it is used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import napari_distill2label as d2l

ROOT = Path(__file__).parent.parent / "napari_distill2label"
PACKAGE = ROOT.name
# Bottom up. `slides` and `mil` share a floor and never import each other; `cli` starts the other faces.
FLOORS = {
    "core": 0, "slides": 1, "mil": 1, "store": 2, "prediction": 3, "export": 4, "workflow": 5,
    "progress": 6, "stopping": 6, "flags": 6, "api": 7, "": 8, "gui": 9, "cli": 10, "__main__": 11,
}  # fmt: skip
API = ""  # the package itself
NO_TORCH = ("core", "slides", "export")
WINDOWED = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt", "magicgui", "vispy", "pyqtgraph"}
# Of `store`, what holds networks; the rest works without them.
WITH_NETWORKS = {"store.bundle", "store.checkpoint", "store.run"}


def modules() -> dict[str, Path]:
    """Dotted name inside the package ('' is the package itself) -> file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def imports_of(module: str, path: Path):
    """(line, absolute dotted name) of everything the module imports, at its top or inside a function."""
    package = module.split(".") if path.name == "__init__.py" and module else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [PACKAGE, *package[: len(package) - node.level + 1]]
            if node.module:
                yield node.lineno, ".".join([*base, node.module])
            else:  # from .. import slides
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def target_room(name: str) -> str | None:
    """The room an imported name lies in; None for what is not ours."""
    if name.split(".")[0] != PACKAGE:
        return None
    first = [*name.split("."), API][1]
    return first if first in FLOORS else API


ALL = modules()


def test_every_module_is_in_a_known_room():
    assert {room(module) for module in ALL} <= set(FLOORS)
    assert {"core", "slides", "mil", "store"} <= {room(module) for module in ALL}


@pytest.mark.parametrize("module", ALL, ids=lambda module: module or PACKAGE)
def test_imports_point_down(module):
    own = room(module)
    for line, name in imports_of(module, ALL[module]):
        other = target_room(name)
        if other is not None and other != own:
            assert FLOORS[other] < FLOORS[own], f"{ALL[module]}:{line}: {own or PACKAGE} imports {name}"


def test_the_walk_would_notice(tmp_path):
    source = tmp_path / "cutting.py"
    source.write_text("from ..mil.model import MILModel\nfrom .. import workflow\ndef f():\n    import torch.nn\n")
    found = [name for _, name in imports_of("slides.cutting", source)]
    assert found == [f"{PACKAGE}.mil.model", f"{PACKAGE}.workflow", "torch.nn"]
    assert target_room(found[0]) == "mil"
    assert FLOORS["mil"] >= FLOORS["slides"]
    assert target_room("numpy.linalg") is None


@pytest.mark.parametrize("module", ALL, ids=lambda module: module or PACKAGE)
def test_only_gui_imports_napari_or_qt(module):
    if room(module) != "gui":
        windowed = [
            f"{line}: {name}" for line, name in imports_of(module, ALL[module]) if name.split(".")[0] in WINDOWED
        ]
        assert not windowed, f"{ALL[module]}"


@pytest.mark.parametrize("module", ALL, ids=lambda module: module or PACKAGE)
def test_rooms_without_torch_do_not_import_it(module):
    if room(module) in NO_TORCH or (room(module) == "store" and module not in WITH_NETWORKS):
        names = {name for _, name in imports_of(module, ALL[module])}
        assert not {name for name in names if name.split(".")[0] == "torch" or name.startswith("safetensors.torch")}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python has after `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_public_api_leaves_torch_and_qt_out():
    loaded = loaded_by(f"import {PACKAGE} as d2l\ndir(d2l)")
    assert PACKAGE in loaded
    assert not loaded & (WINDOWED | {"torch", "sklearn", "pandas", "zarr", "dask", "tifffile"})


def test_rooms_without_torch_run_without_it():
    light = [
        module for module in ALL
        if module and (room(module) in NO_TORCH or (room(module) == "store" and module not in WITH_NETWORKS))
    ]  # fmt: skip
    loaded = loaded_by("\n".join(f"import {PACKAGE}.{module}" for module in light))
    assert not loaded & (WINDOWED | {"torch"})


def test_every_public_name_resolves():
    assert len(set(d2l.__all__)) == len(d2l.__all__)
    assert set(d2l.__all__) <= set(dir(d2l))
    for name in d2l.__all__:
        assert getattr(d2l, name) is not None
    with pytest.raises(AttributeError):
        _ = d2l.no_such_name


@pytest.mark.parametrize("module", [module for module in ALL if room(module) not in ("gui", "__main__")])
def test_every_module_imports(module):
    import_module(f"{PACKAGE}.{module}" if module else PACKAGE)
