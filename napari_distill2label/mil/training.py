"""The training loop of teacher, student and baseline, and a network's predictions for whole bags."""

import copy
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..core.bag import Bag
from ..core.errors import SettingsError
from ..core.events import EpochEnd, Progress, Task, drain
from ..core.metrics import binary_metrics, positive_score
from ..core.notices import Notice, NoticeCode
from ..core.resource_errors import may_be_out_of_memory
from ..core.settings import TrainingSettings
from . import losses
from .augmentation import N_ORIENTATIONS, rotate_flip
from .chance import MAX_RESTARTS, entropy_of_targets, is_stuck
from .device import threads_for
from .losses import ChunkedLoss, Loss, TeacherLoss
from .model import InstanceOutput, MILModel, MILOutput
from .training_bags import MAX_DIRECT, BagBatch, TeacherTargets, TrainingBag

RESTART_SEED = 7919  # between the seeds of a training and of its next attempt
INFERENCE_BATCH = 4096  # instances encoded at once outside training


class RngState:
    """Torch's global generators as one training run sees them.

    Training is a generator that its caller may suspend at any time. The run's own random state is active only while it
    computes, so a training is repeatable whatever else the process draws in between.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        outer = self._current()
        # Not torch.manual_seed: it would seed the generators of every other device too.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        self.state = self._current()
        self._restore(outer)

    def _current(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            state["mps"] = torch.mps.get_rng_state()
        return state

    def _restore(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        # A checkpoint of another kind of device has no state for this one; it continues, though not bit for bit.
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        elif "mps" in state and self.device.type == "mps":
            torch.mps.set_rng_state(state["mps"])

    @contextmanager
    def active(self) -> Iterator[None]:
        outer = self._current()
        self._restore(self.state)
        try:
            yield
        finally:
            self.state = self._current()
            self._restore(outer)


@dataclass
class TrainingState:
    """Everything that is needed to resume after an epoch as if nothing had happened.

    `history` has a row per epoch: `epoch`, `loss`, one `loss_<term>` per term (means over training bags), `valid_loss`
    (mean bag cross entropy; None without validation bags), `valid_auroc` (of the bags' labels, for being positive;
    None unless some validation bags are and some are not). `best_weights` are those of `best_epoch` (1-based).
    `teacher_digest` identifies the networks whose predictions are the targets. The code that saves checkpoints fills it
    in; `fit` passes it on.
    """

    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    random: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    teacher_digest: str = ""
    restarts: int = 0  # how often it has begun again with other weights, because it was stuck at chance

    def epoch_end(self, network: str, epochs: int) -> EpochEnd:
        """Return the event that reports the last epoch."""
        row = {name: value for name, value in self.history[-1].items() if name != "epoch" and value is not None}
        metrics: dict[str, float] = {name: row.pop(name) for name in ("valid_loss", "valid_auroc") if name in row}
        losses = {name.removeprefix("loss_"): value for name, value in row.items()}
        return EpochEnd(network, self.epoch, epochs, losses, metrics, best=self.best_epoch == self.epoch)


def make_optimiser(model: MILModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return Adam or RMSprop over all weights of the network."""
    parameters, rate, decay = model.parameters(), settings.learning_rate, settings.weight_decay
    if settings.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, weight_decay=decay)
    return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=model.device.type in ("cpu", "cuda"))


def learning_rate_factor(settings: TrainingSettings, epoch: float) -> float:
    """Return the factor of the learning rate after `epoch` epochs (Loshchilov 2017, eq. 5, without restarts)."""
    return 1.0 if settings.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))


def _load_optimiser(optimiser: torch.optim.Optimizer, slots: dict[int, dict[str, Tensor]]) -> None:
    """Restore an optimiser's state as copies with the memory layout of the weights they belong to.

    Fused optimisers read a weight and its moments side by side in memory. Those of a checkpoint are contiguous, but
    convolutions are channels_last.
    """
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    for weight, own in optimiser.state.items():
        for name, value in own.items():
            own[name] = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value.clone()


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every number is finite. NaN and infinity spread from one weight to all predictions."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def divergence_error(network: str, settings: TrainingSettings, what: str) -> SettingsError:
    """Return the error of a training whose numbers are not finite any more."""
    return SettingsError(
        f"{network}: {what}: training diverged, and what was good before is kept; "
        f"make its learning_rate (now {settings.learning_rate:g}) smaller"
    )


def _snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def bag_loss_and_score(model: MILModel, bag: Bag, logits: Tensor) -> tuple[float, float]:
    """Return the cross entropy of a bag's label and its score of being positive, from its logits (C,).

    No label of an instance is read. The score is that of `core.metrics.positive_score`.
    """
    multi_label = model.settings.multi_label
    target = losses.target_probabilities(torch.from_numpy(bag.target(model.n_classes)), multi_label)
    loss = losses.cross_entropy(target, losses.log_probabilities(logits, multi_label)).mean()
    return float(loss), float(positive_score(model.probabilities(logits).numpy(), multi_label))


def validate(
    model: MILModel, bags: Sequence[Bag], progress: Progress
) -> Generator[Progress, None, tuple[float | None, float | None]]:
    """Return the mean loss of bags (None without bags) and the AUROC of their labels (None without both kinds)."""
    results = []
    for done, bag in enumerate(bags):
        output = yield from iter_predict_bag(model, bag, progress.at(done, len(bags)))
        results.append(bag_loss_and_score(model, bag, output.bag_logits))
        yield progress.at(done + 1, len(bags))
    if not bags:
        return None, None
    each_loss, scores = zip(*results, strict=True)
    auroc = binary_metrics([bag.label != (0,) for bag in bags], scores)["auroc"]
    return sum(each_loss) / len(bags), auroc


def predict_bag(model: MILModel, bag: Bag, turn: int = 0) -> MILOutput:
    """Return the network's output for one bag of any size, on the CPU; `turn` its patches (see `rotate_flip`).

    `bag_logits` are (C,).
    """
    return drain(iter_predict_bag(model, bag, Progress(Task.COMPUTE_TARGETS), turn))


def iter_predict_bag(
    model: MILModel, bag: Bag, keepalive: Progress, turn: int = 0
) -> Generator[Progress, None, MILOutput]:  # fmt: skip
    """Predict one bag as `predict_bag` does, and yield `keepalive` between chunks of a large one."""
    outputs: list[InstanceOutput] = []
    instances = rotate_flip(torch.from_numpy(bag.instances), turn)
    chunks = torch.split(instances, max(1, min(INFERENCE_BATCH, MAX_DIRECT // instances[0].numel())))
    for chunk in chunks:
        if outputs:
            yield keepalive
        with torch.no_grad():
            model.eval()
            output: MILOutput = model(chunk)
        outputs.append(InstanceOutput(output.instance_logits, output.scores))
    own = InstanceOutput.cat(outputs)
    # The bag logit is the attention-weighted mean of the instance logits (mil.model).
    with torch.no_grad():
        attention = model.pooling.weights(own.scores)
        return MILOutput((attention @ own.logits).cpu(), own.logits.cpu(), attention.cpu(), own.scores.cpu())


def backward(
    model: MILModel, loss_function: Loss, batch: BagBatch, random: RngState, keepalive: Progress
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Add the gradient of a step to that of the weights; returns the terms and their weighted sum, `loss`.

    Instances are classified one by one and then compared. A large batch is classified in chunks: first the gradient of
    the loss with respect to each instance's output is computed, then it is propagated to the weights chunk by chunk.
    By the chain rule this is the gradient of the whole batch, except for rounding and for the random numbers that each
    chunk draws. `keepalive` is yielded between chunks.
    """

    def weighted(terms: dict[str, Tensor]) -> dict[str, Tensor]:
        first, *others = (loss_function.weights[name] * term for name, term in terms.items())
        loss = sum(others, start=first)
        loss.backward()
        return {"loss": loss, **terms}

    chunked = _chunkable(loss_function) if batch.is_large else None
    if chunked is None:
        with random.active():
            terms = loss_function(model, batch)
        return weighted(terms)
    sizes = [sum(map(len, slices)) for slices in batch.chunks]
    outputs: list[dict[str, InstanceOutput]] = []
    for instances, slices in zip(torch.split(batch.instances, sizes), batch.chunks, strict=True):
        with random.active():
            outputs.append(chunked.classify_instances(model, instances, slices))
        yield keepalive
    leaves = [{name: output.detached_leaf() for name, output in chunk.items()} for chunk in outputs]
    with random.active():
        joined = {name: InstanceOutput.cat([chunk[name] for chunk in leaves]) for name in leaves[0]}
        terms = weighted(chunked.terms(model, joined, batch))
    for index, leaf in enumerate(leaves):
        chunk, outputs[index] = outputs[index], {}  # frees the chunk's part of the graph
        pairs = [
            (output, detached.grad)
            for name in chunk
            for output, detached in ((chunk[name].logits, leaf[name].logits), (chunk[name].scores, leaf[name].scores))
            if output.requires_grad and detached.grad is not None
        ]
        torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
        yield keepalive
    return terms


def _backward_in_memory(
    model: MILModel, loss_function: Loss, batch: BagBatch, random: RngState, keepalive: Progress
) -> Generator[Progress, None, tuple[int | None, dict[str, Tensor]]]:
    """Set the gradient of a step as `backward` does; returns `batch.largest` as well.

    Where memory does not suffice, the step is begun again with half as many values at once, and the next ones are with
    as few.
    """
    before = random.state
    while True:
        model.zero_grad(set_to_none=True)
        try:
            return batch.largest, (yield from backward(model, loss_function, batch, random, keepalive))
        except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
            half = batch.half
            if half is None or not may_be_out_of_memory(error) or _chunkable(loss_function) is None:
                raise
        random.state, batch = before, replace(batch, largest=half)


def _chunkable(loss_function: Loss) -> ChunkedLoss | None:
    return loss_function if isinstance(loss_function, ChunkedLoss) and loss_function.is_chunkable else None


def fit(
    model: MILModel,
    loss_function: Loss,
    training_bags: Sequence[TrainingBag],
    valid: Sequence[Bag],
    settings: TrainingSettings,
    seed: int = 0,
    state: TrainingState | None = None,
    network: str = "teacher",
) -> Generator[Progress | Notice | TrainingState, None, TrainingState]:
    """Train `model` in place; yields `Progress` within epochs and a `TrainingState` after each.

    Returns the last state; `model` then has the weights of the selected epoch (`settings.keep_epoch`) and is in eval
    mode.
    With a `state`, training resumes after it; on the same CPU the result is the same to the bit as without a stop.
    `SettingsError` if loss or weights are no longer finite: the last state that was yielded is the last good one.

    A network that says the same of all slides after some epochs (`chance.is_stuck`) is begun again, with other weights
    and half the learning rate, up to `MAX_RESTARTS` times; a `Notice` says so.
    """
    state = copy.copy(state) if state else TrainingState()
    chance_loss = math.inf  # of a student, whose attention alone may learn from slides: it has no such loss
    if isinstance(loss_function, TeacherLoss):
        targets = torch.stack([bag.target for bag in training_bags]).numpy()
        chance_loss = entropy_of_targets(targets, model.settings.multi_label)
    while True:
        with threads_for(_numbers_in_step(training_bags, settings)):
            state = yield from _attempt(
                model, loss_function, training_bags, valid, settings, seed, state, network, chance_loss
            )
        if not _starts_again(state, settings, chance_loss):
            model.load_state_dict(state.best_weights)
            model.eval()
            return state
        stuck = state
        state = TrainingState(teacher_digest=stuck.teacher_digest, restarts=stuck.restarts + 1)
        values = {
            "network": network,
            "epochs": stuck.epoch,
            "loss": stuck.history[-1]["loss_class"],
            "chance_loss": chance_loss,
            "learning_rate": _learning_rate(settings, state),
        }
        yield Notice(NoticeCode.STUCK, values)
        _draw_weights(model, seed + RESTART_SEED * state.restarts)


def _numbers_in_step(training_bags: Sequence[TrainingBag], settings: TrainingSettings) -> int:
    """Return the mean of the numbers that the instances of a step hold, noise and perturbations not counted."""
    limits = [limit for limit in (settings.max_patches_per_bag, settings.pseudo_bag_size) if limit is not None]
    sizes = [min([len(bag.instances), *limits]) for bag in training_bags]
    return round(sum(sizes) / len(sizes) * settings.batch_size * training_bags[0].instances[0].numel())


def _starts_again(state: TrainingState, settings: TrainingSettings, chance_loss: float) -> bool:
    return state.restarts < MAX_RESTARTS and is_stuck(state.history, chance_loss, settings)


def _learning_rate(settings: TrainingSettings, state: TrainingState) -> float:
    return settings.learning_rate * 0.5**state.restarts


def _draw_weights(model: MILModel, seed: int) -> None:
    """Give the network other initial weights; its normalisation stays."""
    with RngState(seed, torch.device("cpu")).active():
        fresh = MILModel(model.settings, model.n_classes, model.instance_shape)
    model.load_state_dict({**fresh.state_dict(), "mean": model.mean, "std": model.std})


def _attempt(
    model: MILModel,
    loss_function: Loss,
    training_bags: Sequence[TrainingBag],
    valid: Sequence[Bag],
    settings: TrainingSettings,
    seed: int,
    state: TrainingState,
    network: str,
    chance_loss: float,
) -> Generator[Progress | TrainingState, None, TrainingState]:
    """Train from `state` to the last epoch, or to the one at which the network is found stuck at chance."""
    optimiser = make_optimiser(model, settings)
    random = RngState(seed + RESTART_SEED * state.restarts, model.device)
    learning_rate = _learning_rate(settings, state)
    largest: int | None = None  # see `BagBatch`
    if state.epoch:
        model.load_state_dict(state.weights)
        _load_optimiser(optimiser, state.optimiser)
        random.state = state.random
    while state.epoch < settings.epochs and not _starts_again(state, settings, chance_loss):
        with random.active():
            bags = [part for training_bag in training_bags for part in training_bag.pseudo_bags(settings)]
            order = torch.randperm(len(bags)).tolist()
        sums: dict[str, Tensor | float] = {}
        steps = math.ceil(len(bags) / settings.batch_size)
        for step in range(steps):
            chosen = [bags[i]() for i in order[step * settings.batch_size : (step + 1) * settings.batch_size]]
            batch = BagBatch.of(chosen, model.device, largest)
            model.train()
            progress = Progress(Task.TRAIN, step, steps, network, state.epoch + 1, settings.epochs)
            largest, terms = yield from _backward_in_memory(model, loss_function, batch, random, progress)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * learning_rate_factor(settings, state.epoch + step / steps)
            optimiser.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach() * len(chosen)
            yield progress.at(step + 1, steps)
        means = {name: float(total) / len(bags) for name, total in sums.items()}
        weights = _snapshot(model.state_dict())
        if not math.isfinite(means["loss"]):
            raise divergence_error(network, settings, f"the loss of epoch {state.epoch + 1} is {means['loss']}")
        if not all_finite(weights):
            raise divergence_error(network, settings, f"weights of epoch {state.epoch + 1} are not finite")
        progress = Progress(Task.VALIDATE, item=network, epoch=state.epoch + 1, epochs=settings.epochs)
        valid_loss, valid_auroc = yield from validate(model, valid, progress)
        if valid_loss is not None and not math.isfinite(valid_loss):
            raise divergence_error(network, settings, f"the validation loss of epoch {state.epoch + 1} is {valid_loss}")
        row: dict[str, float | None] = {"epoch": state.epoch + 1, "loss": means.pop("loss")}
        row |= {f"loss_{name}": value for name, value in means.items()}
        row |= {"valid_loss": valid_loss, "valid_auroc": valid_auroc}
        state = TrainingState(
            epoch=state.epoch + 1,
            weights=weights,
            optimiser={i: _snapshot(slots) for i, slots in optimiser.state_dict()["state"].items()},
            random=random.state,
            best_epoch=state.best_epoch,
            best_weights=state.best_weights,
            history=[*state.history, row],
            teacher_digest=state.teacher_digest,
            restarts=state.restarts,
        )
        losses_so_far = [past["valid_loss"] for past in state.history]
        if settings.keep_epoch == "last" or valid_loss is None or valid_loss <= min(losses_so_far):
            state.best_epoch, state.best_weights = state.epoch, weights
        yield state
    return state


def compute_teacher_targets(
    teacher: MILModel, bags: Sequence[Bag], all_orientations: bool = False, network: str = "teacher"
) -> Generator[Progress, None, list[TeacherTargets]]:
    """Return the teacher's predictions for every bag, or those of another `network`, which events name.

    With `all_orientations` the student sees rotated and mirrored patches, and a target is the mean logit over all
    `N_ORIENTATIONS`.
    """
    views = N_ORIENTATIONS if all_orientations and bags and not bags[0].is_features else 1
    targets = []
    for done, bag in enumerate(bags):
        outputs = []
        for turn in range(views):
            progress = Progress(Task.COMPUTE_TARGETS, done * views + turn, len(bags) * views, network)
            outputs.append((yield from iter_predict_bag(teacher, bag, progress, turn)))
            yield progress.at(done * views + turn + 1, len(bags) * views)
        mean = TeacherTargets(
            torch.stack([output.bag_logits for output in outputs]).mean(0),
            torch.stack([output.instance_logits for output in outputs]).mean(0),
        )
        targets.append(mean)
    return targets
