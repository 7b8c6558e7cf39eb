"""A random sample of a new cohort's patches, which a person labels one after the other, and its file. No Qt.

Its labels are no corrections: they say how good a model is on slides that it has not seen, and train nothing.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from psygnal import Signal

from ...core.recalibration import Recalibration
from ...store.files.outputs import Outputs
from ...store.sample import Sample, SampledPatch, with_label, write_sample
from ..runner.reader import BackgroundReader
from .latest_writer import LatestWriter
from .project import Project


class RandomSample:
    """The sample that is being labelled, from its first patch on.

    Attributes
    ----------
    path
        Its file, which `distill2label recalibrate` reads too; None while there is no sample.
    sample
        The patches with their labels, in the order in which they were drawn.
    slide_ids
        The slides that it was drawn from.
    position
        Index of the patch that is shown to be labelled; None while none is.
    report
        What the labels say of the model, once it has been asked for; None after another label.
    """

    changed = Signal()

    def __init__(self, project: Project, reader: BackgroundReader) -> None:
        self._project = project
        self.path: Path | None = None
        self.sample: Sample | None = None
        self.slide_ids: tuple[str, ...] = ()
        self.position: int | None = None
        self.report: Recalibration | None = None
        self._outputs = Outputs()
        self._writer = LatestWriter[Path](reader, "sample")

    @property
    def patches(self) -> tuple[SampledPatch, ...]:
        """The patches of the sample; none without one."""
        return () if self.sample is None else self.sample.patches

    @property
    def n_labelled(self) -> int:
        """Patches with a label, from the first one on."""
        return next((at for at, own in enumerate(self.patches) if not own.label), len(self.patches))

    @property
    def current(self) -> SampledPatch | None:
        """The patch that is shown to be labelled."""
        return None if self.position is None else self.patches[self.position]

    def begin(self, path: Path, sample: Sample, slide_ids: tuple[str, ...]) -> None:
        """Label this sample from now on. Its file is ours to write, as long as nobody else changes it."""
        self.path, self.sample, self.slide_ids = path.absolute(), sample, slide_ids
        self.position = self.report = None
        self._writer.clear()
        read = [row.path for row in self._project.cohort] + [self._project.cohort_path or ""]
        self._outputs = Outputs([own for own in read if own], doing="labelling a sample")
        self._outputs.adopt(self.path)
        self.changed.emit()

    def clear(self) -> None:
        """There is no sample any more; its file stays."""
        self.path = self.sample = self.position = self.report = None
        self.slide_ids = ()
        self._writer.clear()
        self.changed.emit()

    def go_to(self, position: int | None) -> None:
        """Show a patch to be labelled: one with a label, or the first without; None: none."""
        if position is not None:
            position = max(0, min(position, self.n_labelled, len(self.patches) - 1))
        if position != self.position:
            self.position = position
            self.changed.emit()

    def label(self, label: str) -> None:
        """Label the patch that is shown. What was measured is not true any more."""
        if self.sample is not None and self.position is not None:
            self.sample = with_label(self.sample, self.position, label)
            self.report = None
            self._writer.change()
            self.changed.emit()

    def set_report(self, report: Recalibration) -> None:
        """Keep what the labels say of the model."""
        self.report = report
        self.changed.emit()

    # ---- the file -------------------------------------------------------------------------------------------------

    @property
    def unsaved(self) -> bool:
        """Is there a label that the file does not hold?"""
        return self._writer.unsaved

    def save_soon(self, failed: Callable[[Exception], None]) -> None:
        """Write the labels in the background."""
        if (write := self._write()) is not None:
            self._writer.request(write, lambda path: None, failed)

    def flush(self) -> None:
        """Write what the file does not hold yet. `OutputError` or `OSError` if it cannot be written."""
        if self.unsaved and (write := self._write()) is not None:
            self._writer.flush(write)

    def _write(self) -> Callable[[], Path] | None:
        if self.path is None or self.sample is None:
            return None
        return partial(write_sample, self.path, self.sample, self._outputs.writing)
