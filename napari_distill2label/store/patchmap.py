"""`PatchMap`: what a network says about the patches of one slide, kept in zarr and filled block by block.

A folder (zarr v3 group) with arrays of `patches.shape`, C classes on a last axis where there are any:

==============  ============  ==========================================================================
array           last axis     value of a patch
==============  ============  ==========================================================================
probability     C             softmax of its logits (or one sigmoid per class, `several`)
logit           C             of the patch alone, a bag of one
score                         attention before the softmax over the slide
attention                     softmax of `score` over all scored patches of the slide: sums to 1
contribution    C             attention · logit: what it adds to the slide's logit, which is their sum
==============  ============  ==========================================================================

and `failed`, bool: which patches were asked for but could not be read, because the slide is damaged there.

The others are float32, **NaN where a patch is not scored** (no tissue, or not yet). `score` is written last, so a
finite score says that a patch is done, and an interrupted prediction goes on where it stopped. The first three are
written as the slide is walked; `finish` adds the other two, which need all of it.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..core.errors import BundleError
from ..core.geometry import Block, PatchGrid, PatchPoints
from ..core.paths import canonical_path
from .memory import MemoryGroup
from .outputs import is_own_group
from .patchmap_attention import attention_by_window
from .patchmap_files import (
    FAILED,
    GRID_CHUNK,
    KIND,
    MAX_CLASSES,
    PER_CLASS,
    PER_PATCH,
    POINTS_CHUNK,
    VERSION,
    check_arrays,
    check_attributes,
    digest_of,
    make_arrays,
    one_line,
    open_patches,
    patch_array,
    plain,
    sums_of,
)
from .patchmap_labels import LabelledMap
from .zarr_file import open_group

WRITTEN = ("probability", "logit", "score")  # block by block, in this order; `finish` adds the others


class PatchMap(LabelledMap):
    """Patches of a slide and what a model says of them. Make one by `create` or `open`.

    Attributes
    ----------
    patches
        `PatchGrid` or `PatchPoints`; every array below has the shape `patches.shape` (+ C).
    classes
        Names, the negative class first.
    several
        Can several classes be present at once? Then there is one layer of labels per non-negative class.
    slide_id, slide_path, slide_mpp, slide_mpp_assumed
        Of the slide; `slide_mpp` is (y, x) in µm/px of level 0, None where unknown. Assumed: a user gave it.
    model
        Identity of the model (role, bundle signature, pooling, …), as plain JSON.
    threshold
        The one labels are taken at unless another is given.
    path
        The folder; None for a map in memory.
    """

    def __init__(self, group: zarr.Group | MemoryGroup, path: Path | None, patches: PatchGrid | PatchPoints) -> None:
        self._group = group
        self._lock = threading.Lock()  # two blocks may share a chunk
        attrs = group.attrs.asdict()
        self.path = path
        self.patches = patches
        self.slide_id: str = attrs["slide_id"]
        self.slide_path: str | None = attrs["slide_path"]
        mpp = attrs["slide_mpp"]
        self.slide_mpp: tuple[float, float] | None = None if mpp is None else (float(mpp[0]), float(mpp[1]))
        self.slide_mpp_assumed: bool = attrs["slide_mpp_assumed"]
        self.classes: tuple[str, ...] = tuple(attrs["classes"])
        self.several: bool = attrs["several"]
        self.model: dict[str, Any] = attrs["model"]
        self.threshold: float = attrs["threshold"]
        self._done = np.zeros(patches.shape, bool)
        self._failed = np.zeros(patches.shape, bool)
        self._sums: dict[str, list[int]] = attrs.get("sums", {})

    # ---- making and opening -----------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None,
        patches: PatchGrid | PatchPoints,
        classes: Sequence[str],
        *,
        slide_id: str,
        slide_path: str | os.PathLike[str] | None = None,
        slide_mpp: tuple[float, float] | None = None,
        slide_mpp_assumed: bool = False,
        model: Mapping[str, Any] | None = None,
        several: bool = False,
        threshold: float = 0.5,
    ) -> "PatchMap":
        """An empty map at `path` (None: in memory). A map that is there already is replaced.

        `BundleError` if something else is at `path`; nothing is deleted then.
        """
        if not 2 <= len(classes) <= MAX_CLASSES or len(set(classes)) != len(classes):
            raise ValueError(f"a patch map needs 2 to {MAX_CLASSES} different classes, got {list(classes)}")
        if path is None:
            group: zarr.Group | MemoryGroup = MemoryGroup()
        else:
            path = Path(path)
            if path.is_file() or (path.is_dir() and not is_own_group(path)):
                raise BundleError(f"{path} is not a patch map and is left alone: give another place")
            # Of which kind it is, it says at once: what a kill leaves of it may be replaced.
            group = zarr.open_group(zarr.storage.LocalStore(path), mode="w", zarr_format=3, attributes={"kind": KIND})
        make_arrays(group, patches, len(classes))
        # The attributes come last: without them the folder is not taken for a map that only needs filling.
        group.attrs.update(
            plain(
                {
                    "kind": KIND,
                    "version": VERSION,
                    "complete": False,
                    "slide_id": slide_id,
                    "slide_path": None if slide_path is None else canonical_path(slide_path),
                    "slide_mpp": None if slide_mpp is None else [float(slide_mpp[0]), float(slide_mpp[1])],
                    "slide_mpp_assumed": bool(slide_mpp_assumed),
                    "classes": list(classes),
                    "several": bool(several),
                    "threshold": float(threshold),
                    "model": dict(model or {}),
                    "patches": patches.to_json(),
                    "bag_probability": None,
                    "damage": [],
                }
            )
        )
        return cls(group, path, patches)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "PatchMap":
        """Open a map, finished or not. `BundleError` if it is missing, incomplete in itself, altered or too new."""
        path = Path(path)
        if not (path / "zarr.json").is_file():
            raise BundleError(f"{path}: there is no patch map here")
        try:
            group = open_group(path, "r+")
            attrs = group.attrs.asdict()
        except Exception as error:  # noqa: BLE001 · raised again as what it means, whatever a parser of zarr raises
            raise BundleError(f"{path}: the patch map cannot be read ({one_line(error)}): predict again") from None
        check_attributes(path, attrs)
        patches = open_patches(path, group, attrs)
        check_arrays(path, group, patches, len(attrs["classes"]))
        if attrs["complete"] and "digest" in attrs:
            try:
                is_as_written = attrs["digest"] == digest_of(attrs, patch_array(patches)[1])
            except ValueError as error:
                raise BundleError(f"{path}: the patch map cannot be read ({one_line(error)}): predict again") from None
            if not is_as_written:
                raise BundleError(f"{path}: the patch map was altered since it was written: predict again")
        patch_map = cls(group, path, patches)
        for window in patch_map.windows():
            patch_map._done[window] = np.isfinite(patch_map._raw("score", window))
            if (path / FAILED).exists():  # not in maps made before there was one
                patch_map._failed[window] = patch_map._raw(FAILED, window)
        if attrs["complete"] and int(patch_map._done.sum()) != attrs.get("n_scored"):
            raise BundleError(f"{path}: a part of 'score' is missing: predict again")
        return patch_map

    def check(self) -> None:
        """Read all arrays once: `open` reads the scores alone. `BundleError` if one is damaged."""
        for window in self.windows():
            for name in (*PER_CLASS, *PER_PATCH):
                self._read(name, window)

    def fits(self, patches: PatchGrid | PatchPoints, classes: Sequence[str], model: Mapping[str, Any]) -> bool:
        """Would a prediction of these patches by this model go on filling this very map?"""
        own, other = (patch_array(each)[1] for each in (self.patches, patches))
        return (
            tuple(classes) == self.classes
            and plain(dict(model)) == self.model
            and plain(patches.to_json()) == plain(self.patches.to_json())
            and (own is None) == (other is None)
            and (own is None or np.array_equal(own, other))
        )

    # ---- filling ----------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Has `finish` been called?"""
        return bool(self._group.attrs["complete"])

    @property
    def done(self) -> np.ndarray:
        """Which patches are scored so far, bool of `patches.shape`."""
        return self._done.copy()

    @property
    def failed(self) -> np.ndarray:
        """Which patches could not be read, bool of `patches.shape`. They are not scored (label 0)."""
        return self._failed.copy()

    @property
    def damage(self) -> tuple[tuple[int, int, int, int], ...]:
        """The parts of the slide, (y, x, h, w) in level-0 px, that could not be decoded when patches were read."""
        return tuple(tuple(box) for box in self._group.attrs.get("damage", []))

    def set_threshold(self, threshold: float) -> None:
        """Keep another threshold as the one labels are taken at unless another is given."""
        self._group.attrs["threshold"] = self.threshold = float(threshold)

    def is_done(self, block: Block) -> bool:
        """Are all patches asked for in this block scored, or not to be read? Then a resumed prediction skips it."""
        settled = self._done[block.window] | self._failed[block.window]
        return bool(settled[block.scored].all())

    def write(self, block: Block, probability: np.ndarray, logit: np.ndarray, score: np.ndarray) -> None:
        """Keep the outcome of one block: its n = `block.scored.sum()` patches in C order. Safe among threads.

        Parameters
        ----------
        block
            Where the patches lie, from `patches.blocks(…)`.
        probability, logit
            (n, C).
        score
            (n,) attention before the softmax over the slide.
        """
        values = {"probability": probability, "logit": logit, "score": score}
        n = int(block.scored.sum())
        for name, array in values.items():
            expected = (n, len(self.classes)) if name in PER_CLASS else (n,)
            if np.shape(array) != expected:
                raise ValueError(f"{name} of this block must be {expected}, got {np.shape(array)}")
            if not np.isfinite(array).all():
                raise BundleError(f"{self.slide_id}: the model gives a {name} that is not a finite number")
        with self._lock:
            for name in WRITTEN:
                window = np.full((*block.scored.shape, *np.shape(values[name])[1:]), np.nan, np.float32)
                window[block.scored] = values[name]
                self._group[name][block.window] = window
            self._done[block.window] |= block.scored

    def fail(self, block: Block, boxes: Sequence[tuple[int, int, int, int]]) -> None:
        """Note that the block's patches cannot be read, because the slide is damaged in `boxes` (y, x, h, w)."""
        with self._lock:
            self._failed[block.window] |= block.scored
            self._group[FAILED][block.window] = self._failed[block.window]
            known = {tuple(box) for box in self._group.attrs["damage"]}
            self._group.attrs["damage"] = plain(sorted(known | {tuple(map(int, box)) for box in boxes}))

    def finish(self, bag_probability: Sequence[float] | Callable[[np.ndarray], Sequence[float]] | None = None) -> None:
        """Attention over the whole slide, contributions, and the mark that the map is complete.

        See `attention_by_window`. `BundleError` while patches are still to be scored, or where none is.

        Parameters
        ----------
        bag_probability
            (C,) of the slide as a whole, or what makes it of the slide's logits (C,), the sum of the contributions.
        """
        left = int((self.patches.scored & ~self._done & ~self._failed).sum())
        if left or not self._done.any():
            raise BundleError(
                f"{self.slide_id}: {left} patches are not scored yet: predict again, it goes on from here"
            )
        windows, score = tuple(self.windows()), partial(self._read, "score")
        attention_of = attention_by_window(windows, self._done, score, self.model.get("pooling"))
        bag_logit = np.zeros(len(self.classes))
        with self._lock:
            for window in windows:
                attention = attention_of(window)
                contribution = attention[..., None] * self._read("logit", window).astype(np.float64)
                bag_logit += np.nansum(contribution, axis=tuple(range(attention.ndim)))
                self._group["attention"][window] = attention.astype(np.float32)
                self._group["contribution"][window] = contribution.astype(np.float32)
            if callable(bag_probability):
                bag_probability = bag_probability(bag_logit)
            bag = None if bag_probability is None else [float(value) for value in bag_probability]
            about = {"complete": True, "n_scored": int(self._done.sum()), "bag_probability": bag}
            if self.path is not None:
                about |= self._signed(about, windows)
            self._group.attrs.update(about)

    def _signed(self, about: Mapping[str, Any], windows: Sequence[tuple[slice, ...]]) -> dict[str, Any]:
        """What tells when the map is opened and read whether it is still as it is now: see `docs/reference/files.md`.

        The arrays are read back: what is on the disk is what was meant.
        """
        names = (*PER_CLASS, *PER_PATCH, FAILED)
        about = {**about, "sums": {name: sums_of(self._raw(name, window) for window in windows) for name in names}}
        signed = digest_of(self._group.attrs.asdict() | about, patch_array(self.patches)[1])
        self._sums = about["sums"]
        return {"sums": about["sums"], "digest": signed}

    # ---- reading ----------------------------------------------------------------------------------------------

    @property
    def bag_probability(self) -> tuple[float, ...] | None:
        """(C,) of the slide as a whole; None before `finish`."""
        value = self._group.attrs["bag_probability"]
        return None if value is None else tuple(value)

    @property
    def probability(self) -> np.ndarray:
        """(..., C) float32."""
        return self._read("probability")

    @property
    def logit(self) -> np.ndarray:
        """(..., C) float32."""
        return self._read("logit")

    @property
    def score(self) -> np.ndarray:
        """(...) float32: attention before the softmax over the slide."""
        return self._read("score")

    @property
    def attention(self) -> np.ndarray:
        """(...) float32; NaN everywhere before `finish`."""
        return self._read("attention")

    @property
    def contribution(self) -> np.ndarray:
        """(..., C) float32; NaN everywhere before `finish`."""
        return self._read("contribution")

    def windows(self) -> Iterator[tuple[slice, ...]]:
        """Cover the arrays by bands of whole chunks, in C order: what is handled at once, whatever the slide's size."""
        step = GRID_CHUNK if len(self.patches.shape) == 2 else 16 * POINTS_CHUNK
        for start in range(0, self.patches.shape[0], step):
            yield (slice(start, min(start + step, self.patches.shape[0])),)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _raw(self, name: str, window: Any = ...) -> np.ndarray:
        """An array as it is stored. `BundleError` if it is not as it was written."""
        try:
            array = np.asarray(self._group[name][window])
        except Exception as error:  # noqa: BLE001 · raised again: a chunk that does not decode: cut off, or its checksum is wrong
            raise BundleError(f"{self.path}: {name!r} is damaged ({one_line(error)}): predict again") from None
        if name in self._sums and not self._is_as_written(name, window, array):
            raise BundleError(f"{self.path}: {name!r} was altered since it was written: predict again")
        return array

    def _is_as_written(self, name: str, window: Any, array: np.ndarray) -> bool:
        """Have the bands of an array that was read the checksums that were noted when the map was finished?"""
        bands = list(self.windows())
        if window is ...:
            return sums_of(array[band] for band in bands) == self._sums[name]
        if window not in bands:
            return True
        return sums_of([array]) == self._sums[name][bands.index(window) :][:1]

    def _read(self, name: str, window: Any = ...) -> np.ndarray:
        """An array, which must be finite where patches are done: zarr reads a lost chunk as 'nothing there'."""
        done = self._done[window].copy()  # before reading: more may be written meanwhile
        array = self._raw(name, window)
        if (name in WRITTEN or self.is_complete) and not np.isfinite(array[done]).all():
            raise BundleError(f"{self.path or self.slide_id}: a part of {name!r} is missing: predict again")
        return array
