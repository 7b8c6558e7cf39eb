"""The ground truth, for `evaluate` and `compare` alone: labelled points and areas, or mask images."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..core.bag import UNLABELLED
from ..core.errors import CohortError
from ..core.events import drain
from ..core.geometry import Mpp, PatchGrid, PatchPoints, mean_mpp
from ..core.label_map import (
    COVERAGE,
    OTHERS,
    check_label_map,
    check_mapped_classes,
    class_of_labels,
    is_left_out,
)
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..core.text import list_briefly
from ..slides.annotations import object_name
from ..slides.label_mask import ZARR, is_label_mask, read_label_mask, scale_to
from ..store.maps.patch_map import PatchMap
from ..store.tables.mark_table import find_tables
from ..store.tables.points import (
    CENTRE_TOLERANCE,
    PatchLabels,
    Points,
    Tally,
    find_for_slide,
    is_centred,
    label_patches,
    one_each,
    read_points,
)
from .corrections import check_coverage, describe_marks, unused_marks

MASK_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png", ".bmp", ".ome.zarr")
MANY = 8  # number of points that do not lie in one corner of a slide by chance
BY_CHANCE = 0.1  # share of the marks that may hit a patch by chance if all are misplaced
SMALL = 0.7  # µm/px below which a whole slide in µm fits into a small corner
REGION = 4096  # px of a mask that are read at once
NO_CLASS = 255  # as the class of a pixel, in a byte
Patches = PatchGrid | PatchPoints


class Truth(Protocol):
    """The ground truth of the patches of some slides."""

    def __contains__(self, slide_id: str) -> bool: ...

    def check(self, classes: tuple[str, ...], slide_ids: Sequence[str], complete: bool) -> list[Notice]:
        """Return notices on how the truth is read. `CohortError` for labels that do not fit the classes.

        This is called before any slide is read. `complete`: whether a patch without a mark is negative.
        """

    def of(self, slide_id: str, patches: Patches, classes: tuple[str, ...]) -> np.ndarray:
        """Return (n,) int64 class of each scored patch, `UNLABELLED` without ground truth."""

    def known(
        self, slide_id: str, patches: Patches, classes: tuple[str, ...], complete: bool
    ) -> tuple[np.ndarray, Tally]:
        """Return the same, and how the marks were used. `complete` as for `check`. It does not hold for slides without
        ground truth or without a usable mark, nor for patches with a mark that is of no class or that QuPath ignores.
        """


class PointTruth:
    """Labelled points and areas by slide (`store.tables.points.label_patches`).

    A label that is no class is not used.
    """

    def __init__(
        self,
        by_slide: Mapping[str, Points],
        label_map: Mapping[str, str] | None = None,
        coverage: float = COVERAGE,
        source: PathLike = "the truth",
    ) -> None:
        self.by_slide, self.label_map, self.coverage, self.source = by_slide, label_map or {}, coverage, source
        self._index = lru_cache(self._index_of)

    def __contains__(self, slide_id: str) -> bool:
        return find_for_slide(self.by_slide, slide_id) is not None

    def _index_of(self, classes: tuple[str, ...]) -> dict[str, int]:
        labels = {label for points in self.by_slide.values() for label in points.named}
        check_label_map(self.label_map, labels, classes, self.source)
        return class_of_labels(labels, classes, self.label_map, self.source)

    def check(self, classes: tuple[str, ...], slide_ids: Sequence[str], complete: bool) -> list[Notice]:
        index = self._index(classes)
        others = sorted(
            label for label, i in index.items() if label and i == UNLABELLED and not is_left_out(label, self.label_map)
        )
        named = set(index.values())
        missing = None
        if others and not any(i > 0 for i in named):
            missing, example = "a finding", classes[1]
        elif others and 0 not in named and not complete:
            missing, example = repr(classes[0]), classes[0]
        if missing:
            is_are = "is" if len(others) == 1 else "are"
            raise CohortError(
                f"no label says {missing}, and {list_briefly(others)} {is_are} no class of the model "
                f"({', '.join(classes)}). Say what they are; * stands for all others.",
                file=self.source,
                remedy=_map_label(others[0], example),
            )
        return []

    def of(self, slide_id: str, patches: Patches, classes: tuple[str, ...]) -> np.ndarray:
        return self._labels(slide_id, patches, classes).classes

    def known(
        self, slide_id: str, patches: Patches, classes: tuple[str, ...], complete: bool
    ) -> tuple[np.ndarray, Tally]:
        found = self._labels(slide_id, patches, classes)
        known = found.classes.copy()
        if complete and slide_id in self and not is_centred(patches) and not found.tally.is_unusable:
            known[(known == UNLABELLED) & ~found.unclear] = 0
        return known, found.tally

    def points(self, slide_id: str) -> Points:
        """Return the marks on a slide."""
        found = find_for_slide(self.by_slide, slide_id)
        return Points(np.empty((0, 2)), np.empty(0, object)) if found is None else found

    def _labels(self, slide_id: str, patches: Patches, classes: tuple[str, ...]) -> PatchLabels:
        return label_patches(self.points(slide_id), patches, self._index(classes), len(classes), coverage=self.coverage)


class MaskTruth:
    """Mask images named by slide.

    Their values mean one of four things: 0 unknown, else 1 + class index, as in the masks of this program; the class
    names that a mask of this program holds; `label_map` (value -> class); or *no* and *yes* in binary masks (0 and 1,
    or 0 and 255, in all masks, with one finding). If the requested masks hold only 0 and 1, all others of the folder
    are read as well: a 2 in one of them means that 1 is the negative class.

    A patch has the class of most of its known pixels: a finding if findings have a share of at least `coverage` of
    them. A patch that is centred on a point has the class of the pixel there.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        label_map: Mapping[str, str] | None = None,
        coverage: float = COVERAGE,
        source: PathLike = "the masks",
    ) -> None:
        self.files, self.label_map, self.coverage, self.source = files, label_map or {}, coverage, source
        self._found: dict[int, Path] = {}  # values of masks without class names, and a file with each
        self._values = lru_cache(_Values.of)

    def __contains__(self, slide_id: str) -> bool:
        return find_for_slide(self.files, slide_id) is not None

    def check(self, classes: tuple[str, ...], slide_ids: Sequence[str], complete: bool) -> list[Notice]:
        files = [file for slide_id in slide_ids if (file := find_for_slide(self.files, slide_id)) is not None]
        asked = [self._values(file) for file in dict.fromkeys(files)]
        found = asked_for = _files_of_values(asked)
        labels = {label for one in asked for label in one.labels}
        is_unclear = found.keys() <= {0, 1} and any(str(value) not in self.label_map for value in found)
        if is_unclear or self.label_map.keys() - {OTHERS, *labels}:
            others = list(self._readable(file for file in self.files.values() if file not in files))
            labels.update(label for one in others for label in one.labels)
            if is_unclear:
                found = asked_for | _files_of_values(others)
        check_label_map(self.label_map, labels, classes, self.source)
        self._found = found
        for one in asked:
            self._meaning(one, classes)
        meaning = _meaning(found, classes, self.label_map)
        said = [f"{value} {_name(meaning[value], classes)}" for value in sorted(asked_for)]
        return [Notice(NoticeCode.MASK_VALUES, {"values": said})] if said else []

    def of(self, slide_id: str, patches: Patches, classes: tuple[str, ...]) -> np.ndarray:
        file = find_for_slide(self.files, slide_id)
        if file is None:
            return np.full(len(patches.corners), UNLABELLED, np.int64)
        mask = read_label_mask(file)
        reduced = scale_to(file, mask.pixels.shape, patches.slide_shape)
        values, table = self._classes(file, classes)
        direct = b""
        if mask.pixels.dtype == np.uint8 and len(classes) < NO_CLASS:
            by_value = np.full(256, NO_CLASS, np.uint8)
            by_value[values] = np.where(table == UNLABELLED, NO_CLASS, table)
            direct = by_value.tobytes()

        def known(top: int, left: int, bottom: int, right: int) -> np.ndarray:
            """Return the class of each pixel of a region; one that is none where it is unknown."""
            region = mask.pixels.read(top, left, bottom - top, right - left)
            if direct:  # many times as fast as numpy
                return np.frombuffer(region.tobytes().translate(direct), np.uint8).reshape(region.shape)
            return table[np.searchsorted(values, region)]

        if is_centred(patches):
            start = ((patches.centres + 0.5) / reduced).astype(np.int64).clip(0, np.subtract(mask.pixels.shape, 1))
            stop = start + 1
        else:
            # Pixels whose centre lies in the patch; of a patch smaller than a pixel the one that holds its own.
            start, stop = (np.ceil((patches.corners + end) / reduced - 0.5) for end in (0, patches.side))
            middle, narrow = ((patches.corners + patches.side / 2) / reduced).astype(np.int64), start >= stop
            start, stop = (
                np.where(narrow, middle + more, end).astype(np.int64) for more, end in ((0, start), (1, stop))
            )
            start, stop = start.clip(0, mask.pixels.shape), stop.clip(0, mask.pixels.shape)
        truth = np.empty(len(start), np.int64)
        for which in _by_region(start):  # so that memory does not grow with the mask
            (top, left), (bottom, right) = start[which].min(0), stop[which].max(0)
            region, low, high = known(top, left, bottom, right), start[which] - (top, left), stop[which] - (top, left)
            for index, (y0, x0), (y1, x1) in zip(which.tolist(), low.tolist(), high.tolist(), strict=True):
                box = region[y0:y1, x0:x1]
                counts = np.array([np.count_nonzero(box == known_class) for known_class in range(len(classes))])
                truth[index] = _of_most(counts, self.coverage)
        return truth

    def known(
        self, slide_id: str, patches: Patches, classes: tuple[str, ...], complete: bool
    ) -> tuple[np.ndarray, Tally]:
        return self.of(slide_id, patches, classes), Tally()  # a mask marks unknown pixels itself

    def _classes(self, file: Path, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) values of a mask, ascending, and the int16 class of each, `UNLABELLED` where it is unknown."""
        found = self._values(file)
        meaning = self._meaning(found, classes)
        values = np.array(sorted(found.values))
        return values, np.array([meaning[value] for value in values.tolist()], np.int16)

    def _readable(self, files: Iterable[Path]) -> Iterator["_Values"]:
        """Yield the values of masks. Other pictures in the folder are skipped."""
        for file in files:
            with suppress(CohortError):
                yield self._values(file)

    def _meaning(self, mask: "_Values", classes: tuple[str, ...]) -> dict[int, int]:
        """Return the class index, or `UNLABELLED`, of each value of a mask."""
        if not mask.names:
            return _meaning(dict.fromkeys(mask.values, mask.file) | self._found, classes, self.label_map)
        index = class_of_labels(mask.names.values(), classes, self.label_map, mask.file)
        if stray := mask.values - mask.names.keys() - {0}:
            raise CohortError(f"{mask.file}: has the value {min(stray)}, which its list of classes does not name")
        return {value: index[name] for value, name in mask.names.items()} | {0: UNLABELLED}


class _Values(NamedTuple):
    """The values of a mask, and the class names that it holds."""

    file: Path
    values: set[int]
    names: Mapping[int, str]

    @classmethod
    def of(cls, file: Path) -> "_Values":
        mask = read_label_mask(file)
        return cls(file, drain(mask.pixels.values()), mask.classes)

    @property
    def labels(self) -> set[str]:
        """The labels of the mask that a label map can name."""
        return set(self.names.values()) or {str(value) for value in self.values}


def _files_of_values(masks: Iterable[_Values]) -> dict[int, Path]:
    """Return a file for each value of masks without class names."""
    found: dict[int, Path] = {}
    for mask in masks:
        if not mask.names:
            found = dict.fromkeys(mask.values, mask.file) | found
    return found


def _name(index: int, classes: Sequence[str]) -> str:
    return "unknown" if index == UNLABELLED else classes[index]


def read_truth(path: PathLike, label_map: Mapping[str, str] | None = None, coverage: float = COVERAGE) -> Truth:
    """Read a table `slide_id,x,y,label`, QuPath's GeoJSON of points and areas, a mask, or a folder of one kind of them.

    Parameters
    ----------
    label_map
        Class of each label that is no class of the model: label -> class, or -> '' to leave it out; `*` for all others.
    coverage
        Share of a patch that an area must cover to give the patch its class.
    """
    check_coverage(coverage)
    path = Path(path)
    is_zarr = path.suffix.lower() == ZARR
    if path.is_dir() and not is_zarr and not _has_marks(path):
        return MaskTruth(_masks_in(path), label_map, coverage, path)
    if is_zarr or path.name.lower().endswith(MASK_SUFFIXES):
        return MaskTruth({object_name(path): path}, label_map, coverage, path)
    return PointTruth(read_points(path, labelled=True), label_map, coverage, path)


def _masks_in(folder: Path) -> dict[str, Path]:
    """Return masks by slide. `CohortError` for two masks of one slide, unless one of them is of this program."""
    files = sorted(file for file in folder.iterdir() if file.name.lower().endswith(MASK_SUFFIXES))
    if not files:
        raise CohortError(f"{folder}: holds no mask image ({', '.join(MASK_SUFFIXES)})")
    names = {file: object_name(file) for file in files}
    counts = Counter(names.values())
    # This program writes pictures beside its masks.
    own = {name for file, name in names.items() if counts[name] > 1 and is_label_mask(file)}
    return one_each((name, file) for file, name in names.items() if name not in own or is_label_mask(file))


def _has_marks(folder: Path) -> bool:
    """Whether a folder holds annotations, or tables and no mask."""
    names = [file.name.lower() for file in folder.iterdir()]
    if any(name.endswith((".geojson", ".geojson.gz", ".xml")) for name in names):
        return True
    return bool(find_tables(folder)) and not any(name.endswith(MASK_SUFFIXES) for name in names)


def _by_region(start: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of places (n, 2) that lie in one square of the mask."""
    square = start // REGION
    order = np.lexsort(square.T[::-1])
    square = square[order]
    yield from np.split(order, 1 + np.flatnonzero((square[1:] != square[:-1]).any(1))) if len(order) else ()


def _meaning(values: Mapping[int, Path], classes: Sequence[str], label_map: Mapping[str, str]) -> dict[int, int]:
    """Return the class index, or `UNLABELLED`, of each value of masks without class names. `values` has a file each."""
    check_mapped_classes(label_map, classes)
    beside = values.keys() - {0}
    binary = beside in ({255}, {1} if 0 in values else None)
    result = {}
    for value, file in sorted(values.items()):
        name = label_map.get(str(value), label_map.get("*") if value > len(classes) else None)
        if name:
            result[value] = classes.index(name)
        elif name == "":
            result[value] = UNLABELLED
        elif binary and value and len(classes) > 2:
            raise CohortError(
                "The mask is binary, and the model has several findings. Say which is meant.",
                file=file,
                remedy=Remedy("set", "inputs.label_map", {str(value): classes[1]}),
            )
        elif binary:
            result[value] = int(value > 0)
        elif 0 <= value <= len(classes):
            result[value] = value - 1
        else:
            raise CohortError(
                f"The mask has the value {value}. Masks are 0 unknown, 1 {classes[0]}, 2 {classes[1]}, … up to "
                f"{len(classes)}. Say what it means.",
                file=file,
                remedy=_map_label(str(value), classes[1]),
            )
    return result


def _of_most(pixels: np.ndarray, coverage: float) -> int:
    """Return the class of a patch from its (C,) numbers of known pixels by class. A tie gives the higher class."""
    if not pixels.any():
        return UNLABELLED
    if pixels[1:].sum() >= coverage * pixels.sum() and pixels[1:].any():
        return len(pixels) - 1 - int(pixels[:0:-1].argmax())
    return 0


# ---- over several slides ---------------------------------------------------------------------------------------------


class TruePatches:
    """The true classes of the patches of several slides, and a report on the marks.

    Parameters
    ----------
    source
        The file or folder of the ground truth, for messages.
    complete
        Whether a grid patch without a mark is negative.
    """

    def __init__(
        self,
        truth: Truth,
        source: PathLike,
        classes: tuple[str, ...],
        complete: bool,
        label_map: Mapping[str, str] | None = None,
    ) -> None:
        self.truth, self.source, self.classes, self.complete = truth, source, classes, complete
        self.label_map = label_map or {}
        self._known: dict[str, np.ndarray] = {}
        self._tally = Tally()
        self._causes: list[str | None] = []  # by slide
        self._reported = False

    def check(self, slide_ids: Sequence[str], what: str) -> list[Notice]:
        """Return notices on how the truth is read, and on slides without ground truth.

        `CohortError` if no slide has any, or its labels do not fit the classes.
        """
        without = [slide_id for slide_id in slide_ids if slide_id not in self.truth]
        if len(without) == len(slide_ids):
            raise CohortError(
                f"The ground truth has no entry for any of the {len(slide_ids)} {what}. Check the slide ids.",
                file=self.source,
            )
        notices = self.truth.check(self.classes, slide_ids, self.complete)
        if without:
            notices.append(Notice(NoticeCode.TRUTH_MISSING, {"slides": without, "total": len(slide_ids)}))
        return notices

    def of(self, patch_map: PatchMap) -> np.ndarray:
        """Return (n,) int64 class of the scored patches of a slide. All networks of a run have the same patches."""
        slide_id, patches = patch_map.slide_id, patch_map.patches
        known = self._known.get(slide_id)
        if known is None or len(known) != len(patches.corners):
            known, tally = self.truth.known(slide_id, patches, self.classes, self.complete)
            self._known[slide_id] = known
            self._tally += tally
            if isinstance(self.truth, PointTruth) and len(points := self.truth.points(slide_id)):
                self._causes.append(likely_cause(points, patches, patch_map.slide.mpp))
        return known

    def report(self) -> list[Notice]:
        """Return notices on used and unused marks, once. `CohortError` if no mark could be used."""
        if self._reported:
            return []
        self._reported = True
        tally = self._tally
        patches = Counter(int(i) for known in self._known.values() for i in known[known != UNLABELLED])
        cause = next((cause for cause, n in Counter(self._causes).most_common(1) if 2 * n > len(self._causes)), None)
        marks = tally.counted + tally.too_small.total() + tally.elsewhere.total() + tally.outside.total()
        unused = unused_truth(tally, self.label_map, self.classes[0])
        by_chance = cause is not None and tally.counted < BY_CHANCE * marks
        if (marks and not tally.counted) or not patches or by_chance:
            why = cause or " ".join(notice.sentence for notice in unused) or "It marks nothing."
            labels = next((remedy for notice in unused if (remedy := notice.remedy)), None)
            raise CohortError(
                f"The ground truth has no entry for any patch. {why}",
                file=self.source,
                remedy=None if cause else labels,
            )
        misplaced = [Notice(NoticeCode.MARKS_MISPLACED, {"cause": cause})] if cause else []
        return [used_marks(tally, patches, self.classes), *unused, *misplaced]


def likely_cause(points: Points, patches: Patches, slide_mpp: Mpp | None) -> str | None:
    """Return why points may be misplaced: swapped axes, µm, another level. None if they seem right."""
    at = points.coordinates
    if not len(at):
        return None
    guesses = {"Are x and y swapped?": at[:, ::-1]}
    if slide_mpp is not None:
        guesses["Are they in µm? Level-0 pixels are needed."] = at / slide_mpp
    if is_centred(patches):
        guesses |= {
            f"Are they of a level reduced {2**k} times? Level-0 pixels are needed.": at * 2**k for k in range(1, 8)
        }
        score = partial(_share_at_centres, patches=patches)
    else:
        score = partial(_share_inside, patches=patches)
        fine = slide_mpp is not None and len(at) >= MANY and mean_mpp(slide_mpp) < SMALL
        if fine and (at <= np.array(patches.slide_shape) * slide_mpp).all():
            return "All points lie where they would if they were in µm. Level-0 pixels are needed."
    own = score(at)
    best, share = max(((name, score(guess)) for name, guess in guesses.items()), key=lambda item: item[1])
    return f"Most of its points do not lie right, and would otherwise. {best}" if share > 0.5 > own else None


def _share_inside(at: np.ndarray, patches: Patches) -> float:
    return float(((at >= -1) & (at <= patches.slide_shape)).all(axis=1).mean())


def _share_at_centres(at: np.ndarray, patches: PatchPoints) -> float:
    from scipy.spatial import cKDTree

    return float((cKDTree(patches.centres).query(at)[0] <= CENTRE_TOLERANCE).mean())


def used_marks(tally: Tally, patches: Mapping[int, int], classes: Sequence[str]) -> Notice:
    """Return the number of patches of each class, and of the marks they come from."""
    made = {name: patches.get(index, 0) for index, name in enumerate(classes)}
    return Notice(NoticeCode.MARKS_USED, {"patches": made, "marks": describe_marks(tally)})


def unused_truth(tally: Tally, label_map: Mapping[str, str], negative: str) -> list[Notice]:
    """Return a notice for each kind of unused mark: outside the slide, on no patch, too small, of no class."""
    notices = unused_marks(tally)
    others = {label: n for label, n in tally.no_class.most_common() if label and not is_left_out(label, label_map)}
    if others:
        notices.append(Notice(NoticeCode.MARKS_OF_OTHER_LABELS, {"labels": others, "negative": negative}))
    return notices


def _map_label(label: str, name: str) -> Remedy:
    """Return the remedy for a label that is no class: say which it is, or leave it out."""
    other = Remedy("clear", "inputs.label_map", {label: ""})
    return Remedy("set", "inputs.label_map", {label: name}, alternative=other)
