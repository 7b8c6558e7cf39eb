"""What a training is asked to do, checked before any work: a new run, or one to go on with."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.classes import spelling_key, split_label
from ..core.errors import SettingsError, SlideError
from ..core.label_map import COVERAGE
from ..core.settings import Settings
from ..inference.encoder import ENCODER_HELP, FrozenEncoder
from ..mil.encoders import smallest_patch
from ..slides.slide import Slide
from ..store.cohort import Cohort, CohortSlide
from ..store.files.outputs import Outputs
from ..store.maps.feature_map import EncoderIdentity, FeatureOrigin
from ..store.maps.hdf5 import read_hdf5
from ..store.maps.hdf5_geometry import Frame
from ..store.run import Run, RunConfig
from ..store.same_files import with_files_in_one_case
from ..store.splits import with_splits
from .bags import BagReader, PathLike
from .corrections import Corrections
from .features import FeatureSource, fitted_grid, opened_if_there
from .reads import files_read
from .tissue import Tissue


@dataclass(frozen=True)
class Asked:
    """The arguments of `train` that say how, beside its settings."""

    classes: Sequence[str] | None = None
    baseline: bool = False
    centres: PathLike | None = None
    encoder: PathLike | None = None
    corrections: PathLike | None = None
    features: PathLike | None = None
    trust: bool = False
    tissue: Tissue | None = None
    label_map: Mapping[str, str] | None = None
    coverage: float | None = None


@dataclass(frozen=True)
class Plan:
    """A training that can start: its folder, what is asked, the slides with their splits, and how to read them."""

    folder: Path
    config: RunConfig
    cohort: Cohort
    reader: BagReader
    resume: bool
    outputs: Outputs | None = None

    def start(self, signature: str, failed: int) -> Run:
        """The run: made, or opened with the epochs and the device now asked for.

        `signature` is of all that is trained on; `failed` slides could not be read. `SettingsError` if a run that is
        gone on with was begun on something else: its networks would not be of the same slides.
        """
        before = self.config.data_signature
        run = Run(self.folder, self.config.model_copy(update={"data_signature": before or signature}))
        if not self.resume:
            return Run.create(self.folder, run.config, self.cohort, self.outputs)
        if before not in ("", signature):
            why = f"{failed} of them cannot be read now" if failed else "a file, or what reads it, has changed"
            raise SettingsError(
                f"{self.folder}: its slides and corrections are not those it was begun with ({why}); put them back, or "
                "name another folder to train anew"
            )
        run.write_settings()
        return run


def new_plan(out: PathLike, cohort: Cohort, settings: Settings, asked: Asked, overwrite: bool = False) -> Plan:
    """A new run in `out`; `CohortError`, `SettingsError` if they do not fit, `OutputError` if the folder is taken."""
    read = files_read(cohort, asked.tissue, asked.encoder, asked.centres, asked.corrections)
    outputs = Outputs(read, overwrite, "training")
    Run.check_free(out, outputs)
    check_encoder(settings, asked.encoder, asked.features)
    frozen = None if asked.encoder is None else FrozenEncoder(asked.encoder, settings.device, asked.trust)
    if asked.features is None:
        cohort.check_found()
    cohort = with_files_in_one_case(cohort.with_classes(asked.classes))
    cohort = with_splits(cohort, settings.split, settings.seed)
    there = _features_there(asked.features, cohort) if asked.features and not frozen else None
    config = RunConfig(
        settings=_fitted_to(settings, cohort, frozen, there),
        classes=cohort.classes,
        baseline=asked.baseline,
        encoder=frozen.identity if frozen else there and there.encoder,
        features=_absolute(asked.features),
        centres=_absolute(asked.centres),
        corrections=_absolute(asked.corrections),
        label_map=dict(asked.label_map or {}),
        coverage=COVERAGE if asked.coverage is None else asked.coverage,
        tissue=_absolute_tissue(asked.tissue),
    )
    plan = replace(_plan(out, config, cohort, frozen, resume=False), outputs=outputs)
    if corrections := plan.reader.corrections:
        corrections.check(cohort.classes, [slide.slide_id for slide in cohort.labelled], "labelled slide of the cohort")
    return plan


def resumed_plan(out: PathLike, cohort: Cohort, settings: Settings | None, asked: Asked) -> Plan:
    """The run in `out` to go on with. `SettingsError` if anything but epochs and device is asked for anew."""
    run = Run.open(out)
    config, own = run.config, run.cohort
    if _labels(cohort) != _labels(own):
        raise SettingsError(f"{out}: was trained on other slides or labels; name another folder to train anew")
    changed = {
        "--classes": asked.classes is not None and tuple(asked.classes) != config.classes,
        "--baseline": asked.baseline and not config.baseline,
        "--centres": asked.centres is not None and _absolute(asked.centres) != config.centres,
        "--encoder": asked.encoder is not None and config.encoder is None,
        "--features": asked.features is not None and config.encoder is None,
        "--corrections": asked.corrections is not None and _absolute(asked.corrections) != config.corrections,
        "--map": bool(asked.label_map) and dict(asked.label_map) != config.label_map,
        "--coverage": asked.coverage is not None and asked.coverage != config.coverage,
        "--tissue": asked.tissue is not None and _absolute_tissue(asked.tissue) != config.tissue,
    }
    if other := [flag for flag, differs in changed.items() if differs]:
        raise SettingsError(f"{out}: was started with another {other[0]}; name another folder to train anew")
    frozen = _same_encoder(run, asked)
    update: dict[str, Any] = {} if frozen is None else {"encoder": frozen.identity}  # its file may have moved
    if asked.features is not None:
        update["features"] = _absolute(asked.features)
    if settings is not None:
        update["settings"] = _same_settings(run, _fitted_to(settings, own, frozen))
    return _plan(out, config.model_copy(update=update), own, frozen, resume=True)


def _labels(cohort: Cohort) -> set[tuple[str, tuple[str, ...]]]:
    """Slides and their classes, however these are spelled."""
    return {(slide.slide_id, tuple(map(spelling_key, split_label(slide.label or "")))) for slide in cohort}


def _plan(out: PathLike, config: RunConfig, cohort: Cohort, frozen: FrozenEncoder | None, resume: bool) -> Plan:
    folder = Path(out)
    source = None
    if config.encoder is not None:
        cache = folder / "features"
        if frozen is None and config.features is not None and not Path(config.features).is_dir():
            raise SettingsError(
                f"{config.features}: no such folder of features: give the one it is now with --features"
            )
        wanted = config.encoder
        if frozen is not None:
            grid = config.settings.grid
            wanted = wanted.model_copy(update={"origin": FeatureOrigin(patch_px=grid.patch_px, mpp=grid.mpp)})
        source = FeatureSource(Path(config.features or cache), cache, frozen, wanted)
    corrections = config.corrections and Corrections(config.corrections, config.label_map, config.coverage)
    reader = BagReader(config.settings.grid, config.centres, corrections or None, source, config.tissue)
    return Plan(folder, config, cohort, reader, resume)


def _absolute(path: PathLike | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _absolute_tissue(tissue: Tissue | None) -> str | dict[str, str] | None:
    if isinstance(tissue, Mapping):
        return {slide_id: _absolute(path) for slide_id, path in tissue.items()} or None
    return _absolute(tissue)


def check_encoder(settings: Settings, encoder: PathLike | None, features: PathLike | None) -> None:
    """`SettingsError` if the settings ask for features and there is nothing to have them from."""
    if settings.model.encoder == "features" and encoder is None and features is None:
        raise SettingsError(
            f"the preset {settings.preset!r} works on features of a frozen encoder: give its file with --encoder, or "
            f"a folder of features with --features; {ENCODER_HELP}. For crops there are the presets colon and breast"
        )


@dataclass(frozen=True)
class _There:
    """What features that were computed before say of themselves."""

    encoder: EncoderIdentity
    patch_px: int


def _features_there(folder: PathLike, cohort: Cohort) -> _There:
    """Of the first labelled slide that has any. `SettingsError` if none has."""
    source = FeatureSource(Path(folder), Path(folder))
    if not Path(folder).is_dir():
        raise SettingsError(f"{folder}: no such folder of features")
    for row in cohort.labelled:
        try:
            with _opened_if_it_can(row) as slide:
                mpp = slide.mpp if slide is not None else row.mpp and (row.mpp, row.mpp)
                if file := source.hdf5(row.slide_id):
                    found = read_hdf5(file, Frame.of(slide) if slide is not None else Frame(mpp=mpp))
                    encoder, patch_px = found.encoder, found.patches.patch_px
                else:
                    patch_px = source.kept(row.slide_id, slide, mpp).patches.patch_px
                    encoder = source.wanted
        except SlideError:
            continue
        return _There(encoder.model_copy(update={"path": _absolute(folder)}), patch_px)
    raise SettingsError(
        f"{folder}: has no features of any labelled slide (<slide_id>.h5 or <slide_id>.zarr): are the slide ids the "
        "same? With --encoder FILE they are computed"
    )


def _opened_if_it_can(row: CohortSlide) -> AbstractContextManager[Slide | None]:
    """The slide; None where its file is not here or cannot be read, which is told when its features are."""
    try:
        return opened_if_there(row)
    except SlideError:
        return nullcontext()


def _fitted_to(
    settings: Settings, cohort: Cohort, frozen: FrozenEncoder | None, there: _There | None = None
) -> Settings:
    """Settings made to fit what only the cohort and the encoder (or the features that are there) know.

    An encoder's patch side and scale apply where neither the preset nor the user has set them.
    """
    model = {"several": settings.model.several or any(len(cohort.indices(slide)) > 1 for slide in cohort.labelled)}
    grid = settings.grid
    if frozen:
        grid = fitted_grid(grid, frozen)
    elif there:
        grid = grid.model_copy(update={"patch_px": there.patch_px})
    if frozen or there:
        model["encoder"] = "features"
    settings = settings.model_copy(update={"model": settings.model.model_copy(update=model), "grid": grid})
    name = settings.model.encoder
    if name != "features" and grid.patch_px < (smallest := smallest_patch(name)):
        raise SettingsError(
            f"patches of {grid.patch_px} px are too small for {name!r}: set --grid.patch_px to {smallest} or more"
        )
    return settings


def _same_settings(run: Run, asked: Settings) -> Settings:
    """A run's settings, with the epochs and the device asked for. `SettingsError` if others differ."""
    old, new = run.config.settings.model_dump(), asked.model_dump()
    for part in ("teacher", "assistant", "student"):
        old[part]["epochs"] = new[part]["epochs"]
    old["device"] = new["device"]
    for part, value in old.items():
        if value != new[part]:
            raise SettingsError(
                f"{run.folder}: was started with other {part} settings; resume may change only epochs and device"
            )
    return Settings.model_validate(old)


def _same_encoder(run: Run, asked: Asked) -> FrozenEncoder | None:
    """The frozen encoder a run was started with, from where it is now; None where features came from files."""
    wanted = run.config.encoder
    if wanted is None or (asked.encoder is None and wanted.from_features):
        return None
    frozen = FrozenEncoder(asked.encoder or wanted.path, run.config.settings.device, asked.trust)
    if not wanted.is_same(frozen.identity):
        raise SettingsError(
            f"{frozen.path}: is not the encoder {wanted.name!r} that {run.folder} was started with; "
            "give that file with --encoder, with the .json it had, or name another folder to train anew"
        )
    return frozen
