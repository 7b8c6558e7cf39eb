"""What a patch map says at a threshold: labels and tables of its patches, with a user's corrections over them."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from ..core.bag import UNLABELLED
from ..core.errors import SettingsError
from ..core.geometry import PatchGrid, PatchPoints
from .labels import check_corrections, labels_of, with_corrections
from .patchmap_table import names_of, names_of_several, of_classes, places


class LabelledMap:
    """The part of `PatchMap` that reads: all of it goes band by band, so that memory does not grow with the slide."""

    patches: PatchGrid | PatchPoints
    classes: tuple[str, ...]
    several: bool
    slide_id: str
    threshold: float
    _done: np.ndarray
    windows: Callable[[], Iterator[tuple[slice, ...]]]
    _read: Callable[[str, tuple[slice, ...]], np.ndarray]

    def to_labels(
        self, threshold: float | None = None, class_index: int | None = None, corrections: np.ndarray | None = None
    ) -> np.ndarray:
        """uint8 labels of `patches.shape`, see `labels_of`; `threshold` None: the map's own.

        `corrections` (int8 of `patches.shape`, −1 unknown) are classes a user gave; they override the model on
        scored patches. `SettingsError` for a map of several classes without `class_index`, which has one layer each.
        """
        if self.several and class_index is None:
            names = ", ".join(f"{index} ({name})" for index, name in enumerate(self.classes) if index)
            raise SettingsError(f"{self.slide_id}: several classes can be present at once: choose class_index {names}")
        if class_index is not None and not 1 <= class_index < len(self.classes):
            raise SettingsError(f"class_index must be 1 to {len(self.classes) - 1}, got {class_index}")
        known = self._checked(corrections)
        labels = np.zeros(self.patches.shape, np.uint8)
        for window in self.windows():
            labels[window] = self._window_labels(window, threshold, class_index, known)
        return labels

    def label_layers(
        self, threshold: float | None = None, corrections: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Layers of labels by name: {'labels': …}, or one per non-negative class where several can be present."""
        if not self.several:
            return {"labels": self.to_labels(threshold, corrections=corrections)}
        return {name: self.to_labels(threshold, index, corrections) for index, name in enumerate(self.classes) if index}

    def tables(self, threshold: float | None = None, corrections: np.ndarray | None = None) -> Iterator[pd.DataFrame]:
        """`table` in one or more pieces, so that memory does not grow with the slide."""
        known = self._checked(corrections)
        windows = [window for window in self.windows() if self._done[window].any()]
        for window in windows or [(slice(0, 0),)]:  # nothing scored is a table without rows, not no table
            yield self._window_table(window, threshold, known)

    def table(self, threshold: float | None = None, corrections: np.ndarray | None = None) -> pd.DataFrame:
        """One row per scored patch, in C order.

        Columns
        -------
        minx, miny, width, height
            The patch's box in level-0 pixels; at the border it may reach over the slide.
        row, col (a grid) or x, y (points)
            The cell, or the pixel the patch is centred on.
        label
            Name of the class at `threshold`, 'a;b' where several are present.
        prob_<class>, logit_<class>, attention, contribution_<class>
            The arrays of the map.
        source
            'model' or 'corrected'; only with `corrections`.
        """
        return pd.concat(self.tables(threshold, corrections), ignore_index=True)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _checked(self, corrections: np.ndarray | None) -> np.ndarray | None:
        if corrections is None:
            return None
        return check_corrections(corrections, self.patches.shape, self.classes, self.slide_id)

    def _window_labels(
        self, window: tuple[slice, ...], threshold: float | None, class_index: int | None, known: np.ndarray | None
    ) -> np.ndarray:
        probability = self._read("probability", window)
        probability[~self._done[window]] = np.nan  # a block cut short has probabilities but is not done
        labels = labels_of(probability, self.threshold if threshold is None else threshold, class_index)
        return labels if known is None else with_corrections(labels, known[window], class_index)

    def _window_table(
        self, window: tuple[slice, ...], threshold: float | None, known: np.ndarray | None
    ) -> pd.DataFrame:
        done = self._done[window]
        columns = places(self.patches, window, done) | {"label": self._names(window, done, threshold, known)}
        names = ("probability", "logit", "attention", "contribution")
        columns |= of_classes({name: self._read(name, window)[done] for name in names}, self.classes)
        if known is not None:
            columns["source"] = np.where(known[window][done] == UNLABELLED, "model", "corrected")
        return pd.DataFrame(columns)

    def _names(
        self, window: tuple[slice, ...], done: np.ndarray, threshold: float | None, known: np.ndarray | None
    ) -> np.ndarray:
        """(n,) names of the classes of the patches done in a window."""
        if not self.several:
            return names_of(self._window_labels(window, threshold, None, known)[done], self.classes)
        findings = range(1, len(self.classes))
        labels = [self._window_labels(window, threshold, finding, known)[done] for finding in findings]
        return names_of_several(np.stack(labels, -1) > 1, self.classes)
