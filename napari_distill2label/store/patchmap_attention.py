"""Attention over all patches of a slide, from their scores: window by window, never in memory as a whole."""

from collections.abc import Callable, Sequence

import numpy as np

Window = tuple[slice, ...]


def attention_by_window(
    windows: Sequence[Window], done: np.ndarray, read_score: Callable[[Window], np.ndarray], pooling: str | None
) -> Callable[[Window], np.ndarray]:
    """What gives the attention (float64, NaN where not scored) of a window.

    It is the softmax of the scores of all windows (Ilse et al. 2018, eq. 8), with the largest one subtracted first;
    for max pooling it is 1 at the largest score.

    Parameters
    ----------
    windows
        Cover the slide.
    done
        Which of its patches are scored, bool; at least one is.
    read_score
        Gives the scores of a window.
    """
    tops = []
    for window in windows:
        if done[window].any():
            score = np.where(done[window], read_score(window), -np.inf)
            tops.append((float(score.max()), window, int(score.argmax())))
    largest, at, index = max(tops, key=lambda top: top[0])

    def only_the_largest(window: Window) -> np.ndarray:
        weight = np.where(done[window], 0.0, np.nan)
        if window == at:
            weight.flat[index] = 1.0
        return weight

    def unscaled(window: Window) -> np.ndarray:
        score = np.where(done[window], read_score(window), np.nan)
        return np.exp(score.astype(np.float64) - largest)

    if pooling == "max":
        return only_the_largest
    total = sum(float(np.nansum(unscaled(window))) for window in windows)
    return lambda window: unscaled(window) / total
