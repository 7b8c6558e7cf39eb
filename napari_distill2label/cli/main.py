"""The command line: it finds the command, runs it, and ends with one plain line if it fails."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from ..core.errors import Distill2LabelError
from ..core.events import Event, drain
from ..core.resource_errors import WITHOUT_REASON, is_disk_full, is_out_of_memory, is_without_reason
from ..core.text import shown
from ..mil.memory import retain_freed_memory
from ..mil.waiting import wait_passively
from .messages import command_line_messages
from .parser import RESEARCH_USE, CommandParser, ShowVersion
from .progress_bar import ProgressBar, printable_streams
from .stopping import stoppable

SMALLER_BAGS = (
    "smaller bags (for training: --teacher.max_patches_per_bag, --teacher.pseudo_bag_size, --teacher.batch_size)"
)
INTERRUPTED = 130  # the exit status that a shell reports after Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status: 0 all done, 1 some slides failed, 2 unusable arguments."""
    wait_passively()  # before torch is imported
    return run_command(build_parser(), arguments)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the command. Return the exit status.

    The parser's defaults name the work: `run(options, drain)`. It has the options `debug` and `command`, as
    `distill2label` has. Progress, signals and errors are handled as in every command.
    """
    with printable_streams():
        return _run(parser.parse_args(arguments), parser.prog)


def _run(options: argparse.Namespace, program: str) -> int:
    retain_freed_memory()  # of our own process; a library leaves its host's allocator alone
    try:
        # Qt has its own event loop. An exception that a signal raises in the middle of it would break it.
        with (
            nullcontext() if options.command == "gui" else stoppable() as stopping,
            ProgressBar(command_line_messages) as bar,
        ):

            def show(event: Event) -> None:
                if stopping:
                    stopping.check()
                bar.show(event)

            options.run(options, lambda work: drain(work, show))
    except Distill2LabelError as error:
        return _end(options, program, command_line_messages.line(error), error.exit_status)
    except KeyboardInterrupt as stop:
        print(f"{program}: Stopped. Finished work is saved.", file=sys.stderr)
        return getattr(stop, "exit_status", INTERRUPTED)
    except Exception as error:
        if (line := _system_error(error)) is None:
            raise  # a bug: show its traceback
        return _end(options, program, line, 2)
    if bar.failed:
        print(f"{program}: {len(bar.failed)} failed. The others are done.", file=sys.stderr)
        for failure in bar.failed:
            print(f"  {command_line_messages.failure(failure)}", file=sys.stderr)
    return 1 if bar.failed else 0


def _end(options: argparse.Namespace, program: str, line: str, status: int) -> int:
    """Print in one line why the command ends. Return the exit status."""
    if options.debug:
        traceback.print_exc()
    print(f"{program}: {line}", file=sys.stderr)
    return status


def _system_error(error: Exception) -> str | None:
    """Return one line on what the system refused and what to do. Return None for a bug."""
    file = getattr(error, "filename", None)
    where = f"{shown(file, 400)}: " if file else ""
    if is_out_of_memory(error):
        return (
            "out of memory. Finished work is saved. Use a machine with more memory, --device cpu if a GPU is full, or "
            f"{SMALLER_BAGS}"
        )
    if is_without_reason(error):
        return (
            f"{WITHOUT_REASON}. Finished work is saved. Try a machine with more memory, or {SMALLER_BAGS}; --debug "
            "shows where it happened"
        )
    if is_disk_full(error):
        return (
            f"{where}the disk is full, or your share of it. Finished work is saved. Free some space and run the same "
            "command again (train: with --resume)"
        )
    if isinstance(error, OSError):
        return where + (str(error.strerror or error).splitlines() or [type(error).__name__])[0]
    return None


# ---- the parser ----------------------------------------------------------------------------------------------------

COMMANDS = {
    "demo": "train, predict and evaluate on a synthetic cohort",
    "prepare-dataset": "write the tables of a published data set: cohort, truth, centres",
    "train": "train a teacher and a student on slides and their labels",
    "extract-features": "compute the features of a frozen encoder",
    "segment-tissue": "write the tissue regions of slides, to correct them in QuPath",
    "predict": "label the patches of slides with a trained model",
    "export": "write saved predictions in the formats of other programs",
    "convert": "turn annotations, masks, tables and places of patches into another format",
    "export-model": "write a trained network for WSInfer and QuPath, or as ONNX",
    "evaluate": "compare every network of a run with the ground truth",
    "draw-sample": "draw patches of predicted slides at random, to be labelled by a person",
    "recalibrate": "measure a model on such a sample, and re-calibrate it to these slides",
    "gui": "open the napari window",
    "doctor": "list what is installed, the device, and what is missing",
}


def build_parser() -> CommandParser:
    """Return the parser of `distill2label`. The arguments of a command are added when it is given, or by `complete`."""
    parser = CommandParser(prog="distill2label", description=f"Patch labels from slide labels. {RESEARCH_USE}")
    parser.add_argument("--version", action=ShowVersion, help="show program's version number and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(
            name, help=text, description=f"{text}. {RESEARCH_USE}", add_arguments=partial(_add_arguments, name)
        )
    return parser


def _add_arguments(command: str, parser: CommandParser) -> None:
    """Add the arguments of one command, and what it runs."""
    # They are made from the settings models, and pydantic takes longer to import than the rest of the parser.
    from .arguments import ARGUMENTS
    from .commands import COMMANDS as RUN

    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=RUN[command])
    ARGUMENTS[command](parser)
