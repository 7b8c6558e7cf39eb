"""The threshold that a user gives: the probability from which on a patch is labelled."""

from ..core.errors import SettingsError
from ..core.messages import Remedy


def check_threshold(threshold: float) -> None:
    """`SettingsError` unless it is a probability."""
    if not 0 <= threshold <= 1:
        raise SettingsError(
            f"The threshold is a probability from 0 to 1, not {threshold:g}.", remedy=Remedy("set", "threshold", 0.5)
        )
