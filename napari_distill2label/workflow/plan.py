"""The plan of a training, checked before any work: a new run, or one to resume."""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.classes import spelling_key, split_label
from ..core.errors import SettingsError, SlideError
from ..core.events import Progress
from ..core.inputs import MOVABLE, Encoder, Inputs
from ..core.messages import Remedy
from ..core.paths import PathLike
from ..core.settings import Settings
from ..inference.encoder import ENCODER_HELP, FrozenEncoder
from ..mil.encoders import smallest_patch
from ..slides.slide import Slide
from ..store.cohort import Cohort, CohortSlide
from ..store.cohort_edits import with_case_labels
from ..store.files.outputs import Outputs
from ..store.maps.feature_map import EncoderIdentity, FeatureOrigin
from ..store.maps.hdf5 import read_hdf5
from ..store.maps.hdf5_geometry import Frame
from ..store.run import Run, RunConfig, saved_inputs
from ..store.same_files import with_files_in_one_case, with_pictures_in_one_case
from ..store.splits import with_splits
from .feature_store import FeatureStore, fitted_grid, open_if_present
from .input_files import input_files
from .look_alikes import look_alikes
from .quick_trial import trial_settings, trial_slides
from .scale import with_mpp
from .slide_reader import SlideReader, info_of

_WITH = {
    "classes": "other classes",
    "baseline": "another choice about the baseline",
    "quick_trial": "all slides, not as a quick trial",
    "inputs.centres": "no table of centres",
    "inputs.encoder": "no frozen encoder",
    "inputs.features": "no folder of features",
    "inputs.corrections": "no corrections",
    "inputs.region_labels": "no region labels",
    "inputs.label_map": "another meaning of labels",
    "inputs.coverage": "another share that an area must cover",
    "inputs.tissue": "no tissue regions",
    "inputs.mpp": "another pixel size",
    "inputs.allow_non_brightfield": "brightfield images only",
}  # by field: what a run that is resumed cannot change


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of `train` besides cohort, folder and settings."""

    classes: Sequence[str] | None = None
    baseline: bool = False
    inputs: Inputs = Inputs()
    quick_trial: bool = False


@dataclass(frozen=True)
class TrainingPlan:
    """A training that can start: its folder, configuration, slides with their splits, and their reader."""

    folder: Path
    config: RunConfig
    cohort: Cohort
    reader: SlideReader
    resume: bool
    outputs: Outputs | None = None
    unsplit: Cohort | None = None  # as the table has it; None: splits cannot change any more

    def with_copies_together(self) -> Generator[Progress, None, "TrainingPlan"]:
        """Return the plan with slides that show the same picture in one split. `CohortError`: the table divides them.

        It reads a small picture of every labelled slide.
        """
        if self.unsplit is None or not (groups := (yield from look_alikes(self.unsplit.labelled))):
            return self
        joined = with_pictures_in_one_case(self.unsplit, groups)
        settings = self.config.settings
        split = with_splits(joined, settings.split, settings.seed, settings.bag)
        return replace(self, cohort=split, unsplit=joined)

    def start(self, signature: str, failed: int) -> Run:
        """Create the run, or open it with the epochs and the device of this request.

        `signature` is the digest of all training data; `failed` is the number of unreadable slides. `SettingsError` if
        a run that is resumed was started on other data.
        """
        before = self.config.data_signature
        run = Run(self.folder, self.config.model_copy(update={"data_signature": before or signature}))
        if not self.resume:
            return Run.create(self.folder, run.config, self.cohort, self.outputs)
        if before not in ("", signature):
            why = f"{failed} of them cannot be read now" if failed else "a file, or what reads it, has changed"
            raise SettingsError(
                f"The slides and corrections are not those that the run was started with ({why}). Put them back.",
                file=self.folder,
                remedy=Remedy("other_folder"),
            )
        run.write_settings()
        return run


def new_plan(
    out: PathLike, cohort: Cohort, settings: Settings, asked: TrainingRequest, overwrite: bool = False
) -> TrainingPlan:
    """Plan a new run in `out`. `CohortError`, `SettingsError` if they do not fit, `OutputError` if it is taken."""
    inputs = asked.inputs.absolute()
    outputs = Outputs(input_files(cohort, inputs), overwrite, "training")
    if asked.quick_trial:
        cohort, settings = trial_slides(cohort, settings.bag), trial_settings(settings)
    Run.check_free(out, outputs)
    check_encoder(settings, inputs)
    encoder = inputs.encoder
    frozen = None if encoder.path is None else FrozenEncoder(encoder.path, settings.device, encoder.trusted)
    if inputs.features is None:
        cohort.check_found()
    unsplit = with_files_in_one_case(with_mpp(cohort, inputs.mpp).with_classes(asked.classes))
    cohort = with_splits(unsplit, settings.split, settings.seed, settings.bag)
    there = _existing_features(Path(inputs.features), cohort) if inputs.features and not frozen else None
    config = RunConfig(
        settings=_completed(settings, cohort, frozen, there),
        classes=cohort.classes,
        baseline=asked.baseline,
        quick_trial=asked.quick_trial,
        encoder=frozen.identity if frozen else there and there.encoder,
        **saved_inputs(inputs),
    )
    plan = replace(_plan(out, config, cohort, frozen, resume=False), outputs=outputs, unsplit=unsplit)
    if corrections := plan.reader.corrections:
        corrections.check(cohort.classes, [slide.slide_id for slide in cohort.labelled], "labelled slide of the cohort")
    if regions := plan.reader.regions:
        regions.check(cohort.classes, [slide.slide_id for slide in cohort.labelled])
    return plan


def resumed_plan(out: PathLike, cohort: Cohort, settings: Settings | None, asked: TrainingRequest) -> TrainingPlan:
    """Plan to resume the run in `out`. `SettingsError` if more than epochs and device changes."""
    run = Run.open(out)
    config, own = run.config, run.cohort
    if config.quick_trial:
        cohort, settings = trial_slides(cohort, config.settings.bag), settings and trial_settings(settings)
    if config.settings.bag == "case":
        cases = {row.slide_id: row.case_id for row in own}  # slides that are one file are in one case there
        joined = (replace(row, case_id=cases.get(row.slide_id, row.case_id)) for row in cohort)
        cohort = with_case_labels(cohort.with_slides(joined).with_classes(config.classes))
    if _labels(cohort) != _labels(own):
        raise SettingsError("The run was trained on other slides or labels.", file=out, remedy=Remedy("other_folder"))
    inputs = asked.inputs
    changed = {
        "classes": asked.classes is not None and tuple(asked.classes) != config.classes,
        "baseline": asked.baseline and not config.baseline,
        "quick_trial": asked.quick_trial and not config.quick_trial,
        "inputs.encoder": inputs.encoder.path is not None and config.encoder is None,
        "inputs.features": inputs.features is not None and config.encoder is None,
        "inputs.mpp": inputs.mpp is not None and any(row.mpp != inputs.mpp for row in own),
    }
    differing = [field for field, differs in changed.items() if differs]
    if other := [*differing, *inputs.differences(config.inputs)]:
        remedy = Remedy("clear", other[0], alternative=Remedy("other_folder"))
        raise SettingsError(f"The run was started with {_WITH[other[0]]}.", file=out, remedy=remedy)
    frozen = _same_encoder(run, inputs.encoder)
    # Files may have moved. `TrainingPlan.start` refuses those that say something else.
    update = {name: path for name, path in saved_inputs(inputs).items() if name in (*MOVABLE, "features") and path}
    if frozen is not None:
        update["encoder"] = frozen.identity
    if settings is not None:
        update["settings"] = _same_settings(run, _completed(settings, own, frozen))
    return _plan(out, config.model_copy(update=update), own, frozen, resume=True)


def _labels(cohort: Cohort) -> set[tuple[str, tuple[str, ...], float | None]]:
    """Return slides with their classes, independent of spelling, and their shares."""
    return {(row.slide_id, tuple(map(spelling_key, split_label(row.label or ""))), row.share) for row in cohort}


def _plan(out: PathLike, config: RunConfig, cohort: Cohort, frozen: FrozenEncoder | None, resume: bool) -> TrainingPlan:
    folder = Path(out)
    source = None
    if config.encoder is not None:
        cache = folder / "features"
        if frozen is None and config.features is not None and not Path(config.features).is_dir():
            raise SettingsError(
                "There is no such folder of features.", file=config.features, remedy=Remedy("choose", "inputs.features")
            )
        expected = config.encoder
        if frozen is not None:
            grid = config.settings.patches
            expected = expected.model_copy(update={"origin": FeatureOrigin(patch_px=grid.size_px, mpp=grid.mpp)})
        source = FeatureStore(Path(config.features or cache), cache, frozen, expected)
    return TrainingPlan(folder, config, cohort, SlideReader(config.settings.patches, config.inputs, source), resume)


def check_encoder(settings: Settings, inputs: Inputs) -> None:
    """`SettingsError` if the settings need features, and neither encoder nor features are given."""
    if settings.architecture.encoder == "features" and inputs.encoder.path is None and inputs.features is None:
        raise SettingsError(
            f"The preset {settings.preset!r} works on features of a frozen encoder; {ENCODER_HELP}. For crops there "
            "are the presets colon and breast.",
            remedy=Remedy("choose", "inputs.encoder", alternative=Remedy("choose", "inputs.features")),
        )


@dataclass(frozen=True)
class ExistingFeatures:
    """The encoder and patch size that existing features name."""

    encoder: EncoderIdentity
    patch_px: int


def _existing_features(folder: Path, cohort: Cohort) -> ExistingFeatures:
    """Read them from the first labelled slide with features. `SettingsError` if none has any."""
    source = FeatureStore(folder, folder)
    if not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder of features")
    for row in cohort.labelled:
        try:
            with _open_if_readable(row) as slide:
                mpp = info_of(row, slide).mpp
                if file := source.hdf5(row.slide_id):
                    found = read_hdf5(file, Frame.of(slide) if slide is not None else Frame(mpp=mpp))
                    encoder, patch_px = found.encoder, found.patches.patch_px
                else:
                    patch_px = source.load(row.slide_id, slide, mpp).patches.patch_px
                    encoder = source.common_encoder
        except SlideError:
            continue
        return ExistingFeatures(encoder.model_copy(update={"path": str(folder)}), patch_px)
    raise SettingsError(
        "The folder has no features of any labelled slide (<slide_id>.h5 or <slide_id>.zarr). Check the slide ids. A "
        "frozen encoder can compute them.",
        file=folder,
        remedy=Remedy("choose", "inputs.encoder"),
    )


def _open_if_readable(row: CohortSlide) -> AbstractContextManager[Slide | None]:
    """Open the slide. None if its file does not exist or cannot be read, which is reported with its features."""
    try:
        return open_if_present(row)
    except SlideError:
        return nullcontext()


def _completed(
    settings: Settings, cohort: Cohort, frozen: FrozenEncoder | None, there: ExistingFeatures | None = None
) -> Settings:
    """Return the settings completed from the cohort and the encoder, or from existing features.

    The patch size and scale of an encoder apply if neither the preset nor the user has set them.
    """
    model: dict[str, Any] = {
        "multi_label": settings.architecture.multi_label
        or any(len(cohort.indices(slide)) > 1 for slide in cohort.labelled)
    }
    grid = settings.patches
    if frozen:
        grid = fitted_grid(grid, frozen)
    elif there:
        grid = grid.model_copy(update={"size_px": there.patch_px})
    if frozen or there:
        model["encoder"] = "features"
    settings = settings.model_copy(
        update={"architecture": settings.architecture.model_copy(update=model), "patches": grid}
    )
    name = settings.architecture.encoder
    if name != "features" and grid.size_px < (smallest := smallest_patch(name)):
        raise SettingsError(
            f"Patches of {grid.size_px} px are too small for {name!r}, which needs {smallest} or more.",
            remedy=Remedy("set", "patches.size_px", smallest),
        )
    return settings


def _same_settings(run: Run, asked: Settings) -> Settings:
    """Return the settings of a run with the requested epochs and device. `SettingsError` if others differ."""
    old, new = run.config.settings.model_dump(), asked.model_dump()
    for part in ("teacher", "oof", "student"):
        old[part]["epochs"] = new[part]["epochs"]
    old["device"] = new["device"]
    for part, value in old.items():
        if value != new[part]:
            raise SettingsError(
                f"The run was started with other {part} settings. Only epochs and device may change.",
                file=run.folder,
                remedy=Remedy("other_folder"),
            )
    return Settings.model_validate(old)


def _same_encoder(run: Run, asked: Encoder) -> FrozenEncoder | None:
    """Open the frozen encoder that a run was started with. None if its features came from files."""
    expected = run.config.encoder
    if expected is None or (asked.path is None and expected.from_features):
        return None
    frozen = FrozenEncoder(asked.path or expected.path, run.config.settings.device, asked.trusted)
    if not expected.is_same(frozen.identity):
        raise SettingsError(
            f"This is not the encoder {expected.name!r} that {run.folder} was started with. That file is needed, with "
            "the .json it had.",
            file=frozen.path,
            remedy=Remedy("choose", "inputs.encoder", alternative=Remedy("other_folder")),
        )
    return frozen
