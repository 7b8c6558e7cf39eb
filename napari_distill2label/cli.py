"""Face 1: `distill2label …`. Flags for settings are made from the settings models (`--teacher.epochs 20`)."""

import argparse
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from . import __version__
from .core.errors import Distill2LabelError, SettingsError
from .core.events import Event, drain
from .core.names import is_url
from .core.presets import PRESETS, RECIPES, build_settings
from .core.settings import GridSettings, Settings, merged, validated
from .progress import ProgressBar

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis."
INTERRUPTED = 130  # as a shell reports a program stopped by Ctrl-C
GROUPS = ("grid", "model", "teacher", "assistant", "student", "split")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 all done, 1 some slides failed, 2 unusable arguments)."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a slide's name that a terminal cannot show must not end the work
        if hasattr(stream, "reconfigure"):  # a notebook's has none, and none of the trouble
            stream.reconfigure(errors="backslashreplace")
    try:
        with ProgressBar() as bar:
            options.run(options, lambda work: drain(work, bar.show))
    except Distill2LabelError as error:
        if options.debug:
            traceback.print_exc()
        print(f"distill2label: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("distill2label: stopped; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if options.debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        print(f"distill2label: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    if bar.failed:
        print(f"distill2label: {len(bar.failed)} failed, the others are done:", file=sys.stderr)
        for failure in bar.failed:
            print(f"  {failure.item}: {failure.reason}", file=sys.stderr)
    return 1 if bar.failed else 0


Drain = Callable[[Generator[Event, None, Any]], Any]

# ---- the verbs: arguments to workflow, results to stdout -----------------------------------------------------------


def _demo(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.demo import demo

    print(run(demo(options.out, seed=options.seed)).report())


def _dataset(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.dataset import dataset

    print(run(dataset(options.name, options.folder, options.out, mpp=options.mpp)))


def _train(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .store.run import Run
    from .workflow.plan import check_encoder
    from .workflow.train import train

    overrides = _overrides(options)
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
            features=options.features,
            trust=options.trust,
            resume=options.resume,
        )
    )
    print(trained.folder)


def _features(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .workflow.features import features

    grid = validated(GridSettings, {"tissue": "otsu", **_overrides(options).get("grid", {})}, "settings: grid")
    work = features(
        Cohort.read(options.cohort, options.slides_folder),
        options.encoder,
        options.out,
        grid,
        formats=options.format,
        device=options.device,
        trust=options.trust,
    )
    for path in run(work):
        print(path)


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
        )
    )
    for patch_map in maps:
        scores = ", ".join(
            f"{name} {p:.3f}" for name, p in zip(patch_map.classes, patch_map.bag_probability, strict=True)
        )
        print(f"{patch_map.slide_id}: {scores}")


def _slides(options: argparse.Namespace, cohort: Any) -> Any:
    """The `Cohort` meant by one cohort.csv, or by slides."""
    tables = [path for path in options.slides if not is_url(path) and path.suffix.lower() == ".csv"]
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
        print(path)


def _export(options: argparse.Namespace, run: Drain) -> None:
    from .workflow.export import export

    work = export(
        options.source, options.out, options.format, threshold=options.threshold, corrections=options.corrections
    )
    for path in run(work):
        print(path)


def _evaluate(options: argparse.Namespace, run: Drain) -> None:
    from .store.cohort import Cohort
    from .store.files import write_json
    from .workflow.evaluate import evaluate, metrics_table

    work = evaluate(
        options.model_folder,
        Cohort.read(options.cohort, options.slides_folder),
        options.truth,
        centres=options.centres,
        split=options.split,
        empty=options.empty,
        device=options.device,
        encoder=options.encoder,
        features=options.features,
        trust=options.trust,
    )
    metrics = run(work)
    print(metrics_table(metrics))
    if options.out:  # last: a file that cannot be written loses no figures
        write_json(options.out, metrics)


def _experiment(options: argparse.Namespace, run: Drain) -> None:
    from importlib import import_module

    # What an experiment has no use for is not among its arguments: left out here, unknown there.
    names = ("folds", "seeds", "patches", "rows", "workers", "scheduler", "quick")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    experiment = getattr(import_module(f".experiments.{options.name}", __package__), options.name)
    if unknown := sorted(given.keys() - signature(experiment).parameters.keys()):
        raise SettingsError(f"experiment {options.name}: has no --{unknown[0]}")
    print(run(experiment(options.data, options.out, **given)).read_text("utf-8"))


def _gui(options: argparse.Namespace, run: Drain) -> None:
    try:
        from .gui import launch
    except ImportError as error:
        raise SettingsError(
            f"the window needs napari ({error.name}): pip install 'napari-distill2label[gui]'"
        ) from None
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

    def verb(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=f"{text}. {RESEARCH_USE}", allow_abbrev=False)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=run)
        return added

    demo = verb("demo", _demo, "the whole job on a synthetic cohort; its run is DIR/run")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    demo.add_argument("--seed", type=int, default=0)

    dataset = verb("dataset", _dataset, "a published data set -> cohort.csv, truth.csv, centres.csv")
    dataset.add_argument("name", choices=("colon", "breast"))
    dataset.add_argument("folder", type=Path)
    dataset.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    dataset.add_argument(
        "--mpp", type=float, metavar="UM", help="µm/px to write for every slide (its files do not say)"
    )

    _add_train(verb("train", _train, "slides and slide labels -> a teacher and a student"))

    _add_extract(verb("features", _features, "features of a frozen encoder, kept in zarr or HDF5"))
    tissue = verb("tissue", _tissue, "where there is tissue -> regions to correct in QuPath")
    tissue.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|COHORT.csv")
    tissue.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(tissue)
    tissue.add_argument("--rule", choices=("otsu", "white"), default="otsu", help="as --grid.tissue (default otsu)")
    tissue.add_argument("--white-level", metavar="N", help="rule white: as --grid.white_level")
    tissue.add_argument("--overwrite", action="store_true", help="replace regions that are there, corrected or not")

    _add_predict(verb("predict", _predict, "a model over slides -> patch labels"))

    export = verb("export", _export, "kept predictions -> files others read")
    export.add_argument("source", type=Path, metavar="RUN|PATCHMAP")
    export.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--format", type=_some, required=True, metavar="A,B", help="ome-tiff, geojson, csv, png")
    export.add_argument("--threshold", type=float)
    export.add_argument("--corrections", type=Path, metavar="FILE", help="CSV slide_id,x,y,label laid over the labels")

    _add_evaluate(verb("evaluate", _evaluate, "every model of a run against the truth"))

    _add_experiment(verb("experiment", _experiment, "a figure or table of the paper: CSV, picture, Markdown"))

    gui = verb("gui", _gui, "the napari window")
    gui.add_argument("path", type=Path, nargs="?", metavar="COHORT.csv|RUN")

    verb("doctor", _doctor, "what is installed, which device, what is missing and how to get it")
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--corrections", type=Path, metavar="FILE", help="CSV slide_id,x,y,label of known patches")
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")
    _add_settings(parser)


def _add_extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", type=Path)
    parser.add_argument(
        "--encoder", type=Path, required=True, metavar="FILE", help="frozen encoder: .onnx with a .json beside it"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", type=_some, default=["zarr"], metavar="A,B", help="zarr, h5 (default zarr)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    _add_slides_folder(parser)
    _add_trust(parser)
    _add_groups(parser, ("grid",))


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN|BUNDLE")
    parser.add_argument("slides", type=_place, nargs="+", metavar="SLIDE|COHORT.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_slides_folder(parser)
    parser.add_argument("--model", choices=("student", "teacher", "mil"), help="of a run (default: the student)")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--mpp", type=float, metavar="UM", help="the slides' own µm/px; overrides their files")
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv", help="centre patches on these points")
    parser.add_argument(
        "--tissue", type=Path, metavar="FILE.geojson", help="regions outside of which nothing is scored; or a folder"
    )
    parser.add_argument(
        "--dense", type=int, metavar="STRIDE", help="score a position every STRIDE model px, all at once"
    )
    parser.add_argument("--format", type=_some, default=["ome-tiff", "geojson", "csv", "png"], metavar="A,B")
    parser.add_argument("--force", action="store_true", help="also what is no brightfield image")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "auto"), default="float32", help="bfloat16: faster, coarser"
    )
    _add_workers(parser)
    _add_device(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_folder", type=Path, metavar="RUN")
    parser.add_argument("cohort", type=Path)
    _add_slides_folder(parser)
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="TRUTH.csv", help="CSV slide_id,x,y,label, or a folder of masks"
    )
    parser.add_argument("--centres", type=Path, metavar="POINTS.csv")
    parser.add_argument("--split", choices=("test", "all"), default="test")
    parser.add_argument(
        "--empty", choices=("negative", "ignore"), default="negative", help="grid patches without a point"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="metrics.json")
    _add_device(parser)


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=("mnist", "colon", "breast", "fields"))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the published files, or a parent")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="goes on with what is there")
    parser.add_argument("--folds", type=int, metavar="N", help="of the cross-validation (default 5)")
    parser.add_argument("--seeds", type=_positive, metavar="N", help="trainings of each model (default: see the docs)")
    parser.add_argument("--patches", type=_some, metavar="A,B", help="colon: grid, nucleus (default both)")
    parser.add_argument("--rows", type=_some, metavar="A,B", help="colon: which rows (default the main ones)")
    _add_workers(parser)
    parser.add_argument("--quick", action="store_const", const=True, help="a few slides: does everything run?")


def _place(text: str) -> Path | str:
    """A file; a URL stays what it is, since a path would lose one of its slashes."""
    return text if is_url(text) else Path(text)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes on this machine (default: this one)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a dask cluster, tcp://…, to use instead")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


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


def _some(text: str) -> list[str]:
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


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, nested: {'teacher': {'epochs': '20'}}."""
    result: dict[str, Any] = {}
    for key, text in vars(options).items():
        if key.startswith("set:") and text is not None:
            value = None if text.lower() == "none" else text
            group, _, name = key.removeprefix("set:").rpartition(".")
            (result.setdefault(group, {}) if group else result)[name] = value
    return result


if __name__ == "__main__":
    sys.exit(main())
