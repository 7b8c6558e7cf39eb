"""What the next training would use: chosen in the window, kept with the cohort, taken again with it. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.presets import build_settings, overrides_of
from ...core.settings import merged, without

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True)
class Choices:
    """Preset, recipe, and `settings`: what was set beyond them, nested. A file of an encoder, a folder of features."""

    preset: str
    recipe: str
    settings: Mapping[str, Any]
    encoder: Path | None = None
    features: Path | None = None

    def lasting(self) -> "Choices":
        """Those that hold tomorrow and elsewhere.

        Without the device, which is of this computer, and without an encoder that can hold a program, for which the
        user is asked each time.
        """
        settings = without(overrides_of(build_settings(self.preset, self.recipe, self.settings)), ["device"])
        is_plain = self.encoder is not None and self.encoder.suffix.lower() == ".onnx"
        return replace(self, settings=settings, encoder=self.encoder if is_plain else None)


def choices_of(session: "Session") -> Choices:
    """As they are now. An encoder counts if the user chose it, not if a model brought it along."""
    encoder = session.encoder if session.has_chosen_encoder else None
    return Choices(session.preset, session.recipe, session.overrides, encoder, session.feature_folder)


def take(session: "Session", choices: Choices) -> None:
    """Use them, without a folder that is gone. `SettingsError`, and nothing changed, if they do not fit together."""
    device = {name: value for name, value in session.overrides.items() if name == "device"}
    settings = merged(choices.settings, device)
    build_settings(choices.preset, choices.recipe, settings)
    session.preset, session.recipe, session.overrides = choices.preset, choices.recipe, settings
    session.feature_folder = choices.features if choices.features and choices.features.is_dir() else None
    if choices.encoder is not None or session.has_chosen_encoder:
        session.encoder = choices.encoder
    else:
        session.settings_changed.emit()
