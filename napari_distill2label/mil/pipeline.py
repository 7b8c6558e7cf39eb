"""Which networks a training consists of, in which order, and what each is teacher_targets.

Plain MIL, teacher, student; and, where the student asks for it (γa), assistants: patch classifiers that learn the
labels patches inherit from their slides. An assistant answers only for slides it has not seen (unless a class has one
slide only), so what it says of a patch is an opinion and no memory of the slide's label.

All of it runs on bags alone: whoever drives it (a run with checkpoints, an experiment in memory) trains each `Stage`
in place before asking for the next.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..core.bag import Bag
from ..core.events import Notice, Progress
from ..core.settings import Settings, TeacherSettings, TrainingSettings
from .device import compute_dtype
from .losses import InheritedLabelLoss, Loss, StudentLoss, TeacherLoss
from .model import MILModel
from .pu_learning import PROBABILITY_FLOOR, calibration_line, posterior
from .training import RngState, compute_teacher_targets, iter_predict_bag
from .training_bags import TrainingBag, is_subsampled

BASELINE_WEIGHTS = {"lambda_c": 1.0, "lambda_n": 0.0, "lambda_d": 0.0, "lambda_e": 0.0}


@dataclass(frozen=True)
class Stage:
    """A network to train now, by `training.fit`: `model` has its first weights, and is trained in place.

    `role` is mil, teacher, student, or assistant-1, assistant-2, … `finish` is to be called once it is trained.
    """

    role: str
    model: MILModel
    loss_function: Loss
    training_bags: list[TrainingBag]
    settings: TrainingSettings
    seed: int
    finish: Callable[[], Generator[Progress | Notice, None, None]] = tuple


class TrainingPipeline:
    """The stages of one training.

    Parameters
    ----------
    train, valid
        Labelled bags; `valid` picks epochs.
    n_classes
        C; class 0 is the negative one.
    settings, device
        As of a run.
    """

    def __init__(
        self, train: Sequence[Bag], valid: Sequence[Bag], n_classes: int, settings: Settings, device: torch.device
    ) -> None:
        self.train, self.valid, self.n_classes = list(train), list(valid), n_classes
        self.settings, self.device = settings, device
        self.normalisation: dict[str, Tensor] = {}  # of the training bags; every network has the same

    def stages(self, baseline: bool = False) -> Generator[Stage | Progress | Notice, None, None]:
        """Yield every network to be trained, first plain MIL if `baseline`; the caller trains it before going on."""
        yield from self.subsampling_notices()
        if baseline:
            yield self.make_bag_stage("mil", self.settings.teacher.model_copy(update=BASELINE_WEIGHTS))
        teacher = self.make_bag_stage("teacher", self.settings.teacher)
        yield teacher
        yield from self.student_stages(teacher.model)

    def subsampling_notices(self) -> Generator[Notice, None, None]:
        """Say once which networks see only a part of the largest bags in every epoch."""
        settings = {"teacher": self.settings.teacher, "student": self.settings.student}
        if self.settings.student.gamma_a:
            settings["assistant"] = self.settings.assistant
        for role, own in settings.items():
            sizes = [len(bag) for bag in self.train if is_subsampled(bag.instances, own)]
            if sizes:
                yield Notice(
                    f"{len(sizes)} of {len(self.train)} training slides have more than {own.max_bag_patches} patches "
                    f"(at most {max(sizes)}): every epoch of the {role} trains on {own.max_bag_patches} of them, drawn "
                    f"anew (--{role}.max_bag_patches)"
                )

    def make_bag_stage(self, role: str, settings: TeacherSettings) -> Stage:
        """Plain MIL or the teacher."""
        training_bags = [TrainingBag.of(bag, self.n_classes) for bag in self.train]
        return self.make_stage(role, TeacherLoss(settings), training_bags, settings, offset=0)

    def student_stages(self, teacher: MILModel) -> Generator[Stage | Progress | Notice, None, None]:
        settings = self.settings.student
        training_bags = yield from self.compute_targets(teacher, self.train)
        if settings.gamma_a:
            oof_targets = yield from self.oof_targets(training_bags)
            training_bags = [
                replace(training_bag, oof_targets=own)
                for training_bag, own in zip(training_bags, oof_targets, strict=True)
            ]
        stage = self.make_stage("student", StudentLoss(settings), training_bags, settings, offset=1)
        if settings.init == "teacher":
            stage.model.load_state_dict(teacher.state_dict())
        if settings.calibrate == "slides":
            stage = replace(stage, finish=partial(calibrate_head, stage.model, [*self.train, *self.valid]))
        yield stage

    def oof_targets(
        self, teacher_targets: Sequence[TrainingBag]
    ) -> Generator[Stage | Progress | Notice, None, list[Tensor]]:
        """(K, C) logits of every training bag's instances, from assistants that have not seen the bag.

        `teacher_targets` are the teacher's answers, which count as much as `settings.teacher_share`. The logits are of
        probabilities, see `patch_posteriors`.
        """
        settings, several = self.settings.assistant, self.settings.model.several
        parts = assign_folds([bag.label for bag in self.train], settings.parts, self.settings.seed)
        if len(parts) == 1:
            yield Notice("a class has one slide only: one assistant learns from all slides, and answers for them too")
        elif len(parts) < settings.parts:
            yield Notice(f"too few slides of a class for {settings.parts} assistants: there are {len(parts)}")
        answers: dict[int, TrainingBag] = {}
        for number, part in enumerate(parts, 1):
            # A single part leaves nothing to learn from but itself.
            seen = [bag for index, bag in enumerate(self.train) if index not in part or len(parts) == 1]
            training_bags = [TrainingBag.of(bag, self.n_classes) for bag in seen]
            loss_function = InheritedLabelLoss(settings)
            assistant = self.make_stage(
                f"assistant-{number}", loss_function, training_bags, settings, offset=1 + number
            )
            yield assistant
            own = yield from self.compute_targets(assistant.model, [self.train[index] for index in part])
            answers |= zip(part, own, strict=True)
        targets = torch.stack([training_bag.target for training_bag in teacher_targets])
        scores, of_teacher = (
            [class_scores(training_bag.teacher_targets.instance_logits, several) for training_bag in training_bags]
            for training_bags in ([answers[index] for index in range(len(self.train))], teacher_targets)
        )
        if settings.teacher_share:
            scores = blend_scores(scores, of_teacher, targets, settings.teacher_share)
        scores = [
            smooth_over_neighbours(own, bag.coordinates, settings.neighbours)
            for own, bag in zip(scores, self.train, strict=True)
        ]
        return patch_posteriors(scores, targets, several)

    def compute_targets(self, teacher: MILModel, bags: Sequence[Bag]) -> Generator[Progress, None, list[TrainingBag]]:
        settings = self.settings.student
        teacher.dtype = compute_dtype(settings.precision, self.device)
        training_bags = yield from compute_teacher_targets(teacher, bags, settings.augment)
        teacher.dtype = torch.float32
        return training_bags

    def make_stage(
        self, role: str, loss_function: Loss, training_bags: list[TrainingBag], settings: TrainingSettings, offset: int
    ) -> Stage:
        """A network with new weights from the run's seed; `offset` makes those of several networks differ."""
        with RngState(self.settings.seed + offset, torch.device("cpu")).active():
            model = MILModel(self.settings.model, self.n_classes, self.train[0].instances.shape[1:])
        if not self.normalisation:
            model.fit_normalisation(self.train)
            self.normalisation = {"mean": model.mean.clone(), "std": model.std.clone()}
        model.load_state_dict(self.normalisation, strict=False)
        return Stage(role, model.to(self.device), loss_function, training_bags, settings, self.settings.seed + offset)


def assign_folds(labels: Sequence[tuple[int, ...]], parts: int, seed: int) -> list[list[int]]:
    """Indices of the slides of each part: at random, equal labels spread evenly. Fewer parts if a class is rarer."""
    indices = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    by_label = sorted(indices, key=lambda index: labels[index])  # stable: random among equals
    rarest = min(sum(c in label for label in labels) for c in set().union(*labels))
    return [sorted(by_label[part :: min(parts, rarest)]) for part in range(min(parts, rarest))]


def class_scores(logits: Tensor, several: bool) -> Tensor:
    """(K, C) logits -> (K, C): how much each class is preferred to its absence, or to the negative class."""
    return logits if several else logits - logits[:, :1]


def blend_scores(scores: Sequence[Tensor], others: Sequence[Tensor], targets: Tensor, share: float) -> list[Tensor]:
    """(1 − share) · scores + share · others, (K, C) per bag, both in units in which they can be compared.

    Those are standard deviations over the patches of the bags that have the class (`targets` (B, C)), where a network
    says one thing of all patches of the other bags. A class of all bags or of none stays in its own units.
    """
    lengths = [len(own) for own in scores]
    present = targets.repeat_interleave(torch.tensor(lengths), 0) > 0
    total = torch.zeros(len(present), targets.shape[1])
    for weight, each in ((1 - share, torch.cat(list(scores))), (share, torch.cat(list(others)))):
        for c in range(targets.shape[1]):
            own, here = each[:, c], present[:, c]
            if here.any() and not here.all():
                own = (own - own[here].mean()) / own[here].std().clamp_min(1e-6)
            total[:, c] += weight * own
    return list(total.split(lengths))


def smooth_over_neighbours(scores: Tensor, coordinates: np.ndarray, count: int) -> Tensor:
    """Scores (K, C) that are half the patch's own and half the mean of its `count` nearest patches.

    Tissue is continuous: a patch's neighbours are more often than not of its class, and their errors are not its own.
    Counting patches instead of pixels makes it fit any scale; on a grid, four are those beside it.
    """
    count = min(count, len(coordinates) - 1)
    if count == 0:
        return scores
    from scipy.spatial import KDTree

    _, nearest = KDTree(coordinates).query(coordinates, count + 1)
    return (scores + scores[torch.from_numpy(nearest[:, 1:])].mean(1)) / 2


def patch_posteriors(scores: Sequence[Tensor], targets: Tensor, several: bool) -> list[Tensor]:
    """`class_scores` (K, C) of bags turned to probabilities by `prior.posterior`: (K, C) logits per bag.

    A patch can be only of the classes its slide's label (`targets` (B, C)) names, or negative. A class that every
    slide has stays as it is: nothing tells its patches from the others.
    """
    lengths = [len(own) for own in scores]
    score = torch.cat(list(scores)).double().numpy()
    present = targets.repeat_interleave(torch.tensor(lengths), 0).numpy() > 0
    probability = np.zeros(score.shape)
    for c in range(1, score.shape[1]):
        if present[:, c].all():
            probability[:, c] = 1 / (1 + np.exp(-score[:, c]))
        elif present[:, c].any():
            probability[:, c] = posterior(score[:, c], present[:, c])
    probability = probability.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    probability[:, 0] = (1 - probability[:, 1:]).prod(1)
    logits = np.log(probability) - (np.log1p(-probability) if several else 0)
    return list(torch.from_numpy(logits).float().split(lengths))


def calibrate_head(model: MILModel, bags: Sequence[Bag]) -> Generator[Progress | Notice, None, None]:
    """Change the head of a trained network so that its scores are probabilities of patches, see `prior.calibration_line`.

    For two classes, or several at once. The head being linear, a·s + b is another head; the order of patches stays.
    """
    several = model.settings.several
    if not several and model.n_classes > 2:
        yield Notice("scores are not calibrated: there are more than two classes, of which a slide has one")
        return
    answers = []
    for done, bag in enumerate(bags):
        answer = yield from iter_predict_bag(model, bag, Progress("calibrating", done, len(bags)))
        answers.append(answer.instance_logits.double().numpy())
        yield Progress("calibrating", done + 1, len(bags))
    logits = np.concatenate(answers)
    present = np.repeat([bag.target(model.n_classes) > 0 for bag in bags], [len(bag) for bag in bags], 0)
    with torch.no_grad():
        for c in range(1, model.n_classes):
            if present[:, c].all() or not present[:, c].any():
                continue  # nothing to calibrate by
            score = logits[:, c] if several else logits[:, c] - logits[:, 0]
            slope, offset = calibration_line(score, present[:, c])
            rows = slice(c, c + 1) if several else slice(None)
            model.head.weight[rows] *= slope
            model.head.bias[rows] *= slope
            model.head.bias[c] += offset
