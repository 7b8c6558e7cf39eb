"""`predict`: label the patches of slides with a trained model."""

import errno
from collections.abc import Generator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from ...core.errors import BundleError, OutputError, SettingsError, SlideError
from ...core.events import Event, ItemDone, ItemFailed
from ...core.geometry import PatchGrid
from ...core.inputs import Compute, Inputs
from ...core.messages import Remedy
from ...core.network_names import NETWORKS
from ...core.notices import Notice, NoticeCode
from ...core.paths import PathLike
from ...core.settings import PatchSettings
from ...exporters.formats import (
    DEFAULT_FORMATS,
    SUMMARY,
    files_of_map,
    format_names,
    iter_write,
    names_of_files,
)
from ...inference.classifier import open_classifier
from ...inference.dense import dense_grid
from ...inference.specs import ModelSpec
from ...mil.device import choose_device, compute_dtype
from ...store.bundle import Bundle, load_bundle
from ...store.bundle_config import is_bundle
from ...store.cohort import Cohort, CohortSlide
from ...store.files.outputs import Outputs
from ...store.maps.patch_map import PatchMap
from ...store.run import Run
from ..cases import case_table, score_cases, write_cases
from ..feature_store import feature_store_for
from ..input_files import files_of_model, input_files
from ..os_errors import describe_os_error
from ..promise import PromiseRequest, promised_threshold
from ..scale import notice_missing_mpp, with_mpp
from ..slide_predictor import SlidePredictor, place_of
from ..slide_reader import SlideReader
from ..threshold import check_threshold
from ..workers import check_workers, interleave, start_workers

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def find_model(model: PathLike | Run | Bundle, network: str | None = None, device: str = "auto") -> Bundle:
    """Return the bundle of a run, a folder, or a bundle. The default of a run is its student, else its teacher.

    `BundleError` if there is no such model.
    """
    if isinstance(model, Bundle):
        model.model.to(choose_device(device))
        return model
    if not isinstance(model, Run) and is_bundle(model):
        bundle = load_bundle(model, choose_device(device))
        if network not in (None, bundle.config.network):
            raise BundleError(
                f"This is a {bundle.config.network}, not a {network}. The other networks are in the run's folder.",
                file=model,
                remedy=Remedy("clear", "network"),
            )
        return bundle
    if not isinstance(model, Run) and not Run.is_run(model):
        raise BundleError(f"{model}: is neither a run nor a model bundle (no settings.json, no config.json)")
    run = model if isinstance(model, Run) else Run.open(model)
    for name in [network] if network else reversed(NETWORKS):
        if name in run.models:
            return load_bundle(run.bundle(name), choose_device(device))
    have = ", ".join(run.models) or "none"
    raise BundleError(
        f"The run has no trained {network or 'model'} (it has: {have}).", file=run.folder, remedy=Remedy("resume")
    )


def predict(
    model: PathLike | Run | Bundle,
    slides: Cohort | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    network: str | None = None,
    threshold: float | PromiseRequest | None = None,
    dense_stride: int | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    inputs: Inputs = Inputs(),
    compute: Compute = Compute(),
    overwrite: bool = False,
) -> Generator[Event, None, list[PatchMap]]:
    """Label the patches of `slides`.

    Parameters
    ----------
    model
        A run, a bundle, or the folder of either; `network` picks a run's model (student, teacher, baseline).
    out
        Folder of the results in `formats`, and of `cases.csv` with the score of each case if the model was trained on
        labels of cases; None keeps them in memory only. Patch maps are saved in the run's
        `predictions/` if the model is of a run that can be written to, else in `out`.
    threshold
        Lowest probability at which a patch is labelled with a class. None: the model's own (`Calibration.threshold`),
        or 0.5 of a model without one. A `PromiseRequest`: the one that keeps a promise on negative slides;
        `SettingsError` if there are too few of them.
    dense_stride
        Score a position every so many pixels of the model, in one fully convolutional pass over the slide instead of
        patch by patch. A frozen encoder takes patch by patch; it is needed then, and no features are kept. Not with
        centres.
    inputs
        Of these: centres, tissue, mpp, allow_non_brightfield; and of a model of features: encoder (if its file has
        moved since training), features (None: the folder that training used; slides with features need no file).
    compute
        The results are the same with any number of workers.
    overwrite
        Replace files in `out` that this program did not write, or that were changed since. Without it `OutputError`
        names them before anything is done. Files that are read are never replaced.

    A slide that fails is reported (`ItemFailed`), and the others continue. So is a slide that is damaged in part: what
    can be read of it is scored and written. An interrupted prediction of the same slide by the same model resumes.
    """
    formats = format_names(formats)
    if SUMMARY in formats:
        raise SettingsError(
            "The table of the cohort is made of finished predictions. Predict, then export it.", field="formats"
        )
    inputs.check_only(
        "Predicting", "centres", "tissue", "encoder", "features", "mpp", "allow_non_brightfield"
    )  # corrections are applied when maps are exported
    promise = threshold if isinstance(threshold, PromiseRequest) else None
    chosen = None if isinstance(threshold, PromiseRequest) else threshold
    if chosen is not None:
        check_threshold(chosen)
    check_workers(compute)
    if dense_stride is not None and inputs.centres is not None:
        raise SettingsError(
            "A dense map scores every position, and centres are some points. Only one of them can be used.",
            remedy=Remedy("clear", "dense_stride", alternative=Remedy("clear", "inputs.centres")),
        )
    cohort = with_mpp(slides if isinstance(slides, Cohort) else Cohort.of_files(slides), inputs.mpp)
    bundle = find_model(model, network, compute.device)
    is_dense, of_features = dense_stride is not None, bundle.config.encoder is not None
    if is_dense and of_features and inputs.features is not None:
        raise SettingsError(
            "The features are of single patches. A dense map computes its own, with the encoder.",
            remedy=Remedy("clear", "inputs.features", alternative=Remedy("clear", "dense_stride")),
        )
    model_spec = ModelSpec(
        str(Path(bundle.path).absolute()),
        bundle.config.weights_sha256,
        compute.device,
        str(compute_dtype(compute.precision, bundle.model.device)).removeprefix("torch."),
        inputs.encoder.absolute(),
        is_dense and not of_features,
    )
    reader = SlideReader(
        _grid_of(bundle, dense_stride),
        inputs,
        make_grid=dense_grid if is_dense else PatchGrid.over,
    )
    if is_dense or not of_features:
        cohort.check_found()
    yield from cohort.notices
    findings = bundle.config.classes[1:] if bundle.config.architecture.multi_label else ()
    names = names_of_files({row.slide_id: (row.slide_id, findings) for row in cohort}, formats)
    maps: dict[int, PatchMap] = {}
    tells_cases = bundle.config.bag == "case" and bool(formats)
    with ExitStack() as stack:
        read = (*files_of_model(bundle.path), *input_files(cohort, inputs))
        outputs = stack.enter_context(Outputs(read, overwrite, "predicting"))
        if out is not None:
            files = [file for row in cohort for file in files_of_map(out, formats, names[row.slide_id])]
            if tells_cases:
                files.append(case_table(out, files))
            outputs.claim(files)
        keep = yield from _claim_maps(outputs, bundle, cohort, out)
        yield from notice_missing_mpp(cohort, reader.grid.mpp)
        classifier = open_classifier(bundle, inputs.encoder, compute.device, inputs.features is not None)
        if not (is_dense and of_features):
            reader.features = feature_store_for(classifier, inputs.features, keep)
        cluster = yield from start_workers(model_spec, compute, stack)
        label_from = bundle.threshold if chosen is None else chosen
        predictor = SlidePredictor(classifier, model_spec, reader, label_from, cluster)
        if promise is not None:
            predictor.threshold = (yield from promised_threshold(predictor, bundle, promise)).threshold

        def one(index: int, row: CohortSlide) -> Generator[Event, None, None]:
            try:
                maps[index] = patch_map = yield from predictor.map(row, keep)
                if out is not None:
                    with reader.open(row) if inputs.allow_non_brightfield else nullcontext() as slide:
                        yield from iter_write(
                            patch_map, out, formats, predictor.threshold, slide=slide, names=names[row.slide_id],
                            writing=outputs.writing,
                        )  # fmt: skip
            except (BundleError, SlideError, OutputError) as error:
                yield ItemFailed(row.slide_id, error)
            except OSError as error:
                yield ItemFailed(row.slide_id, SlideError(describe_os_error(error)))
            if index in maps:
                yield ItemDone(row.slide_id, maps[index])

        works = (one(index, row) for index, row in enumerate(cohort))
        yield from interleave(works, cluster)
        if out is not None and tells_cases:
            cases = score_cases(tuple(cohort), {own.slide_id: own for own in maps.values()})
            write_cases(case_table(out), cases, bundle.config.classes, outputs.writing)
    return [maps[index] for index in sorted(maps)]


def _grid_of(bundle: Bundle, dense_stride: int | None) -> PatchSettings:
    """Return the grid and the scale that the model was trained on."""
    update: dict[str, Any] = {"mpp": bundle.config.mpp}
    if dense_stride is not None:
        if not 1 <= dense_stride <= bundle.config.patches.size_px:
            raise SettingsError(
                f"The stride of a dense map is 1 to {bundle.config.patches.size_px} px (the patch size), not "
                f"{dense_stride}.",
                field="dense_stride",
            )
        update["stride_px"] = dense_stride
    return bundle.config.patches.model_copy(update=update)


def _claim_maps(
    outputs: Outputs, bundle: Bundle, cohort: Cohort, out: PathLike | None
) -> Generator[Notice, None, Path | None]:
    """Return the folder for patch maps: in the run if the model is of one, else with the results. None: memory."""
    if out is None:
        return None
    run = bundle.path.parent
    folders = dict.fromkeys(([run / "predictions"] if Run.is_run(run) else []) + [Path(out)])
    for folder in folders:
        try:
            outputs.claim(place_of(folder, row, bundle.config.network) for row in cohort)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            elsewhere = str(out) if folder != Path(out) and Path(out) != run else None
            values = {"folder": str(folder), "reason": error.strerror, "elsewhere": elsewhere}
            yield Notice(NoticeCode.FOLDER_READ_ONLY, values)
        else:
            return folder
    return None
