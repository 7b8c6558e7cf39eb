"""`extract_features`: a frozen encoder over the slides of a cohort."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ...core.errors import OutputError, SettingsError, SlideError
from ...core.events import Event, ItemDone, ItemFailed
from ...core.geometry import PatchGrid, PatchPoints
from ...core.inputs import FEATURE_DTYPES, Compute, Inputs
from ...core.messages import Remedy
from ...core.paths import PathLike
from ...core.settings import PatchSettings
from ...inference.encoder import FrozenEncoder
from ...inference.engine import Pool
from ...inference.specs import EncoderSpec, SlideSpec
from ...slides.slide import Slide
from ...store.cohort import Cohort, CohortSlide
from ...store.files.outputs import Outputs
from ...store.files.safe_names import safe_names
from ...store.files.signature import file_signature
from ...store.maps.hdf5 import check_h5py, is_hdf5_of, write_hdf5
from ...store.maps.hdf5_geometry import Frame
from ..feature_store import UNFINISHED, FeatureStore, fitted_grid
from ..input_files import input_files
from ..os_errors import describe_os_error
from ..scale import with_mpp
from ..slide_reader import SlideReader
from ..workers import check_workers, interleave, start_workers

FORMATS = ("zarr", "h5")


def extract_features(
    cohort: Cohort,
    out: PathLike,
    grid: PatchSettings | None = None,
    *,
    formats: Sequence[str] = ("zarr",),
    dtype: str = "float32",
    inputs: Inputs,
    compute: Compute = Compute(),
    overwrite: bool = False,
) -> Generator[Event, None, list[Path]]:
    """Write the features of every patch of every slide to `out`. Return the files, in the first of `formats`.

    Parameters
    ----------
    grid
        None: the encoder's patch size and scale, over tissue (Otsu). They also fill open fields of a given grid.
    formats
        "zarr": `<slide_id>.zarr`, filled block by block. "h5": `<slide_id>.h5` as CLAM and TRIDENT keep them. Training
        and predicting read either.
    dtype
        "float32", or "float16", which takes half the room and keeps three digits. The encoder computes in float32.
    inputs
        Of these: encoder, which is needed; centres, tissue, mpp, allow_non_brightfield.
    compute
        Of this: device, workers, scheduler. The features are the same with any number of workers.
    overwrite
        Replace HDF5 files in `out` that this program did not write, or that were changed since. Zarr groups of others
        are never replaced. Without it `OutputError` names what is in the way before anything is done.

    Existing features of the same patches, file and encoder are kept, of either type. Others are computed again, with a
    notice. An interrupted extraction resumes. A slide that fails is reported (`ItemFailed`), and the others continue.
    """
    if not formats or set(formats) - set(FORMATS):
        raise SettingsError(
            f"Features are written as {', '.join(FORMATS)}, not as {', '.join(formats)}.", field="formats"
        )
    if dtype not in FEATURE_DTYPES:
        raise SettingsError(f"Features are kept as {' or '.join(FEATURE_DTYPES)}, not as {dtype}.", field="dtype")
    if "h5" in formats:
        check_h5py(Path(out))
    inputs.check_only("Extracting features", "encoder", "centres", "tissue", "mpp", "allow_non_brightfield")
    if compute.precision != Compute().precision:
        raise SettingsError("Features are computed in float32.", remedy=Remedy("clear", "compute.precision"))
    check_workers(compute)
    if inputs.encoder.path is None:
        raise SettingsError("A frozen encoder is needed.", remedy=Remedy("choose", "inputs.encoder"))
    frozen = FrozenEncoder(inputs.encoder.path, compute.device, inputs.encoder.trusted)
    grid = fitted_grid(grid or PatchSettings(tissue="otsu"), frozen)
    names = {slide_id: name for (slide_id,), name in safe_names((row.slide_id,) for row in cohort).items()}
    source = FeatureStore(Path(out), Path(out), frozen, names=names, dtype=dtype)
    reader = SlideReader(grid, inputs, source)
    cohort = with_mpp(cohort, inputs.mpp)
    cohort.check_found()
    written: dict[int, Path] = {}
    yield from cohort.notices
    with ExitStack() as stack:
        outputs = stack.enter_context(Outputs(input_files(cohort, inputs), overwrite, "computing features"))
        ends = formats if "zarr" in formats else (*formats, f"{UNFINISHED}.zarr")
        outputs.claim(Path(out) / f"{name}.{end}" for name in names.values() for end in ends)
        spec = EncoderSpec.of(inputs.encoder, frozen, compute.device)
        cluster = yield from start_workers(spec, compute, stack)

        def one(index: int, row: CohortSlide) -> Generator[Event, None, None]:
            path = Path(out) / f"{names[row.slide_id]}.{formats[0]}"
            try:
                with reader.open(row) as slide:
                    yield from (notice.about(row.slide_id) for notice in slide.notices)
                    patches = yield from reader.place(row, slide)
                    open_pool = None
                    if cluster is not None:
                        described = SlideSpec.of(slide, patches, reader.allow_non_brightfield)
                        open_pool = partial(cluster.open_pool, described)
                    yield from _extract_slide(row.slide_id, slide, patches, source, formats, outputs, open_pool)
            except (SlideError, OutputError) as error:
                yield ItemFailed(row.slide_id, error)
            except OSError as error:
                yield ItemFailed(row.slide_id, SlideError(describe_os_error(error)))
            else:
                written[index] = path
                yield ItemDone(row.slide_id, path)

        yield from interleave((one(index, row) for index, row in enumerate(cohort)), cluster)
    return [written[index] for index in sorted(written)]


def _extract_slide(
    slide_id: str,
    slide: Slide,
    patches: PatchGrid | PatchPoints,
    source: "FeatureStore",
    formats: Sequence[str],
    outputs: Outputs,
    open_pool: Callable[[], Pool] | None,
) -> Generator[Event, None, None]:
    """Compute the features of one slide and write them in every format."""
    file, signature = source.folder / f"{source.name_of(slide_id)}.h5", file_signature(slide.path)
    frame = Frame.of(slide)
    if "zarr" not in formats and is_hdf5_of(file, patches, source.own_encoder.identity, signature, frame):
        source.discard_scratch(slide_id, slide)  # a kill came in between the two
        return
    saved = None if "zarr" in formats else source.load_complete(slide_id, slide, patches)  # of an earlier call: keep it
    is_scratch = "zarr" not in formats and saved is None
    store = source.scratch_store(slide_id) if is_scratch else source
    found = saved if saved is not None else (yield from store.extract(slide_id, slide, patches, open_pool))
    if "h5" in formats and not is_hdf5_of(file, patches, source.own_encoder.identity, signature, frame):
        write_hdf5(file, found, slide_id, source.own_encoder.identity, slide.mpp, signature, frame, outputs.writing)
    if is_scratch:
        source.discard_scratch(slide_id, slide)
