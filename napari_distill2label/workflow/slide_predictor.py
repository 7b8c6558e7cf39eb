"""Predict one slide: open it, check it, place its patches, score them, and save the `PatchMap`."""

import hashlib
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from ..core.appearance import appearance_vector, sampled
from ..core.errors import BundleError, SlideError
from ..core.events import Event, ItemFailed, ItemStarted, Progress, Task
from ..core.geometry import PatchGrid, PatchPoints, mean_mpp
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import canonical_path
from ..core.slide_info import SlideInfo
from ..inference.classifier import FeatureAndMapSink, PatchClassifier, classify_features
from ..inference.cluster import Cluster
from ..inference.engine import patches_per_block, score_blocks, score_slide
from ..inference.specs import ModelSpec, SlideSpec, encoder_scorer
from ..slides.cutting import cut
from ..slides.scale import SCALE_TOLERANCE
from ..slides.slide import Slide
from ..store.cohort import CohortSlide
from ..store.files.safe_names import safe_name
from ..store.files.signature import file_signature
from ..store.maps.feature_map import FeatureMap
from ..store.maps.patch_map import PatchMap, read_header
from .feature_store import FeatureStore
from .slide_reader import SlideReader, info_of


class SlidePredictor:
    """Predicts the slides of one call, all in the same way.

    Parameters
    ----------
    classifier, model_spec
        The model, and the description from which other processes load it.
    reader
        Opens slides and places their patches. With the features of slides, for a model of features: on a cluster only
        existing ones are used, because features that workers compute are not saved.
    threshold
        Lowest probability at which a patch is labelled with a class.
    cluster
        Workers to score on; None: threads of this process.
    """

    def __init__(
        self,
        classifier: PatchClassifier,
        model_spec: ModelSpec,
        reader: SlideReader,
        threshold: float,
        cluster: Cluster | None = None,
    ) -> None:
        self.classifier, self.model_spec = model_spec.ready(classifier), model_spec
        self.reader, self.threshold, self.cluster = reader, threshold, cluster
        self.config = classifier.bundle.config

    def map(self, row: CohortSlide, keep: Path | None) -> Generator[Event, None, PatchMap]:
        """Score a slide. Its map is saved in the folder `keep`, or in memory (None).

        `SlideError` if it cannot be opened or read, or does not fit. If it is damaged in part, the rest is scored, and
        an `ItemFailed` reports the damage.
        """
        features = self.reader.features
        if features is not None and features.is_precomputed(row.slide_id):
            patch_map = yield from self._of_features(features, row, keep)
        else:
            patch_map = yield from self._of_pixels(row, keep)
        if patch_map.unlikeness is not None and patch_map.unlikeness > 1:
            yield Notice(NoticeCode.UNLIKE, {"times": patch_map.unlikeness}, row.slide_id)
        return patch_map

    def _of_pixels(self, row: CohortSlide, keep: Path | None) -> Generator[Event, None, PatchMap]:
        with self.reader.open(row) as slide:
            yield from (notice.about(row.slide_id) for notice in slide.notices)
            patches = yield from self.reader.place(row, slide)
            check_patches(slide, patches)
            place = keep and place_of(keep, row, self.config.network)
            patch_map = self._begin(place, patches, info_of(row, slide), file_signature(row.path))
            if not patch_map.is_complete:
                yield ItemStarted(row.slide_id, patch_map)
                features = yield from self._walk(slide, patch_map, Progress(Task.PREDICT, item=row.slide_id))
                if not patch_map.scored.any():
                    raise SlideError(f"{slide.path}: {_damage(patch_map)}, nothing is left: copy the slide again")
                self._finish(patch_map, self._unlikeness(patch_map, slide, features))
        if patch_map.damaged_regions:
            yield ItemFailed(
                row.slide_id, SlideError(f"{row.path}: {_damage(patch_map)}; the others are: copy the slide again")
            )
        return patch_map

    def _of_features(
        self, store: FeatureStore, row: CohortSlide, keep: Path | None
    ) -> Generator[Event, None, PatchMap]:
        """Predict a slide from existing features, which also hold its patches. Its file may be missing."""
        with self.reader.open_if_present(row) as slide:
            if slide is not None:
                yield from (notice.about(row.slide_id) for notice in slide.notices)
            features = yield from store.read(row, slide)
            info = info_of(row, slide)
        place = keep and place_of(keep, row, self.config.network)
        patch_map = self._begin(place, features.patches, info, features.signature)
        if not patch_map.is_complete:
            yield ItemStarted(row.slide_id, patch_map)
            yield from classify_features(
                features, patch_map, self.classifier, Progress(Task.PREDICT, item=row.slide_id), "lost"
            )
            self._finish(patch_map, self._unlikeness(patch_map, None, features))
        return patch_map

    def _walk(self, slide: Slide, patch_map: PatchMap, progress: Progress) -> Generator[Event, None, FeatureMap | None]:
        """Score the patches; returns their features, if they are kept."""
        patches = patch_map.patches
        scorer, store = self.model_spec.scorer(self.classifier, patches, slide), self.reader.features
        if self.cluster is None and store is not None:
            features = store.open_map(patch_map.slide_id, slide, patches)
            yield from classify_features(features, patch_map, self.classifier, progress, "later")
            sink = FeatureAndMapSink(features, patch_map, self.classifier)
            yield from score_slide(slide, sink, encoder_scorer(store.own_encoder, patches), progress)
            return features
        if self.cluster is None:
            yield from score_slide(slide, patch_map, scorer, progress)
        else:
            pool = self.cluster.open_pool(SlideSpec.of(slide, patches, self.reader.allow_non_brightfield))
            yield from score_blocks(patch_map, pool, progress, patches_per_block(scorer, patches))
        return None

    def _unlikeness(self, patch_map: PatchMap, slide: Slide | None, features: FeatureMap | None) -> float | None:
        """Return how far the slide is from the training slides, from some of its patches. None: that is not known."""
        config = self.config
        if config.appearance is None:
            return None
        patches, scored = patch_map.patches, np.flatnonzero(patch_map.scored)
        cells = np.stack(np.unravel_index(scored[sampled(len(scored))], patches.shape), -1)
        if features is not None:
            row = np.cumsum(patches.scored).reshape(patches.shape) - 1
            instances = np.asarray(features.instances()[row[tuple(cells.T)]])
        elif slide is not None:
            corners = patches.corners_of(cells) if isinstance(patches, PatchGrid) else patches.corners[cells[:, 0]]
            instances = cut(slide, corners, patches.side, patches.patch_px)
            if config.encoder is not None:
                if self.classifier.encoder is None:
                    return None
                instances = self.classifier.encoder(instances)["features"]
        return config.appearance.unlikeness(appearance_vector(instances, np.array(config.mean), np.array(config.std)))

    def _finish(self, patch_map: PatchMap, unlikeness: float | None) -> None:
        patches, trained = patch_map.patches, self.config.patches
        pitch = (trained.stride_px or trained.size_px) * patches.side / patches.patch_px  # level-0 px
        distance = max(1, round(pitch / patches.stride)) if isinstance(patches, PatchGrid) else 1
        patch_map.finish(self._probabilities, self.config.calibration, distance, unlikeness)

    def _probabilities(self, logit: np.ndarray) -> list[float]:
        """(C,) logits of a slide -> (C,) probabilities."""
        model = self.classifier.bundle.model
        return model.probabilities(torch.from_numpy(logit).float()).tolist()

    # ---- where it is saved -----------------------------------------------------------------------------------------

    def _identity(self, signature: str) -> dict[str, object]:
        """Return what a map must be of to be resumed."""
        identity = self.classifier.bundle.identity | {"slide_signature": signature}
        if self.model_spec.precision != "float32":
            identity["precision"] = self.model_spec.precision
        return identity

    def _begin(self, path: Path | None, patches: PatchGrid | PatchPoints, slide: SlideInfo, signature: str) -> PatchMap:
        """Return the patch map to fill: an unfinished one of the same patches, model and slide, or a new one.

        `signature` is that of the slide's file, or of its features.
        """
        identity = self._identity(signature)
        if path is not None and (path / "zarr.json").is_file():
            try:
                begun = PatchMap.open(path)
                if begun.slide == slide and begun.can_resume(patches, self.config.classes, identity):
                    begun.check()
                    begun.set_threshold(self.threshold)
                    return begun
            except BundleError:
                pass  # damaged or older: replaced below
        return PatchMap.create(
            path,
            patches,
            self.config.classes,
            slide,
            model=identity,
            multi_label=self.config.architecture.multi_label,
            threshold=self.threshold,
        )


def place_of(keep: Path, row: CohortSlide, network: str) -> Path:
    """Return the folder of a slide's map. It is never that of another file with the same slide id."""
    path = keep / f"{safe_name(row.slide_id)}.{network}.zarr"
    if read_header(path).get("slide_path") in (None, canonical_path(row.path)):  # none: damaged, and replaced
        return path
    digest = hashlib.sha256(str(row.path).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return path.with_name(f"{safe_name(row.slide_id)}-{digest}.{network}.zarr")


def _damage(patch_map: PatchMap) -> str:
    """Return a description of what could not be read of a slide."""
    failed, asked = int(patch_map.failed.sum()), int(patch_map.patches.scored.sum())
    y, x, h, w = patch_map.damaged_regions[0]
    more = f" and {len(patch_map.damaged_regions) - 1} more" if len(patch_map.damaged_regions) > 1 else ""
    return (
        f"damaged at level-0 x={x}, y={y}, {w} × {h} px{more}: {failed} of {asked} patches cannot be read and are "
        "not scored"
    )


def check_patches(slide: Slide, patches: PatchGrid | PatchPoints) -> None:
    """`SlideError` if a patch of whole pixels is not within 5 % of the model's scale."""
    if patches.mpp is None or slide.mpp is None:
        return
    got = patches.side * mean_mpp(slide.mpp) / patches.patch_px
    if not 1 / SCALE_TOLERANCE <= got / patches.mpp <= SCALE_TOLERANCE:
        raise SlideError(
            f"A patch is {patches.side} pixels of the slide, which makes {got:.3g} µm/px in place of the model's "
            f"{patches.mpp:.3g}. Use a model with larger patches, or correct the slide's pixel size.",
            file=slide.path,
            remedy=Remedy("set", "inputs.mpp"),
        )
