"""`draw-sample` and `recalibrate`: a random sample of a new cohort's patches, and the bias that it gives a model."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import BundleError, CohortError, SettingsError
from ...core.events import Event, Progress, Task
from ...core.geometry import PatchGrid
from ...core.label_map import class_of_labels
from ...core.paths import PathLike
from ...core.recalibration import FEWEST, Recalibration, measure_sample, patch_logit, probability, with_biases
from ...mil.pu_learning import best_f1_threshold
from ...store.bundle import Bundle, load_bundle, rewrite_bundle
from ...store.corrections import cells_of
from ...store.files.outputs import Outputs
from ...store.maps.patch_map import PatchMap
from ...store.run import Run
from ...store.sample import Sample, SampledPatch, drawn, read_sample, write_sample
from ..threshold import check_threshold
from .export import maps_of

MOST = 10_000  # patches that a person could be asked to label

Source = PathLike | Run | PatchMap | Sequence[PatchMap]


def draw_sample(
    source: Source, out: PathLike, count: int = 50, *, seed: int = 0, overwrite: bool = False
) -> Generator[Event, None, Path]:
    """Draw patches at random from all patches of predicted slides, for a person to label.

    Parameters
    ----------
    source
        A run (its predictions), a patch map's folder, or patch maps: the new cohort, and nothing else.
    out
        Gets a CSV `slide_id,x,y,label,sample`: the centres of the patches in level-0 pixels, in the order in which they
        were drawn, without labels. Labels are given from the top; `recalibrate` reads them.
    count
        50 to 100 say something; a finding of one patch in ten needs more.
    seed
        Another seed draws other patches.
    overwrite
        Replace a file that this program did not write, or that was changed since: labels would be lost.

    Returns `out`.
    """
    if not FEWEST <= count <= MOST:
        raise SettingsError(f"A sample has {FEWEST} to {MOST:,} patches, not {count}.", field="count")
    maps = yield from _opened(source)
    total = sum(int(own.scored.sum()) for own in maps.values())
    if total < count:
        raise SettingsError(
            f"The slides have {total} patches, which are fewer than the {count} to draw.", field="count"
        )
    patches = tuple(own for _, _, own in _places(maps, drawn(count, total, seed)))
    read = [own.path for own in maps.values() if own.path is not None]
    with Outputs(read, overwrite, "drawing a sample") as outputs:
        outputs.claim([out])
        return write_sample(Path(out), Sample(patches, seed, total), outputs.writing)


def recalibrate(
    source: Source,
    sample: PathLike,
    out: PathLike | None = None,
    *,
    threshold: float | None = None,
    label_map: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Generator[Event, None, Recalibration]:
    """Measure a calibrated model on a labelled random sample of a new cohort, and re-calibrate it to that cohort.

    Nothing changes unless `out` is given. A promise that was made for the model (`predict`) is not one for the
    re-calibrated model, whose probabilities are others: it has to be asked for again.

    Parameters
    ----------
    source
        The predictions that the sample was drawn from.
    sample
        The file of `draw_sample` with labels: class names of the model ("a;b" where a patch has several findings).
        Patches at its end may be without.
    out
        Gets the model with the bias, as a bundle. Its threshold is the one with the best expected F1 on these slides.
    threshold
        At which the recall is measured. None: that of the predictions.
    label_map
        Class of a label that is no class of the model, as for `evaluate`.
    overwrite
        Replace a bundle in `out`.
    """
    if threshold is not None:
        check_threshold(threshold)
    maps = yield from _opened(source)
    first = next(iter(maps.values()))
    if "calibration" not in first.model:
        raise SettingsError(
            "Only the predictions of a calibrated student can be re-calibrated: it has an offset that can be shifted."
        )
    asked = read_sample(Path(sample))
    rows = _labelled(asked, Path(sample))
    present = _findings([row.label for row in rows], first, label_map, Path(sample))
    slide, logit = _values(maps, asked, rows, Path(sample))
    own = first.threshold if threshold is None else threshold
    report = Recalibration(
        {
            name: measure_sample(slide[:, index], logit[:, index], present[:, index], own)
            for index, name in enumerate(first.classes[1:])
        }
    )
    if out is not None:
        bundle = _bundle_of(first)
        if bundle.config.calibration is None:
            raise BundleError("is not calibrated, but its predictions are: predict again", file=bundle.path)
        calibration = with_biases(bundle.config.calibration, report.biases, _threshold(maps, report.biases))
        calibration = calibration.model_copy(update={"n_sample": report.n, "biases": report.biases})
        rewrite_bundle(bundle, Path(out), calibration, overwrite=overwrite)  # its card says what it rests on
    return report


def _opened(source: Source) -> Generator[Event, None, dict[str, PatchMap]]:
    """Open all maps, which must be complete and of one model."""
    found: dict[str, PatchMap] = {}
    named = maps_of(source)
    for done, (name, own) in enumerate(sorted(named.items())):
        yield Progress(Task.READ_PREDICTIONS, done, len(named))
        found[name] = own if isinstance(own, PatchMap) else PatchMap.open(own)
        if not found[name].is_complete:
            raise BundleError(f"{name}: is not predicted to its end: predict again, it goes on from there")
    models = {(own.model.get("weights_sha256"), own.model.get("calibration")) for own in found.values()}
    if len(models) > 1:
        raise SettingsError("The predictions are of several models. A sample is of one: predict all slides with it.")
    return found


def _places(
    maps: Mapping[str, PatchMap], numbers: Sequence[int]
) -> Iterator[tuple[PatchMap, tuple[int, ...], SampledPatch]]:
    """Yield map, cell and place of the patches with these numbers, counted over all scored patches of all maps."""
    cells = {name: np.flatnonzero(own.scored) for name, own in maps.items()}
    ends = np.cumsum([len(own) for own in cells.values()])
    names = list(maps)
    for number in numbers:
        at = int(np.searchsorted(ends, number, side="right"))
        patch_map = maps[names[at]]
        flat = cells[names[at]][number - (ends[at - 1] if at else 0)]
        cell = tuple(int(part) for part in np.unravel_index(flat, patch_map.patches.shape))
        patches = patch_map.patches
        if isinstance(patches, PatchGrid):
            y, x = (patches.corners_of(np.array([cell]))[0] + (patches.side - 1) / 2).tolist()
        else:
            y, x = patches.centres[cell[0]].tolist()
        yield patch_map, cell, SampledPatch(patch_map.slide_id, y, x)


def _labelled(sample: Sample, path: Path) -> list[SampledPatch]:
    """Return the labelled patches from the top. What is left out there may be what is hard to label."""
    labels = [own.label != "" for own in sample.patches]
    n = labels.index(False) if False in labels else len(labels)
    if any(labels[n:]):
        raise CohortError(
            f"{path}: row {n + 1} has no label, and later ones have: patches that are left out make the rest no random "
            "sample. Label from the top"
        )
    if n < FEWEST:
        raise CohortError(f"{path}: {n} patches are labelled: at least {FEWEST} are needed, and 50 say more")
    return list(sample.patches[:n])


def _findings(
    labels: Sequence[str], patch_map: PatchMap, label_map: Mapping[str, str] | None, path: Path
) -> np.ndarray:
    """Return (n, F) bool: which findings a person saw in each patch."""
    classes = patch_map.classes
    parts = [[part.strip() for part in label.split(";")] if patch_map.multi_label else [label] for label in labels]
    index = class_of_labels({part for own in parts for part in own}, classes, label_map, path)
    if unknown := sorted(label for label, number in index.items() if number == UNLABELLED):
        raise CohortError(f"{path}: unknown label {unknown[0]!r}: the model has the classes {', '.join(classes)}")
    present = np.zeros((len(labels), len(classes)), bool)
    for row, own in enumerate(parts):
        present[row, [index[part] for part in own]] = True
        if len(own) > 1 and present[row, 0]:
            raise CohortError(f"{path}: the label {labels[row]!r} says {classes[0]} and a finding at once")
    return present[:, 1:]


def _values(
    maps: Mapping[str, PatchMap], sample: Sample, rows: Sequence[SampledPatch], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return P(slide) and the patch's own log-odds, (n, F) each.

    `CohortError` unless these patches are those that were drawn at random.
    """
    total = sum(int(own.scored.sum()) for own in maps.values())
    if total != sample.total:
        raise CohortError(
            f"{path}: was drawn from {sample.total} patches, and the predictions have {total}: give those it was drawn "
            "from, or draw another"
        )
    slide, logit = [], []
    places = _places(maps, drawn(len(sample.patches), total, sample.seed))
    for row, (patch_map, cell, place) in zip(rows, places, strict=False):
        if row.slide_id != place.slide_id or cells_of(patch_map.patches, np.array([[row.y, row.x]])) != [cell]:
            raise CohortError(
                f"{path}: the patch at x={row.x:g}, y={row.y:g} of {row.slide_id!r} was not drawn: keep the rows as "
                "they are"
            )
        of_slide, p = _probabilities(patch_map)
        slide.append(of_slide)
        logit.append(patch_logit(of_slide, p[cell]))
    return np.array(slide), np.array(logit)


def _probabilities(patch_map: PatchMap) -> tuple[np.ndarray, np.ndarray]:
    """Return P(slide) (F,) and the probabilities of the patches (…, F) of the findings."""
    bag, p = patch_map.bag_probability, patch_map.probability[..., 1:]
    return (np.ones(p.shape[-1]) if bag is None else np.array(bag[1:])), p


def _threshold(maps: Mapping[str, PatchMap], biases: Sequence[float]) -> float:
    every = []
    for own in maps.values():
        slide, p = _probabilities(own)
        logit = patch_logit(slide, p[own.scored])
        every += [probability(of, logit[:, index], biases[index]) for index, of in enumerate(slide)]
    return float(min(1.0, best_f1_threshold(np.concatenate(every))))


def _bundle_of(patch_map: PatchMap) -> Bundle:
    """Load the model that made a map: of the run that holds it, else from where it was.

    `BundleError` if it is not there, or is another one.
    """
    place = Path(patch_map.model["path"])
    if patch_map.path is not None and Run.is_run(patch_map.path.parent.parent):  # runs are moved and copied
        place = Run.open(patch_map.path.parent.parent).bundle(patch_map.model["network"])
    bundle = load_bundle(place)
    identity = {key: bundle.identity.get(key) for key in ("weights_sha256", "calibration")}
    if any(patch_map.model.get(key) != value for key, value in identity.items()):
        raise BundleError("is not the model that made these predictions: predict again", file=bundle.path)
    return bundle
