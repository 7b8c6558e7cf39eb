"""Regions that a user draws on slides, each with what it says of the finding: none here, somewhere here, all of this.

They are kept as GeoJSON, `<slide_id>.geojson` in a folder beside the cohort: what `distill2label train --region-labels`
takes and QuPath opens. `canvas.region_layer` shows them, and drawing there changes them. No Qt, no layers.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from psygnal import Signal

from ...core.bag import REGION_WORDS
from ...core.errors import Distill2LabelError, OutputError
from ...store.files.atomic import Writing, write_text
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_name
from ...store.tables.points import CENTRE_OF_PIXEL, find_for_slide, read_points
from ..messages import reason_of
from ..runner.debounce import Debounce
from ..runner.reader import BackgroundReader
from .latest_writer import LatestWriter
from .project import Project
from .recovery import folder_of_slides

REGIONS = "regions"  # of the keys of what is read here, and of the folder's name
AFTER_DRAWING = 400  # ms until it is kept
SAYS = tuple(REGION_WORDS.values())


@dataclass(frozen=True, eq=False)
class DrawnRegion:
    """A region: `outline` (n, 2) float (y, x) in level-0 px, (0, 0) the centre of the first pixel, and its `label`.

    The label is one of `SAYS`, where there are several findings after one of them: "tumour: all of this".
    """

    outline: np.ndarray
    label: str

    def same(self, other: "DrawnRegion") -> bool:
        """Whether both are the same."""
        return self.label == other.label and np.array_equal(self.outline, other.outline)


Regions = tuple[DrawnRegion, ...]
PlacedRegions = Mapping[str, tuple[Path, Regions]]  # file and regions, by slide id


class DrawnRegions:
    """The regions of a project's slides.

    Attributes
    ----------
    by_slide
        Regions by slide id, of slides that have some.
    """

    changed = Signal(object)  # the regions of a slide (its id), or of all (None)

    def __init__(self, project: Project, reader: BackgroundReader, has_window: bool = True) -> None:
        self._project, self._reader = project, reader
        self.by_slide: dict[str, Regions] = {}
        self._looked: set[str] = set()  # slides whose kept regions are in `by_slide`
        self._written: dict[str, tuple[Path, Regions]] = {}  # what is in the files
        self._own: set[Path] = set()  # files that were read or written here; threads see it
        self._writer = LatestWriter[PlacedRegions](reader, (REGIONS, "keep"))
        self._keeping = Debounce(self.flush_soon, AFTER_DRAWING, has_window)
        project.cohort_closing.connect(self.flush)
        project.cohort_opened.connect(self._read_all)
        project.events.cohort.connect(self._look)

    @property
    def folder(self) -> Path:
        """Where they are kept: beside the cohort, until that is written among the unsaved things."""
        path, folder = self._project.cohort_path, self._project.work_folder
        if path and folder:
            return folder / f"{path.stem}.{REGIONS}"
        return folder_of_slides((row.path for row in self._project.cohort), REGIONS)

    @property
    def count(self) -> int:
        """Regions of all slides of the list."""
        return sum(len(self.by_slide.get(row.slide_id, ())) for row in self._project.cohort)

    def set(self, slide_id: str, regions: Regions) -> bool:
        """These are the regions of a slide now, saved soon. Return whether they are others than before."""
        former = self.by_slide.get(slide_id, ())
        if len(former) == len(regions) and all(map(DrawnRegion.same, former, regions)):
            return False
        self.by_slide = {**self.by_slide, slide_id: regions}
        self._keeping.start()
        self.changed.emit(slide_id)
        return True

    def in_use(self) -> Path | None:
        """Return the folder for a training, with what is drawn. None without a region.

        `Distill2LabelError`, `OSError` if regions cannot be read or kept: a training must not lack them unnoticed.
        """
        self._keeping.stop()
        if unread := self._unread():
            self._reader.cancel((REGIONS, "read"))
            self._take_read(unread, read_regions(self.folder, unread) if self.folder.is_dir() else {})
        self._write_now()
        return self.folder if self.count else None

    # ---- files ----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Keep now what was drawn; what stands against it is told."""
        self._keeping.stop()
        try:
            self._write_now()
        except (Distill2LabelError, OSError) as error:
            self._failed(error)

    def flush_soon(self) -> None:
        """Keep what was drawn, in the background."""
        if pending := self._pending():
            self._writer.request(self._write_to(pending), self._written.update, self._failed)

    def _write_now(self) -> None:
        if pending := self._pending():
            self._written.update(self._writer.flush(self._write_to(pending)))

    def _write_to(self, pending: PlacedRegions) -> Callable[[], PlacedRegions]:
        outputs = Outputs([row.path for row in self._project.cohort], doing="drawing regions")
        return partial(_write, pending, self._own, outputs.writing)

    def _pending(self) -> PlacedRegions:
        """What no file holds yet, by slide id; without slides whose file was not read yet."""
        if not self.by_slide:
            return {}
        folder, listed = self.folder, {row.slide_id for row in self._project.cohort} & self._looked
        wanted = {
            slide_id: (folder / f"{safe_name(slide_id)}.geojson", regions)
            for slide_id, regions in self.by_slide.items()
            if slide_id in listed
        }
        return {slide_id: own for slide_id, own in wanted.items() if self._written.get(slide_id) != own}

    def _failed(self, error: Exception) -> None:
        self._project.tell(f"The regions are not saved. {reason_of(error)}")

    def _read_all(self) -> None:
        """Read the regions of other slides, which have just come."""
        self._reader.cancel_all(REGIONS)
        self.by_slide, self._written, self._looked, self._own = {}, {}, set(), set()
        self.changed.emit(None)
        self._look()

    def _unread(self) -> list[str]:
        return [row.slide_id for row in self._project.cohort if row.slide_id not in self._looked]

    def _look(self) -> None:
        """Read the regions of slides that are new in the list."""
        if (ids := self._unread()) and (folder := self.folder).is_dir():
            self._reader.request(
                (REGIONS, "read"), partial(read_regions, folder, ids), partial(self._take_read, ids), self._not_read
            )
        else:
            self._looked.update(ids)

    def _not_read(self, error: Exception) -> None:
        self._project.tell(f"The regions could not be read. {reason_of(error)}")

    def _take_read(self, slide_ids: list[str], found: PlacedRegions) -> None:
        """Regions that were drawn meanwhile come after those that were there."""
        self._looked.update(slide_ids)
        self._written.update(found)
        self._own.update(path for path, _ in found.values())
        read = {slide_id: regions + self.by_slide.get(slide_id, ()) for slide_id, (_, regions) in found.items()}
        self.by_slide = {**self.by_slide, **read}
        if read:
            self._keeping.start()
            self.changed.emit(None)


def geojson_of(regions: Regions) -> str:
    """Return regions as GeoJSON of QuPath's annotations: (x, y) from the corner of the first pixel."""
    features = []
    for region in regions:
        ring = (region.outline[:, ::-1] + CENTRE_OF_PIXEL).tolist()
        place = uuid.uuid5(uuid.NAMESPACE_OID, f"{region.label} {ring}")
        features.append(
            {
                "type": "Feature",
                "id": str(place),
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"objectType": "annotation", "classification": {"name": region.label}},
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features})


def read_regions(folder: Path, slide_ids: list[str]) -> dict[str, tuple[Path, Regions]]:
    """Read the regions of slides: file and regions by slide id. `CohortError` for a file that is none."""
    import shapely

    found: dict[str, tuple[Path, Regions]] = {}
    by_slide = read_points(folder, labelled=True)
    for slide_id in slide_ids:
        points = find_for_slide(by_slide, slide_id)
        if points is None:
            continue
        regions = tuple(
            DrawnRegion(np.array(part.exterior.coords)[:-1, ::-1] - CENTRE_OF_PIXEL, area.label)
            for area in points.areas
            if area.label is not None
            for part in shapely.get_parts(area.outline).tolist()
        )
        found[slide_id] = (folder / f"{safe_name(slide_id)}.geojson", regions)
    return found


def _write(placed: PlacedRegions, own: set[Path], writing: Writing) -> PlacedRegions:
    """Write regions; a file that is none of our `own` stays as it is."""
    for path, regions in placed.values():
        if path.exists() and path not in own:
            raise OutputError(f"{path}: holds regions of an earlier time and is left alone", [path], "foreign")
        write_text(path, geojson_of(regions), writing)
        own.add(path)
    return placed
