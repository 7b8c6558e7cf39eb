"""Writing what was predicted for other programs. No Qt."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from ...core.errors import OutputError, SettingsError
from ...core.inputs import Inputs
from ...core.paths import PathLike
from ..project.project import Project
from ..runner.jobs import Failure, Job, JobQueue, RetryOffer, Work
from . import requirements
from .log import ActionLog, recorded


class ExportActions:
    """Exports the labels of slides."""

    def __init__(self, project: Project, jobs: JobQueue, log: ActionLog) -> None:
        self._project, self._jobs, self.log = project, jobs, log

    @recorded
    def export(
        self,
        out: PathLike,
        formats: Sequence[str] = ("ome-tiff", "geojson", "csv", "png"),
        *,
        slides: str | Iterable[str] | None = None,
        threshold: float | None = None,
        inputs: Inputs = Inputs(),
        overwrite: bool = False,
        wait: bool = True,
    ) -> list[Path] | Job:
        """Write what the current model said of slides (None: all predicted ones), at the threshold shown.

        Of `inputs`: corrections, label_map, coverage.

        `overwrite` replaces files that this program did not write, or that were changed since; without it they are an
        `OutputError`.
        """
        project = self._project
        if missing := requirements.export(project):
            raise SettingsError(missing.problem)
        maps = project.maps([slides] if isinstance(slides, str) else slides)
        threshold, colours = project.threshold if threshold is None else threshold, project.colour_by_class

        def work() -> Work:
            from ...workflow.commands.export import export

            return export(maps, out, formats, threshold=threshold, inputs=inputs, colours=colours, overwrite=overwrite)

        def retry(outcome: Failure) -> RetryOffer:
            again = partial(self.export, out, formats, slides=slides, threshold=threshold, inputs=inputs, wait=False)
            in_the_way = isinstance(outcome.error, OutputError) and outcome.error.standing == "foreign"
            text = "Replace these files" if in_the_way else "Try again"
            return RetryOffer(text, lambda: again(overwrite=overwrite or in_the_way))

        def done(files: list[Path]) -> None:
            project.exported = tuple(files)

        return self._jobs.run("export", "Exporting", work, done, wait=wait, retry=retry)
