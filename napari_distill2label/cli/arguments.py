"""The arguments of each command. The options of settings are made from the settings models (`--teacher.epochs 20`)."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from ..core.fields import FIELDS
from ..core.inputs import FEATURE_DTYPES, Compute, Encoder, Inputs, TissueRegions
from ..core.label_map import COVERAGE, parse_label_map
from ..core.paths import is_url
from ..core.presets import METHODS, PRESETS
from ..core.settings import Settings, model_of
from .messages import option_of

INPUT_NAMES = tuple(each.name for each in fields(Inputs))
PROGRAMS = ("wsinfer", "onnx")
DEFAULT_FORMATS = ("ome-tiff", "geojson", "csv", "png")
MORE_FORMATS = ("regions", "probability", "mask-png", "ome-zarr", "ome-zarr-0.4", "parquet", "report")
CONVERSIONS = ("geojson", "csv", "parquet", "ome-tiff", "mask-png", "ome-zarr", "ome-zarr-0.4", "places")
GROUPS = ("patches", "architecture", "teacher", "oof", "student", "split")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    _add_overwrite(parser)


def _prepare_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=("colon", "consep", "breast", "glas"))
    parser.add_argument("folder", type=Path)
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    _add(parser, "inputs.mpp", type=float, metavar="UM")
    _add_overwrite(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    formats = ", ".join((*DEFAULT_FORMATS, *MORE_FORMATS, "summary"))
    _add(parser, "formats", type=name_list, required=True, metavar="A,B", values=formats)
    _add(parser, "threshold", type=float)
    _add(parser, "regions.smooth", action="store_true")
    _add(parser, "regions.minimum_mm2", type=float, default=0.0, metavar="MM2")
    _add(parser, "inputs.corrections", type=Path, metavar="FILE")
    _add_labels(parser, COVERAGE)
    _add_overwrite(parser)


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", type=Path, nargs="+", metavar="FILE|FOLDER")
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    _add(parser, "to", required=True, metavar="FORMAT", values=", ".join(CONVERSIONS))
    _add(parser, "slides", type=_place, action="append", default=[], metavar="SLIDE|FOLDER")
    _add(parser, "target_patches", type=Path, metavar="RUN|FILE")
    _add(parser, "inputs.coverage", type=float, metavar="SHARE")
    _add(parser, "allow_loss", action="store_true")
    _add_overwrite(parser)


def _export_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN|BUNDLE")
    parser.add_argument("out", type=Path, metavar="DIR", help=FIELDS["out"].description)
    _add(parser, "to", choices=PROGRAMS, required=True)
    _add(parser, "network", choices=("student", "teacher", "baseline"))
    _add(parser, "inputs.mpp", type=float, metavar="UM")
    _add(parser, "inputs.encoder", type=Path, metavar="FILE")
    _add_trust(parser)
    _add_overwrite(parser)


def _draw_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    _add(parser, "out", type=Path, required=True, metavar="SAMPLE.csv")
    _add(parser, "count", type=positive_int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patches (default 0)")
    _add_overwrite(parser)


def _recalibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    parser.add_argument("sample", type=Path, metavar="SAMPLE.csv", help="the file of draw-sample, with labels")
    _add(parser, "out", type=Path, metavar="BUNDLE")
    _add(parser, "threshold", type=float)
    _add(parser, "inputs.label_map", dest="label_map", action="append", default=[], metavar="LABEL=CLASS")
    _add_overwrite(parser)


def _gui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", metavar="COHORT.csv|RUN")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, help="CSV slide_id,path,label[,case_id,mpp,split], or CLAM's or TRIDENT's")
    _add(parser, "out", type=Path, required=True, metavar="RUN")
    _add(parser, "preset", choices=tuple(PRESETS))
    _add(parser, "method", choices=tuple(METHODS))
    _add(parser, "classes", type=_listed, metavar="A,B")
    _add_slides_folder(parser)
    _add(parser, "baseline", action="store_true")
    _add(parser, "quick_trial", action="store_true")
    _add(parser, "inputs.centres", type=Path, metavar="POINTS.csv")
    _add_encoder(parser)
    _add(parser, "inputs.corrections", type=Path, metavar="FILE")
    _add(parser, "inputs.region_labels", type=Path, metavar="FILE.geojson")
    _add_labels(parser, None)
    _add(parser, "inputs.tissue", type=Path, metavar="FILE.geojson")
    _add(parser, "resume", action="store_true")
    _add_overwrite(parser)
    _add_settings(parser)


def _extract_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path)
    _add(parser, "inputs.encoder", type=Path, required=True, metavar="FILE")
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    _add(parser, "formats", type=name_list, default=["zarr"], metavar="A,B", values="zarr, h5 (default zarr)")
    _add(parser, "dtype", choices=FEATURE_DTYPES, default=FEATURE_DTYPES[0])
    _add(parser, "inputs.mpp", type=float, metavar="UM")
    _add(parser, "inputs.centres", type=Path, metavar="POINTS.csv")
    _add(parser, "inputs.tissue", type=Path, metavar="FILE.geojson")
    _add(parser, "inputs.allow_non_brightfield", action="store_true")
    _add(parser, "compute.device", default="auto")
    add_workers(parser)
    _add_overwrite(parser)
    _add_slides_folder(parser)
    _add_trust(parser)
    _add_groups(parser, ("patches",))


def _segment_tissue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    _add_settings_of(parser, "patches", ("tissue", "white_level"))
    _add_overwrite(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN|BUNDLE")
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    _add(parser, "out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    _add(parser, "network", choices=("student", "teacher", "baseline"))
    _add(parser, "threshold", type=float)
    _add(parser, "promise", type=float, metavar="SHARE")
    _add(parser, "risk", type=float, default=0.1)
    _add(parser, "negatives", type=Path, metavar="COHORT.csv")
    _add(parser, "inputs.mpp", type=float, metavar="UM")
    _add(parser, "inputs.centres", type=Path, metavar="POINTS.csv")
    _add(parser, "inputs.tissue", type=Path, metavar="FILE.geojson")
    _add(parser, "dense_stride", type=int, metavar="STRIDE")
    formats = f"{', '.join(DEFAULT_FORMATS)} (default these); {', '.join(MORE_FORMATS)}"
    _add(parser, "formats", type=name_list, default=[*DEFAULT_FORMATS], metavar="A,B", values=formats)
    _add(parser, "inputs.allow_non_brightfield", action="store_true")
    _add(parser, "compute.precision", choices=("float32", "bfloat16", "auto"), default="float32")
    add_workers(parser)
    _add_overwrite(parser)
    _add_device(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN")
    parser.add_argument("cohort", type=Path)
    _add_slides_folder(parser)
    _add(parser, "truth", type=Path, required=True, metavar="TRUTH.csv")
    _add(parser, "inputs.centres", type=Path, metavar="POINTS.csv")
    _add(parser, "split", choices=("test", "all"), default="test")
    _add(parser, "missing_truth", choices=("negative", "ignore"), default="negative")
    _add_labels(parser, COVERAGE)
    _add(parser, "out", type=Path, metavar="metrics.json")
    _add_overwrite(parser)
    _add_device(parser)


def _doctor(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


# The function that adds the arguments of each command.
ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "demo": _demo,
    "prepare-dataset": _prepare_dataset,
    "train": _train,
    "extract-features": _extract_features,
    "segment-tissue": _segment_tissue,
    "predict": _predict,
    "export": _export,
    "convert": _convert,
    "export-model": _export_model,
    "evaluate": _evaluate,
    "draw-sample": _draw_sample,
    "recalibrate": _recalibrate,
    "gui": _gui,
    "doctor": _doctor,
}


def _place(text: str) -> Path | str:
    """Return a path, or a URL as it is: a path would lose one of its slashes."""
    return text if is_url(text) else Path(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options for work in other processes or on other machines."""
    _add(parser, "compute.workers", type=positive_int, metavar="N")
    _add(parser, "compute.scheduler", metavar="ADDRESS")


def _add(parser: argparse.ArgumentParser, key: str, *, values: str = "", **how: Any) -> None:
    """Add the option of a field (`core.fields.FIELDS`), with its description as the help."""
    option = option_of(key)
    names = ("-o", "--out") if option == "-o" else (option,)
    text = " ".join(filter(None, (FIELDS[key].description, values and f"{values}.")))
    parser.add_argument(*names, help=text.replace("%", "%%"), **how)


def _add_labels(parser: argparse.ArgumentParser, coverage: float | None) -> None:
    _add(parser, "inputs.label_map", dest="label_map", action="append", default=[], metavar="LABEL=CLASS")
    _add(parser, "inputs.coverage", type=float, default=coverage, metavar="SHARE")


def positive_int(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    _add(parser, "overwrite", action="store_true")


def _add_slides_folder(parser: argparse.ArgumentParser) -> None:
    _add(parser, "slides_folder", type=Path, metavar="DIR")


def _add_device(parser: argparse.ArgumentParser) -> None:
    _add(parser, "compute.device", default="auto")
    _add_encoder(parser)


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    _add(parser, "inputs.encoder", type=Path, metavar="FILE")
    _add(parser, "inputs.features", type=Path, metavar="DIR")
    _add_trust(parser)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    _add(parser, "inputs.trust_encoder", action="store_true")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def name_list(text: str) -> list[str]:
    """Return at least one name, from names separated by commas."""
    if not _listed(text):
        raise argparse.ArgumentTypeError("name at least one")
    return _listed(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option per setting. Values stay text, which the settings models check and convert."""
    top = parser.add_argument_group("run")
    for name in ("bag", "seed", "device"):
        top.add_argument(f"--{name}", dest=f"set:{name}", help=_help(Settings, name), metavar=name.upper())
    _add_groups(parser, GROUPS)


def _add_groups(parser: argparse.ArgumentParser, groups: Sequence[str]) -> None:
    for group in groups:
        _add_settings_of(parser, group, tuple(model_of(group).model_fields))


def _add_settings_of(parser: argparse.ArgumentParser, group: str, names: Sequence[str]) -> None:
    """Add an option for each of these settings of a group."""
    model = model_of(group)
    options = parser.add_argument_group(f"{group} settings", (model.__doc__ or "").strip())
    for name in names:
        spellings = dict.fromkeys((f"--{group}.{name}", f"--{group}.{name.replace('_', '-')}"))
        options.add_argument(*spellings, dest=f"set:{group}.{name}", help=_help(model, name), metavar="X")


def _help(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    default = f" (default {field.default}, unless the preset differs)"
    return f"{field.description}{default}".replace("%", "%%")


def inputs_of(options: argparse.Namespace) -> Inputs:
    """Return what is read beside the slides, from the options that the command has."""
    given = {name: value for name in INPUT_NAMES if (value := getattr(options, name, None)) is not None}
    encoder = Encoder(given.pop("encoder", None), getattr(options, "trust_encoder", False))
    tissue, label_map = given.pop("tissue", None), parse_label_map(given.pop("label_map", ()))
    return Inputs(
        encoder=encoder, tissue=None if tissue is None else TissueRegions(tissue), label_map=label_map, **given
    )


def compute_of(options: argparse.Namespace) -> Compute:
    """Return what the command computes on, from the options that it has."""
    names = (each.name for each in fields(Compute))
    return Compute(**{name: value for name in names if (value := getattr(options, name, None)) is not None})


def setting_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings given on the command line, nested: {'teacher': {'epochs': '20'}}."""
    result: dict[str, Any] = {}
    for key, text in vars(options).items():
        if key.startswith("set:") and text is not None:
            group, _, name = key.removeprefix("set:").rpartition(".")
            value = None if text.lower() == "none" and _can_be_unset(group, name) else text
            (result.setdefault(group, {}) if group else result)[name] = value
    return result


def _can_be_unset(group: str, name: str) -> bool:
    return type(None) in get_args(model_of(group).model_fields[name].annotation)
