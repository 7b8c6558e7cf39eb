"""A trained model as the engine sees it: patches in, what it says of each out."""

import numpy as np
import torch

from ..core.errors import SettingsError
from ..store.bundle import Bundle
from .encoder import FrozenEncoder


class PatchClassifier:
    """uint8 patches (n, 3, P, P) -> {"probability": (n, C), "logit": (n, C), "score": (n,)}, float32.

    Each patch is a bag of one; its score is what attention over the whole slide is made of. A model trained on
    features of a frozen encoder needs that encoder; `SettingsError` if it is another one.
    """

    def __init__(self, bundle: Bundle, encoder: FrozenEncoder | None = None) -> None:
        self.bundle = bundle
        self.encoder = encoder
        wanted = bundle.config.encoder
        if wanted and (encoder is None or encoder.identity.sha256 != wanted.sha256):
            raise SettingsError(
                f"{bundle.path}: was trained on features of {wanted.name!r} ({wanted.path}): "
                "give that file with --encoder"
            )

    @torch.no_grad()
    def __call__(self, patches: np.ndarray) -> dict[str, np.ndarray]:
        model = self.bundle.model
        instances = self.encoder(patches)["features"] if self.encoder else patches
        answer = model(torch.from_numpy(instances))
        arrays = {
            "probability": model.probabilities(answer.instance_logits),
            "logit": answer.instance_logits,
            "score": answer.scores,
        }
        return {name: tensor.float().cpu().numpy() for name, tensor in arrays.items()}

    @torch.no_grad()
    def bag_probability(self, score: np.ndarray, logit: np.ndarray) -> list[float]:
        """(C,) of the slide whose patches have scores (K,) and logits (K, C): of the attention-weighted mean logit."""
        model = self.bundle.model
        weights = model.pooling.weights(torch.from_numpy(score))
        return model.probabilities(weights @ torch.from_numpy(logit)).tolist()


def with_encoder(bundle: Bundle, encoder_path: str | None = None) -> PatchClassifier:
    """The bundle ready to predict, its frozen encoder opened from `encoder_path` or from where it was in training."""
    if bundle.config.encoder is None:
        return PatchClassifier(bundle)
    return PatchClassifier(bundle, FrozenEncoder(encoder_path or bundle.config.encoder.path))
