"""`live`: train within seconds after each change of a label, and label all patches. A quick trial, not a run.

The features of a frozen encoder are read once and kept in memory, reduced to the strongest components (PCA over all
slides, without labels). Teacher and student are trained on these after every change of a label. The projection is
linear, and so is the first layer of a network of features. Both are folded into one layer, which gives an ordinary
model of the encoder's features. `save_as_run` writes it as a run.
"""

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..core.bag import Bag
from ..core.errors import CohortError, SlideError
from ..core.events import Event, ItemDone, Progress, Task
from ..core.geometry import PatchGrid, PatchPoints
from ..core.notices import Notice, NoticeCode
from ..core.paths import PathLike
from ..core.presets import live_settings
from ..core.settings import PatchSettings, Settings
from ..core.slide_info import SlideInfo
from ..inference.damage import select_patches
from ..mil.model import MILModel
from ..mil.pipeline import Stage, TrainingPipeline
from ..mil.training import TrainingState, predict_bag
from ..store.bundle import save_bundle
from ..store.cohort import Cohort, CohortSlide
from ..store.cohort_edits import with_case_labels
from ..store.maps.feature_map import EncoderIdentity, FeatureMap
from ..store.maps.patch_map import PatchMap
from ..store.run import Run, RunConfig
from .cases import bags_of_cases
from .feature_store import FeatureStore, open_if_present
from .slide_metrics import slide_metrics
from .slide_reader import info_of

NETWORK = "live"  # the name of the network in maps that belong to no bundle
COMPONENTS = 128  # number of components per patch
SAMPLE = 16_384  # patches from which the components are computed
BUDGET = 20_000  # training patches, spread evenly over the labelled slides, so that a training takes seconds
SMALLEST_SHARE = 128  # lowest number of training patches of a slide
BLOCK = 65_536  # patches written to a map in one step


@dataclass(frozen=True, eq=False)
class LiveSlide:
    """A slide in memory: `components` (K, D') float32 of its readable patches, in the order of `patches.corners`."""

    row: CohortSlide
    info: SlideInfo
    patches: PatchGrid | PatchPoints
    readable: np.ndarray
    components: np.ndarray
    signature: str


@dataclass(frozen=True, eq=False)
class Components:
    """How features (n, D) become components: standardised by `mean` and `std` (0: left out), times `directions`.

    `directions` is (D, D'), orthonormal. `spread` is the root mean square of a component over the patches.
    """

    mean: torch.Tensor
    std: torch.Tensor
    directions: torch.Tensor
    spread: float

    @classmethod
    def of(cls, sample: np.ndarray) -> "Components":
        """Compute the strongest components of features (n, D)."""
        values = torch.from_numpy(sample)
        mean, std = values.mean(0), values.std(0, correction=0)
        std = torch.where(std > 1e-6 * mean.abs().clamp_min(1), std, 0.0)
        scaled = _standardised(values, mean, std)
        strengths, directions = torch.linalg.eigh(scaled.T @ scaled / len(values))  # weakest first
        count = min(COMPONENTS, directions.shape[1])
        kept = directions[:, -count:].flip(1).contiguous()
        return cls(mean, std, kept, float(strengths[-count:].mean().clamp_min(1e-12).sqrt()))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Project features (n, D) to components (n, D'), float32."""
        parts = [
            _standardised(torch.from_numpy(np.ascontiguousarray(piece)), self.mean, self.std) @ self.directions
            for piece in np.array_split(features, max(1, len(features) // 4096))
        ]
        return torch.cat(parts).numpy()


def _standardised(values: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return (values - mean) * torch.where(std > 0, 1 / std, 0.0)


@dataclass(frozen=True, eq=False)
class LiveFeatures:
    """The slides with features, in memory for many quick trainings."""

    folder: Path
    slides: Mapping[str, LiveSlide]
    components: Components
    encoder: EncoderIdentity
    scratch: TemporaryDirectory[str] | None = field(default=None, repr=False)  # mapped features of HDF5 files


def read_features(
    cohort: Cohort, folder: PathLike, known: LiveFeatures | None = None
) -> Generator[Event, None, LiveFeatures]:
    """Read the features in `folder` of the slides of `cohort`. Slides in `known` are not read again.

    `CohortError` if no slide has features.
    """
    folder = Path(folder)
    known = known if known is not None and known.folder == folder else None
    there = {} if known is None else dict(known.slides)
    scratch = (known and known.scratch) or TemporaryDirectory(prefix="distill2label-live-")
    source = FeatureStore(folder, Path(scratch.name), expected=known.encoder if known else None)
    maps: dict[str, tuple[CohortSlide, FeatureMap, SlideInfo]] = {}
    missing: list[str] = []
    for done, row in enumerate(cohort, 1):
        kept = there.get(row.slide_id)
        if kept is None or (kept.row.path, kept.row.mpp) != (row.path, row.mpp):
            try:
                maps[row.slide_id] = (row, *(yield from _read(source, row)))
            except SlideError as error:
                missing.append(error.statement)
        yield Progress(Task.READ_FEATURES, done, len(cohort))
    if not maps and not there:
        raise CohortError(f"{folder}: holds no features of these slides: compute them first, with a frozen encoder")
    components = (
        known.components if known else Components.of(_sample_features([found for _, found, _ in maps.values()]))
    )
    for done, (slide_id, (row, found, info)) in enumerate(maps.items(), 1):
        values = components(found.instances()[found.readable])
        there[slide_id] = LiveSlide(row, info, found.patches, found.readable, values, found.signature)
        yield Progress(Task.PROJECT_FEATURES, done, len(maps))
    if missing:
        said = {"n": len(missing), "total": len(cohort), "first": missing[0]}
        yield Notice(NoticeCode.SLIDES_WITHOUT_FEATURES, said)
    return LiveFeatures(folder, there, components, known.encoder if known else source.common_encoder, scratch)


def _read(source: FeatureStore, row: CohortSlide) -> Generator[Event, None, tuple[FeatureMap, SlideInfo]]:
    with open_if_present(row) as slide:
        found = yield from source.read(row, slide)
        if not found.readable.any():
            raise SlideError(f"{row.slide_id}: none of its patches has features")
        return found, info_of(row, slide)


def _sample_features(maps: list[FeatureMap]) -> np.ndarray:
    """Return (n, D) features of patches, evenly from all slides."""
    each = max(1, SAMPLE // len(maps))
    taken = []
    for found in maps:
        rows = np.flatnonzero(found.readable)
        taken.append(found.instances()[rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int)]])
    return np.concatenate(taken, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class LiveResult:
    """The result of a trial: models of the encoder's features by network, and the student's maps of all slides."""

    models: Mapping[str, MILModel]
    maps: list[PatchMap]
    settings: Settings
    features: LiveFeatures
    cohort: Cohort  # the labelled training slides
    n_corrections: int = 0


def live(
    features: LiveFeatures,
    cohort: Cohort,
    settings: Settings | None = None,
    known: Mapping[str, np.ndarray] | None = None,
    first: str | None = None,
) -> Generator[Event, None, LiveResult]:
    """Train teacher and student on the labelled slides of `cohort`, and label all slides.

    Parameters
    ----------
    settings
        None: `live_settings()`.
    known
        int8 of `patches.shape` by slide: classes of corrected patches, −1 elsewhere.
    first
        The slide whose map is made and reported (`ItemDone`) before all others.

    Slides of the test split are not trained on. `CohortError` if fewer than two classes are labelled. Where a label is
    of a case (`settings.bag`), its slides are one bag; a case with a finding of which a slide has no features is left
    out.
    """
    settings = settings or live_settings()
    is_by_case = settings.bag == "case"
    if is_by_case:
        cohort = with_case_labels(cohort)
    labelled = [row for row in cohort.labelled if row.split != "test"]
    rows = [row for row in labelled if row.slide_id in features.slides]
    bags = [_bag(features, row, cohort.indices(row), len(rows), settings.seed, known) for row in rows]
    if is_by_case:
        bags = yield from bags_of_cases(labelled, {bag.slide_id: bag for bag in bags})
        taken = {slide_id for bag in bags for slide_id, _ in bag.parts or ((bag.slide_id, len(bag)),)}
        rows = [row for row in rows if row.slide_id in taken]
    if len({bag.label for bag in bags}) < 2:
        raise CohortError("slides of two classes at least must be labelled, and have features")
    models = yield from _train(bags, len(cohort.classes), settings, features.components)
    maps = []
    order = sorted(features.slides.values(), key=lambda slide: slide.row.slide_id != first)
    listed = {row.slide_id for row in cohort}
    identity = {
        "network": NETWORK,
        "weights_sha256": _digest(models["student"]),
        "pooling": settings.architecture.pooling,
    }
    for done, slide in enumerate(order, 1):
        if slide.row.slide_id in listed:
            maps.append(_map(models["student"], slide, cohort.classes, identity))
            if slide.row.slide_id == first:
                yield ItemDone(first, maps[-1])
        yield Progress(Task.CLASSIFY_FEATURES, done, len(order))
    folded = {network: fold_projection(model, features.components) for network, model in models.items()}
    n_corrections = sum(int((bag.patch_labels >= 0).sum()) for bag in bags if bag.patch_labels is not None)
    return LiveResult(folded, maps, settings, features, cohort.with_slides(rows), n_corrections)


def _bag(
    features: LiveFeatures,
    row: CohortSlide,
    label: tuple[int, ...],
    n_bags: int,
    seed: int,
    known: Mapping[str, np.ndarray] | None,
) -> Bag:
    """Return the training patches of a slide: of a large slide a part, with all corrected patches.

    Its case is that of `row`, which may have changed since the features were read.
    """
    slide, corrected = features.slides[row.slide_id], None
    if known is not None and row.slide_id in known:
        corrected = np.asarray(known[row.slide_id])[slide.patches.scored][slide.readable].astype(np.int8)
    limit, count = max(SMALLEST_SHARE, BUDGET // n_bags), len(slide.components)
    corners = slide.patches.corners[slide.readable]
    if count <= limit:
        return Bag(row.slide_id, slide.components, corners, label, corrected, row.case_id)
    chosen = np.random.default_rng(seed).permutation(count)[:limit]
    if corrected is not None:
        chosen = np.union1d(chosen, np.flatnonzero(corrected >= 0))
    chosen.sort()
    own = None if corrected is None else corrected[chosen]
    return Bag(row.slide_id, slide.components[chosen], corners[chosen], label, own, row.case_id)


def _train(
    bags: list[Bag], n_classes: int, settings: Settings, components: Components
) -> Generator[Event, None, dict[str, MILModel]]:
    """Train teacher and student on the CPU: a GPU does not speed up networks this small."""
    pipeline = TrainingPipeline(bags, (), n_classes, settings, torch.device("cpu"))
    width = components.directions.shape[1]
    # One scale for all components: with scales of their own, the weakest would count as much as the strongest.
    pipeline.normalisation = {"mean": torch.zeros(width), "std": torch.full((width,), components.spread)}
    models: dict[str, MILModel] = {}
    for item in pipeline.stages():
        if not isinstance(item, Stage):
            yield item
            continue
        for step in item.train(()):
            yield step.epoch_end(item.network, item.settings.epochs) if isinstance(step, TrainingState) else step
        models[item.network] = item.model
    return models


def _digest(model: MILModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _map(model: MILModel, slide: LiveSlide, classes: tuple[str, ...], identity: dict[str, Any]) -> PatchMap:
    """Return the student's map of a slide, in memory."""
    patches = slide.patches
    answer = predict_bag(model, Bag(slide.info.slide_id, slide.components, patches.corners[slide.readable], (0,)))
    made = PatchMap.create(
        None, patches, classes, slide.info, multi_label=model.settings.multi_label,
        model=identity | {"slide_signature": slide.signature},
    )  # fmt: skip
    arrays = {
        "probability": model.probabilities(answer.instance_logits).numpy(),
        "logit": answer.instance_logits.numpy(),
        "score": answer.scores.numpy(),
    }
    scored = patches.scored
    number = np.full(patches.shape, -1)  # index of each patch among the readable ones
    number[scored] = np.where(slide.readable, np.cumsum(slide.readable) - 1, -1)
    for block in patches.blocks(BLOCK):
        rows = number[block.window][block.scored]
        there = rows >= 0
        if there.any():
            made.write(select_patches(block, there), **{name: values[rows[there]] for name, values in arrays.items()})
        if not there.all():
            made.fail(select_patches(block, ~there), ())
    made.finish(lambda logit: model.probabilities(torch.from_numpy(logit).float()).tolist())
    return made


def fold_projection(model: MILModel, components: Components) -> MILModel:
    """Return the network as one of the features: the projection is folded into its first layer."""
    shape = (len(components.mean),)
    made = MILModel(model.settings, model.n_classes, shape)
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    first = next(name for name, tensor in weights.items() if name.startswith("encoder.") and tensor.ndim == 2)
    scale = torch.where(weights["std"] > 0, 1 / weights["std"], 0.0)
    weights[first] = (weights[first] * scale) @ components.directions.T
    weights |= {"mean": components.mean.clone(), "std": components.std.clone()}
    made.load_state_dict(weights)
    return made.eval()


def save_as_run(result: LiveResult, out: PathLike) -> Generator[Event, None, Run]:
    """Write a trial as an ordinary run. Its model card says how it was trained."""
    yield Progress(Task.SAVE_MODEL)
    features = result.features
    cohort = result.cohort.with_slides(replace(row, split="train") for row in result.cohort)
    slides = [features.slides[row.slide_id] for row in cohort]
    patch_px, mpps = slides[0].patches.patch_px, {slide.patches.mpp for slide in slides}
    mpp = mpps.pop() if len(mpps) == 1 else None
    settings = result.settings.model_copy(update={"patches": PatchSettings(size_px=patch_px, mpp=mpp)})
    config = RunConfig(
        settings=settings, classes=cohort.classes, encoder=features.encoder, features=str(features.folder.absolute())
    )
    run = Run.create(out, config, cohort)
    signature = hashlib.sha256()
    for row in cohort:
        signature.update(f"{row.slide_id}\0{row.label}\0{features.slides[row.slide_id].signature}".encode())
    for network, model in result.models.items():
        about = {
            "network": network,
            "classes": cohort.classes,
            "patches": settings.patches,
            "training": getattr(settings, network),
            "encoder": features.encoder,
            "preset": settings.preset,
            "method": NETWORK,
            "seed": settings.seed,
            "epoch": getattr(settings, network).epochs,
            "mpp": mpp,
            "n_mpp_from_user": sum(slide.info.mpp_from_user for slide in slides),
            "n_train": len(cohort),
            "n_corrections": result.n_corrections if network == "student" else 0,
            "data_signature": signature.hexdigest(),
        }
        save_bundle(run.bundle(network), model, about, (yield from slide_metrics(model, (), network)))
        yield Progress(Task.SAVE_MODEL, len(run.models), len(result.models))
    return run
