"""Errors and notices in the words of the command line: inputs are options, and columns of the cohort's table."""

import shlex
from collections.abc import Mapping
from typing import Any

from ..core.messages import Messages, is_setting

# Options that are not called as their field is.
OPTIONS = {
    "inputs.label_map": "--map",
    "regions.smooth": "--smooth",
    "regions.minimum_mm2": "--minimum-area",
    "formats": "--format",
    "out": "-o",
    "slides": "--slide",
}


def option_of(field: str) -> str:
    """Return the option of a field: 'inputs.mpp' -> '--mpp', 'patches.mpp' -> '--patches.mpp'."""
    if field in OPTIONS:
        return OPTIONS[field]
    group, _, name = field.rpartition(".")
    return f"--{name.replace('_', '-')}" if group in ("inputs", "compute", "") else f"--{field}"


class CommandLineMessages(Messages):
    """Errors, notices and remedies with the options of `distill2label`."""

    retry = "Run the command again."
    resume = "Resume the run with --resume."

    def set_field(self, field: str) -> str:
        if is_setting(field) or field.startswith("cohort."):
            return super().set_field(field)
        return f"Set it with {self.name(field)}."

    def set_value(self, field: str, value: Any) -> str:
        return f"Use {self.name(field, value)}."

    def clear_field(self, field: str) -> str:
        return f"Leave out {self.name(field)}."

    def name(self, field: str, value: Any = None) -> str:
        group, _, last = field.rpartition(".")
        if group == "cohort":
            return f"the column {last} of cohort.csv"
        option = option_of(field)
        if value is None or value is True:
            return option
        if isinstance(value, Mapping):
            return " ".join(f"{option} {_quoted(f'{label}={name}')}" for label, name in value.items())
        return f"{option} {','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"


def _quoted(text: str) -> str:
    return text if shlex.quote(text.replace("*", "")) == text else f"'{text}'"


command_line_messages = CommandLineMessages()
