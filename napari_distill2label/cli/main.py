"""The commands of `distill2label`: arguments become calls of `workflow`, results go to standard output."""

import argparse
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from typing import Any

from .. import __version__
from ..core.errors import Distill2LabelError, MissingDependencyError, SettingsError
from ..core.events import Event, drain
from ..core.messages import Remedy
from ..core.paths import is_url
from ..core.presets import build_settings
from ..core.resource_errors import is_disk_full, is_out_of_memory
from ..core.settings import PatchSettings, Settings, merged, validated
from ..core.text import printable, shown
from ..mil.memory import retain_freed_memory
from ..mil.waiting import wait_passively
from ..slides.discovery import TABLES
from .arguments import ARGUMENTS, CommandParser, compute_of, inputs_of, setting_overrides
from .messages import command_line_messages
from .progress_bar import ProgressBar, printable_streams
from .stopping import stoppable

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis."
COHORTS = tuple(suffix for suffix in TABLES if suffix != ".txt")  # a .txt file may be anything
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
            print(f"  {shown(failure.item)}: {command_line_messages.line(failure.error)}", file=sys.stderr)
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
            "smaller bags (for training: --teacher.max_patches_per_bag, --teacher.pseudo_bag_size, "
            "--teacher.batch_size)"
        )
    if is_disk_full(error):
        return (
            f"{where}the disk is full, or your share of it. Finished work is saved. Free some space and run the same "
            "command again (train: with --resume)"
        )
    if isinstance(error, OSError):
        return where + (str(error.strerror or error).splitlines() or [type(error).__name__])[0]
    return None


Drain = Callable[[Generator[Event, None, Any]], Any]

# ---- the commands --------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.demo import demo

    print(run(demo(options.out, seed=options.seed, overwrite=options.overwrite)).report())


def _prepare_dataset(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.prepare_dataset import prepare_dataset

    print(run(prepare_dataset(options.name, options.folder, options.out, mpp=options.mpp, overwrite=options.overwrite)))


def _train(options: argparse.Namespace, run: Drain) -> None:
    from ..store.cohort import Cohort
    from ..store.run import Run
    from ..workflow.commands.train import train
    from ..workflow.plan import check_encoder

    overrides = setting_overrides(options)
    if options.resume:
        for name in ("preset", "method"):
            if getattr(options, name) is not None:
                overrides[name] = getattr(options, name)
        settings = validated(
            Settings, merged(Run.open(options.out).config.settings.model_dump(), overrides), "settings"
        )
    else:
        settings = build_settings(options.preset or "colon", options.method or "recommended", overrides)
        check_encoder(settings, inputs_of(options))  # before anything is read
    trained = run(
        train(
            Cohort.read(options.cohort, options.slides_folder),
            options.out,
            settings,
            classes=options.classes,
            baseline=options.baseline,
            quick_trial=options.quick_trial,
            inputs=inputs_of(options),
            resume=options.resume,
            overwrite=options.overwrite,
        )
    )
    print(printable(str(trained.folder)))


def _extract_features(options: argparse.Namespace, run: Drain) -> None:
    from ..store.cohort import Cohort
    from ..workflow.commands.extract_features import extract_features

    grid = validated(PatchSettings, {"tissue": "otsu", **setting_overrides(options).get("patches", {})}, "patches")
    work = extract_features(
        Cohort.read(options.cohort, options.slides_folder),
        options.out,
        grid,
        formats=options.format,
        inputs=inputs_of(options),
        compute=compute_of(options),
        overwrite=options.overwrite,
    )
    for path in run(work):
        print(printable(str(path)))


def _predict(options: argparse.Namespace, run: Drain) -> None:
    from ..store.cohort import Cohort
    from ..workflow.commands.predict import predict

    maps = run(
        predict(
            options.model_folder,
            _slides(options, Cohort),
            options.out,
            network=options.network,
            threshold=_threshold(options),
            dense_stride=options.dense_stride,
            formats=options.format,
            inputs=inputs_of(options),
            compute=compute_of(options),
            overwrite=options.overwrite,
        )
    )
    for patch_map in maps:
        scores = ", ".join(
            f"{shown(name)} {p:.3f}" for name, p in zip(patch_map.classes, patch_map.bag_probability, strict=True)
        )
        print(f"{shown(patch_map.slide_id)}: {scores}")


def _threshold(options: argparse.Namespace) -> Any:
    """Return the threshold, or the promise that chooses it. `SettingsError` if both are given."""
    from ..store.cohort import Cohort
    from ..workflow.promise import PromiseRequest

    if options.promise is None:
        return options.threshold
    if options.threshold is not None:
        raise SettingsError(
            "A promise chooses the threshold, and a threshold is given. Only one of them can be used.",
            remedy=Remedy("clear", "threshold", alternative=Remedy("clear", "promise")),
        )
    negatives = None if options.negatives is None else Cohort.read(options.negatives)
    return PromiseRequest(options.promise, options.risk, negatives)


def _slides(options: argparse.Namespace, cohort: Any) -> Any:
    """Return the `Cohort` of one table, or of slides, folders of slides and patterns."""
    tables = [path for path in options.slides if not is_url(path) and path.suffix.lower() in COHORTS]
    if tables and len(options.slides) > 1:
        raise SettingsError(f"{options.command}: give either one cohort.csv or slides, not both")
    return cohort.read(tables[0], options.slides_folder) if tables else cohort.of_files(options.slides)


def _segment_tissue(options: argparse.Namespace, run: Drain) -> None:
    from ..store.cohort import Cohort
    from ..workflow.commands.segment_tissue import segment_tissue

    settings = validated(PatchSettings, {"tissue": "otsu", **setting_overrides(options).get("patches", {})}, "patches")
    for path in run(segment_tissue(_slides(options, Cohort), options.out, settings, overwrite=options.overwrite)):
        print(printable(str(path)))


def _export(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.export import export

    work = export(
        options.source,
        options.out,
        options.format,
        threshold=options.threshold,
        inputs=inputs_of(options),
        overwrite=options.overwrite,
    )
    for path in run(work):
        print(printable(str(path)))


def _evaluate(options: argparse.Namespace, run: Drain) -> None:
    from ..exporters.evaluation import files_of_evaluation, write_evaluation
    from ..store.cohort import Cohort
    from ..store.files.outputs import Outputs
    from ..workflow.commands.evaluate import evaluate, metrics_table
    from ..workflow.input_files import files_of_model, input_files

    cohort = Cohort.read(options.cohort, options.slides_folder)
    inputs = inputs_of(options)
    read = (*files_of_model(options.model_folder), *input_files(cohort, inputs, options.truth))
    work = evaluate(
        options.model_folder,
        cohort,
        options.truth,
        split=options.split,
        missing_truth=options.missing_truth,
        inputs=inputs,
        compute=compute_of(options),
    )
    with Outputs(read, options.overwrite, "evaluating") as outputs:
        if options.out:
            outputs.claim(files_of_evaluation(options.out))
        reports = run(work)
        print(metrics_table(reports))
        if options.out:  # last: the metrics are printed even if the files cannot be written
            write_evaluation(options.out, reports, outputs.writing)


def _gui(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.window_check import window_problem

    if found := window_problem():  # Qt would abort the process, with a core dump in place of a message
        raise MissingDependencyError(f"the window cannot open. {found.problem} {found.remedy}")
    from ..gui import launch

    launch(options.path)


def _doctor(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.doctor import doctor

    for check in doctor():
        print(f"{'ok     ' if check.ok else 'missing'}  {check.name}: {check.detail}")
        if not check.ok:
            print(f"         {check.remedy}")


# ---- the parser ----------------------------------------------------------------------------------------------------


def build_parser() -> CommandParser:
    """Return the parser of `distill2label`, with all commands and options."""
    parser = CommandParser(prog="distill2label", description=f"Patch labels from slide labels. {RESEARCH_USE}")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Drain], None], text: str) -> None:
        added = commands.add_parser(name, help=text, description=f"{text}. {RESEARCH_USE}")
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=run)
        if name in ARGUMENTS:
            ARGUMENTS[name](added)

    command("demo", _demo, "train, predict and evaluate on a synthetic cohort")
    command("prepare-dataset", _prepare_dataset, "write the tables of a published data set: cohort, truth, centres")
    command("train", _train, "train a teacher and a student on slides and their labels")
    command("extract-features", _extract_features, "compute the features of a frozen encoder")
    command("segment-tissue", _segment_tissue, "write the tissue regions of slides, to correct them in QuPath")
    command("predict", _predict, "label the patches of slides with a trained model")
    command("export", _export, "write saved predictions in the formats of other programs")
    command("evaluate", _evaluate, "compare every network of a run with the ground truth")
    command("gui", _gui, "open the napari window")
    command("doctor", _doctor, "list what is installed, the device, and what is missing")
    return parser
