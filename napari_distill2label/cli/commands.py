"""The commands of `distill2label`: arguments become calls of `workflow`, results go to standard output.

Each imports what it works with when it runs: torch and zarr take seconds, and a refused option needs neither.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import MissingDependencyError, SettingsError
from ..core.messages import Remedy
from ..core.paths import is_url
from ..core.presets import build_settings
from ..core.settings import PatchSettings, Settings, merged, validated
from ..core.text import printable, shown
from ..slides.discovery import TABLES
from .arguments import compute_of, inputs_of, setting_overrides
from .parser import Drain, Run

COHORTS = tuple(suffix for suffix in TABLES if suffix != ".txt")  # a .txt file may be anything


def _print_paths(paths: Iterable[Path]) -> None:
    for path in paths:
        print(printable(str(path)))


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
        dtype=options.dtype,
        inputs=inputs_of(options),
        compute=compute_of(options),
        overwrite=options.overwrite,
    )
    _print_paths(run(work))


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
        unlikeness = "" if patch_map.unlikeness is None else f", unlikeness {patch_map.unlikeness:.2f}"
        print(f"{shown(patch_map.slide_id)}: {scores}{unlikeness}")


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
    _print_paths(run(segment_tissue(_slides(options, Cohort), options.out, settings, overwrite=options.overwrite)))


def _export(options: argparse.Namespace, run: Drain) -> None:
    from ..exporters.merged_regions import RegionOptions
    from ..workflow.commands.export import export

    work = export(
        options.source,
        options.out,
        options.format,
        threshold=options.threshold,
        inputs=inputs_of(options),
        regions=RegionOptions(options.smooth, options.minimum_area),
        overwrite=options.overwrite,
    )
    _print_paths(run(work))


def _convert(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.convert import convert

    work = convert(
        options.sources,
        options.out,
        options.to,
        slides=options.slide,
        target_patches=options.target_patches,
        coverage=options.coverage,
        allow_loss=options.allow_loss,
        overwrite=options.overwrite,
    )
    _print_paths(run(work))


def _export_model(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.export_model import export_model

    exported = run(
        export_model(
            options.model_folder,
            options.out,
            options.to,
            network=options.network,
            inputs=inputs_of(options),
            overwrite=options.overwrite,
        )
    )
    _print_paths(exported.files)
    print(f"Its probabilities differ from this program's by at most {exported.difference:.1e}.")


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


def _draw_sample(options: argparse.Namespace, run: Drain) -> None:
    from ..workflow.commands.recalibrate import draw_sample

    work = draw_sample(options.source, options.out, options.count, seed=options.seed, overwrite=options.overwrite)
    print(printable(str(run(work))))


def _recalibrate(options: argparse.Namespace, run: Drain) -> None:
    from ..core.label_map import parse_label_map
    from ..workflow.commands.recalibrate import recalibrate

    work = recalibrate(
        options.source,
        options.sample,
        options.out,
        threshold=options.threshold,
        label_map=parse_label_map(options.label_map),
        overwrite=options.overwrite,
    )
    print(run(work))
    if options.out:
        print(printable(str(options.out)))


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


COMMANDS: dict[str, Run] = {
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
