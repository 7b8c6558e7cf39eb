"""Descriptions of a network and a slide, with which another process can score the slide by itself."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..core.errors import BundleError
from ..core.geometry import Mpp, PatchGrid, PatchPoints
from ..core.inputs import Encoder
from ..mil.device import choose_device, compute_dtype
from ..slides.registry import open_slide
from ..slides.slide import Slide
from ..store.bundle import load_bundle
from ..store.maps.feature_map import EncoderIdentity
from .classifier import PatchClassifier, open_classifier
from .encoder import FrozenEncoder
from .engine import PatchScorer, Scorer


class NetworkSpec(Protocol):
    """The place of a network, by which other processes load it. Equal ones load the same."""

    def load(self) -> Any:
        """Load the network from its files. `BundleError` if they hold another one."""

    def scorer(
        self, network: Any, patches: PatchGrid | PatchPoints, slide: Slide, at_once: int | None = None
    ) -> Scorer:
        """Return the scorer of this slide's blocks, for at most `at_once` threads (None: as many as torch uses)."""


@dataclass(frozen=True)
class EncoderSpec:
    """The place of a frozen encoder, whose features are computed."""

    encoder: Encoder
    identity: EncoderIdentity
    device: str = "cpu"

    @classmethod
    def of(cls, encoder: Encoder, opened: FrozenEncoder, device: str) -> "EncoderSpec":
        """Describe an encoder that this process has opened."""
        return cls(encoder.absolute(), opened.identity, device)

    def load(self) -> FrozenEncoder:
        assert self.encoder.path is not None
        found = FrozenEncoder(self.encoder.path, self.device, self.encoder.trusted)
        if not self.identity.is_same(found.identity):
            raise BundleError(f"{self.encoder.path}: a worker finds another encoder here than the one to compute with")
        return found

    def scorer(
        self,
        network: FrozenEncoder,
        patches: PatchGrid | PatchPoints,
        slide: Slide,
        at_once: int | None = None,
    ) -> Scorer:
        return encoder_scorer(network, patches, at_once)


def encoder_scorer(encoder: FrozenEncoder, patches: PatchGrid | PatchPoints, at_once: int | None = None) -> PatchScorer:
    """Return the scorer that computes the features of patches, for at most `at_once` threads on a processor."""
    return (
        PatchScorer.on_accelerator(encoder, patches.patch_px)
        if encoder.is_accelerated
        else PatchScorer(encoder, at_once)
    )


@dataclass(frozen=True)
class ModelSpec:
    """The place of a model and how it computes. Other processes load it by this; they need its files under the path.

    `weights_sha256` identifies it; `device`, `precision` are as in the settings; `dense`: score every position of a
    block by one fully convolutional pass instead of patches.
    """

    bundle: str
    weights_sha256: str
    device: str = "cpu"
    precision: str = "float32"
    encoder: Encoder = Encoder()
    dense: bool = False

    def load(self) -> PatchClassifier:
        """Load the model from its files. `BundleError` if they hold another model."""
        bundle = load_bundle(self.bundle, choose_device(self.device))
        if bundle.config.weights_sha256 != self.weights_sha256:
            raise BundleError(f"{self.bundle}: a worker finds another model here than the one to predict with")
        return self.ready(open_classifier(bundle, self.encoder, self.device))

    def ready(self, classifier: PatchClassifier) -> PatchClassifier:
        """Return the same model, set to the requested precision."""
        model = classifier.bundle.model
        model.dtype = compute_dtype(self.precision, model.device)
        return classifier

    def scorer(
        self, network: PatchClassifier, patches: PatchGrid | PatchPoints, slide: Slide, at_once: int | None = None
    ) -> Scorer:
        """See `NetworkSpec.scorer`. `SettingsError` if the model has no dense mode and it is asked for."""
        if self.dense:
            from .dense import dense_scorer

            return dense_scorer(network.bundle, patches, slide)
        if network.bundle.model.device.type == "cpu" and not (network.encoder and network.encoder.is_accelerated):
            return PatchScorer(network, at_once)
        return PatchScorer.on_accelerator(network, patches.patch_px)


@dataclass(frozen=True)
class SlideSpec:
    """The path and patches of a slide, so that another process can open it in the same way."""

    path: str
    mpp: Mpp | None
    allow_non_brightfield: bool
    patches: PatchGrid | PatchPoints

    @classmethod
    def of(cls, slide: Slide, patches: PatchGrid | PatchPoints, allow_non_brightfield: bool = False) -> "SlideSpec":
        """Describe a slide. `patches` are sent without what grows with the slide: each block names its own patches."""
        if isinstance(patches, PatchGrid):
            light: PatchGrid | PatchPoints = replace(patches, tissue=None)
        else:
            light = replace(patches, centres=np.empty((0, 2), np.int64))
        return cls(str(slide.path), slide.mpp, allow_non_brightfield, light)

    def open(self) -> Slide:
        return open_slide(self.path, self.mpp, self.allow_non_brightfield)
