"""What was done in a session as a script: "copy as Python" and "copy as command line". No Qt.

`recorded` marks the verbs of a session; `Session.script` keeps what they did, once they have succeeded. A script
repeats the way from the present model on: its training (into another folder, since a run's is never written over),
what it predicted, and what was exported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.classes import RGB, palette
from ...store.cohort import CohortSlide
from ..runner.jobs import Done, Job

if TYPE_CHECKING:
    from ...store.run import RunConfig

# Arguments of the verb predict that the command line calls the same.
OPTIONS = (
    "centres",
    "tissue",
    "mpp",
    "dense_stride",
    "encoder",
    "precision",
    "allow_non_brightfield",
    "features",
    "trust",
    "device",
)
NOTHING = "Nothing has been trained, predicted or exported yet."


@dataclass(frozen=True)
class Trained:
    """A training: everything but the slides, which its folder's cohort.csv has."""

    folder: Path
    config: "RunConfig"
    trust: bool = False


@dataclass(frozen=True)
class Predicted:
    """Slides that one model of a run or a bundle labelled."""

    model: Path
    network: str
    slides: tuple[CohortSlide, ...]
    options: tuple[tuple[str, Any], ...] = ()  # of the verb predict, where given: centres, tissue, device…


@dataclass(frozen=True)
class Exported:
    """Files that were written of slides that one model labelled."""

    model: Path
    network: str
    slide_ids: tuple[str, ...]
    out: Path
    formats: tuple[str, ...]
    threshold: float
    corrections: Path | None = None
    colours: tuple[tuple[str, RGB], ...] = ()  # of classes, where they are not the palette's


Deed = Trained | Predicted | Exported


class Script:
    """What was done in a session, oldest first."""

    changed = Signal()

    def __init__(self) -> None:
        self.deeds: tuple[Deed, ...] = ()

    def __repr__(self) -> str:
        return f"Script of {len(self.deeds)} deeds: print(session.script.python())"

    def add(self, deed: Deed) -> None:
        """Note something that was done."""
        self.deeds = (*self.deeds, deed)
        self.changed.emit()

    def python(self) -> str:
        """As Python: plain functions of the package, for a file, a notebook or napari's console."""
        from .script_text import python

        return python(self.deeds) if self.deeds else f"# {NOTHING}\n"

    def command_line(self) -> str:
        """As commands for a shell (sh, bash, zsh)."""
        from .script_text import shell

        return shell(self.deeds) if self.deeds else f"# {NOTHING}\n"


# ---- recording ----------------------------------------------------------------------------------------------------


def recorded(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a verb of the session (train, resume, predict, export): what it did is noted in `session.script`."""
    note = {"train": _trained, "resume": _trained, "predict": _predicted, "export": _exported}[verb.__name__]
    known = signature(verb)

    @wraps(verb)
    def done(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = known.bind(self, *args, **kwargs)
        given.apply_defaults()
        asked = {name: value for name, value in given.arguments.items() if name != "self"}
        if asked.get("threshold", 0) is None:
            asked["threshold"] = self.threshold
        value = verb(self, *args, **kwargs)
        if isinstance(value, Job):
            _when_done(self, value, lambda result: note(self, asked, result))
        elif value is not None:  # else it was cancelled
            note(self, asked, value)
        return value

    return done


def _when_done(session: Any, job: Job, note: Callable[[Any], None]) -> None:
    def look(changed: Job) -> None:
        if job.outcome is not None:
            session.jobs.changed.disconnect(look, missing_ok=True)
            if isinstance(job.outcome, Done):
                note(job.outcome.value)

    if job.outcome is None:
        session.jobs.changed.connect(look)
    else:
        look(job)


def _trained(session: Any, asked: dict[str, Any], value: Any) -> None:
    run = value[0] if isinstance(value, tuple) else value
    encoder, trusted = run.config.encoder, session.trusted
    trust = asked.get("trust") or (encoder is not None and trusted is not None and Path(encoder.path) == Path(trusted))
    session.script.add(Trained(Path(run.folder).absolute(), run.config, bool(trust)))


def _predicted(session: Any, asked: dict[str, Any], maps: Any) -> None:
    if not maps or session.model is None:
        return
    device = asked.get("device") or session.settings.device
    options = {name: value for name, value in asked.items() if name in OPTIONS and value not in (None, False)}
    options |= {} if device == "auto" else {"device": device}
    if options.get("precision") == "float32":
        del options["precision"]
    if "tissue" not in options and (used := session.tissue.in_use()):
        options["tissue"] = used
    done = {patch_map.slide_id for patch_map in maps}
    session.script.add(
        Predicted(
            session.model.path.absolute(),
            str(maps[0].model.get("network", "student")),
            tuple(row for row in session.cohort if row.slide_id in done),
            tuple((name, plain(value)) for name, value in options.items()),
        )
    )


def plain(value: Any) -> Any:
    """Paths as text, in a mapping of them too (of slides to the masks of their tissue)."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return str(Path(value).absolute()) if isinstance(value, Path) else value


def _exported(session: Any, asked: dict[str, Any], files: Any) -> None:
    if not files or session.model is None:
        return
    slides = asked.get("slides")
    ids = [slides] if isinstance(slides, str) else slides
    network = session.network or "student"
    have = [row.slide_id for row in session.cohort if network in session.predictions.get(row.slide_id, {})]
    session.script.add(
        Exported(
            session.model.path.absolute(),
            network,
            tuple(have if ids is None else (slide_id for slide_id in ids if slide_id in have)),
            Path(asked["out"]).absolute(),
            tuple(asked["formats"]),
            asked["threshold"],
            None if asked.get("corrections") is None else Path(asked["corrections"]).absolute(),
            tuple(_chosen_colours(session)),
        )
    )


def _chosen_colours(session: Any) -> list[tuple[str, RGB]]:
    usual = palette(len(session.classes))
    return [
        (name, rgb) for name, rgb, plain in zip(session.classes, session.colours, usual, strict=True) if rgb != plain
    ]
