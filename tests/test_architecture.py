"""What the package is made of: who may import whom, what is private to a file, which file has its tests.

One test per rule, which says all that breaks it. Lists of what still breaks a rule only shrink: a test fails, too,
where a listed one does no longer.
"""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import napari_distill2label as d2l

ROOT = Path(__file__).parent.parent / "napari_distill2label"
PACKAGE = ROOT.name
TESTS = Path(__file__).parent
# Bottom up. `slides` and `mil` share a tier and never import each other; `cli` starts the window.
TIERS = {
    "core": 0, "slides": 1, "mil": 1, "store": 2, "inference": 3, "exporters": 4, "workflow": 5,
    "cli.progress_bar": 6, "api": 7, "": 8, "gui": 9, "cli": 10,
}  # fmt: skip
API = ""  # the package itself
NO_TORCH = ("core", "slides", "exporters")
WINDOWED = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt", "magicgui", "vispy", "pyqtgraph"}
# Of `store`, what holds networks; the rest works without them.
WITH_NETWORKS = {"store.bundle", "store.checkpoint"}


def modules() -> dict[str, Path]:
    """Dotted name inside the package ('' is the package itself) -> file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(module: str) -> str:
    """The first part of a dotted name, or the first two where `TIERS` has these."""
    first, second = [*module.split("."), ""][:2]
    return f"{first}.{second}" if f"{first}.{second}" in TIERS else first


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


def target_package(name: str) -> str | None:
    """The package an imported name lies in; None for what is not ours."""
    if name.split(".")[0] != PACKAGE:
        return None
    own = package_of(name.removeprefix(PACKAGE).removeprefix("."))
    return own if own in TIERS else API


ALL = modules()


def type_checking_only(tree: ast.Module) -> set[ast.AST]:
    """The nodes that only a type checker sees."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


# ---- tiers --------------------------------------------------------------------------------------------------------


def test_every_module_is_in_a_known_room():
    assert {package_of(module) for module in ALL} <= set(TIERS)
    assert {"core", "slides", "mil", "store"} <= {package_of(module) for module in ALL}


def test_imports_point_down():
    upward = [
        f"{path}:{line}: {package_of(module) or PACKAGE} imports {name}"
        for module, path in ALL.items()
        for line, name in imports_of(module, path)
        if (other := target_package(name)) not in (None, own := package_of(module))
        and TIERS[other] >= TIERS[own]
        and (own, other) != (API, "gui")  # `get_session` is a public name: its import is late, or a type checker's
    ]
    assert upward == []


def test_the_walk_would_notice(tmp_path):
    source = tmp_path / "cutting.py"
    source.write_text("from ..mil.model import MILModel\nfrom .. import workflow\ndef f():\n    import torch.nn\n")
    found = [name for _, name in imports_of("slides.cutting", source)]
    assert found == [f"{PACKAGE}.mil.model", f"{PACKAGE}.workflow", "torch.nn"]
    assert target_package(found[0]) == "mil"
    assert TIERS["mil"] >= TIERS["slides"]
    assert target_package("numpy.linalg") is None


def test_only_gui_imports_napari_or_qt():
    windowed = [
        f"{path}:{line}: {name}"
        for module, path in ALL.items()
        if package_of(module) != "gui"
        for line, name in imports_of(module, path)
        if name.split(".")[0] in WINDOWED
    ]
    assert windowed == []


def is_light(module: str) -> bool:
    """Whether the module has to work without torch."""
    return package_of(module) in NO_TORCH or (package_of(module) == "store" and module not in WITH_NETWORKS)


def test_rooms_without_torch_do_not_import_it():
    heavy = [
        f"{path}:{line}: {name}"
        for module, path in ALL.items()
        if is_light(module)
        for line, name in imports_of(module, path)
        if name.split(".")[0] == "torch" or name.startswith("safetensors.torch")
    ]
    assert heavy == []


# ---- circles -------------------------------------------------------------------------------------------------------

# Of modules that import each other, but for type hints.


def edges_of(module: str, path: Path) -> set[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    package = module.split(".") if path.name == "__init__.py" and module else module.split(".")[:-1]
    tree = ast.parse(path.read_text("utf-8"))
    hints, found = type_checking_only(tree), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node in hints:
            continue
        parts = node.module.split(".") if node.module else []
        if node.level:
            base = [*package[: len(package) - node.level + 1], *parts]
        elif parts[0] == PACKAGE:
            base = parts[1:]
        else:
            continue
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in ALL else ".".join(base))
    return (found & ALL.keys()) - {module}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach one another (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        waiting.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
            if other in waiting:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == order[node]:
            position = waiting.index(node)
            if len(waiting) - position > 1:
                found.append(sorted(waiting[position:]))
            del waiting[position:]

    for node in graph:
        if node not in order:
            visit(node)
    return sorted(found)


def test_no_modules_import_each_other():
    assert circles({module: edges_of(module, path) for module, path in ALL.items()}) == []


# Inside `gui`, bottom up: a module imports from its own folder and those before. `plugin` stands beside them.
ORDER = ("runner", "project", "canvas", "actions", "session", "widgets", "panels", "dock")


def test_the_window_is_built_bottom_up():
    upward = []
    for module, path in ALL.items():
        if package_of(module) != "gui" or (own := module.split(".")[1:2]) == [] or own[0] not in ORDER:
            continue
        for other in edges_of(module, path):
            place = other.split(".")[1:2] if package_of(other) == "gui" else []
            if place and place[0] in ORDER and ORDER.index(place[0]) > ORDER.index(own[0]):
                upward.append(f"{module} imports {other}")
    assert upward == []


def test_no_part_of_the_session_knows_it():
    """Ownership: `Session` holds its parts, and no module below it names it, not even in a type hint."""
    below = ORDER[: ORDER.index("session")]
    naming = [
        f"{path}:{line}"
        for module, path in ALL.items()
        if package_of(module) == "gui" and module.split(".")[1:2] and module.split(".")[1] in below
        for line, name in imports_of(module, path)
        if name.startswith(f"{PACKAGE}.gui.session")
    ]
    assert naming == []


def test_a_circle_would_be_found():
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a", "f"}}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]


# ---- private names -------------------------------------------------------------------------------------------------

OF_NAMEDTUPLES = {"_replace", "_asdict", "_fields", "_make"}  # public, in spite of their names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in OF_NAMEDTUPLES


def names_defined(tree: ast.Module) -> set[str]:
    """Every name that a file defines: functions, classes, variables, attributes it sets."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def names_taken(source: str) -> list[str]:
    """`line: name` of every private name that a file uses and does not define."""
    tree = ast.parse(source)
    own = names_defined(tree)
    taken = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            taken += [f"{node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            taken.append(f"{node.lineno}: {ast.unparse(node)}")
    return taken


def test_no_file_uses_a_private_name_of_another():
    taken = {module: names_taken(path.read_text("utf-8")) for module, path in ALL.items()}
    assert {module: names for module, names in taken.items() if names} == {}


def test_a_private_name_of_another_file_would_be_found():
    source = "from .m import _f, g\nclass C:\n    def _h(self):\n        self._h(); self._x.y; g._z()._replace(a=1)\n"
    assert names_taken(source) == ["1: _f", "4: self._x", "4: g._z"]


# ---- tests ---------------------------------------------------------------------------------------------------------

# Modules whose tests are in a file of another name: `tests/mil/test_losses.py` is that of `mil/losses.py`.
ELSEWHERE: set[str] = {
    "cli.arguments",
    "core.errors",
    "core.presets",
    "core.slide_info",
    "exporters.regions",
    "gui.actions.classes",
    "gui.actions.evaluate",
    "gui.actions.export",
    "gui.actions.predict",
    "gui.actions.requirements",
    "gui.actions.review",
    "gui.actions.scales",
    "gui.actions.train",
    "gui.actions.training_check",
    "gui.canvas.canvas",
    "gui.canvas.clipping",
    "gui.canvas.correction_marks",
    "gui.canvas.layer_watch",
    "gui.canvas.map_layers",
    "gui.canvas.opening",
    "gui.canvas.prediction_layers",
    "gui.panels.predict.ground_truth",
    "gui.panels.predict.patch_images",
    "gui.panels.slides.delegates",
    "gui.panels.slides.model",
    "gui.panels.slides.slide_filter",
    "gui.panels.slides.stopped_strip",
    "gui.panels.train.device",
    "gui.panels.train.encoder",
    "gui.panels.train.runs",
    "gui.plugin.preferences",
    "gui.plugin.reader",
    "gui.plugin.writer",
    "gui.project.open_slides",
    "gui.project.preferences",
    "gui.project.previews",
    "gui.project.project",
    "gui.project.recovery",
    "gui.project.stopped_training",
    "gui.qt_trial",
    "gui.runner.debounce",
    "gui.runner.draining",
    "gui.runner.fallback",
    "gui.runner.gui_thread",
    "gui.runner.times",
    "gui.runner.worker",
    "gui.widgets.controls",
    "gui.widgets.error_report",
    "gui.widgets.file_manager",
    "gui.widgets.help_popup",
    "gui.widgets.icons",
    "gui.widgets.plots",
    "gui.widgets.short",
    "gui.widgets.theme",
    "gui.widgets.window_state",
    "inference.classifier",
    "inference.cluster",
    "inference.runtimes",
    "inference.specs",
    "mil.pooling",
    "slides.backends.colour",
    "slides.backends.dicom",
    "slides.backends.files",
    "slides.backends.finer",
    "slides.backends.headers",
    "slides.backends.main_image",
    "slides.backends.omezarr_level",
    "slides.backends.protocol",
    "slides.backends.tiff_level",
    "slides.backends.xml",
    "slides.preview",
    "slides.pyramid",
    "slides.slide_files",
    "slides.synthetic.cohort",
    "slides.synthetic.drawing",
    "slides.synthetic.rendering",
    "slides.threads",
    "store.corrections",
    "store.maps.labels",
    "store.maps.memory_group",
    "store.maps.zarr_group",
    "store.project_file",
    "store.run_summary",
    "store.tables.cohort_table",
    "workflow.input_files",
    "workflow.os_errors",
    "workflow.plan",
    "workflow.script_writer",
    "workflow.slide_predictor",
    "workflow.slide_reader",
    "workflow.stopwatch",
}


def test_every_module_has_a_file_of_tests():
    """Of its name, in the folder of its top package or of its own."""
    tests = {path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")}

    def places(module: str) -> set[str]:
        *folders, name = module.split(".")
        return {"/".join([*folders[:depth], f"test_{name}"]) for depth in range(len(folders) + 1)}

    named = {module for module, path in ALL.items() if path.name not in ("__init__.py", "__main__.py")}
    without = {module for module in named if not places(module) & tests}
    assert without - ELSEWHERE == set()
    assert ELSEWHERE - without == set(), "they have one: take them from the list"


# ---- what is loaded ------------------------------------------------------------------------------------------------


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
    loaded = loaded_by("\n".join(f"import {PACKAGE}.{module}" for module in ALL if is_light(module)))
    assert not loaded & (WINDOWED | {"torch"})


HEAVY = {"torch", "numpy", "pydantic", "zarr", "dask", "pandas", "scipy", "sklearn", "tifffile", "PIL", "tqdm"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["predict", "--help"], {"numpy", "pydantic"}),
        (["train", "--no-such-option"], {"numpy", "pydantic"}),
    ],
)
def test_the_parser_loads_nothing_that_only_work_needs(arguments, needed):
    start = f"import contextlib\nfrom {PACKAGE}.cli.main import main\nwith contextlib.suppress(SystemExit):"
    assert loaded_by(f"{start}\n    main({arguments})") & (WINDOWED | HEAVY) == needed


def test_every_public_name_resolves():
    assert len(set(d2l.__all__)) == len(d2l.__all__)
    assert set(d2l.__all__) <= set(dir(d2l))
    for name in d2l.__all__:
        assert getattr(d2l, name) is not None
    with pytest.raises(AttributeError):
        _ = d2l.no_such_name


def test_every_module_imports():
    for module in ALL:
        if package_of(module) != "gui" and module != "cli.__main__":
            import_module(f"{PACKAGE}.{module}" if module else PACKAGE)
