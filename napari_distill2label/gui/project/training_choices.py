"""The frozen encoder of a session: its file, and what the JSON beside it says. Mixed into `Session`. No Qt."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import Distill2LabelError, SettingsError
from ...core.paths import may_run_code
from ...core.settings import Settings
from ..runner.draining import plain_reason
from ..runner.reader import BackgroundReader

if TYPE_CHECKING:
    from ...inference.encoder import EncoderDescription


class Encoding:
    """Which encoder there is, and what it asks of patches.

    Attributes
    ----------
    encoder_about
        What the encoder says of itself; None before its JSON has been read, and if that cannot be.
    encoder_problem
        Why the encoder cannot be used, in words; "" if nothing is known against it.
    """

    settings_changed: Any
    reader: BackgroundReader
    _encoder: Path | None = None
    _is_suggested = False
    encoder_about: "EncoderDescription | None" = None
    encoder_problem = ""

    @property
    def encoder(self) -> Path | None:
        """A frozen encoder's file, where the settings ask for one. Its JSON is read beside the window."""
        return self._encoder

    @encoder.setter
    def encoder(self, path: str | os.PathLike[str] | None) -> None:
        self._encoder, self._is_suggested = None if path is None else Path(path), False
        self.encoder_about, self.encoder_problem = None, ""
        self.settings_changed.emit()
        if self._encoder is None:
            self.reader.cancel("encoder")
        else:
            self.reader.request("encoder", partial(_description, self._encoder), self._described, self._not_described)

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

        self.reader.request("encoder", partial(_description, Path(path)), found)

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

    def why_not_encode(self, settings: Settings) -> str | None:
        """What stands against computing with the encoder, in words."""
        if self._encoder is None:
            return "Choose the encoder's file first."
        about = self.encoder_about
        if about is not None and settings.patches.size_px < about.minimum_px:
            return (
                f"Patches of {settings.patches.size_px} px are too small for this encoder: {about.minimum_px} or more."
            )
        return self.encoder_problem or None

    def _described(self, about: "EncoderDescription") -> None:
        self.encoder_about = about
        self.settings_changed.emit()

    def _not_described(self, error: Exception) -> None:
        known = isinstance(error, Distill2LabelError)
        self.encoder_problem = str(error) if known else f"{self._encoder}: {plain_reason(error)}"
        self.settings_changed.emit()


def _description(path: Path) -> "EncoderDescription":
    from ...inference.encoder import EncoderDescription

    return EncoderDescription.read_beside(path)
