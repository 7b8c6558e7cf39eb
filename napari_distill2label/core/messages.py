"""Sentences for people, made from the facts of errors and notices. Each interface has its own names for an input.

`Messages` has the words of Python: it names parameters and settings. The command line and the window replace what they
call differently. A key of `core.fields.FIELDS` says which input is meant; `inputs.encoder`, `compute.device`,
`patches.mpp` (a setting), `cohort.mpp` (a column of the cohort's table), `resume` (an argument of a command).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .text import LONGEST_MESSAGE, shown

if TYPE_CHECKING:
    from .errors import Distill2LabelError
    from .events import ItemFailed
    from .notices import Notice

Action = Literal["set", "clear", "choose", "install", "retry", "resume", "free_space", "other_folder", "rename", "copy"]


@dataclass(frozen=True)
class Remedy:
    """What the user can do about an error or a notice.

    Attributes
    ----------
    action
        "set": give the field this value, or any value. "clear": do not give the field; of labels that are mapped to "":
        leave them out. "choose": name a file or folder. "install": install the package `value`. "retry": do the same
        again. "resume": continue the run. "free_space": make room on the disk. "other_folder": give another folder for
        results. "rename": give it another name. "copy": bring it from its source again.
    field
        A key of `core.fields.FIELDS`.
    value
        The value to set; a mapping for a mapping of labels to classes.
    alternative
        What can be done instead.
    """

    action: Action
    field: str | None = None
    value: Any = None
    alternative: "Remedy | None" = None


FILES = {
    "inputs.encoder": "the encoder's file",
    "inputs.features": "the folder of features",
    "slides_folder": "the folder of the slides",
}  # what a "choose" asks for


IN_PYTHON = {
    "inputs.encoder": "Inputs(encoder=Encoder({}))",
    "inputs.trust_encoder": "Encoder(…, trusted={})",
    "inputs.tissue": "Inputs(tissue=TissueRegions({}))",
    "promise": "threshold=PromiseRequest({})",
    "regions.smooth": "regions=RegionOptions(smooth={})",
    "regions.minimum_mm2": "regions=RegionOptions(minimum_mm2={})",
    "risk": "PromiseRequest(…, risk={})",
    "negatives": "PromiseRequest(…, negatives={})",
}  # fields that are no argument of a function, nor of `Inputs` or `Compute`, by the same name


def is_setting(field: str) -> bool:
    """Whether a field is a setting: it has a value already."""
    group = field.rpartition(".")[0]
    return group not in ("", "inputs", "compute", "cohort", "regions")


class Messages:
    """Errors, notices and remedies in the words of Python."""

    retry = "Try again."
    resume = "Resume the run with resume=True."

    def error(self, error: "Distill2LabelError") -> str:
        """Return where, the problem, and what to do."""
        return self._joined(error.statement, error.remedy)

    def line(self, error: "Distill2LabelError") -> str:
        """Return an error in one line that is safe to show."""
        return shown(self.error(error), LONGEST_MESSAGE)

    def failure(self, event: "ItemFailed") -> str:
        """Return what failed, a slide say, and its error in one line that is safe to show. The item is named once."""
        where, line = f"{shown(event.item)}: ", self.line(event.error)
        return line if line.startswith(where) else where + line

    def notice(self, notice: "Notice") -> str:
        """Return a notice in one line."""
        where = f"{shown(notice.item)}: " if notice.item else ""
        return shown(self._joined(where + notice.sentence, notice.remedy), LONGEST_MESSAGE)

    def remedy(self, remedy: Remedy) -> str:
        """Return what to do, in one sentence for each alternative."""
        first = self.sentence(remedy)
        if remedy.alternative is None:
            return first
        other = self.remedy(remedy.alternative)
        return f"{first} Or {other[:1].lower()}{other[1:]}"

    def _joined(self, text: str, remedy: Remedy | None) -> str:
        if remedy is None:
            return text
        return f"{text if text.endswith(('.', '?', '!')) else f'{text}.'} {self.remedy(remedy)}"

    def sentence(self, remedy: Remedy) -> str:
        """Return what to do, without the alternative."""
        field, value = remedy.field, remedy.value
        if remedy.action == "set" and field is not None:
            return self.set_field(field) if value is None else self.set_value(field, value)
        if remedy.action == "clear" and field is not None:
            return self.clear_field(field) if value is None else f"Leave it out with {self.name(field, value)}."
        if remedy.action == "choose" and field is not None:
            return self.choose_file(field)
        if remedy.action == "install":
            return f"Install it: pip install '{value}'."
        return {
            "retry": self.retry,
            "resume": self.resume,
            "free_space": "Free some space.",
            "other_folder": "Choose another folder.",
            "copy": "Copy it from its source again.",
            "rename": "Rename it." if value is None else f"Rename it, for example to {value}.",
        }[remedy.action]

    # ---- what an interface calls a field ---------------------------------------------------------------------------

    def set_field(self, field: str) -> str:
        """Ask for a value."""
        return f"{'Change' if is_setting(field) else 'Set'} {self.name(field)}."

    def set_value(self, field: str, value: Any) -> str:
        """Ask for this very value."""
        return f"Set {self.name(field, value)}."

    def clear_field(self, field: str) -> str:
        """Ask not to give the field."""
        return f"Leave out {field.rpartition('.')[2]}."

    def choose_file(self, field: str) -> str:
        """Ask for a file or folder."""
        return f"Give {FILES[field]} with {self.name(field)}."

    def name(self, field: str, value: Any = None) -> str:
        """Return the name of a field, with a value where one is given."""
        group, _, last = field.rpartition(".")
        if group == "cohort":
            return f"the column {last} of the cohort"
        value = "…" if value is None else repr(dict(value) if isinstance(value, Mapping) else value)
        if field in IN_PYTHON:
            return IN_PYTHON[field].format(value)
        if group in ("inputs", "compute"):
            return f"{group.title()}({last}={value})"
        if not group:
            return f"{last}={value}"
        return f"the setting {field}" if value == "…" else f"{field}={value}"


python_messages = Messages()
