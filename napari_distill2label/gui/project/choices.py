"""What the next training would use: chosen in the window, kept with the cohort, taken again with it. No Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from ...core.paths import may_run_code
from ...core.presets import build_settings
from ...core.settings import merged, without_keys

if TYPE_CHECKING:
    from ..session import Session

NOT_KEPT = ("device", "preset", "method")  # the one is of this computer, the others are said by name


@dataclass(frozen=True)
class Choices:
    """Preset, method, and `settings`: what was set beyond them, nested. A file of an encoder, a folder of features.

    What was set, and not the settings that come of it: these also follow from the slides and from the encoder. Without
    the device, which is of this computer. `own_features`: the folder's were computed of these slides, here.
    """

    preset: str
    method: str
    settings: Mapping[str, Any]
    encoder: Path | None = None
    features: Path | None = None
    own_features: bool = False

    def lasting(self) -> "Choices":
        """Those that hold tomorrow: without an encoder that can hold a program, for which the user is asked again."""
        settings = to_jsonable_python(without_keys(self.settings, NOT_KEPT), fallback=str)
        encoder = None if self.encoder is None or may_run_code(self.encoder) else self.encoder
        return replace(self, settings=settings, encoder=encoder)

    def __str__(self) -> str:
        changed = _count(self.settings)
        settings = f"{changed or 'no'} setting{'s' * (changed != 1)} changed"
        return f"kind of images {self.preset}, method {self.method}, {settings}"


def choices_of(session: "Session") -> Choices:
    """As they are now. An encoder counts if the user chose it, not if a model brought it along."""
    settings, folder = without_keys(session.overrides, ("device",)), session.feature_folder
    encoder = session.encoder if session.has_chosen_encoder else None
    own = folder is not None and folder == session._own_features
    return Choices(session.preset, session.method, settings, encoder, folder, own)


def take(session: "Session", choices: Choices) -> bool:
    """Use them; False if that changed nothing. `SettingsError`, and nothing changed, if they do not fit together."""
    before = choices_of(session)
    device = {name: value for name, value in session.overrides.items() if name == "device"}
    settings = merged(choices.settings, device)
    build_settings(choices.preset, choices.method, settings)
    session.preset, session.method, session.overrides = choices.preset, choices.method, settings
    session.feature_folder = choices.features
    if choices.own_features:
        session._own_features = choices.features
    if choices.encoder != before.encoder:
        session.encoder = choices.encoder
    else:
        session.settings_changed.emit()
    return choices_of(session) != before


def _count(settings: Mapping[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, Mapping) else 1 for value in settings.values())
