"""What was done in a session, for "copy as Python" and "copy as command line". No Qt.

`recorded` marks actions; the log keeps what they did, once they have succeeded. A script repeats the way from the
present model on: its training (into another folder, since a run's is never written over), what it predicted, and what
was exported.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from psygnal import Signal

from ...core.classes import RGB, palette
from ...core.inputs import Compute, Inputs
from ...workflow import script_writer
from ...workflow.script_writer import Action, Exported, Predicted, Trained
from ..project.project import Project, network_of
from ..project.tissue import Tissue
from ..project.training_choices import TrainingChoices
from ..runner.jobs import Done, Job, JobQueue

Given = ParamSpec("Given")
Result = TypeVar("Result")

NOTHING = "Nothing has been trained, predicted or exported yet."


class ActionLog:
    """What was done in a session.

    Attributes
    ----------
    actions
        The oldest first.
    """

    changed = Signal()

    def __init__(self, project: Project, choices: TrainingChoices, tissue: Tissue, jobs: JobQueue) -> None:
        self._project, self._choices, self._tissue, self._jobs = project, choices, tissue, jobs
        self.actions: tuple[Action, ...] = ()

    def __repr__(self) -> str:
        return f"ActionLog of {len(self.actions)} actions: print(session.log.python())"

    def add(self, action: Action) -> None:
        """Note something that was done."""
        self.actions = (*self.actions, action)
        self.changed.emit()

    def python(self) -> str:
        """As Python: plain functions of the package, for a file, a notebook or napari's console."""
        return script_writer.python(self.actions) if self.actions else f"# {NOTHING}\n"

    def command_line(self) -> str:
        """As commands for a shell (sh, bash, zsh)."""
        return script_writer.shell(self.actions) if self.actions else f"# {NOTHING}\n"

    # ---- recording ------------------------------------------------------------------------------------------------

    def note(self, name: str, asked: dict[str, Any], value: Any) -> None:
        """Note an action, called with `asked`, when it has succeeded; `value` is what it returned, perhaps a job."""
        if name != "export":
            note = {"train": self._trained, "resume": self._trained, "predict": self._predicted}[name]
            self._when_done(value, lambda result: note(asked, result))
        elif (exported := self._exported(asked)) is not None:  # of what is chosen now, whatever is when it ends
            self._when_done(value, lambda files: self.add(exported) if files else None)

    def _when_done(self, value: Any, note: Callable[[Any], None]) -> None:
        if not isinstance(value, Job):
            if value is not None:  # else it was cancelled
                note(value)
            return

        def look(changed: Job) -> None:
            if value.outcome is not None:
                self._jobs.changed.disconnect(look, missing_ok=True)
                if isinstance(value.outcome, Done):
                    note(value.outcome.value)

        if value.outcome is None:
            self._jobs.changed.connect(look)
        else:
            look(value)

    def _trained(self, asked: dict[str, Any], value: Any) -> None:
        run = value[0] if isinstance(value, tuple) else value
        encoder = run.config.encoder
        trusted = asked["inputs"].encoder.trusted or (encoder is not None and self._choices.trusts(encoder.path))
        self.add(Trained(Path(run.folder).absolute(), run.config, trusted))

    def _predicted(self, asked: dict[str, Any], maps: Any) -> None:
        project = self._project
        if not maps or project.model is None:
            return
        inputs: Inputs = asked["inputs"]
        inputs = replace(inputs, tissue=inputs.tissue or self._tissue.in_use()).absolute()
        compute = asked["compute"] or Compute(self._choices.settings.device)
        done = {patch_map.slide_id for patch_map in maps}
        self.add(
            Predicted(
                project.model.path.absolute(),
                network_of(maps[0]),
                tuple(row for row in project.cohort if row.slide_id in done),
                asked["dense_stride"],
                inputs,
                replace(compute, workers=None, scheduler=None),  # they were of this moment
            )
        )

    def _exported(self, asked: dict[str, Any]) -> Exported | None:
        project, slides = self._project, asked.get("slides")
        if project.model is None:
            return None
        ids = [slides] if isinstance(slides, str) else slides
        network = project.network or "student"
        have = [row.slide_id for row in project.cohort if network in project.predictions.get(row.slide_id, {})]
        return Exported(
            project.model.path.absolute(),
            network,
            tuple(have if ids is None else (slide_id for slide_id in ids if slide_id in have)),
            Path(asked["out"]).absolute(),
            tuple(asked["formats"]),
            asked["threshold"],
            asked["inputs"].absolute(),
            tuple(self._chosen_colours()),
        )

    def _chosen_colours(self) -> list[tuple[str, RGB]]:
        usual = palette(len(self._project.classes))
        own = zip(self._project.classes, self._project.colours, usual, strict=True)
        return [(name, rgb) for name, rgb, plain in own if rgb != plain]

    @property
    def threshold(self) -> float:
        """The one shown, for an action that was called without."""
        return self._project.threshold


def recorded(action: Callable[Concatenate[Any, Given], Result]) -> Callable[Concatenate[Any, Given], Result]:
    """Mark an action (train, resume, predict, export) of an object with a `log`: what it did is noted there."""
    known = signature(action)

    @wraps(action)
    def done(self: Any, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        given = known.bind(self, *args, **kwargs)
        given.apply_defaults()
        asked = {name: value for name, value in given.arguments.items() if name != "self"}
        if asked.get("threshold", 0) is None:
            asked["threshold"] = self.log.threshold
        value = action(self, *args, **kwargs)
        self.log.note(action.__name__, asked, value)
        return value

    return done
