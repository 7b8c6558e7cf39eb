"""`features`: a frozen encoder over the slides of a cohort; and where the features of a slide come from elsewhere."""

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.errors import BundleError, OutputError, SettingsError, SlideError
from ..core.events import Event, ItemDone, ItemFailed, Notice, Progress, Task
from ..core.geometry import Mpp, PatchGrid, PatchPoints, mean_mpp
from ..core.paths import is_url
from ..core.settings import GridSettings
from ..inference.classifier import PatchClassifier
from ..inference.encoder import FrozenEncoder
from ..inference.engine import PatchScorer, score_slide
from ..slides.patches import iter_place_patches
from ..slides.registry import may_have_canvas, open_slide
from ..slides.slide import Slide
from ..store.bundle import BundleConfig
from ..store.cohort import Cohort, CohortSlide
from ..store.files.outputs import Outputs
from ..store.files.safe_names import safe_name, safe_names, told_apart
from ..store.files.signature import file_signature
from ..store.maps.feature_map import EncoderIdentity, FeatureMap, FeatureOrigin
from ..store.maps.hdf5 import check_h5py, find_hdf5, import_hdf5, is_hdf5_of, read_hdf5, write_hdf5
from ..store.maps.hdf5_geometry import Frame
from ..store.run import Run
from .disk import out_of_order
from .reads import files_read
from .tissue import Tissue, regions_of

FORMATS = ("zarr", "h5")
SCRATCH = "h5-begun"  # `<slide_id>.h5-begun.zarr`: features that go into an HDF5 file alone, as far as they have come


def features(
    cohort: Cohort,
    encoder: str | Path,
    out: str | Path,
    grid: GridSettings | None = None,
    *,
    formats: Sequence[str] = ("zarr",),
    device: str = "auto",
    trust: bool = False,
    tissue: Tissue | None = None,
    overwrite: bool = False,
) -> Generator[Event, None, list[Path]]:
    """Write the features of every patch of every slide to `out`; returns the files, in the first of `formats`.

    Parameters
    ----------
    grid
        None: the encoder's own patch side and scale, over tissue (Otsu). Of a given one, too, what is left open.
    formats
        "zarr": `<slide_id>.zarr`, filled block by block. "h5": `<slide_id>.h5` as CLAM and TRIDENT keep them. Training
        and predicting read either.
    device, trust
        As for `inference.encoder.FrozenEncoder`.
    tissue
        Regions outside of which no patch is taken: see `predict`.
    overwrite
        Replace HDF5 files in `out` that this program did not write, or that were changed since. Zarr groups of others
        are never replaced. Without it `OutputError` names what is in the way before anything is done.

    What is there already of the same patches, file and encoder is kept; what is of others is computed anew, and told.
    """
    if not formats or set(formats) - set(FORMATS):
        raise SettingsError(f"--format {','.join(formats)}: features are written as {', '.join(FORMATS)}")
    if "h5" in formats:
        check_h5py(Path(out))
    frozen = FrozenEncoder(encoder, device, trust)
    grid = fitted_grid(grid or GridSettings(tissue="otsu"), frozen)
    names = {slide_id: name for (slide_id,), name in safe_names((row.slide_id,) for row in cohort).items()}
    source = FeatureSource(Path(out), Path(out), frozen, names=names)
    cohort.check_found()
    written = []
    yield from (Notice(line) for line in cohort.notices)
    with Outputs(files_read(cohort, tissue, encoder), overwrite, "computing features") as outputs:
        ends = formats if "zarr" in formats else (*formats, f"{SCRATCH}.zarr")
        outputs.claim(Path(out) / f"{name}.{end}" for name in names.values() for end in ends)
        for row in cohort:
            path = Path(out) / f"{names[row.slide_id]}.{formats[0]}"
            try:
                with open_slide(row.path, row.mpp) as slide:
                    yield from (Notice(f"{row.slide_id}: {notice}") for notice in slide.notices)
                    patches = yield from iter_place_patches(slide, grid, regions=regions_of(row.slide_id, tissue))
                    yield from _keep(row.slide_id, slide, patches, source, formats, outputs)
            except (SlideError, OutputError) as error:
                yield ItemFailed(row.slide_id, error)
            except OSError as error:
                yield ItemFailed(row.slide_id, SlideError(out_of_order(error)))
            else:
                written.append(path)
                yield ItemDone(row.slide_id, path)
    return written


def _keep(
    slide_id: str,
    slide: Slide,
    patches: PatchGrid | PatchPoints,
    source: "FeatureSource",
    formats: Sequence[str],
    outputs: Outputs,
) -> Generator[Event, None, None]:
    """Compute the features of one slide and write them in every format."""
    file, signature = source.folder / f"{source.name_of(slide_id)}.h5", file_signature(slide.path)
    frame = Frame.of(slide)
    if "zarr" not in formats and is_hdf5_of(file, patches, source.encoder.identity, signature, frame):
        return
    is_scratch = False
    if "zarr" in formats:
        found = yield from source.computed(slide_id, slide, patches)
    elif (found := source.whole(slide_id, slide, patches)) is None:  # of an earlier call, to be kept as it is
        is_scratch = True
        found = yield from source.scratch_of(slide_id).computed(slide_id, slide, patches)
    if "h5" in formats and not is_hdf5_of(file, patches, source.encoder.identity, signature, frame):
        write_hdf5(file, found, slide_id, source.encoder.identity, slide.mpp, signature, frame, outputs.writing)
    if is_scratch:
        shutil.rmtree(found.path, ignore_errors=True)


def fitted_grid(grid: GridSettings, encoder: FrozenEncoder) -> GridSettings:
    """The grid with the encoder's own patch side and scale where the user has set none; checked against it."""
    grid = grid.with_encoder_defaults(encoder.description.patch_px, encoder.description.mpp)
    encoder.check_side(grid.patch_px)
    return grid


def opened_if_there(
    row: CohortSlide, mpp: float | None = None, force: bool = False
) -> AbstractContextManager[Slide | None]:
    """The slide, or None where its file is not here: whoever has features may not have it."""
    there = is_url(row.path) or Path(row.path).exists()
    return open_slide(row.path, mpp or row.mpp, force) if there else nullcontext()


def source_for(classifier: PatchClassifier, folder: str | Path | None, keep: Path | None) -> "FeatureSource | None":
    """Where a model of features has those of new slides from, and keeps them; None for a model of pixels.

    `folder` is what the user names, else the one that training used. `keep` is where predictions are kept; without
    it (results in memory only) what is computed is kept in a run only. A run that keeps no predictions (it cannot be
    written to) keeps no features either: they lie beside the predictions, and what the run has is read from there.
    """
    bundle, wanted = classifier.bundle, classifier.bundle.config.encoder
    if wanted is None:
        if folder is not None:
            raise SettingsError(f"{bundle.path}: works on pixels and has no use for --features")
        return None
    run = Run.open(bundle.path.parent) if Run.is_run(bundle.path.parent) else None
    beside = keep / "features" if keep is not None else None
    in_run = run is not None and keep in (None, run.predictions)
    if folder is None and run is not None:
        folder = run.config.features or (run.features if in_run or classifier.encoder is None else beside)
    elif folder is None and wanted.from_features:
        folder = wanted.path
    cache = run.features if in_run else beside
    scratch = TemporaryDirectory(prefix="distill2label-") if cache is None else None
    cache = Path(scratch.name) if scratch else cache
    source = FeatureSource(Path(folder or cache), cache, classifier.encoder, trained_on(bundle.config))
    source.n_features = bundle.config.instance_shape[0]
    source.scratch = scratch  # removed with the source
    return source


def trained_on(config: BundleConfig) -> EncoderIdentity:
    """The encoder of a model of features, and what its features were made of."""
    encoder = config.encoder
    if encoder.from_features:  # what is not said in its files is not known: `config.grid` may be a guess
        return encoder
    own = FeatureOrigin(patch_px=config.grid.patch_px, mpp=config.mpp)
    return encoder.model_copy(update={"origin": encoder.origin.completed_by(own)})


def patches_mpp(patches: PatchGrid | PatchPoints, slide_mpp: Mpp | None) -> Mpp | None:
    """(y, x) µm/px of patches as the encoder saw them, where the slide's own are known."""
    if patches.mpp is not None:
        return patches.mpp, patches.mpp
    if slide_mpp is None or patches.side == patches.patch_px:
        return slide_mpp
    scale = patches.side / patches.patch_px
    return slide_mpp[0] * scale, slide_mpp[1] * scale


class FeatureSource:
    """Where the features of slides come from.

    In this order: the map in `folder`; CLAM's or TRIDENT's HDF5 file there; `encoder`, which fills a map.
    All must be of one encoder, and of patches of one size and scale: `encoder`'s, `wanted`'s, or the first slide's.

    Parameters
    ----------
    folder
        What the user names with --features, or where a run keeps its own.
    cache
        Where features of HDF5 files are kept in a form that can be mapped into memory.
    encoder
        None: nothing can be computed, all must be there.
    wanted
        The encoder that a model was trained on.
    names
        What the files of slides are called, by slide id, where they are written for the first time.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        encoder: FrozenEncoder | None = None,
        wanted: EncoderIdentity | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.cache, self.encoder = folder, cache, encoder
        self._names = names or {}
        self.wanted = wanted
        if encoder is not None:
            origin = wanted.origin if wanted is not None else FeatureOrigin()
            self.wanted = encoder.identity.model_copy(update={"origin": origin})
        self._as_in = "training" if wanted is not None else ""
        self.n_features = encoder.description.features if encoder else None
        self.scratch: TemporaryDirectory | None = None
        self._said: set[str] = set()

    def hdf5(self, slide_id: str) -> Path | None:
        """The HDF5 file of a slide, where that is what there is."""
        return None if self._map(slide_id).is_dir() else find_hdf5(self.folder, slide_id)

    def has(self, slide_id: str) -> bool:
        """Are the features of a slide to be taken as they are? Else `encoder` says what they are."""
        return self.encoder is None or self.hdf5(slide_id) is not None

    def read(self, row: CohortSlide, slide: Slide | None) -> Generator[Event, None, FeatureMap]:
        """The features of a slide that somebody computed. `SlideError` if they are not there, or not usable.

        `slide` may be None: its file is not here.
        """
        if file := self.hdf5(row.slide_id):
            return (yield from self.of_hdf5(file, row, slide))
        return self.kept(row.slide_id, slide, row.mpp and (row.mpp, row.mpp))

    def map_at(self, slide_id: str, slide: Slide, patches: PatchGrid | PatchPoints) -> FeatureMap:
        """The map that the encoder fills, as far as it has come."""
        about = self._identity(slide)
        try:
            return FeatureMap.open_or_create(self._map(slide_id), patches, self.encoder.description.features, about)
        except BundleError as error:  # something else lies there
            raise SlideError(str(error)) from None

    def whole(self, slide_id: str, slide: Slide, patches: PatchGrid | PatchPoints) -> FeatureMap | None:
        """The map that the encoder would fill, where it is filled already."""
        return FeatureMap.open_complete(
            self._map(slide_id), patches, self.encoder.description.features, self._identity(slide)
        )

    def scratch_of(self, slide_id: str) -> "FeatureSource":
        """Where the features of a slide are put for a while."""
        return FeatureSource(
            self.folder, self.cache, self.encoder, names={slide_id: f"{self.name_of(slide_id)}.{SCRATCH}"}
        )

    def _identity(self, slide: Slide) -> dict[str, str]:
        return {
            "slide": file_signature(slide.path),
            "encoder": self.encoder.identity.sha256,
            "description": self.encoder.identity.description_sha256,
        }

    def computed(
        self, slide_id: str, slide: Slide, patches: PatchGrid | PatchPoints
    ) -> Generator[Event, None, FeatureMap]:
        """Features of all patches of a slide; what is there already of the same ones is not computed again."""
        found = self.map_at(slide_id, slide, patches)
        if found.replaced:
            yield Notice(
                f"{slide_id}: the features in {self.folder} were of other patches, another file or another encoder: "
                "they are computed anew"
            )
        yield from score_slide(
            slide, found, PatchScorer(self.encoder), Progress(Task.EXTRACT_FEATURES, item=slide.name)
        )
        return found

    def kept(self, slide_id: str, slide: Slide | None, mpp: Mpp | None = None) -> FeatureMap:
        """Features that were computed before, by whoever. `mpp` is the slide's, where its file is not here."""
        path = self._map(slide_id)
        if not path.is_dir():
            raise SlideError(
                f"has no features in {self.folder} ({path.name}, {path.stem}.h5): compute them with --encoder FILE, or "
                "say with --features DIR where they are"
            )
        try:
            found = FeatureMap.open(path)
        except BundleError as error:
            raise SlideError(str(error)) from None
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

    def of_hdf5(self, file: Path, row: CohortSlide, slide: Slide | None) -> Generator[Event, None, FeatureMap]:
        """Features from a file of CLAM, TRIDENT or ours."""
        frame = Frame.of(slide) if slide is not None else Frame(mpp=row.mpp and (row.mpp, row.mpp))
        source = read_hdf5(file, frame)
        self._check(file, source.encoder, source.n_features)
        if not source.encoder.sha256 and self.wanted.sha256:
            said = source.encoder.origin.encoder
            what = "do not say which encoder made them" if said is None else f"name {said!r} as their encoder"
            yield from self._once(f"{file.parent}: its files {what}: taken to be {self.wanted.name!r}")
        if slide is None and may_have_canvas(row.path):  # CLAM and TRIDENT count from the canvas's corner
            yield from self._once(
                f"{row.slide_id}: its slide is not here: positions count from the corner of the whole canvas, as in "
                "the file of features, also where only a part of it was scanned"
            )
        if source.n_outside:
            yield Notice(
                f"{row.slide_id}: {source.n_outside} of {len(source.position)} patches of {file.name} lie outside the "
                "scanned area of the slide: left out"
            )
        return (yield from import_hdf5(source, self.cache / f"{self.name_of(row.slide_id)}.hdf5.zarr"))

    def _once(self, message: str) -> Iterator[Notice]:
        """Say it of the first slide that it is true of."""
        kind = message.partition(": ")[2]
        if kind not in self._said:
            self._said.add(kind)
            yield Notice(message)

    def name_of(self, slide_id: str) -> str:
        """What the files of a slide are called, without suffix."""
        if slide_id in self._names:
            return self._names[slide_id]
        name = safe_name(slide_id)
        apart = told_apart(name, slide_id)  # there is one where the id of another slide differs in capitals alone
        return apart if (self.folder / f"{apart}.zarr").is_dir() else name

    def _map(self, slide_id: str) -> Path:
        return self.folder / f"{self.name_of(slide_id)}.zarr"

    def _check(self, path: Path, encoder: EncoderIdentity, n_features: int) -> None:
        """`SlideError` unless these features are of the kind of the others; what they say first holds for all."""
        if self.wanted is None:
            self.wanted = encoder
        if self.n_features is None:
            self.n_features = n_features
        if not self.wanted.is_same(encoder):
            raise SlideError(
                f"{path}: holds features of another encoder than {self.wanted.name!r} ({self.wanted.path}): "
                "features of two encoders cannot be mixed"
            )
        if n_features != self.n_features:
            where = self._as_in or "the others"
            raise SlideError(f"{path}: has {n_features} features per patch, not {self.n_features} as in {where}")
        if differs := self.wanted.origin.contradiction(encoder.origin):
            raise SlideError(f"{path}: {differs} as in {self._as_in}: features of two kinds cannot be mixed")
        self._as_in = self._as_in or str(path)
        self.wanted = self.wanted.model_copy(update={"origin": self.wanted.origin.completed_by(encoder.origin)})


def _origin_of(features: FeatureMap, slide_mpp: Mpp | None) -> FeatureOrigin:
    """What a map of ours was made of."""
    mpp = patches_mpp(features.patches, slide_mpp)
    return FeatureOrigin(patch_px=features.patches.patch_px, mpp=None if mpp is None else mean_mpp(mpp))
