"""From one slide to its finished `PatchMap`: opened, checked, laid out, walked, kept."""

import hashlib
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from ..core.errors import BundleError, SlideError
from ..core.events import Event, ItemFailed, ItemStarted, Notice, Progress, Task
from ..core.geometry import Mpp, PatchGrid, PatchPoints, mean_mpp
from ..core.paths import canonical_path
from ..core.settings import GridSettings
from ..inference.classifier import FeatureAndMapSink, PatchClassifier, classify_features
from ..inference.cluster import Cluster
from ..inference.engine import PatchScorer, patches_per_block, score_blocks, score_slide
from ..inference.specs import ModelSpec, SlideSpec
from ..slides.patches import iter_place_patches
from ..slides.registry import open_slide
from ..slides.scale import SCALE_TOLERANCE
from ..slides.slide import Slide
from ..store.cohort import CohortSlide
from ..store.files.safe_names import safe_name
from ..store.files.signature import file_signature
from ..store.maps.patch_map import PatchMap, read_header
from ..store.tables.points import Points
from .bags import centres_of
from .features import FeatureSource, opened_if_there
from .tissue import Tissue, regions_of


class PatchMapper:
    """What all slides of one prediction share.

    Parameters
    ----------
    classifier, model_spec
        The model, and how other processes make it.
    grid
        How slides are cut.
    centres, tissue
        Points to centre patches on, by slide; a file of regions outside of which nothing is scored.
    threshold
        The one the maps take labels at.
    force
        Open what is no brightfield image too.
    cluster
        Workers to score on; None: threads of this process.
    source
        Where the features of slides come from, for a model of features. On a cluster only those that are there
        already are taken: what workers compute is not kept.
    """

    def __init__(
        self,
        classifier: PatchClassifier,
        model_spec: ModelSpec,
        grid: GridSettings,
        centres: dict[str, Points] | None = None,
        tissue: Tissue | None = None,
        threshold: float = 0.5,
        force: bool = False,
        cluster: Cluster | None = None,
        source: FeatureSource | None = None,
    ) -> None:
        self.classifier, self.model_spec, self.grid = model_spec.ready(classifier), model_spec, grid
        self.centres, self.tissue, self.threshold = centres, tissue, threshold
        self.force, self.cluster, self.source = force, cluster, source
        self.config = classifier.bundle.config

    def map(self, row: CohortSlide, mpp: float | None, keep: Path | None) -> Generator[Event, None, PatchMap]:
        """Score a slide; its map is kept in the folder `keep`, or in memory (None).

        `SlideError` if it cannot be opened or read, or does not fit. Where it is damaged in part, the rest is scored
        and a `ItemFailed` says where and how much is not.
        """
        if self.source is not None and self.source.has(row.slide_id):
            return (yield from self._of_features(row, mpp, keep))
        with self.open(row, mpp) as slide:
            yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
            patches = yield from self._lay(row, slide)
            check_patches(slide, patches)
            place = keep and place_of(keep, row, self.config.network)
            patch_map = self._begin(place, patches, row, slide.mpp, slide.mpp_from_user)
            if not patch_map.is_complete:
                yield ItemStarted(row.slide_id, patch_map)
                yield from self._walk(slide, patch_map, Progress(Task.PREDICT, item=row.slide_id))
                if not patch_map.scored.any():
                    raise SlideError(f"{slide.path}: {_damage(patch_map)}, nothing is left: copy the slide again")
                patch_map.finish(self._probabilities)
        if patch_map.damaged_regions:
            yield ItemFailed(
                row.slide_id, SlideError(f"{row.path}: {_damage(patch_map)}; the others are: copy the slide again")
            )
        return patch_map

    def _of_features(self, row: CohortSlide, mpp: float | None, keep: Path | None) -> Generator[Event, None, PatchMap]:
        """The map of a slide whose features somebody computed; they say where its patches lie. Its file may be gone."""
        with opened_if_there(row, mpp, self.force) as slide:
            if slide is not None:
                yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
            features = yield from self.source.read(row, slide)
            slide_mpp = slide.mpp if slide is not None else row.mpp and (row.mpp, row.mpp)
            assumed = slide.mpp_from_user if slide is not None else row.mpp is not None
        place = keep and place_of(keep, row, self.config.network)
        patch_map = self._begin(place, features.patches, row, slide_mpp, assumed, features.signature)
        if not patch_map.is_complete:
            yield ItemStarted(row.slide_id, patch_map)
            yield from classify_features(
                features, patch_map, self.classifier, Progress(Task.PREDICT, item=row.slide_id), "lost"
            )
            patch_map.finish(self._probabilities)
        return patch_map

    def open(self, row: CohortSlide, mpp: float | None) -> Slide:
        return open_slide(row.path, mpp or row.mpp, self.force)

    def _lay(self, row: CohortSlide, slide: Slide) -> Generator[Event, None, PatchGrid | PatchPoints]:
        if self.model_spec.dense:
            from ..inference.dense import dense_grid as make_grid
        else:
            make_grid = PatchGrid.over
        centres, regions = centres_of(row.slide_id, self.centres), regions_of(row.slide_id, self.tissue)
        return (yield from iter_place_patches(slide, self.grid, centres, regions, make_grid))

    def _walk(self, slide: Slide, patch_map: PatchMap, progress: Progress) -> Generator[Event, None, None]:
        patches = patch_map.patches
        scorer = self.model_spec.scorer(self.classifier, patches, slide)
        if self.cluster is None and self.source is not None:
            features = self.source.map_at(patch_map.slide_id, slide, patches)
            yield from classify_features(features, patch_map, self.classifier, progress, "later")
            sink = FeatureAndMapSink(features, patch_map, self.classifier)
            yield from score_slide(slide, sink, PatchScorer(self.source.encoder), progress)
        elif self.cluster is None:
            yield from score_slide(slide, patch_map, scorer, progress)
        else:
            pool = self.cluster.open_pool(SlideSpec.of(slide, patches, self.force))
            yield from score_blocks(patch_map, pool, progress, patches_per_block(scorer, patches))

    def _probabilities(self, logit: np.ndarray) -> list[float]:
        """(C,) logits of a slide -> (C,) probabilities."""
        model = self.classifier.bundle.model
        return model.probabilities(torch.from_numpy(logit).float()).tolist()

    # ---- where it is kept -----------------------------------------------------------------------------------------

    def _identity(self, signature: str) -> dict[str, object]:
        """What a map must be of to be gone on with."""
        identity = self.classifier.bundle.identity | {"slide_signature": signature}
        if self.model_spec.precision != "float32":
            identity["precision"] = self.model_spec.precision
        return identity

    def _begin(
        self,
        path: Path | None,
        patches: PatchGrid | PatchPoints,
        row: CohortSlide,
        slide_mpp: Mpp | None,
        mpp_from_user: bool,
        signature: str | None = None,
    ) -> PatchMap:
        """The patch map to fill: the one already begun for the same patches, model and slide file, or a new one.

        `signature` of the features, where it is these that are predicted.
        """
        identity = self._identity(signature or file_signature(row.path))
        if path is not None and (path / "zarr.json").is_file():
            try:
                begun = PatchMap.open(path)
                scale = (begun.slide_mpp, begun.mpp_from_user)
                same_place = (begun.slide_path, scale) == (canonical_path(row.path), (slide_mpp, mpp_from_user))
                if same_place and begun.can_resume(patches, self.config.classes, identity):
                    begun.check()
                    begun.set_threshold(self.threshold)
                    return begun
            except BundleError:
                pass  # damaged or older: made anew below
        return PatchMap.create(
            path,
            patches,
            self.config.classes,
            slide_id=row.slide_id,
            slide_path=row.path,
            slide_mpp=slide_mpp,
            mpp_from_user=mpp_from_user,
            model=identity,
            multi_label=self.config.model.several,
            threshold=self.threshold,
        )


def place_of(keep: Path, row: CohortSlide, role: str) -> Path:
    """The folder of a slide's map; one that holds another file's map, of a slide of the same id, is left alone."""
    path = keep / f"{safe_name(row.slide_id)}.{role}.zarr"
    if read_header(path).get("slide_path") in (None, canonical_path(row.path)):  # none: damaged, and made anew
        return path
    digest = hashlib.sha256(str(row.path).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return path.with_name(f"{safe_name(row.slide_id)}-{digest}.{role}.zarr")


def _damage(patch_map: PatchMap) -> str:
    """What could not be read of a slide, in words."""
    failed, asked = int(patch_map.failed.sum()), int(patch_map.patches.scored.sum())
    y, x, h, w = patch_map.damaged_regions[0]
    more = f" and {len(patch_map.damaged_regions) - 1} more" if len(patch_map.damaged_regions) > 1 else ""
    return (
        f"damaged at level-0 x={x}, y={y}, {w} × {h} px{more}: {failed} of {asked} patches cannot be read and are "
        "not scored"
    )


def check_patches(slide: Slide, patches: PatchGrid | PatchPoints) -> None:
    """`SlideError` if whole pixels cannot come within 5 % of the model's scale: a patch of very few of them."""
    if patches.mpp is None or slide.mpp is None:
        return
    got = patches.side * mean_mpp(slide.mpp) / patches.patch_px
    if not 1 / SCALE_TOLERANCE <= got / patches.mpp <= SCALE_TOLERANCE:
        raise SlideError(
            f"{slide.path}: a patch is {patches.side} of its pixels, which makes {got:.3g} µm/px in place of the "
            f"model's {patches.mpp:.3g}: use a model with larger patches, or give the slide's own µm/px with --mpp"
        )
