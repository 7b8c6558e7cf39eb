"""A run or a bundle that can predict, opened in the worker's thread."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import BundleError
from ...core.events import Progress, Task
from ...core.messages import Remedy
from ...store.cohort import Cohort
from ..messages import message_of
from ..runner.jobs import Work

if TYPE_CHECKING:
    import pandas as pd

    from ...core.calibration import Calibration
    from ...store.bundle import Bundle
    from ...store.maps.feature_map import EncoderIdentity
    from ...store.maps.patch_map import PatchMap
    from ...store.run import Run, RunConfig


NAMED = 3  # slides named in a notice
OF_FILES = re.compile(r"\d+-\d+(-[0-9a-f]{32})?")  # a signature of files; that of features is another


@dataclass(frozen=True)
class LoadedModel:
    """A run or a bundle that can predict.

    `thresholds` are the networks' own: the probability from which on each labels a patch. Networks whose probabilities
    are calibrated are in `calibrations`. A re-calibrated bundle lies outside of its `run`, which knows what it has
    learnt from.
    """

    path: Path
    networks: tuple[str, ...]
    classes: tuple[str, ...]
    is_run: bool
    cohort: Cohort | None = None
    maps: "tuple[PatchMap, ...]" = ()
    notices: tuple[str, ...] = ()
    encoder: Path | None = None  # the file of the frozen encoder it works on
    features: Path | None = None  # the folder of features that a run was trained on
    thresholds: Mapping[str, float] = field(default_factory=dict)
    calibrations: "Mapping[str, Calibration]" = field(default_factory=dict)
    run: Path | None = None

    @property
    def origin(self) -> Path:
        """Where to look for the run that the model is of."""
        return self.run or self.path


def opened(path: Path) -> Work:
    """Open a run or a bundle, in the worker's thread: torch is imported, weights are read and checked."""
    yield Progress(Task.LOAD_MODEL)
    from ...store.bundle import load_bundle
    from ...store.run import Run

    if Run.is_run(path):
        return of_run(Run.open(path))
    bundle = load_bundle(path)
    network = bundle.config.network
    return LoadedModel(
        path, (network,), bundle.config.classes, is_run=False, encoder=_file(bundle.config.encoder),
        thresholds={network: bundle.threshold}, calibrations=_calibrations({network: bundle}),
    )  # fmt: skip


def _calibrations(bundles: "Mapping[str, Bundle]") -> "dict[str, Calibration]":
    return {network: own for network, bundle in bundles.items() if (own := bundle.config.calibration) is not None}


def _file(encoder: "EncoderIdentity | None") -> Path | None:
    return Path(encoder.path) if encoder and encoder.path else None


def of_run(run: "Run") -> LoadedModel:
    """A run's models, each checked, and what they predicted before."""
    from ...store.bundle import load_bundle
    from ...store.maps.patch_map import PatchMap

    if not run.models:
        raise BundleError("The run has no trained model yet.", file=run.folder, remedy=Remedy("resume"))
    bundles = {network: load_bundle(run.bundle(network)) for network in run.models}
    weights = {bundle.config.weights_sha256 for bundle in bundles.values()}
    maps: list[PatchMap] = []
    stale: list[PatchMap] = []
    notices = []
    for path in sorted(run.predictions.glob("*.zarr")) if run.predictions.is_dir() else ():
        try:
            patch_map = PatchMap.open(path)
        except BundleError as error:
            notices.append(message_of(error))
        else:
            if patch_map.is_complete and patch_map.model.get("weights_sha256") in weights:
                (stale if has_changed(patch_map) else maps).append(patch_map)
    if stale:
        some = ", ".join(dict.fromkeys(each.slide_id for each in stale[:NAMED]))
        notices.append(
            f"{len(stale)} predictions are not shown, for their slides have changed since ({some}"
            f"{', …' if len(stale) > NAMED else ''}): predict these again"
        )
    named = run.config.features or (run.features if run.features.is_dir() else None)
    return LoadedModel(
        run.folder, run.models, run.config.classes, True, run.cohort, tuple(maps), tuple(notices),
        encoder=_file(run.config.encoder), features=None if named is None else Path(named),
        thresholds={network: bundle.threshold for network, bundle in bundles.items()},
        calibrations=_calibrations(bundles),
    )  # fmt: skip


def has_changed(patch_map: "PatchMap") -> bool:
    """Is the slide's file another one than was predicted? Not where it is gone, nor where features were predicted."""
    from ...store.files.signature import file_signature

    path, signature = patch_map.slide.path, str(patch_map.model.get("slide_signature", ""))
    if path is None or not OF_FILES.fullmatch(signature):
        return False
    try:
        return file_signature(path) != signature
    except OSError:
        return False


def run_of(model: Path | None) -> "Run | None":
    """Return the run that a model is of: a run's folder, or a bundle in it. None: it is of none."""
    from ...store.run import Run

    folders = () if model is None else (model, model.parent)
    return next((Run.open(folder) for folder in folders if Run.is_run(folder)), None)


def run_at(folder: Path) -> "tuple[RunConfig, Cohort]":
    """What a run was asked to do, and its slides. `BundleError` if the folder holds none."""
    from ...store.run import Run

    run = Run.open(folder)
    return run.config, run.cohort


def metrics_frame(reports: "Mapping[str, Mapping[str, Any]]") -> "pd.DataFrame":
    """Metrics of models and levels, a row each."""
    import pandas as pd

    from ...core.evaluation import LEVELS

    return pd.DataFrame(
        [
            {"model": model, "level": level, **report[level]}
            for model, report in reports.items()
            for level in (*LEVELS, "left_out")
            if level in report
        ]
    )
