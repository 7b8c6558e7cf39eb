"""Other slides in place of those that are open, with all that goes with them; as one edit, where that can be undone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psygnal import Signal

from ...core.classes import RGB
from ...store.cohort import Cohort
from .autosave import Autosave
from .corrections import Corrections
from .project import Maps, Project
from .table_file import TableFile
from .tissue import Tissue


@dataclass(frozen=True)
class OpenSlides:
    """The slides of a table, and what goes with them: what another table takes the place of.

    Attributes
    ----------
    run
        The run that brought them.
    tissue
        Files of tissue masks by slide id, and whether they are used; None: of slides that come for the first time.
    token
        Names what autosave keeps of them while they are in no table.
    """

    cohort: Cohort
    saved: Cohort
    table: TableFile
    run: Path | None = None
    colours: Mapping[str, RGB] = field(default_factory=dict)
    current: str | None = None
    predictions: Mapping[str, Maps] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    corrections: Path | None = None
    tissue: tuple[dict[str, Path], bool] | None = None
    token: str | None = None


class SlideSwap:
    """Puts slides in the place of others, and these back."""

    reopened = Signal(str)  # id of the slide that was the current one when its slides were last here

    def __init__(self, project: Project, corrections: Corrections, tissue: Tissue, autosave: Autosave) -> None:
        self._project, self._corrections, self._tissue, self._autosave = project, corrections, tissue, autosave

    def start(self, slides: OpenSlides) -> None:
        """Slides in place of none: what was undone or selected of these is gone, and nothing is unsaved."""
        self._project.history.clear()  # first: what autosave restores at once is an edit of these slides
        self._put(slides)

    def replace(self, slides: OpenSlides, text: str) -> None:
        """Other slides in place of these, as one edit: undo brings these back with all that went with them."""
        history, there = self._project.history, [self._now()]

        def swap() -> None:
            now = self._now()
            self._put(there[0])
            there[0] = now

        history.clear()
        if len(there[0].cohort):
            history.push(text, swap, swap)
        self._put(slides)  # last, as above

    def _now(self) -> OpenSlides:
        project, tissue = self._project, self._tissue
        return OpenSlides(
            project.cohort, project.saved_cohort, project.table, project.run_of_slides, project.chosen_colours,
            project.current, project.predictions, project.failures, self._corrections.path,
            (dict(tissue.files), tissue.use), self._autosave.token,
        )  # fmt: skip

    def _put(self, slides: OpenSlides) -> None:
        project, autosave = self._project, self._autosave
        autosave.leave(slides.token)
        project.cohort_closing.emit()
        project.drop_removed()
        project.change(
            current=None, cohort=slides.cohort, saved_cohort=slides.saved, table=slides.table,
            run_of_slides=slides.run, chosen_colours=slides.colours, selected=(), predictions=slides.predictions,
            failures=slides.failures,
        )  # fmt: skip
        project.cohort_opened.emit()
        if slides.tissue is not None:
            self._tissue.take(*slides.tissue)
        if slides.corrections is not None:
            autosave.load_corrections(slides.corrections)
        if slides.current is not None:
            self.reopened.emit(slides.current)
