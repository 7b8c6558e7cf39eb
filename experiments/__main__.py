"""`python -m experiments colon …`: repeats one figure or table of the paper, and prints its Markdown table."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path

from napari_distill2label.cli.arguments import add_workers, name_list, positive_int
from napari_distill2label.cli.main import run_command
from napari_distill2label.cli.parser import RESEARCH_USE, Drain
from napari_distill2label.core.errors import SettingsError

NAMES = (
    "mnist",
    "colon",
    "breast",
    "fields",
    "transfer",
    "promise",
    "prior",
    "corrections",
    "orders",
    "pixels",
    "unlike",
)  # each a module, with a function of the same name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of the experiments; returns the exit status, as `distill2label` does."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=f"A figure or table of the paper: CSV, picture, Markdown. {RESEARCH_USE}",
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run, command="experiment")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the published files, or a parent")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="goes on with what is there")
    parser.add_argument("--folds", type=int, metavar="N", help="of the cross-validation (default 5)")
    parser.add_argument("--seeds", type=positive_int, metavar="N", help="trainings of each model")
    parser.add_argument("--patches", type=name_list, metavar="A,B", help="colon, transfer: grid, nucleus, encoder")
    parser.add_argument("--rows", type=name_list, metavar="A,B", help="colon: which rows (default the main ones)")
    parser.add_argument("--train", metavar="SET", help="transfer: train on colon, consep or glas (default colon)")
    parser.add_argument("--test", type=name_list, metavar="A,B", help="transfer: other sets to predict")
    parser.add_argument("--methods", type=name_list, metavar="A,B", help="transfer: recommended, paper")
    parser.add_argument("--only", type=name_list, metavar="A,B", help="transfer, pixels: which trainings, by name")
    add_workers(parser)
    parser.add_argument("--quick", action="store_const", const=True, help="a few slides: does everything run?")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _run(options: argparse.Namespace, run: Drain) -> None:
    # What an experiment has no use for is not among its arguments: left out here, unknown there.
    names = ("folds", "seeds", "patches", "rows", "workers", "scheduler", "quick", "train", "test", "methods", "only")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    experiment = getattr(import_module(f"{__package__}.{options.name}"), options.name)
    if unknown := sorted(given.keys() - signature(experiment).parameters.keys()):
        raise SettingsError(f"experiment {options.name}: has no --{unknown[0]}")
    print(run(experiment(options.data, options.out, **given)).read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
