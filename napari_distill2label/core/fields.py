"""What a user can give: every setting and every input, with its plain name, unit and names of values, once.

Settings are declared in `core.settings`; their rows are made from there. The rows of inputs are here. Interfaces have
their own names for a field: the command line by rule (`cli.messages.option_of`), the window by its boxes
(`gui.messages.PLACES`), Python by its parameters (`core.messages`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .settings import Settings


@dataclass(frozen=True)
class Field:
    """One setting or input.

    Attributes
    ----------
    key
        "patches.mpp" (a setting), "inputs.encoder", "compute.device", "cohort.mpp" (a column of the cohort's table),
        "resume" (an argument of a command).
    name, description
        Its plain name, and what it is: a sentence.
    unit, unset, values
        Unit of its numbers; what None is called; names of values that say too little by themselves.
    basic
        Whether most users look at it.
    """

    key: str
    name: str
    description: str
    unit: str = ""
    unset: str = "not set"
    values: Mapping[str, str] = field(default_factory=dict)
    basic: bool = False


def _inputs(*rows: Field) -> dict[str, Field]:
    return {row.key: row for row in rows}


INPUTS = _inputs(
    Field("cohort.mpp", "Pixel size", "Pixel size of a slide, in the table of slides.", "µm/px", "the file's"),
    Field(
        "inputs.centres",
        "Centres",
        "Where patches are, in place of a grid: points to centre them on (CSV, Parquet, GeoJSON), or places of CLAM or "
        "TRIDENT (HDF5, or a folder of them).",
    ),
    Field(
        "inputs.tissue",
        "Tissue regions",
        "GeoJSON of regions, or a label image, to take patches from; or a folder of GeoJSON files.",
    ),
    Field("inputs.corrections", "Corrections", "CSV, GeoJSON or a label image: patches whose class is known."),
    Field(
        "inputs.region_labels",
        "Region labels",
        "GeoJSON of regions whose classes say 'none here', 'somewhere here' or 'all of this'.",
    ),
    Field(
        "inputs.label_map",
        "Meaning of labels",
        "Class of a label in the ground truth or the corrections that is no class of the model, as LABEL=CLASS. LABEL= "
        "leaves a label out, *=CLASS is for all others. May be repeated.",
    ),
    Field("inputs.coverage", "Coverage", "Share of a patch that an area must cover to give its class (default 0.5)."),
    Field("inputs.encoder", "Frozen encoder", "File of a frozen encoder: .onnx with a .json beside it."),
    Field(
        "inputs.trust_encoder",
        "Trust in the encoder",
        "Open the encoder's file although it can hold a program, which then runs (TorchScript).",
    ),
    Field(
        "inputs.features",
        "Features",
        "Folder of features: <slide_id>.h5 of CLAM or TRIDENT, or features that this program computed. Existing "
        "features are not computed again.",
    ),
    Field("inputs.mpp", "Pixel size", "Pixel size of the slides (µm/px). It replaces what their files say.", "µm/px"),
    Field(
        "inputs.allow_non_brightfield",
        "Images that are not brightfield",
        "Also accept images that are not brightfield.",
    ),
    Field("compute.device", "Device", "Device that computes: auto, cpu, cuda or mps."),
    Field(
        "compute.precision",
        "Precision",
        "Number format of the network. bfloat16 is faster and less exact. auto: bfloat16 if the processor supports it.",
    ),
    Field("compute.workers", "Workers", "Number of processes on this machine (default 1)."),
    Field("compute.scheduler", "Scheduler", "Address of a dask scheduler whose workers compute: tls://… or tcp://…"),
    Field("slides_folder", "Folder of the slides", "Folder of the slides (default: the folder of the table)."),
    Field("out", "Results", "Folder or file of the results."),
    Field("overwrite", "Replacing", "Replace files that this program did not write, or that were changed since."),
    Field("preset", "Kind of images", "Kind of images (default colon)."),
    Field("method", "Method", "Method (default recommended)."),
    Field("classes", "Classes", "Names of the classes, the negative one first."),
    Field("baseline", "Baseline", "Also train the baseline: plain attention MIL."),
    Field("quick_trial", "Quick trial", "Train on a few slides for a moment, to see the whole way first."),
    Field("resume", "Resuming", "Resume after the last completed epoch."),
    Field("network", "Network", "Network of a run (default student, else the teacher)."),
    Field("threshold", "Threshold", "Lowest probability at which a patch is labelled (default: that of the model)."),
    Field(
        "promise",
        "Promise",
        "Choose the threshold so that at most this share of the patches of a new negative slide is labelled a finding.",
    ),
    Field("risk", "Risk", "Probability that the promise is broken (default 0.1)."),
    Field(
        "negatives",
        "Negative slides",
        "Table of negative slides that the promise rests on (default: the test slides of the run).",
    ),
    Field("count", "Size of the sample", "Number of patches to draw (default 50).", "patches"),
    Field("dense_stride", "Dense map", "Score a position every STRIDE pixels of the model.", "px"),
    Field("formats", "Formats", "Formats of the results."),
    Field("dtype", "Numbers", "Numbers that features are kept as. float16 takes half the room and keeps three digits."),
    Field("regions.smooth", "Round corners", "Round the corners of merged regions off."),
    Field("regions.minimum_mm2", "Minimum area", "Leave out merged regions smaller than this (default 0).", "mm²"),
    Field(
        "slides",
        "Slides",
        "Slides that the files are of, or their folder: for size, pixel size and scanned area.",
    ),
    Field(
        "target_patches",
        "Target patches",
        "Run, patch map or HDF5 file of places whose patches the marks label; these are written in place of the marks.",
    ),
    Field("allow_loss", "Losses", "Convert although the format cannot hold all marks; they are counted."),
    Field(
        "to",
        "Target",
        "Program that a model is exported for: WSInfer (and QuPath's extension), or ONNX; or format to convert to.",
    ),
    Field(
        "truth",
        "Ground truth",
        "Ground truth: CSV slide_id,x,y,label, GeoJSON of points and areas, or a folder of masks.",
    ),
    Field("split", "Slides to evaluate", "Slides to evaluate: those that are new to the run, or all."),
    Field(
        "missing_truth", "Patches without ground truth", "Class of patches of a grid on which nothing is marked."
    ),
)  # fmt: skip


# ---- settings ------------------------------------------------------------------------------------------------------


def setting_paths(kind: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Return the keys of all settings: 'patches.size_px', …, 'seed'."""
    paths = []
    for name, declared in kind.model_fields.items():
        if isinstance(declared.annotation, type) and issubclass(declared.annotation, BaseModel):
            paths += setting_paths(declared.annotation, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in NO_SETTINGS:
            paths.append(f"{prefix}{name}")
    return paths


NO_SETTINGS = ("preset", "method", "device")  # they are fields of `Settings`, and inputs for a user


def declaration_of(path: str) -> FieldInfo:
    """Return the declaration of a setting. `KeyError` if there is none."""
    *parts, name = path.split(".")
    kind: Any = Settings
    for part in parts:
        kind = kind.model_fields[part].annotation
    declared: FieldInfo = kind.model_fields[name]
    return declared


def _row(path: str) -> Field:
    declared = declaration_of(path)
    extra = declared.json_schema_extra
    assert isinstance(extra, dict), path
    names = extra["names"]
    assert isinstance(names, dict)
    return Field(
        path, str(declared.title), declared.description or "", str(extra["unit"]), str(extra["unset"]),
        {str(value): str(name) for value, name in names.items()}, bool(extra["basic"]),
    )  # fmt: skip


SETTINGS = {path: _row(path) for path in setting_paths()}
FIELDS: Mapping[str, Field] = {**INPUTS, **SETTINGS}


def value_in_words(key: str, value: Any) -> str:
    """Return a value as people read it: '27 px', 'keep all', "slide's own"."""
    row = FIELDS[key]
    if value is None:
        return row.unset
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return row.values.get(value, value)
    return f"{value:g} {row.unit}".strip()


def nested(path: str, value: Any) -> dict[str, Any]:
    """('patches.mpp', 0.5) -> {'patches': {'mpp': 0.5}}."""
    for name in reversed(path.split(".")):
        value = {name: value}
    result: dict[str, Any] = value
    return result


def value_at(settings: Settings, path: str) -> Any:
    """Return the value of a setting."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def changed_settings(settings: Settings, standard: Settings) -> list[str]:
    """Return the keys of the settings that differ from the standard ones."""
    return [path for path in SETTINGS if value_at(settings, path) != value_at(standard, path)]
