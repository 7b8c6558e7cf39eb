"""What the verbs of the command line take. Flags for settings are made from their models (`--teacher.epochs 20`)."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .core.label_map import COVERAGE
from .core.paths import is_url
from .core.presets import PRESETS, RECIPES
from .core.settings import Settings

GROUPS = ("grid", "model", "teacher", "assistant", "student", "split")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    _add_overwrite(parser)


def _dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=("colon", "breast"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--mpp", type=float, metavar="UM", help="µm/px to write for every slide (its files do not say)")
    _add_overwrite(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", type=name_list, required=True, metavar="A,B", help="ome-tiff, geojson, csv, png")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--corrections", type=Path, metavar="FILE", help="CSV or GeoJSON laid over the labels")
    _add_labels(parser, "corrections", COVERAGE)
    _add_overwrite(parser)


def _gui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", metavar="COHORT.csv|RUN")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, help="CSV slide_id,path,label[,case_id,mpp,split], or CLAM's or TRIDENT's")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="the kind of images (default colon)")
    parser.add_argument("--recipe", choices=tuple(RECIPES), help="the method (default default)")
    parser.add_argument("--classes", type=_listed, metavar="A,B", help="class names, the negative one first")
    _add_slides_folder(parser)
    parser.add_argument("--baseline", action="store_true", help="also train plain attention MIL")
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv", help="centre patches on these points")
    parser.add_argument("--encoder", type=Path, metavar="FILE", help="frozen encoder: .onnx with a .json beside it")
    _add_features(parser, "folder of features: CLAM's or TRIDENT's <slide_id>.h5, or what `features` wrote")
    parser.add_argument("--corrections", type=Path, metavar="FILE", help="CSV or GeoJSON of known patches")
    _add_labels(parser, "corrections", None)
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions outside of which no patch is taken; or a folder"
    )
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")
    _add_overwrite(parser)
    _add_settings(parser)


def _features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path)
    parser.add_argument(
        "--encoder", type=Path, required=True, metavar="FILE", help="frozen encoder: .onnx with a .json beside it"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", type=name_list, default=["zarr"], metavar="A,B", help="zarr, h5 (default zarr)")
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions outside of which no patch is taken; or a folder"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    _add_overwrite(parser)
    _add_slides_folder(parser)
    _add_trust(parser)
    _add_groups(parser, ("grid",))


def _tissue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    parser.add_argument("--rule", choices=("otsu", "white"), default="otsu", help="as --grid.tissue (default otsu)")
    parser.add_argument("--white-level", metavar="N", help="rule white: as --grid.white_level")
    parser.add_argument("--overwrite", action="store_true", help="replace regions that are there, corrected or not")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN|BUNDLE")
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    parser.add_argument("--model", choices=("student", "teacher", "baseline"), help="of a run (default: the student)")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--mpp", type=float, metavar="UM", help="the slides' own µm/px; overrides their files")
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv", help="centre patches on these points")
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions outside of which nothing is scored; or a folder"
    )
    parser.add_argument(
        "--dense", type=int, metavar="STRIDE", help="score a position every STRIDE model px, all at once"
    )
    parser.add_argument("--format", type=name_list, default=["ome-tiff", "geojson", "csv", "png"], metavar="A,B")
    parser.add_argument("--force", action="store_true", help="also what is no brightfield image")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "auto"), default="float32", help="bfloat16: faster, coarser"
    )
    add_workers(parser)
    _add_overwrite(parser)
    _add_device(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN")
    parser.add_argument("cohort", type=Path)
    _add_slides_folder(parser)
    parser.add_argument(
        "--truth",
        type=Path,
        required=True,
        metavar="TRUTH.csv",
        help="CSV slide_id,x,y,label, GeoJSON of points and areas, or a folder of masks",
    )
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv")
    parser.add_argument("--split", choices=("test", "all"), default="test")
    parser.add_argument(
        "--empty", choices=("negative", "ignore"), default="negative", help="grid patches on which nothing is marked"
    )
    _add_labels(parser, "truth", COVERAGE)
    parser.add_argument("-o", "--out", type=Path, metavar="metrics.json")
    _add_overwrite(parser)
    _add_device(parser)


# What each verb takes; `doctor` takes nothing.
ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "demo": _demo,
    "dataset": _dataset,
    "train": _train,
    "features": _features,
    "tissue": _tissue,
    "predict": _predict,
    "export": _export,
    "evaluate": _evaluate,
    "gui": _gui,
}


def _place(text: str) -> Path | str:
    """A file; a URL stays what it is, since a path would lose one of its slashes."""
    return text if is_url(text) else Path(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options of work that other processes or machines may do."""
    parser.add_argument("--workers", type=positive_int, metavar="N", help="processes of this machine (default: one)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a dask cluster, tls://… or tcp://…, to use instead")


def _add_labels(parser: argparse.ArgumentParser, what: str, coverage: float | None) -> None:
    parser.add_argument(
        "--map",
        dest="label_map",
        action="append",
        default=[],
        metavar="LABEL=CLASS",
        help=f"what a label of the {what} means that is no class of the model; LABEL= leaves it out, *=CLASS is for "
        "all others. May be repeated",
    )
    parser.add_argument(
        "--coverage",
        type=float,
        default=coverage,
        metavar="SHARE",
        help=f"of a patch that an area must cover to say what it is (default {COVERAGE})",
    )


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that this program did not write, or that were changed"
    )


def _add_slides_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slides", dest="slides_folder", type=Path, metavar="DIR", help="folder of the slides, if not that of the CSV"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--encoder", type=Path, metavar="FILE", help="the frozen encoder, if it has moved since training"
    )
    _add_features(parser, "folder of features: those that are there are not computed again")


def _add_features(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--features", type=Path, metavar="DIR", help=about)
    _add_trust(parser)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", action="store_true", help="open an encoder file that can hold a program (TorchScript)"
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def name_list(text: str) -> list[str]:
    """At least one name, of several separated by commas."""
    if not _listed(text):
        raise argparse.ArgumentTypeError("name at least one")
    return _listed(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag per field of the settings; values stay text, which the settings models check and convert."""
    top = parser.add_argument_group("run")
    for name in ("seed", "device"):
        top.add_argument(f"--{name}", dest=f"set:{name}", help=_help(Settings, name), metavar=name.upper())
    _add_groups(parser, GROUPS)


def _add_groups(parser: argparse.ArgumentParser, groups: Sequence[str]) -> None:
    for group in groups:
        model = Settings.model_fields[group].annotation
        flags = parser.add_argument_group(f"{group} settings", (model.__doc__ or "").strip())
        for name in model.model_fields:
            spellings = dict.fromkeys((f"--{group}.{name}", f"--{group}.{name.replace('_', '-')}"))
            flags.add_argument(*spellings, dest=f"set:{group}.{name}", help=_help(model, name), metavar="X")


def _help(model: type, name: str) -> str:
    field = model.model_fields[name]
    default = f" (default {field.default}, if the preset says nothing else)"
    return f"{field.description}{default}".replace("%", "%%")


def setting_overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, nested: {'teacher': {'epochs': '20'}}."""
    result: dict[str, Any] = {}
    for key, text in vars(options).items():
        if key.startswith("set:") and text is not None:
            value = None if text.lower() == "none" else text
            group, _, name = key.removeprefix("set:").rpartition(".")
            (result.setdefault(group, {}) if group else result)[name] = value
    return result
