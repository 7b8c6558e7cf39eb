"""Errors and notices in the words of the window: an input is a box or a button of a step. No Qt."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.errors import Distill2LabelError
from ..core.fields import SETTINGS, value_in_words
from ..core.messages import Messages, Remedy, is_setting
from ..core.notices import Notice
from ..core.resource_errors import WITHOUT_REASON, is_disk_full, is_out_of_memory, is_without_reason


class Place(NamedTuple):
    """The box or button of an input, and the step that has it."""

    box: str
    step: int


# None: the window asks for it where it is needed, or has no such input.
PLACES: dict[str, Place | None] = {
    "cohort.mpp": Place("µm/px…", 1),
    "inputs.mpp": Place("µm/px…", 1),
    "preset": Place("Kind of images", 2),
    "method": Place("Method", 2),
    "classes": Place("Classes and colours", 1),
    "inputs.tissue": Place("Tissue mask", 1),
    "inputs.encoder": Place("Encoder", 2),
    "inputs.features": Place("Features", 2),
    "compute.device": Place("Device", 2),
    "baseline": Place("Also train the baseline", 2),
    "network": Place("Network", 3),
    "threshold": Place("Threshold", 3),
    "promise": Place("Promise…", 3),
    "risk": Place("Promise…", 3),
    "inputs.label_map": Place("Labels mean", 4),
    **dict.fromkeys(
        (
            "inputs.centres", "inputs.corrections", "inputs.region_labels", "inputs.coverage", "inputs.trust_encoder",
            "inputs.allow_non_brightfield", "compute.precision", "compute.workers", "compute.scheduler",
            "slides_folder", "count", "dense_stride", "formats", "dtype", "split", "negatives",
            "missing_truth", "overwrite", "slides", "allow_loss", "resume", "out", "truth", "to", "quick_trial",
            "target_patches", "regions.smooth", "regions.minimum_mm2",
        )
    ),
    **{path: Place(row.name, 2) for path, row in SETTINGS.items()},
}  # fmt: skip


class WindowMessages(Messages):
    """Errors, notices and remedies with the boxes and buttons of the window."""

    resume = "Resume it with ‘Resume’ in step 2."

    def remedy(self, remedy: Remedy) -> str:
        """Return what to do in the window. An alternative that it does not have is left out."""
        other = "" if remedy.alternative is None else self.remedy(remedy.alternative)
        first = self.sentence(remedy)
        if not first or first == other:
            return other
        return f"{first} Or {other[:1].lower()}{other[1:]}" if other else first

    def set_field(self, field: str) -> str:
        if is_setting(field):
            return self._at(field, "Change ‘{box}’ in step {step}.")
        return self._at(field, "Set it with ‘{box}’ in step {step}.")

    def set_value(self, field: str, value: Any) -> str:
        if field == "overwrite":
            return "Let what is there be replaced."
        if field == "inputs.trust_encoder":
            return "Choose it again under ‘Encoder’ in step 2, and trust it."
        if field == "classes":
            return self.set_field(field)
        if isinstance(value, Mapping):
            return f"Write {self.name(field, value)}."
        if value is True:
            return self._at(field, "Check ‘{box}’ in step {step}.")
        if field in SETTINGS:
            value = value_in_words(field, value)
        return self._at(field, f"Set ‘{{box}}’ to ‘{value}’ in step {{step}}.")

    def clear_field(self, field: str) -> str:
        return self._at(field, "Clear ‘{box}’ in step {step}.")

    def choose_file(self, field: str) -> str:
        return self._at(field, "Choose one under ‘{box}’ in step {step}.")

    def name(self, field: str, value: Any = None) -> str:
        place = PLACES.get(field)
        if place is None:
            return ""
        if isinstance(value, Mapping):
            return f"‘{','.join(f'{label}={name}' for label, name in value.items())}’ under ‘{place.box}’"
        return f"‘{place.box}’ in step {place.step}"

    def _at(self, field: str, text: str) -> str:
        place = PLACES.get(field)
        return "" if place is None else text.format(box=place.box, step=place.step)

    def _joined(self, text: str, remedy: Remedy | None) -> str:
        return super()._joined(text, remedy if remedy is None or self.remedy(remedy) else None)


window_messages = WindowMessages()


def text_of(what: str | Notice | BaseException) -> str:
    """Return what is to be said as the window says it."""
    if isinstance(what, Notice):
        return window_messages.notice(what)
    return what if isinstance(what, str) else message_of(what)


def message_of(error: BaseException) -> str:
    """Return an error as the window says it."""
    if isinstance(error, Distill2LabelError):
        return window_messages.line(error)
    if not isinstance(error, OSError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    if is_disk_full(error):
        return f"{where}the disk is full, or your share of it: make room, and try again"
    return f"{where}{error.strerror or error}"


def reason_of(error: BaseException, about: str = "") -> str:
    """Return why something failed in one line, whatever was raised; `about` stands before what does not name a place.

    Of errors that are raised for the user it is `message_of`.
    """
    if isinstance(error, Distill2LabelError) or (isinstance(error, OSError) and error.filename):
        return message_of(error)
    where = f"{about}: " if about else ""
    if is_disk_full(error):
        return f"{where}the disk is full, or your share of it: make room, and try again"
    if is_out_of_memory(error):
        return f"{where}out of memory: choose the device 'cpu', smaller batches or fewer patches, and try again"
    if is_without_reason(error):
        return f"{where}{WITHOUT_REASON}: choose smaller batches or fewer patches, and try again"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        return f"{where}{package} is not installed: pip install {package}, then start napari again"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{where}unexpected {type(error).__name__}{f': {first}' if first else ''}"
