"""Labels from probabilities, and a user's corrections applied to them."""

from collections.abc import Sequence

import numpy as np

from ...core.bag import UNLABELLED
from ...core.errors import SettingsError


def labels_of(probability: np.ndarray, threshold: float, class_index: int | None = None) -> np.ndarray:
    """Labels of patches from their probabilities.

    Parameters
    ----------
    probability
        (..., C), NaN where a patch is not scored; class 0 is the negative one.
    threshold
        Smallest probability (≥) at which a class is reported.
    class_index
        None: one class per patch. k: whether class k is present, for a multi-label model.

    Returns
    -------
    (...) uint8: **0 not scored, otherwise 1 + class index**. The likeliest non-negative class if its probability
    is ≥ `threshold`, else the negative one (1). With `class_index`, 1 not present or 1 + k.
    """
    if class_index is None:
        best = np.argmax(np.nan_to_num(probability[..., 1:]), axis=-1)
        likeliest = np.take_along_axis(probability[..., 1:], best[..., None], axis=-1)[..., 0]
        labels = np.where(likeliest >= threshold, best + 2, 1)
    else:
        labels = np.where(probability[..., class_index] >= threshold, class_index + 1, 1)
    return np.where(np.isnan(probability[..., 0]), 0, labels).astype(np.uint8)


def count_corrected(corrections: np.ndarray | None) -> int | None:
    """Return how many patches a user has corrected; None where there are no corrections."""
    return None if corrections is None else int((corrections != UNLABELLED).sum())


def check_corrections(
    corrections: np.ndarray, shape: tuple[int, ...], classes: Sequence[str], slide_id: str
) -> np.ndarray:
    """Return corrections as an array of `shape`: class indices, `UNLABELLED` elsewhere. `SettingsError` if invalid."""
    corrections = np.asarray(corrections)
    if corrections.shape != shape:
        raise SettingsError(f"{slide_id}: corrections of shape {corrections.shape} do not fit its patches {shape}")
    if corrections.size and not UNLABELLED <= corrections.min() <= corrections.max() < len(classes):
        raise SettingsError(f"{slide_id}: a correction is no class of the model: {', '.join(classes)}")
    return corrections


def with_corrections(labels: np.ndarray, corrections: np.ndarray, class_index: int | None = None) -> np.ndarray:
    """Labels (see `labels_of`) with those of corrected, scored patches replaced."""
    label = corrections + 1 if class_index is None else np.where(corrections == class_index, class_index + 1, 1)
    return np.where((corrections != UNLABELLED) & (labels > 0), label, labels).astype(np.uint8)
