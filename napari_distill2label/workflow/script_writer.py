"""What was done, written down: Python for a file, a notebook or the console, and commands for a shell. No Qt.

These look at folders and at a run's cohort.csv, so the window has them written beside itself.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.classes import RGB
from ..core.inputs import Compute, Encoder, Inputs, TissueRegions
from ..core.paths import free_path, is_url, slide_name
from ..core.presets import build_settings
from ..core.settings import Settings
from ..store.cohort import CohortSlide
from ..store.files.safe_names import safe_name

if TYPE_CHECKING:
    from ..store.run import RunConfig

LEFT_OUT = "# The tissue masks of single slides are left out here: the script in Python has them."


@dataclass(frozen=True)
class Trained:
    """A training: everything but the slides, which its folder's cohort.csv has."""

    folder: Path
    config: "RunConfig"
    trusted: bool = False  # the encoder's file


@dataclass(frozen=True)
class Predicted:
    """Slides that one model of a run or a bundle labelled."""

    model: Path
    network: str
    slides: tuple[CohortSlide, ...]
    dense_stride: int | None = None
    inputs: Inputs = Inputs()
    compute: Compute = Compute()

    @property
    def how(self) -> tuple[Any, ...]:
        """Return what makes two predictions one: the same network, and the same way of predicting."""
        return self.network, self.dense_stride, self.inputs, self.compute


@dataclass(frozen=True)
class Exported:
    """Files that were written of slides that one model labelled."""

    model: Path
    network: str
    slide_ids: tuple[str, ...]
    out: Path
    formats: tuple[str, ...]
    threshold: float
    inputs: Inputs = Inputs()  # corrections, and what their labels mean
    colours: tuple[tuple[str, RGB], ...] = ()  # of classes, where they are not the palette's


Action = Trained | Predicted | Exported


def python(actions: Sequence[Action]) -> str:
    """What was done from the last model on, as Python."""
    return _python(_plan(actions))


def shell(actions: Sequence[Action]) -> str:
    """What was done from the last model on, as commands."""
    return _shell(_plan(actions))


# ---- what was done from the last model on -----------------------------------------------------------------------


@dataclass
class ScriptPlan:
    """One training or loaded model, and what it did: each pair of network and options predicts once."""

    model: Path
    training: Trained | None
    predictions: list[Predicted] = field(default_factory=list)
    exports: list[Exported] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the script trains: a folder that is free. Of a loaded model, where it is."""
        if self.training is None or not self.model.exists():
            return self.model
        return free_path(self.model.parent, f"{self.model.name}_again")

    def rows(self, exported: Exported) -> tuple[CohortSlide, ...]:
        known = {row.slide_id: row for made in self.predictions for row in made.slides}
        return tuple(known[slide_id] for slide_id in exported.slide_ids if slide_id in known)


def _plan(actions: Sequence[Action]) -> ScriptPlan:
    last = actions[-1]
    model = last.folder if isinstance(last, Trained) else last.model
    training = next(
        (action for action in reversed(actions) if isinstance(action, Trained) and action.folder == model), None
    )
    plan = ScriptPlan(model, training)
    for action in actions:
        if isinstance(action, Predicted) and action.model == model:
            _merge(plan.predictions, action)
        elif isinstance(action, Exported) and action.model == model and action not in plan.exports:
            plan.exports.append(action)
    return plan


def _merge(predictions: list[Predicted], action: Predicted) -> None:
    for index, made in enumerate(predictions):
        if made.how == action.how:
            rows = {row.slide_id: row for row in (*made.slides, *action.slides)}
            predictions[index] = replace(made, slides=tuple(rows.values()))
            return
    predictions.append(action)


def overrides_of(settings: Settings) -> dict[str, Any]:
    """What differs from preset and method, nested: `build_settings(preset, method, overrides)` gives `settings`."""
    plain = build_settings(settings.preset, settings.method).model_dump()
    changed = _difference(plain, settings.model_dump())
    for name in ("preset", "method"):
        changed.pop(name, None)
    grid = changed.get("patches", {})
    for px, um in (("size_px", "size_um"), ("stride_px", "stride_um")):
        if grid.get(um) is not None:  # the one follows from the other
            grid.pop(px, None)
    return changed


def _difference(plain: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in own.items():
        if isinstance(value, dict):
            if inner := _difference(plain[name], value):
                found[name] = inner
        elif value != plain[name]:
            found[name] = value
    return found


def _one_mpp(rows: Sequence[CohortSlide]) -> tuple[bool, float | None]:
    """Can the slides be named by their files alone, with one µm/px for all?"""
    plain = all(row.slide_id == slide_name(row.path) and not is_url(row.path) for row in rows)
    scales = {row.mpp for row in rows}
    return plain and len(scales) == 1, next(iter(scales), None)


def _is_whole(plan: ScriptPlan, rows: Sequence[CohortSlide]) -> bool:
    """Are these the slides the model was trained on, all of them?"""
    from ..store.run import Run

    if plan.training is None:
        return False
    there = Run(plan.training.folder, plan.training.config).cohort
    return {(row.slide_id, row.path, row.mpp) for row in there} == {(row.slide_id, row.path, row.mpp) for row in rows}


# ---- Python -------------------------------------------------------------------------------------------------------


def _python(plan: ScriptPlan) -> str:
    names: set[str] = set()
    body: list[str] = []
    if plan.training is not None:
        names |= {"Cohort", "build_settings", "train"}
        lines, used = _python_training(plan.training, plan.folder)
        body, names = body + lines, names | used
    model = "run" if plan.training else repr(str(plan.model))
    results = {}
    for number, made in enumerate(plan.predictions, 1):
        names |= {"predict"}
        result = "maps" if len(plan.predictions) == 1 else f"maps_{number}"
        results[made.network] = result
        slides, lines, used = _python_slides(plan, made.slides)
        names |= used
        keep = "run.folder" if plan.training else repr(str(plan.model)) if _is_run(plan.model) else "None"
        options = {"dense_stride": made.dense_stride, "inputs": made.inputs, "compute": made.compute}
        arguments, used = _python_arguments(options)
        names |= used
        body += ["", *lines]
        body += [f"{result} = predict({model}, {slides}, {keep}, network={made.network!r}, formats=[]{arguments})"]
    for done in plan.exports:
        names |= {"export"}
        result = results.get(done.network, "maps")
        all_of_it = {row.slide_id for made in plan.predictions if made.network == done.network for row in made.slides}
        if set(done.slide_ids) != all_of_it:
            result = f"[each for each in {result} if each.slide_id in {list(done.slide_ids)!r}]"
        more, used = _python_arguments({"inputs": done.inputs})
        names |= used
        more += f", colours={dict(done.colours)!r}" if done.colours else ""
        body += ["", f"export({result}, {str(done.out)!r}, {list(done.formats)!r}, threshold={done.threshold!r}{more})"]
    head = ["from pathlib import Path", ""] if any("Path(" in line for line in body) else []
    head += [f"from napari_distill2label import {', '.join(sorted(names, key=str.lower))}"]
    return "\n".join([*head, "", *body]).replace("\n\n\n", "\n\n").strip() + "\n"


def _python_training(made: Trained, folder: Path) -> tuple[list[str], set[str]]:
    """Lines that train, and what they import."""
    config, settings = made.config, made.config.settings
    changed = overrides_of(settings)
    given = {"baseline": config.baseline, "quick_trial": config.quick_trial, "inputs": _training_inputs(made)}
    arguments, used = _python_arguments(given)
    lines = [f"cohort = Cohort.read({str(made.folder / 'cohort.csv')!r})"]
    lines += [f"settings = build_settings({settings.preset!r}, {settings.method!r}, {changed!r})"]
    if folder != made.folder:
        lines += [f"# what was trained before is in {made.folder}"]
    classes = f"classes={list(config.classes)!r}"
    return [*lines, f"run = train(cohort, {str(folder)!r}, settings, {classes}{arguments})"], used


def _training_inputs(made: Trained) -> Inputs:
    own = made.config.inputs
    return replace(own, encoder=replace(own.encoder, trusted=made.trusted))


VALUES = (Inputs, Encoder, TissueRegions, Compute)


def _python_arguments(values: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return ", name=value" for each value that is not its default, and the names that these need."""
    used: set[str] = set()
    text = ""
    for name, value in values.items():
        if value not in (None, False, Inputs(), Compute()):
            text += f", {name}={_python_value(value, used)}"
    return text, used


def _python_value(value: Any, used: set[str]) -> str:
    if isinstance(value, VALUES):
        used.add(type(value).__name__)
        given = ", ".join(f"{name}={_python_value(each, used)}" for name, each in given_fields(value))
        return f"{type(value).__name__}({given})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_python_value(each, used)}" for key, each in value.items()) + "}"
    return repr(str(value) if isinstance(value, Path) else value)


def given_fields(value: Any) -> list[tuple[str, Any]]:
    """Return name and value of the fields of a dataclass that are not their default."""
    found = []
    for each in fields(value):
        own = getattr(value, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if own != default:
            found.append((each.name, own))
    return found


def _python_slides(plan: ScriptPlan, rows: tuple[CohortSlide, ...]) -> tuple[str, list[str], set[str]]:
    """An expression for slides, the lines it needs before it, and what they import."""
    if _is_whole(plan, rows):
        return "cohort", [], set()
    plain, mpp = _one_mpp(rows)
    if plain and mpp is None:
        return "slides", [f"slides = {[str(row.path) for row in rows]!r}"], set()
    lines = ["slides = Cohort((", *(f"    {_python_row(row)}," for row in rows), "))"]
    return "slides", lines, {"Cohort", "CohortSlide"}


def _python_row(row: CohortSlide) -> str:
    mpp = "" if row.mpp is None else f", mpp={row.mpp!r}"
    path = repr(row.path) if is_url(row.path) else f"Path({str(row.path)!r})"
    return f"CohortSlide({row.slide_id!r}, {path}, case_id={row.case_id!r}{mpp})"


def _is_run(path: Path) -> bool:
    from ..store.run import Run

    return Run.is_run(path)


# ---- command line -------------------------------------------------------------------------------------------------


def _shell(plan: ScriptPlan) -> str:
    lines: list[str] = []
    folder = plan.folder
    if plan.training is not None:
        lines += [_shell_training(plan.training, folder), ""]
    written: list[Exported] = []
    for made in plan.predictions:
        ids = tuple(row.slide_id for row in made.slides)
        first = next(
            (done for done in plan.exports if done.network == made.network and set(done.slide_ids) == set(ids)), None
        )
        lines += [*_shell_prediction(plan, folder, made, first), ""]
        if first is not None and first.inputs.corrections is None:
            written.append(first)
    if any(done.colours for done in plan.exports):
        lines += ["# The colours chosen in the window are not in these files: the script in Python has them.", ""]
    for done in plan.exports:
        if done not in written:
            lines += [*_shell_export(plan, folder, done), ""]
    return "\n".join(lines).strip() + "\n"


def _shell_training(made: Trained, folder: Path) -> str:
    config, settings = made.config, made.config.settings
    parts = ["distill2label", "train", str(made.folder / "cohort.csv"), "-o", str(folder)]
    parts += ["--preset", settings.preset, "--method", settings.method, "--classes", ",".join(config.classes)]
    parts += ["--baseline"] if config.baseline else []
    parts += ["--quick-trial"] if config.quick_trial else []
    options, masks = _shell_inputs(_training_inputs(made), [])
    parts += options
    for name, value in _flat(overrides_of(settings)):
        parts += [f"--{name}", "none" if value is None else str(value)]
    return _command(parts) if masks is not None else f"{LEFT_OUT}\n{_command(parts)}"


def _shell_inputs(inputs: Inputs, slide_ids: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return the options of inputs, and those of the tissue among them; None where no option can say that."""
    options: list[str] = []
    for name, value in given_fields(replace(inputs, tissue=None, encoder=Encoder(), label_map={})):
        options += _flag(name, value)
    for label, name in inputs.label_map.items():
        options += ["--map", f"{label}={name}"]
    options += [] if inputs.encoder.path is None else ["--encoder", str(inputs.encoder.path)]
    options += ["--trust-encoder"] if inputs.encoder.trusted else []
    masks = _shell_tissue(inputs.tissue, slide_ids)
    return [*options, *(masks or [])], masks


def _shell_tissue(tissue: TissueRegions | None, slide_ids: Sequence[str]) -> list[str] | None:
    """An option for one file or a folder of them; None where each slide's is elsewhere, which no option can say."""
    if tissue is None:
        return []
    if not isinstance(tissue.source, Mapping):
        return ["--tissue", str(tissue.source)]
    files = [Path(tissue.source[slide_id]) for slide_id in slide_ids if slide_id in tissue.source]
    if len(files) == len(slide_ids) == 1:
        return ["--tissue", str(files[0])]
    folders = {path.parent for path in files}
    named = [path.name for path in files] == [f"{safe_name(slide_id)}.geojson" for slide_id in slide_ids]
    return ["--tissue", str(folders.pop())] if named and len(folders) == 1 else None


def _flat(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in nested.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return found


def _kept(plan: ScriptPlan, folder: Path, first: Exported | None) -> Path:
    """Where a prediction's results go: where they were exported to first, else beside the model."""
    return first.out if first is not None else folder.with_name(f"{folder.name}_labels")


def _shell_prediction(plan: ScriptPlan, folder: Path, made: Predicted, first: Exported | None) -> list[str]:
    lines, slides = _shell_slides(plan, folder, made.slides)
    out = _kept(plan, folder, first)
    parts = ["distill2label", "predict", str(folder), *slides, "-o", str(out), "--network", made.network]
    plain, mpp = _one_mpp(made.slides)
    if plain and mpp is not None and not lines and not _is_whole(plan, made.slides):
        parts += ["--mpp", repr(mpp)]
    options, masks = _shell_inputs(made.inputs, [row.slide_id for row in made.slides])
    if masks is None:
        lines = [*lines, LEFT_OUT]
    parts += [] if made.dense_stride is None else _flag("dense_stride", made.dense_stride)
    parts += options
    parts += [part for name, value in given_fields(made.compute) for part in _flag(name, value)]
    if first is not None:
        parts += ["--threshold", repr(first.threshold), "--format", ",".join(first.formats)]
    return [*lines, _command(parts)]


def _flag(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]


def _shell_slides(plan: ScriptPlan, folder: Path, rows: tuple[CohortSlide, ...]) -> tuple[list[str], list[str]]:
    if _is_whole(plan, rows) and plan.training is not None:
        return [], [str(plan.training.folder / "cohort.csv")]
    plain, _ = _one_mpp(rows)
    if plain:
        return [], [str(row.path) for row in rows]
    table = folder.with_name(f"{folder.name}_slides.csv")
    cells = [f"{_cell(row.slide_id)},{_cell(str(row.path))},{'' if row.mpp is None else row.mpp}" for row in rows]
    end = "END"
    while any(end in row.splitlines() for row in cells):  # an id may hold lines, and would end the table with this
        end += "_"
    return [f"cat > {shlex.quote(str(table))} <<'{end}'", "slide_id,path,mpp", *cells, end], [str(table)]


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def _shell_export(plan: ScriptPlan, folder: Path, done: Exported) -> list[str]:
    parts = ["-o", str(done.out), "--format", ",".join(done.formats), "--threshold", repr(done.threshold)]
    parts += _shell_inputs(done.inputs, [])[0]
    is_run = plan.training is not None or _is_run(folder)
    everything = {row.slide_id for made in plan.predictions for row in made.slides}
    one_network = {made.network for made in plan.predictions} <= {done.network}
    if plan.training is not None and one_network and set(done.slide_ids) == everything:
        return [_command(["distill2label", "export", str(folder), *parts])]
    kept = folder / "predictions" if is_run else _kept(plan, folder, done)
    maps = [str(kept / f"{safe_name(slide_id)}.{done.network}.zarr") for slide_id in done.slide_ids]
    return [_command(["distill2label", "export", each, *parts]) for each in maps]


def _command(parts: Sequence[str]) -> str:
    """One command; a flag a line where it is long."""
    quoted = [shlex.quote(part) for part in parts]
    if len(" ".join(quoted)) <= 100:
        return " ".join(quoted)
    text = ""
    for part in quoted:
        text += (" \\\n    " if part.startswith("-") and text else " " if text else "") + part
    return text
