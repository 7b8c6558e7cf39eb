"""A trained model as the engine uses it: patches in, predictions out."""

from collections.abc import Generator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..core.errors import SettingsError
from ..core.events import Progress
from ..core.geometry import Block
from ..core.inputs import Encoder
from ..core.messages import Remedy
from ..store.bundle import Bundle
from ..store.maps.feature_map import FeatureMap
from ..store.maps.patch_map import PatchMap
from .damage import select_patches
from .encoder import FrozenEncoder

CLASSIFIED_AT_ONCE = 256  # features: a block that is not complete is computed as a whole


class PatchClassifier:
    """uint8 patches (n, 3, P, P) -> {"probability": (n, C), "logit": (n, C), "score": (n,)}, float32.

    Each patch is a bag of one; its score is what attention over the whole slide is made of. A model trained on
    features of a frozen encoder needs that encoder (`SettingsError` if it is another one), or classifies features that
    are already computed (`classify`).
    """

    def __init__(self, bundle: Bundle, encoder: FrozenEncoder | None = None) -> None:
        self.bundle = bundle
        self.encoder = encoder
        expected = bundle.config.encoder
        if expected and encoder and not expected.is_same(encoder.identity):
            raise SettingsError(
                f"The model was trained on features of {expected.name!r} ({expected.path}). That file is needed, with "
                "the .json it had.",
                file=bundle.path,
                remedy=Remedy("choose", "inputs.encoder"),
            )
        if (
            expected
            and encoder
            and (gives := encoder.description.features) != (takes := bundle.config.instance_shape[0])
        ):
            raise SettingsError(
                f"{encoder.path}: gives {gives} features, and {bundle.path} was trained on {takes} of {expected.name!r}"
            )

    @property
    def takes_features(self) -> bool:
        """Whether the model takes features of a frozen encoder instead of patches."""
        return self.bundle.config.encoder is not None

    def __call__(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        if not self.takes_features:
            return self.classify(patches)
        if self.encoder is None:
            raise SettingsError(
                "The model needs its frozen encoder for patches without features.",
                file=self.bundle.path,
                remedy=Remedy("choose", "inputs.encoder"),
            )
        return self.classify(self.encoder(patches)["features"])

    @torch.no_grad()
    def classify(self, instances: np.ndarray) -> dict[str, np.ndarray]:
        """Classify instances of the kind that the model was trained on: patches, or features (n, D)."""
        model = self.bundle.model
        output = model(torch.from_numpy(instances))
        arrays = {
            "logit": output.instance_logits,
            "score": output.scores,
        }
        return {
            "probability": self.bundle.probabilities(output.instance_logits),
            **{name: tensor.float().cpu().numpy() for name, tensor in arrays.items()},
        }


class FeatureAndMapSink:
    """A sink that saves features and their predictions: one pass over the slide fills a feature map and a patch map.

    `classify_features` classifies existing features before that.
    """

    def __init__(self, features: FeatureMap, patch_map: PatchMap, classifier: PatchClassifier) -> None:
        self.features, self.patch_map, self.classifier = features, patch_map, classifier
        self.patches = patch_map.patches

    def is_done(self, block: Block) -> bool:
        return self.patch_map.is_done(block)

    def write(self, block: Block, features: np.ndarray) -> None:
        self.features.write(block, features)
        self.patch_map.write(block, **self.classifier.classify(features))

    def fail(self, block: Block, boxes: tuple[tuple[int, int, int, int], ...]) -> None:
        """Mark the block's patches as unreadable in both maps."""
        self.features.fail(block, boxes)
        self.patch_map.fail(block, boxes)


def classify_features(
    features: FeatureMap,
    patch_map: PatchMap,
    classifier: PatchClassifier,
    progress: Progress,
    rest: Literal["later", "lost"],
) -> Generator[Progress, None, None]:
    """Fill a patch map with the predictions for existing features; no slide is read.

    Blocks with missing features are left to a later pass over the slide ("later"). If there will be none ("lost"), the
    existing ones are classified, and the others are marked as unreadable.
    """
    total, done = len(features), 0
    for block in features.patches.blocks(CLASSIFIED_AT_ONCE):
        there = features.readable_in(block)
        if not patch_map.is_done(block) and (there.all() or rest == "lost"):
            if there.any():
                patch_map.write(select_patches(block, there), **classifier.classify(features.read(block)[there]))
            if not there.all():
                patch_map.fail(select_patches(block, ~there), ())
        done += len(block.corners) if there.all() or rest == "lost" else 0
        yield progress.at(done, total)


def open_classifier(
    bundle: Bundle, encoder: Encoder = Encoder(), device: str = "auto", features_given: bool = False
) -> PatchClassifier:
    """Return the bundle ready to predict, with its frozen encoder. Without a path it is at its place in training.

    With `features_given` the encoder may be missing: the features exist already.
    """
    expected = bundle.config.encoder
    if expected is None:
        if encoder.path is not None:
            raise SettingsError(
                "This model was trained on pixels. It does not take an encoder.",
                file=bundle.path,
                remedy=Remedy("clear", "inputs.encoder"),
            )
        return PatchClassifier(bundle)
    path = Path(encoder.path or expected.path)
    if encoder.path is None and (expected.from_features or (features_given and not path.is_file())):
        return PatchClassifier(bundle)
    return PatchClassifier(bundle, FrozenEncoder(path, device, encoder.trusted))
