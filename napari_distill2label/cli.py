"""Face 1: `distill2label …`. What each verb takes is in `flags`."""

import argparse
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from typing import Any

from . import __version__
from .core.errors import Distill2LabelError, MissingDependencyError, SettingsError
from .core.events import Event, drain
from .core.label_map import parse_label_map
from .core.paths import is_url
from .core.presets import build_settings
from .core.resource_errors import is_disk_full, is_out_of_memory
from .core.settings import GridSettings, Settings, merged, validated
from .core.text import printable, shown
from .flags import ARGUMENTS, setting_overrides
from .mil.memory import retain_freed_memory
from .progress import ProgressBar, printable_streams
from .slides.discovery import TABLES
from .stopping import stoppable

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis."
COHORTS = tuple(suffix for suffix in TABLES if suffix != ".txt")  # which may be anything
INTERRUPTED = 130  # as a shell reports a program stopped by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 all done, 1 some slides failed, 2 unusable arguments)."""
    return run_command(_parser(), arguments)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask for, with progress, signals and errors as in every command; returns the exit status.

    `parser` names the work in its defaults: `run(options, drain)`, and `debug` and `verb` as `distill2label` has them.
    """
    with printable_streams():
        return _run(parser.parse_args(arguments), parser.prog)


def _run(options: argparse.Namespace, program: str) -> int:
    retain_freed_memory()  # of our own process; a library leaves its host's allocator alone
    try:
        # Qt has a loop of its own, which an exception raised in the middle of it would tear apart.
        with nullcontext() if options.verb == "gui" else stoppable() as stopping, ProgressBar() as bar:

            def show(event: Event) -> None:
                if stopping:
                    stopping.check()
                bar.show(event)

            options.run(options, lambda work: drain(work, show))
    except Distill2LabelError as error:
        return _end(options, program, str(error), error.exit_status)
    except KeyboardInterrupt as stop:
        print(f"{program}: stopped; what was finished is kept", file=sys.stderr)
        return getattr(stop, "exit_status", INTERRUPTED)
    except Exception as error:
        if (line := _beyond_us(error)) is None:
            raise  # a bug, which keeps its traceback
        return _end(options, program, line, 2)
    if bar.failed:
        print(f"{program}: {len(bar.failed)} failed, the others are done:", file=sys.stderr)
        for failure in bar.failed:
            print(f"  {shown(failure.item)}: {failure.error}", file=sys.stderr)
    return 1 if bar.failed else 0


def _end(options: argparse.Namespace, program: str, line: str, status: int) -> int:
    """Say in one line why the command ends; returns the exit status."""
    if options.debug:
        traceback.print_exc()
    print(f"{program}: {line}", file=sys.stderr)
    return status


def _beyond_us(error: Exception) -> str | None:
    """What the machine or the system refused, in a line that says what to do; None for a bug."""
    where = f"{shown(error.filename, 400)}: " if getattr(error, "filename", None) else ""
    if is_out_of_memory(error):
        return (
            "out of memory; what was finished is kept. Use a machine with more, --device cpu where a GPU is full, or "
            "less at once (to train: --teacher.max_bag_patches, --teacher.bag_patches, --teacher.batch_bags)"
        )
    if is_disk_full(error):
        return (
            f"{where}the disk is full, or your share of it; what was finished is kept. Make room, and give the same "
            "command again (train: with --resume)"
        )
    if isinstance(error, OSError):
        return where + (str(error.strerror or error).splitlines() or [type(error).__name__])[0]
    return None


Drain = Callable[[Generator[Event, None, Any]], Any]

# ---- the verbs: arguments to workflow, results to stdout -----------------------------------------------------------


def _demo(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.demo import demo

    print(run(demo(options.out, seed=options.seed, overwrite=options.overwrite)).report())


def _dataset(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.dataset import dataset

    print(run(dataset(options.name, options.folder, options.out, mpp=options.mpp, overwrite=options.overwrite)))


def _train(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .store.run import Run
    from .workflow.plan import check_encoder
    from .workflow.train import train

    overrides = setting_overrides(options)
    if options.resume:
        for name in ("preset", "recipe"):
            if getattr(options, name) is not None:
                overrides[name] = getattr(options, name)
        settings = validated(
            Settings, merged(Run.open(options.out).config.settings.model_dump(), overrides), "settings"
        )
    else:
        settings = build_settings(options.preset or "colon", options.recipe or "default", overrides)
        check_encoder(settings, options.encoder, options.features)  # before anything is read
    trained = run(
        train(
            Cohort.read(options.cohort, options.slides_folder),
            options.out,
            settings,
            classes=options.classes,
            baseline=options.baseline,
            centres=options.centres,
            encoder=options.encoder,
            corrections=options.corrections,
            label_map=parse_label_map(options.label_map),
            coverage=options.coverage,
            tissue=options.tissue,
            features=options.features,
            trust=options.trust,
            resume=options.resume,
            overwrite=options.overwrite,
        )
    )
    print(printable(str(trained.folder)))


def _features(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .workflow.features import features

    grid = validated(GridSettings, {"tissue": "otsu", **setting_overrides(options).get("grid", {})}, "settings: grid")
    work = features(
        Cohort.read(options.cohort, options.slides_folder),
        options.encoder,
        options.out,
        grid,
        formats=options.format,
        device=options.device,
        trust=options.trust,
        tissue=options.tissue,
        overwrite=options.overwrite,
    )
    for path in run(work):
        print(printable(str(path)))


def _predict(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .workflow.predict import predict

    maps = run(
        predict(
            options.model_folder,
            _slides(options, Cohort),
            options.out,
            role=options.model,
            threshold=options.threshold,
            mpp=options.mpp,
            centres=options.centres,
            tissue=options.tissue,
            dense=options.dense,
            formats=options.format,
            device=options.device,
            encoder=options.encoder,
            precision=options.precision,
            force=options.force,
            workers=options.workers,
            scheduler=options.scheduler,
            features=options.features,
            trust=options.trust,
            overwrite=options.overwrite,
        )
    )
    for patch_map in maps:
        scores = ", ".join(
            f"{shown(name)} {p:.3f}" for name, p in zip(patch_map.classes, patch_map.bag_probability, strict=True)
        )
        print(f"{shown(patch_map.slide_id)}: {scores}")


def _slides(options: argparse.Namespace, cohort: Any) -> Any:
    """The `Cohort` meant by one cohort.csv, or by slides, folders of slides and patterns."""
    tables = [path for path in options.slides if not is_url(path) and path.suffix.lower() in COHORTS]
    if tables and len(options.slides) > 1:
        raise SettingsError(f"{options.verb}: give either one cohort.csv or slides, not both")
    return cohort.read(tables[0], options.slides_folder) if tables else cohort.of_files(options.slides)


def _tissue(options: argparse.Namespace, run: Drain) -> None:
    from .core.settings import GridSettings
    from .store.cohort import Cohort
    from .workflow.tissue import tissue

    given = {"tissue": options.rule, "white_level": options.white_level}
    settings = validated(GridSettings, {name: value for name, value in given.items() if value is not None}, "tissue")
    for path in run(tissue(_slides(options, Cohort), options.out, settings, overwrite=options.overwrite)):
        print(printable(str(path)))


def _export(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.export import export

    work = export(
        options.source,
        options.out,
        options.format,
        threshold=options.threshold,
        corrections=options.corrections,
        overwrite=options.overwrite,
        label_map=parse_label_map(options.label_map),
        coverage=options.coverage,
    )
    for path in run(work):
        print(printable(str(path)))


def _evaluate(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .store.files.atomic import write_json
    from .store.files.outputs import Outputs
    from .workflow.evaluate import evaluate, metrics_table
    from .workflow.reads import files_of_model, files_read

    cohort = Cohort.read(options.cohort, options.slides_folder)
    others = (options.truth, options.centres, options.encoder)
    read = (*files_of_model(options.model_folder), *files_read(cohort, None, *others))
    work = evaluate(
        options.model_folder,
        cohort,
        options.truth,
        centres=options.centres,
        split=options.split,
        empty=options.empty,
        coverage=options.coverage,
        label_map=parse_label_map(options.label_map),
        device=options.device,
        encoder=options.encoder,
        features=options.features,
        trust=options.trust,
    )
    with Outputs(read, options.overwrite, "evaluating") as outputs:
        if options.out:
            outputs.claim([options.out])
        metrics = run(work)
        print(metrics_table(metrics))
        if options.out:  # last: a file that cannot be written loses no figures
            write_json(options.out, metrics, outputs.writing)


def _gui(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.window_check import window_problem

    if found := window_problem():  # Qt would abort the process, with a core dump in place of a message
        raise MissingDependencyError(f"the window cannot open. {found.problem} {found.remedy}")
    from .gui import launch

    launch(options.path)


def _doctor(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.doctor import doctor

    for check in doctor():
        print(f"{'ok     ' if check.ok else 'missing'}  {check.name}: {check.detail}")
        if not check.ok:
            print(f"         {check.remedy}")


# ---- arguments -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distill2label", description=f"Patch labels from slide labels. {RESEARCH_USE}", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Callable, text: str) -> None:
        added = verbs.add_parser(name, help=text, description=f"{text}. {RESEARCH_USE}", allow_abbrev=False)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=run)
        if name in ARGUMENTS:
            ARGUMENTS[name](added)

    verb("demo", _demo, "the whole job on a synthetic cohort; its run is DIR/run")
    verb("dataset", _dataset, "a published data set -> cohort.csv, truth.csv, centres.csv")
    verb("train", _train, "slides and slide labels -> a teacher and a student")
    verb("features", _features, "features of a frozen encoder, kept in zarr or HDF5")
    verb("tissue", _tissue, "where there is tissue -> regions to correct in QuPath")
    verb("predict", _predict, "a model over slides -> patch labels")
    verb("export", _export, "kept predictions -> files others read")
    verb("evaluate", _evaluate, "every model of a run against the truth")
    verb("gui", _gui, "the napari window")
    verb("doctor", _doctor, "what is installed, which device, what is missing and how to get it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
