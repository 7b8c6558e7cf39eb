"""Where the features of slides come from, and where they are saved."""

import glob
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..core.errors import BundleError, SettingsError, SlideError
from ..core.events import Event, Progress, Task
from ..core.geometry import Mpp, PatchGrid, PatchPoints, mean_mpp, square_mpp
from ..core.messages import Remedy
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike, is_url
from ..core.settings import PatchSettings
from ..inference.classifier import PatchClassifier
from ..inference.encoder import FrozenEncoder
from ..inference.engine import Pool, patches_per_block, score_blocks, score_slide
from ..inference.specs import encoder_scorer
from ..slides.registry import may_have_canvas, open_slide
from ..slides.slide import Slide
from ..store.bundle_config import BundleConfig
from ..store.cohort import CohortSlide
from ..store.files.atomic import discard
from ..store.files.own_groups import is_own_group
from ..store.files.safe_names import disambiguated, safe_name
from ..store.files.signature import file_signature
from ..store.maps.feature_map import EncoderIdentity, FeatureMap, FeatureOrigin, signature_in
from ..store.maps.hdf5 import find_hdf5, import_hdf5, read_hdf5
from ..store.maps.hdf5_geometry import Frame
from ..store.run import Run

UNFINISHED = "h5-begun"  # `<slide_id>.h5-begun.zarr`: unfinished features that are to go into an HDF5 file alone


def fitted_grid(grid: PatchSettings, encoder: FrozenEncoder) -> PatchSettings:
    """Fill open fields of the grid with the encoder's patch size and scale, and check the grid against it."""
    grid = grid.with_encoder_defaults(encoder.description.patch_px, encoder.description.mpp)
    encoder.check_side(grid.size_px)
    return grid


def open_if_present(row: CohortSlide, allow_non_brightfield: bool = False) -> AbstractContextManager[Slide | None]:
    """Open the slide. None if its file does not exist: its features may be all there is."""
    there = is_url(row.path) or Path(row.path).exists()
    return open_slide(row.path, row.mpp, allow_non_brightfield) if there else nullcontext()


def feature_store_for(classifier: PatchClassifier, folder: PathLike | None, keep: Path | None) -> "FeatureStore | None":
    """Return the store of features for new slides; None for a model of pixels.

    `folder` is what the user names, else the one that training used. `keep` is where predictions are kept; without
    it (results in memory only) what is computed is kept in a run only. A run that keeps no predictions (it cannot be
    written to) keeps no features either: they lie beside the predictions, and what the run has is read from there.
    """
    bundle, expected = classifier.bundle, classifier.bundle.config.encoder
    if expected is None:
        if folder is not None:
            raise SettingsError(
                "This model was trained on pixels. It does not take features.",
                file=bundle.path,
                remedy=Remedy("clear", "inputs.features"),
            )
        return None
    run = Run.open(bundle.path.parent) if Run.is_run(bundle.path.parent) else None
    beside = keep / "features" if keep is not None else None
    in_run = run.features if run is not None and keep in (None, run.predictions) else None
    if folder is None and run is not None:
        folder = run.config.features or (run.features if in_run or classifier.encoder is None else beside)
    elif folder is None and expected.from_features:
        folder = expected.path
    cache, scratch = in_run or beside, None
    if cache is None:
        scratch = TemporaryDirectory(prefix="distill2label-")
        cache = Path(scratch.name)
    source = FeatureStore(Path(folder or cache), cache, classifier.encoder, trained_on(expected, bundle.config))
    source.n_features = bundle.config.instance_shape[0]
    source.scratch = scratch  # removed with the source
    return source


def trained_on(encoder: EncoderIdentity, config: BundleConfig) -> EncoderIdentity:
    """Return the encoder that a model was trained with, with the origin of its features."""
    if encoder.from_features:  # what is not said in its files is not known: `config.patches` may be a guess
        return encoder
    own = FeatureOrigin(patch_px=config.patches.size_px, mpp=config.mpp)
    return encoder.model_copy(update={"origin": encoder.origin.completed_by(own)})


def patches_mpp(patches: PatchGrid | PatchPoints, slide_mpp: Mpp | None) -> Mpp | None:
    """Return (y, x) µm/px of patches as the encoder saw them, if the pixel size of the slide is known."""
    if patches.mpp is not None:
        return patches.mpp, patches.mpp
    if slide_mpp is None or patches.side == patches.patch_px:
        return slide_mpp
    scale = patches.side / patches.patch_px
    return slide_mpp[0] * scale, slide_mpp[1] * scale


class FeatureStore:
    """The features of slides, by slide id.

    They come from the map in `folder`, else from CLAM's or TRIDENT's HDF5 file there, else from `encoder`, which fills
    a map.
    All must be of one encoder, and of patches of one size and scale: `encoder`'s, `expected`'s, or the first slide's.

    Parameters
    ----------
    folder
        The folder that the user names, or that of the run.
    cache
        Folder for features of HDF5 files in a form that can be mapped into memory.
    encoder
        None: nothing can be computed, all features must exist.
    expected
        The encoder that a model was trained with.
    names
        File names by slide id, for files that are written for the first time.
    dtype
        Of features that are computed.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        encoder: FrozenEncoder | None = None,
        expected: EncoderIdentity | None = None,
        names: Mapping[str, str] | None = None,
        dtype: str = "float32",
    ) -> None:
        self.folder, self.cache, self.encoder, self.dtype = folder, cache, encoder, dtype
        self._names = names or {}
        self.expected = expected
        if encoder is not None:
            origin = expected.origin if expected is not None else FeatureOrigin()
            self.expected = encoder.identity.model_copy(update={"origin": origin})
        self._reference = "training" if expected is not None else ""
        self.n_features = encoder.description.features if encoder else None
        self.scratch: TemporaryDirectory[str] | None = None
        self._reported: set[tuple[NoticeCode, str | None]] = set()

    @property
    def own_encoder(self) -> FrozenEncoder:
        """The encoder that computes features. `ValueError` for a store that computes none."""
        if self.encoder is None:
            raise ValueError("no features can be computed without an encoder")
        return self.encoder

    @property
    def common_encoder(self) -> EncoderIdentity:
        """The encoder that all features are of. `ValueError` before the first are read, if it is not known."""
        if self.expected is None:
            raise ValueError("no features were read yet")
        return self.expected

    def hdf5(self, slide_id: str) -> Path | None:
        """Return the HDF5 file of a slide. None if it has a map, or no features."""
        return None if self._map(slide_id).is_dir() else find_hdf5(self.folder, slide_id)

    def is_precomputed(self, slide_id: str) -> bool:
        """Whether the features of a slide are used as they are. Else `encoder` computes them."""
        return self.encoder is None or self.hdf5(slide_id) is not None

    def read(self, row: CohortSlide, slide: Slide | None) -> Generator[Event, None, FeatureMap]:
        """Return the existing features of a slide. `SlideError` if there are none, or they cannot be used.

        `slide` may be None if its file does not exist.
        """
        if file := self.hdf5(row.slide_id):
            return (yield from self.import_hdf5(file, row, slide))
        return self.load(row.slide_id, slide, square_mpp(row.mpp))

    def open_map(self, slide_id: str, slide: Slide, patches: PatchGrid | PatchPoints) -> FeatureMap:
        """Open the map that the encoder fills, complete or not."""
        about, n_features = self._identity(slide), self.own_encoder.description.features
        try:
            return FeatureMap.open_or_create(self._map(slide_id), patches, n_features, about, self.dtype)
        except BundleError as error:  # something else lies there
            raise SlideError.of(error) from None

    def load_complete(self, slide_id: str, slide: Slide, patches: PatchGrid | PatchPoints) -> FeatureMap | None:
        """Return the map that the encoder would fill, if it is complete."""
        return FeatureMap.open_complete(
            self._map(slide_id), patches, self.own_encoder.description.features, self._identity(slide)
        )

    def scratch_store(self, slide_id: str) -> "FeatureStore":
        """Return a store for unfinished features of a slide."""
        name = f"{self.name_of(slide_id)}.{UNFINISHED}"
        return FeatureStore(self.folder, self.cache, self.encoder, names={slide_id: name}, dtype=self.dtype)

    def discard_scratch(self, slide_id: str, slide: Slide) -> None:
        """Remove unfinished features of a slide, whole or damaged; those of another slide of that name stay."""
        path = self.scratch_store(slide_id)._map(slide_id)
        if path.is_dir() and is_own_group(path) and signature_in(path) in (None, file_signature(slide.path)):
            discard(path)

    def _identity(self, slide: Slide) -> dict[str, str]:
        return {
            "slide": file_signature(slide.path),
            "encoder": self.own_encoder.identity.sha256,
            "description": self.own_encoder.identity.description_sha256,
        }

    def extract(
        self,
        slide_id: str,
        slide: Slide,
        patches: PatchGrid | PatchPoints,
        open_pool: Callable[[], Pool] | None = None,
    ) -> Generator[Event, None, FeatureMap]:
        """Compute the features of all patches of a slide. Existing ones of the same patches are not computed again.

        `open_pool` gives what computes the slide's blocks; None: threads of this process.
        """
        found = self.open_map(slide_id, slide, patches)
        if found.replaced:
            yield Notice(NoticeCode.FEATURES_REPLACED, {"folder": str(self.folder)}, slide_id)
        scorer, progress = encoder_scorer(self.own_encoder, patches), Progress(Task.EXTRACT_FEATURES, item=slide.name)
        if open_pool is None:
            yield from score_slide(slide, found, scorer, progress)
        else:
            yield from score_blocks(found, open_pool(), progress, patches_per_block(scorer, patches))
        return found

    def load(self, slide_id: str, slide: Slide | None, mpp: Mpp | None = None) -> FeatureMap:
        """Open features that were computed before. `mpp` is the slide's, if its file does not exist."""
        path = self._map(slide_id)
        if not path.is_dir():
            raise SlideError(
                f"There are no features of the slide in {self.folder} ({path.name}, {path.stem}.h5)."
                f"{_instead(self.folder, path.stem)}",
                item=slide_id,
                remedy=Remedy("choose", "inputs.encoder", alternative=Remedy("choose", "inputs.features")),
            )
        try:
            found = FeatureMap.open(path)
        except BundleError as error:
            raise SlideError.of(error) from None
        if slide is not None and found.patches.slide_shape != slide.shape:
            raise SlideError(f"{path}: was computed of another slide than {slide.path}: their sizes differ")
        about = found.identity
        own = EncoderIdentity(
            name=self.folder.name,
            path=str(self.folder.absolute()),
            sha256=about.get("encoder", ""),
            description_sha256=about.get("description", ""),
            from_features=True,
            origin=_origin_of(found, slide.mpp if slide is not None else mpp),
        )
        self._check(path, own, found.n_features)
        return found

    def import_hdf5(self, file: Path, row: CohortSlide, slide: Slide | None) -> Generator[Event, None, FeatureMap]:
        """Read features from an HDF5 file of CLAM, TRIDENT or this program."""
        frame = Frame.of(slide) if slide is not None else Frame(mpp=square_mpp(row.mpp))
        source = read_hdf5(file, frame)
        self._check(file, source.encoder, source.n_features)
        if not source.encoder.sha256 and self.common_encoder.sha256:
            said = source.encoder.origin.encoder
            values: dict[str, Any] = {"folder": str(file.parent), "said": said, "expected": self.common_encoder.name}
            yield from self._notice_once(Notice(NoticeCode.FEATURES_UNSIGNED, values))
        if slide is None and may_have_canvas(row.path):  # CLAM and TRIDENT count from the canvas's corner
            yield from self._notice_once(Notice(NoticeCode.FEATURES_OF_CANVAS, item=row.slide_id))
        if source.n_outside:
            values = {"n": source.n_outside, "total": len(source.position), "file": file.name}
            yield Notice(NoticeCode.FEATURES_OUTSIDE, values, row.slide_id)
        return (yield from import_hdf5(source, self.cache / f"{self.name_of(row.slide_id)}.hdf5.zarr"))

    def _notice_once(self, notice: Notice) -> Iterator[Notice]:
        """Yield a notice for the first slide only."""
        said = (notice.code, notice.values.get("said"))
        if said not in self._reported:
            self._reported.add(said)
            yield notice

    def name_of(self, slide_id: str) -> str:
        """Return the file name of a slide without suffix."""
        if slide_id in self._names:
            return self._names[slide_id]
        name = safe_name(slide_id)
        apart = disambiguated(name, slide_id)  # there is one where the id of another slide differs in capitals alone
        return apart if (self.folder / f"{apart}.zarr").is_dir() else name

    def _map(self, slide_id: str) -> Path:
        return self.folder / f"{self.name_of(slide_id)}.zarr"

    def _check(self, path: Path, encoder: EncoderIdentity, n_features: int) -> None:
        """`SlideError` unless these features are of the same kind as the others. The first ones set the kind."""
        if self.expected is None:
            self.expected = encoder
        if self.n_features is None:
            self.n_features = n_features
        if not self.expected.is_same(encoder):
            raise SlideError(
                f"{path}: holds features of another encoder than {self.expected.name!r} ({self.expected.path}): "
                "features of two encoders cannot be mixed"
            )
        if n_features != self.n_features:
            where = self._reference or "the others"
            raise SlideError(f"{path}: has {n_features} features per patch, not {self.n_features} as in {where}")
        if differs := self.expected.origin.contradiction(encoder.origin):
            raise SlideError(f"{path}: {differs} as in {self._reference}: features of two kinds cannot be mixed")
        self._reference = self._reference or str(path)
        self.expected = self.expected.model_copy(update={"origin": self.expected.origin.completed_by(encoder.origin)})


def _instead(folder: Path, stem: str) -> str:
    """Return where TRIDENT's or CLAM's files are, if a folder above them was given; else an empty text."""
    name = f"{glob.escape(stem)}.h5"
    below = (f"{up}{kind}/{name}" for up in ("", "*/") for kind in ("features_*", "h5_files", "*/h5_files"))
    found = sorted({file.parent for pattern in below for file in folder.glob(pattern)})
    return f" They are in {' or '.join(map(str, found[:2]))}: give that folder." if found else ""


def _origin_of(features: FeatureMap, slide_mpp: Mpp | None) -> FeatureOrigin:
    """Return the origin of the features in a map."""
    mpp = patches_mpp(features.patches, slide_mpp)
    return FeatureOrigin(patch_px=features.patches.patch_px, mpp=None if mpp is None else mean_mpp(mpp))
