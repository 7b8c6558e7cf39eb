"""`train`: train a teacher, a student and, on request, the baseline on a cohort."""

import hashlib
import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch

from ...core.appearance import Appearance, appearance_vector, fit_appearance, sampled
from ...core.bag import UNLABELLED, Bag
from ...core.errors import BundleError, SettingsError
from ...core.events import Event, Progress, Task
from ...core.inputs import Inputs
from ...core.network_names import NETWORKS
from ...core.notices import Notice, NoticeCode
from ...core.paths import PathLike
from ...core.settings import Settings, TrainingSettings
from ...mil.device import choose_device, compute_dtype
from ...mil.fit_quality import FitQuality, measure_fit
from ...mil.model import MILModel
from ...mil.pipeline import Stage, TrainingPipeline
from ...mil.training import TrainingState, all_finite, divergence_error
from ...store.bundle import load_bundle, remove_bundle, save_bundle
from ...store.checkpoint import digest_of_tensors, load_checkpoint, save_checkpoint
from ...store.cohort import Cohort, doubtful_ids
from ...store.learnt import has_signatures, iter_sign_slides, write_signatures
from ...store.run import Run
from ..advice import training_advice
from ..cases import bags_of_cases
from ..plan import TrainingPlan, TrainingRequest, new_plan, resumed_plan
from ..scale import require_mpp
from ..slide_metrics import slide_metrics
from ..stopwatch import Stopwatch

SIGNED_AT_ONCE = 8192  # patches: 40 MB of features


def train(
    cohort: Cohort,
    out: PathLike,
    settings: Settings | None = None,
    *,
    classes: Sequence[str] | None = None,
    baseline: bool = False,
    inputs: Inputs = Inputs(),
    quick_trial: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[Event, None, Run]:
    """Train a teacher on the slide labels of `cohort` and distil a student from it.

    A slide that cannot be read is reported and left out. This function takes no ground truth.

    Parameters
    ----------
    cohort
        Slides and labels. Its splits are kept; without them cases are split by `settings.split`.
    out
        The run folder.
    settings
        None: the preset `colon`, or with `resume` the settings of the run.
    classes
        Class names, the negative one first; None: recognised by name.
    baseline
        Also train plain attention MIL (`baseline/`), the paper's baseline.
    inputs
        What is read beside the slides. With an encoder or a folder of features the networks are trained on features.
        The student learns from corrections.
    quick_trial
        Train on at most 16 of the slides, for few epochs, to see the whole way before a long training.
    resume
        Resume the run in `out` after its last completed epoch.
    overwrite
        Start a run in a folder that holds files of the same names (`cohort.csv`, …) that this program did not write:
        they are replaced. Folders of others, and files that are read, are never replaced.

    Raises
    ------
    FolderInUseError
        Another training is running in `out`.
    """
    asked = TrainingRequest(classes, baseline, inputs, quick_trial)
    if resume:
        Run.open(out)  # an error before a folder is made
    with Run.locked(out):
        if resume:
            plan = resumed_plan(out, cohort, settings, asked)
        else:
            plan = new_plan(out, cohort, settings or Settings(), asked, overwrite)
            plan = yield from plan.with_copies_together()
        return (yield from _Training(plan).work())


class _Training:
    """The training of one run: what its networks share."""

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan, self.reader = plan, plan.reader
        self.settings, self.cohort = plan.config.settings, plan.cohort
        self.device = choose_device(self.settings.device)
        self.histories: dict[str, list[dict[str, Any]]] = {}
        self.teachers: list[str] = []  # digests of the networks that teach the student, of those trained so far
        self.changed = False  # was one of them trained in this very call?
        self.watch = Stopwatch()

    def work(self) -> Generator[Event, None, Run]:
        yield from (*self.cohort.notices, *doubtful_ids(self.cohort.slides))
        yield from training_advice(self.cohort, self.settings)
        rows = [*self.cohort.in_split("train"), *self.cohort.in_split("valid")]
        yield from require_mpp(rows, self.settings.patches.mpp)
        bags = yield from self.reader.read_all(rows, self.cohort)
        self.watch.mark_reading()
        yield from self.check_scale()
        read = [row for row in rows if row.slide_id in bags]
        self.train = yield from self.bags_in("train", bags)
        self.valid = yield from self.bags_in("valid", bags)
        if len({bag.label for bag in self.train}) < 2:
            raise SettingsError("the training slides that could be read are all of one class: nothing can be learnt")
        self.signature = yield from _signature([*self.train, *self.valid])
        signatures = yield from iter_sign_slides(read)
        # Not before: a run without readable slides would block the folder.
        self.run = self.plan.start(self.signature, len(rows) - len(read))
        if not has_signatures(self.run):
            write_signatures(self.run, signatures)
        self.pipeline = pipeline = TrainingPipeline(
            self.train, self.valid, len(self.cohort.classes), self.settings, self.device
        )
        for item in pipeline.stages(self.run.config.baseline):
            if isinstance(item, Stage):
                yield from self.fit(item)
            else:
                yield item
        self.run.write_history(self.histories)  # complete again if a kill came between a checkpoint and its row
        self.write_timing()
        return self.run

    def bags_in(self, split: str, bags: dict[str, Bag]) -> Generator[Event, None, list[Bag]]:
        """Return the bags of a split, each of what a label is of."""
        rows = self.cohort.in_split(split)
        if self.settings.bag == "case":
            return (yield from bags_of_cases(rows, bags))
        return [bags[row.slide_id] for row in rows if row.slide_id in bags]

    def write_timing(self) -> None:
        self.watch.mark_other()
        self.watch.timing(self.device, [*self.train, *self.valid]).write(self.run.folder)

    def check_scale(self) -> Generator[Event, None, None]:
        if self.settings.patches.mpp is None and self.reader.common_mpp is None and any(self.reader.mpps):
            yield Notice(NoticeCode.SCALES_DIFFER)

    def fit(self, stage: Stage) -> Generator[Event, None, None]:
        """Train one network. Save a checkpoint after every epoch and the bundle at the end."""
        network, model, settings = stage.network, stage.model, stage.settings
        state = (yield from self.kept(stage)) or TrainingState()
        if state.epoch:
            self.histories[network] = state.history
        if state.epoch >= settings.epochs and (yield from self.is_saved(network, state)):
            model.load_state_dict(state.best_weights)
            model.eval()
            self.trained(network, state)
            return
        model.dtype = compute_dtype(settings.precision, self.device)
        self.watch.mark_other()
        for item in stage.train(self.valid, state):
            if isinstance(item, TrainingState):
                state = item
                state.teacher_digest = self.teacher_digest(network)
                self.changed |= teaches_student(network)
                save_checkpoint(self.run.checkpoint(network), state)
                self.histories[network] = state.history
                self.run.write_history(self.histories)
                self.watch.mark_epoch(network)
                yield state.epoch_end(network, settings.epochs)
            else:
                yield item
        model.dtype = torch.float32
        if not all_finite(model.state_dict()):
            raise divergence_error(network, settings, "its last weights are not finite")
        if network in NETWORKS:
            pause = Progress(Task.CHECK_TRAINING, 0, len(self.train), network)
            quality = yield from measure_fit(model, self.train, pause)
            yield from self.save(network, model, state, settings, quality)
            yield from self.report_chance_level(network, quality)
            if network == "student":
                yield from self.report_doubted_labels()
        self.trained(network, state)

    def report_chance_level(self, network: str, found: FitQuality) -> Generator[Event, None, None]:
        if found.is_at_chance:
            values = {"network": network, "loss": found.loss, "chance_loss": found.chance_loss}
            yield Notice(NoticeCode.AT_CHANCE, values)

    def report_doubted_labels(self) -> Generator[Event, None, None]:
        names: dict[str, dict[str, float]] = {}  # P(finding) by finding, of each slide
        for each in self.pipeline.doubted:
            found = names.setdefault(self.train[each.slide].slide_id, {})
            found[self.cohort.classes[each.finding + 1]] = each.probability
        if names:
            yield Notice(NoticeCode.LABELS_DOUBTED, {"names": names})

    def kept(self, stage: Stage) -> Generator[Notice, None, TrainingState | None]:
        """The state to go on from. None where there is none, or it is of no use: then the network is trained again.

        `BundleError` for a damaged checkpoint of a network whose model is there and whole: training it again takes that
        one's place, which nobody has asked for.
        """
        network, path = stage.network, self.run.checkpoint(stage.network)
        if not path.exists():
            return None
        try:
            state = load_checkpoint(path, stage.model)
        except BundleError as error:
            if self.is_whole(network if network in NETWORKS else "student"):
                problem = f"{error.problem} Delete it and resume; the {title_of(network)} is then trained again."
                raise BundleError.of(error, problem=problem) from None
            yield Notice(NoticeCode.CHECKPOINT_LOST, {"problem": error.statement, "network": title_of(network)})
            return None
        if state.teacher_digest != self.teacher_digest(network) and (state.teacher_digest or self.changed):
            yield Notice(NoticeCode.TEACHERS_CHANGED, {"network": title_of(network)})
            return None
        return state

    def teacher_digest(self, network: str) -> str:
        """A digest of the networks whose answers a network learns, all trained before it. Plain MIL is nobody's."""
        return hashlib.sha256("".join(self.teachers).encode()).hexdigest() if network == "student" else ""

    def trained(self, network: str, state: TrainingState) -> None:
        if teaches_student(network):
            self.teachers.append(digest_of_tensors(state.best_weights, str(state.epoch)))

    def is_whole(self, network: str) -> bool:
        """Whether the bundle of this network exists and is undamaged."""
        try:
            return load_bundle(self.run.bundle(network)).config.network == network
        except BundleError:
            return False

    def is_saved(self, network: str, state: TrainingState) -> Generator[Notice, None, bool]:
        """Is the network's bundle of this very state? It is older where more epochs were asked for and then stopped."""
        if network not in NETWORKS:
            return True  # an out-of-fold classifier needs none
        folder = self.run.bundle(network)
        try:
            model, config, _ = load_bundle(folder)
        except BundleError as error:  # not there, or damaged: made again from the checkpoint
            if folder.exists():
                yield Notice(NoticeCode.BUNDLE_REMADE, {"problem": error.statement})
            return False
        weights = model.state_dict()  # the head of a student may be calibrated
        same = all(
            torch.equal(weights[name], own)
            for name, own in state.best_weights.items()
            if network != "student" or not name.startswith("head.")
        )
        return same and (config.network, config.epoch) == (network, state.best_epoch)

    def save(
        self, network: str, model: MILModel, state: TrainingState, settings: TrainingSettings, quality: FitQuality
    ) -> Generator[Event, None, None]:
        corrected = sum(
            int((bag.patch_labels != UNLABELLED).sum()) for bag in self.train if bag.patch_labels is not None
        )
        about = {
            "network": network,
            "classes": self.cohort.classes,
            "patches": self.settings.patches,
            "training": settings,
            "encoder": self.run.config.encoder,
            "preset": self.settings.preset,
            "method": self.settings.method,
            "seed": self.settings.seed,
            "epoch": state.best_epoch,
            "mpp": self.settings.patches.mpp or self.reader.common_mpp,
            "n_mpp_from_user": self.reader.n_mpp_from_user,
            "bag": self.settings.bag,
            "n_train": len(self.train),
            "n_valid": len(self.valid),
            "n_corrections": corrected if network == "student" else 0,
            "n_regions": sum(len(bag.regions) for bag in self.train) if network == "student" else 0,
            "n_shares": sum(bag.share is not None for bag in self.train) if network == "student" else 0,
            "restarts": state.restarts,
            "is_at_chance": quality.is_at_chance,
            "data_signature": self.signature,
            "calibration": (calibration := self.pipeline.calibration if network == "student" else None),
            "appearance": self.appearance(model),
        }
        metrics = yield from slide_metrics(model, self.valid, network, calibration)
        if not all(math.isfinite(value) for value in metrics.values() if value is not None):
            raise divergence_error(network, settings, "its answers are not finite")
        former = self.weights_of(network)
        save_bundle(self.run.bundle(network), model, about, metrics)
        if network == "teacher" and former not in (None, self.weights_of(network)):
            # A student of a former teacher is worth nothing. Not before: until now it was the last good one.
            self.run.checkpoint("student").unlink(missing_ok=True)
            remove_bundle(self.run.bundle("student"))

    def appearance(self, model: MILModel) -> Appearance | None:
        """Return how the training slides look; the same for all networks, which have the same normalisation."""
        mean, std = (model.get_buffer(name).double().cpu().numpy() for name in ("mean", "std"))
        slides = [slide for bag in self.train for slide in bag.slides]
        vectors = [appearance_vector(np.asarray(slide.instances[sampled(len(slide))]), mean, std) for slide in slides]
        return fit_appearance(np.array(vectors), [slide.case_id or slide.slide_id for slide in slides])

    def weights_of(self, network: str) -> str | None:
        """Return the digest of the saved weights of a network. None if there is no complete bundle."""
        try:
            return load_bundle(self.run.bundle(network)).config.weights_sha256
        except BundleError:
            return None


def teaches_student(network: str) -> bool:
    """Whether the student learns from the scores of this network."""
    return network not in ("baseline", "student")


def title_of(network: str) -> str:
    """Return the name of a network for messages."""
    return network.replace("oof-", "out-of-fold classifier ")


def _signature(bags: Sequence[Bag]) -> Generator[Progress, None, str]:
    """A digest of everything training saw: which slides, their labels and corrections, and every patch."""
    digest = hashlib.sha256()
    for done, bag in enumerate(bags):
        digest.update(f"{bag.slide_id}\0{bag.label}\0{bag.instances.shape}".encode())
        digest.update("".join(f"\0{name}\0{size}" for name, size in bag.parts).encode())
        for start in range(0, len(bag), SIGNED_AT_ONCE):
            yield Progress(Task.HASH_DATA, done, len(bags))
            rows = np.ascontiguousarray(bag.instances[start : start + SIGNED_AT_ONCE])
            digest.update(rows)  # type: ignore[arg-type]  # numpy declares its buffer for Python 3.12 and later
        if bag.patch_labels is not None:
            digest.update(bag.patch_labels.tobytes())
        for region in bag.regions:
            digest.update(f"{region.says}\0{region.finding}".encode() + region.patches.tobytes())
        if bag.share is not None:
            digest.update(f"share {bag.share}".encode())
    return digest.hexdigest()
