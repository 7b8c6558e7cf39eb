"""What a process needs to know to score a slide by itself, on this machine or another."""

from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import BundleError
from ..core.geometry import Mpp, PatchGrid, PatchPoints
from ..mil.device import choose_device, compute_dtype
from ..slides.registry import open_slide
from ..slides.slide import Slide
from ..store.bundle import load_bundle
from .classifier import PatchClassifier, open_classifier
from .engine import PatchScorer, Scorer

ACCELERATOR_BATCH = 16_000_000  # px of patches that a GPU is shown at once, if its memory holds what becomes of them


@dataclass(frozen=True)
class ModelSpec:
    """Where a model is and how it computes. Other processes load it by this; its files must be there under the path.

    `weights_sha256` says which one is meant; `device`, `precision` as in the settings; `encoder` is the file of a
    frozen encoder, which may hold a program if `trust`; `dense`: score every position of a block by one fully
    convolutional pass instead of patches.
    """

    bundle: str
    weights_sha256: str
    device: str = "cpu"
    precision: str = "float32"
    encoder: str | None = None
    dense: bool = False
    trust: bool = False

    def load(self) -> PatchClassifier:
        """The model from its files. `BundleError` if another is there."""
        bundle = load_bundle(self.bundle, choose_device(self.device))
        if bundle.config.weights_sha256 != self.weights_sha256:
            raise BundleError(f"{self.bundle}: a worker finds another model here than the one to predict with")
        return self.ready(open_classifier(bundle, self.encoder, self.device, self.trust))

    def ready(self, classifier: PatchClassifier) -> PatchClassifier:
        """The same model, computing as precisely as asked."""
        model = classifier.bundle.model
        model.dtype = compute_dtype(self.precision, model.device)
        return classifier

    def scorer(
        self, classifier: PatchClassifier, patches: PatchGrid | PatchPoints, slide: Slide, at_once: int | None = None
    ) -> Scorer:
        """What scores the blocks of this slide, in at most `at_once` threads (None: as many as torch uses).

        `SettingsError` if the model has no dense mode and it is asked for.
        """
        if self.dense:
            from .dense import dense_scorer

            return dense_scorer(classifier.bundle, patches, slide)
        if classifier.bundle.model.device.type == "cpu":
            return PatchScorer(classifier, at_once)
        return PatchScorer(classifier, at_once=1, batch=max(1, ACCELERATOR_BATCH // patches.patch_px**2))


@dataclass(frozen=True)
class SlideSpec:
    """How another process opens the same slide and looks at the same patches."""

    path: str
    mpp: Mpp | None
    force: bool
    patches: PatchGrid | PatchPoints

    @classmethod
    def of(cls, slide: Slide, patches: PatchGrid | PatchPoints, force: bool = False) -> "SlideSpec":
        """`patches` are sent without what grows with the slide: each block says which of its patches are meant."""
        if isinstance(patches, PatchGrid):
            light: PatchGrid | PatchPoints = replace(patches, tissue=None)
        else:
            light = replace(patches, centres=np.empty((0, 2), np.int64))
        return cls(str(slide.path), slide.mpp, force, light)

    def open(self) -> Slide:
        return open_slide(self.path, self.mpp, self.force)
