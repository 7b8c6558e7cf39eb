"""`predict`: a model over slides; patch labels out."""

import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import BundleError, SettingsError, SlideError
from ..core.events import Event, Failed, Finished, Notice
from ..core.geometry import PatchGrid, PatchPoints
from ..core.settings import GridSettings
from ..export import format_names, write
from ..mil.device import choose_device
from ..prediction.classifier import JudgedFeatures, PatchClassifier, judge_kept, with_encoder
from ..prediction.engine import walk
from ..slides.bags import lay_patches
from ..slides.mpp import LIMITS
from ..slides.registry import open_slide
from ..slides.slide import Slide
from ..store.bundle import ROLES, Bundle, is_bundle, load_bundle
from ..store.cohort import Cohort, CohortSlide
from ..store.files import file_signature, safe_name
from ..store.patchmap import PatchMap
from ..store.points import Points, read_points
from ..store.run import Run
from .bags import PathLike, centres_of
from .features import FeatureSource, opened_if_there, source_for

DEFAULT_FORMATS = ("ome-tiff", "geojson", "csv", "png")
SCALE_TOLERANCE = 1.05  # a slide may be coarser than the model's patches by this factor


def find_model(model: PathLike | Run | Bundle, role: str | None = None, device: str = "auto") -> Bundle:
    """The bundle meant by a run, a bundle's folder, or a bundle. A run's default is its student, else its teacher.

    `BundleError` if there is no such model.
    """
    if isinstance(model, Bundle):
        model.model.to(choose_device(device))
        return model
    if not isinstance(model, Run) and is_bundle(model):
        bundle = load_bundle(model, choose_device(device))
        if role not in (None, bundle.config.role):
            raise BundleError(
                f"{model}: is a {bundle.config.role}, not a {role}; leave out --model, or name the run's folder"
            )
        return bundle
    if not isinstance(model, Run) and not Run.is_run(model):
        raise BundleError(f"{model}: is neither a run nor a model bundle (no settings.json, no config.json)")
    run = model if isinstance(model, Run) else Run.open(model)
    for name in [role] if role else reversed(ROLES):
        if name in run.models:
            return load_bundle(run.bundle(name), choose_device(device))
    have = ", ".join(run.models) or "none"
    raise BundleError(f"{run.folder}: has no trained {role or 'model'} (it has: {have}); finish the run with --resume")


def predict(
    model: PathLike | Run | Bundle,
    slides: Cohort | Sequence[PathLike],
    out: PathLike | None = None,
    *,
    role: str | None = None,
    threshold: float = 0.5,
    mpp: float | None = None,
    centres: PathLike | None = None,
    tissue: PathLike | None = None,
    dense: int | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    device: str = "auto",
    encoder: PathLike | None = None,
    features: PathLike | None = None,
    trust: bool = False,
) -> Generator[Event, None, list[PatchMap]]:
    """Label the patches of `slides`.

    Parameters
    ----------
    model
        A run, a bundle, or the folder of either; `role` picks a run's model (student, teacher, mil).
    out
        Folder of the results in `formats`; None keeps them in memory only. Patch maps are kept in the run's
        `predictions/` where the model is a run's, else in `out`.
    threshold
        Probability from which on a patch is labelled with a class.
    mpp
        The slides' own µm/px; overrides their files.
    centres, tissue
        CSV or GeoJSON of points to centre patches on; GeoJSON of regions outside of which nothing is scored.
    dense
        Stride in the model's pixels, instead of the one the model was trained with.
    encoder
        Where a frozen encoder's file is now, if it has moved since training.
    features
        Folder of features, for a model of features: what is there is not computed again, what is not is kept there.
        None: the folder that training used. Slides with features there need no file.
    trust
        May an encoder's file be opened that can hold a program (TorchScript)?

    A slide that fails is reported (`Failed`); the others go on. An interrupted prediction of the same slide by the
    same model goes on where it stopped.
    """
    formats = format_names(formats)
    check_threshold(threshold)
    if mpp is not None and not LIMITS[0] <= mpp <= LIMITS[1]:
        raise SettingsError(
            f"--mpp {mpp:g} cannot be a slide's µm/px: give a number from {LIMITS[0]:g} to {LIMITS[1]:g}"
        )
    bundle = find_model(model, role, device)
    classifier = with_encoder(bundle, encoder, device, trust, features is not None)
    keep = _keep_in(bundle, out)
    job = _Prediction(
        classifier,
        _grid_of(bundle, dense),
        None if centres is None else read_points(centres),
        tissue,
        threshold,
        source_for(classifier, features, keep),
    )
    cohort = slides if isinstance(slides, Cohort) else Cohort.of_files(slides)
    maps = []
    for row in cohort:
        try:
            patch_map = yield from job.slide(row, mpp, keep)
            if out is not None:
                write(patch_map, out, formats, threshold)
        except SlideError as error:
            yield Failed(row.slide_id, str(error))
        else:
            maps.append(patch_map)
            yield Finished(row.slide_id, patch_map)
    return maps


def check_threshold(threshold: float) -> None:
    """`SettingsError` unless it is a probability."""
    if not 0 <= threshold <= 1:
        raise SettingsError(f"--threshold {threshold:g} is no probability: give a number from 0 to 1")


def _grid_of(bundle: Bundle, dense: int | None) -> GridSettings:
    """The grid the model was trained on, at the scale it was trained at."""
    update: dict[str, Any] = {"mpp": bundle.config.mpp}
    if dense is not None:
        if not 1 <= dense <= bundle.config.grid.patch_px:
            raise SettingsError(
                f"--dense {dense}: the stride must be 1 to {bundle.config.grid.patch_px} px (the patch side)"
            )
        update["stride_px"] = dense
    return bundle.config.grid.model_copy(update=update)


def _keep_in(bundle: Bundle, out: PathLike | None) -> Path | None:
    """Where patch maps are kept: with the run if the model is a run's, else with the results; None: in memory."""
    if out is None:
        return None
    run = bundle.path.parent
    return run / "predictions" if Run.is_run(run) else Path(out)


class _Prediction:
    """What all slides of one call share."""

    def __init__(
        self,
        classifier: PatchClassifier,
        grid: GridSettings,
        centres: dict[str, Points] | None,
        tissue: PathLike | None,
        threshold: float,
        source: FeatureSource | None,
    ) -> None:
        self.classifier, self.grid, self.tissue, self.threshold = classifier, grid, tissue, threshold
        self.source = source
        self.config = classifier.bundle.config
        self.centres = centres

    def slide(self, row: CohortSlide, mpp: float | None, keep: Path | None) -> Generator[Event, None, PatchMap]:
        if self.source is not None and self.source.has(row.slide_id):
            return (yield from self.of_features(row, mpp, keep))
        with open_slide(row.path, mpp or row.mpp) as slide:
            yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
            self.check_scale(slide)
            patches = lay_patches(slide, self.grid, centres_of(row.slide_id, self.centres), self.tissue)
            patch_map = self.map_at(keep and self.place(keep, row), patches, row, slide)
            if not patch_map.is_complete:
                phase = f"predicting {row.slide_id}"
                if self.source is None:
                    yield from walk(slide, patch_map, self.classifier, phase)
                else:
                    features = self.source.map_at(row.slide_id, slide, patches)
                    yield from judge_kept(features, patch_map, self.classifier, phase, "later")
                    sink = JudgedFeatures(features, patch_map, self.classifier)
                    yield from walk(slide, sink, self.source.encoder, phase)
                self.finish(patch_map)
        return patch_map

    def of_features(self, row: CohortSlide, mpp: float | None, keep: Path | None) -> Generator[Event, None, PatchMap]:
        """The map of a slide whose features somebody computed; they say where its patches lie. Its file may be gone."""
        with opened_if_there(row, mpp) as slide:
            if slide is not None:
                yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
            features = yield from self.source.read(row, slide)
            patch_map = self.map_at(keep and self.place(keep, row), features.patches, row, slide, features.signature)
        if not patch_map.is_complete:
            yield from judge_kept(features, patch_map, self.classifier, f"predicting {row.slide_id}", "lost")
            self.finish(patch_map)
        return patch_map

    def finish(self, patch_map: PatchMap) -> None:
        """Attention, contributions and the slide's own probability, which need all patches."""
        done = patch_map.done
        patch_map.finish(self.classifier.bag_probability(patch_map.score[done], patch_map.logit[done]))

    def place(self, keep: Path, row: CohortSlide) -> Path:
        """The folder of a slide's map; one that holds another file's map, of a slide of the same id, is left alone."""
        path = keep / f"{safe_name(row.slide_id)}.{self.config.role}.zarr"
        if not (path / "zarr.json").is_file():
            return path
        try:
            there = PatchMap.open(path).slide_path
        except BundleError:  # damaged or older: made anew
            return path
        if there in (None, str(row.path)):
            return path
        digest = hashlib.sha256(str(row.path).encode("utf-8", "surrogateescape")).hexdigest()[:6]
        return path.with_name(f"{safe_name(row.slide_id)}-{digest}.{self.config.role}.zarr")

    def map_at(
        self,
        path: Path | None,
        patches: PatchGrid | PatchPoints,
        row: CohortSlide,
        slide: Slide | None,
        signature: str | None = None,
    ) -> PatchMap:
        """The patch map to fill: the one already begun for the same patches, model and slide file, or a new one.

        `signature` of the features, where it was these that were predicted.
        """
        identity = self.classifier.bundle.identity | {"slide_signature": signature or file_signature(row.path)}
        slide_mpp = slide.mpp if slide is not None else row.mpp and (row.mpp, row.mpp)
        if path is not None and (path / "zarr.json").is_file():
            try:
                begun = PatchMap.open(path)
            except BundleError:
                pass  # damaged or older: made anew below
            else:
                same_place = (begun.slide_path, begun.slide_mpp) == (str(Path(row.path).absolute()), slide_mpp)
                if same_place and begun.fits(patches, self.config.classes, identity):
                    begun.set_threshold(self.threshold)
                    return begun
        return PatchMap.create(
            path,
            patches,
            self.config.classes,
            slide_id=row.slide_id,
            slide_path=row.path,
            slide_mpp=slide_mpp,
            model=identity,
            several=self.config.model.several,
            threshold=self.threshold,
        )

    def check_scale(self, slide: Slide) -> None:
        """`SlideError` if the slide does not hold the detail that the model was trained on."""
        if self.config.mpp is None or slide.mpp is None:
            return
        own = float(np.sqrt(slide.mpp[0] * slide.mpp[1]))
        if own > self.config.mpp * SCALE_TOLERANCE:
            raise SlideError(
                f"{slide.path}: has {own:.3g} µm/px, coarser than the model's {self.config.mpp:.3g} µm/px; "
                "if the file is wrong, give its µm/px with --mpp"
            )
