"""`train`: a cohort in; plain MIL (if asked for), teacher and student out."""

import hashlib
import shutil
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..core.bag import UNKNOWN, Bag
from ..core.errors import BundleError, SettingsError
from ..core.events import EpochEnd, Event, Notice, Progress
from ..core.metrics import binary_metrics, positive_score
from ..core.settings import Settings, TrainingSettings
from ..mil.curriculum import Curriculum, Stage
from ..mil.device import choose_device, compute_dtype
from ..mil.model import MILModel
from ..mil.training import TrainingState, answering, fit
from ..store.bundle import ROLES, load_bundle, save_bundle
from ..store.checkpoint import load_checkpoint, save_checkpoint
from ..store.cohort import Cohort
from ..store.learnt import has_signatures, signing, write_signatures
from ..store.run import Run
from .bags import PathLike
from .plan import Asked, Plan, new_plan, resumed_plan
from .scale import require_mpp
from .stopwatch import Stopwatch
from .tissue import Tissue

SIGNED_AT_ONCE = 8192  # patches: 40 MB of features


def train(
    cohort: Cohort,
    out: PathLike,
    settings: Settings | None = None,
    *,
    classes: Sequence[str] | None = None,
    baseline: bool = False,
    centres: PathLike | None = None,
    encoder: PathLike | None = None,
    corrections: PathLike | None = None,
    features: PathLike | None = None,
    trust: bool = False,
    label_map: Mapping[str, str] | None = None,
    coverage: float | None = None,
    tissue: Tissue | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[Event, None, Run]:
    """Train a teacher on the slide labels of `cohort` and distil a student from it.

    A slide that cannot be read is reported and left out. Truth for evaluation is no argument of this function.

    Parameters
    ----------
    cohort
        Slides and labels. Splits it gives are kept; else cases are split by `settings.split`.
    out
        The run folder.
    settings
        None: the `colon` preset, or with `resume` those of the run.
    classes
        Ordered, the negative one first; None: recognised by name.
    baseline
        Also train plain attention MIL (`mil/`), the paper's baseline.
    centres
        CSV or GeoJSON of points: patches are centred on these instead of lying on a grid.
    encoder
        File of a frozen encoder (`prediction.encoder.FrozenEncoder`): train on its features.
    features
        Folder of features: CLAM's or TRIDENT's `<slide_id>.h5`, or what the verb `features` wrote. With `encoder`,
        features that are not there are computed and kept there; None: in the run.
    trust
        May an encoder's file be opened that can hold a program (TorchScript)?
    corrections
        Patches whose class the user knows, used by the student: CSV `slide_id,x,y,label`, a point in each of them; or
        GeoJSON, whose areas speak of all the patches they cover.
    label_map, coverage
        What labels of corrections mean that are no classes ({"Tumor": "tumour", "artefact": ""}: '' leaves one out);
        the share of a patch that an area must cover (None: a half).
    tissue
        GeoJSON of regions outside of which no patch is looked at, in place of the tissue rule: one file, a folder with
        `<slide_id>.geojson` for each slide, or a mapping of some slides' ids to files (the others keep the rule).
    resume
        Go on with the run in `out` after its last whole epoch.
    overwrite
        Start a run in a folder that holds files of the same names (`cohort.csv`, …) that this program did not write:
        they are replaced. Folders of others, and what is read here, never are.
    """
    asked = Asked(classes, baseline, centres, encoder, corrections, features, trust, tissue, label_map, coverage)
    plan = (
        resumed_plan(out, cohort, settings, asked)
        if resume
        else new_plan(out, cohort, settings or Settings(), asked, overwrite)
    )
    return (yield from _Training(plan).work())


class _Training:
    """One run being trained: what its three models share."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.reader = plan, plan.reader
        self.settings, self.cohort = plan.config.settings, plan.cohort
        self.device = choose_device(self.settings.device)
        self.histories: dict[str, list[dict[str, Any]]] = {}
        self.watch = Stopwatch()

    def work(self) -> Generator[Event, None, Run]:
        yield from (Notice(line) for line in self.cohort.warnings())
        rows = [*self.cohort.in_split("train"), *self.cohort.in_split("valid")]
        yield from require_mpp(rows, self.settings.grid.mpp)
        bags = yield from self.reader.read_all(rows, self.cohort)
        self.watch.read()
        yield from self.check_scale()
        self.train = [bags[row.slide_id] for row in self.cohort.in_split("train") if row.slide_id in bags]
        self.valid = [bags[row.slide_id] for row in self.cohort.in_split("valid") if row.slide_id in bags]
        if len({bag.label for bag in self.train}) < 2:
            raise SettingsError("the training slides that could be read are all of one class: nothing can be learnt")
        self.signature = yield from _signature([*self.train, *self.valid])
        signatures = yield from signing(row for row in rows if row.slide_id in bags)
        self.run = self.plan.start()  # not before: a run of slides that cannot be read would only be in the way
        if not has_signatures(self.run):
            write_signatures(self.run, signatures)
        curriculum = Curriculum(self.train, self.valid, len(self.cohort.classes), self.settings, self.device)
        for item in curriculum.stages(self.run.config.baseline):
            if isinstance(item, Stage):
                yield from self.fit(item)
            else:
                yield item
        self.write_timing()
        return self.run

    def write_timing(self) -> None:
        self.watch.rest()
        self.watch.timing(self.device, [*self.train, *self.valid]).write(self.run.folder)

    def check_scale(self) -> Generator[Event, None, None]:
        if self.settings.grid.mpp is None and self.reader.common_mpp is None and any(self.reader.mpps):
            yield Notice(
                "the slides differ in µm/px, or some have none: their patches show different areas; "
                "set --grid.mpp to cut all at one scale"
            )

    def fit(self, stage: Stage) -> Generator[Event, None, None]:
        """Train one network, a checkpoint after every epoch, its bundle at the end."""
        role, model, settings = stage.role, stage.model, stage.settings
        checkpoint = self.run.checkpoint(role)
        state = load_checkpoint(checkpoint) if checkpoint.exists() else None
        if state and state.epoch >= settings.epochs and self.is_saved(role, state):
            self.histories[role] = state.history
            model.load_state_dict(state.best_weights)
            model.eval()
            return
        self.forget_taught_by(role)
        model.dtype = compute_dtype(settings.precision, self.device)
        self.watch.rest()
        work = fit(model, stage.objective, stage.lessons, self.valid, settings, stage.seed, state, role)
        for item in work:
            if isinstance(item, TrainingState):
                state = item
                save_checkpoint(checkpoint, state)
                self.histories[role] = state.history
                self.run.write_history(self.histories)
                self.watch.epoch(role)
                yield _epoch_end(role, state, settings.epochs)
            else:
                yield item
        yield from stage.finish()
        model.dtype = torch.float32
        if role in ROLES:
            yield from self.save(role, model, state, settings)

    def forget_taught_by(self, role: str) -> None:
        """A student of a former teacher is worth nothing: remove what is left of it."""
        if role not in ("mil", "student"):
            self.run.checkpoint("student").unlink(missing_ok=True)
            shutil.rmtree(self.run.bundle("student"), ignore_errors=True)

    def is_saved(self, role: str, state: TrainingState) -> bool:
        """Is the role's bundle of this very state? It is older where more epochs were asked for and then stopped."""
        if role not in ROLES:
            return True  # an assistant needs none
        try:
            return load_bundle(self.run.bundle(role)).config.epoch == state.best_epoch
        except BundleError:  # not there, or damaged: made again from the checkpoint
            return False

    def save(
        self, role: str, model: MILModel, state: TrainingState, settings: TrainingSettings
    ) -> Generator[Event, None, None]:  # fmt: skip
        corrected = sum(int((bag.known != UNKNOWN).sum()) for bag in self.train if bag.known is not None)
        about = {
            "role": role,
            "classes": self.cohort.classes,
            "grid": self.settings.grid,
            "training": settings,
            "encoder": self.run.config.encoder,
            "preset": self.settings.preset,
            "recipe": self.settings.recipe,
            "seed": self.settings.seed,
            "epoch": state.best_epoch,
            "mpp": self.settings.grid.mpp or self.reader.common_mpp,
            "n_mpp_assumed": self.reader.n_mpp_assumed,
            "n_train": len(self.train),
            "n_valid": len(self.valid),
            "n_corrections": corrected if role == "student" else 0,
            "data_signature": self.signature,
        }
        metrics = yield from bag_metrics(model, self.valid, role)
        save_bundle(self.run.bundle(role), model, about, metrics)


def bag_metrics(
    model: MILModel, bags: Sequence[Bag], role: str
) -> Generator[Progress, None, dict[str, float | int | None]]:
    """Metrics of the slides' labels (`core.metrics`)."""
    answers = []
    for done, bag in enumerate(bags):
        pause = Progress(f"{role}: metrics of the validation slides", done, len(bags))
        answer = yield from answering(model, bag, pause)
        answers.append(model.probabilities(answer.bag_logits).numpy())
    positive = np.array([bag.label != (0,) for bag in bags], bool)
    return binary_metrics(
        positive, positive_score(np.array(answers).reshape(-1, model.n_classes), model.settings.several)
    )


def _epoch_end(role: str, state: TrainingState, epochs: int) -> EpochEnd:
    row = dict(state.history[-1])
    row.pop("epoch")
    metrics = {name: row.pop(name, None) for name in ("valid_loss", "valid_auroc")}
    metrics = {name: value for name, value in metrics.items() if value is not None}
    losses = {name.removeprefix("loss_"): value for name, value in row.items()}
    return EpochEnd(role, state.epoch, epochs, losses, metrics, best=state.best_epoch == state.epoch)


def _signature(bags: Sequence[Bag]) -> Generator[Progress, None, str]:
    """A digest of everything training saw: which slides, their labels and corrections, and every patch."""
    digest = hashlib.sha256()
    for done, bag in enumerate(bags):
        digest.update(f"{bag.slide_id}\0{bag.label}\0{bag.instances.shape}".encode())
        for start in range(0, len(bag), SIGNED_AT_ONCE):
            yield Progress("noting what is trained on", done, len(bags))
            digest.update(np.ascontiguousarray(bag.instances[start : start + SIGNED_AT_ONCE]))
        if bag.known is not None:
            digest.update(bag.known.tobytes())
    return digest.hexdigest()
