"""What a training is asked to do, checked before any work: a new run, or one to go on with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import CohortError, SettingsError
from ..core.settings import Settings
from ..mil.encoders import smallest_patch
from ..prediction.encoder import FrozenEncoder
from ..store.cohort import Cohort
from ..store.files import write_json
from ..store.run import Run, RunConfig
from ..store.splits import with_splits
from .bags import BagReader, PathLike


@dataclass(frozen=True)
class Asked:
    """The arguments of `train` that say how, beside its settings."""

    classes: Sequence[str] | None = None
    baseline: bool = False
    centres: PathLike | None = None
    encoder: PathLike | None = None
    corrections: PathLike | None = None


@dataclass(frozen=True)
class Plan:
    """A training that can start: its folder, what is asked, the slides with their splits, and how to read them."""

    folder: Path
    config: RunConfig
    cohort: Cohort
    reader: BagReader
    resume: bool

    def start(self) -> Run:
        """The run: made, or opened with the epochs and the device now asked for."""
        if not self.resume:
            return Run.create(self.folder, self.config, self.cohort)
        write_json(self.folder / "settings.json", self.config.model_dump(mode="json"))
        return Run(self.folder, self.config)


def new_plan(out: PathLike, cohort: Cohort, settings: Settings, asked: Asked) -> Plan:
    """A new run in `out`; `CohortError`, `SettingsError` if they do not fit."""
    Run.check_free(out)
    frozen = _frozen_encoder(settings, asked.encoder)
    cohort = with_splits(cohort.with_classes(asked.classes), settings.split, settings.seed)
    config = RunConfig(
        settings=_fitted_to(settings, cohort, frozen),
        classes=cohort.classes,
        baseline=asked.baseline,
        encoder=frozen and frozen.identity,
        centres=_absolute(asked.centres),
        corrections=_absolute(asked.corrections),
    )
    plan = _plan(out, config, cohort, frozen, resume=False)
    _check_corrections(plan.reader, cohort, asked.corrections)
    return plan


def resumed_plan(out: PathLike, cohort: Cohort, settings: Settings | None, asked: Asked) -> Plan:
    """The run in `out` to go on with. `SettingsError` if anything but epochs and device is asked for anew."""
    run = Run.open(out)
    config, own = run.config, run.cohort
    if {(slide.slide_id, slide.label) for slide in cohort} != {(slide.slide_id, slide.label) for slide in own}:
        raise SettingsError(f"{out}: was trained on other slides or labels; name another folder to train anew")
    changed = {
        "--classes": asked.classes is not None and tuple(asked.classes) != config.classes,
        "--baseline": asked.baseline and not config.baseline,
        "--centres": asked.centres is not None and _absolute(asked.centres) != config.centres,
        "--encoder": asked.encoder is not None and config.encoder is None,
        "--corrections": asked.corrections is not None and _absolute(asked.corrections) != config.corrections,
    }
    if other := [flag for flag, differs in changed.items() if differs]:
        raise SettingsError(f"{out}: was started with another {other[0]}; name another folder to train anew")
    frozen = _same_encoder(run, asked.encoder)
    update: dict[str, Any] = {} if frozen is None else {"encoder": frozen.identity}  # its file may have moved
    if settings is not None:
        update["settings"] = _same_settings(run, _fitted_to(settings, own, frozen))
    return _plan(out, config.model_copy(update=update), own, frozen, resume=True)


def _plan(out: PathLike, config: RunConfig, cohort: Cohort, frozen: FrozenEncoder | None, resume: bool) -> Plan:
    folder = Path(out)
    reader = BagReader(config.settings.grid, config.centres, config.corrections, frozen, folder / "features")
    return Plan(folder, config, cohort, reader, resume)


def _absolute(path: PathLike | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _check_corrections(reader: BagReader, cohort: Cohort, path: PathLike | None) -> None:
    """`CohortError` if corrections are of no slide or class of the cohort: they would be lost without a word."""
    if not reader.corrections:
        return
    own = [reader.corrections[slide.slide_id] for slide in cohort.labelled if slide.slide_id in reader.corrections]
    if not own:
        raise CohortError(f"{path}: has no patch of any labelled slide of the cohort: are the slide ids the same?")
    if unknown := sorted({str(label) for points in own for label in points.labels} - set(cohort.classes)):
        raise CohortError(f"{path}: unknown label {unknown[0]!r}: the classes are {', '.join(cohort.classes)}")


def _frozen_encoder(settings: Settings, path: PathLike | None) -> FrozenEncoder | None:
    if settings.model.encoder == "features" and path is None:
        raise SettingsError(
            f"the preset {settings.preset!r} works on features of a frozen encoder: give its ONNX file with --encoder "
            "(a .json beside it says patch side, µm/px and normalisation), or choose the preset colon or breast"
        )
    return None if path is None else FrozenEncoder(path)


def _fitted_to(settings: Settings, cohort: Cohort, frozen: FrozenEncoder | None) -> Settings:
    """Settings made to fit what only the cohort and the encoder know.

    An encoder's patch side and scale apply where neither the preset nor the user has set them.
    """
    model = {"several": settings.model.several or any(len(cohort.indices(slide)) > 1 for slide in cohort.labelled)}
    grid = settings.grid
    if frozen:
        model["encoder"] = "features"
        grid = grid.with_defaults(frozen.description.patch_px, frozen.description.mpp)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update=model), "grid": grid})
    name = frozen.description.name if frozen else settings.model.encoder
    smallest = frozen.description.minimum_px if frozen else smallest_patch(name)
    if settings.grid.patch_px < smallest:
        raise SettingsError(
            f"patches of {settings.grid.patch_px} px are too small for {name!r}: "
            f"set --grid.patch_px to {smallest} or more"
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


def _same_encoder(run: Run, path: PathLike | None) -> FrozenEncoder | None:
    """The frozen encoder a run was started with, from `path` or from where it was."""
    wanted = run.config.encoder
    if wanted is None:
        return None
    frozen = FrozenEncoder(path or wanted.path)
    if frozen.identity.sha256 != wanted.sha256:
        raise SettingsError(
            f"{frozen.path}: is not the encoder {wanted.name!r} that {run.folder} was started with; "
            "give that file with --encoder, or name another folder to train anew"
        )
    return frozen
