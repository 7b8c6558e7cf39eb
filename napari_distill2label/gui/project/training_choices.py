"""What the next training would use: kind of images, method, single settings, encoder and features. No Qt."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.errors import SettingsError
from ...core.inputs import Encoder, Inputs
from ...core.paths import PathLike, may_run_code
from ...core.presets import build_settings
from ...core.settings import Settings, merged, without_keys
from ...store.project_file import SavedChoices
from ..messages import reason_of
from ..runner.reader import BackgroundReader
from .project import Project

if TYPE_CHECKING:
    from ...inference.encoder import EncoderDescription


class TrainingChoices:
    """What was chosen in the window, and the settings that come of it.

    Attributes
    ----------
    preset, method
        Names of the kind of images and of the method.
    overrides
        Single settings that were set beyond them, nested. Replaced by each change.
    encoder_about
        What the encoder says of itself; None before its JSON has been read, and if that cannot be.
    encoder_problem
        Why the encoder cannot be used, in words; "" if nothing is known against it.
    own_features
        Where features were computed last, in this window or on another day of these slides.
    """

    changed = Signal()

    def __init__(self, project: Project, reader: BackgroundReader) -> None:
        self._project, self._reader = project, reader
        self.preset, self.method = "colon", "recommended"
        self.overrides: dict[str, Any] = {}
        self.own_features: Path | None = None
        self.encoder_about: EncoderDescription | None = None
        self.encoder_problem = ""
        self._feature_folder: Path | None = None
        self._trusted: Path | None = None
        self._encoder: Path | None = None
        self._is_suggested = False
        project.cohort_opened.connect(self._leave_features)

    # ---- settings -------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What a training would use now: preset and encoder < method < the preferred device < what was set."""
        return self.settings_with(self.encoder)

    def settings_with(self, encoder: PathLike | None) -> Settings:
        """The same with another encoder, which says by itself what is left open."""
        device = {"device": self._project.preferences().device}
        settings = build_settings(self.preset, self.method, merged(device, self.overrides))
        return self.fitted(settings) if encoder is None or Path(encoder) == self.encoder else settings

    def configure(
        self, preset: str | None = None, method: str | None = None, **overrides: Mapping[str, Any]
    ) -> Settings:
        """Choose preset and method, and set single settings: `configure(teacher={"epochs": 20})`.

        `SettingsError`, and nothing changed, if they do not fit.
        """
        chosen = preset or self.preset, method or self.method, merged(self.overrides, overrides)
        settings = build_settings(*chosen)
        self.preset, self.method, self.overrides = chosen
        self.changed.emit()
        return settings

    def reset_settings(self, *paths: str) -> None:
        """Back to what preset and method say: all, or single ones such as "patches.size_px"."""
        overrides = without_keys(self.overrides, paths) if paths else {}
        build_settings(self.preset, self.method, overrides)
        self.overrides = overrides
        self.changed.emit()

    # ---- the encoder ----------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Path | None:
        """A frozen encoder's file, where the settings ask for one. Its JSON is read in the background."""
        return self._encoder

    @encoder.setter
    def encoder(self, path: PathLike | None) -> None:
        self._encoder, self._is_suggested = None if path is None else Path(path), False
        self.encoder_about, self.encoder_problem = None, ""
        self.changed.emit()
        if self._encoder is None:
            self._reader.cancel("encoder")
        else:
            self._reader.request("encoder", partial(_description, self._encoder), self._described, self._not_described)

    @property
    def has_chosen_encoder(self) -> bool:
        """Did the user choose the encoder, and not a model that was loaded?"""
        return self._encoder is not None and not self._is_suggested

    def suggest_encoder(self, path: Path | None) -> None:
        """Take a model's encoder where the user has chosen none, if its file is still there and holds no program."""
        if self.has_chosen_encoder or path is None or may_run_code(path):
            return

        def found(about: "EncoderDescription") -> None:
            if not self.has_chosen_encoder:
                self._encoder, self._is_suggested, self.encoder_problem = Path(path), True, ""
                self._described(about)

        self._reader.request("encoder", partial(_description, Path(path)), found)

    @property
    def trusted(self) -> Path | None:
        """The encoder's file that may be opened though it can hold a program: the user has said so, in this window."""
        return self._trusted

    @trusted.setter
    def trusted(self, path: PathLike | None) -> None:
        self._trusted = None if path is None else Path(path)

    def trusts(self, encoder: PathLike | None) -> bool:
        """Has the user said that this very file may be opened?"""
        return encoder is not None and Path(encoder) == self.trusted

    def with_trust(self, encoder: Encoder, default: PathLike | None = None) -> Encoder:
        """Return the encoder, trusted if the user has said so of its file, or of `default` where none is named."""
        return replace(encoder, trusted=encoder.trusted or self.trusts(encoder.path or default))

    def complete(self, inputs: Inputs, settings: Settings) -> Inputs:
        """Return the inputs of a training, with the encoder and the features of the panel where none are named."""
        encoder, features = inputs.encoder, inputs.features
        if settings.architecture.encoder == "features":
            encoder = replace(encoder, path=encoder.path or self.encoder)
            features = features or self.feature_folder
        return replace(inputs, encoder=self.with_trust(encoder), features=features)

    def fitted(self, settings: Settings) -> Settings:
        """The settings with the encoder's patch side and µm/px where nobody set them, as a training has them."""
        about = self.encoder_about
        if about is None or settings.architecture.encoder != "features":
            return settings
        try:
            grid = settings.patches.with_encoder_defaults(about.patch_px, about.mpp)
        except SettingsError:  # what was set contradicts the encoder: told by whoever computes with it
            return settings
        return settings.model_copy(update={"patches": grid})

    def _described(self, about: "EncoderDescription") -> None:
        self.encoder_about = about
        self.changed.emit()

    def _not_described(self, error: Exception) -> None:
        self.encoder_problem = reason_of(error, str(self._encoder))
        self.changed.emit()

    # ---- features -------------------------------------------------------------------------------------------------

    @property
    def feature_folder(self) -> Path | None:
        """Where features of slides are, or are put."""
        return self._feature_folder

    @feature_folder.setter
    def feature_folder(self, folder: PathLike | None) -> None:
        self._feature_folder = None if folder is None else Path(folder)
        self.changed.emit()

    @property
    def own_feature_folder(self) -> Path:
        """Where features are put that are computed without a training."""
        return self._project.runs_folder / "features"

    def use_features(self, folder: Path, encoder: PathLike) -> None:
        """Train on features that were computed here with an encoder."""
        self._feature_folder = self.own_features = folder
        self.encoder = Path(encoder)

    def _leave_features(self) -> None:
        """Features that were computed of other slides are not those of these."""
        if self.feature_folder == self.own_features != self.own_feature_folder:
            self._feature_folder = None

    # ---- kept with the slides -------------------------------------------------------------------------------------

    def saved(self) -> SavedChoices:
        """As they are now. An encoder counts if the user chose it, not if a model brought it along."""
        settings, folder = without_keys(self.overrides, ("device",)), self.feature_folder
        encoder = self.encoder if self.has_chosen_encoder else None
        own = folder is not None and folder == self.own_features
        return SavedChoices(self.preset, self.method, settings, encoder, folder, own)

    def apply(self, choices: SavedChoices) -> bool:
        """Use them; False if that changed nothing. `SettingsError`, and nothing changed, if they contradict."""
        before = self.saved()
        device = {name: value for name, value in self.overrides.items() if name == "device"}
        settings = merged(choices.settings, device)
        build_settings(choices.preset, choices.method, settings)
        self.preset, self.method, self.overrides = choices.preset, choices.method, settings
        self._feature_folder = choices.features
        if choices.own_features:
            self.own_features = choices.features
        if choices.encoder != before.encoder:
            self.encoder = choices.encoder
        else:
            self.changed.emit()
        return self.saved() != before


def _description(path: Path) -> "EncoderDescription":
    from ...inference.encoder import EncoderDescription

    return EncoderDescription.read_beside(path)
