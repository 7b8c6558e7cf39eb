"""The arguments of each command. The options of settings are made from the settings models (`--teacher.epochs 20`)."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from ..core.label_map import COVERAGE
from ..core.paths import is_url
from ..core.presets import METHODS, PRESETS
from ..core.settings import Settings
from ..core.text import did_you_mean, shown

GROUPS = ("patches", "architecture", "teacher", "oof", "student", "split")


class CommandParser(argparse.ArgumentParser):
    """A parser that never abbreviates options, and suggests the command or the option that was meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})
        self.commands: dict[str, CommandParser] = {}

    def add_subparsers(self, **kwargs: Any) -> Any:
        made = super().add_subparsers(**kwargs)
        self.commands = made.choices
        return made

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        args = sys.argv[1:] if args is None else list(args)
        command = next((word for word in args if not word.startswith("-")), None)
        if self.commands and command is not None and command not in self.commands:
            self.error(f"There is no command {shown(command)}.{did_you_mean(command, self.commands)}")
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.commands.get(command, self)
            option = unknown[0].partition("=")[0]
            known = re.findall(r"(?<![\w-])--[\w.-]*\w", parser.format_help())
            if option.startswith("-"):
                parser.error(f"There is no option {shown(option)}.{did_you_mean(option, known)}")
            parser.error(f"There is one argument too many: {shown(option)}.")
        return options


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    _add_overwrite(parser)


def _prepare_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=("colon", "consep", "breast"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--mpp", type=float, metavar="UM", help="pixel size in µm/px to write for every slide")
    _add_overwrite(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", type=name_list, required=True, metavar="A,B", help="ome-tiff, geojson, csv, png")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--corrections", type=Path, metavar="FILE", help="CSV or GeoJSON of corrections to apply")
    _add_labels(parser, "corrections", COVERAGE)
    _add_overwrite(parser)


def _gui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", metavar="COHORT.csv|RUN")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path, help="CSV slide_id,path,label[,case_id,mpp,split], or CLAM's or TRIDENT's")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="kind of images (default colon)")
    parser.add_argument("--method", choices=tuple(METHODS), help="method (default recommended)")
    parser.add_argument("--classes", type=_listed, metavar="A,B", help="class names, the negative one first")
    _add_slides_folder(parser)
    parser.add_argument("--baseline", action="store_true", help="also train the baseline: plain attention MIL")
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv", help="points to centre patches on")
    parser.add_argument("--encoder", type=Path, metavar="FILE", help="frozen encoder: .onnx with a .json beside it")
    _add_features(parser, "folder of features: CLAM's or TRIDENT's <slide_id>.h5, or what `extract-features` wrote")
    parser.add_argument(
        "--corrections", type=Path, metavar="FILE", help="CSV or GeoJSON of patches whose class is known"
    )
    _add_labels(parser, "corrections", None)
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions to take patches from, or a folder of them"
    )
    parser.add_argument("--resume", action="store_true", help="resume after the last completed epoch")
    _add_overwrite(parser)
    _add_settings(parser)


def _extract_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path)
    parser.add_argument(
        "--encoder", type=Path, required=True, metavar="FILE", help="frozen encoder: .onnx with a .json beside it"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", type=name_list, default=["zarr"], metavar="A,B", help="zarr, h5 (default zarr)")
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions to take patches from, or a folder of them"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    _add_overwrite(parser)
    _add_slides_folder(parser)
    _add_trust(parser)
    _add_groups(parser, ("patches",))


def _segment_tissue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    _add_settings_of(parser, "patches", ("tissue", "white_level"))
    parser.add_argument("--overwrite", action="store_true", help="replace existing regions, also corrected ones")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN|BUNDLE")
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|FOLDER|COHORT.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    parser.add_argument(
        "--network", choices=("student", "teacher", "baseline"), help="network of a run (default student)"
    )
    parser.add_argument("--threshold", type=float, help="probability from which on a patch is labelled (the model's)")
    parser.add_argument(
        "--promise", type=float, metavar="SHARE", help="choose the threshold: of a new negative slide no more is called"
    )
    parser.add_argument("--risk", type=float, default=0.1, help="probability that the promise is broken (0.1)")
    parser.add_argument(
        "--negatives", type=Path, metavar="COHORT.csv", help="slides that the promise rests on (the run's test slides)"
    )
    parser.add_argument(
        "--mpp", type=float, metavar="UM", help="pixel size of the slides in µm/px; overrides their files"
    )
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv", help="points to centre patches on")
    parser.add_argument("--tissue", type=Path, metavar="FILE.geojson", help="regions to score, or a folder of them")
    parser.add_argument(
        "--dense-stride",
        type=int,
        metavar="STRIDE",
        help="score a position every STRIDE pixels of the model, in one pass",
    )
    parser.add_argument("--format", type=name_list, default=["ome-tiff", "geojson", "csv", "png"], metavar="A,B")
    parser.add_argument(
        "--allow-non-brightfield", action="store_true", help="also accept images that are not brightfield"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="number format of the network; bfloat16 is faster and less exact",
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
        help="ground truth: CSV slide_id,x,y,label, GeoJSON of points and areas, or a folder of masks",
    )
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv")
    parser.add_argument("--split", choices=("test", "all"), default="test")
    parser.add_argument(
        "--missing-truth",
        choices=("negative", "ignore"),
        default="negative",
        help="class of grid patches on which nothing is marked",
    )
    _add_labels(parser, "truth", COVERAGE)
    parser.add_argument("-o", "--out", type=Path, metavar="metrics.json")
    _add_overwrite(parser)
    _add_device(parser)


# The function that adds the arguments of each command. `doctor` has none.
ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "demo": _demo,
    "prepare-dataset": _prepare_dataset,
    "train": _train,
    "extract-features": _extract_features,
    "segment-tissue": _segment_tissue,
    "predict": _predict,
    "export": _export,
    "evaluate": _evaluate,
    "gui": _gui,
}


def _place(text: str) -> Path | str:
    """Return a path, or a URL as it is: a path would lose one of its slashes."""
    return text if is_url(text) else Path(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options for work in other processes or on other machines."""
    parser.add_argument(
        "--workers", type=positive_int, metavar="N", help="number of processes on this machine (default 1)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="dask scheduler to use instead, tls://… or tcp://…")


def _add_labels(parser: argparse.ArgumentParser, what: str, coverage: float | None) -> None:
    parser.add_argument(
        "--map",
        dest="label_map",
        action="append",
        default=[],
        metavar="LABEL=CLASS",
        help=f"class of a label of the {what} that is no class of the model; LABEL= leaves it out, *=CLASS is for all "
        "others. May be repeated",
    )
    parser.add_argument(
        "--coverage",
        type=float,
        default=coverage,
        metavar="SHARE",
        help=f"share of a patch that an area must cover to give its class (default {COVERAGE})",
    )


def positive_int(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that this program did not write, or that were changed"
    )


def _add_slides_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slides-folder", type=Path, metavar="DIR", help="folder of the slides (default: the folder of the CSV)"
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--encoder", type=Path, metavar="FILE", help="frozen encoder, if it has moved since training")
    _add_features(parser, "folder of features; existing ones are not computed again")


def _add_features(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--features", type=Path, metavar="DIR", help=about)
    _add_trust(parser)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-encoder",
        dest="trust",
        action="store_true",
        help="open the encoder's file although it can hold a program, which then runs (TorchScript)",
    )


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
    for name in ("seed", "device"):
        top.add_argument(f"--{name}", dest=f"set:{name}", help=_help(Settings, name), metavar=name.upper())
    _add_groups(parser, GROUPS)


def _add_groups(parser: argparse.ArgumentParser, groups: Sequence[str]) -> None:
    for group in groups:
        _add_settings_of(parser, group, tuple(Settings.model_fields[group].annotation.model_fields))


def _add_settings_of(parser: argparse.ArgumentParser, group: str, names: Sequence[str]) -> None:
    """Add an option for each of these settings of a group."""
    model = Settings.model_fields[group].annotation
    options = parser.add_argument_group(f"{group} settings", (model.__doc__ or "").strip())
    for name in names:
        spellings = dict.fromkeys((f"--{group}.{name}", f"--{group}.{name.replace('_', '-')}"))
        options.add_argument(*spellings, dest=f"set:{group}.{name}", help=_help(model, name), metavar="X")


def _help(model: type, name: str) -> str:
    field = model.model_fields[name]
    default = f" (default {field.default}, unless the preset differs)"
    return f"{field.description}{default}".replace("%", "%%")


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
    model: Any = Settings.model_fields[group].annotation if group else Settings
    return type(None) in get_args(model.model_fields[name].annotation)
