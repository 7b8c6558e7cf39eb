"""Write `docs/reference/settings.md` from the settings models: python docs/make_reference.py [--check]

The page cannot drift from the program: with --check nothing is written, and the exit status is 1 where it has.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from napari_distill2label.core.presets import METHODS, PRESETS
from napari_distill2label.core.settings import Settings

PAGE = Path(__file__).parent / "reference" / "settings.md"
HEAD = """\
# Settings

<!-- Written by docs/make_reference.py from napari_distill2label/core/settings.py: change it there. -->

Every setting is declared once. The form in the window, the flags of `distill2label train`, the JSON in a run and in a
model, and this page all come from that declaration.

- **Command line**: `--teacher.epochs 20`. Hyphens and underscores are the same
  (`--patches.size-px 64`). `none` unsets a setting that can be unset.
- **Python**: `d2l.build_settings("colon", "recommended", {"teacher": {"epochs": 20}})`.
- **napari console**: `session.configure(teacher={"epochs": 20})`.

A run's settings are the defaults below, then those of the preset, of the method, and yours, the later ones on top.
A value out of range is an error that names the setting. Symbols and equation numbers are the paper's.
"""


def main() -> int:
    """Write the page, or with --check compare it. Returns the exit status."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.is_file() or PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8", newline="\n")
    return 0


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, *_sections(), _presets(), _methods()]
    return "\n".join(parts)


def _sections() -> Iterator[str]:
    groups = {name: field.annotation for name, field in Settings.model_fields.items() if _is_group(field)}
    own = [name for name, field in Settings.model_fields.items() if not _is_group(field)]
    yield _section("Of a run", "", (("", name, Settings.model_fields[name]) for name in own))
    for group, model in groups.items():
        rows = ((f"{group}.", name, field) for name, field in model.model_fields.items())
        yield _section(f"`{group}`", (model.__doc__ or "").strip(), rows)


def _section(title: str, text: str, rows: Iterator[tuple[str, str, FieldInfo]]) -> str:
    lines = [
        f"## {title}",
        "",
        *([text, ""] if text else []),
        "| setting | what it is | values | default |",
        "|---|---|---|---|",
    ]
    for prefix, name, field in rows:
        values = _names(name) or _values(field)
        lines.append(f"| `{prefix}{name}` | {_cell(field.description)} | {_cell(values)} | `{_shown(field.default)}` |")
    return "\n".join([*lines, ""])


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _names(name: str) -> str:
    """Presets and methods are text to the model and a choice to the user."""
    known = {"preset": PRESETS, "method": METHODS}.get(name, ())
    return ", ".join(f"`{one}`" for one in known)


def _values(field: FieldInfo) -> str:
    """Choices, or kind and range."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType] or [field.annotation]
    optional = NoneType in get_args(field.annotation)
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if bool in kinds:
        return "`true`, `false`"
    if str in kinds:
        return "`auto`, `cpu`, `cuda`, `cuda:1` …, `mps`"
    text = f"{'whole number' if int in kinds else 'number'} {_range(field)}".strip()
    return f"{text}, or `none`" if optional else text


def _range(field: FieldInfo) -> str:
    limits = {
        key: getattr(limit, key) for limit in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(limit, key)
    }
    low = f"≥ {_number(limits['ge'])}" if "ge" in limits else f"> {_number(limits['gt'])}"
    high = f"≤ {_number(limits['le'])}" if "le" in limits else f"< {_number(limits['lt'])}"
    return f"{low}, {high}"


def _number(value: float) -> str:
    return "2³¹" if value == 2**31 else f"{value:,.10g}".replace(",", "\u202f")  # a thin space between thousands


def _shown(value: Any) -> str:
    return (
        {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _presets() -> str:
    settings = sorted(
        {f"{group}.{name}" for preset in PRESETS.values() for group, fields in preset.items() for name in fields}
    )
    lines = [
        "## Presets",
        "",
        "A preset is the kind of images. Where a cell is empty the default above holds.",
        "",
        f"| setting | {' | '.join(f'`{name}`' for name in PRESETS)} |",
        f"|---|{'---|' * len(PRESETS)}",
    ]
    for setting in settings:
        group, _, name = setting.partition(".")
        values = (preset.get(group, {}).get(name) for preset in PRESETS.values())
        lines.append(
            f"| `{setting}` | {' | '.join('' if value is None else f'`{_shown(value)}`' for value in values)} |"
        )
    return "\n".join([*lines, ""])


def _methods() -> str:
    lines = [
        "## Methods",
        "",
        "`paper` keeps to the letter of the paper, `recommended` is the best we know. Whatever is",
        "not in the paper is off in `paper`.",
        "",
        "| method | what it changes |",
        "|---|---|",
    ]
    for name, changes in METHODS.items():
        changed = ", ".join(
            f"`{group}.{field}` = `{_shown(value)}`"
            for group, fields in changes.items()
            for field, value in fields.items()
        )
        lines.append(f"| `{name}` | {changed or 'nothing: the defaults above are the paper’s'} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
